//! Log output: written to standard error by a background thread.
//!
//! A log that cannot be written blocks nothing. If the reader is gone, the disk full or the pipe
//! not read, lines are queued up to a limit; when the queue is full or a write fails, the line is
//! dropped and counted. No function here panics, and only [`flush`] waits, for a limited time.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use crate::terminal::{self, on_one_coloured_line, on_one_line};

/// Total size of the queued lines. Unit: bytes.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// Size of one line; a longer one is truncated. Unit: bytes.
const LINE_BYTES_MAX: usize = 16 << 10;

/// How long process exit waits for the last lines.
pub const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// Pause between two attempts when the reader accepts no bytes (`WouldBlock`).
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Attempts before a line is dropped.
const BUSY_TRIES_MAX: u32 = 100;

struct LogQueue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The thread has taken lines that it has not written yet.
    is_writing: bool,
}

static QUEUE: Mutex<LogQueue> = Mutex::new(LogQueue {
    lines: VecDeque::new(),
    bytes: 0,
    is_writing: false,
});
static CHANGED: Condvar = Condvar::new();
/// Whether the writer thread was started.
static WRITER: OnceLock<bool> = OnceLock::new();
static IS_TERMINAL: LazyLock<bool> = LazyLock::new(|| terminal::are_terminals().1);
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Collects one log event, and queues it on drop.
#[derive(Default)]
pub struct LogLine(Vec<u8>);

/// A new line for the tracing subscriber, which asks for one per event.
pub fn line() -> LogLine {
    LogLine::default()
}

/// Whether the log goes to a terminal.
pub fn is_seen() -> bool {
    *IS_TERMINAL
}

/// Writes a command's final message, after what was logged. Does not wait for the reader; [`flush`]
/// does.
pub fn say(text: &str) {
    let has_writer = queued(format!("{}\n", on_one_line(text)).into_bytes());
    if !has_writer {
        // If standard error is closed as well, the message cannot be shown.
        let _ = writeln!(terminal::stderr(), "{}", on_one_line(text));
    }
}

/// Flushes the log on drop, also when a panic unwinds.
pub struct FlushOnDrop;

impl Drop for FlushOnDrop {
    fn drop(&mut self) {
        flush(FLUSH_WITHIN);
    }
}

/// Lines dropped since the start: the queue was full, or a write failed.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Waits until the queue is written, at most `within`. Called before the process exits.
pub fn flush(within: Duration) {
    let is_busy = |queue: &mut LogQueue| {
        let has_writer = WRITER.get().is_some_and(|has_writer| *has_writer);
        has_writer && (queue.is_writing || !queue.lines.is_empty())
    };
    // A timeout is ignored: nothing more can be done for these lines.
    let _ = CHANGED.wait_timeout_while(queue(), within, is_busy);
}

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let available = LINE_BYTES_MAX.saturating_sub(self.0.len());
        self.0.extend(bytes.iter().take(available));
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

/// Formats one event as one line. It may quote untrusted text, such as the names in a certificate.
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

/// Queues a line, or drops and counts it if the queue is full. False without a writer thread.
fn queued(line: Vec<u8>) -> bool {
    let has_writer = *WRITER.get_or_init(begin);
    let mut queue = queue();
    let bytes = queue.bytes.saturating_add(line.len());
    if bytes > WAITING_BYTES_MAX {
        drop(queue);
        DROPPED.fetch_add(1, Ordering::Relaxed);
        return has_writer;
    }
    queue.bytes = bytes;
    queue.lines.push_back(line);
    drop(queue);
    CHANGED.notify_all();
    has_writer
}

fn queue() -> MutexGuard<'static, LogQueue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the writer thread. Without it, lines are queued, then dropped and counted; the process
/// goes on.
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

/// Writes one line, first ending the previous one if that was torn. Returns whether this one is
/// torn.
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

/// Writes all bytes, or returns how many are left.
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

    /// A disk that is full after this many bytes.
    struct FullDisk(Vec<u8>, usize);

    impl Write for FullDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let free = self.1.saturating_sub(self.0.len());
            let taken = &bytes[..bytes.len().min(free)];
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

    /// D1: a name in a certificate, which the TLS library quotes verbatim, cannot move the cursor
    /// or start a new line; terminal colours are kept.
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

    /// A line torn by a full disk is ended before the next one, so that both are readable.
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
