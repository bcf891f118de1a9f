//! The head of a request: read in one way, or refused.
//!
//! Two programs that read one request differently are how requests are smuggled; whatever has two
//! readings (RFC 9112, 2.2, 5.1, 6.1, 6.3, 11.2) is answered with 400. Inspecting allocates nothing, so
//! that rejecting a request costs next to nothing; an admitted one is parsed afterwards.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

use crate::domain::refusal::Refusal;

/// How the body is framed (RFC 9112, 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes; 0 where the head says nothing.
    Length(usize),
    /// In chunks.
    Chunked,
}

/// What a head says, by position. Read before anything is decided about the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestHead {
    /// Of the head, empty line included. Unit: bytes.
    pub(super) bytes: usize,
    /// How the body is framed.
    pub(super) framing: Framing,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(super) waits_for_continue: bool,
    /// Whether the client wants the connection closed after the answer.
    pub(super) closes: bool,
    method: Range<usize>,
    target: Range<usize>,
    lines: usize,
}

/// The one line end that may stand before a head: some clients end a body with one too many
/// (RFC 9112, 2.2). It belongs to no request, so no request's timeout runs while nothing else has
/// arrived, and how it was split into packets makes no difference.
#[derive(Default)]
pub(super) struct LineEnd {
    taken: bool,
}

impl LineEnd {
    /// Removes it from the beginning; whether nothing else has arrived yet.
    pub(super) fn is_all(&mut self, read: &mut BytesMut) -> bool {
        if !self.taken && read.starts_with(b"\r\n") {
            read.advance(2);
            self.taken = true;
        }
        read.is_empty() || (!self.taken && read.as_ref() == b"\r")
    }
}

/// Where the head ends: the index after its empty line. Bytes before `looked_at` are known not
/// to end it.
pub(super) fn end(bytes: &[u8], looked_at: usize) -> Option<usize> {
    let from = looked_at.saturating_sub(3);
    let found = bytes
        .get(from..)?
        .windows(4)
        .position(|four| four == b"\r\n\r\n")?;
    from.checked_add(found)?.checked_add(4)
}

/// Reads a whole head, empty line included. `secure` says whether it came over TLS.
///
/// # Errors
/// [`Refusal::HeadTooLarge`] over `lines_max` header lines, [`Refusal::BodyUnreadable`] for what
/// is no HTTP/1.1 head or has two readings.
pub(super) fn inspect(head: &[u8], lines_max: usize, secure: bool) -> Result<RequestHead, Refusal> {
    let mut lines = HeaderLines { head, at: 0 };
    let first = lines.next().transpose()?.unwrap_or(0..0);
    let (method, target, authority) = request_line(head, &first, secure)?;
    let is_old = piece(head, &first).ends_with(b"HTTP/1.0");
    let (mut host, mut length, mut encodings) = (None, None, 0_u32);
    let mut found = RequestHead {
        bytes: head.len(),
        framing: Framing::Length(0),
        waits_for_continue: false,
        closes: is_old,
        method,
        target,
        lines: 0,
    };
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        found.lines = found.lines.saturating_add(1);
        if found.lines > lines_max {
            return Err(Refusal::HeadTooLarge);
        }
        let (name, value) = field(head, &line)?;
        let (name, value) = (piece(head, &name), piece(head, &value));
        if name.eq_ignore_ascii_case(b"host") {
            if host.replace(value).is_some() {
                return Err(unreadable("exactly one host header"));
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if length.replace(number(value)?).is_some() {
                return Err(unreadable("content-length, once"));
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if is_old {
                return Err(unreadable("HTTP/1.0 knows no transfer-encoding"));
            }
            encodings = encodings.saturating_add(1);
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(unreadable("the only transfer-encoding here is chunked"));
            }
            found.framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case(b"expect") {
            if found.waits_for_continue || !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(unreadable(
                    "the only expectation here is 100-continue, once",
                ));
            }
            found.waits_for_continue = true;
        } else if name.eq_ignore_ascii_case(b"connection") {
            let mut options = value.split(|byte| *byte == b',');
            found.closes |= options.any(|word| ows(word).eq_ignore_ascii_case(b"close"));
        }
    }
    match (length, encodings) {
        (None, 0 | 1) => (),
        (Some(length), 0) => found.framing = Framing::Length(length),
        (_, _) => return Err(unreadable("content-length or transfer-encoding, once")),
    }
    if host.is_some() || !is_old {
        check_host(host, authority.map(|range| piece(head, &range)))?;
    }
    Ok(found)
}

