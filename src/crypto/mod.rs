//! Cryptographic primitives over well-maintained libraries: bytes in, bytes or a result out. One
//! library provides all but what it lacks: SM2, SM3, SM4, MD5, PKCS #12. Knows no header,
//! institution or key id; implements no arithmetic of its own.
//!
//! Parsing refuses keys that would prove nothing; signing and decrypting never report why they
//! failed.

pub mod aead;
pub mod certificate;
pub mod compare;
mod der;
pub mod digest;
pub mod ecdsa;
pub mod ed25519;
pub mod hex;
pub mod hmac;
pub mod pem;
pub mod pkcs12;
pub mod random;
pub mod rsa;
pub mod sm2;
#[cfg(test)]
mod tests;
