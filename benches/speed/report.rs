//! Measures contenders in turn and says how they compare.

use std::fmt::Write as _;

/// How often each contender has its turn. The first round warms up and does not count.
pub(crate) const ROUNDS: usize = 8;

/// What is measured: each call of `turn` is one window, and gives how many a second, or how long it took.
pub(crate) struct Contender<'a> {
    pub(crate) name: &'static str,
    pub(crate) turn: Box<dyn FnMut() -> f64 + 'a>,
}

impl<'a> Contender<'a> {
    pub(crate) fn new(name: &'static str, turn: impl FnMut() -> f64 + 'a) -> Self {
        Self {
            name,
            turn: Box::new(turn),
        }
    }
}

/// What came of it, round by round.
pub(crate) struct Measured {
    rounds: Vec<(&'static str, Vec<f64>)>,
}

/// Gives every contender its turn in every round. The order turns with the rounds, so that what else the machine does meets
/// all alike.
pub(crate) fn measure(mut contenders: Vec<Contender<'_>>) -> Measured {
    let mut rounds: Vec<_> = contenders
        .iter()
        .map(|contender| (contender.name, Vec::new()))
        .collect();
    let count = contenders.len();
    for round in 0..ROUNDS {
        for turn in 0..count {
            let index = (round + turn) % count;
            let per_second = (contenders[index].turn)();
            if round > 0 {
                rounds[index].1.push(per_second);
            }
        }
    }
    Measured { rounds }
}

impl Measured {
    /// The median of a contender's rounds.
    pub(crate) fn median(&self, name: &str) -> f64 {
        median(self.of(name).to_vec())
    }

    /// The same, of one that gives how many a second.
    pub(crate) fn per_second(&self, name: &str) -> f64 {
        self.median(name)
    }

    /// The median over the rounds of something computed within each.
    pub(crate) fn within_rounds(&self, names: &[&str], compute: impl Fn(&[f64]) -> f64) -> f64 {
        let all: Vec<&[f64]> = names.iter().map(|name| self.of(name)).collect();
        let rounds = (0..ROUNDS - 1).map(|round| {
            let values: Vec<f64> = all.iter().map(|values| values[round]).collect();
            compute(&values)
        });
        median(rounds.collect())
    }

    /// The median over the rounds of one contender's by another's.
    pub(crate) fn ratio(&self, name: &str, baseline: &str) -> f64 {
        self.within_rounds(&[name, baseline], |values| values[0] / values[1])
    }

    fn of(&self, name: &str) -> &[f64] {
        let found = self.rounds.iter().find(|(known, _)| *known == name);
        found.map_or(&[], |(_, values)| values)
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Lines of what was measured, beside what it should be.
#[derive(Default)]
pub(crate) struct Table(String);

impl Table {
    /// A ratio, and the least that it should be.
    pub(crate) fn ratio(&mut self, what: &str, ratio: f64, target: f64) {
        let met = if ratio >= target { "met" } else { "MISSED" };
        self.line(what, &format!("{ratio:.2}"), &format!(">= {target}  {met}"));
    }

    /// Something that should be no more than its target, both in `unit`.
    pub(crate) fn at_most(&mut self, what: &str, value: f64, target: f64, unit: &str) {
        let met = if value <= target { "met" } else { "MISSED" };
        let value = format!("{value:.2} {unit}");
        self.line(what, value.trim_end(), &format!("<= {target}  {met}"));
    }

    /// Something that should be no less than its target, both in `unit`.
    pub(crate) fn at_least(&mut self, what: &str, value: f64, target: f64, unit: &str) {
        let met = if value >= target { "met" } else { "MISSED" };
        self.line(
            what,
            &format!("{value:.0} {unit}"),
            &format!(">= {target}  {met}"),
        );
    }

    /// A figure that has no target of its own.
    pub(crate) fn figure(&mut self, what: &str, per_second: f64, unit: &str) {
        self.line(what, &format!("{per_second:.0} {unit}"), "");
    }

    /// Something else.
    pub(crate) fn line(&mut self, what: &str, value: &str, target: &str) {
        let _infallible = writeln!(self.0, "{what:<64} {value:>20}  {target}");
    }

    pub(crate) fn print(&self) {
        println!("{}", self.0);
    }
}
