//! Verdicts, counted by kind of token and by what was found, whatever of it the caller is told.

use metrics::{Counter, counter};

use crate::{
    domain::api_key::{self, Inactive},
    telemetry::metrics as names,
};

/// Every verdict of every kind. The handles are made once: to find them would take longer than the verdict.
#[derive(Debug)]
pub struct Verdicts {
    jwt: OfKind,
    api_key: OfKind,
}

#[derive(Debug)]
struct OfKind {
    active: Counter,
    inactive: Vec<(Inactive, Counter)>,
}

impl Default for Verdicts {
    fn default() -> Self {
        Self {
            jwt: OfKind::new("jwt"),
            api_key: OfKind::new("api_key"),
        }
    }
}

impl Verdicts {
    /// Counts one on `token`: why it is inactive, or none where it is active.
    pub fn count(&self, token: &str, inactive: Option<Inactive>) {
        let kind = if api_key::has_form(token) {
            &self.api_key
        } else {
            &self.jwt
        };
        kind.count(inactive);
    }
}

impl OfKind {
    fn new(kind: &'static str) -> Self {
        let counter = |verdict| counter!(names::VERDICTS, "kind" => kind, "verdict" => verdict);
        let every = (0..).map_while(|number| Inactive::try_from(number).ok());
        Self {
            active: counter("active"),
            inactive: every
                .filter_map(|inactive| Some((inactive, counter(word(inactive)?))))
                .collect(),
        }
    }

    fn count(&self, inactive: Option<Inactive>) {
        let Some(inactive) = inactive else {
            return self.active.increment(1);
        };
        let counted = self.inactive.iter().find(|(reason, _)| *reason == inactive);
        if let Some((_, counter)) = counted {
            counter.increment(1);
        }
    }
}

/// As the metric says it; none where nothing is said.
fn word(inactive: Inactive) -> Option<&'static str> {
    match inactive {
        Inactive::Unspecified => None,
        Inactive::Malformed => Some("malformed"),
        Inactive::Unknown => Some("unknown"),
        Inactive::Expired => Some("expired"),
        Inactive::Revoked => Some("revoked"),
        Inactive::Disabled => Some("disabled"),
        Inactive::AudienceMismatch => Some("audience_mismatch"),
        Inactive::ScopeMissing => Some("scope_missing"),
        Inactive::NotYetValid => Some("not_yet_valid"),
        Inactive::AddressNotAllowed => Some("address_not_allowed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        let kind = OfKind::new("jwt");
        let mut words: Vec<_> = kind.inactive.iter().map(|(it, _)| word(*it)).collect();
        assert!(words.contains(&Some("address_not_allowed")), "the last one");
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 9);
    }
}
