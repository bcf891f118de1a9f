//! Signatures made by hand, with the crypto library alone: whatever a merchant's program, or an
//! attacker, could send. Nothing here comes from the tested code except the PEM encoding of its
//! keys.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    RSA_PKCS1_SHA256, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Request, header};
use paymux::signature::{Algorithm, SigningKey, VerifyingKey};
use serde_json::Value;

use crate::world::enrolment::{HOST, ORIGIN};

/// Every algorithm a merchant may be enrolled with.
pub(crate) const ALGORITHMS: [&str; 5] = [
    "ed25519",
    "ecdsa-p256-sha256",
    "rsa-pss-sha512",
    "rsa-v1_5-sha256",
    "hmac-sha256",
];

pub(crate) const SECRET: &[u8] = b"a secret of the tests, 40 bytes of it...";

/// An algorithm's signing key; the two of RSA share a key pair, as a merchant's might.
pub(crate) struct TestSigningKey {
    pub(crate) algorithm: &'static str,
    /// The public key as enrolled; of a shared secret the secret.
    pub(crate) public: Vec<u8>,
    private: Vec<u8>,
}

/// One key of each algorithm, and a second set for another merchant.
pub(crate) static KEYS: LazyLock<[Vec<TestSigningKey>; 2]> = LazyLock::new(|| {
    [
        key_set(SECRET),
        key_set(b"the secret of M2: 32 bytes of it"),
    ]
});

fn key_set(secret: &[u8]) -> Vec<TestSigningKey> {
    let pair = |name: &str| {
        let (private, public) = SigningKey::generate(Algorithm::parse(name).unwrap()).unwrap();
        (der(&private), public.into_bytes())
    };
    let rsa = pair("rsa-pss-sha512");
    let keys = ALGORITHMS.map(|algorithm| {
        let (private, public) = match algorithm {
            "hmac-sha256" => (secret.to_vec(), secret.to_vec()),
            "ed25519" | "ecdsa-p256-sha256" => pair(algorithm),
            _ => rsa.clone(),
        };
        TestSigningKey {
            algorithm,
            public,
            private,
        }
    });
    keys.into()
}

fn der(pem: &str) -> Vec<u8> {
    let lines = pem.lines().filter(|line| !line.starts_with('-'));
    STANDARD.decode(lines.collect::<String>()).unwrap()
}

impl TestSigningKey {
    pub(crate) fn verifying(&self) -> VerifyingKey {
        if self.algorithm == "hmac-sha256" {
            return VerifyingKey::from_secret(&self.public).unwrap();
        }
        let pem = str::from_utf8(&self.public).unwrap();
        VerifyingKey::of_algorithm(Algorithm::parse(self.algorithm).unwrap(), pem).unwrap()
    }

    pub(crate) fn sign(&self, base: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let pair = RsaKeyPair::from_pkcs8(&self.private).unwrap();
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(encoding, &random, base, &mut signature).unwrap();
            signature
        };
        match self.algorithm {
            "ed25519" => {
                let pair = Ed25519KeyPair::from_pkcs8(&self.private).unwrap();
                pair.sign(base).as_ref().to_vec()
            }
            "ecdsa-p256-sha256" => {
                let fixed = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let pair = EcdsaKeyPair::from_pkcs8(fixed, &self.private).unwrap();
                pair.sign(&random, base).unwrap().as_ref().to_vec()
            }
            "rsa-pss-sha512" => rsa(&RSA_PSS_SHA512),
            "rsa-v1_5-sha256" => rsa(&RSA_PKCS1_SHA256),
            _ => mac(&self.private, base),
        }
    }

    /// ECDSA as most libraries encode it by default: ASN.1 instead of r and s.
    pub(crate) fn sign_der(&self, base: &[u8]) -> Vec<u8> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.private);
        let signature = pair.unwrap().sign(&SystemRandom::new(), base).unwrap();
        signature.as_ref().to_vec()
    }

    /// Every form of the public key that could be mistaken for a secret.
    pub(crate) fn public_forms(&self) -> Vec<Vec<u8>> {
        let pem = str::from_utf8(&self.public).unwrap();
        let spki = der(pem);
        let bare = spki[spki.len() - 32..].to_vec();
        let trimmed = pem.trim_end().as_bytes().to_vec();
        vec![self.public.clone(), trimmed, spki, bare]
    }
}

