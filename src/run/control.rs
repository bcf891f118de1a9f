//! A door for the gateway's own owner: a Unix socket beside the store, which takes one word and
//! answers with one line of JSON. Never leaves the machine, and takes no configuration: the file
//! is read where the gateway was started on it.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as Blocking;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::reload::Reloading;
use super::{SQLITE, reconcile};
use crate::config::Outline;
use crate::config::difference::Difference;

/// Reads the file again.
pub const RELOAD: &str = "reload";
/// Says what is in force.
pub const SHOW: &str = "show";

/// Bytes of a question: the longest names the file of a statement.
const QUESTION_BYTES_MAX: u64 = 8 * 1024;
/// How long a caller may take to ask, and to take the answer.
const CALLER_WITHIN: Duration = Duration::from_secs(5);
/// How long a reload may take before whoever asked gives up waiting for its answer.
const ANSWER_WITHIN: Duration = Duration::from_mins(1);

/// What the gateway answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "camelCase")]
pub enum Reply {
    /// Another configuration is in force.
    Accepted {
        /// The file that was read.
        file: String,
        /// Its version, which is recorded with each attempt (F2).
        version: u64,
        /// SHA-256 of its text.
        digest: String,
        /// What is not as before.
        changes: Vec<Difference>,
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
        outline: Outline,
        /// Unfinished payments and refunds, by institution.
        unfinished: BTreeMap<String, u64>,
    },
    /// The word was not known.
    Unknown {
        /// What would have been.
        expected: String,
    },
}

/// Where the gateway on this store listens for its owner.
pub fn socket(store_url: &str) -> PathBuf {
    let path = store_url.strip_prefix(SQLITE).unwrap_or(store_url);
    PathBuf::from(format!("{path}.control"))
}

/// Asks the gateway on this socket one word and waits for its answer.
///
/// # Errors
/// Nobody listens there, it belongs to somebody else, or what came back is no answer.
pub fn ask(socket: &Path, word: &str) -> io::Result<Reply> {
    let mut stream = Blocking::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(format!("{word}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    serde_json::from_str(&answer).map_err(io::Error::other)
}

/// The socket, bound; its file goes when this does.
pub(super) struct Control {
    listener: UnixListener,
    path: PathBuf,
    owner: u32,
}

impl Control {
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

    /// Answers, one caller after the other, until told to stop.
    pub(super) async fn serve(self, reloading: Arc<Reloading>, mut stop: watch::Receiver<bool>) {
        loop {
            let stream = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match stream {
                Ok((stream, _)) => self.answer(stream, &reloading).await,
                Err(error) => {
                    tracing::error!(%error, "the control socket takes nobody any more");
                    return;
                }
            }
        }
    }

    async fn answer(&self, mut stream: UnixStream, reloading: &Reloading) {
        // The mode of the file says the same; this holds also in the moment before it is set.
        let caller = stream.peer_cred().map(|caller| caller.uid());
        let Some(caller) = caller.ok().filter(|uid| *uid == self.owner || *uid == 0) else {
            tracing::warn!("somebody else's call of the control socket was refused");
            return;
        };
        let Ok(Some(word)) = timeout(CALLER_WITHIN, question(&mut stream)).await else {
            return;
        };
        if let Some(asked) = word.strip_prefix(reconcile::WORD) {
            // Takes a while, so others are answered meanwhile.
            let by = format!("operator:uid={caller}");
            return reloading.reconciler.begin(asked, by, stream);
        }
        let reply = match word.as_str() {
            RELOAD => reloading.reload(&format!("operator:uid={caller}")).await,
            SHOW => reloading.shown().await,
            _ => Reply::Unknown {
                expected: format!("{RELOAD}, {SHOW} or {}", reconcile::WORD),
            },
        };
        let answer = serde_json::to_string(&reply).unwrap_or_default() + "\n";
        let answered = timeout(CALLER_WITHIN, stream.write_all(answer.as_bytes())).await;
        if !matches!(answered, Ok(Ok(()))) {
            tracing::warn!("whoever called the control socket did not take the answer");
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // The next start takes it away as well.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// One line, or nothing.
async fn question(stream: &mut UnixStream) -> Option<String> {
    let mut limited = stream.take(QUESTION_BYTES_MAX);
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
