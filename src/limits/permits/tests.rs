//! Who has a permit, who waits, and who leaves.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

use super::*;

/// Longer than anything here takes; only a test that fails waits for it.
const RESTART_PAGES: Duration = Duration::from_secs(30);

fn id(name: &str) -> InstitutionId {
    InstitutionId::parse(name).unwrap()
}

fn bank() -> InstitutionId {
    id("bank")
}

fn merchant(name: &str) -> MerchantId {
    MerchantId::parse(name).unwrap()
}

fn settings(calls_at_once: u32, within: Duration) -> PermitSettings {
    paced(0, calls_at_once, within)
}

fn paced(calls_per_second: u32, calls_at_once: u32, within: Duration) -> PermitSettings {
    let limits = CallLimits {
        calls_per_second: NonZeroU32::new(calls_per_second),
        calls_at_once: calls_at_once.try_into().unwrap(),
    };
    PermitSettings {
        calls: [(bank(), limits), (id("purse"), limits)].into(),
        waiting: WaitLimits {
            within,
            waiting_in_all_max: 3,
            waiting_max: 2,
            waiting_per_merchant_max: 2,
        },
        background_rate_percent: 25,
    }
}

fn permits(settings: &PermitSettings) -> Permits {
    Permits::new(settings, Arc::new(Metrics::new().unwrap()))
}

/// Many may wait.
fn timeouts(calls_per_second: u32, calls_at_once: u32) -> Permits {
    let mut settings = paced(calls_per_second, calls_at_once, RESTART_PAGES);
    settings.waiting.waiting_in_all_max = 16;
    settings.waiting.waiting_max = 8;
    settings.waiting.waiting_per_merchant_max = 5;
    permits(&settings)
}

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

/// What is there without waiting.
fn now<T>(future: impl Future<Output = Result<T, Wait>>) -> Option<T> {
    poll(pin!(future)).and_then(Result::ok)
}

/// A payment's permit, if it is there at once.
fn pays(permits: &Permits) -> Option<Permit> {
    now(permits.wait(&bank(), &merchant("M1")))
}

fn asks(permits: &Permits) -> Option<Permit> {
    now(permits.soon(&bank(), Duration::ZERO))
}

/// So many background questions as have a permit at once.
fn asks_behind(permits: &Permits, urgency: Urgency) -> Vec<Permit> {
    let asking = || now(permits.behind(&bank(), (urgency, Duration::ZERO)));
    std::iter::from_fn(asking).collect()
}

fn leaves(permit: &Permit) {
    poll(pin!(permit.mark_sent())).unwrap().unwrap();
}

/// Whether a payment is refused at once, rather than after it waited.
fn is_refused(permits: &Permits, institution: &InstitutionId, merchant: &MerchantId) -> bool {
    let permit = poll(pin!(permits.wait(institution, merchant)));
    permit.is_some_and(|permit| permit.is_err())
}

type Waits<'a> = Pin<Box<dyn Future<Output = Result<Permit, Wait>> + 'a>>;

/// A payment that waits.
fn waits<'a>(permits: &'a Permits, (bank, who): (&'a InstitutionId, &'a MerchantId)) -> Waits<'a> {
    let mut waiting: Waits<'a> = Box::pin(permits.wait(bank, who));
    assert!(poll(waiting.as_mut()).is_none());
    waiting
}