/// A MAC under the given bytes.
pub(crate) fn mac(secret: &[u8], base: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    hmac::sign(&key, base).as_ref().to_vec()
}

/// An unsigned request, and its signature's parameters.
#[derive(Clone)]
pub(crate) struct SignatureDraft {
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
    pub(crate) label: &'static str,
    pub(crate) covered: Vec<&'static str>,
    pub(crate) created: Option<i64>,
    pub(crate) expires: Option<i64>,
    pub(crate) nonce: Option<String>,
    pub(crate) key_id: String,
    pub(crate) alg: Option<String>,
}

impl SignatureDraft {
    /// A valid one.
    pub(crate) fn new(path: &str, body: &Value, (key_id, nonce): (&str, String), now: i64) -> Self {
        Self {
            path: path.to_owned(),
            body: serde_json::to_vec(body).unwrap(),
            label: "sig",
            covered: vec!["@method", "@target-uri", "content-digest", "content-type"],
            created: Some(now),
            expires: Some(now + 120),
            nonce: Some(nonce),
            key_id: key_id.to_owned(),
            alg: None,
        }
    }

    fn content_digest(&self) -> String {
        let digest = STANDARD.encode(digest(&SHA256, &self.body).as_ref());
        format!("sha-256=:{digest}:")
    }

    fn member(&self) -> String {
        let names: Vec<String> = self.covered.iter().map(|it| format!("\"{it}\"")).collect();
        let mut member = format!("({})", names.join(" "));
        let texts = [
            ("created", self.created.map(|it| it.to_string())),
            ("expires", self.expires.map(|it| it.to_string())),
            ("nonce", self.nonce.as_ref().map(|it| format!("\"{it}\""))),
            ("keyid", Some(format!("\"{}\"", self.key_id))),
            ("alg", self.alg.as_ref().map(|it| format!("\"{it}\""))),
        ];
        for (name, value) in texts {
            if let Some(value) = value {
                member = format!("{member};{name}={value}");
            }
        }
        member
    }

    /// The signature base, built by hand (RFC 9421, section 2.5).
    pub(crate) fn base(&self) -> String {
        let lines = self.covered.iter().map(|name| {
            let value = match *name {
                "@method" => "POST".to_owned(),
                "@target-uri" => format!("{ORIGIN}{}", self.path),
                "content-digest" => self.content_digest(),
                _ => "application/json".to_owned(),
            };
            format!("\"{name}\": {value}\n")
        });
        let params = format!("\"@signature-params\": {}", self.member());
        lines.chain([params]).collect()
    }

    /// The request without a signature.
    pub(crate) fn bare(&self) -> Request<Bytes> {
        let request = Request::post(self.path.as_str())
            .header(header::HOST, HOST)
            .header(header::CONTENT_TYPE, "application/json")
            .header("content-digest", self.content_digest());
        request.body(Bytes::from(self.body.clone())).unwrap()
    }

    /// Adds a signature of these bytes beside those that are there.
    pub(crate) fn put(&self, request: &mut Request<Bytes>, signature: &[u8]) {
        let text = STANDARD.encode(signature);
        for (name, value) in [
            (
                "signature-input",
                format!("{}={}", self.label, self.member()),
            ),
            ("signature", format!("{}=:{text}:", self.label)),
        ] {
            let value = HeaderValue::try_from(value).unwrap();
            request.headers_mut().append(name, value);
        }
    }

    /// The request with these bytes as its signature.
    pub(crate) fn with(&self, signature: &[u8]) -> Request<Bytes> {
        let mut request = self.bare();
        self.put(&mut request, signature);
        request
    }

    /// The request, signed.
    pub(crate) fn by(&self, key: &TestSigningKey) -> Request<Bytes> {
        self.with(&key.sign(self.base().as_bytes()))
    }
}
