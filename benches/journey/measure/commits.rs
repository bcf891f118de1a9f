//! Group commit: how many new orders per second the embedded store makes durable, for one caller
//! and for many, without a gateway.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use paymux::domain::amount::Amount;
use paymux::domain::change::{Change, ChangeCause};
use paymux::domain::identifiers::{
    CalendarDay, FreshNonce, KeyId, MerchantId, MerchantOrderNo, PayOrderNo, Timestamp,
};
use paymux::domain::institutions::{BusinessType, TransactionType};
use paymux::domain::order::{NewOrder, Order, OrderTerms};
use paymux::domain::personal::MobileNo;
use paymux::seal::Seal;
use paymux::store::Committed;
use paymux::world::{Clock as _, Entropy, SystemClock, SystemEntropy};
use tokio::task::JoinSet;

const LASTING: Duration = Duration::from_secs(3);
const CALLERS: [usize; 4] = [1, 16, 64, 128];

/// The result.
pub(crate) struct Commits {
    pub(crate) callers: usize,
    pub(crate) per_second: f64,
}

/// Fills one store file.
pub(crate) async fn measure(dir: &Path) -> Result<Vec<Commits>> {
    let keys = std::iter::once(("k1".to_owned(), [7; 32])).collect();
    let seal = Arc::new(Seal::new("k1", keys, [9; 32])?);
    let fatal = Box::new(|why: &str| eprintln!("the store stopped: {why}"));
    let store = paymux::store::open(
        &dir.join("commits.sqlite"),
        seal,
        fatal,
        Box::new(|_, _| ()),
    )?;
    let made = Arc::new(AtomicUsize::new(0));
    let mut found = Vec::new();
    for callers in CALLERS {
        let before = made.load(Ordering::Relaxed);
        let start = Instant::now();
        let mut running: JoinSet<Result<()>> = JoinSet::new();
        for _ in 0..callers {
            let (store, made) = (Arc::clone(&store), Arc::clone(&made));
            running.spawn(async move {
                while start.elapsed() < LASTING {
                    let change = opened(made.fetch_add(1, Ordering::Relaxed))?;
                    let committed = store.changes.commit(&change).await?;
                    ensure!(committed == Committed::Done, "not committed: {committed:?}");
                }
                Ok(())
            });
        }
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        let changes = made.load(Ordering::Relaxed) - before;
        let per_second = changes as f64 / start.elapsed().as_secs_f64();
        found.push(Commits {
            callers,
            per_second,
        });
    }
    Ok(found)
}

/// A new order, as placing creates it.
fn opened(number: usize) -> Result<Change> {
    let now: Timestamp = SystemClock::start().now();
    let entropy: &dyn Entropy = &SystemEntropy;
    let opening = NewOrder {
        no: PayOrderNo::mint(now, entropy.draw()),
        page_secret: entropy.draw(),
        terms: terms(number)?,
        notice_url: None,
    };
    let nonce = FreshNonce {
        key: KeyId::parse("bench")?,
        value: format!("nonce-{number:016}").into(),
        created: now,
        keep_until: now.plus(Duration::from_mins(6)),
    };
    Ok(Order::open(opening, None, ChangeCause::Request(nonce), now))
}

fn terms(number: usize) -> Result<OrderTerms> {
    Ok(OrderTerms {
        merchant: MerchantId::parse("M100001")?,
        merchant_order_no: MerchantOrderNo::parse(&format!("order-{number:08}"))?,
        merchant_name: "Harbour Tea".into(),
        order_date: CalendarDay::parse("20260701")?,
        amount: Amount::parse("25.80", paymux::domain::amount::CNY)?,
        business_type: BusinessType::Aggregated,
        transaction_type: TransactionType::PasswordPay,
        return_url: "https://shop.example/notice".into(),
        mobile: MobileNo::parse("13812345678")?,
        goods_no: Some("T-0017".into()),
        goods_name: Some("White tea, 100 g".into()),
        goods_description: Some("Spring harvest, in a tin".into()),
        attach: None,
        expire_minutes: 15,
        named: None,
    })
}
