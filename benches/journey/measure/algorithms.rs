//! Placing an order with each algorithm that a merchant may sign with, answered with Ed25519; and
//! once answered with RSA.

use anyhow::Result;

use crate::load::closed::{Round, round, send};
use crate::measure::journeys::{MeasuredJourney, ROUND_WITHIN_S, WARMING};
use crate::plan::BenchPlan;
use crate::progress::ProgressLog;
use crate::setup::signer::SignerAlgorithm;
use crate::setup::{BenchSetup, SetupOptions};

/// Orders placed in one round. Signing them with RSA beforehand takes longer than placing them.
const PLACED: usize = 3_000;
const CALLERS: usize = 64;

/// One pair of algorithms.
pub(crate) struct AlgorithmComparison {
    pub(crate) request: SignerAlgorithm,
    pub(crate) response: SignerAlgorithm,
    pub(crate) rounds: Vec<Round>,
}

/// One gateway after another, one per pair: the algorithms are in the configuration.
pub(crate) async fn measure(plan: &BenchPlan, log: &ProgressLog) -> Vec<AlgorithmComparison> {
    let mut pairs = SignerAlgorithm::ALL
        .map(|request| (request, SignerAlgorithm::Ed25519))
        .to_vec();
    pairs.push((SignerAlgorithm::Ed25519, SignerAlgorithm::RsaPss));
    let mut found = Vec::new();
    for (request, response) in pairs {
        let step = format!(
            "place, {} requests, {} responses",
            request.name(),
            response.name()
        );
        let rounds = log.step(&step, 3 * ROUND_WITHIN_S, rounds(plan, request, response));
        let rounds = rounds.await.unwrap_or_default();
        if let Some(last) = rounds.last() {
            let (rate, us) = (last.per_second(), last.cpu_us());
            log.say(&format!("{step}: {rate:.0}/s, {us:.1} µs of CPU each"));
        }
        found.push(AlgorithmComparison {
            request,
            response,
            rounds,
        });
    }
    found
}

async fn rounds(
    plan: &BenchPlan,
    request: SignerAlgorithm,
    response: SignerAlgorithm,
) -> Result<Vec<Round>> {
    let stand = BenchSetup::start(&SetupOptions {
        algorithm: request,
        answers: response,
        ..SetupOptions::default()
    })
    .await?;
    let mut rounds = Vec::new();
    for _ in 0..plan.rounds {
        let count = plan.sized(PLACED);
        let work = MeasuredJourney::Place
            .prepare(&stand, WARMING + count)
            .await?;
        let mut open = stand.callers(CALLERS, false).await?;
        send(&mut open, &work, 0..WARMING).await?;
        rounds.push(round(&stand.gateway, &mut open, &work, WARMING..WARMING + count).await?);
    }
    Ok(rounds)
}
