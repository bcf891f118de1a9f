//! The body of a request, as its head framed it: whole, within bounds of bytes and time, or refused.
//!
//! A chunk is a size, its bytes and two line ends, and nothing else: extensions and trailers say
//! nothing that anybody here reads, and are where programs differ (`docs/divergences.md`).

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use pingora_core::protocols::Stream;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};

use super::Bounds;
use super::head::Framing;
use crate::domain::refusal::Refusal;

/// Capacity reserved for a read; most requests arrive whole in one.
pub(super) const READ_BYTES: usize = 4096;
/// How long a body may take before its rate is checked.
const RATE_COUNTS_AFTER: Duration = Duration::from_secs(2);
/// Digits of a chunk's size: 4 GiB, far over any bound of a body.
const SIZE_DIGITS_MAX: usize = 8;

/// Why there is no body.
pub(super) enum ReadFailure {
    /// The client has disconnected.
    Disconnected,
    /// The client is answered with the reason.
    Refused(Refusal),
}

/// Reads the body that follows in `read` and then from the stream. What comes after it stays in
/// `read`.
pub(super) async fn read_body(
    stream: &mut Stream,
    read: &mut BytesMut,
    framing: Framing,
    bounds: &Bounds,
) -> Result<Bytes, ReadFailure> {
    let mut deadline = BodyDeadline::new(bounds);
    match framing {
        Framing::Length(length) => {
            while read.len() < length {
                read.reserve(length.saturating_sub(read.len()).max(READ_BYTES));
                let already = read.len();
                deadline.more(stream, read, already).await?;
            }
            Ok(read.split_to(length).freeze())
        }
        Framing::Chunked => {
            let mut chunks = ChunkedBody::default();
            loop {
                match chunks.take(read, bounds.body_bytes_max) {
                    Ok(true) => return Ok(chunks.body.freeze()),
                    Ok(false) => (),
                    Err(refusal) => return Err(ReadFailure::Refused(refusal)),
                }
                read.reserve(READ_BYTES);
                deadline.more(stream, read, chunks.body.len()).await?;
            }
        }
    }
}

/// How long a body may still take: all its time, or less where it arrives too slowly.
struct BodyDeadline {
    began: Option<Instant>,
    within: Duration,
    rate_min: u32,
}

impl BodyDeadline {
    fn new(bounds: &Bounds) -> Self {
        Self {
            began: None,
            within: bounds.body_within,
            rate_min: bounds.body_rate_min,
        }
    }

    /// Reads once more, after `received` bytes.
    async fn more(
        &mut self,
        stream: &mut Stream,
        read: &mut BytesMut,
        received: usize,
    ) -> Result<(), ReadFailure> {
        let began = *self.began.get_or_insert_with(Instant::now);
        let earned = u64::try_from(received)
            .unwrap_or(u64::MAX)
            .saturating_mul(1_000)
            .checked_div(u64::from(self.rate_min))
            .map_or(self.within, Duration::from_millis);
        let allowed = RATE_COUNTS_AFTER.saturating_add(earned).min(self.within);
        let by = began.checked_add(allowed).unwrap_or(began);
        match timeout_at(by, stream.read_buf(read)).await {
            Ok(Ok(1..)) => Ok(()),
            Ok(Ok(0) | Err(_)) => Err(ReadFailure::Disconnected),
            Err(_) => Err(ReadFailure::Refused(Refusal::TooSlow)),
        }
    }
}

/// A chunked body, as far as it has arrived (RFC 9112, 7.1).
#[derive(Default)]
struct ChunkedBody {
    body: BytesMut,
    next: ChunkPart,
}

/// What must come next.
#[derive(Default, Clone, Copy)]
enum ChunkPart {
    #[default]
    Size,
    Bytes(usize),
    BytesEnd,
    LastEnd,
}

impl ChunkedBody {
    /// Takes what has arrived; whether that was all.
    fn take(&mut self, read: &mut BytesMut, bytes_max: usize) -> Result<bool, Refusal> {
        loop {
            match self.next {
                ChunkPart::Size => match size(read)? {
                    None => return Ok(false),
                    Some(0) => self.next = ChunkPart::LastEnd,
                    Some(size) if self.body.len().saturating_add(size) > bytes_max => {
                        return Err(Refusal::BodyTooLarge { bytes_max });
                    }
                    Some(size) => self.next = ChunkPart::Bytes(size),
                },
                ChunkPart::Bytes(left) => {
                    let piece = read.split_to(left.min(read.len()));
                    self.body.extend_from_slice(&piece);
                    let left = left.saturating_sub(piece.len());
                    if left > 0 {
                        self.next = ChunkPart::Bytes(left);
                        return Ok(false);
                    }
                    self.next = ChunkPart::BytesEnd;
                }
                ChunkPart::BytesEnd => {
                    if !line_end(read, "a chunk is longer than its size")? {
                        return Ok(false);
                    }
                    self.next = ChunkPart::Size;
                }
                ChunkPart::LastEnd => return line_end(read, "trailers are not taken here"),
            }
        }
    }
}

