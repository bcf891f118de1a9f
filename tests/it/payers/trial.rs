//! What calls show of an institution, and how new orders meet it: whole journeys.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::thread;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use paymux::api::Answer;
use paymux::domain::identifiers::{InstitutionId, MerchantId};
use paymux::domain::institutions::{CallEnd, HealthSettings, Purpose, Standing};
use paymux::health::Health;
use paymux::world::{Clock, Outbound, Party, Patience, SendError, TooMany, Turn};
use serde_json::json;

use super::{THREE, cut_off, id, listed};
use crate::world::clock::Hands;
use crate::world::network::Ending;
use crate::world::town::{PEER, Told, Town, changed, naming};

fn standing(town: &Town) -> Standing {
    let world = &town.api.world;
    world.health.standing(&id("bank"), world.clock.now())
}

/// A new order that goes to the bank, while the network ends its calls like this.
fn create(town: &Town, no: usize, ending: Ending) -> Told {
    town.network.parties().script = VecDeque::from([ending]);
    let told = town.place(&format!("C{no}"), json!({ "institutionId": "bank" }));
    town.network.parties().script.clear();
    told
}

/// Each way a call can end counts as what it is: silence, faults, damage and no connection against
/// the institution, refusals for it.
#[test]
fn endings_count_as_what_they_are() {
    for (ending, calls, expected) in [
        (Ending::NotSent, 3, Standing::Unhealthy),
        (Ending::LostBefore, 8, Standing::Unhealthy),
        (Ending::LostAfter, 8, Standing::Unhealthy),
        (Ending::FaultBefore, 8, Standing::Unhealthy),
        (Ending::FaultAfter, 8, Standing::Unhealthy),
        (Ending::Garbled, 8, Standing::Unhealthy),
        (Ending::Answered, 20, Standing::Healthy),
        (Ending::Twice, 20, Standing::Healthy),
    ] {
        let town = Town::with(&THREE);
        for no in 1..calls {
            create(&town, no, ending);
        }
        assert_eq!(standing(&town), Standing::Healthy, "{ending:?}");
        create(&town, calls, ending);
        assert_eq!(standing(&town), expected, "{ending:?}");
    }
    let town = Town::with(&THREE);
    town.at("bank", |books| books.manners.refuses = true);
    for no in 0..20 {
        assert_eq!(
            create(&town, no, Ending::Answered).text("result"),
            "REFUSED"
        );
    }
    assert_eq!(standing(&town), Standing::Healthy, "a refusal is an answer");
}

/// A merchant's impatient question learns nothing from silence; a worker's patient one does.
#[test]
fn only_patience_learns_from_silence() {
    let town = Town::with(&THREE);
    town.place("T1", json!({ "institutionId": "bank" }));
    let doubted = |no: &str| {
        town.network.parties().script = VecDeque::from([Ending::LostAfter]);
        town.place(no, json!({ "institutionId": "bank" }));
    };
    doubted("T2");
    for _ in 0..20 {
        town.network.parties().script = VecDeque::from([Ending::LostBefore]);
        town.query("T2");
    }
    assert_eq!(standing(&town), Standing::Healthy);
}

/// What we keep back ourselves is no sign of how the institution fares.
#[test]
fn what_we_keep_back_is_not_held_against_it() {
    struct Full;
    #[async_trait]
    impl Outbound for Full {
        async fn send(
            &self,
            _: &Party,
            _: Request<Bytes>,
            _: Patience,
        ) -> Result<Response<Bytes>, SendError> {
            Err(SendError::KeptBack("its rate is used up".into()))
        }

        async fn turn(&self, _: &InstitutionId, _: &MerchantId) -> Result<Turn, TooMany> {
            Ok(Turn::free())
        }
    }
    let mut town = Town::with(&THREE);
    town.api.world.outbound = Arc::new(Full);
    for no in 0..20 {
        let told = town.place(&format!("T{no}"), json!({ "institutionId": "bank" }));
        assert_eq!(
            told.text("result"),
            "REFUSED",
            "not sent: it may go elsewhere"
        );
    }
    assert_eq!(standing(&town), Standing::Healthy);
}

