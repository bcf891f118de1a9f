//! A merchant as enrolled: who may ask, from where, and where it is told.

use std::collections::HashMap;

use crate::domain::identifiers::{InstitutionId, MerchantId, Timestamp};
use crate::domain::institutions::Mode;

/// Where a merchant or an institution stands in the operator's review (R-4-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Asked to be let in.
    Applied,
    /// May transact.
    Admitted,
    /// May start nothing new.
    Suspended,
}

/// What a merchant's connections must show (interface.md, mutual TLS).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    /// An enrolled certificate, always.
    Required,
    /// If one is shown it must be an enrolled one.
    Optional,
    /// None is looked at.
    Off,
}

/// SHA-256 of a certificate's DER bytes: what enrolment and the edge compare (Q4).
pub type CertificateDigest = [u8; 32];

/// The client certificate that a connection showed; its handshake proved the key. Nobody vouches
/// for anything else in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownCertificate {
    /// What enrolment compares.
    pub digest: CertificateDigest,
    /// First second in which it counts. Unit: Unix seconds.
    pub not_before_s: i64,
    /// Last second in which it counts. Unit: Unix seconds.
    pub not_after_s: i64,
}

impl ShownCertificate {
    /// Whether it counts at this moment: a connection can outlive its certificate.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        (self.not_before_s..=self.not_after_s).contains(&now.seconds())
    }
}

/// One merchant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merchant {
    /// `merchantId`.
    pub id: MerchantId,
    /// The name payers see (`merchantName`).
    pub name: String,
    /// Review state (R-4-3).
    pub admission: Admission,
    /// What its connections must show.
    pub client_certificate: ClientCertificate,
    /// Enrolled certificates.
    pub certificates: Vec<CertificateDigest>,
    /// Origins (`https://host:port`) that results may be sent to: a `bankReturnUrl` elsewhere is
    /// refused, because it would make us call whatever the request names.
    pub notify_origins: Vec<String>,
    /// Where events go that `bankReturnUrl` does not receive.
    pub notice_url: Option<String>,
    /// The institution taken in a mode where the merchant names none.
    pub default_institutions: HashMap<Mode, InstitutionId>,
}

impl Merchant {
    /// Whether an address is https, plain, and lies under a registered origin.
    ///
    /// Compared on the parsed origin: `https://shop.example.evil` and user names in the
    /// authority do not pass.
    pub fn may_be_notified_at(&self, address: &str) -> bool {
        origin(address).is_some_and(|origin| self.notify_origins.contains(&origin))
    }
}

/// `https://host[:port]` of an https address without user name or fragment; the key of a
/// notification queue (interface.md, Details). The default port is left out.
pub fn origin(address: &str) -> Option<String> {
    if address.len() > 512
        || !address.bytes().all(|b| b.is_ascii_graphic())
        || address.contains('#')
    {
        return None;
    }
    let uri: http::Uri = address.parse().ok()?;
    let authority = uri.authority()?;
    if uri.scheme_str() != Some("https") || authority.as_str().contains('@') {
        return None;
    }
    let host = authority.host().to_ascii_lowercase();
    match authority.port_u16() {
        None if authority.as_str().contains(':') && !host.starts_with('[') => None,
        None | Some(443) => Some(format!("https://{host}")),
        Some(port) => Some(format!("https://{host}:{port}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R-A3.3-3: only addresses under a registered origin are ever called.
    #[test]
    fn an_address_outside_the_registered_origins_is_not_notified() {
        let merchant = Merchant {
            id: MerchantId::parse("M1").unwrap(),
            name: "Tea".into(),
            admission: Admission::Admitted,
            client_certificate: ClientCertificate::Off,
            certificates: vec![],
            notify_origins: vec![
                "https://shop.example".into(),
                "https://shop.example:8443".into(),
            ],
            notice_url: None,
            default_institutions: HashMap::new(),
        };
        for good in [
            "https://shop.example/notice",
            "https://SHOP.example:443/x?y=1",
            "https://shop.example:8443",
        ] {
            assert!(merchant.may_be_notified_at(good), "{good}");
        }
        for bad in [
            "http://shop.example/notice",
            "https://shop.example.evil/",
            "https://shop.example@evil.example/",
            "https://shop.example:8444/",
            "https://evil.example/#https://shop.example",
            "https://127.0.0.1/",
            "https://shop.example:/",
            "//shop.example/",
            "shop.example",
            "https://shop.example/\u{7f}",
        ] {
            assert!(!merchant.may_be_notified_at(bad), "{bad}");
        }
    }
}