impl RequestHead {
    /// The method as it was sent.
    pub(super) fn method<'h>(&self, head: &'h [u8]) -> &'h [u8] {
        piece(head, &self.method)
    }

    /// The path as it was sent, the query not included.
    pub(super) fn path<'h>(&self, head: &'h [u8]) -> &'h [u8] {
        let target = piece(head, &self.target);
        target
            .split(|byte| *byte == b'?')
            .next()
            .unwrap_or_default()
    }

    /// Parses the head. Path and query stay byte for byte what was sent, because they are what was signed
    /// (Q2); the authority was compared with the host header.
    ///
    /// # Errors
    /// Something that the types of a request do not accept; after [`inspect`] nothing is left of that.
    pub(super) fn request(&self, head: &Bytes) -> Result<Request<Bytes>, Refusal> {
        let method = Method::from_bytes(self.method(head));
        let target = PathAndQuery::from_maybe_shared(head.slice(self.target.clone()));
        let (Ok(method), Ok(target)) = (method, target) else {
            return Err(unreadable("the request line is not readable"));
        };
        let mut headers = HeaderMap::with_capacity(self.lines);
        let mut lines = HeaderLines { head, at: 0 };
        lines.next().transpose()?;
        for line in lines.take(self.lines) {
            let (name, value) = field(head, &line?)?;
            let name = HeaderName::from_bytes(piece(head, &name));
            let value = HeaderValue::from_maybe_shared(head.slice(value));
            let (Ok(name), Ok(value)) = (name, value) else {
                return Err(unreadable("a header line is not readable"));
            };
            headers.append(name, value);
        }
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from(target);
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// Lines by position, without their ends. A line end is CRLF; either half alone is an error.
struct HeaderLines<'h> {
    head: &'h [u8],
    at: usize,
}

impl Iterator for HeaderLines<'_> {
    type Item = Result<Range<usize>, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.head.get(self.at..).filter(|rest| !rest.is_empty())?;
        let ends = unreadable("lines of the header end with CRLF");
        let Some(length) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
            return Some(Err(ends));
        };
        let end = self.at.saturating_add(length);
        if rest.get(length..length.saturating_add(2)) != Some(b"\r\n") {
            return Some(Err(ends));
        }
        let line = self.at..end;
        self.at = end.saturating_add(2);
        Some(Ok(line))
    }
}

/// Method, path with query, and the authority of an absolute target.
type FirstLine = (Range<usize>, Range<usize>, Option<Range<usize>>);

fn request_line(head: &[u8], line: &Range<usize>, secure: bool) -> Result<FirstLine, Refusal> {
    let whole = piece(head, line);
    let mut words = whole.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(unreadable("the request line is not readable"));
    };
    // Health checks use it, on a plain listener, which serves nothing else.
    let is_old = version == b"HTTP/1.0" && !secure;
    if version != b"HTTP/1.1" && !is_old {
        return Err(unreadable("expected HTTP/1.1"));
    }
    // This gateway never opens a tunnel, whatever the target looks like.
    if !is_token(method) || method == b"CONNECT" {
        return Err(unreadable("the method is not one"));
    }
    let method = line.start..line.start.saturating_add(method.len());
    let start = method.end.saturating_add(1);
    let end = start.saturating_add(target.len());
    // `*` and `host:port` name no path, and everything behind the edge works on paths.
    let scheme: &[u8] = if secure { b"https://" } else { b"http://" };
    let authority = match target.strip_prefix(scheme) {
        None => None,
        Some(rest) => {
            let from = start.saturating_add(scheme.len());
            let length = rest.iter().position(|byte| *byte == b'/');
            let length = length.ok_or(unreadable("the request target is not a path"))?;
            Some(from..from.saturating_add(length))
        }
    };
    let path = authority.as_ref().map_or(start, |range| range.end)..end;
    if !is_path(piece(head, &path)) {
        return Err(unreadable("the request target is not a path"));
    }
    Ok((method, path, authority))
}

/// Path and query in the characters of RFC 3986, 3.3 and 3.4: anything else, a fragment or a byte
/// that some program would encode on the way, is read in two ways.
fn is_path(target: &[u8]) -> bool {
    let mut rest = target.iter();
    if rest.next() != Some(&b'/') {
        return false;
    }
    while let Some(byte) = rest.next() {
        let fits = match byte {
            b'%' => {
                let mut hex = || rest.next().is_some_and(u8::is_ascii_hexdigit);
                hex() && hex()
            }
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+'
            | b',' | b';' | b'=' | b':' | b'@' | b'/' | b'?' => true,
            other => other.is_ascii_alphanumeric(),
        };
        if !fits {
            return false;
        }
    }
    true
}

