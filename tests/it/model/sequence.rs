//! A log that is read on from the last place: gap-free where the places are given after the commit, and not where they are drawn
//! before it.

use std::collections::BTreeSet;

use stateright::{Checker as _, Model, Property};

use super::{assert_counterexample, explore};

const NOTHING_LOST: &str = "whatever is committed at or before the reader's place was read";
const ALL_READ: &str = "every entry was read";
const OUT_OF_ORDER: &str = "who began last committed first";

/// When an entry gets its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Places {
    /// As it is written: drawn from a sequence.
    Drawn,
    /// After it was committed: by a sequencer, one after the other.
    Sequenced,
}

#[derive(Debug, Clone, Copy)]
struct Log {
    writers: u8,
    places: Places,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Reading {
    /// By writer.
    entries: Vec<Entry>,
    /// The last place that was given.
    last_given: u8,
    /// The last place that was read.
    last_read: u8,
    read: BTreeSet<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Entry {
    written: bool,
    committed: bool,
    place: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Write(u8),
    Commit(u8),
    Sequence(u8),
    /// Everything committed after the last place that was read.
    Read,
}

impl Log {
    fn can_be_read(entry: Entry) -> Option<u8> {
        entry.place.filter(|_| entry.committed)
    }
}

impl Model for Log {
    type State = Reading;
    type Action = Step;

    fn init_states(&self) -> Vec<Reading> {
        let entries = vec![Entry::default(); usize::from(self.writers)];
        vec![Reading {
            entries,
            ..Reading::default()
        }]
    }

    fn actions(&self, reading: &Reading, steps: &mut Vec<Step>) {
        for (writer, entry) in (0..).zip(&reading.entries) {
            match (entry.written, entry.committed, entry.place) {
                (false, _, _) => steps.push(Step::Write(writer)),
                (true, false, _) => steps.push(Step::Commit(writer)),
                (true, true, None) => steps.push(Step::Sequence(writer)),
                (true, true, Some(_)) => {}
            }
        }
        steps.push(Step::Read);
    }

    fn next_state(&self, reading: &Reading, step: Step) -> Option<Reading> {
        let mut next = reading.clone();
        let mut give = |entry: &mut Entry| {
            next.last_given += 1;
            entry.place = Some(next.last_given);
        };
        match step {
            Step::Write(writer) => {
                let entry = &mut next.entries[usize::from(writer)];
                entry.written = true;
                if self.places == Places::Drawn {
                    give(entry);
                }
            }
            Step::Commit(writer) => next.entries[usize::from(writer)].committed = true,
            Step::Sequence(writer) => give(&mut next.entries[usize::from(writer)]),
            Step::Read => {
                let found = next.entries.iter().copied().filter_map(Self::can_be_read);
                let found: Vec<u8> = found.filter(|place| *place > next.last_read).collect();
                next.last_read = found.iter().copied().fold(next.last_read, u8::max);
                next.read.extend(found);
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NOTHING_LOST, |_, reading: &Reading| {
                let committed = reading
                    .entries
                    .iter()
                    .copied()
                    .filter_map(Self::can_be_read);
                let mut passed = committed.filter(|place| *place <= reading.last_read);
                passed.all(|place| reading.read.contains(&place))
            }),
            Property::sometimes(ALL_READ, |model: &Self, reading: &Reading| {
                reading.read.len() == usize::from(model.writers)
            }),
            Property::sometimes(OUT_OF_ORDER, |_, reading: &Reading| {
                let [first, last] = [reading.entries.first(), reading.entries.last()];
                first.is_some_and(|entry| entry.written && !entry.committed)
                    && last.is_some_and(|entry| entry.committed)
            }),
        ]
    }
}

#[test]
fn a_reader_of_places_given_after_the_commit_loses_nothing() {
    let log = Log {
        writers: 3,
        places: Places::Sequenced,
    };
    explore("places given after the commit", log).assert_properties();
}

#[test]
fn a_reader_of_numbers_drawn_before_the_commit_loses_what_commits_late() {
    let log = Log {
        writers: 2,
        places: Places::Drawn,
    };
    assert_counterexample("numbers drawn before the commit", log, NOTHING_LOST);
}