/// Withheld with its reason, on trial after the pause, open again after one answer.
#[test]
fn an_institution_that_fails_disappears_and_comes_back() {
    let town = Town::with(&THREE);
    for no in 0..3 {
        create(&town, no, Ending::NotSent);
    }
    let explained = json!({ "explainInstitutions": true });
    let told = town.place("T1", explained);
    let (name, reason) = listed(&told).pop().unwrap();
    assert_eq!((&*name, &*reason), ("bank", "INSTITUTION_UNHEALTHY"));
    let told = town.select("T1", "bank");
    assert_eq!((told.status, told.result), (422, "institution_unavailable"));
    assert_eq!(told.text("reason"), "INSTITUTION_UNHEALTHY");
    town.pass_s(5);
    assert_eq!(standing(&town), Standing::OnTrial);
    assert_eq!(town.select("T1", "bank").text("result"), "ACCEPTED");
    assert_eq!(standing(&town), Standing::Healthy);
}

/// A health probe may be a worker's ordinary question: where nothing could be sent, its answer is
/// enough, and no payer has to try.
#[test]
fn a_workers_question_shows_that_somebody_is_there_again() {
    let town = Town::with(&THREE);
    create(&town, 1, Ending::LostAfter);
    cut_off(&town.api.world.health, "bank", town.clock.now());
    town.pass_s(1);
    assert_eq!(town.chase(), 1);
    assert_eq!(standing(&town), Standing::Healthy);
}

type Asked<'a> = Pin<Box<dyn Future<Output = Answer> + 'a>>;

fn poll(asked: &mut Asked<'_>) -> Poll<Answer> {
    asked.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Of sixty-four choices at once as many go out as may be on trial; the others are refused with the
/// reason and leave no attempt. When the first is answered, the next goes as to any other.
#[test]
fn sixty_four_at_once_are_no_more_than_may_be_on_trial() {
    let town = Town::with(&THREE);
    let settings = HealthSettings {
        probes: 3,
        ..HealthSettings::default()
    };
    town.api.world.health.measure_by(settings);
    let numbers: Vec<String> = (0..64).map(|no| format!("T{no}")).collect();
    for no in &numbers {
        town.place(no, json!({}));
    }
    cut_off(&town.api.world.health, "bank", town.clock.now());
    town.pass_s(5);
    town.network.parties().held = true;
    let mut asked: Vec<Asked<'_>> = numbers
        .iter()
        .map(|no| {
            let choice = changed(naming(no), json!({ "institutionId": "bank" }));
            let request = town.signed("M1", "/v1/orders/select", &choice);
            let asked: Asked<'_> = Box::pin(town.api.answer(request, PEER));
            asked
        })
        .collect();
    let mut results = Vec::new();
    asked.retain_mut(|one| match poll(one) {
        Poll::Ready(answer) => {
            results.push(answer.result);
            false
        }
        Poll::Pending => true,
    });
    assert_eq!((asked.len(), results.len()), (3, 61));
    assert!(results.iter().all(|it| *it == "institution_unavailable"));
    assert_eq!(town.network.parties().waiting.len(), 3);
    let begun = |no: &&String| !town.order(no).attempts.is_empty();
    assert_eq!(numbers.iter().filter(begun).count(), 3);
    assert_eq!(standing(&town), Standing::Unhealthy, "every place is taken");
    town.network.release(0, Ending::NotSent);
    assert!(poll(&mut asked[0]).is_ready());
    assert_eq!(standing(&town), Standing::Unhealthy, "and one failed");
    drop(asked);
    assert_eq!(standing(&town), Standing::Unhealthy);
    town.pass_s(10);
    assert_eq!(
        standing(&town),
        Standing::OnTrial,
        "given up places are free"
    );
}

/// The same from sixty-four threads: places are counted exactly, and come back.
#[test]
fn places_on_trial_are_counted_exactly() {
    let clock = Hands::new();
    let health = Health::default();
    health.measure_by(HealthSettings {
        probes: 5,
        ..HealthSettings::default()
    });
    cut_off(&health, "bank", clock.now());
    clock.pass(5_000);
    for _ in 0..20 {
        let start = Barrier::new(64);
        let passes: Vec<_> = thread::scope(|scope| {
            let enter = || {
                start.wait();
                health.enter(&id("bank"), clock.now())
            };
            let running: Vec<_> = (0..64).map(|_| scope.spawn(enter)).collect();
            running
                .into_iter()
                .filter_map(|one| one.join().unwrap())
                .collect()
        });
        assert_eq!(passes.len(), 5);
        drop(passes);
        let now = clock.now();
        assert_eq!(health.standing(&id("bank"), now), Standing::OnTrial);
    }
    let begun = health.begin(&id("bank"), clock.now());
    let answered = (Purpose::Create, CallEnd::Answered);
    health.end(&id("bank"), begun, answered, clock.now());
    let now = clock.now();
    assert_eq!(health.standing(&id("bank"), now), Standing::Healthy);
}
