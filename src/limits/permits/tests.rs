//! Who gets a permit, who waits, and when a call is sent.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

use super::*;

/// Longer than anything here takes; only a failing test waits that long.
const TEST_TIMEOUT: Duration = Duration::from_secs(30);

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
    with_rate(0, calls_at_once, within)
}

fn with_rate(calls_per_second: u32, calls_at_once: u32, within: Duration) -> PermitSettings {
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

/// With a long queue.
fn with_long_queue(calls_per_second: u32, calls_at_once: u32) -> Permits {
    let mut settings = with_rate(calls_per_second, calls_at_once, TEST_TIMEOUT);
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

/// The result, if it is there without waiting.
fn now<T>(future: impl Future<Output = Result<T, Wait>>) -> Option<T> {
    poll(pin!(future)).and_then(Result::ok)
}

/// A payment's permit, if it is granted at once.
fn payment_permit(permits: &Permits) -> Option<Permit> {
    now(permits.wait(&bank(), &merchant("M1")))
}

fn query_permit(permits: &Permits) -> Option<Permit> {
    now(permits.soon(&bank(), Duration::ZERO))
}

/// All background queries' permits that are granted at once.
fn background_permits(permits: &Permits, urgency: Urgency) -> Vec<Permit> {
    let query = || now(permits.behind(&bank(), urgency, Duration::ZERO));
    std::iter::from_fn(query).collect()
}

fn send(permit: &Permit) {
    poll(pin!(permit.mark_sent())).unwrap().unwrap();
}

/// Whether a payment is rejected at once, rather than after waiting.
fn is_refused(permits: &Permits, institution: &InstitutionId, merchant: &MerchantId) -> bool {
    let permit = poll(pin!(permits.wait(institution, merchant)));
    permit.is_some_and(|permit| permit.is_err())
}

type WaitingPayment<'a> = Pin<Box<dyn Future<Output = Result<Permit, Wait>> + 'a>>;

/// A payment that waits.
fn queue_payment<'a>(
    permits: &'a Permits,
    bank: &'a InstitutionId,
    who: &'a MerchantId,
) -> WaitingPayment<'a> {
    let mut waiting: WaitingPayment<'a> = Box::pin(permits.wait(bank, who));
    assert!(poll(waiting.as_mut()).is_none());
    waiting
}

