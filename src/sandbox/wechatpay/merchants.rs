//! Whom the platform knows: directly contracted merchants, and providers (服务商) with their
//! sub-merchants, each with its apps, certificates, secret and fee.

use std::fmt;

use crate::crypto::aead::{Aes256GcmKey, KEY_BYTES};
use crate::crypto::pem;
use crate::crypto::rsa::{RsaPublicKey, RsaScheme};
use crate::sandbox::wechatpay::platform::WechatKeyFault;

/// A merchant's API certificate, as far as the platform uses it.
#[derive(Clone)]
pub struct MerchantApiCertificate {
    /// `serial_no` of the Authorization header: 40 hex digits.
    pub serial: String,
    /// Its public key, `SubjectPublicKeyInfo` in PEM.
    pub public_key_pem: String,
}

/// A merchant that signs calls.
#[derive(Clone)]
pub struct WechatMerchant {
    /// Its number.
    pub mchid: String,
    /// The app ids bound to it.
    pub apps: Vec<String>,
    /// Its API certificates; two while it changes from one to the other.
    pub certificates: Vec<MerchantApiCertificate>,
    /// The secret for notifications and certificates: 32 ASCII characters.
    pub apiv3_key: String,
    /// Its fee. Unit: hundredths of a percent.
    pub fee_basis_points: u32,
    /// Hosts whose pages may open an h5 address.
    pub h5_hosts: Vec<String>,
    /// Empty for a directly contracted merchant; a provider's otherwise.
    pub sub_merchants: Vec<WechatSubMerchant>,
}

/// A provider's sub-merchant, which receives the money.
#[derive(Clone)]
pub struct WechatSubMerchant {
    /// Its number.
    pub mchid: String,
    /// The app ids bound to it.
    pub apps: Vec<String>,
    /// Its fee. Unit: hundredths of a percent.
    pub fee_basis_points: u32,
}

/// The secret is not printed.
impl fmt::Debug for WechatMerchant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WechatMerchant({})", self.mchid)
    }
}

impl WechatMerchant {
    pub(super) fn is_provider(&self) -> bool {
        !self.sub_merchants.is_empty()
    }

    pub(super) fn sub_merchant(&self, mchid: &str) -> Option<&WechatSubMerchant> {
        self.sub_merchants.iter().find(|sub| sub.mchid == mchid)
    }

    /// The fee of the receiver of an order. Unit: hundredths of a percent.
    pub(super) fn fee_basis_points(&self, sub_mchid: Option<&str>) -> u32 {
        sub_mchid
            .and_then(|mchid| self.sub_merchant(mchid))
            .map_or(self.fee_basis_points, |sub| sub.fee_basis_points)
    }
}

/// A merchant with its keys read.
pub(super) struct EnrolledMerchant {
    pub(super) settings: WechatMerchant,
    pub(super) apiv3: Aes256GcmKey,
    keys: Vec<(String, RsaPublicKey)>,
}

impl EnrolledMerchant {
    fn read(settings: WechatMerchant) -> Result<Self, WechatKeyFault> {
        let fault = |what: &str| WechatKeyFault(format!("{}: {what}", settings.mchid));
        let secret: [u8; KEY_BYTES] = settings
            .apiv3_key
            .as_bytes()
            .try_into()
            .map_err(|_| fault("the APIv3 key is not 32 characters"))?;
        let keys = settings.certificates.iter().map(|certificate| {
            let der = pem::read_public_key(certificate.public_key_pem.as_bytes());
            let key = der.and_then(|der| RsaPublicKey::from_spki(&der, RsaScheme::Pkcs1Sha256));
            Ok((
                certificate.serial.clone(),
                key.ok_or_else(|| fault("no usable public key"))?,
            ))
        });
        Ok(Self {
            apiv3: Aes256GcmKey::new(&secret).ok_or_else(|| fault("the APIv3 key"))?,
            keys: keys.collect::<Result<_, WechatKeyFault>>()?,
            settings,
        })
    }

    pub(super) fn mchid(&self) -> &str {
        &self.settings.mchid
    }

    /// The key of a serial number.
    pub(super) fn key(&self, serial: &str) -> Option<&RsaPublicKey> {
        self.keys
            .iter()
            .find_map(|(known, key)| known.eq_ignore_ascii_case(serial).then_some(key))
    }

    /// Whether any of its keys made this signature: the paying client names no serial.
    pub(super) fn signed(&self, text: &[u8], signature: &[u8]) -> bool {
        self.keys.iter().any(|(_, key)| key.verify(text, signature))
    }
}

/// All merchants.
pub(super) struct EnrolledMerchants(Vec<EnrolledMerchant>);

impl EnrolledMerchants {
    pub(super) fn read(settings: Vec<WechatMerchant>) -> Result<Self, WechatKeyFault> {
        let merchants = settings.into_iter().map(EnrolledMerchant::read);
        Ok(Self(merchants.collect::<Result<_, _>>()?))
    }

    pub(super) fn find(&self, mchid: &str) -> Option<&EnrolledMerchant> {
        self.0.iter().find(|merchant| merchant.mchid() == mchid)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::Value;

    use super::*;

    const VECTORS: &str = include_str!("../../../tests/it/sandbox/wechatpay/vectors.json");

    fn merchant(vectors: &Value, apiv3_key: &str) -> Result<EnrolledMerchant, WechatKeyFault> {
        let der = STANDARD.decode(vectors["merchant_public"].as_str().unwrap());
        EnrolledMerchant::read(WechatMerchant {
            mchid: "1900009191".to_owned(),
            apps: Vec::new(),
            certificates: vec![MerchantApiCertificate {
                serial: "5157F09E".to_owned(),
                public_key_pem: pem::write(pem::PUBLIC_KEY, &der.unwrap()),
            }],
            apiv3_key: apiv3_key.to_owned(),
            fee_basis_points: 60,
            h5_hosts: Vec::new(),
            sub_merchants: Vec::new(),
        })
    }

    /// The values for JSAPI and for an app, and every request of the protocol's vectors.
    #[test]
    fn published_texts_verify_with_the_merchants_key() {
        let vectors: Value = serde_json::from_str(VECTORS).unwrap();
        let merchant = merchant(&vectors, &"k".repeat(32)).unwrap();
        let groups = [&vectors["client_values"], &vectors["partner"]];
        let mut pairs: Vec<&Value> = ["prepay", "query", "refund"]
            .iter()
            .map(|name| &vectors[*name])
            .collect();
        pairs.extend(
            groups
                .iter()
                .flat_map(|it| it.as_object().unwrap().values()),
        );
        assert_eq!(pairs.len(), 9);
        for pair in pairs {
            let text = pair["msg"].as_str().unwrap();
            let signature = STANDARD.decode(pair["sig"].as_str().unwrap()).unwrap();
            assert!(merchant.signed(text.as_bytes(), &signature), "{text}");
            let longer = format!("{text} ");
            assert!(!merchant.signed(longer.as_bytes(), &signature), "{text}");
        }
        assert!(merchant.key("5157f09e").is_some() && merchant.key("5157").is_none());
    }

    #[test]
    fn a_secret_of_another_length_is_refused() {
        let vectors: Value = serde_json::from_str(VECTORS).unwrap();
        assert!(merchant(&vectors, "short").is_err());
    }
}
