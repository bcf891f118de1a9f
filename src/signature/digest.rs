//! `Content-Digest` (RFC 9530): that the body is the one that was signed, byte for byte.
//! Writes SHA-256, believes SHA-256 and SHA-512.

use aws_lc_rs::digest::{Algorithm, SHA256, SHA512, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName};

use crate::signature::fault::SignatureFault;
use crate::signature::field;

/// The field's name.
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

const OTHERWISE: &str = "Content-Digest is not a dictionary of byte sequences";

/// The field's value for a body.
pub(super) fn of(body: &[u8]) -> String {
    written("sha-256", &SHA256, body)
}

/// Whether every digest that is known here is that of the body, and there is one.
///
/// # Errors
/// [`SignatureFault::DigestMismatch`] otherwise; [`SignatureFault::Malformed`],
/// [`SignatureFault::ComponentAbsent`].
pub(super) fn check(headers: &HeaderMap, body: &[u8]) -> Result<(), SignatureFault> {
    let Some(value) = field::value(headers, &CONTENT_DIGEST)? else {
        return Err(SignatureFault::ComponentAbsent(CONTENT_DIGEST.to_string()));
    };
    let mut known = false;
    for (name, claimed) in field::byte_sequences(&value, OTHERWISE)?.members {
        let algorithm = match name {
            "sha-256" => &SHA256,
            "sha-512" => &SHA512,
            // RFC 9530, section 2: digests of unknown algorithms are passed over.
            _ => continue,
        };
        if digest(algorithm, body).as_ref() != claimed {
            return Err(SignatureFault::DigestMismatch {
                computed: written(name, algorithm, body),
            });
        }
        known = true;
    }
    if known {
        Ok(())
    } else {
        Err(SignatureFault::DigestMismatch { computed: of(body) })
    }
}

/// SHA-256 of bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut taken = [0; 32];
    taken.copy_from_slice(digest(&SHA256, bytes).as_ref());
    taken
}

fn written(name: &str, algorithm: &'static Algorithm, body: &[u8]) -> String {
    let mut text = String::with_capacity(112);
    text.push_str(name);
    text.push_str("=:");
    STANDARD.encode_string(digest(algorithm, body), &mut text);
    text.push(':');
    text
}