/// A permit is held until its last copy is dropped; then the next in the queue gets it.
/// Institutions do not share permits.
#[tokio::test]
async fn a_permit_is_held_until_the_call_has_ended() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let permits = Permits::new(&settings(1, TEST_TIMEOUT), Arc::clone(&metrics));
    let (bank, one) = (bank(), merchant("M1"));
    let permit = permits.wait(&bank, &one).await.unwrap();
    let copy = permit.clone();
    assert!(permits.soon(&bank, Duration::ZERO).await.is_err());
    assert!(permits.soon(&id("purse"), Duration::ZERO).await.is_ok());
    let mut next = queue_payment(&permits, &bank, &one);
    let page = metrics.render();
    assert!(page.contains(r#"paymux_institution_permits_waiting{institution="bank"} 1"#));
    assert!(page.contains(r#"paymux_limited_total{kind="institution"} 1"#));
    drop(permit);
    assert!(poll(next.as_mut()).is_none());
    drop(copy);
    let permit = next.await.unwrap();
    let page = metrics.render();
    assert!(page.contains(r#"paymux_institution_permits_waiting{institution="bank"} 0"#));
    assert!(page.contains(r#"paymux_institution_calls_in_flight{institution="bank"} 1"#));
    drop(permit);
    assert!(
        metrics
            .render()
            .contains(r#"calls_in_flight{institution="bank"} 0"#)
    );
    assert!(permits.soon(&bank, Duration::ZERO).await.is_ok());
}

/// F2: an institution without declared limits gets no permits, rather than unlimited ones: neither
/// before it is enrolled nor after it is removed.
#[tokio::test]
async fn an_institution_that_is_not_in_reach_gets_no_permit() {
    let permits = permits(&settings(9, TEST_TIMEOUT));
    let (purse, one) = (id("purse"), merchant("M1"));
    assert!(permits.soon(&id("unknown"), Duration::ZERO).await.is_err());
    assert!(is_refused(&permits, &id("unknown"), &one));
    assert!(permits.soon(&purse, Duration::ZERO).await.is_ok());
    let mut without = settings(9, TEST_TIMEOUT);
    without.calls.remove(&purse);
    permits.replace(&without);
    assert!(permits.soon(&purse, Duration::ZERO).await.is_err());
    assert!(permits.wait(&purse, &one).await.is_err());
}

/// Z1: with a single permit, concurrent or per second, a query gets it next after a payment, and a
/// payment after that. Only one query waits, and a cancelled one holds nothing.
#[tokio::test]
async fn a_question_has_the_next_permit_where_there_is_only_one() {
    for (rate, at_once) in [(0, 1), (1, 9), (16, 1)] {
        let permits = with_long_queue(rate, at_once);
        let (bank, one) = (bank(), merchant("M1"));
        let permit = payment_permit(&permits).unwrap();
        let mut payment = queue_payment(&permits, &bank, &one);
        {
            let mut given_up = pin!(permits.soon(&bank, TEST_TIMEOUT));
            assert!(poll(given_up.as_mut()).is_none());
            assert!(query_permit(&permits).is_none());
        }
        let mut first = pin!(permits.soon(&bank, TEST_TIMEOUT));
        assert!(poll(first.as_mut()).is_none());
        drop(permit);
        assert!(poll(payment.as_mut()).is_none());
        let query = first.await.unwrap();
        let mut second = pin!(permits.soon(&bank, TEST_TIMEOUT));
        assert!(poll(second.as_mut()).is_none());
        drop(query);
        assert!(poll(second.as_mut()).is_none());
        drop(payment.await.unwrap());
        drop(second.await.unwrap());
        assert!(query_permit(&permits).is_some());
    }
}

/// However many institutions are silent, the number of waiting payments is bounded in total and per
/// institution; a payment that need not wait gets its permit anyway.
#[tokio::test]
async fn waiting_is_bounded_over_all_institutions() {
    let permits = permits(&settings(1, TEST_TIMEOUT));
    let (bank, purse) = (bank(), id("purse"));
    let [one, two, three] = ["M1", "M2", "M3"].map(merchant);
    let permit = permits.wait(&bank, &one).await.unwrap();
    {
        let _first = queue_payment(&permits, &bank, &one);
        let _second = queue_payment(&permits, &bank, &two);
        assert!(is_refused(&permits, &bank, &three), "its share");
        let other = permits.wait(&purse, &one).await.unwrap();
        let third = queue_payment(&permits, &purse, &one);
        assert!(is_refused(&permits, &purse, &two), "three in all");
        drop(other);
        drop(third.await.unwrap());
        let _busy = permits.wait(&purse, &two).await.unwrap();
        let _again = queue_payment(&permits, &purse, &two);
        assert!(is_refused(&permits, &purse, &three));
    }
    drop(permit);
    assert_eq!(permits.waiting.taken(), 0);
    assert!(payment_permit(&permits).is_some());
}

/// Waiting is bounded in time and number, and a cancelled wait holds nothing.
#[tokio::test]
async fn waiting_ends() {
    let permits = permits(&settings(1, Duration::from_millis(1)));
    let (bank, one) = (bank(), merchant("M1"));
    let permit = permits.wait(&bank, &one).await.unwrap();
    assert!(permits.wait(&bank, &one).await.is_err());
    permits.replace(&settings(1, TEST_TIMEOUT));
    {
        let _first = queue_payment(&permits, &bank, &one);
        let _second = queue_payment(&permits, &bank, &one);
        assert!(is_refused(&permits, &bank, &one), "two of one merchant");
        // The first has its permit, and is dropped before it is polled.
        drop(permit);
    }
    assert!(permits.soon(&bank, Duration::ZERO).await.is_ok());
}

/// A rejected payment is given the time in which the queue empties.
#[tokio::test]
async fn a_refused_caller_learns_how_long_the_queue_is() {
    let permits = with_long_queue(2, 10);
    let permit = payment_permit(&permits).unwrap();
    send(&permit);
    let bank = bank();
    let names = ["M1", "M2", "M3", "M4", "M5", "M6", "M7", "M8"].map(merchant);
    let _waiting: Vec<_> = names
        .iter()
        .map(|who| queue_payment(&permits, &bank, who))
        .collect();
    let ninth = poll(pin!(permits.wait(&bank, &merchant("M9"))));
    assert_eq!(ninth.unwrap().err(), Some(Wait(Duration::from_secs(4))));
}

/// N7 for payments: merchants take turns; a flood of one waits behind itself.
#[tokio::test]
async fn a_flood_of_one_merchant_does_not_starve_another() {
    let permits = with_long_queue(0, 1);
    let (bank, [one, two]) = (bank(), ["M1", "M2"].map(merchant));
    let permit = payment_permit(&permits).unwrap();
    let mut flood: Vec<_> = (0..5)
        .map(|_| queue_payment(&permits, &bank, &one))
        .collect();
    assert!(is_refused(&permits, &bank, &one));
    let mut other = queue_payment(&permits, &bank, &two);
    drop(permit);
    assert!(poll(other.as_mut()).is_none());
    let first = poll(flood[0].as_mut()).unwrap().unwrap();
    assert!(poll(flood[1].as_mut()).is_none());
    drop(first);
    assert!(poll(flood[1].as_mut()).is_none());
    let second = poll(other.as_mut()).expect("second, not sixth").unwrap();
    drop(second);
    assert!(poll(flood[1].as_mut()).is_some());
}

/// A slow institution has bounded concurrent calls; one permit is reserved for queries.
#[tokio::test]
async fn calls_at_once_are_bounded() {
    let permits = with_long_queue(0, 2);
    let (bank, one) = (bank(), merchant("M1"));
    let permit = payment_permit(&permits).unwrap();
    let mut second = queue_payment(&permits, &bank, &one);
    let query = query_permit(&permits).expect("one is reserved for queries");
    assert!(query_permit(&permits).is_none());
    drop(query);
    assert!(poll(second.as_mut()).is_none());
    drop(permit);
    assert!(poll(second.as_mut()).is_some());
}

/// Z1: waiting payments leave an eighth of the permits to queries, one of two; and queries take no
/// more than that from waiting payments.
#[tokio::test]
async fn questions_and_payments_do_not_starve_each_other() {
    for (rate, least) in [(16, 2), (2, 1)] {
        let permits = with_long_queue(rate, 100);
        let payments: Vec<_> = std::iter::from_fn(|| payment_permit(&permits)).collect();
        let queries: Vec<_> = std::iter::from_fn(|| query_permit(&permits)).collect();
        assert_eq!(queries.len(), least, "{rate} in a second");
        drop((payments, queries));
        let mut queries: Vec<_> = std::iter::from_fn(|| query_permit(&permits)).collect();
        let (bank, one) = (bank(), merchant("M1"));
        let mut payment = queue_payment(&permits, &bank, &one);
        drop(queries.pop());
        assert!(query_permit(&permits).is_none(), "{rate} in a second");
        assert!(poll(payment.as_mut()).is_some());
    }
}

/// The declared rate is not exceeded in any second, wherever it begins, by payments and queries
/// together, under any load and however long a call is delayed before it is sent.
#[tokio::test]
async fn no_second_holds_more_calls_than_were_declared() {
    const RATE: usize = 8;
    let permits = Arc::new(with_long_queue(8, 1_000));
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
    assert!(left.len() >= 2 * RATE, "the rate is used: {}", left.len());
}

/// A permit counts for a second from when its call is sent; one that is never used, or whose call
/// was not sent, is returned at once.
#[tokio::test]
async fn a_permit_counts_from_when_it_was_sent() {
    let permits = with_long_queue(1, 9);
    let (bank, one) = (bank(), merchant("M1"));
    let first = payment_permit(&permits).unwrap();
    let mut next = queue_payment(&permits, &bank, &one);
    drop(first);
    let second = poll(next.as_mut())
        .expect("the call before was never sent")
        .unwrap();
    send(&second);
    second.mark_unsent();
    drop(second);
    let third = payment_permit(&permits).expect("the call before was not sent");
    send(&third);
    let left = Instant::now();
    drop(third);
    let mut last = queue_payment(&permits, &bank, &one);
    send(&last.as_mut().await.unwrap());
    assert!(left.elapsed() >= Duration::from_secs(1));
}

/// A call with a permit waits to be sent while the rate of the last second is used up, within
/// bounds, also if the rate was lowered meanwhile; a call that was not sent loses no permit.
#[tokio::test]
async fn a_call_waits_to_leave() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let permits = Permits::new(&with_rate(4, 9, TEST_TIMEOUT), Arc::clone(&metrics));
    let (first, second) = (
        payment_permit(&permits).unwrap(),
        payment_permit(&permits).unwrap(),
    );
    permits.replace(&with_rate(1, 9, Duration::ZERO));
    send(&first);
    {
        let mut leaving = pin!(second.mark_sent());
        assert!(poll(leaving.as_mut()).is_none(), "it may wait");
    }
    first.mark_unsent();
    send(&second);
    drop((first, second));
    permits.replace(&with_rate(2, 9, Duration::ZERO));
    let hasty = query_permit(&permits).unwrap();
    permits.replace(&with_rate(1, 9, Duration::ZERO));
    assert!(hasty.mark_sent().await.is_err(), "it may not wait");
    let page = metrics.render();
    assert!(page.contains(r#"paymux_limited_total{kind="institution"} 1"#));
    assert!(query_permit(&permits).is_none());
}

/// F1: changed limits apply at once, also for those who wait; taken permits stay counted.
#[tokio::test]
async fn numbers_are_replaced_while_somebody_waits() {
    let permits = permits(&settings(1, TEST_TIMEOUT));
    let (bank, one) = (bank(), merchant("M1"));
    let _held = payment_permit(&permits).unwrap();
    let next = queue_payment(&permits, &bank, &one);
    permits.replace(&settings(3, TEST_TIMEOUT));
    let _second = next.await.unwrap();
    assert!(permits.soon(&bank, Duration::ZERO).await.is_ok());
    permits.replace(&settings(2, TEST_TIMEOUT));
    assert!(query_permit(&permits).is_none(), "two are in flight");
    permits.replace(&with_rate(2, 9, TEST_TIMEOUT));
    assert!(query_permit(&permits).is_none(), "and count against a rate");
    permits.replace(&settings(9, TEST_TIMEOUT));
    assert!(query_permit(&permits).is_some());
}

/// Z1: queries with no caller waiting take a quarter of the rate while payments begin and nine
/// tenths while none do, less urgent ones less of it, and never what is reserved for those about
/// unresolved outcomes.
#[tokio::test]
async fn the_background_takes_its_part_and_no_more() {
    let alone = with_long_queue(40, 1_000);
    assert_eq!(alone.room(&bank(), Urgency::Payer), 27);
    let waiting = background_permits(&alone, Urgency::Payer);
    let refunds = background_permits(&alone, Urgency::Refund);
    let signals = background_permits(&alone, Urgency::Signal);
    assert_eq!([waiting.len(), refunds.len(), signals.len()], [27, 5, 3]);
    assert_eq!(
        alone.room(&bank(), Urgency::Unresolved),
        5,
        "what is reserved"
    );
    let unresolved = background_permits(&alone, Urgency::Unresolved);
    assert_eq!(unresolved.len(), 5);
    let crowded = with_long_queue(40, 1_000);
    let _first = payment_permit(&crowded).unwrap();
    let waiting = background_permits(&crowded, Urgency::Payer);
    let signals = background_permits(&crowded, Urgency::Signal);
    assert_eq!([waiting.len(), signals.len()], [8, 2]);
    let payments: Vec<_> = std::iter::from_fn(|| payment_permit(&crowded)).collect();
    assert_eq!(payments.len(), 24);
    assert!(background_permits(&crowded, Urgency::Signal).is_empty());
    assert_eq!(background_permits(&crowded, Urgency::Unresolved).len(), 5);
}

/// With a single concurrent call, queries that wait for payers come last.
#[tokio::test]
async fn of_a_single_permit_the_background_takes_what_is_left() {
    let permits = with_long_queue(1, 1);
    let taken = background_permits(&permits, Urgency::Payer);
    assert_eq!(taken.len(), 1);
    let bank = bank();
    let mut question = pin!(permits.soon(&bank, TEST_TIMEOUT));
    assert!(poll(question.as_mut()).is_none());
    drop(taken);
    assert!(background_permits(&permits, Urgency::Signal).is_empty());
    assert!(poll(question.as_mut()).is_some());
}
