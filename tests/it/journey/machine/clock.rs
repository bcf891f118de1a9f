//! A wall clock that is wrong for a time, in either direction, before and after a start.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use paymux::command::demo::enrolment::BLUE;
use paymux::command::demo::environment::{DemoEnvironment, WAIT_MAX};

use super::{MachineGateway, paymux, ran, text};
use crate::journey::{operations, order};

/// A machine whose wall clock can be set.
struct ShiftedMachine {
    folder: PathBuf,
}

impl ShiftedMachine {
    fn new(stage: &DemoEnvironment) -> Self {
        let folder = stage.config.parent().unwrap().to_owned();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/journey/machine/wall.c");
        let built = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .arg(folder.join("wall.so"))
            .arg(source)
            .status();
        assert!(built.expect("a C compiler is needed").success());
        Self { folder }
    }

    /// Sets the wall clock this many seconds ahead of the right time; negative is behind.
    fn set(&self, seconds: i64) {
        let next = self.folder.join("ahead.next");
        std::fs::write(&next, seconds.to_string()).unwrap();
        std::fs::rename(next, self.folder.join("ahead")).unwrap();
    }

    fn serve(&self, stage: &DemoEnvironment) -> MachineGateway {
        let mut command = paymux(&["serve"], &stage.config);
        command.env("LD_PRELOAD", self.folder.join("wall.so"));
        command.env("WALL_AHEAD", self.folder.join("ahead"));
        MachineGateway(command.stderr(Stdio::null()).spawn().unwrap())
    }
}

/// Places orders, signed under a right clock, until one has this result.
async fn placed_with(stage: &DemoEnvironment, result: &str, tag: &str) {
    let placing = async {
        for number in 0.. {
            let wanted = order(&stage.tea, &format!("{tag}-{number}"), "12.30", BLUE.id);
            let answer = stage.tea.place(&wanted).await.unwrap();
            let code = if answer.status == 200 {
                "placed"
            } else {
                answer.text("code")
            };
            if code == result {
                return;
            }
        }
    };
    let placed = tokio::time::timeout(WAIT_MAX, placing).await;
    assert!(placed.is_ok(), "{tag}: never {result}");
}

/// H2, T2: whatever the clock was, before a start or after, callers with a right clock are served
/// again within 15 seconds after it is corrected; the step is measured and in the audit log.
#[tokio::test(flavor = "multi_thread")]
async fn a_corrected_clock_serves_again() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let machine = ShiftedMachine::new(&stage);
    machine.set(-3_600);
    let mut served = machine.serve(&stage);
    assert!(served.is_open(&stage).await);
    placed_with(&stage, "outside_window", "behind").await;
    machine.set(0);
    placed_with(&stage, "placed", "right").await;
    let page = operations(&stage, "/metrics").await;
    let offset = page
        .lines()
        .find_map(|line| line.strip_prefix("paymux_clock_offset_seconds "));
    let offset: f64 = offset.unwrap().parse().unwrap();
    assert!((3_590.0..3_610.0).contains(&offset), "{offset}");

    machine.set(7_200);
    placed_with(&stage, "outside_window", "ahead").await;
    machine.set(0);
    placed_with(&stage, "placed", "right-again").await;
    served.signal("-TERM");
    assert!(served.ended().await.success());

    // A process that runs under a clock ahead leaves nothing behind for the next one.
    machine.set(86_400);
    let mut served = machine.serve(&stage);
    assert!(served.is_open(&stage).await);
    served.signal("-TERM");
    assert!(served.ended().await.success());
    machine.set(0);
    let mut served = machine.serve(&stage);
    assert!(served.is_open(&stage).await);
    placed_with(&stage, "placed", "after").await;
    served.signal("-TERM");
    assert!(served.ended().await.success());
    let verify = ran(paymux(&["audit", "verify"], &stage.config)).await;
    assert!(verify.status.success(), "{}", text(&verify.stdout));
}

/// F1, T2: a clock step applies no configuration: an edited file waits for its reload, and keys and
/// certificates are judged by the followed clock, not read again.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_step_applies_no_edit() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let machine = ShiftedMachine::new(&stage);
    machine.set(0);
    let mut served = machine.serve(&stage);
    assert!(served.is_open(&stage).await);
    placed_with(&stage, "placed", "before").await;
    let text = std::fs::read_to_string(&stage.config).unwrap();
    let blue = format!("id = \"{}\"\nkind", BLUE.id);
    assert!(text.contains(&blue), "{text}");
    let edited = text.replace(&blue, &format!("stopped = true\n{blue}"));
    std::fs::write(&stage.config, edited).unwrap();
    machine.set(7_200);
    placed_with(&stage, "outside_window", "ahead").await;
    machine.set(0);
    placed_with(&stage, "placed", "right").await;
    let page = operations(&stage, "/metrics").await;
    for result in ["accepted", "refused"] {
        let none = format!("paymux_config_reloads_total{{result=\"{result}\"}} 0");
        assert!(page.contains(&none), "{page}");
    }
    served.signal("-TERM");
    assert!(served.ended().await.success());
}

/// T2, L5: a process dies under a clock a day ahead, the clock is corrected, and reconciliation
/// runs before the gateway starts again: what the clock had put off is still brought forward, and
/// is recorded once.
#[tokio::test(flavor = "multi_thread")]
async fn reconciling_does_not_hide_a_clock_step() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let machine = ShiftedMachine::new(&stage);
    machine.set(86_400);
    let mut served = machine.serve(&stage);
    assert!(served.is_open(&stage).await);
    served.signal("-KILL");
    served.ended().await;
    machine.set(0);
    let words = [
        "reconcile",
        "--institution",
        BLUE.id,
        "--date",
        "2026-01-01",
    ];
    let printed = text(&ran(paymux(&words, &stage.config)).await.stderr);
    assert!(printed.contains("records lie in the future"), "{printed}");
    let mut served = MachineGateway::start(&stage, Stdio::piped(), "info");
    assert!(served.is_open(&stage).await);
    served.signal("-TERM");
    assert!(served.ended().await.success());
    let mut printed = String::new();
    let log = served.0.stderr.take();
    std::io::Read::read_to_string(&mut log.unwrap(), &mut printed).unwrap();
    assert!(!printed.contains("records lie in the future"), "{printed}");
}
