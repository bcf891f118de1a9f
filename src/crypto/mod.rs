//! Raw primitives, each over one well-kept library: bytes in, bytes or a verdict out. Knows no header,
//! no institution and no key by name; computes nothing on curves, fields or moduli itself.
//!
//! Reading a key refuses what would prove nothing; what signs or opens never says why it did not.

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
