//! `Content-Digest` (RFC 9530): binds the body to the signature, byte for byte. Writes SHA-256,
//! accepts SHA-256 and SHA-512.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName};

use crate::crypto::digest::{sha256, sha512};
use crate::signature::fault::SignatureFault;
use crate::signature::field;

/// The field's name.
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

const FIELD_FAULT: &str = "Content-Digest is not a dictionary of byte sequences";

/// The field's value for a body.
pub(super) fn of(body: &[u8]) -> String {
    written("sha-256", &sha256(body))
}

/// Checks that there is a digest of a supported algorithm, and that all of these match the body.
///
/// # Errors
/// [`SignatureFault::DigestMismatch`] otherwise; [`SignatureFault::Malformed`],
/// [`SignatureFault::ComponentAbsent`].
pub(super) fn check(headers: &HeaderMap, body: &[u8]) -> Result<(), SignatureFault> {
    let Some(value) = field::value(headers, &CONTENT_DIGEST)? else {
        return Err(SignatureFault::ComponentAbsent(CONTENT_DIGEST.to_string()));
    };
    let mut checked = false;
    for (name, claimed) in field::byte_sequences(&value, FIELD_FAULT)?.members {
        let computed: &[u8] = match name {
            "sha-256" => &sha256(body),
            "sha-512" => &sha512(body),
            // RFC 9530, section 2: digests of unknown algorithms are ignored.
            _ => continue,
        };
        if computed != claimed {
            return Err(SignatureFault::DigestMismatch {
                computed: written(name, computed),
            });
        }
        checked = true;
    }
    if checked {
        Ok(())
    } else {
        Err(SignatureFault::DigestMismatch { computed: of(body) })
    }
}

fn written(name: &str, digest: &[u8]) -> String {
    let mut text = String::with_capacity(112);
    text.push_str(name);
    text.push_str("=:");
    STANDARD.encode_string(digest, &mut text);
    text.push(':');
    text
}
