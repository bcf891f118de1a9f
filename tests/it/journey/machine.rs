//! The real binary on a machine that misbehaves: logs that cannot be written, closed readers,
//! signals at odd moments, expired keys and certificates.

mod admitted;
mod answers;
mod called;
mod clock;
mod credentials;
mod log;
mod output;
mod pipes;
mod shortage;
mod signals;

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use paymux::command::demo::environment::{DemoEnvironment, WAIT_MAX};

fn paymux(words: &[&str], config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paymux"));
    command.args(words).arg("--config").arg(config);
    command.env_remove("RUST_LOG").env_remove("RUST_BACKTRACE");
    command
}

async fn ran(mut command: Command) -> Output {
    let running = tokio::task::spawn_blocking(move || command.output().unwrap());
    running.await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `paymux serve` as a process; killed when it is dropped.
struct MachineGateway(Child);

impl MachineGateway {
    fn start(stage: &DemoEnvironment, stderr: Stdio, level: &str) -> Self {
        let mut command = paymux(&["serve"], &stage.config);
        command.env("RUST_LOG", level).stderr(stderr);
        Self(command.spawn().unwrap())
    }

    /// Waits until it accepts connections; whether it came to that.
    async fn is_open(&mut self, stage: &DemoEnvironment) -> bool {
        let opening = async {
            while self.0.try_wait().unwrap().is_none() {
                let address = ("127.0.0.1", stage.ports.operations);
                if tokio::net::TcpStream::connect(address).await.is_ok() {
                    return true;
                }
            }
            false
        };
        tokio::time::timeout(WAIT_MAX, opening).await.unwrap()
    }

    fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        let sent = Command::new("kill").args([name, &id]).status().unwrap();
        assert!(sent.success());
    }

    async fn ended(&mut self) -> ExitStatus {
        let ending = async {
            loop {
                if let Some(status) = self.0.try_wait().unwrap() {
                    return status;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(WAIT_MAX, ending)
            .await
            .expect("it ends")
    }
}

impl Drop for MachineGateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
