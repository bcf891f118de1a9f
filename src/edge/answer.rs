//! An answer as bytes: head and body in one piece, so that it leaves in one write, unless the body is
//! long.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, STRICT_TRANSPORT_SECURITY};
use http::{HeaderMap, HeaderValue, Response};
use pingora_core::protocols::http::date::get_cached_date;

/// Two years, as browsers' preload lists ask.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=63072000");
/// Bytes of a header line beside its name and value, and of all that is added to what is answered.
const LINE_EXTRA: usize = 4;
const HEAD_EXTRA: usize = 256;

/// What comes between a head and its body where the client asked first.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A longer body is a piece of its own: copies of a document would be held for everybody who does not
/// take it. Unit: bytes.
const ONE_PIECE_MAX: usize = 16 << 10;

/// How an answer goes out.
#[derive(Debug, Clone, Copy)]
pub(super) struct WriteOptions {
    /// Over TLS.
    pub(super) secure: bool,
    /// The connection carries another request afterwards.
    pub(super) keep: bool,
    /// The question was `HEAD`.
    pub(super) head_only: bool,
    /// When it is written.
    pub(super) written: WriteTime,
}

/// When an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteTime {
    /// Just before it is sent, so it says when.
    Now,
    /// Long before, without a date: an answer with 5xx needs none (RFC 9110, 6.6.1), and a wrong one
    /// is worse.
    InAdvance,
}

/// Writes an answer as it goes over the wire, a long body as it is.
pub(super) fn pieces(response: Response<Bytes>, manner: WriteOptions) -> Vec<Bytes> {
    if manner.head_only || response.body().len() <= ONE_PIECE_MAX {
        return vec![encode(response, manner)];
    }
    let body = response.body().clone();
    vec![encode_head(response, manner, 0).freeze(), body]
}

/// The same, in one piece.
pub(super) fn encode(response: Response<Bytes>, manner: WriteOptions) -> Bytes {
    if manner.head_only {
        return encode_head(response, manner, 0).freeze();
    }
    let body = response.body().clone();
    let mut wire = encode_head(response, manner, body.len());
    wire.put_slice(&body);
    wire.freeze()
}

/// The head, with room for a body behind it. What the edge itself says, framing and the life of
/// the connection, replaces whatever stood there.
fn encode_head(response: Response<Bytes>, manner: WriteOptions, behind: usize) -> BytesMut {
    let (mut parts, body) = response.into_parts();
    let headers = &mut parts.headers;
    let life = if manner.keep { "keep-alive" } else { "close" };
    headers.insert(CONNECTION, HeaderValue::from_static(life));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    if manner.written == WriteTime::Now {
        headers.insert(DATE, get_cached_date());
    }
    if manner.secure {
        headers.insert(STRICT_TRANSPORT_SECURITY, HSTS);
    }
    let mut wire = BytesMut::with_capacity(room(headers, behind));
    wire.put_slice(b"HTTP/1.1 ");
    wire.put_slice(parts.status.as_str().as_bytes());
    wire.put_u8(b' ');
    let reason = parts.status.canonical_reason().unwrap_or_default();
    wire.put_slice(reason.as_bytes());
    wire.put_slice(b"\r\n");
    for (name, value) in headers.iter() {
        wire.put_slice(name.as_str().as_bytes());
        wire.put_slice(b": ");
        wire.put_slice(value.as_bytes());
        wire.put_slice(b"\r\n");
    }
    wire.put_slice(b"\r\n");
    wire
}

fn room(headers: &HeaderMap, behind: usize) -> usize {
    let lines = headers.iter().map(|(name, value)| {
        let line = name.as_str().len().saturating_add(value.len());
        line.saturating_add(LINE_EXTRA)
    });
    lines.fold(HEAD_EXTRA.saturating_add(behind), usize::saturating_add)
}
