//! Refused callers are in the audit log after a stop (L5).

use paymux::config;
use paymux::signature::SigningKey;
use rusqlite::Connection;
use serde_json::json;

use super::{client, open};

/// L4, L5: requests under an unknown key are recorded, aggregated, and without an address.
#[tokio::test(flavor = "multi_thread")]
async fn refused_authentications_are_in_the_audit_log() {
    let (stage, open) = open().await;
    let (unauthenticated, _) = SigningKey::generate_ed25519().unwrap();
    let unauthenticated = SigningKey::from_pkcs8_pem("nobody-1", &unauthenticated).unwrap();
    let unauthenticated = client(&stage, unauthenticated, None);
    let question = json!({ "merchantId": "M1001", "merchantOrderNo": "T1" });
    for _ in 0..3 {
        let refused = unauthenticated.post("/v1/orders/query", &question).await;
        assert_eq!(refused.unwrap().status, 401);
    }
    open.close().await.unwrap();
    let url = config::store_url(&stage.config).unwrap();
    let store = Connection::open(url.strip_prefix("sqlite:").unwrap()).unwrap();
    let sql = "SELECT actor, object, result FROM audit WHERE action = 'authentication.refuse'";
    let mut rows = store.prepare(sql).unwrap();
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    let rows: Vec<(String, String, String)> = rows.unwrap().collect::<Result<_, _>>().unwrap();
    let times: u32 = rows
        .iter()
        .filter_map(|(_, _, result)| result.strip_prefix("key_unknown times="))
        .map(|times| times.parse::<u32>().unwrap())
        .sum();
    assert_eq!(times, 3, "{rows:?}");
    for (actor, object, _) in rows {
        assert!(
            actor.starts_with("caller:") && !actor.contains("127.0"),
            "{actor}"
        );
        assert_eq!(object, "A3.2");
    }
}