/// Name and trimmed value. A folded line or a space before the colon has two readings, and so has a
/// control character.
fn field(head: &[u8], line: &Range<usize>) -> Result<(Range<usize>, Range<usize>), Refusal> {
    let whole = piece(head, line);
    let colon = whole
        .iter()
        .position(|byte| *byte == b':')
        .ok_or(unreadable("a header line without a colon"))?;
    let (name, value) = whole.split_at(colon);
    if !is_token(name) {
        return Err(unreadable("a header name is not a token"));
    }
    let value = value.get(1..).unwrap_or_default();
    if value
        .iter()
        .any(|byte| byte.is_ascii_control() && *byte != b'\t')
    {
        return Err(unreadable("a header line holds a control character"));
    }
    let before = value.len().saturating_sub(value.trim_ascii_start().len());
    let from = line.start.saturating_add(colon).saturating_add(1);
    let from = from.saturating_add(before);
    let end = from.saturating_add(ows(value).len());
    Ok((line.start..line.start.saturating_add(colon), from..end))
}

/// Exactly one, not empty, without userinfo, and the same as in an absolute target.
fn check_host(host: Option<&[u8]>, authority: Option<&[u8]>) -> Result<(), Refusal> {
    let host = host.ok_or(unreadable("exactly one host header"))?;
    let fits = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
    };
    if host.is_empty() || !host.iter().all(fits) {
        return Err(unreadable(
            "host is a name or address, with a port where it has one",
        ));
    }
    if authority.is_some_and(|authority| !authority.eq_ignore_ascii_case(host)) {
        return Err(unreadable("the request target names another host"));
    }
    Ok(())
}

/// Digits only, as a number is written: `+1`, `01`, lists and empty values are read differently by
/// different programs.
fn number(value: &[u8]) -> Result<usize, Refusal> {
    let odd = value.len() > 1 && value.starts_with(b"0");
    std::str::from_utf8(value)
        .ok()
        .filter(|text| !odd && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or(unreadable("content-length is not a number"))?
        .parse()
        .or(Ok(usize::MAX))
}

/// RFC 9110, 5.6.2.
fn is_token(word: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !word.is_empty() && word.iter().all(fits)
}

/// Without the spaces and tabs around it; nothing else counts as white space here.
fn ows(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

fn piece<'h>(head: &'h [u8], range: &Range<usize>) -> &'h [u8] {
    head.get(range.clone()).unwrap_or_default()
}