/// A permit is held until its last copy is dropped; who waits then has it. Another institution's
/// permits are its own.
#[tokio::test]
async fn a_permit_is_held_until_the_call_has_ended() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let permits = Permits::new(&settings(1, RESTART_PAGES), Arc::clone(&metrics));
    let (bank, one) = (bank(), merchant("M1"));
    let held = permits.wait(&bank, &one).await.unwrap();
    let copy = held.clone();
    assert!(permits.soon(&bank, Duration::ZERO).await.is_err());
    assert!(permits.soon(&id("purse"), Duration::ZERO).await.is_ok());
    let mut next = waits(&permits, (&bank, &one));
    let page = metrics.render();
    assert!(page.contains(r#"paymux_institution_permits_waiting{institution="bank"} 1"#));
    assert!(page.contains(r#"paymux_limited_total{kind="institution"} 1"#));
    drop(held);
    assert!(poll(next.as_mut()).is_none());
    drop(copy);
    let held = next.await.unwrap();
    let page = metrics.render();
    assert!(page.contains(r#"paymux_institution_permits_waiting{institution="bank"} 0"#));
    assert!(page.contains(r#"paymux_institution_calls_in_flight{institution="bank"} 1"#));
    drop(held);
    assert!(
        metrics
            .render()
            .contains(r#"calls_in_flight{institution="bank"} 0"#)
    );
    assert!(permits.soon(&bank, Duration::ZERO).await.is_ok());
}

/// F2: an institution that nobody said anything about gets no permits, rather than all it wants: not
/// before it is enrolled, and not once it is let go.
#[tokio::test]
async fn an_institution_that_is_not_in_reach_gets_no_permit() {
    let permits = permits(&settings(9, RESTART_PAGES));
    let (purse, one) = (id("purse"), merchant("M1"));
    assert!(permits.soon(&id("unknown"), Duration::ZERO).await.is_err());
    assert!(is_refused(&permits, &id("unknown"), &one));
    assert!(permits.soon(&purse, Duration::ZERO).await.is_ok());
    let mut without = settings(9, RESTART_PAGES);
    without.calls.remove(&purse);
    permits.replace(&without);
    assert!(permits.soon(&purse, Duration::ZERO).await.is_err());
    assert!(permits.wait(&purse, &one).await.is_err());
}

/// Z1: where one call at a time may be under way, or leave in a second, a question has the next permit
/// after a payment, and a payment the one after that. One question waits and no more; one that is
/// given up holds nothing.
#[tokio::test]
async fn a_question_has_the_next_permit_where_there_is_only_one() {
    for (rate, at_once) in [(0, 1), (1, 9), (16, 1)] {
        let permits = timeouts(rate, at_once);
        let (bank, one) = (bank(), merchant("M1"));
        let held = pays(&permits).unwrap();
        let mut payment = waits(&permits, (&bank, &one));
        {
            let mut given_up = pin!(permits.soon(&bank, RESTART_PAGES));
            assert!(poll(given_up.as_mut()).is_none());
            assert!(asks(&permits).is_none());
        }
        let mut first = pin!(permits.soon(&bank, RESTART_PAGES));
        assert!(poll(first.as_mut()).is_none());
        drop(held);
        assert!(poll(payment.as_mut()).is_none());
        let asking = first.await.unwrap();
        let mut second = pin!(permits.soon(&bank, RESTART_PAGES));
        assert!(poll(second.as_mut()).is_none());
        drop(asking);
        assert!(poll(second.as_mut()).is_none());
        drop(payment.await.unwrap());
        drop(second.await.unwrap());
        assert!(asks(&permits).is_some());
    }
}

/// However many institutions are silent, only so many payments wait for them in all, and only so
/// many for each; who need not wait has a permit all the same.
#[tokio::test]
async fn waiting_is_bounded_over_all_institutions() {
    let permits = permits(&settings(1, RESTART_PAGES));
    let (bank, purse) = (bank(), id("purse"));
    let [one, two, three] = ["M1", "M2", "M3"].map(merchant);
    let held = permits.wait(&bank, &one).await.unwrap();
    {
        let _first = waits(&permits, (&bank, &one));
        let _second = waits(&permits, (&bank, &two));
        assert!(is_refused(&permits, &bank, &three), "its share");
        let other = permits.wait(&purse, &one).await.unwrap();
        let third = waits(&permits, (&purse, &one));
        assert!(is_refused(&permits, &purse, &two), "three in all");
        drop(other);
        drop(third.await.unwrap());
        let _busy = permits.wait(&purse, &two).await.unwrap();
        let _again = waits(&permits, (&purse, &two));
        assert!(is_refused(&permits, &purse, &three));
    }
    drop(held);
    assert_eq!(permits.waiting.taken(), 0);
    assert!(pays(&permits).is_some());
}

/// Waiting is bounded, in time and in number, and who gives up, or is given up, holds nothing.
#[tokio::test]
async fn waiting_ends() {
    let permits = permits(&settings(1, Duration::from_millis(1)));
    let (bank, one) = (bank(), merchant("M1"));
    let held = permits.wait(&bank, &one).await.unwrap();
    assert!(permits.wait(&bank, &one).await.is_err());
    permits.replace(&settings(1, RESTART_PAGES));
    {
        let _first = waits(&permits, (&bank, &one));
        let _second = waits(&permits, (&bank, &one));
        assert!(is_refused(&permits, &bank, &one), "two of one merchant");
        // The first has its permit, and is dropped before it hears of it.
        drop(held);
    }
    assert!(permits.soon(&bank, Duration::ZERO).await.is_ok());
}

/// Who waits in vain is told when the others will have had their permit.
#[tokio::test]
async fn who_is_refused_is_told_how_long_the_queue_is() {
    let permits = timeouts(2, 10);
    let held = pays(&permits).unwrap();
    leaves(&held);
    let bank = bank();
    let names = ["M1", "M2", "M3", "M4", "M5", "M6", "M7", "M8"].map(merchant);
    let _waiting: Vec<_> = names
        .iter()
        .map(|who| waits(&permits, (&bank, who)))
        .collect();
    let ninth = poll(pin!(permits.wait(&bank, &merchant("M9"))));
    assert_eq!(ninth.unwrap().err(), Some(Wait(Duration::from_secs(4))));
}

/// N7 for payments: merchants take turns; one that floods waits behind itself.
#[tokio::test]
async fn a_flood_of_one_merchant_does_not_starve_another() {
    let permits = timeouts(0, 1);
    let (bank, [one, two]) = (bank(), ["M1", "M2"].map(merchant));
    let held = pays(&permits).unwrap();
    let mut flood: Vec<_> = (0..5).map(|_| waits(&permits, (&bank, &one))).collect();
    assert!(is_refused(&permits, &bank, &one));
    let mut other = waits(&permits, (&bank, &two));
    drop(held);
    assert!(poll(other.as_mut()).is_none());
    let first = poll(flood[0].as_mut()).unwrap().unwrap();
    assert!(poll(flood[1].as_mut()).is_none());
    drop(first);
    assert!(poll(flood[1].as_mut()).is_none());
    let second = poll(other.as_mut()).expect("second, not sixth").unwrap();
    drop(second);
    assert!(poll(flood[1].as_mut()).is_some());
}

/// A slow institution holds no more of us than it may; one permit is kept for questions.
#[tokio::test]
async fn calls_at_once_are_bounded() {
    let permits = timeouts(0, 2);
    let (bank, one) = (bank(), merchant("M1"));
    let held = pays(&permits).unwrap();
    let mut second = waits(&permits, (&bank, &one));
    let asking = asks(&permits).expect("one is kept for questions");
    assert!(asks(&permits).is_none());
    drop(asking);
    assert!(poll(second.as_mut()).is_none());
    drop(held);
    assert!(poll(second.as_mut()).is_some());
}

/// Z1: payments that wait leave an eighth of the permits to questions, one of two; and questions take
/// no more than that from payments that wait.
#[tokio::test]
async fn questions_and_payments_do_not_starve_each_other() {
    for (rate, least) in [(16, 2), (2, 1)] {
        let permits = timeouts(rate, 100);
        let payments: Vec<_> = std::iter::from_fn(|| pays(&permits)).collect();
        let asked: Vec<_> = std::iter::from_fn(|| asks(&permits)).collect();
        assert_eq!(asked.len(), least, "{rate} in a second");
        drop((payments, asked));
        let mut asked: Vec<_> = std::iter::from_fn(|| asks(&permits)).collect();
        let (bank, one) = (bank(), merchant("M1"));
        let mut payment = waits(&permits, (&bank, &one));
        drop(asked.pop());
        assert!(asks(&permits).is_none(), "{rate} in a second");
        assert!(poll(payment.as_mut()).is_some());
    }
}

/// The declared rate is not passed in any second, wherever it begins, by payments and questions
/// together, however hard everybody tries and however long each is held up before it leaves.
#[tokio::test]
async fn no_second_holds_more_calls_than_were_declared() {
    const RATE: usize = 8;
    let permits = Arc::new(timeouts(8, 1_000));
    let (began, long) = (Instant::now(), Duration::from_millis(2_300));
    let mut calling = tokio::task::JoinSet::new();
    for number in 0..4_u32 {
        let permits = Arc::clone(&permits);
        calling.spawn(async move {
            let (bank, one) = (bank(), merchant("M1"));
            let mut left = Vec::new();
            while began.elapsed() < long {
                let permit = match number {
                    0 => permits.soon(&bank, Duration::ZERO).await,
                    _ => permits.wait(&bank, &one).await,
                };
                let held_up = (number * 7 + u32::try_from(left.len()).unwrap() * 5) % 90;
                for _ in 0..=held_up {
                    tokio::task::yield_now().await;
                }
                if let Ok(permit) = permit {
                    permit.mark_sent().await.unwrap();
                    left.push(Instant::now());
                }
            }
            left
        });
    }
    let mut left = calling.join_all().await.concat();
    left.sort();
    let most = left.iter().map(|from| {
        let second = *from..=*from + Duration::from_secs(1);
        left.iter().filter(|at| second.contains(at)).count()
    });
    assert_eq!(most.max(), Some(RATE));
    assert!(left.len() >= 2 * RATE, "and it is used: {}", left.len());
}

/// A permit counts for a second from the moment its call leaves; one that is never used, or whose call
/// came back whole, gives its count back at once.
#[tokio::test]
async fn a_permit_counts_from_its_departure() {
    let permits = timeouts(1, 9);
    let (bank, one) = (bank(), merchant("M1"));
    let first = pays(&permits).unwrap();
    let mut next = waits(&permits, (&bank, &one));
    drop(first);
    let second = poll(next.as_mut())
        .expect("the one before never left")
        .unwrap();
    leaves(&second);
    second.mark_unsent();
    drop(second);
    let third = pays(&permits).expect("the one before came back whole");
    leaves(&third);
    let left = Instant::now();
    drop(third);
    let mut last = waits(&permits, (&bank, &one));
    leaves(&last.as_mut().await.unwrap());
    assert!(left.elapsed() >= Duration::from_secs(1));
}

/// A call with a permit waits to leave while as many left within a second as may, within bounds, also
/// where the rate was lowered meanwhile; no place is lost by one that came back whole or never left.
#[tokio::test]
async fn a_call_waits_to_leave() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let permits = Permits::new(&paced(4, 9, RESTART_PAGES), Arc::clone(&metrics));
    let (first, second) = (pays(&permits).unwrap(), pays(&permits).unwrap());
    permits.replace(&paced(1, 9, Duration::ZERO));
    leaves(&first);
    {
        let mut leaving = pin!(second.mark_sent());
        assert!(poll(leaving.as_mut()).is_none(), "it may wait");
    }
    first.mark_unsent();
    leaves(&second);
    drop((first, second));
    permits.replace(&paced(2, 9, Duration::ZERO));
    let hasty = asks(&permits).unwrap();
    permits.replace(&paced(1, 9, Duration::ZERO));
    assert!(hasty.mark_sent().await.is_err(), "it may not wait");
    let page = metrics.render();
    assert!(page.contains(r#"paymux_limited_total{kind="institution"} 1"#));
    assert!(asks(&permits).is_none());
}

/// F1: other numbers count at once, for those who wait as well; what is held stays counted.
#[tokio::test]
async fn numbers_are_replaced_while_somebody_waits() {
    let permits = permits(&settings(1, RESTART_PAGES));
    let (bank, one) = (bank(), merchant("M1"));
    let _held = pays(&permits).unwrap();
    let next = waits(&permits, (&bank, &one));
    permits.replace(&settings(3, RESTART_PAGES));
    let _second = next.await.unwrap();
    assert!(permits.soon(&bank, Duration::ZERO).await.is_ok());
    permits.replace(&settings(2, RESTART_PAGES));
    assert!(asks(&permits).is_none(), "two are under way");
    permits.replace(&paced(2, 9, RESTART_PAGES));
    assert!(asks(&permits).is_none(), "and count against a rate");
    permits.replace(&settings(9, RESTART_PAGES));
    assert!(asks(&permits).is_some());
}

/// Z1: questions that nobody waits for take a quarter of the rate while payments begin and nine tenths
/// while none do, the less urgent less of it, and never what is kept for those about doubt.
#[tokio::test]
async fn the_background_takes_its_part_and_no_more() {
    let alone = timeouts(40, 1_000);
    assert_eq!(alone.room(&bank(), Urgency::Payer), 27);
    let waiting = asks_behind(&alone, Urgency::Payer);
    let refunds = asks_behind(&alone, Urgency::Refund);
    let signals = asks_behind(&alone, Urgency::Signal);
    assert_eq!([waiting.len(), refunds.len(), signals.len()], [27, 5, 3]);
    assert_eq!(alone.room(&bank(), Urgency::Unresolved), 5, "what is kept");
    let unresolved = asks_behind(&alone, Urgency::Unresolved);
    assert_eq!(unresolved.len(), 5);
    let crowded = timeouts(40, 1_000);
    let _first = pays(&crowded).unwrap();
    let waiting = asks_behind(&crowded, Urgency::Payer);
    let signals = asks_behind(&crowded, Urgency::Signal);
    assert_eq!([waiting.len(), signals.len()], [8, 2]);
    let payments: Vec<_> = std::iter::from_fn(|| pays(&crowded)).collect();
    assert_eq!(payments.len(), 24);
    assert!(asks_behind(&crowded, Urgency::Signal).is_empty());
    assert_eq!(asks_behind(&crowded, Urgency::Unresolved).len(), 5);
}

/// Where one call at once is all that an institution takes, what waits for payers waits for everybody.
#[tokio::test]
async fn of_a_single_permit_the_background_takes_what_is_left() {
    let permits = timeouts(1, 1);
    let held = asks_behind(&permits, Urgency::Payer);
    assert_eq!(held.len(), 1);
    let bank = bank();
    let mut question = pin!(permits.soon(&bank, RESTART_PAGES));
    assert!(poll(question.as_mut()).is_none());
    drop(held);
    assert!(asks_behind(&permits, Urgency::Signal).is_empty());
    assert!(poll(question.as_mut()).is_some());
}
