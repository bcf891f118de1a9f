//! A reload's audit entries.

use super::*;

/// L2, L5: start, each reload, accepted or refused, and stop are in the audit log, with who
/// requested it; the socket is accessible to its owner only, and removed afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn reloads_are_recorded() {
    let (stage, open) = open().await;
    let first = written(&stage);
    let socket = control::socket(&config::store_url(&stage.config).unwrap());
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (version, ..) = accepted(&stage, &first).await;
    refused(&stage, &format!("{first}\n[nonsense]\n")).await;
    let reply = send_control(&stage, "nonsense").await;
    assert!(matches!(reply, ControlReply::Unknown { .. }), "{reply:?}");
    open.close().await.unwrap();
    assert!(!socket.exists());
    let store = socket
        .to_str()
        .unwrap()
        .trim_end_matches(".control")
        .to_owned();
    let store = Connection::open(store).unwrap();
    let mut rows = store
        .prepare(
            "SELECT actor, action, result FROM audit WHERE object = 'configuration' ORDER BY seq",
        )
        .unwrap();
    let rows = rows.query_map([], |row| {
        let (who, what): (String, String) = (row.get(0)?, row.get(1)?);
        Ok((who, what, row.get::<_, String>(2)?))
    });
    let rows: Vec<_> = rows.unwrap().map(Result::unwrap).collect();
    let entries: Vec<_> = rows
        .iter()
        .map(|(_, what, how)| format!("{what} {how}"))
        .collect();
    assert!(
        entries[0].starts_with("gateway.start version="),
        "{entries:?}"
    );
    for (line, what) in entries[1..].iter().zip(["prepared", "accepted"]) {
        let expected = format!("configuration.reload {what} version={version} sha256=");
        assert!(line.starts_with(&expected), "{entries:?}");
    }
    assert_eq!(
        entries[3..],
        [
            "configuration.reload refused faults=1",
            "gateway.stop drained"
        ]
    );
    assert!(rows[1].0.starts_with("local:uid="), "{rows:?}");
}
