//! The steps of a run: each starts a gateway of its own, measures one thing, and leaves nothing
//! behind.

pub(crate) mod algorithms;
pub(crate) mod backlog;
pub(crate) mod callbacks;
pub(crate) mod commits;
pub(crate) mod copies;
pub(crate) mod journeys;
pub(crate) mod ladder;
pub(crate) mod large;
pub(crate) mod memory;
pub(crate) mod overload;
pub(crate) mod pieces;
pub(crate) mod sizes;
pub(crate) mod startup;
pub(crate) mod steady;

use crate::load::closed::Round;

/// Rounds of one journey with one number of callers, gateway and yardsticks alternating.
pub(crate) struct JourneyComparison {
    pub(crate) journey: &'static str,
    pub(crate) callers: usize,
    pub(crate) gateway: Vec<Round>,
    pub(crate) nginx: Vec<Round>,
    pub(crate) bare: Vec<Round>,
}

impl JourneyComparison {
    pub(crate) fn new(journey: &'static str, callers: usize) -> Self {
        Self {
            journey,
            callers,
            gateway: Vec::new(),
            nginx: Vec::new(),
            bare: Vec::new(),
        }
    }

    /// Processor time per request relative to nginx.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let nginx = median(&self.nginx, Round::cpu_us)?;
        Some(median(&self.gateway, Round::cpu_us)? / nginx)
    }
}

/// The median of a figure over the rounds; `None` if there were none.
pub(crate) fn median(rounds: &[Round], of: impl Fn(&Round) -> f64) -> Option<f64> {
    middle(rounds.iter().map(of).collect())
}

/// The median.
pub(crate) fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
