//! A door for the gateway's own owner: a Unix socket beside the store, which takes one line and
//! answers with one line of JSON. Never leaves the machine, and takes no configuration: the file
//! is read where the gateway was started on it.

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
use super::{SQLITE, manual_review, reconcile};
use crate::config::difference::ConfigDifference;
use crate::config::{CONTROL, ConfigurationOutline};
use crate::store::Dependents;

/// Reads the file again.
pub const RELOAD: &str = "reload";
/// Says what is in force.
pub const SHOW: &str = "show";

/// Bytes of a question: the longest names the file of a statement.
const REQUEST_BYTES_MAX: u64 = 8 * 1024;
/// How long a caller may take to ask, and to take the answer.
const CALLER_WITHIN: Duration = Duration::from_secs(5);
/// How long nobody is taken after taking somebody failed: it may be that no file can be opened now,
/// and a loop without a pause would take a processor.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Callers that have not asked yet: where one more comes, the oldest is cut off.
const IDLE_CALLERS_MAX: usize = 16;
/// Callers that are answered at once; others wait for one of them to end.
const REQUESTS_IN_PROGRESS_MAX: usize = 16;
/// How long a reload may take before whoever asked gives up waiting for its answer.
const ANSWER_WITHIN: Duration = Duration::from_mins(1);

/// What the gateway answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "camelCase")]
pub enum ControlReply {
    /// Another configuration is in force.
    Accepted {
        /// The file that was read.
        file: String,
        /// Its version, which is recorded with each attempt (F2).
        version: u64,
        /// SHA-256 of its text.
        digest: String,
        /// Whether that was in force already.
        #[serde(default)]
        is_same_text: bool,
        /// What is not as before.
        changes: Vec<ConfigDifference>,
        /// What an operator should know.
        warnings: Vec<String>,
    },
    /// Nothing was changed (F1).
    Refused {
        /// The file that was read.
        file: String,
        /// Everything that is wrong, one line each.
        faults: Vec<String>,
    },
    /// What is in force.
    Shown {
        /// The file that was read.
        file: String,
        /// Its version.
        version: u64,
        /// SHA-256 of its text.
        digest: String,
        /// What it says, without secrets.
        outline: ConfigurationOutline,
        /// What needs each institution, by its id.
        held: BTreeMap<String, DependentCounts>,
        /// What needs each account, as `ID at INSTITUTION`.
        held_accounts: BTreeMap<String, DependentCounts>,
    },
    /// Events that were given up (N2).
    Dead {
        /// How many there are.
        count: u64,
        /// The first of them.
        shown: Vec<DeadLetteredEvent>,
    },
    /// Dead events are on their way again.
    Resent {
        /// How many.
        count: u64,
    },
    /// The store did not do it, or not all of it.
    Failed {
        /// What is wrong with it.
        fault: String,
    },
    /// The word was not known.
    Unknown {
        /// What would have been.
        expected: String,
    },
}

/// What needs an institution, so that it cannot be taken out (F2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DependentCounts {
    /// Payments and refunds that are not over.
    pub unfinished: u64,
    /// Payments that ended so lately that money may still come or go back; counted up to
    /// [`ENDED_COUNTED_MAX`](crate::store::ENDED_COUNTED_MAX).
    pub ended: u64,
}

impl From<Dependents> for DependentCounts {
    fn from(Dependents { unfinished, ended }: Dependents) -> Self {
        Self { unfinished, ended }
    }
}

/// An event that was given up. Nothing personal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetteredEvent {
    /// `eventId` of its body.
    pub event_id: String,
    /// `eventType` of its body.
    pub event_type: String,
    /// Who was to be told.
    pub merchant_id: String,
    /// Its number in `/v1/events`.
    pub sequence: u64,
    /// What it is about.
    pub pay_order_no: String,
    /// When it was born, RFC 3339.
    pub born: String,
}

