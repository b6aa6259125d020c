//! What a run comes to, in figures.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{
    faults::Kind,
    record::{How, Record, Revocation, Sizes, Span, What},
};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) calls: usize,
    pub(super) judgements: BTreeMap<How, usize>,
    pub(super) active: usize,
    pub(super) inactive: usize,
    pub(super) bookmarked: usize,
    pub(super) effective: usize,
    pub(super) not_effective: usize,
    /// What servers said that could not answer.
    pub(super) unavailable: usize,
    failures: BTreeMap<String, usize>,
    pub(super) faults: BTreeMap<&'static str, usize>,
    longest_revocation: Duration,
    /// How long effective revocations took, by what lasted meanwhile.
    taken: BTreeMap<&'static str, Vec<Duration>>,
    begun: Duration,
    sizes: Vec<Sizes>,
    pub(super) legs: usize,
    entries: u64,
    pub(super) heartbeats: usize,
}

impl Figures {
    pub(super) fn of(record: &Record) -> Self {
        let mut figures = Self {
            calls: record.others + record.judgements.len() + record.revocations.len(),
            begun: record.begun,
            sizes: record.sizes.clone(),
            ..Self::default()
        };
        figures.count_judgements(record);
        figures.count_revocations(record);
        figures.count_streams(record);
        for fault in &record.faults {
            *figures.faults.entry(fault.kind).or_default() += 1;
        }
        figures
    }

    fn count_judgements(&mut self, record: &Record) {
        for judgement in &record.judgements {
            *self.judgements.entry(judgement.how).or_default() += 1;
            self.bookmarked += usize::from(judgement.bookmark > 0 && judgement.answer.is_ok());
            match &judgement.answer {
                Ok(verdicts) => {
                    let active = verdicts.iter().filter(|(_, active)| *active).count();
                    self.active += active;
                    self.inactive += verdicts.len() - active;
                }
                Err(failure) => {
                    self.unavailable += usize::from(!failure.reason.is_empty());
                    *self.failures.entry(failure.to_string()).or_default() += 1;
                }
            }
        }
    }

    fn count_revocations(&mut self, record: &Record) {
        for revocation in &record.revocations {
            match &revocation.answer {
                Ok(effect) if effect.effective => {
                    self.effective += 1;
                    let took = revocation.span.ended.saturating_sub(revocation.span.begun);
                    self.longest_revocation = self.longest_revocation.max(took);
                    let meanwhile = lasting(record, revocation).unwrap_or("no long transaction");
                    self.taken.entry(meanwhile).or_default().push(took);
                }
                Ok(_) => self.not_effective += 1,
                Err(failure) => {
                    let key = format!("revoking: {failure}");
                    *self.failures.entry(key).or_default() += 1;
                }
            }
        }
    }

    fn count_streams(&mut self, record: &Record) {
        for subscriber in &record.subscribers {
            self.legs += subscriber.legs.len();
            for message in subscriber.messages() {
                self.entries = self.entries.max(message.position);
                self.heartbeats += usize::from(matches!(message.what, What::Heartbeat(_)));
            }
            for failure in subscriber
                .legs
                .iter()
                .filter_map(|leg| leg.failure.as_ref())
            {
                let key = format!("watching: {failure}");
                *self.failures.entry(key).or_default() += 1;
            }
        }
    }
}

/// The lasting fault during which a revocation was asked for.
fn lasting(record: &Record, revocation: &Revocation) -> Option<&'static str> {
    let within = |span: Span| (span.begun..span.ended).contains(&revocation.span.begun);
    let faults = record.faults.iter().filter(|fault| within(fault.span));
    let mut names = faults.map(|fault| fault.kind);
    names.find(|name| Kind::lasting().any(|kind| kind.name() == *name))
}

/// What so many of a hundred lie below.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100].as_secs_f64()
}

impl Figures {
    fn tell_revocations(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (meanwhile, taken) in &self.taken {
            let mut sorted = taken.clone();
            sorted.sort_unstable();
            let [half, most, all] = [50, 99, 100].map(|percent| percentile(&sorted, percent));
            writeln!(
                f,
                "effective, {meanwhile}: {} within {half:.3} s in the median, {most:.3} s at 99 %, {all:.3} s at most",
                sorted.len()
            )?;
        }
        Ok(())
    }

    fn tell_sizes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for size in &self.sizes {
            writeln!(
                f,
                "after {:.0} s: inbox {} kB, log {} kB, {} entries of the flood",
                size.moment.saturating_sub(self.begun).as_secs_f64(),
                size.inbox / 1024,
                size.log / 1024,
                size.flood
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "calls: {}", self.calls)?;
        writeln!(f, "judgements: {:?}", self.judgements)?;
        writeln!(
            f,
            "verdicts: {} active, {} inactive; answers with a cursor: {}",
            self.active, self.inactive, self.bookmarked
        )?;
        writeln!(
            f,
            "revocations: {} effective, {} not effective; the longest took {:.3} s",
            self.effective,
            self.not_effective,
            self.longest_revocation.as_secs_f64()
        )?;
        writeln!(
            f,
            "streams: {}, with {} heartbeats; entries in the log: {}",
            self.legs, self.heartbeats, self.entries
        )?;
        self.tell_revocations(f)?;
        self.tell_sizes(f)?;
        for (failure, count) in &self.failures {
            writeln!(f, "failed: {count} × {failure}")?;
        }
        for (fault, count) in &self.faults {
            writeln!(f, "fault: {count} × {fault}")?;
        }
        Ok(())
    }
}
