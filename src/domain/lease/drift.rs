//! A lease and a barrier on two clocks that drift apart, with pauses, delays and losses wherever there can be any.

use std::{cell::Cell, time::Duration};

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestCaseResult, TestError, TestRng, TestRunner},
};

use super::{Barrier, Fencing, Lease, LeaseRow, Renewal, Terms, Verdict};
use crate::domain::{ids::ReplicaId, revocation::Position};

/// The place that the replica never applies: it is paused, or cut off from the log.
const PLACE: Position = Position(1);

/// The rate of a clock that runs true, and how far from it a clock may be.
const TRUE: u64 = 10_000;
const OFF: u64 = 100;

#[derive(Debug, Clone)]
enum Step {
    /// So many times 100 µs pass, during which the two clocks run at these rates.
    Pass(u64, [u64; 2]),
    /// As much time passes as it takes until the lease may be fenced, where it was seen at all.
    Outwait([u64; 2]),
    /// The replica sends a renewal.
    Send,
    /// One of those under way is committed.
    Commit(prop::sample::Index),
    /// The reply to one of those that were committed arrives.
    Reply(prop::sample::Index),
    /// The other replica takes a snapshot.
    Look,
    /// The snapshot has arrived.
    See,
    /// It asks whom to fence.
    Decide,
    /// That is committed.
    Fence,
}

/// Every clock within a hundredth of the truth, most often at its worst.
fn rate() -> impl Strategy<Value = u64> {
    prop_oneof![Just(TRUE - OFF), Just(TRUE + OFF), TRUE - OFF..=TRUE + OFF]
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        3 => (1_u64..13_000, rate(), rate()).prop_map(|(time, a, b)| Step::Pass(time, [a, b])),
        3 => (rate(), rate()).prop_map(|(a, b)| Step::Outwait([a, b])),
        2 => Just(Step::Send),
        2 => index().prop_map(Step::Commit),
        2 => index().prop_map(Step::Reply),
        2 => Just(Step::Look),
        2 => Just(Step::See),
        3 => Just(Step::Decide),
        3 => Just(Step::Fence),
    ]
}

struct World {
    /// The replica's clock and the other one's, in 10 ns.
    clocks: [u64; 2],
    lease: Lease,
    sent: Vec<Renewal>,
    committed: Vec<(Renewal, bool)>,
    row: LeaseRow,
    barrier: Barrier,
    patience: Duration,
    snapshot: Option<LeaseRow>,
    fencing: Option<Fencing>,
}

impl World {
    /// The replica serves, out of a memory that ends before the place.
    fn new(of_lease: Terms, of_barrier: Terms) -> Self {
        let id = ReplicaId::known("rpl_a");
        let (mut lease, opening) = Lease::open(id.clone(), of_lease, Duration::ZERO);
        lease.renewal_committed(&opening, true);
        let load = lease.load().unwrap();
        lease.loaded(load, Position(0));
        let post = lease.renewal_sent(Duration::ZERO, Position(0)).unwrap();
        lease.renewal_committed(&post, true);
        Self {
            clocks: [0, 0],
            lease,
            sent: Vec::new(),
            committed: Vec::new(),
            row: LeaseRow {
                id,
                beat: 1,
                applied: Position(0),
                fenced: false,
            },
            barrier: Barrier::new(of_barrier),
            patience: of_barrier.patience(),
            snapshot: None,
            fencing: None,
        }
    }

    fn now(&self, clock: usize) -> Duration {
        Duration::from_nanos(self.clocks[clock] * 10)
    }

    fn pass(&mut self, time: u64, rates: &[u64; 2]) {
        for (clock, rate) in self.clocks.iter_mut().zip(rates) {
            *clock += time * rate;
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Pass(time, rates) => self.pass(*time, rates),
            Step::Outwait(rates) => {
                let age = self.barrier.beat_age(self.now(1), &self.row.id);
                let left = age.map_or(Duration::ZERO, |age| self.patience.saturating_sub(age));
                let left = u64::try_from(left.as_nanos() / 10).unwrap();
                self.pass(left.div_ceil(rates[1]), rates);
            }
            Step::Send => {
                let renewal = self.lease.renewal_sent(self.now(0), Position(0));
                self.sent.extend(renewal);
            }
            Step::Commit(index) if !self.sent.is_empty() => {
                let renewal = self.sent.remove(index.index(self.sent.len()));
                self.row.beat += u64::from(!self.row.fenced);
                self.committed.push((renewal, !self.row.fenced));
            }
            Step::Reply(index) if !self.committed.is_empty() => {
                let (renewal, touched) = self.committed.remove(index.index(self.committed.len()));
                self.lease.renewal_committed(&renewal, touched);
            }
            Step::Commit(_) | Step::Reply(_) => {}
            Step::Look => self.snapshot = Some(self.row.clone()),
            Step::See => {
                let now = self.now(1);
                if let Some(row) = self.snapshot.take() {
                    self.barrier.observe(now, PLACE, &[row]);
                }
            }
            Step::Decide => match self.barrier.verdict(self.now(1), PLACE) {
                Verdict::Waiting(fencing) => self.fencing = fencing.into_iter().next(),
                Verdict::Reached => {}
            },
            Step::Fence => {
                if let Some(fencing) = self.fencing.take() {
                    self.row.fenced |= self.row.beat == fencing.beat;
                }
            }
        }
    }
}

/// Runs the steps. No replica may answer once it is fenced.
fn run(terms: [Terms; 2], steps: &[Step], fenced: &Cell<u32>) -> TestCaseResult {
    let mut world = World::new(terms[0], terms[1]);
    for step in steps {
        world.take(step);
        let answers = world.lease.right().allows(world.now(0));
        prop_assert!(!(world.row.fenced && answers), "fenced, and answers");
    }
    fenced.set(fenced.get() + u32::from(world.row.fenced));
    Ok(())
}

/// Many runs, the same ones every time; how many of them ended with a fence.
fn run_many(terms: [Terms; 2]) -> Result<u32, TestError<Vec<Step>>> {
    let config = Config {
        cases: 2_000,
        max_shrink_iters: 0,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let fenced = Cell::new(0);
    let steps = prop::collection::vec(step(), 1..60);
    runner.run(&steps, |steps| run(terms, &steps, &fenced))?;
    Ok(fenced.get())
}

#[test]
fn a_replica_that_is_fenced_does_not_answer_however_the_clocks_run() {
    let fenced = run_many([Terms::STANDARD; 2]).unwrap();
    assert!(fenced > 100, "{fenced} runs with a fence say too little");
}

#[test]
fn without_the_allowance_for_drift_on_either_side_a_fenced_replica_answers() {
    let careless = Terms {
        drift: 0,
        ..Terms::STANDARD
    };
    for terms in [
        [careless; 2],
        [careless, Terms::STANDARD],
        [Terms::STANDARD, careless],
    ] {
        assert!(run_many(terms).is_err(), "{terms:?}");
    }
}

proptest! {
    #[test]
    fn a_fence_and_an_answer_exclude_each_other(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        run([Terms::STANDARD; 2], &steps, &Cell::new(0))?;
    }
}
