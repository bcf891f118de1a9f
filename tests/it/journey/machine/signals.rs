//! Signals at odd moments.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use paymux::command::demo::enrolment::BLUE;
use paymux::command::demo::environment::DemoEnvironment;

use super::MachineGateway;
use crate::journey::{order, placed};

/// A process held in the middle of its start: it handles signals and does not serve yet.
async fn starting(stage: &DemoEnvironment) -> MachineGateway {
    for _ in 0..50 {
        let served = MachineGateway::start(stage, Stdio::null(), "info");
        while ![1, 2, 15].iter().all(|signal| handles(&served, *signal)) {}
        served.signal("-STOP");
        let address = ("127.0.0.1", stage.ports.operations);
        if tokio::net::TcpStream::connect(address).await.is_err() {
            return served;
        }
    }
    panic!("it was never caught in the middle");
}

/// A stop signal during a start, alone or with SIGHUP and another stop signal, ends it as a stop
/// does: nothing is served, and the exit status is 0.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_middle_of_a_start_is_a_stop() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    for signals in [
        &["-TERM"][..],
        &["-HUP", "-INT"],
        &["-INT", "-TERM", "-HUP"],
    ] {
        let mut served = starting(&stage).await;
        for signal in signals {
            served.signal(signal);
        }
        // It goes on only after the signals have arrived.
        served.signal("-CONT");
        let ended = served.ended().await;
        assert!(ended.success(), "{signals:?}: {ended}");
    }
}

/// SIGHUP during the start ends nothing, and the gateway serves.
#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_in_the_middle_of_a_start_ends_nothing() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let mut served = MachineGateway::start(&stage, Stdio::null(), "info");
    // As early as possible, until it is open: none of them may terminate it.
    while tokio::net::TcpStream::connect(("127.0.0.1", stage.ports.operations))
        .await
        .is_err()
    {
        // Before exec the shell's process would be hit: it has no handler.
        if handles(&served, 1) {
            served.signal("-HUP");
        }
        if let Some(ended) = served.0.try_wait().unwrap() {
            panic!("it ended by signal {:?}", ended.signal());
        }
    }
    placed(&stage.tea, &order(&stage.tea, "T1", "12.30", BLUE.id)).await;
    served.signal("-TERM");
    assert!(served.ended().await.success());
}

/// Whether it handles this signal.
fn handles(served: &MachineGateway, signal: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", served.0.id()));
    let status = status.unwrap_or_default();
    let mut lines = status.lines();
    lines.any(|line| line.starts_with("SigCgt:") && is_caught(line, signal))
}

/// Whether a process handles this signal, by its line in `/proc`.
fn is_caught(line: &str, signal: u32) -> bool {
    let mask = line.split_whitespace().nth(1).unwrap_or("0");
    u64::from_str_radix(mask, 16).unwrap() >> (signal - 1) & 1 == 1
}
