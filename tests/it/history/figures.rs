//! What a run comes to, in figures.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::record::{How, Record, What};

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
    pub(super) legs: usize,
    entries: u64,
    pub(super) heartbeats: usize,
}

impl Figures {
    pub(super) fn of(record: &Record) -> Self {
        let mut figures = Self {
            calls: record.others + record.judgements.len() + record.revocations.len(),
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
        for (failure, count) in &self.failures {
            writeln!(f, "failed: {count} × {failure}")?;
        }
        for (fault, count) in &self.faults {
            writeln!(f, "fault: {count} × {fault}")?;
        }
        Ok(())
    }
}
