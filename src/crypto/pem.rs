//! Keys in PEM (RFC 7468): extracts the block, does not validate the key in it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

/// Label of an unencrypted private key: PKCS #8 (RFC 5208).
pub const PRIVATE_KEY: &str = "PRIVATE KEY";
/// Label of a public key: `SubjectPublicKeyInfo` (RFC 5280, section 4.1).
pub const PUBLIC_KEY: &str = "PUBLIC KEY";

/// Bytes per line of 64 characters.
const LINE_BYTES: usize = 48;

/// The DER of the first block labelled [`PRIVATE_KEY`], if any.
pub fn read_private_key(text: &[u8]) -> Option<Vec<u8>> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(text).ok()?;
    Some(der.secret_pkcs8_der().to_vec())
}

/// The DER of the first block labelled [`PUBLIC_KEY`], if any.
pub fn read_public_key(text: &[u8]) -> Option<Vec<u8>> {
    let der = SubjectPublicKeyInfoDer::from_pem_slice(text).ok()?;
    Some(der.to_vec())
}

/// Encodes one block under a label, in lines of 64 characters.
pub fn write(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(LINE_BYTES) {
        STANDARD.encode_string(line, &mut text);
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}
