//! Keys that verify signatures: a public key or a shared secret, for the algorithm that the configuration
//! names (Q3).

use crate::config::named::NamedFile;
use crate::config::outline::{mark, secret_fingerprint};
use crate::config::reading::{ConfigReader, ExpectedValue, Located, shape};
use crate::config::section::Section;
use crate::domain::identifiers::unhex_any;
use crate::signature::{Algorithm, KeyFault, VerifyingKey};

const ALGORITHM: ExpectedValue = shape(
    "one of ed25519, ecdsa-p256-sha256, rsa-pss-sha512, rsa-v1_5-sha256, hmac-sha256",
    "\"ed25519\"",
);

impl Section<'_> {
    /// A verifying key: `file` with the public key or, for a shared secret, `secret` with its name; and its
    /// fingerprint.
    pub(super) fn public_key(
        &mut self,
        r: &mut ConfigReader<'_>,
        id: Option<&str>,
    ) -> Option<(VerifyingKey, String)> {
        let algorithm =
            self.mandatory(r, "algorithm", ALGORITHM, |v| Algorithm::parse(v.as_str()?));
        let Some(algorithm) = algorithm else {
            self.knows(&["file", "secret"]);
            return None;
        };
        if algorithm.value.is_shared() {
            return self.shared_secret(r);
        }
        let file = self.file(r, "file", |path| NamedFile::Public {
            id: id.unwrap_or_default().to_owned(),
            algorithm: algorithm.value,
            path,
        })?;
        match VerifyingKey::of_algorithm(algorithm.value, &file.value) {
            Ok(key) => Some((key, mark(file.value.as_bytes()))),
            Err(fault) => {
                self.report_unfit_key(r, &algorithm, &file, &fault);
                None
            }
        }
    }

    /// Reports an unsuitable key: one of another algorithm, or no key.
    fn report_unfit_key(
        &self,
        r: &mut ConfigReader<'_>,
        algorithm: &Located<Algorithm>,
        file: &Located<String>,
        fault: &KeyFault,
    ) {
        if let Ok(other) = VerifyingKey::from_spki_pem(&file.value) {
            let expected = format!("{}, which the key in the file is for", other.algorithm());
            let found = format!("{:?}", algorithm.value.name());
            let advice = "write the algorithm of the key, or ask its owner for the right key";
            let subject = self.subject("algorithm");
            r.fault(algorithm.line, &subject, &expected, &found, advice);
        } else {
            let expected = "a public key, SubjectPublicKeyInfo in PEM";
            let advice = "ask its owner for the public half";
            let subject = self.subject("file");
            r.unusable(file.line, &subject, expected, &fault.to_string(), advice);
        }
    }

    fn shared_secret(&mut self, r: &mut ConfigReader<'_>) -> Option<(VerifyingKey, String)> {
        let secret = self.secret(r, "secret", |path| Some(NamedFile::Secret(path)))?;
        let bytes = unhex_any(secret.text.trim());
        let key = bytes.and_then(|bytes| {
            let key = VerifyingKey::from_secret(&bytes).ok()?;
            Some((key, secret_fingerprint(&bytes)))
        });
        if key.is_none() {
            let expected = "32 to 256 random bytes as hexadecimal digits";
            let found = "something else (not shown)";
            let advice = "make one: openssl rand -hex 32";
            let subject = self.subject("secret");
            r.unusable(secret.line, &subject, expected, found, advice);
        }
        key
    }
}
