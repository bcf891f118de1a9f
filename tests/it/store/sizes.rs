//! How much of the disk an order takes for good.

use super::Stores;
use super::builders::{paid, terms};
use super::embedded::Embedded;

/// What an order, its payment, its event, its posting and its records take, indexes and all, at most.
/// Unit: bytes.
const ORDER_BYTES_MAX: u64 = 4_096;

/// Orders that are looked at.
const ORDERS: u32 = 500;

/// S1: the ledger of a paid order stays small, as the file itself has it.
#[tokio::test]
async fn the_ledger_of_a_paid_order_takes_4_kb_at_most() {
    let stores = Embedded::new();
    let bytes = |stores: &Embedded| {
        let copy = stores.file().with_extension("copy");
        let _ = std::fs::remove_file(&copy);
        let sql = format!("VACUUM INTO '{}'", copy.display());
        stores.look().execute(&sql, []).unwrap();
        std::fs::metadata(copy).unwrap().len()
    };
    let store = stores.open();
    let before = bytes(&stores);
    for n in 1..=ORDERS {
        paid(&*store, n, "harbour", terms(n)).await;
    }
    let each = (bytes(&stores) - before) / u64::from(ORDERS);
    assert!(each <= ORDER_BYTES_MAX, "{each} bytes each");
}
