//! A small merchant of UnionPay, written for these tests from the interface's description: signs
//! requests, reads raw answers, verifies certificate, chain and signature.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use paymux::crypto::digest::sha256;
use paymux::crypto::rsa::{RsaPrivateKey, RsaPublicKey, RsaScheme};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::certificate::X509Certificate;

pub(super) const FORM: &str = "application/x-www-form-urlencoded;charset=UTF-8";
const UNIONPAY: &str = "中国银联股份有限公司";

/// Fields of a message, in any order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct UnionPayFieldList(pub(super) Vec<(String, String)>);

impl UnionPayFieldList {
    pub(super) fn of(pairs: &[(&str, &str)]) -> Self {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self(pairs.collect())
    }

    pub(super) fn get(&self, name: &str) -> &str {
        let field = self.0.iter().find(|(known, _)| known == name);
        field.map_or("", |(_, value)| value)
    }

    /// The same with another value.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.0.retain(|(known, _)| known != name);
        self
    }

    pub(super) fn sign_text(&self) -> String {
        let mut fields: Vec<_> = self
            .0
            .iter()
            .filter(|(name, _)| name != "signature")
            .collect();
        fields.sort();
        let fields = fields.iter().map(|(name, value)| format!("{name}={value}"));
        fields.collect::<Vec<_>>().join("&")
    }

    pub(super) fn body(&self) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(&self.0);
        form.finish()
    }

    pub(super) fn of_form(body: &[u8]) -> Self {
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    /// Splits the raw text of an answer: `&` inside brackets belongs to the value.
    pub(super) fn of_raw(text: &str) -> Self {
        let text = text
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'))
            .unwrap_or(text);
        let (mut parts, mut closing) = (vec![String::new()], None);
        for letter in text.chars() {
            match (letter, closing) {
                ('&', None) => parts.push(String::new()),
                _ => parts.last_mut().unwrap().push(letter),
            }
            closing = match (letter, closing) {
                ('{', None) => Some('}'),
                ('[', None) => Some(']'),
                (letter, Some(end)) if letter == end => None,
                (_, closing) => closing,
            };
        }
        let pairs = parts
            .iter()
            .map(|part| part.split_once('=').unwrap_or((part, "")));
        Self(
            pairs
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|half| char::from_digit(half.into(), 16));
    bytes.iter().flat_map(digits).flatten().collect()
}

/// A merchant's key, as the counterpart knows it.
pub(super) struct UnionPayTestMerchant {
    pub(super) cert_id: String,
    pub(super) key: RsaPrivateKey,
}

impl UnionPayTestMerchant {
    pub(super) fn new(cert_id: &str, pkcs8: &[u8]) -> Self {
        let key = RsaPrivateKey::from_pkcs8(pkcs8, RsaScheme::Pkcs1Sha256).unwrap();
        Self {
            cert_id: cert_id.to_owned(),
            key,
        }
    }

    pub(super) fn sign(&self, fields: &UnionPayFieldList) -> UnionPayFieldList {
        let fields = fields.clone().with("certId", &self.cert_id);
        let hashed = hex(&sha256(fields.sign_text().as_bytes()));
        let signature = STANDARD.encode(self.key.sign(hashed.as_bytes()).unwrap());
        fields.with("signature", &signature)
    }

    /// The frequent mistake: over the text itself.
    pub(super) fn sign_once(&self, fields: &UnionPayFieldList) -> UnionPayFieldList {
        let fields = fields.clone().with("certId", &self.cert_id);
        let signature = STANDARD.encode(self.key.sign(fields.sign_text().as_bytes()).unwrap());
        fields.with("signature", &signature)
    }
}

/// Root and middle certificate that a merchant trusts, and the time.
#[derive(Clone)]
pub(super) struct UnionPayTrust {
    pub(super) root_pem: String,
    pub(super) middle_pem: String,
    pub(super) now_s: i64,
}

impl UnionPayTrust {
    /// Why a message of UnionPay is not to be believed.
    pub(super) fn check(&self, message: &UnionPayFieldList) -> Result<(), &'static str> {
        if message.get("version") != "5.1.0" || message.get("signMethod") != "01" {
            return Err("version or method");
        }
        let pem = message.get("signPubKeyCert");
        let leaf = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| "certificate")?;
        let [middle, root] = [&self.middle_pem, &self.root_pem]
            .map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap());
        let [leaf, middle, root] =
            [&leaf, &middle, &root].map(|der| x509_parser::parse_x509_certificate(der).unwrap().1);
        for (certificate, issuer) in [(&leaf, &middle), (&middle, &root), (&root, &root)] {
            if !is_issued_by(certificate, issuer) {
                return Err("chain");
            }
        }
        let validity = leaf.validity();
        if !(validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&self.now_s)
        {
            return Err("expired");
        }
        let name = leaf
            .subject()
            .iter_common_name()
            .next()
            .unwrap()
            .as_str()
            .unwrap();
        if name.split('@').nth(2) != Some(UNIONPAY) {
            return Err("name");
        }
        let hashed = hex(&sha256(message.sign_text().as_bytes()));
        let signature = STANDARD
            .decode(message.get("signature"))
            .map_err(|_| "signature")?;
        if key_of(&leaf).verify(hashed.as_bytes(), &signature) {
            Ok(())
        } else {
            Err("signature")
        }
    }
}