fn unreadable(why: &'static str) -> Refusal {
    Refusal::BodyUnreadable(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(head: &[u8]) -> Result<RequestHead, Refusal> {
        inspect(head, 3, true)
    }

    fn taken(head: &'static [u8]) -> Request<Bytes> {
        look(head)
            .unwrap()
            .request(&Bytes::from_static(head))
            .unwrap()
    }

    /// Q1: an ordinary head is read for what it says about the body.
    #[test]
    fn an_ordinary_head_tells_its_framing() {
        let head = b"POST /v1/orders?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n";
        let read = look(head).unwrap();
        assert_eq!(read.framing, Framing::Length(12));
        assert!(read.waits_for_continue && !read.closes);
        assert_eq!(read.bytes, head.len());
        assert_eq!(
            (read.method(head), read.path(head)),
            (&b"POST"[..], &b"/v1/orders"[..])
        );
        assert_eq!(end(head, 0), Some(head.len()));
        assert_eq!(end(head, head.len() - 1), Some(head.len()));
        assert_eq!(end(&head[..head.len() - 1], 0), None);
        let chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\nConnection: te, Close\r\n\r\n";
        let read = look(chunked).unwrap();
        assert_eq!(read.framing, Framing::Chunked);
        assert!(read.closes);
    }

    /// Q2: path and query arrive byte for byte, whatever form the target had.
    #[test]
    fn a_target_is_kept_byte_for_byte() {
        let same = taken(
            b"POST https://A:8443/v1/%6Frders/..//x;y=1?q=%2f? HTTP/1.1\r\nhost: a:8443\r\n\r\n",
        );
        assert_eq!(same.uri(), "/v1/%6Frders/..//x;y=1?q=%2f?");
        let twice = taken(b"GET / HTTP/1.1\r\nHost: a\r\nX: \t1 \t\r\nx: 2\r\n\r\n");
        let lines: Vec<_> = twice.headers().get_all("x").iter().collect();
        assert_eq!(lines, ["1", "2"]);
    }

    /// RFC 9112, 2.2: one line end before a head is nobody's, wherever packets end; a second one is
    /// not, nor is half of one.
    #[test]
    fn one_extra_line_end_is_ignored_however_it_arrives() {
        for (raw, left) in [
            ("\r\nGET", "GET"),
            ("\r\n\r\nGET", "\r\nGET"),
            ("\rGET", "\rGET"),
            ("\nGET", "\nGET"),
            ("GET", "GET"),
        ] {
            for at_once in 1..=raw.len() {
                let (mut line_end, mut read) = (LineEnd::default(), BytesMut::new());
                let mut waiting = true;
                for piece in raw.as_bytes().chunks(at_once) {
                    read.extend_from_slice(piece);
                    waiting = waiting && line_end.is_all(&mut read);
                }
                assert!(!waiting && read == left, "{raw:?} by {at_once}: {read:?}");
            }
        }
        let mut line_end = LineEnd::default();
        assert!(line_end.is_all(&mut BytesMut::from("\r")));
        assert!(line_end.is_all(&mut BytesMut::from("\r\n")));
        assert!(!line_end.is_all(&mut BytesMut::from("\r\n")), "once");
    }

    /// Q1: what two programs may read differently is refused, whoever is right.
    #[test]
    fn a_head_with_two_readings_is_refused() {
        for bad in [
            &b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"[..],
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 01\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nX: 1\rY: 2\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nX: 1\0\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nX(: 1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n",
            b"\r\n\r\n",
        ] {
            assert!(look(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        let crowded = b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 1\r\nC: 1\r\n\r\n";
        assert_eq!(look(crowded), Err(Refusal::HeadTooLarge));
    }

    /// A health check of old names no host, on a plain listener; what it does name is checked, and its
    /// connection ends with its answer.
    #[test]
    fn an_old_request_is_read_on_a_plain_listener_only() {
        let old = b"GET /healthz HTTP/1.0\r\n\r\n";
        assert!(inspect(old, 3, true).is_err());
        assert!(inspect(old, 3, false).unwrap().closes);
        for bad in [
            &b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n"[..],
            b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/0.9\r\n\r\n",
        ] {
            assert!(
                inspect(bad, 3, false).is_err(),
                "{}",
                String::from_utf8_lossy(bad)
            );
        }
    }

    /// Q1, Q2: a request names one host and one path, in the one version that is spoken here.
    #[test]
    fn a_malformed_request_line_is_refused() {
        for (line, host) in [
            ("POST / HTTP/1.0", "a"),
            ("POST / HTTP/0.9", "a"),
            ("POST / HTTP/2.0", "a"),
            ("POST / http/1.1", "a"),
            ("POST /", "a"),
            ("POST  / HTTP/1.1", "a"),
            ("POST\t/ HTTP/1.1", "a"),
            ("PO\"ST / HTTP/1.1", "a"),
            ("PRI * HTTP/2.0", "a"),
            ("OPTIONS * HTTP/1.1", "a"),
            ("CONNECT a:443 HTTP/1.1", "a:443"),
            ("CONNECT / HTTP/1.1", "a"),
            ("POST v1/orders HTTP/1.1", "a"),
            ("POST /\u{80} HTTP/1.1", "a"),
            ("POST /v1/orders#x HTTP/1.1", "a"),
            ("POST /v1\\orders HTTP/1.1", "a"),
            ("POST /<x> HTTP/1.1", "a"),
            ("POST /%6 HTTP/1.1", "a"),
            ("POST /%zz HTTP/1.1", "a"),
            ("POST https://b/ HTTP/1.1", "a"),
            ("POST https://a:443/ HTTP/1.1", "a"),
            ("POST https://x@a/ HTTP/1.1", "a"),
            ("POST https://a@a/ HTTP/1.1", "a@a"),
            ("POST https:///a HTTP/1.1", "a"),
            ("POST https://a HTTP/1.1", "a"),
            ("POST https://a?/ HTTP/1.1", "a"),
            ("POST http://a/ HTTP/1.1", "a"),
            ("POST HTTPS://a/ HTTP/1.1", "a"),
            ("POST / HTTP/1.1", ""),
            ("POST / HTTP/1.1", "a b"),
            ("POST / HTTP/1.1", "a, b"),
            ("POST / HTTP/1.1", "a/b"),
            ("POST / HTTP/1.1", "x@a"),
        ] {
            let head = format!("{line}\r\nHost: {host}\r\n\r\n");
            assert!(look(head.as_bytes()).is_err(), "{head}");
        }
        for hosts in ["", "Host: a\r\nHost: a\r\n", "Host : a\r\n"] {
            let head = format!("POST / HTTP/1.1\r\n{hosts}\r\n");
            assert!(look(head.as_bytes()).is_err(), "{head}");
        }
    }
}
