//! One account: who we are there, the key that signs for it, and what proves the institution's
//! messages to it: a public key, or a certificate with its number.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::crypto::certificate::{Certificate, rsa_issuer_serial_md5s};
use crate::crypto::pem;
use crate::crypto::rsa::{RsaPrivateKey, RsaPublicKey, RsaScheme};
use crate::domain::identifiers::{AccountId, ReceiverId};
use crate::domain::institutions::AccountRole;
use crate::institution::alipay::settings::{
    ALIPAY_CERTIFICATE, ALIPAY_PUBLIC_KEY, ALIPAY_ROOT, APP_CERTIFICATE, APP_ID, CREATE_CODE, KEY,
    PAYER_ID, PRECREATE_CODE,
};
use crate::institution::{ConfiguredAccount, SettingValues, SettingsFault};
use crate::signature::VerifyingKey;

/// One account.
pub(super) struct AlipayAccount {
    pub(super) id: AccountId,
    pub(super) app_id: Box<str>,
    pub(super) role: AccountRole,
    /// Our own number (PID).
    pub(super) receiver: ReceiverId,
    /// Where notifications to it come.
    pub(super) callback_url: String,
    /// The field that names a payer in a create.
    pub(super) payer_field: PayerField,
    /// `product_code` of a create, by contract.
    pub(super) create_code: Option<Box<str>>,
    /// `product_code` of a code to scan, by contract.
    pub(super) precreate_code: Option<Box<str>>,
    /// Signs requests; absent while it cannot be used.
    key: Option<RsaPrivateKey>,
    proof: MessageProof,
}

/// How an application names its payers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PayerField {
    /// `buyer_open_id`, and `op_buyer_open_id` of another application.
    OpenId,
    /// `buyer_id`, the same in every application.
    UserId,
}

/// What proves that a message is the institution's.
enum MessageProof {
    /// Nothing: no message counts, so nothing is sent either.
    Absent,
    /// Its public key.
    Key(VerifyingKey),
    /// The key in its certificate.
    Certificate(Box<CertificateMode>),
}

struct CertificateMode {
    key: RsaPublicKey,
    numbers: CertificateNumbers,
    /// Number of the institution's certificate, which its answers name.
    alipay: String,
}

/// The certificate numbers that requests name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CertificateNumbers {
    /// `app_cert_sn`.
    pub(super) app: String,
    /// `alipay_root_cert_sn`.
    pub(super) root: String,
}

impl AlipayAccount {
    /// Reads the settings of an account.
    ///
    /// # Errors
    /// [`SettingsFault`]: a key of another kind, or keys and certificates that do not fit together.
    pub(super) fn new(
        account: ConfiguredAccount,
        callback_url: String,
    ) -> Result<Self, SettingsFault> {
        let values = &account.values;
        let key = values.secret(KEY).map(|text| {
            RsaPrivateKey::from_text(text.expose(), RsaScheme::Pkcs1Sha256).ok_or(
                SettingsFault::Unfit(KEY, "an RSA key of 2048 bits or more, PKCS #1 or PKCS #8"),
            )
        });
        let key = key.transpose()?;
        let text = |name| values.text(name).map(Into::into);
        Ok(Self {
            app_id: values.app(APP_ID).map_or("", |app| app.as_str()).into(),
            payer_field: match values.text(PAYER_ID) {
                Some("buyer_id") => PayerField::UserId,
                Some(_) | None => PayerField::OpenId,
            },
            create_code: text(CREATE_CODE),
            precreate_code: text(PRECREATE_CODE),
            proof: MessageProof::new(values, key.as_ref())?,
            callback_url,
            key,
            id: account.id,
            role: account.role,
            receiver: account.receiver,
        })
    }

    /// The key that signs; `None` if it cannot be used, or if no answer could be believed.
    pub(super) fn signing(&self) -> Option<&RsaPrivateKey> {
        self.key.as_ref().filter(|_| match self.proof {
            MessageProof::Absent => false,
            MessageProof::Key(_) | MessageProof::Certificate(_) => true,
        })
    }

    /// The certificate numbers that requests name, in certificate mode.
    pub(super) fn certificate_numbers(&self) -> Option<&CertificateNumbers> {
        match &self.proof {
            MessageProof::Certificate(mode) => Some(&mode.numbers),
            MessageProof::Absent | MessageProof::Key(_) => None,
        }
    }

    /// Whether an answer that names this certificate number is signed by the institution. In
    /// certificate mode the number must be that of the certificate in hand.
    pub(super) fn proves_answer(&self, text: &str, sign: &str, number: Option<&str>) -> bool {
        match &self.proof {
            MessageProof::Certificate(mode) if number != Some(mode.alipay.as_str()) => false,
            MessageProof::Absent | MessageProof::Key(_) | MessageProof::Certificate(_) => {
                self.proves(text, sign)
            }
        }
    }

