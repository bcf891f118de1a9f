//! Keys in PEM (RFC 7468): extracts the block, does not validate the key in it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

/// Label of an unencrypted private key: PKCS #8 (RFC 5208).
pub const PRIVATE_KEY: &str = "PRIVATE KEY";
/// Label of a public key: `SubjectPublicKeyInfo` (RFC 5280, section 4.1).
pub const PUBLIC_KEY: &str = "PUBLIC KEY";
/// Label of an unencrypted RSA key: PKCS #1 (RFC 8017, appendix A.1.2).
pub const RSA_PRIVATE_KEY: &str = "RSA PRIVATE KEY";
/// Label of a public RSA key: PKCS #1 (RFC 8017, appendix A.1.1).
pub const RSA_PUBLIC_KEY: &str = "RSA PUBLIC KEY";
/// Label of a certificate (RFC 5280).
pub const CERTIFICATE: &str = "CERTIFICATE";

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

/// The content of the first block under a label, whether or not its Base64 has line breaks.
pub fn read_block(label: &str, text: &str) -> Option<Vec<u8>> {
    read_blocks(label, text).into_iter().next()?
}

/// The content of each block under a label, in order; `None` for one that is damaged.
pub fn read_blocks(label: &str, text: &str) -> Vec<Option<Vec<u8>>> {
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let blocks = text.split(&begin).skip(1);
    blocks
        .map(|block| read_bare(block.split_once(&end)?.0))
        .collect()
}

/// The content of Base64 that no label surrounds, with line breaks or without.
pub fn read_bare(text: &str) -> Option<Vec<u8>> {
    let text: String = text.split_ascii_whitespace().collect();
    STANDARD.decode(text).ok().filter(|der| !der.is_empty())
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