/// Where the gateway on this store listens for its owner.
pub fn socket(store_url: &str) -> PathBuf {
    let path = store_url.strip_prefix(SQLITE).unwrap_or(store_url);
    PathBuf::from(format!("{path}{CONTROL}"))
}

/// Asks the gateway on this socket one line and waits for its answer, a bounded time.
///
/// # Errors
/// Nobody listens there, it belongs to somebody else, no answer came in time, or what came back is
/// none.
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

/// A connection on which this line was asked, in a bounded time: a gateway that stands still takes
/// nobody on.
pub(super) fn asking(socket: &Path, line: String) -> io::Result<Blocking> {
    let socket = socket.to_owned();
    within(ANSWER_WITHIN, move || {
        let mut stream = Blocking::connect(socket)?;
        stream.write_all(line.as_bytes())?;
        Ok(stream)
    })
}

/// Does what may wait for ever on a thread of its own, which ends with the process.
fn within<T: Send + 'static>(
    limit: Duration,
    run: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (tell, told) = channel();
    let run = move || drop(tell.send(run()));
    std::thread::Builder::new()
        .name("control".into())
        .spawn(run)?;
    told.recv_timeout(limit).unwrap_or_else(|_| {
        let why = format!("nothing within {} s", limit.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, why))
    })
}

/// The socket, bound; its file goes when this does.
pub(super) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    owner: u32,
}

impl ControlSocket {
    /// Binds it for its owner only. What a dead process left there is taken away: whoever holds the
    /// store's lock is the only one who can be listening.
    ///
    /// # Errors
    /// The path is too long for a socket, or something else lies there.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
            Ok(_) => return Err(io::Error::other("something that is no socket lies there")),
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

    /// Takes callers until told to stop, then ends the answers that are begun. Each has a task of its
    /// own: who is silent, or does not take the answer, delays nobody.
    pub(super) async fn serve(self, reloading: Arc<ReloadScope>, mut stop: watch::Receiver<bool>) {
        let (mut silent, mut asking) = (VecDeque::new(), JoinSet::new());
        let mut answering = JoinSet::new();
        loop {
            let has_room = answering.len() < REQUESTS_IN_PROGRESS_MAX;
            let mut stopped = stop.clone();
            tokio::select! {
                next = caller(|| self.listener.accept(), &mut stop, ACCEPT_PAUSE), if has_room => {
                    let Some((stream, _)) = next else {
                        break;
                    };
                    silent.retain(|task: &AbortHandle| !task.is_finished());
                    if silent.len() >= IDLE_CALLERS_MAX && let Some(oldest) = silent.pop_front() {
                        oldest.abort();
                    }
                    silent.push_back(asking.spawn(asked(stream, self.owner)));
                }
                Some(came) = asking.join_next() => {
                    if let Ok(Some(asked)) = came {
                        answering.spawn(answer(asked, Arc::clone(&reloading)));
                    }
                }
                Some(_) = answering.join_next() => (),
                _ = stopped.wait_for(|stop| *stop) => break,
            }
        }
        asking.shutdown().await;
        while answering.join_next().await.is_some() {}
    }
}

/// What a caller asked, and who he is.
struct ControlRequest {
    stream: UnixStream,
    word: String,
    by: String,
}

/// Waits for a caller's question; nothing if he has none in time, or is somebody else.
async fn asked(mut stream: UnixStream, owner: u32) -> Option<ControlRequest> {
    // The mode of the file says the same; this holds also in the moment before it is set.
    let caller = stream.peer_cred().map(|caller| caller.uid());
    let Some(caller) = caller.ok().filter(|uid| *uid == owner || *uid == 0) else {
        tracing::warn!("somebody else's call of the control socket was refused");
        return None;
    };
    let word = timeout(CALLER_WITHIN, question(&mut stream)).await.ok()??;
    Some(ControlRequest {
        stream,
        word,
        by: format!("operator:uid={caller}"),
    })
}

