//! The local control socket: a Unix socket beside the store that takes one line and replies with
//! one line of JSON. It is reachable on this machine only and takes no configuration: a reload
//! reads the file with which the gateway was started.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as Blocking;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::dead_lettered::{self, DEAD, RESEND};
use super::reload::ReloadScope;
use super::{manual_review, reconcile};
use crate::config::difference::ConfigDifference;
use crate::config::{CONTROL, ConfigurationOutline};
use crate::store::{Dependents, SQLITE};

/// Reloads the configuration.
pub const RELOAD: &str = "reload";
/// Shows the configuration in force.
pub const SHOW: &str = "show";

/// The longest request in bytes: the longest names the file of a statement.
const REQUEST_BYTES_MAX: u64 = 8 * 1024;
/// How long a caller may take to send its request and to read the reply.
const CALLER_WITHIN: Duration = Duration::from_secs(5);
/// The pause after a failed accept: the process may be out of files, and a loop without a pause
/// would occupy a processor.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Callers that have not sent a request yet; one more disconnects the oldest.
const IDLE_CALLERS_MAX: usize = 16;
/// Requests answered concurrently; others wait.
const REQUESTS_IN_PROGRESS_MAX: usize = 16;
/// How long a caller waits for the reply to a request.
const ANSWER_WITHIN: Duration = Duration::from_mins(1);

/// The gateway's reply.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "camelCase")]
pub enum ControlReply {
    /// A new configuration is in force.
    Accepted {
        /// The file that was read.
        file: String,
        /// Its version, which is recorded with each attempt (F2).
        version: u64,
        /// SHA-256 of the file.
        digest: String,
        /// Whether the same file was in force already.
        #[serde(default)]
        is_same_text: bool,
        /// The differences.
        changes: Vec<ConfigDifference>,
        /// Warnings for whoever runs the gateway.
        warnings: Vec<String>,
    },
    /// Rejected; nothing was changed (F1).
    Refused {
        /// The file that was read.
        file: String,
        /// Every fault, one line each.
        faults: Vec<String>,
    },
    /// The configuration in force.
    Shown {
        /// The file that was read.
        file: String,
        /// Its version.
        version: u64,
        /// SHA-256 of the file.
        digest: String,
        /// Its content, without secrets.
        outline: ConfigurationOutline,
        /// What depends on each institution, by its id.
        held: BTreeMap<String, DependentCounts>,
        /// What needs each account, as `ID at INSTITUTION`.
        held_accounts: BTreeMap<String, DependentCounts>,
    },
    /// Dead-lettered events (N2).
    Dead {
        /// How many there are.
        count: u64,
        /// The first of them.
        shown: Vec<DeadLetteredEvent>,
    },
    /// Dead-lettered events were queued again.
    Resent {
        /// How many.
        count: u64,
    },
    /// The store failed, and may have done part of it.
    Failed {
        /// The fault.
        fault: String,
    },
    /// The command is unknown.
    Unknown {
        /// The known commands.
        expected: String,
    },
}

/// What depends on an institution, so that it cannot be removed (F2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DependentCounts {
    /// Unfinished payments and refunds.
    pub unfinished: u64,
    /// Payments that ended so recently that money may still move; counted up to
    /// [`ENDED_COUNTED_MAX`](crate::store::ENDED_COUNTED_MAX).
    pub ended: u64,
}

impl From<Dependents> for DependentCounts {
    fn from(Dependents { unfinished, ended }: Dependents) -> Self {
        Self { unfinished, ended }
    }
}

/// A dead-lettered event, without personal data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetteredEvent {
    /// `eventId` of its body.
    pub event_id: String,
    /// `eventType` of its body.
    pub event_type: String,
    /// The merchant to notify.
    pub merchant_id: String,
    /// Its number in `/v1/events`.
    pub sequence: u64,
    /// What it is about.
    pub pay_order_no: String,
    /// When it was created, RFC 3339.
    pub born: String,
}

/// The control socket of the gateway on this store.
pub fn socket(store_url: &str) -> PathBuf {
    let path = store_url.strip_prefix(SQLITE).unwrap_or(store_url);
    PathBuf::from(format!("{path}{CONTROL}"))
}

