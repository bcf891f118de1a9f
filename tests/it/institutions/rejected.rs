//! Sendings that an institution rejects before it processes them, in calls of several steps.

use paymux::domain::attempt::AttemptState;
use paymux::domain::evidence::{Ambiguity, Finding, Rejection};
use paymux::domain::institutions::{Health, Mode};
use paymux::institution::{Call, Operation};

use super::recorded::{order_with, order_with_refund};
use super::two_steps::{StepsTestbed, TinyQuirk};

/// E1, E5: a rejected sending ends a call only if no earlier step may have moved money; a refund that
/// is rejected for its rate may have been taken.
#[tokio::test]
async fn a_rejection_after_money_may_have_moved_proves_nothing() {
    let bed = StepsTestbed::new(TinyQuirk::No);
    let rejected = |why: &str| Ok(bed.tiny.reply(&[("rejected", why)]));
    let taken = || Ok(bed.tiny.reply(&[]));
    let unclear = Finding::Ambiguous(Ambiguity::NoAnswer);
    let order = order_with_refund("RESERVED", Mode::Native);
    let (attempt, terms) = (&order.attempts[0], &order.terms);
    let refund = Call::new(Operation::Refund(&order.refunds[0]), attempt, terms);
    for (steps, expected) in [
        (
            vec![rejected("format")],
            Finding::NotExecuted(Rejection::Format),
        ),
        (vec![rejected("rate")], unclear.clone()),
        (vec![taken(), rejected("format")], unclear.clone()),
    ] {
        assert_eq!(bed.call(&refund, steps).await.0, expected);
    }
    let create = Call::new(Operation::Create, attempt, terms);
    let first = Finding::NotExecuted(Rejection::Rate);
    assert_eq!(bed.call(&create, [rejected("rate")]).await.0, first);
    let paid = [Ok(bed.token()), rejected("rate")];
    assert_eq!(bed.call(&create, paid).await.0, first, "its own rejection");
}

/// F3: an account whose credentials are rejected opens no circuit breaker for the others.
#[tokio::test]
async fn rejected_credentials_are_no_failure_of_the_institution() {
    let bed = StepsTestbed::new(TinyQuirk::No);
    let order = order_with(AttemptState::Intent, Mode::Native);
    let create = Call::new(Operation::Create, &order.attempts[0], &order.terms);
    for _ in 0..100 {
        let rejected = Ok(bed.tiny.reply(&[("rejected", "signature")]));
        let (found, _) = bed.call(&create, [rejected]).await;
        assert_eq!(found, Finding::NotExecuted(Rejection::Signature));
    }
    let world = &bed.gateway.api.world;
    let health = world.health.standing(&bed.tiny.id, world.clock.now());
    assert_eq!(health, Health::Healthy);
}
