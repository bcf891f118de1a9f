//! Signals at odd moments.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use paymux::command::demo::enrolment::BLUE;
use paymux::command::demo::stage::Stage;

use super::{Served, paymux};
use crate::journey::{order, placed};

/// A configuration that is still being written while it is read: the start stands still there.
fn pipe(stage: &Stage) -> std::path::PathBuf {
    let pipe = stage.config.with_file_name("pipe.toml");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    pipe
}

/// A stop, a hangup and another stop that come while the configuration is being read end the start
/// as a stop does: nothing is served, and the exit status is 0.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_middle_of_a_start_is_a_stop() {
    let stage = Stage::set(crate::socket::ports::free(), "").await.unwrap();
    let text = std::fs::read(&stage.config).unwrap();
    for signals in [
        &["-TERM"][..],
        &["-HUP", "-INT"],
        &["-INT", "-TERM", "-HUP"],
    ] {
        let pipe = pipe(&stage);
        let mut command = paymux(&["serve"], &pipe);
        let mut served = Served(command.stderr(Stdio::null()).spawn().unwrap());
        // Opens as soon as the other side does.
        let opening = tokio::task::spawn_blocking({
            let pipe = pipe.clone();
            move || std::fs::File::options().write(true).open(pipe).unwrap()
        });
        let mut writing = opening.await.unwrap();
        for signal in signals {
            served.signal(signal);
        }
        // What it reads next, it reads after the signals came.
        let _ = writing.write_all(&text);
        drop(writing);
        let ended = served.ended().await;
        assert!(ended.success(), "{signals:?}: {ended}");
        std::fs::remove_file(&pipe).unwrap();
    }
}

/// A hangup that comes during the start ends nothing, and the gateway serves.
#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_in_the_middle_of_a_start_ends_nothing() {
    let stage = Stage::set(crate::socket::ports::free(), "").await.unwrap();
    let mut served = Served::start(&stage, Stdio::null(), "info");
    // As early as can be, and until it is open: none of them may be the last.
    while tokio::net::TcpStream::connect(("127.0.0.1", stage.ports.operations))
        .await
        .is_err()
    {
        // Before the program is there the shell's process would be hit: it has no handler.
        let name = std::fs::read_to_string(format!("/proc/{}/status", served.0.id()));
        let caught = name.unwrap_or_default();
        if caught
            .lines()
            .any(|line| line.starts_with("SigCgt:") && is_heard(line, 1))
        {
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

/// Whether a process handles this signal, by its line in `/proc`.
fn is_heard(line: &str, signal: u32) -> bool {
    let mask = line.split_whitespace().nth(1).unwrap_or("0");
    u64::from_str_radix(mask, 16).unwrap() >> (signal - 1) & 1 == 1
}
