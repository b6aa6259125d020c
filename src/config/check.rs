//! What settings are refused, whatever the server would make of them.

use std::time::Duration;

use super::Settings;
use crate::error::{Error, Result};

/// The least memory of a password's hash (OWASP's first recommendation for argon2id).
pub(super) const ARGON2_MEMORY_FLOOR_KIB: u32 = 19_456;
/// The fewest passes.
pub(super) const ARGON2_ITERATIONS_FLOOR: u32 = 2;

/// A key is published for a while before it signs, and for a day and more after: a set of keys must stay small.
const SHORTEST_ROTATION: Duration = Duration::from_hours(1);

// A stored hash that costs more is not computed.
const ARGON2_MEMORY_CAP_KIB: u32 = 262_144;
const ARGON2_ITERATIONS_CAP: u32 = 10;
const ARGON2_PARALLELISM_CAP: u32 = 4;
/// A sign-in that waits longer would count as given up by the throttle while it goes on.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

impl Settings {
    /// `FIELD_INVALID` about each setting that cannot be.
    pub(super) fn refusals(&self) -> Vec<Error> {
        let mut refusals = Vec::new();
        let mut note = |checked: Result<()>| refusals.extend(checked.err());
        self.check_listeners(&mut note);
        note(self.check_tls());
        note(check_issuer(&self.issuer));
        note(self.check_rotation());
        self.check_argon2(&mut note);
        self.check_limits(&mut note);
        let filter = tracing_subscriber::EnvFilter::try_new(&self.log.filter);
        note(
            filter
                .map(|_| ())
                .map_err(|_| Error::field("log.filter", "must be a level or an EnvFilter")),
        );
        refusals
    }

    fn check_listeners(&self, note: &mut impl FnMut(Result<()>)) {
        let listeners = [
            ("grpc.listen", self.grpc.listen, true),
            ("http.listen", self.http.listen, true),
            ("ops.listen", self.ops.listen, false),
        ];
        let encrypted = self.tls.certificate_file.is_some();
        for (index, (key, listen, with_credentials)) in listeners.into_iter().enumerate() {
            let in_the_clear = with_credentials && !encrypted && !self.insecure_plaintext;
            let Some(address) = listen.address() else {
                continue;
            };
            if in_the_clear && !address.ip().is_loopback() {
                note(Err(Error::field(
                    key,
                    "is beyond loopback, where credentials can be read on the wire; \
                     set tls.certificate_file and tls.key_file, or TOKEN_AUTHORITY_INSECURE_PLAINTEXT=true where \
                     something else encrypts",
                )));
            }
            let same = listeners[..index]
                .iter()
                .find(|(_, other, _)| *other == listen && address.port() != 0);
            if let Some((other, ..)) = same {
                note(Err(Error::field(key, format!("is the address of {other}"))));
            }
        }
    }

    fn check_tls(&self) -> Result<()> {
        let tls = &self.tls;
        let (missing, given) = match (&tls.certificate_file, &tls.key_file, &tls.client_ca_file) {
            (Some(_), Some(_), _) | (None, None, None) => return Ok(()),
            (Some(_), None, _) => ("tls.key_file", "tls.certificate_file"),
            (None, Some(_), _) => ("tls.certificate_file", "tls.key_file"),
            (None, None, Some(_)) => ("tls.certificate_file", "tls.client_ca_file"),
        };
        Err(Error::field(
            missing,
            format!("must be set where {given} is"),
        ))
    }

    fn check_rotation(&self) -> Result<()> {
        let period = self.signing_keys.rotation_period;
        if period.is_zero() || period >= SHORTEST_ROTATION {
            return Ok(());
        }
        Err(Error::field(
            "signing_keys.rotation_period",
            "must be at least 1h, or 0s for never",
        ))
    }

    fn check_argon2(&self, note: &mut impl FnMut(Result<()>)) {
        let argon2 = &self.argon2;
        note(within(
            "argon2.memory_kib",
            argon2.memory_kib,
            ARGON2_MEMORY_FLOOR_KIB,
            ARGON2_MEMORY_CAP_KIB,
        ));
        note(within(
            "argon2.iterations",
            argon2.iterations,
            ARGON2_ITERATIONS_FLOOR,
            ARGON2_ITERATIONS_CAP,
        ));
        note(within(
            "argon2.parallelism",
            argon2.parallelism,
            1,
            ARGON2_PARALLELISM_CAP,
        ));
    }

