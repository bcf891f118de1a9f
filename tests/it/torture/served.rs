//! `paymux serve` as a process that is killed, never stopped.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use paymux::command::demo::environment::{DemoEnvironment, WAIT_MAX};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Kills the process from wherever a kill point is observed.
#[derive(Clone)]
pub(super) struct KillSwitch(Arc<Mutex<Child>>);

impl KillSwitch {
    /// SIGKILL: no cleanup, no output. Repeating it has no effect.
    pub(super) fn kill(&self) {
        let _ = self.0.lock().unwrap().kill();
    }
}

/// A running gateway; killed on drop.
pub(super) struct TortureGateway {
    child: KillSwitch,
    listens: watch::Receiver<bool>,
    log: Option<JoinHandle<()>>,
}

impl TortureGateway {
    /// Starts it. Its output is appended to `serve.log` beside its configuration.
    pub(super) fn spawn(stage: &DemoEnvironment) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_paymux"))
            .arg("serve")
            .arg("--config")
            .arg(&stage.config)
            .env("RUST_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stderr.take().unwrap());
        let log = stage.config.with_file_name("serve.log");
        let mut log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        let (listens, is_listening) = watch::channel(false);
        let log = tokio::task::spawn_blocking(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = writeln!(log, "{line}");
                if line.contains("listening") && line.contains("operations") {
                    listens.send_replace(true);
                }
            }
        });
        Self {
            child: KillSwitch(Arc::new(Mutex::new(child))),
            listens: is_listening,
            log: Some(log),
        }
    }

    /// Starts it and waits until it listens; returns how long that took.
    pub(super) async fn start(stage: &DemoEnvironment) -> Result<(Self, Duration), String> {
        let begun = tokio::time::Instant::now();
        let served = Self::spawn(stage);
        let mut listens = served.listens.clone();
        let listening = listens.wait_for(|listens| *listens);
        match tokio::time::timeout(WAIT_MAX, listening).await {
            Ok(Ok(_)) => Ok((served, begun.elapsed())),
            _ => Err("S1: it does not start again; see serve.log".to_owned()),
        }
    }

    pub(super) fn killer(&self) -> KillSwitch {
        self.child.clone()
    }

    pub(super) fn kill(&self) {
        self.child.kill();
    }

    /// Sends it a signal of this name.
    pub(super) fn signal(&self, name: &str) {
        let id = self.child.0.lock().unwrap().id().to_string();
        let sent = Command::new("kill").args([name, &id]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until the process and its output have ended; returns whether it never listened.
    pub(super) async fn ended(mut self) -> bool {
        let child = self.killer();
        let ending = move || child.0.lock().unwrap().wait().unwrap();
        tokio::task::spawn_blocking(ending).await.unwrap();
        if let Some(log) = self.log.take() {
            log.await.unwrap();
        }
        !*self.listens.borrow()
    }
}

impl Drop for TortureGateway {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.0.lock().unwrap().wait();
    }
}
