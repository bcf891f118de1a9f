//! HTTP/1.1 as far as the load needs it: whole messages with `Content-Length` over any stream.
//! Hand-written, because every microsecond spent here is missing for the load.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _};

const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Bytes received and not yet consumed.
#[derive(Default)]
pub(crate) struct ReceiveBuffer(Vec<u8>);

/// One message as received.
pub(crate) struct RawMessage<'a> {
    pub(crate) head: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl ReceiveBuffer {
    /// Waits for a whole message, passes it to `read` and discards it; `None` if the other side
    /// closed.
    pub(crate) async fn next<T>(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        read: impl FnOnce(RawMessage<'_>) -> T,
    ) -> Result<Option<T>> {
        loop {
            if let Some((head, whole)) = self.bounds()? {
                let message = RawMessage {
                    head: &self.0[..head],
                    body: &self.0[head..whole],
                };
                let result = read(message);
                self.0.drain(..whole);
                return Ok(Some(result));
            }
            if self.0.len() > MESSAGE_BYTES_MAX {
                bail!("the message is too long");
            }
            if stream.read_buf(&mut self.0).await? == 0 {
                if self.0.is_empty() {
                    return Ok(None);
                }
                bail!("the connection ended inside a message");
            }
        }
    }

    /// The ends of head and message, once both are complete.
    fn bounds(&self) -> Result<Option<(usize, usize)>> {
        let head = head_end(&self.0);
        if head == 0 {
            return Ok(None);
        }
        let length: usize = match field(&self.0[..head], "content-length") {
            Some(length) => length.parse().context("Content-Length is no number")?,
            None => bail!("a message without Content-Length"),
        };
        let whole = head + length;
        Ok((self.0.len() >= whole).then_some((head, whole)))
    }
}

/// The offset of the body; 0 while the head is incomplete.
pub(crate) fn head_end(message: &[u8]) -> usize {
    let end = message.windows(4).position(|four| four == b"\r\n\r\n");
    end.map_or(0, |end| end + 4)
}

/// The value of the first field line of this name.
pub(crate) fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    lines(head).find_map(|(known, value)| known.eq_ignore_ascii_case(name).then_some(value))
}

/// The field lines of a head.
pub(crate) fn lines(head: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let text = std::str::from_utf8(head).unwrap_or_default();
    let fields = text.split("\r\n").skip(1);
    fields.filter_map(|line| line.split_once(": ").or_else(|| line.split_once(':')))
}

/// A request or a response in wire format.
pub(crate) fn written(first_line: &str, headers: &http::HeaderMap, body: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(body.len() + 1024);
    out.extend_from_slice(first_line.as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    out.extend_from_slice(body);
    out.into()
}
