//! Logs that cannot be written.

use std::fs::File;
use std::io::Write;
use std::process::Stdio;

use paymux::command::demo::enrolment::BLUE;
use paymux::command::demo::environment::DemoEnvironment;
use rustix::fs::{OFlags, fcntl_setfl};

use super::{MachineGateway, paymux, ran, text};
use crate::journey::{operations, order, placed};

/// Whether the gateway takes orders and reloads, and how many lines of its log were dropped.
async fn serves(served: &mut MachineGateway, stage: &DemoEnvironment) -> u64 {
    assert!(served.is_open(stage).await, "it starts");
    for number in ["T1", "T2"] {
        placed(&stage.tea, &order(&stage.tea, number, "12.30", BLUE.id)).await;
        let reload = ran(paymux(&["reload"], &stage.config)).await;
        assert!(reload.status.success(), "{}", text(&reload.stdout));
    }
    let page = operations(stage, "/metrics").await;
    served.signal("-TERM");
    assert!(served.ended().await.success());
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix("paymux_log_lines_dropped_total "));
    line.expect("dropped lines are counted").parse().unwrap()
}

/// A full log disk or a closed log reader stops nothing: the gateway starts, serves, reloads and
/// ends as usual, and counts the dropped lines.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_stops_nothing() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut served = MachineGateway::start(&stage, full.into(), "info");
    assert!(serves(&mut served, &stage).await > 0, "a full disk");

    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let mut served = MachineGateway::start(&stage, Stdio::piped(), "info");
    drop(served.0.stderr.take());
    assert!(serves(&mut served, &stage).await > 0, "a closed reader");
}

/// A log reader that stops reading blocks nothing: what does not fit into the pipe waits and is
/// then dropped.
#[tokio::test(flavor = "multi_thread")]
async fn an_unread_log_blocks_nothing() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let mut served = MachineGateway::start(&stage, Stdio::piped(), "trace");
    serves(&mut served, &stage).await;
}

/// H1: a start that fails exits with its status although its log is a full pipe that nothing reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_start_exits_with_an_unread_log() {
    let stage = DemoEnvironment::start_on_free_ports("").await.unwrap();
    let right = std::fs::read_to_string(&stage.config).unwrap();
    std::fs::write(&stage.config, right + "\n[nonsense]\n").unwrap();
    let (_reader, mut full) = std::io::pipe().unwrap();
    fcntl_setfl(&full, OFlags::NONBLOCK).unwrap();
    while full.write(&[b'.'; 512]).is_ok() {}
    fcntl_setfl(&full, OFlags::empty()).unwrap();
    let mut served = MachineGateway::start(&stage, full.into(), "trace");
    assert_eq!(served.ended().await.code(), Some(1));
}
