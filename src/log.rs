//! Where log lines go: standard error, by a thread that nobody waits for.
//!
//! A log that cannot be written stops nothing. Its reader may be gone, its disk full, its pipe
//! never emptied: then lines wait up to a bound, and what finds no room or cannot be written is
//! dropped and counted. No call in here panics, and none but [`flush`] waits, within bounds.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use crate::terminal::{self, on_one_coloured_line, on_one_line};

/// Lines that wait to be written, together. Unit: bytes.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// Bytes of one line; the rest of a longer one is left out.
const LINE_BYTES_MAX: usize = 16 << 10;

/// How long the end of the process waits for the last lines.
pub const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// Between two tries at a reader that takes no bytes just now.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Tries at such a reader before a line is dropped.
const BUSY_TRIES_MAX: u32 = 100;

struct LogQueue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The thread has lines in hand that it has not written yet.
    is_writing: bool,
}

static QUEUE: Mutex<LogQueue> = Mutex::new(LogQueue {
    lines: VecDeque::new(),
    bytes: 0,
    is_writing: false,
});
static CHANGED: Condvar = Condvar::new();
/// Whether there is a thread that writes.
static WRITER: OnceLock<bool> = OnceLock::new();
static IS_TERMINAL: LazyLock<bool> = LazyLock::new(|| terminal::are_terminals().1);
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Takes one event of the log and queues it when it is dropped.
#[derive(Default)]
pub struct LogLine(Vec<u8>);

/// A line to be written to. For the subscriber: each event is one.
pub fn line() -> LogLine {
    LogLine::default()
}

/// Whether a person sees the log as it is written.
pub fn is_seen() -> bool {
    *IS_TERMINAL
}

/// The last words of a command, behind what was logged; nobody waits for a reader that reads nothing,
/// but for the [`flush`].
pub fn say(text: &str) {
    let is_queued = queued(format!("{}\n", on_one_line(text)).into_bytes());
    if !is_queued {
        // With standard error closed as well there is nobody left to tell.
        let _ = writeln!(terminal::stderr(), "{}", on_one_line(text));
    }
}

/// Has what was logged written, within bounds, when it is dropped: also where a panic ends the
/// process.
pub struct FlushOnDrop;

impl Drop for FlushOnDrop {
    fn drop(&mut self) {
        flush(FLUSH_WITHIN);
    }
}

/// Lines that were dropped since the start: no room, or not to be written.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Waits until what was logged is written, or until it has taken too long. Before the process ends.
pub fn flush(within: Duration) {
    let is_busy = |queue: &mut LogQueue| {
        let is_written = WRITER.get().is_some_and(|is_written| *is_written);
        is_written && (queue.is_writing || !queue.lines.is_empty())
    };
    // Whatever became of it: the lines were offered.
    let _ = CHANGED.wait_timeout_while(queue(), within, is_busy);
}

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = LINE_BYTES_MAX.saturating_sub(self.0.len());
        self.0.extend(bytes.iter().take(room));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        if self.0.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(&self.0);
        queued(shown(&text, is_seen()).into_bytes());
    }
}

/// One event on one line. What it quotes may be anybody's: the names in a certificate, for one.
fn shown(text: &str, is_seen: bool) -> String {
    let text = text.trim_end_matches('\n');
    let mut line = if is_seen {
        on_one_coloured_line(text)
    } else {
        on_one_line(text).into_owned()
    };
    line.push('\n');
    line
}

/// Queues a line, or drops and counts it where there is no room; false where nobody writes.
fn queued(line: Vec<u8>) -> bool {
    let is_written = *WRITER.get_or_init(begin);
    let mut queue = queue();
    let bytes = queue.bytes.saturating_add(line.len());
    if bytes > WAITING_BYTES_MAX {
        drop(queue);
        DROPPED.fetch_add(1, Ordering::Relaxed);
        return is_written;
    }
    queue.bytes = bytes;
    queue.lines.push_back(line);
    drop(queue);
    CHANGED.notify_all();
    is_written
}