fn key_of(certificate: &X509Certificate<'_>) -> RsaPublicKey {
    RsaPublicKey::from_spki(certificate.public_key().raw, RsaScheme::Pkcs1Sha256).unwrap()
}

fn is_issued_by(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    certificate.issuer() == issuer.subject()
        && key_of(issuer).verify(
            certificate.tbs_certificate.as_ref(),
            &certificate.signature_value.data,
        )
}

/// What came back from the counterpart.
#[derive(Debug)]
pub(super) struct UnionPayRawAnswer {
    pub(super) status: u16,
    pub(super) media_type: String,
    pub(super) text: String,
    pub(super) fields: UnionPayFieldList,
}

impl UnionPayRawAnswer {
    pub(super) fn code(&self) -> &str {
        self.fields.get("respCode")
    }

    pub(super) fn original(&self) -> &str {
        self.fields.get("origRespCode")
    }
}

/// One HTTPS connection a request.
pub(super) struct UnionPayHttpsCaller {
    tls: TlsConnector,
}

impl UnionPayHttpsCaller {
    pub(super) fn new(roots_pem: &str) -> Self {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(roots_pem.as_bytes()).unwrap())
            .unwrap();
        let tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            tls: TlsConnector::from(Arc::new(tls)),
        }
    }

    /// `None` if the connection ends without a response.
    pub(super) async fn send(
        &self,
        method: Method,
        url: &str,
        media_type: &str,
        body: String,
    ) -> Option<UnionPayRawAnswer> {
        let (authority, _) = split(url);
        self.exchange(method, authority, url, media_type, body)
            .await
    }

    /// The same to a server that is called by another name.
    pub(super) async fn send_to(
        &self,
        host_name: &str,
        url: &str,
        media_type: &str,
        body: String,
    ) -> Option<UnionPayRawAnswer> {
        self.exchange(Method::POST, host_name, url, media_type, body)
            .await
    }

    async fn exchange(
        &self,
        method: Method,
        host_name: &str,
        url: &str,
        media_type: &str,
        body: String,
    ) -> Option<UnionPayRawAnswer> {
        let (authority, path) = split(url);
        let (host, _) = authority.split_once(':').unwrap();
        let stream = TcpStream::connect(authority).await.unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let stream = self.tls.connect(name, stream).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driven = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", host_name)
            .header("content-type", media_type)
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let answer = sender.send_request(request).await.ok()?;
        let (head, body) = answer.into_parts();
        let text = String::from_utf8(body.collect().await.ok()?.to_bytes().to_vec()).unwrap();
        driven.abort();
        let media_type = head.headers.get("content-type");
        Some(UnionPayRawAnswer {
            status: head.status.as_u16(),
            media_type: media_type
                .map_or("", |text| text.to_str().unwrap())
                .to_owned(),
            fields: UnionPayFieldList::of_raw(&text),
            text,
        })
    }
}

/// Authority and path.
fn split(url: &str) -> (&str, &str) {
    let rest = url.strip_prefix("https://").unwrap();
    rest.split_at(rest.find('/').unwrap())
}
