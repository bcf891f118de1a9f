//! The head of a request, looked at before anything parses it: one way to read it, or refused.
//!
//! Two programs that read one request differently are how requests are smuggled; whatever has two
//! readings (RFC 9112, 6.3 and 11.2) ends here with 400. Never allocates.

use crate::domain::refusal::Refusal;

/// What a head says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(super) waits_for_continue: bool,
    /// `Content-Length`, if given; bytes.
    pub(super) length: Option<usize>,
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

/// Reads a whole head, empty line included.
///
/// # Errors
/// [`Refusal::HeadTooLarge`] over `lines_max` header lines, [`Refusal::BodyUnreadable`] for what
/// is no HTTP/1.x head or has two readings.
pub(super) fn inspect(head: &[u8], lines_max: usize) -> Result<Head, Refusal> {
    let head = head
        .strip_suffix(b"\r\n\r\n")
        .ok_or(unreadable("no empty line after the header"))?;
    let mut lines = head.split(|byte| *byte == b'\n').enumerate();
    let (_, first) = lines.next().ok_or(unreadable("no request line"))?;
    let one_one = request_line(first.strip_suffix(b"\r").unwrap_or(first))?;
    let (mut hosts, mut lengths, mut encodings) = (0_u32, 0_u32, 0_u32);
    let mut seen = Head {
        waits_for_continue: false,
        length: None,
    };
    for (number, line) in lines {
        if number > lines_max {
            return Err(Refusal::HeadTooLarge);
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (name, value) = header_line(line)?;
        if name.eq_ignore_ascii_case(b"host") {
            hosts = hosts.saturating_add(1);
        } else if name.eq_ignore_ascii_case(b"content-length") {
            lengths = lengths.saturating_add(1);
            seen.length = Some(length(value)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            encodings = encodings.saturating_add(1);
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(unreadable("the only transfer-encoding here is chunked"));
            }
        } else if name.eq_ignore_ascii_case(b"expect") {
            seen.waits_for_continue = value.eq_ignore_ascii_case(b"100-continue");
        }
    }
    if bare_line_ends(head) {
        return Err(unreadable("lines of the header end with CRLF"));
    }
    if lengths.saturating_add(encodings) > 1 {
        return Err(unreadable("content-length or transfer-encoding, once"));
    }
    if hosts > 1 || (one_one && hosts == 0) {
        return Err(unreadable("exactly one host header"));
    }
    Ok(seen)
}

/// Method, target and version; whether it is HTTP/1.1.
fn request_line(line: &[u8]) -> Result<bool, Refusal> {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version, more) = (words.next(), words.next(), words.next(), words.next());
    let graphic = |word: Option<&[u8]>| {
        word.is_some_and(|word| !word.is_empty() && word.iter().all(u8::is_ascii_graphic))
    };
    if !graphic(method) || !graphic(target) || more.is_some() {
        return Err(unreadable("the request line is not readable"));
    }
    // `*` and `host:port` name no path; what lies behind the edge knows nothing else.
    let forms = [&b"/"[..], b"https://", b"http://"];
    if !target.is_some_and(|target| forms.iter().any(|form| target.starts_with(form))) {
        return Err(unreadable("the request target is not a path"));
    }
    match version {
        Some(b"HTTP/1.1") => Ok(true),
        Some(b"HTTP/1.0") => Ok(false),
        Some(_) | None => Err(unreadable("expected HTTP/1.1")),
    }
}

/// Name and trimmed value. A folded line or a space before the colon has two readings.
fn header_line(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let colon = line
        .iter()
        .position(|byte| *byte == b':')
        .ok_or(unreadable("a header line without a colon"))?;
    let (name, rest) = line.split_at(colon);
    if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
        return Err(unreadable("a header name is not a token"));
    }
    Ok((name, rest.get(1..).unwrap_or_default().trim_ascii()))
}

/// Digits only: `+1`, lists and empty values are read differently by different programs.
fn length(value: &[u8]) -> Result<usize, Refusal> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or(unreadable("content-length is not a number"))?
        .parse()
        .or(Ok(usize::MAX))
}

fn bare_line_ends(head: &[u8]) -> bool {
    let mut before = 0_u8;
    for byte in head {
        if (*byte == b'\n') != (before == b'\r') {
            return true;
        }
        before = *byte;
    }
    before == b'\r'
}

fn unreadable(why: &'static str) -> Refusal {
    Refusal::BodyUnreadable(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(head: &[u8]) -> Result<Head, Refusal> {
        inspect(head, 3)
    }

    /// Q1: an ordinary head is read for what it says about the body.
    #[test]
    fn an_ordinary_head_tells_its_framing() {
        let head = b"POST /v1/orders?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n";
        let read = look(head).unwrap();
        assert_eq!(read.length, Some(12));
        assert!(read.waits_for_continue);
        assert_eq!(end(head, 0), Some(head.len()));
        assert_eq!(end(head, head.len() - 1), Some(head.len()));
        assert_eq!(end(&head[..head.len() - 1], 0), None);
    }

    /// Q1: what two programs may read differently is refused, whoever is right.
    #[test]
    fn a_head_with_two_readings_is_refused() {
        for bad in [
            &b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"[..],
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nX: 1\rY: 2\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            b"POST / HTTP/1.1\r\n\r\n",
            b"POST  / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST /\x80 HTTP/1.1\r\nHost: a\r\n\r\n",
            b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST / HTTP/2.0\r\nHost: a\r\n\r\n",
            b"\r\n\r\n",
        ] {
            assert!(look(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        let crowded = b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 1\r\nC: 1\r\n\r\n";
        assert_eq!(look(crowded), Err(Refusal::HeadTooLarge));
    }
}
