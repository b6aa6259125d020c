//! The protocol by which several replicas make a revocation effective, in every order in which its steps can happen.
//!
//! `world` is what there is: a database with a log and a table of leases, replicas, messages under way, and somebody who revokes.
//! The replicas' leases and the revoker's barrier are the ones that the servers run, on terms so short that a clock has few
//! ticks: the lease lasts 2 ticks by a clock that runs true, and clocks are off by half. `steps` is what can happen next, each
//! step as large as a statement of the database. `sound` shows that nobody answers "active" after the revocation was called
//! effective; `shortcuts` takes one liberty at a time, and each leads to such an answer. `sequence` is the same for the log
//! itself: a late commit, read by its place in the log or by a number drawn beforehand.

mod sequence;
mod shortcuts;
mod sound;
mod steps;
mod world;

use std::fmt::Debug;

use stateright::{Checker, HasDiscoveries, Model};

/// Goes through every state there is, or up to the first that must not be; prints how many they were.
fn explore<M>(name: &str, model: M) -> impl Checker<M>
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + PartialEq + std::hash::Hash + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let checker = model
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    eprintln!("{name}: {} states", checker.unique_state_count());
    checker
}

/// Shows that a state is reached which must not be, and prints how.
fn assert_counterexample<M>(name: &str, model: M, property: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + PartialEq + std::hash::Hash + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let found = explore(name, model).assert_any_discovery(property);
    eprintln!("{name}: {:?}", found.into_actions());
}
