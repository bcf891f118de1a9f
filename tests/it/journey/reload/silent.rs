//! Callers of the control socket that say nothing.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use paymux::config;
use paymux::run::control::{self, ControlReply};

use super::asked;
use crate::journey::open;

/// F1: whoever connects to the control socket and says nothing delays nobody, however
/// many they are: a reload is answered long before the first of them is given up.
#[tokio::test(flavor = "multi_thread")]
async fn silent_callers_of_the_control_socket_delay_nobody() {
    const SOON: Duration = Duration::from_secs(4);
    let (stage, open) = open().await;
    let socket = control::socket(&config::store_url(&stage.config).unwrap());
    let callers = (0..40).map(|_| UnixStream::connect(&socket).unwrap());
    let silent: Vec<UnixStream> = callers.collect();
    let reply = tokio::time::timeout(SOON, asked(&stage, control::RELOAD)).await;
    assert!(
        matches!(reply, Ok(ControlReply::Accepted { .. })),
        "{reply:?}"
    );
    drop(silent);
    open.close().await.unwrap();
}