/// Sends one line to the gateway on this socket and waits for the reply, for a bounded time.
///
/// # Errors
/// Nobody listens there, it belongs to another user, no reply came in time, or the reply cannot be
/// parsed.
pub fn ask<A: DeserializeOwned>(socket: &Path, word: &str) -> io::Result<A> {
    let (socket, word) = (socket.to_owned(), word.to_owned());
    let answer = within(ANSWER_WITHIN, move || {
        let mut stream = Blocking::connect(socket)?;
        stream.write_all(format!("{word}\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })?;
    serde_json::from_str(&answer).map_err(io::Error::other)
}

/// A connection on which this line was sent, in a bounded time: a hung gateway accepts nobody.
pub(super) fn connect_and_send(socket: &Path, line: String) -> io::Result<Blocking> {
    let socket = socket.to_owned();
    within(ANSWER_WITHIN, move || {
        let mut stream = Blocking::connect(socket)?;
        stream.write_all(line.as_bytes())?;
        Ok(stream)
    })
}

/// Runs what may block for ever on a thread of its own, which ends with the process.
fn within<T: Send + 'static>(
    limit: Duration,
    run: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = channel();
    let run = move || drop(sender.send(run()));
    std::thread::Builder::new()
        .name("control".into())
        .spawn(run)?;
    receiver.recv_timeout(limit).unwrap_or_else(|_| {
        let why = format!("nothing within {} s", limit.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, why))
    })
}

/// The bound socket; dropping it removes its file.
pub(super) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    owner: u32,
}

impl ControlSocket {
    /// Binds it for its owner only. A socket file of a dead process is removed: whoever holds the
    /// store's lock is the only one who can be listening.
    ///
    /// # Errors
    /// The path is too long for a socket, or another kind of file is there.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
            Ok(_) => return Err(io::Error::other("a file that is not a socket is there")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        let owner = std::fs::metadata(path)?.uid();
        Ok(Self {
            listener,
            path: path.to_owned(),
            owner,
        })
    }

    /// Serves callers until told to stop, then finishes replies in progress. Each caller has a task
    /// of its own: one that is silent, or does not read its reply, delays nobody.
    pub(super) async fn serve(self, reloading: Arc<ReloadScope>, mut stop: watch::Receiver<bool>) {
        let (mut silent, mut reading) = (VecDeque::new(), JoinSet::new());
        let mut answering = JoinSet::new();
        loop {
            let has_slot = answering.len() < REQUESTS_IN_PROGRESS_MAX;
            let mut stopped = stop.clone();
            tokio::select! {
                next = caller(|| self.listener.accept(), &mut stop, ACCEPT_PAUSE), if has_slot => {
                    let Some((stream, _)) = next else {
                        break;
                    };
                    silent.retain(|task: &AbortHandle| !task.is_finished());
                    if silent.len() >= IDLE_CALLERS_MAX && let Some(oldest) = silent.pop_front() {
                        oldest.abort();
                    }
                    silent.push_back(reading.spawn(read_request(stream, self.owner)));
                }
                Some(joined) = reading.join_next() => {
                    if let Ok(Some(request)) = joined {
                        answering.spawn(answer(request, Arc::clone(&reloading)));
                    }
                }
                Some(_) = answering.join_next() => (),
                _ = stopped.wait_for(|stop| *stop) => break,
            }
        }
        reading.shutdown().await;
        while answering.join_next().await.is_some() {}
    }
}

/// A caller's request, and who it is.
struct ControlRequest {
    stream: UnixStream,
    word: String,
    by: String,
}

/// Reads a caller's request; `None` if none comes in time, or it is another user.
async fn read_request(mut stream: UnixStream, owner: u32) -> Option<ControlRequest> {
    // The file's mode ensures this too; this check also covers the moment before the mode is set.
    let caller = stream.peer_cred().map(|caller| caller.uid());
    let Some(caller) = caller.ok().filter(|uid| *uid == owner || *uid == 0) else {
        tracing::warn!("a call of the control socket by another user was refused");
        return None;
    };
    let word = timeout(CALLER_WITHIN, read_line(&mut stream))
        .await
        .ok()??;
    Some(ControlRequest {
        stream,
        word,
        by: format!("local:uid={caller}"),
    })
}

async fn answer(request: ControlRequest, reloading: Arc<ReloadScope>) {
    let ControlRequest {
        mut stream,
        word,
        by,
    } = request;
    if let Some(line) = word.strip_prefix(reconcile::REQUEST_PREFIX) {
        // It takes a while, so it runs in the background.
        return reloading.reconciler.begin(line, by, stream);
    }
    if let Some(line) = word.strip_prefix(manual_review::REQUEST_PREFIX) {
        return send_reply(
            &mut stream,
            &manual_review::answer(&reloading, line, by).await,
        )
        .await;
    }
    let reply = match word.as_str() {
        RELOAD => reloading.reload(&by).await,
        SHOW => reloading.shown().await,
        line => {
            let answer = answer_events(&reloading, line, &by).await;
            answer.unwrap_or_else(|| ControlReply::Unknown {
                expected: format!("{RELOAD}, {SHOW}, {DEAD}, {RESEND}, people or reconcile"),
            })
        }
    };
    send_reply(&mut stream, &reply).await;
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // The next start would remove it too.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Sends a one-line reply.
async fn send_reply(stream: &mut UnixStream, reply: &impl Serialize) {
    let answer = serde_json::to_string(reply).unwrap_or_default() + "\n";
    let answered = timeout(CALLER_WITHIN, stream.write_all(answer.as_bytes())).await;
    if !matches!(answered, Ok(Ok(()))) {
        tracing::warn!("a caller of the control socket did not read the reply");
    }
}

/// The next caller; `None` once told to stop. A failed accept is tried again, and logged once in a
/// row.
async fn caller<T, F: Future<Output = io::Result<T>>>(
    mut accept: impl FnMut() -> F,
    stop: &mut watch::Receiver<bool>,
    pause: Duration,
) -> Option<T> {
    let mut failures = 0_u64;
    loop {
        let accepted = tokio::select! {
            accepted = accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return None,
        };
        match accepted {
            Ok(caller) => {
                if failures > 0 {
                    tracing::warn!(failures, "the control socket accepts callers again");
                }
                return Some(caller);
            }
            Err(error) => {
                if failures == 0 {
                    tracing::error!(%error, "the control socket cannot accept; trying again");
                }
                failures = failures.saturating_add(1);
                if timeout(pause, stop.wait_for(|stop| *stop)).await.is_ok() {
                    return None;
                }
            }
        }
    }
}

/// Answers a request about dead-lettered events; `None` if it is another request.
async fn answer_events(reloading: &ReloadScope, line: &str, by: &str) -> Option<ControlReply> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let which = dead_lettered::parse_filter(rest)?;
    let outbox = &*reloading.store.outbox;
    let (clock, signals) = (&*reloading.clock, &*reloading.worker_signals);
    match word {
        DEAD => Some(dead_lettered::dead(outbox, &which).await),
        RESEND => Some(dead_lettered::resend(outbox, clock, signals, &which, by).await),
        _ => None,
    }
}

/// One line, if one can be read.
async fn read_line(stream: &mut UnixStream) -> Option<String> {
    let mut limited = stream.take(REQUEST_BYTES_MAX);
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        match limited.read_u8().await {
            Ok(byte) => line.push(byte),
            Err(_) => break,
        }
    }
    let line = String::from_utf8(line).ok()?;
    Some(line.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F1: a request to a hung gateway times out.
    #[test]
    fn a_request_to_a_hung_gateway_times_out() {
        let never = std::sync::Barrier::new(2);
        let stuck = move || Ok(never.wait().is_leader());
        let fault = within(Duration::from_millis(10), stuck).unwrap_err();
        assert_eq!(fault.kind(), io::ErrorKind::TimedOut);
        assert_eq!(within(ANSWER_WITHIN, || Ok(7)).unwrap(), 7);
    }

    /// F1: after a failed accept the next caller is accepted; a stop ends the wait, also while
    /// accepts fail.
    #[tokio::test]
    async fn a_failing_accept_is_retried() {
        let (stopper, mut stop) = watch::channel(false);
        let mut failures_left = 3_u32;
        let third = || {
            failures_left -= 1;
            let taken = if failures_left == 0 {
                Ok("caller")
            } else {
                Err(io::Error::other("too many open files"))
            };
            std::future::ready(taken)
        };
        let taken = caller(third, &mut stop, Duration::ZERO).await;
        assert_eq!(taken, Some("caller"));
        assert_eq!(failures_left, 0);
        stopper.send_replace(true);
        let never = || std::future::ready(Err::<(), _>(io::Error::other("too many open files")));
        let long = Duration::from_hours(24);
        assert_eq!(caller(never, &mut stop, long).await, None);
    }
}
