//! Placing an order with each algorithm that a merchant may sign with, answered with Ed25519; and
//! once answered with RSA.

use anyhow::Result;

use crate::load::closed::{Round, round, send};
use crate::measure::journeys::{Journey, ROUND_WITHIN_S, WARMING};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::stand::signer::Algorithm;
use crate::stand::{Stand, Wanted};

/// Orders placed in one round. Signing them with RSA beforehand takes longer than placing them.
const PLACED: usize = 3_000;
const CALLERS: usize = 64;

/// One pair of algorithms.
pub(crate) struct Signed {
    pub(crate) asked: Algorithm,
    pub(crate) answered: Algorithm,
    pub(crate) rounds: Vec<Round>,
}

/// By turns of whole gateways: the algorithms stand in the configuration.
pub(crate) async fn measure(plan: &Plan, log: &Progress) -> Vec<Signed> {
    let mut pairs = Algorithm::ALL
        .map(|asked| (asked, Algorithm::Ed25519))
        .to_vec();
    pairs.push((Algorithm::Ed25519, Algorithm::RsaPss));
    let mut found = Vec::new();
    for (asked, answered) in pairs {
        let step = format!(
            "place, {} asked, {} answered",
            asked.name(),
            answered.name()
        );
        let rounds = log.step(&step, 3 * ROUND_WITHIN_S, rounds(plan, asked, answered));
        let rounds = rounds.await.unwrap_or_default();
        if let Some(last) = rounds.last() {
            let (rate, us) = (last.per_second(), last.cpu_us());
            log.say(&format!("{step}: {rate:.0}/s, {us:.1} µs of CPU each"));
        }
        found.push(Signed {
            asked,
            answered,
            rounds,
        });
    }
    found
}

async fn rounds(plan: &Plan, asked: Algorithm, answered: Algorithm) -> Result<Vec<Round>> {
    let stand = Stand::start(&Wanted {
        algorithm: asked,
        answers: answered,
        ..Wanted::default()
    })
    .await?;
    let mut rounds = Vec::new();
    for _ in 0..plan.rounds {
        let count = plan.sized(PLACED);
        let work = Journey::Place.prepare(&stand, WARMING + count).await?;
        let mut open = stand.callers(CALLERS, false).await?;
        send(&mut open, &work, 0..WARMING).await?;
        rounds.push(round(&stand.gateway, &mut open, &work, WARMING..WARMING + count).await?);
    }
    Ok(rounds)
}
