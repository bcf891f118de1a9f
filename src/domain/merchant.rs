//! A configured merchant: who may send requests, with what, and where its notifications go.

use std::collections::HashMap;

use crate::domain::identifiers::{InstitutionId, MerchantId, Timestamp};
use crate::domain::institutions::Mode;

/// Review state of a merchant or an institution (R-4-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Has applied for admission.
    Applied,
    /// May transact.
    Admitted,
    /// May start nothing new.
    Suspended,
}

/// Client certificate policy for a merchant's connections (Q4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    /// An enrolled certificate is always required.
    Required,
    /// Optional; if one is presented it must be enrolled.
    Optional,
    /// Not checked.
    Off,
}

/// What a payer meets at the address of an order whose institution is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderPage {
    /// Our page, which shows the order before the payer goes on (R-A2.1-5).
    Shown,
    /// The institution's page, if the payer can be sent there at once: the merchant has shown the order.
    Direct,
}

/// SHA-256 of a certificate's DER encoding, compared at enrolment and at the edge (Q4).
pub type CertificateDigest = [u8; 32];

/// The client certificate presented on a connection; the handshake proved possession of its key. No
/// CA vouches for its other contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownCertificate {
    /// Compared with the enrolled digests.
    pub digest: CertificateDigest,
    /// First second of its validity. Unit: Unix seconds.
    pub not_before_s: i64,
    /// Last second of its validity. Unit: Unix seconds.
    pub not_after_s: i64,
}

impl ShownCertificate {
    /// Whether it is valid now: a connection can outlive its certificate.
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
    /// Client certificate policy.
    pub client_certificate: ClientCertificate,
    /// Enrolled certificates.
    pub certificates: Vec<CertificateDigest>,
    /// Origins (`https://host:port`) that results may be sent to. A `bankReturnUrl` elsewhere is
    /// refused; otherwise a request could make us call any address (SSRF).
    pub notify_origins: Vec<String>,
    /// Receives the events that `bankReturnUrl` does not.
    pub notice_url: Option<String>,
    /// Default institution per mode, used when an order names none.
    pub default_institutions: HashMap<Mode, InstitutionId>,
    /// What its payers meet first.
    pub order_page: OrderPage,
}

impl Merchant {
    /// Whether an address is https and under a registered origin.
    ///
    /// The parsed origins are compared: `https://shop.example.evil` and user names in the authority
    /// do not pass.
    pub fn may_be_notified_at(&self, address: &str) -> bool {
        origin(address).is_some_and(|origin| self.notify_origins.contains(&origin))
    }
}

/// `https://host[:port]` of an https address without user name or fragment; the key of a
/// notification queue. The default port is omitted.
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

    /// R-A3.3-3: only addresses under a registered origin are called.
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
            order_page: OrderPage::Shown,
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
