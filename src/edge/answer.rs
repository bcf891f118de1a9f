//! A response as bytes: head and body in one piece, so that one write sends it, unless the body is long.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, STRICT_TRANSPORT_SECURITY};
use http::{HeaderMap, HeaderValue, Response};
use pingora_core::protocols::http::date::get_cached_date;

/// Two years, as browsers' preload lists require.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=63072000");
/// Bytes of a header line beside its name and value, and of all that the edge adds to a head.
const LINE_EXTRA: usize = 4;
const HEAD_EXTRA: usize = 256;

/// The interim response that the client waits for before it sends the body.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A longer body is a piece of its own: otherwise a copy of a document would be held for each client that
/// reads it slowly. Unit: bytes.
const ONE_PIECE_MAX: usize = 16 << 10;

/// How a response is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct WriteOptions {
    /// Over TLS.
    pub(super) secure: bool,
    /// The connection stays open for another request.
    pub(super) keep: bool,
    /// The request was `HEAD`.
    pub(super) head_only: bool,
    /// When it is encoded.
    pub(super) written: WriteTime,
}

/// When a response is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteTime {
    /// Just before it is sent, with a date.
    Now,
    /// Long before, without a date: a 5xx response needs none (RFC 9110, 6.6.1), and a wrong one is worse.
    InAdvance,
}

/// Encodes a response for the wire; a long body is not copied.
pub(super) fn pieces(response: Response<Bytes>, options: WriteOptions) -> Vec<Bytes> {
    if options.head_only || response.body().len() <= ONE_PIECE_MAX {
        return vec![encode(response, options)];
    }
    let body = response.body().clone();
    vec![encode_head(response, options, 0).freeze(), body]
}

/// The same, in one piece.
pub(super) fn encode(response: Response<Bytes>, options: WriteOptions) -> Bytes {
    if options.head_only {
        return encode_head(response, options, 0).freeze();
    }
    let body = response.body().clone();
    let mut wire = encode_head(response, options, body.len());
    wire.put_slice(&body);
    wire.freeze()
}

/// The head, with capacity for a body behind it. Headers that are the edge's own, framing and connection,
/// replace those of the response.
fn encode_head(response: Response<Bytes>, options: WriteOptions, behind: usize) -> BytesMut {
    let (mut parts, body) = response.into_parts();
    let headers = &mut parts.headers;
    let connection = if options.keep { "keep-alive" } else { "close" };
    headers.insert(CONNECTION, HeaderValue::from_static(connection));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    if options.written == WriteTime::Now {
        headers.insert(DATE, get_cached_date());
    }
    if options.secure {
        headers.insert(STRICT_TRANSPORT_SECURITY, HSTS);
    }
    let mut wire = BytesMut::with_capacity(capacity(headers, behind));
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

fn capacity(headers: &HeaderMap, behind: usize) -> usize {
    let lines = headers.iter().map(|(name, value)| {
        let line = name.as_str().len().saturating_add(value.len());
        line.saturating_add(LINE_EXTRA)
    });
    lines.fold(HEAD_EXTRA.saturating_add(behind), usize::saturating_add)
}
