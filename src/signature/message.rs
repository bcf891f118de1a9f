//! The components of a message as they appear in the signature base (RFC 9421, sections 2.1 and
//! 2.2). Copies values as they are and does not validate them.

use http::{HeaderMap, HeaderName, Method, StatusCode, Uri};

use crate::signature::Question;
use crate::signature::covered::Part;
use crate::signature::fault::SignatureFault;
use crate::signature::field;

/// A message being signed or verified.
pub(super) struct Message<'a> {
    pub(super) head: MessageHead<'a>,
    pub(super) headers: &'a HeaderMap,
    /// The request, if this is a response bound to one.
    pub(super) question: Option<&'a Question>,
}

/// The parts of a message other than fields.
pub(super) enum MessageHead<'a> {
    Request {
        method: &'a Method,
        target_uri: &'a str,
    },
    Answer {
        status: StatusCode,
    },
}

/// Result of writing a component.
pub(super) enum Found {
    Written,
    Absent,
    Unsupported,
}

impl Message<'_> {
    /// Appends a component's value.
    ///
    /// # Errors
    /// [`SignatureFault::Malformed`] for a field or target that is not printable.
    pub(super) fn write(&self, part: &Part<'_>, out: &mut String) -> Result<Found, SignatureFault> {
        if part.req {
            return match self.question {
                Some(question) => question.write(part, out),
                None => Ok(Found::Absent),
            };
        }
        if part.key.is_some() {
            return Ok(Found::Unsupported);
        }
        match (&self.head, &*part.name) {
            (MessageHead::Request { method, target_uri }, name) if name.starts_with('@') => {
                derive(name, method, target_uri, out)
            }
            (MessageHead::Answer { status }, "@status") => {
                out.push_str(status.as_str());
                Ok(Found::Written)
            }
            (MessageHead::Answer { .. }, name) if name.starts_with('@') => Ok(Found::Unsupported),
            (MessageHead::Request { .. } | MessageHead::Answer { .. }, name) => {
                self.write_field(name, out)
            }
        }
    }

    fn write_field(&self, name: &str, out: &mut String) -> Result<Found, SignatureFault> {
        // `HeaderName` lower-cases its input; a component name must be lower case already.
        let header = match HeaderName::from_bytes(name.as_bytes()) {
            Ok(header) if header.as_str() == name => header,
            Ok(_) | Err(_) => return Ok(Found::Unsupported),
        };
        let Some(value) = field::value(self.headers, &header)? else {
            return Ok(Found::Absent);
        };
        out.push_str(&value);
        Ok(Found::Written)
    }
}

impl Question {
    fn write(&self, part: &Part<'_>, out: &mut String) -> Result<Found, SignatureFault> {
        match (&*part.name, part.key.as_deref()) {
            (name, None) if name.starts_with('@') => {
                return derive(name, &self.method, &self.target_uri, out);
            }
            ("content-digest", None) => out.push_str(&self.content_digest),
            ("signature", Some(label)) if label == self.label => out.push_str(&self.signature),
            ("signature", Some(_)) => return Ok(Found::Absent),
            // A `Question` keeps only what a response is bound to, not the whole request.
            _ => return Ok(Found::Unsupported),
        }
        Ok(Found::Written)
    }
}

/// Appends a component of RFC 9421, section 2.2 that is derived from method and target.
fn derive(
    name: &str,
    method: &Method,
    target_uri: &str,
    out: &mut String,
) -> Result<Found, SignatureFault> {
    const FAULT: SignatureFault = SignatureFault::Malformed("the target is not an absolute URI");
    match name {
        "@method" => {
            out.push_str(method.as_str());
            return Ok(Found::Written);
        }
        // Prevents injection of line breaks into the base.
        "@target-uri" if target_uri.bytes().all(|byte| byte.is_ascii_graphic()) => {
            out.push_str(target_uri);
            return Ok(Found::Written);
        }
        "@target-uri" => return Err(FAULT),
        "@authority" | "@scheme" | "@path" | "@query" | "@request-target" => (),
        _ => return Ok(Found::Unsupported),
    }
    let uri: Uri = target_uri.parse().map_err(|_| FAULT)?;
    let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else {
        return Err(FAULT);
    };
    match name {
        "@scheme" => out.push_str(&scheme.to_ascii_lowercase()),
        "@authority" => {
            out.push_str(&host.to_ascii_lowercase());
            let port = uri
                .port()
                .filter(|port| !matches!((scheme, port.as_u16()), ("https", 443) | ("http", 80)));
            if let Some(port) = port {
                out.push(':');
                out.push_str(port.as_str());
            }
        }
        "@path" => out.push_str(uri.path()),
        "@query" => {
            out.push('?');
            out.push_str(uri.query().unwrap_or_default());
        }
        // `@request-target`, in the only form of an HTTP/1.1 request to an origin server.
        _ => out.push_str(uri.path_and_query().map_or("/", |target| target.as_str())),
    }
    Ok(Found::Written)
}
