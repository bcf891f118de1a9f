//! Cryptographic primitives over one well-maintained library: bytes in, bytes or a result out.
//! Knows no header, institution or key id; implements no arithmetic of its own.
//!
//! Parsing refuses keys that would prove nothing; signing and decrypting never report why they
//! failed.

pub mod aead;
pub mod compare;
mod der;
pub mod digest;
pub mod ecdsa;
pub mod ed25519;
pub mod hmac;
pub mod pem;
pub mod random;
pub mod rsa;
#[cfg(test)]
mod tests;