    /// Whether a text is signed by the institution.
    pub(super) fn proves(&self, text: &str, sign: &str) -> bool {
        let Ok(signature) = STANDARD.decode(sign) else {
            return false;
        };
        match &self.proof {
            MessageProof::Absent => false,
            MessageProof::Key(key) => key.verifies(text.as_bytes(), &signature),
            MessageProof::Certificate(mode) => mode.key.verify(text.as_bytes(), &signature),
        }
    }
}

impl MessageProof {
    fn new(values: &SettingValues, key: Option<&RsaPrivateKey>) -> Result<Self, SettingsFault> {
        let [app, alipay, root] =
            [APP_CERTIFICATE, ALIPAY_CERTIFICATE, ALIPAY_ROOT].map(|name| values.certificate(name));
        let public = values.public_key(ALIPAY_PUBLIC_KEY);
        match (public, app, alipay, root) {
            (Some(_), Some(_), _, _) | (Some(_), _, Some(_), _) | (Some(_), _, _, Some(_)) => {
                Err(SettingsFault::Unfit(
                    ALIPAY_PUBLIC_KEY,
                    "either it or the three certificates, not both",
                ))
            }
            (Some(public), None, None, None) => {
                if key.is_some_and(|key| is_public_half(public, key)) {
                    let expected = "the institution's public key, not the application's own";
                    return Err(SettingsFault::Unfit(ALIPAY_PUBLIC_KEY, expected));
                }
                Ok(Self::Key(public.clone()))
            }
            (None, Some(app), Some(alipay), Some(root)) => {
                let mode = CertificateMode::new(app, alipay, root, key)?;
                Ok(Self::Certificate(Box::new(mode)))
            }
            (None, _, _, _) => Ok(Self::Absent),
        }
    }
}

/// Whether a public key belongs to this private key, by its bytes.
fn is_public_half(public: &VerifyingKey, private: &RsaPrivateKey) -> bool {
    let own = pem::write(pem::PUBLIC_KEY, &private.public_spki());
    let own = VerifyingKey::of_algorithm(public.algorithm(), &own);
    own.is_ok_and(|own| own.is_same_as(public))
}

impl CertificateMode {
    fn new(
        app: &[Box<[u8]>],
        alipay: &[Box<[u8]>],
        root: &[Box<[u8]>],
        key: Option<&RsaPrivateKey>,
    ) -> Result<Self, SettingsFault> {
        let app = holder(APP_CERTIFICATE, app)?;
        if key.is_some_and(|key| key.public_spki() != app.public_key()) {
            let expected = "the certificate of the key in key";
            return Err(SettingsFault::Unfit(APP_CERTIFICATE, expected));
        }
        let intermediates = parsed(alipay.get(1..).unwrap_or_default());
        let alipay = holder(ALIPAY_CERTIFICATE, alipay)?;
        let roots = parsed(root);
        // Their validity is checked when the files are read; here only whether they fit together.
        let begun = [&alipay].into_iter().chain(&intermediates).chain(&roots);
        let begun = begun.map(|certificate| certificate.validity_s().0).max();
        alipay
            .verify_chain(&intermediates, &roots, begun.unwrap_or_default())
            .map_err(|_| {
                let expected = "a certificate issued under alipay_root, with its intermediates";
                SettingsFault::Unfit(ALIPAY_CERTIFICATE, expected)
            })?;
        let verifying = RsaPublicKey::from_spki(alipay.public_key(), RsaScheme::Pkcs1Sha256);
        let expected = "a certificate of an RSA key";
        let unfit = || SettingsFault::Unfit(ALIPAY_CERTIFICATE, expected);
        let bundle = root.iter().map(|der| pem::write(pem::CERTIFICATE, der));
        let bundle = rsa_issuer_serial_md5s(&bundle.collect::<String>());
        Ok(Self {
            key: verifying.ok_or_else(unfit)?,
            alipay: number(ALIPAY_CERTIFICATE, &alipay)?,
            numbers: CertificateNumbers {
                app: number(APP_CERTIFICATE, &app)?,
                root: bundle.ok_or(SettingsFault::Unfit(
                    ALIPAY_ROOT,
                    "a bundle with a certificate that is signed with RSA",
                ))?,
            },
        })
    }
}

fn parsed(ders: &[Box<[u8]>]) -> Vec<Certificate> {
    let ders = ders.iter();
    ders.filter_map(|der| Certificate::from_der(der)).collect()
}

fn holder(name: &'static str, chain: &[Box<[u8]>]) -> Result<Certificate, SettingsFault> {
    let first = chain.first().and_then(|der| Certificate::from_der(der));
    first.ok_or(SettingsFault::Unfit(name, "a certificate that can be read"))
}

fn number(name: &'static str, certificate: &Certificate) -> Result<String, SettingsFault> {
    let expected = "a certificate whose issuer has a name in plain text";
    let number = certificate.issuer_serial_md5();
    number.ok_or(SettingsFault::Unfit(name, expected))
}
