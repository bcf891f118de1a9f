//! The programs of `docs/clients/` as processes, each run as its document says.

use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use paymux::command::demo::environment::WAIT_MAX;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::wire::{HttpAnswerer, TestServer};
use crate::tidy::tree;

/// How long a program may take; only one that hangs takes this long.
pub(super) const WHOLE: std::time::Duration = WAIT_MAX.saturating_mul(30);

/// One program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    Python,
    Node,
    Curl,
    Java,
    /// The same, compiled once: for a test that runs it often.
    Compiled,
}

/// A program's environment variables, and its directory: beside `certs/`.
#[derive(Debug, Clone)]
pub(super) struct ProgramEnvironment {
    pub(super) folder: PathBuf,
    pub(super) variables: Vec<(&'static str, String)>,
}

/// A program's output and exit status.
#[derive(Debug)]
pub(super) struct ProgramOutput {
    pub(super) status: i32,
    pub(super) out: Value,
    pub(super) err: String,
}

impl Program {
    /// The file that a reader of `docs/clients.md` sees.
    pub(super) fn file(self) -> PathBuf {
        tree::root().join("docs/clients").join(match self {
            Self::Python => "python/client.py",
            Self::Node => "node/client.mjs",
            Self::Curl => "curl/client.sh",
            Self::Java | Self::Compiled => "java/Client.java",
        })
    }

    fn command(self, around: &ProgramEnvironment) -> Command {
        let mut command = match self {
            Self::Python => Command::new(tree::root().join("target/python/bin/python")),
            Self::Node => Command::new("node"),
            Self::Curl => Command::new("bash"),
            Self::Java | Self::Compiled => Command::new("java"),
        };
        match self {
            // Node looks for modules beside the file, where builds leave nothing.
            Self::Node => command.arg(beside_its_modules(&self.file())),
            Self::Compiled => {
                command.arg("-XX:TieredStopAtLevel=1").arg("-classpath");
                command.arg(compiled(&self.file())).arg("Client")
            }
            Self::Python | Self::Curl | Self::Java => command.arg(self.file()),
        };
        // Nothing of this machine's: no proxies, no authorities, no language.
        command.env_clear().current_dir(&around.folder);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(around.variables.iter().cloned());
        command
    }

    fn spawn(self, command: &mut Command) -> Child {
        let started = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        started.unwrap_or_else(|fault| {
            panic!("{self:?} is needed here, `make setup-tests` installs it: {fault}")
        })
    }

    /// Runs it to its end.
    pub(super) async fn run(self, around: &ProgramEnvironment, words: &[&str]) -> ProgramOutput {
        let mut command = self.command(around);
        let child = self.spawn(command.args(words).stdin(Stdio::null()));
        let (status, out, err) = ended(child).await;
        ProgramOutput {
            status,
            out: serde_json::from_str(&out).unwrap_or(Value::Null),
            err,
        }
    }

    /// Lets it listen for notifications on a port, until it is dropped.
    pub(super) async fn listen(
        self,
        around: &ProgramEnvironment,
        port: u16,
    ) -> NotificationListener {
        let (line_sender, received_lines) = unbounded_channel();
        let ears = if self == Self::Curl {
            let certs = around.folder.join("certs");
            let around = around.clone();
            ListenerProcess::Handed(
                TestServer::open(
                    &certs,
                    port,
                    Arc::new(ShellServer {
                        around,
                        line_sender,
                    }),
                )
                .await,
            )
        } else {
            let mut command = self.command(around);
            ListenerProcess::Process(self.listening(command.arg("listen"), line_sender).await)
        };
        NotificationListener {
            received_lines,
            ears,
        }
    }

    async fn listening(
        self,
        command: &mut Command,
        line_sender: UnboundedSender<String>,
    ) -> KillOnDrop {
        let mut child = KillOnDrop(self.spawn(command));
        let out = child.0.stdout.take().unwrap();
        let err = child.0.stderr.take().unwrap();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut ready = Some(ready);
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                match ready.take() {
                    Some(ready) => ready.send(line).unwrap_or_default(),
                    // The receiver is gone when the test is over.
                    None => line_sender.send(line).unwrap_or_default(),
                }
            }
        });
        let errors = std::thread::spawn(move || std::io::read_to_string(err).unwrap_or_default());
        match tokio::time::timeout(WHOLE, is_ready).await {
            Ok(Ok(line)) => assert!(line.starts_with("listening"), "{line}"),
            Ok(Err(_)) => panic!("{self:?} ended: {}", errors.join().unwrap()),
            Err(late) => panic!("{self:?} does not listen: {late}"),
        }
        child
    }
}