fn queue() -> MutexGuard<'static, LogQueue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Without the thread lines wait, and then are dropped and counted: no reason to stop either.
fn begin() -> bool {
    let writer = thread::Builder::new().name("log".into()).spawn(write);
    writer.is_ok()
}

fn write() {
    let mut is_torn = false;
    loop {
        let is_idle = |queue: &mut LogQueue| queue.lines.is_empty();
        let waited = CHANGED.wait_while(queue(), is_idle);
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner);
        let lines = std::mem::take(&mut queue.lines);
        queue.is_writing = true;
        drop(queue);
        for line in lines {
            is_torn = put(&mut io::stderr().lock(), &line, is_torn);
            let mut queue = self::queue();
            queue.bytes = queue.bytes.saturating_sub(line.len());
        }
        self::queue().is_writing = false;
        CHANGED.notify_all();
    }
}

/// Writes one line, after the end of one that was torn; whether this one was.
fn put(out: &mut dyn Write, line: &[u8], is_torn: bool) -> bool {
    if is_torn && !matches!(whole(out, b"\n"), Ok(())) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
        return true;
    }
    match whole(out, line) {
        Ok(()) => false,
        Err(left) => {
            DROPPED.fetch_add(1, Ordering::Relaxed);
            left < line.len()
        }
    }
}

/// All of it, or how much of it is left.
fn whole(out: &mut dyn Write, bytes: &[u8]) -> Result<(), usize> {
    let (mut rest, mut tries) = (bytes, 0_u32);
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(0) => return Err(rest.len()),
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            Err(error) if error.kind() == ErrorKind::WouldBlock && tries < BUSY_TRIES_MAX => {
                tries = tries.saturating_add(1);
                thread::park_timeout(BUSY_PAUSE);
            }
            Err(_) => return Err(rest.len()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that is full after so many bytes.
    struct FullDisk(Vec<u8>, usize);

    impl Write for FullDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = self.1.saturating_sub(self.0.len());
            let taken = &bytes[..bytes.len().min(room)];
            if taken.is_empty() {
                return Err(ErrorKind::StorageFull.into());
            }
            self.0.extend(taken);
            Ok(taken.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// D1: a name that somebody put into a certificate, and that the TLS library quotes as it is, moves
    /// no cursor and begins no line of its own; the colours of a terminal stay.
    #[test]
    fn control_characters_of_a_certificates_name_are_escaped_in_the_log() {
        let name = "DnsName(\"a\u{1b}[2J\u{1b}]0;x\u{7}\r\nERROR paid\u{202e}\")";
        let fault =
            rustls::Error::InvalidCertificate(rustls::CertificateError::NotValidForNameContext {
                expected: rustls::pki_types::ServerName::try_from("b.example").unwrap(),
                presented: vec![name.to_owned()],
            });
        for is_seen in [false, true] {
            let event = format!("\u{1b}[2mINFO\u{1b}[0m reason={fault}\n");
            let line = shown(&event, is_seen);
            let (text, end) = line.split_at(line.len() - 1);
            assert_eq!(end, "\n");
            assert!(
                text.contains("a\\u001b[2J\\u001b]0;x\\u0007\\u000d\\u000aERROR"),
                "{text}"
            );
            assert!(text.contains("paid\\u202e"), "{text}");
            assert_eq!(text.matches('\u{1b}').count(), if is_seen { 2 } else { 0 });
            assert!(text.chars().all(|it| it == '\u{1b}' || !it.is_control()));
        }
    }

    /// A line that was torn by a full disk is ended before the next one, so that both can be read.
    #[test]
    fn a_torn_line_is_ended_before_the_next() {
        let mut disk = FullDisk(Vec::new(), 6);
        let torn = put(&mut disk, b"first line\n", false);
        assert!(torn && put(&mut disk, b"second\n", torn));
        disk.1 = 100;
        assert!(!put(&mut disk, b"third\n", true));
        assert_eq!(disk.0, b"first \nthird\n");
    }
}
