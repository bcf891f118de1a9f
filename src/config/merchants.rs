//! `[[merchant]]`: identity, certificates and keys, and notification addresses.

use std::collections::HashMap;

use crate::config::KeyClass;
use crate::config::enrolment::served::check_modes;
use crate::config::enrolment::{Enrolment, INSTITUTION, MERCHANT, NAME, name};
use crate::config::gateway::{ORIGIN, plain_origin};
use crate::config::named::{
    CertificateRole, NamedFile, PermittedReaders, certificates, read_file, text,
};
use crate::config::reading::{ConfigReader, ExpectedValue, Located, shape};
use crate::config::section::Section;
use crate::crypto::digest::sha256;
use crate::domain::identifiers::{InstitutionId, MerchantId, unhex};
use crate::domain::institutions::Mode;
use crate::domain::merchant::{CertificateDigest, ClientCertificate, Merchant, OrderPage};
use crate::signature::EnrolledKey;

const ADDRESS: ExpectedValue = shape(
    "an https address under one of notify_origins",
    "\"https://shop.example/notice\"",
);

impl Enrolment {
    pub(super) fn merchant(&mut self, r: &mut ConfigReader<'_>, mut s: Section<'_>) {
        const MTLS: ExpectedValue = shape("one of required, optional, off", "\"optional\"");
        let id = s.mandatory(r, "id", MERCHANT, |v| MerchantId::parse(v.as_str()?).ok());
        if let Some(id) = &id {
            r.once(&mut self.merchant_ids, id, &s.subject("id"));
        }
        let owner = id.as_ref().map(|id| id.value.as_str());
        let name = s.mandatory(r, "name", NAME, |v| v.as_str().and_then(name));
        let admission = self.admission(r, &mut s, owner);
        let mtls = s.mandatory(r, "mtls", MTLS, |v| match v.as_str()? {
            "required" => Some(ClientCertificate::Required),
            "optional" => Some(ClientCertificate::Optional),
            "off" => Some(ClientCertificate::Off),
            _ => None,
        });
        let (named, certificates) = client_certificates(r, &mut s);
        if let Some(mtls) = &mtls
            && mtls.value == ClientCertificate::Required
            && named == 0
        {
            let advice = "enrol the merchant's certificate, or say mtls = \"optional\"";
            let expected = "a certificate, because mtls is required";
            let subject = s.subject("certificates");
            r.fault(mtls.line, &subject, expected, "none", advice);
        }
        let origins = s.some(r, "notify_origins", ORIGIN, plain_origin);
        let notice_url = s.may(r, "notice_url", ADDRESS, |v| text(v).map(str::to_owned));
        let keys = self.named_keys(r, &mut s, owner, KeyClass::Merchant);
        let looked_at = mtls
            .as_ref()
            .is_none_or(|it| it.value != ClientCertificate::Off);
        if !(looked_at && named > 0) {
            no_secrets(r, &s, &keys);
        }
        self.merchant_keys.extend(keys);
        self.defaults_of(r, &mut s, id.as_ref());
        let order_page = order_page(r, &mut s);
        s.end(r);
        let (Some(id), Some(name), Some(admission), Some(mtls)) = (id, name, admission, mtls)
        else {
            return;
        };
        let merchant = Merchant {
            id: id.value.clone(),
            name: name.value,
            admission,
            client_certificate: mtls.value,
            certificates,
            notify_origins: origins.into_iter().map(|found| found.value).collect(),
            notice_url: notice_url.as_ref().map(|found| found.value.clone()),
            default_institutions: HashMap::new(),
            order_page,
        };
        if let Some(url) = notice_url
            && !merchant.may_be_notified_at(&url.value)
        {
            let advice = "add its origin to notify_origins";
            let found = format!("{:?}", url.value);
            r.fault(
                url.line,
                &s.subject("notice_url"),
                ADDRESS.expected,
                &found,
                advice,
            );
        }
        self.merchants.insert(id.value, merchant);
    }

    fn defaults_of(
        &mut self,
        r: &mut ConfigReader<'_>,
        s: &mut Section<'_>,
        merchant: Option<&Located<MerchantId>>,
    ) {
        let mut table = s.table(r, "default_institution");
        let mut modes = Vec::new();
        for mode in Mode::ALL {
            let read = |text: &str| InstitutionId::parse(text).ok();
            let named = table.may(r, mode.name(), INSTITUTION, |v| v.as_str().and_then(read));
            if let Some(named) = &named {
                modes.push(Located {
                    value: mode,
                    line: named.line,
                });
            }
            if let (Some(named), Some(merchant)) = (named, merchant) {
                self.defaults.push((merchant.value.clone(), mode, named));
            }
        }
        check_modes(r, &table.title, &modes);
        table.end(r);
    }
}

/// What the merchant's payers meet first; our page where it is not said.
fn order_page(r: &mut ConfigReader<'_>, s: &mut Section<'_>) -> OrderPage {
    const ORDER_PAGE: ExpectedValue = shape("one of shown, direct", "\"shown\"");
    let found = s.may(r, "order_page", ORDER_PAGE, |v| match v.as_str()? {
        "shown" => Some(OrderPage::Shown),
        "direct" => Some(OrderPage::Direct),
        _ => None,
    });
    found.map_or(OrderPage::Shown, |found| found.value)
}

/// R-6.3.1-1b: whoever can verify a signature with a shared secret could have made it.
fn no_secrets(r: &mut ConfigReader<'_>, s: &Section<'_>, keys: &[EnrolledKey]) {
    if keys.iter().any(|it| it.key.algorithm().is_shared()) {
        let expected = "a client certificate beside a shared secret, and mtls that verifies it";
        let advice = "enrol the merchant's certificate and say mtls = \"required\" or \"optional\", \
                      or enrol a public key instead of the secret";
        r.fault(s.line, &s.subject("keys"), expected, "none", advice);
    }
}

/// The number of configured certificates, and the digests of the readable ones, given as a digest
/// or as a file (Q4). An expired one keeps its digest, so that the refusal names the expiry.
fn client_certificates(
    r: &mut ConfigReader<'_>,
    s: &mut Section<'_>,
) -> (usize, Vec<CertificateDigest>) {
    const CERTIFICATE: ExpectedValue = shape(
        "the SHA-256 digest of a certificate, or a file with one",
        "\"certs/M1001.pem\"",
    );
    let named = s.list(r, "certificates", CERTIFICATE, |text| {
        (!text.is_empty()).then(|| text.to_owned())
    });
    let subject = s.subject("certificates");
    let mut digests = Vec::with_capacity(named.len());
    for Located { value, line } in &named {
        if let Some(digest) = unhex(value) {
            digests.push(digest);
            continue;
        }
        let path = r.path(value);
        r.named.push(NamedFile::Certificate {
            certificate: path.clone(),
            key: None,
            holder: CertificateRole::Client,
        });
        let ders = read_file(r, &path, *line, &subject, PermittedReaders::Anybody)
            .and_then(|pem| certificates(r, &pem, *line, &subject));
        if let Some(der) = ders.as_ref().and_then(|ders| ders.first()) {
            digests.push(sha256(der));
        }
    }
    (named.len(), digests)
}