async fn ended(child: Child) -> (i32, String, String) {
    let ending = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = tokio::time::timeout(WHOLE, ending).await;
    let output = output.expect("it ends").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let status = output.status.code().unwrap_or(-1);
    (status, text(output.stdout), text(output.stderr))
}

/// A copy beside what `make setup-tests` installed.
fn beside_its_modules(file: &Path) -> &'static Path {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| {
        let place = tree::root().join("target/node");
        assert!(
            place.join("node_modules/http-message-signatures").exists(),
            "what Node needs is not in {}: `make setup-tests` fills it",
            place.display()
        );
        let (written, copy) = (place.join("written.mjs"), place.join("client.mjs"));
        std::fs::copy(file, &written).unwrap();
        std::fs::rename(written, &copy).unwrap();
        copy
    })
}

/// The directory of its classes.
fn compiled(file: &Path) -> &'static Path {
    static CLASSES: OnceLock<PathBuf> = OnceLock::new();
    CLASSES.get_or_init(|| {
        let place = tree::root().join("target/java");
        let mut javac = Command::new("javac");
        let made = javac
            .arg("-Xlint:all,-serial")
            .arg("-Werror")
            .arg("-d")
            .arg(&place)
            .arg(file);
        let made = made
            .output()
            .expect("javac is needed here, `make setup-tests` installs it");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        place
    })
}

/// A process that is killed when its test ends.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

enum ListenerProcess {
    Process(KillOnDrop),
    Handed(TestServer),
}

/// A program that listens for notifications.
pub(super) struct NotificationListener {
    received_lines: UnboundedReceiver<String>,
    ears: ListenerProcess,
}

impl NotificationListener {
    /// Ends it; its port is free afterwards.
    pub(super) async fn ended(self) {
        match self.ears {
            ListenerProcess::Process(process) => drop(process),
            ListenerProcess::Handed(door) => door.closed().await,
        }
    }

    /// The first event that it accepted. A delivery whose sender no longer waits may end after the
    /// one that repeats it.
    pub(super) async fn first_event(&mut self) -> String {
        loop {
            let line = self.next_line().await;
            match line.split_once(' ') {
                Some(("heard", event)) => return event.to_owned(),
                Some(("repeated", _)) => (),
                Some(_) | None => panic!("{line}"),
            }
        }
    }

    /// Its next line about an accepted notification.
    pub(super) async fn next_line(&mut self) -> String {
        let line = tokio::time::timeout(WHOLE, self.received_lines.recv()).await;
        line.expect("it prints a line").expect("it goes on")
    }
}

/// A server that passes each request to the shell program, as a merchant's server would.
struct ShellServer {
    around: ProgramEnvironment,
    line_sender: UnboundedSender<String>,
}

impl HttpAnswerer for ShellServer {
    /// Goes on to its end when the caller has hung up meanwhile: the program knows the event then,
    /// and the next delivery is a repeat.
    async fn answer(self: Arc<Self>, request: Request<Bytes>) -> Option<Response<Bytes>> {
        let running = tokio::spawn(async move { self.hand(&request).await });
        Some(running.await.unwrap())
    }
}

impl ShellServer {
    async fn hand(&self, request: &Request<Bytes>) -> Response<Bytes> {
        let mut command = Program::Curl.command(&self.around);
        let mut child = Program::Curl.spawn(command.arg("notice").stdin(Stdio::piped()));
        // Small enough for a pipe. The program may end before it has read everything.
        let _ = child.stdin.take().unwrap().write_all(&captured(request));
        let (status, out, err) = ended(child).await;
        assert_eq!(status, 0, "{err}");
        for line in err.lines().filter(|line| !line.starts_with("not proven")) {
            self.line_sender.send(line.to_owned()).unwrap_or_default();
        }
        let (head, body) = out.split_once("\r\n\r\n").unwrap();
        let mut answer = Response::new(Bytes::from(body.to_owned()));
        if !head.starts_with("HTTP/1.1 200 OK") {
            *answer.status_mut() = StatusCode::UNAUTHORIZED;
        }
        answer
    }
}

/// A request as it was sent.
fn captured(request: &Request<Bytes>) -> Vec<u8> {
    let (method, target) = (request.method(), request.uri());
    let mut bytes = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    for (name, value) in request.headers() {
        bytes.extend(format!("{name}: ").bytes());
        bytes.extend(value.as_bytes());
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"\r\n");
    bytes.extend(request.body());
    bytes
}
