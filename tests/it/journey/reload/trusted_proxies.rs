//! `[listen] trusted_proxies` changed while the gateway runs.

use paymux::sandbox::PemIdentity;
use tokio::io::AsyncWriteExt;

use super::*;

/// A PROXY protocol v2 header of this client.
fn header(client: [u8; 4]) -> Vec<u8> {
    let start = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
    [&start[..], &client, &[127, 0, 0, 1], &[1, 2, 1, 187]].concat()
}

async fn proxied(
    stage: &DemoEnvironment,
    identity: &PemIdentity,
    begins: &[u8],
) -> std::io::Result<KeptConnection> {
    let mut tcp = TcpStream::connect(("127.0.0.1", stage.ports.public)).await?;
    tcp.write_all(begins).await?;
    KeptConnection::over(stage, identity, tcp).await
}

/// F1: another list of proxies is in force with the next connection, without a restart; open connections
/// go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_applies_trusted_proxies() {
    let (stage, open) = open().await;
    let (first, merchant) = (written(&stage), tea(&stage));
    let mut kept = KeptConnection::connect(&stage, &merchant).await;
    assert!(
        proxied(&stage, &merchant, &header([203, 0, 113, 4]))
            .await
            .is_err()
    );

    let behind = "trusted_proxies = [\"127.0.0.0/8\"]\npublic_origin = ";
    let behind = first.replacen("public_origin = ", behind, 1);
    let (_, changes, _) = accepted(&stage, &behind).await;
    assert_eq!(
        changes,
        ["listen: trusted_proxies: set to [\"127.0.0.0/8\"]"]
    );
    assert!(proxied(&stage, &merchant, b"").await.is_err());
    let begins = header([203, 0, 113, 4]);
    let mut client = proxied(&stage, &merchant, &begins).await.unwrap();
    for (connection, number) in [(&mut client, "T1"), (&mut kept, "T2")] {
        let key = key(&stage, "M1001-1");
        let (status, code) = connection.places(&stage, key, number).await;
        assert_eq!(status, 200, "{code}");
    }

    accepted(&stage, &first).await;
    assert!(proxied(&stage, &merchant, &begins).await.is_err());
    let key = key(&stage, "M1001-1");
    let mut direct = proxied(&stage, &merchant, b"").await.unwrap();
    let (status, code) = direct.places(&stage, key, "T3").await;
    assert_eq!(status, 200, "{code}");
    open.close().await.unwrap();
}
