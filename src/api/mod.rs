//! The public surface: `http::Request<Bytes>` to `http::Response<Bytes>`.

use std::net::IpAddr;

use crate::domain::merchant::CertificateDigest;

/// Who is at the other end of the connection, as far as TLS and TCP know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The address of the connection.
    pub address: IpAddr,
    /// SHA-256 of the client certificate, whose handshake proved its key; unchecked otherwise.
    pub certificate: Option<CertificateDigest>,
}
