//! How the bundled `SQLite` is built (`.cargo/config.toml`), and how much disk space an order
//! takes.

use std::collections::BTreeSet;

use super::Stores;
use super::builders::{paid, terms};
use super::embedded::EmbeddedStores;

/// Maximum size of an order with its payment, event, posting and audit records, including indexes.
/// Unit: bytes.
const ORDER_BYTES_MAX: u64 = 4_096;

/// Number of orders measured.
const ORDERS: u32 = 500;

/// S1: the store's `SQLite` is the one that was measured: one thread per connection, no memory
/// statistics, no API misuse checks, which rusqlite makes unnecessary.
#[test]
fn sqlite_is_built_as_it_was_measured() {
    let options = EmbeddedStores::new().built();
    let is = |option: &str| options.contains(option);
    let arrived = is("THREADSAFE=2") && is("DEFAULT_MEMSTATUS=0") && !is("ENABLE_API_ARMOR");
    assert!(
        arrived,
        "expected THREADSAFE=2 and DEFAULT_MEMSTATUS=0 and no ENABLE_API_ARMOR, found {options:?}: \
         LIBSQLITE3_FLAGS of .cargo/config.toml did not arrive. Cargo reads that file only when it \
         is started in the checkout, and a variable of that name in the environment wins over it: \
         build there, without it"
    );
}

impl EmbeddedStores {
    /// The compile options that `SQLite` reports on a connection to a store's file.
    fn built(&self) -> BTreeSet<String> {
        drop(Stores::open(self));
        let look = self.look();
        let mut asked = look.prepare("PRAGMA compile_options").unwrap();
        let options = asked.query_map([], |row| row.get(0)).unwrap();
        options.collect::<Result<_, _>>().unwrap()
    }
}

/// S1: the ledger of a paid order stays small, measured in the file itself.
#[tokio::test]
async fn the_ledger_of_a_paid_order_takes_4_kb_at_most() {
    let stores = EmbeddedStores::new();
    let bytes = |stores: &EmbeddedStores| {
        let copy = stores.file().with_extension("copy");
        let _ = std::fs::remove_file(&copy);
        let sql = format!("VACUUM INTO '{}'", copy.display());
        stores.look().execute(&sql, []).unwrap();
        std::fs::metadata(copy).unwrap().len()
    };
    let store = stores.open();
    let before = bytes(&stores);
    for n in 1..=ORDERS {
        paid(&store, n, "harbour", terms(n)).await;
    }
    let each = (bytes(&stores) - before) / u64::from(ORDERS);
    assert!(each <= ORDER_BYTES_MAX, "{each} bytes each");
}
