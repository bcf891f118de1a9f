//! Parameters of a request, and the text that their signature covers: raw values, sorted by name
//! (RSA2, which is RSASSA-PKCS1-v1_5 with SHA-256). They are escaped after signing only.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::crypto::rsa::RsaPrivateKey;

/// The parameter that holds the signature.
pub(super) const SIGN: &str = "sign";
/// The parameter that names the algorithm.
pub(super) const SIGN_TYPE: &str = "sign_type";
/// The parameter that names the encoding; it stands in the query, for the gateway needs it to read
/// the rest.
pub(super) const CHARSET: &str = "charset";

/// The only algorithm offered.
pub(super) const RSA2: &str = "RSA2";
/// The only encoding used.
pub(super) const UTF_8: &str = "utf-8";

/// The text that a signature covers: `name=value`, sorted by the bytes of the names, joined by `&`.
/// Parameters without a value are left out.
pub(super) fn signed_text<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut pairs: Vec<(&str, &str)> = pairs.filter(|(_, value)| !value.is_empty()).collect();
    pairs.sort_unstable();
    let pairs = pairs.iter().map(|(name, value)| format!("{name}={value}"));
    pairs.collect::<Vec<_>>().join("&")
}

/// The parameters of one request.
#[derive(Debug, Default)]
pub(super) struct RequestParameters(Vec<(&'static str, String)>);

impl RequestParameters {
    /// Adds a parameter; one without a value is not sent.
    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.0.push((name, value));
        }
        self
    }

    /// The text to sign.
    pub(super) fn text(&self) -> String {
        signed_text(self.0.iter().map(|(name, value)| (*name, value.as_str())))
    }

    /// Signs; `None` only if the library fails.
    pub(super) fn signed(self, key: &RsaPrivateKey) -> Option<SignedForm> {
        let signature = key.sign(self.text().as_bytes())?;
        let mut all = self.0;
        all.sort_unstable();
        all.push((SIGN, STANDARD.encode(signature)));
        Some(SignedForm(all))
    }
}

/// Parameters in order, the signature last.
#[derive(Debug)]
pub(super) struct SignedForm(Vec<(&'static str, String)>);

impl SignedForm {
    /// All of them, escaped: an order string for the wallet's SDK, or the query of an address.
    pub(super) fn whole(&self) -> String {
        self.escaped(|_| true)
    }

    /// All but `charset`, escaped: the body of a call.
    pub(super) fn body(&self) -> String {
        self.escaped(|name| name != CHARSET)
    }

    fn escaped(&self, takes: impl Fn(&str) -> bool) -> String {
        let mut text = form_urlencoded::Serializer::new(String::new());
        text.extend_pairs(self.0.iter().filter(|(name, _)| takes(name)));
        text.finish()
    }
}
