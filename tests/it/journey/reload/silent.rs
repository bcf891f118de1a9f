//! Silent connections to the control socket.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use paymux::config;
use paymux::run::control::{self, ControlReply};

use super::send_control;
use crate::journey::open;

/// F1: silent connections to the control socket delay nothing, however many they are: a reload is
/// answered long before the first of them times out.
#[tokio::test(flavor = "multi_thread")]
async fn silent_control_connections_delay_nothing() {
    const SOON: Duration = Duration::from_secs(4);
    let (stage, open) = open().await;
    let socket = control::socket(&config::store_url(&stage.config).unwrap());
    let callers = (0..40).map(|_| UnixStream::connect(&socket).unwrap());
    let silent: Vec<UnixStream> = callers.collect();
    let reply = tokio::time::timeout(SOON, send_control(&stage, control::RELOAD)).await;
    assert!(
        matches!(reply, Ok(ControlReply::Accepted { .. })),
        "{reply:?}"
    );
    drop(silent);
    open.close().await.unwrap();
}
