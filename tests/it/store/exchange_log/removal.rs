//! When blocks are removed, and when not.

use super::*;

/// T2: an untrusted clock that is forty days ahead removes nothing; what is as old by a trusted
/// clock is removed.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_ahead_removes_no_blocks() {
    const DAYS_MS: i64 = 40 * 86_400_000;
    let stores = EmbeddedStores::new();
    let (store, log) = open(&stores);
    let working = Working::on(Arc::clone(&log));
    let now: Timestamp = working.clock.now();
    let block = block_of([entry(somebodys(1), now, 1, 16)]);
    log.append(&block).await.unwrap();
    let kept = || {
        let sql = "SELECT COUNT(*) FROM exchange_log";
        stores
            .look()
            .query_row(sql, [], |row| row.get::<_, u32>(0))
            .unwrap()
    };
    a_while().await;
    working.clock.unresolved(true);
    working.clock.set_off(DAYS_MS);
    working.clock.pass(61_000);
    a_while().await;
    working.clock.set_off(0);
    a_while().await;
    working.clock.unresolved(false);
    working.clock.pass(61_000);
    a_while().await;
    assert_eq!(kept(), 1);
    working.clock.pass(DAYS_MS);
    let gone = async {
        while kept() > 0 {
            a_while().await;
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(30), gone).await;
    assert!(gone.is_ok());
    working.stop().await;
    drop(store);
}

/// Removing a block leaves nothing of its row, and the remaining size is known again.
#[tokio::test]
async fn an_empty_log_takes_nothing() {
    let stores = EmbeddedStores::new();
    let (_store, log) = open(&stores);
    assert_eq!(
        log.remove_oldest(Some(at(1)), 0).await,
        Ok(Removed::default())
    );
    append(&*log, somebodys(1), 1).await;
    let removed = log.remove_oldest(Some(at(9)), NO_BOUND).await.unwrap();
    assert_eq!((removed.by_age, removed.bytes), (1, 0));
}