    fn check_limits(&self, note: &mut impl FnMut(Result<()>)) {
        const MAX: usize = 1 << 20;
        let limits = &self.limits;
        for (key, limit) in [
            ("limits.connections", limits.connections),
            (
                "limits.connections_per_address",
                limits.connections_per_address,
            ),
            ("limits.in_flight", limits.in_flight),
        ] {
            note(within(key, limit, 1, MAX));
        }
        note(within(
            "limits.streams_per_connection",
            limits.streams_per_connection,
            1,
            1 << 16,
        ));
        for (key, duration) in [
            ("limits.request_timeout", limits.request_timeout),
            ("limits.first_byte_timeout", limits.first_byte_timeout),
            ("limits.connection_age", limits.connection_age),
            ("argon2.max_wait", self.argon2.max_wait),
            ("shutdown.timeout", self.shutdown.timeout),
        ] {
            if duration.is_zero() {
                note(Err(Error::field(key, "must not be nothing")));
            }
        }
        if self.argon2.max_wait > LONGEST_WAIT {
            note(Err(Error::field("argon2.max_wait", "must be at most 30s")));
        }
        if self.shutdown.pause >= self.shutdown.timeout {
            let told = "must be shorter than shutdown.timeout";
            note(Err(Error::field("shutdown.pause", told)));
        }
    }
}

/// A URL without query and fragment (RFC 8414 section 2), without a slash at its end: clients compare it letter by letter.
fn check_issuer(issuer: &str) -> Result<()> {
    let host = issuer
        .strip_prefix("https://")
        .or_else(|| issuer.strip_prefix("http://"));
    let good = host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'))
        && issuer.len() <= 256
        && issuer.bytes().all(|byte| byte.is_ascii_graphic())
        && !issuer.contains(['?', '#', '"', '\\', '@'])
        && !issuer.ends_with('/');
    if good {
        return Ok(());
    }
    Err(Error::field(
        "issuer",
        "must be an http or https URL of at most 256 characters without user, query, fragment and final slash",
    ))
}

fn within<T: PartialOrd + Copy + std::fmt::Display>(
    key: &str,
    value: T,
    least: T,
    most: T,
) -> Result<()> {
    if value >= least && value <= most {
        return Ok(());
    }
    Err(Error::field(
        key,
        format!("must be from {least} to {most}, not {value}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut Settings)) -> String {
        let mut settings = Settings::default();
        assert!(settings.refusals().is_empty());
        change(&mut settings);
        settings.refusals()[0].message().to_owned()
    }

    #[test]
    fn plaintext_beyond_loopback_must_be_asked_for() {
        let beyond = "0.0.0.0:50051".parse().unwrap();
        let refusal = refusal(|settings| settings.grpc.listen = beyond);
        assert!(
            refusal.starts_with("grpc.listen: is beyond loopback"),
            "{refusal}"
        );

        let mut asked_for = Settings {
            insecure_plaintext: true,
            ..Settings::default()
        };
        asked_for.grpc.listen = beyond;
        assert!(asked_for.refusals().is_empty());
        let mut probes = Settings::default();
        probes.ops.listen = "0.0.0.0:9090".parse().unwrap();
        assert!(probes.refusals().is_empty());
    }

    #[test]
    fn tls_goes_beyond_loopback_and_is_set_as_a_whole() {
        let mut settings = Settings::default();
        settings.grpc.listen = "0.0.0.0:50051".parse().unwrap();
        settings.tls.certificate_file = Some("certificate".into());
        assert_eq!(
            settings.refusals()[0].message(),
            "tls.key_file: must be set where tls.certificate_file is"
        );
        settings.tls.key_file = Some("key".into());
        assert!(settings.refusals().is_empty());
        settings.tls.client_ca_file = Some("authorities".into());
        assert!(settings.refusals().is_empty());
        assert!(
            refusal(|s| s.tls.client_ca_file = Some("authorities".into()))
                .starts_with("tls.certificate_file: must be set")
        );
        assert!(
            refusal(|s| s.tls.key_file = Some("key".into())).starts_with("tls.certificate_file")
        );
    }

    #[test]
    fn two_listeners_cannot_have_one_address() {
        let refusal = refusal(|settings| settings.ops.listen = settings.http.listen);
        assert_eq!(refusal, "ops.listen: is the address of http.listen");
    }

    #[test]
    fn keys_rotate_every_hour_at_most_or_never() {
        let minutes = |minutes| {
            move |settings: &mut Settings| {
                settings.signing_keys.rotation_period = Duration::from_mins(minutes);
            }
        };
        assert!(refusal(minutes(59)).starts_with("signing_keys.rotation_period"));
        for taken in [0, 60] {
            let mut settings = Settings::default();
            minutes(taken)(&mut settings);
            assert!(settings.refusals().is_empty());
        }
    }

    #[test]
    fn hashes_below_the_floor_and_issuers_that_are_none_are_refused() {
        assert!(refusal(|s| s.argon2.memory_kib = 19_455).starts_with("argon2.memory_kib"));
        assert!(refusal(|s| s.argon2.iterations = 1).starts_with("argon2.iterations"));
        assert!(refusal(|s| s.argon2.parallelism = 0).starts_with("argon2.parallelism"));
        assert!(refusal(|s| s.argon2.iterations = 11).starts_with("argon2.iterations"));
        for issuer in [
            "",
            "localhost",
            "https://",
            "https://a/?b",
            "https://a/",
            "ftp://a",
            "https://a b",
        ] {
            assert!(
                refusal(|s| s.issuer = issuer.to_owned()).starts_with("issuer"),
                "{issuer}"
            );
        }
    }
}