async fn answer(asked: ControlRequest, reloading: Arc<ReloadScope>) {
    let ControlRequest {
        mut stream,
        word,
        by,
    } = asked;
    if let Some(asked) = word.strip_prefix(reconcile::REQUEST_PREFIX) {
        // Takes a while, so it is not waited for.
        return reloading.reconciler.begin(asked, by, stream);
    }
    if let Some(asked) = word.strip_prefix(manual_review::REQUEST_PREFIX) {
        return tell(
            &mut stream,
            &manual_review::answer(&reloading, asked, by).await,
        )
        .await;
    }
    let reply = match word.as_str() {
        RELOAD => reloading.reload(&by).await,
        SHOW => reloading.shown().await,
        asked => {
            let answer = answer_events(&reloading, asked, &by).await;
            answer.unwrap_or_else(|| ControlReply::Unknown {
                expected: format!("{RELOAD}, {SHOW}, {DEAD}, {RESEND}, people or reconcile"),
            })
        }
    };
    tell(&mut stream, &reply).await;
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // The next start takes it away as well.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Answers with one line.
async fn tell(stream: &mut UnixStream, reply: &impl Serialize) {
    let answer = serde_json::to_string(reply).unwrap_or_default() + "\n";
    let answered = timeout(CALLER_WITHIN, stream.write_all(answer.as_bytes())).await;
    if !matches!(answered, Ok(Ok(()))) {
        tracing::warn!("whoever called the control socket did not take the answer");
    }
}

/// The next caller; nothing once told to stop. What fails is tried again, and said once in a row.
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
                    tracing::warn!(failures, "the control socket takes callers again");
                }
                return Some(caller);
            }
            Err(error) => {
                if failures == 0 {
                    tracing::error!(%error, "the control socket takes nobody; trying again");
                }
                failures = failures.saturating_add(1);
                if timeout(pause, stop.wait_for(|stop| *stop)).await.is_ok() {
                    return None;
                }
            }
        }
    }
}

/// Answers what is asked about dead events; `None` if it is something else.
async fn answer_events(reloading: &ReloadScope, asked: &str, by: &str) -> Option<ControlReply> {
    let (word, rest) = asked.split_once(' ').unwrap_or((asked, ""));
    let which = dead_lettered::meant(rest)?;
    let (store, clock) = (&*reloading.store, &*reloading.clock);
    match word {
        DEAD => Some(dead_lettered::dead(store, &which).await),
        RESEND => Some(dead_lettered::resend(store, clock, (&which, by)).await),
        _ => None,
    }
}

/// One line, or nothing.
async fn question(stream: &mut UnixStream) -> Option<String> {
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

    /// F1: whoever asks a gateway that stands still is told so after a while.
    #[test]
    fn a_request_to_a_hung_gateway_times_out() {
        let never = std::sync::Barrier::new(2);
        let stuck = move || Ok(never.wait().is_leader());
        let told = within(Duration::from_millis(10), stuck).unwrap_err();
        assert_eq!(told.kind(), io::ErrorKind::TimedOut);
        assert_eq!(within(ANSWER_WITHIN, || Ok(7)).unwrap(), 7);
    }

    /// F1: a socket that could not take a caller takes the next one; a stop ends the waiting, also
    /// while nothing can be taken.
    #[tokio::test]
    async fn a_failing_accept_is_retried() {
        let (tell, mut stop) = watch::channel(false);
        let mut left = 3_u32;
        let third = || {
            left -= 1;
            let taken = if left == 0 {
                Ok("caller")
            } else {
                Err(io::Error::other("too many open files"))
            };
            std::future::ready(taken)
        };
        let taken = caller(third, &mut stop, Duration::ZERO).await;
        assert_eq!(taken, Some("caller"));
        assert_eq!(left, 0);
        tell.send_replace(true);
        let never = || std::future::ready(Err::<(), _>(io::Error::other("too many open files")));
        let long = Duration::from_hours(24);
        assert_eq!(caller(never, &mut stop, long).await, None);
    }
}