/// The size of the next chunk, once its line is there.
fn size(read: &mut BytesMut) -> Result<Option<usize>, Refusal> {
    let wrong = Refusal::BodyUnreadable("a chunk begins with its size in hexadecimal digits");
    let digits = read
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    if digits > SIZE_DIGITS_MAX || (digits == 0 && !read.is_empty()) {
        return Err(wrong);
    }
    match read.get(digits..) {
        None | Some(b"" | b"\r") => Ok(None),
        Some([b'\r', b'\n', ..]) => {
            let line = read.split_to(digits);
            read.advance(2);
            let size = std::str::from_utf8(&line)
                .ok()
                .and_then(|text| usize::from_str_radix(text, 16).ok());
            size.map(Some).ok_or(wrong)
        }
        Some(_) => Err(wrong),
    }
}

/// Whether a line end was there, once two bytes are.
fn line_end(read: &mut BytesMut, wrong: &'static str) -> Result<bool, Refusal> {
    match read.as_ref() {
        [b'\r', b'\n', ..] => {
            read.advance(2);
            Ok(true)
        }
        [] | [b'\r'] => Ok(false),
        _ => Err(Refusal::BodyUnreadable(wrong)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fed in pieces of so many bytes: the body and what follows it, or a refusal.
    fn fed(raw: &[u8], at_once: usize) -> Result<Option<(Bytes, Bytes)>, Refusal> {
        let (mut chunks, mut read) = (ChunkedBody::default(), BytesMut::new());
        let mut whole = false;
        for piece in raw.chunks(at_once) {
            read.extend_from_slice(piece);
            if !whole {
                whole = chunks.take(&mut read, 16)?;
            }
        }
        Ok(whole.then(|| (chunks.body.freeze(), read.freeze())))
    }

    /// RFC 9112, 7.1: chunks are joined, however they arrive, and what follows is left alone.
    #[test]
    fn chunks_are_joined_however_they_arrive() {
        let raw = b"2\r\nfi\r\nB\r\nve and six.\r\n0\r\n\r\nGET /";
        for at_once in 1..=raw.len() {
            let (body, rest) = fed(raw, at_once).unwrap().unwrap();
            assert_eq!(body, "five and six.", "{at_once}");
            assert_eq!(rest, "GET /", "{at_once}");
        }
        assert!(fed(b"2\r\nfi\r\n0\r\n", 1).unwrap().is_none());
    }

    /// Q1: what two programs may read differently is refused.
    #[test]
    fn a_chunk_with_two_readings_is_refused() {
        for bad in [
            &b"\r\n\r\n"[..],
            b";x\r\n\r\n",
            b"2;x=y\r\nhi\r\n0\r\n\r\n",
            b"2;\nxx\r\nhi\r\n0\r\n\r\n",
            b"2 \r\nhi\r\n0\r\n\r\n",
            b" 2\r\nhi\r\n0\r\n\r\n",
            b"0x2\r\nhi\r\n0\r\n\r\n",
            b"+2\r\nhi\r\n0\r\n\r\n",
            b"-1\r\nhi\r\n0\r\n\r\n",
            b"2\nhi\r\n0\r\n\r\n",
            b"2\rhi\r\n0\r\n\r\n",
            b"2\r\nhi!\r\n0\r\n\r\n",
            b"2\r\nhi\n0\r\n\r\n",
            b"2\r\nhi\r\n0\r\nX: 1\r\n\r\n",
            b"2\r\nhi\r\n0\r\n\n",
            b"000000002\r\nhi\r\n0\r\n\r\n",
        ] {
            for at_once in [1, bad.len()] {
                let text = String::from_utf8_lossy(bad);
                assert!(fed(bad, at_once).is_err(), "{text:?} by {at_once}");
            }
        }
        let large = Err(Refusal::BodyTooLarge { bytes_max: 16 });
        assert_eq!(fed(b"11\r\n", 1), large);
        assert_eq!(fed(b"ffffffff\r\n", 1), large);
        assert_eq!(fed(b"10\r\n0123456789abcdef\r\n1\r\n", 3), large);
    }
}
