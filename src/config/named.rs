//! Secrets, keys and certificates, which the configuration names but does not contain.
//!
//! A secret is `env:NAME` or `file:PATH`, never a value; a file with one belongs to its owner only.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use toml::de::DeValue;

use crate::config::reading::{
    ConfigReader, EXPIRY_WARNING_S, ExpectedValue, Located, NotInForce, shape,
};
use crate::config::section::Section;
use crate::domain::identifiers::unhex;
use crate::files::{self, access};
use crate::signature::{Algorithm, KeyFault, SigningKey};

/// The maximum size of a key, certificate or list of authorities. Unit: bytes.
const FILE_BYTES_MAX: u64 = files::TEXT_BYTES_MAX;

const SECRET: ExpectedValue = shape(
    "the name of a secret, env:NAME or file:PATH",
    "\"file:certs/….key\"",
);
const FILE: ExpectedValue = shape("the name of a file", "\"certs/….pem\"");

/// A file that the configuration names, and its expected content, which `paymux keys dev` creates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedFile {
    /// A certificate and, if it is ours, its private key; the host names, if it is a server's.
    Certificate {
        /// The chain in PEM.
        certificate: PathBuf,
        /// The private key in PEM, if a file is named.
        key: Option<PathBuf>,
        /// Its role.
        holder: CertificateRole,
    },
    /// Certificates of authorities in PEM.
    Authorities(PathBuf),
    /// A private key that signs with this id: PKCS #8 in PEM.
    Private {
        /// `keyid`.
        id: String,
        /// The file.
        path: PathBuf,
    },
    /// The public half of another party's key with this id, in PEM.
    Public {
        /// `keyid`.
        id: String,
        /// Its algorithm.
        algorithm: Algorithm,
        /// The file.
        path: PathBuf,
    },
    /// 32 bytes as 64 hexadecimal digits.
    Secret(PathBuf),
}

/// Who presents a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateRole {
    /// Our listener.
    Server,
    /// A client: a merchant calling us, or this gateway calling an institution.
    Client,
}

/// The content of a secret, and its file, if it came from one. Cannot be printed.
pub(super) struct NamedSecret {
    pub(super) text: String,
    pub(super) line: usize,
}

impl Section<'_> {
    /// Reads the secret with this name. `holds` is the expected content.
    pub(super) fn secret(
        &mut self,
        r: &mut ConfigReader<'_>,
        name: &'static str,
        holds: impl FnOnce(PathBuf) -> Option<NamedFile>,
    ) -> Option<NamedSecret> {
        let Located { value, line } =
            self.mandatory(r, name, SECRET, |value| Some(value.clone()))?;
        let subject = self.subject(name);
        let text = value.as_str().unwrap_or_default();
        if let Some(path) = text.strip_prefix("file:") {
            let path = r.path(path);
            r.named.extend(holds(path.clone()));
            let text = read_file(r, &path, line, &subject, PermittedReaders::Owner)?;
            return Some(NamedSecret { text, line });
        }
        let Some(variable) = text.strip_prefix("env:").filter(|name| is_variable(name)) else {
            let advice = "put the value into a file that only its owner may read, \
                          and write file:PATH; then count the value here as known to others";
            r.fault(
                line,
                &subject,
                SECRET.expected,
                "something else (not shown)",
                advice,
            );
            return None;
        };
        let text = r.variable(variable).filter(|text| !text.is_empty());
        if text.is_none() {
            let expected = format!("the environment variable {variable}");
            let advice = "set it before starting";
            r.unusable(line, &subject, &expected, "nothing", advice);
        }
        text.map(|text| NamedSecret { text, line })
    }

    /// A secret of 32 bytes.
    pub(super) fn secret_bytes(
        &mut self,
        r: &mut ConfigReader<'_>,
        name: &'static str,
    ) -> Option<[u8; 32]> {
        let secret = self.secret(r, name, |path| Some(NamedFile::Secret(path)))?;
        let bytes = unhex(secret.text.trim());
        if bytes.is_none() {
            let advice = "make one: openssl rand -hex 32";
            let found = "something else (not shown)";
            let expected = "32 bytes as 64 hexadecimal digits";
            r.unusable(secret.line, &self.subject(name), expected, found, advice);
        }
        bytes
    }

    /// Our private key, by its id.
    pub(super) fn signing_key(
        &mut self,
        r: &mut ConfigReader<'_>,
        name: &'static str,
        id: Option<&str>,
    ) -> Option<Arc<SigningKey>> {
        let holds = |path| {
            let id = id?.to_owned();
            Some(NamedFile::Private { id, path })
        };
        let secret = self.secret(r, name, holds)?;
        self.parsed_key(
            r,
            name,
            secret.line,
            SigningKey::from_pkcs8_pem(id?, &secret.text),
        )
    }

    /// Our private key for an algorithm that the dialect fixes.
    pub(super) fn signing_key_for(
        &mut self,
        r: &mut ConfigReader<'_>,
        name: &'static str,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Option<Arc<SigningKey>> {
        // The institution knows its public half: no development key can take its place.
        let secret = self.secret(r, name, |_| None)?;
        let key = SigningKey::of_algorithm(algorithm, id?, &secret.text);
        self.parsed_key(r, name, secret.line, key)
    }

    fn parsed_key(
        &mut self,
        r: &mut ConfigReader<'_>,
        name: &'static str,
        line: usize,
        read: Result<SigningKey, KeyFault>,
    ) -> Option<Arc<SigningKey>> {
        match read {
            Ok(key) => Some(Arc::new(key)),
            Err(fault) => {
                let expected = "a private key, PKCS #8 in PEM";
                let advice = "make one with paymux keys make";
                let subject = self.subject(name);
                let found = fault.to_string();
                r.unusable(line, &subject, expected, &found, advice);
                None
            }
        }
    }

    /// The content of a file that must be named.
    pub(super) fn file(
        &mut self,
        r: &mut ConfigReader<'_>,
        name: &'static str,
        holds: impl FnOnce(PathBuf) -> NamedFile,
    ) -> Option<Located<String>> {
        let Located { value, line } = self.mandatory(r, name, FILE, text)?;
        let path = r.path(value);
        r.named.push(holds(path.clone()));
        let value = read_file(
            r,
            &path,
            line,
            &self.subject(name),
            PermittedReaders::Anybody,
        )?;
        Some(Located { value, line })
    }

    /// Certificates of authorities; `None` if none are named. An expired or unreadable one is skipped; if
    /// that leaves none, nothing is trusted.
    pub(super) fn authorities(
        &mut self,
        r: &mut ConfigReader<'_>,
        name: &'static str,
    ) -> Option<Vec<CertificateDer<'static>>> {
        let Located { value, line } = self.may(r, name, FILE, text)?;
        let path = r.path(value);
        r.named.push(NamedFile::Authorities(path.clone()));
        let subject = self.subject(name);
        let Some(pem) = read_file(r, &path, line, &subject, PermittedReaders::Anybody) else {
            return Some(Vec::new());
        };
        let expected = "an authority's certificate in force";
        let (mut believed, mut counting) = (Vec::new(), Vec::new());
        for read in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let Ok(der) = read else {
                let found = "one that is no PEM";
                r.skipped(line, &subject, expected, found, "request a new one");
                continue;
            };
            let is_root = |der| RootCertStore::empty().add(der).is_ok();
            match validity_s(&der).filter(|_| is_root(der.clone())) {
                None => {
                    let found = "one that cannot be read";
                    r.skipped(line, &subject, expected, found, "request a new one");
                }
                Some((from, until)) => {
                    let fault = NotInForce {
                        line,
                        subject: &subject,
                        expected,
                        found: &span_text(from, until),
                        advice: "remove it",
                    };
                    if r.in_force_or_skipped(from..=until, fault) {
                        ends_soon(r, line, &subject, until);
                        counting.push(from..=until);
                        believed.push(der);
                    }
                }
            }
        }
        let advice = "name a file with the certificates of authorities that are in force";
        let fault = NotInForce {
            line,
            subject: &subject,
            expected,
            found: "none",
            advice,
        };
        r.in_force(counting, fault);
        Some(believed)
    }

    /// A certificate with its private key, as a listener or a client presents it.
    ///
    /// The two must match, because a listener would panic on a mismatch.
    pub(super) fn identity(
        &mut self,
        r: &mut ConfigReader<'_>,
        names: [&'static str; 2],
        holder: CertificateRole,
    ) -> Option<Arc<CertifiedKey>> {
        let [certificate, key] = names;
        let chain = self.mandatory(r, certificate, FILE, text);
        let path = chain.as_ref().map(|chain| r.path(chain.value));
        let mut private_path = None;
        let private = self.secret(r, key, |path| {
            private_path = Some(path);
            None
        });
        let (chain, path) = (chain?, path?);
        r.named.push(NamedFile::Certificate {
            certificate: path.clone(),
            key: private_path,
            holder,
        });
        let subject = self.subject(certificate);
        let pem = read_file(r, &path, chain.line, &subject, PermittedReaders::Anybody)?;
        let ders = certificates(r, &pem, chain.line, &subject)?;
        let private = private?;
        let key_subject = self.subject(key);
        let Ok(der) = PrivateKeyDer::from_pem_slice(private.text.as_bytes()) else {
            let advice = "name the file with the certificate's private key";
            r.unusable(
                private.line,
                &key_subject,
                "a private key in PEM",
                "none",
                advice,
            );
            return None;
        };
        match CertifiedKey::from_der(ders, der, &default_provider()) {
            Ok(identity) => Some(Arc::new(identity)),
            Err(fault) => {
                let expected = "the private key of the certificate";
                let advice = "name the two files that belong together";
                let found = fault.to_string();
                r.unusable(private.line, &key_subject, expected, &found, advice);
                None
            }
        }
    }
}

/// The text of a value.
pub(super) fn text<'d>(value: &'d DeValue<'d>) -> Option<&'d str> {
    value.as_str().filter(|text| !text.is_empty())
}

/// Certificates in PEM, each readable and in force.
pub(super) fn certificates(
    r: &mut ConfigReader<'_>,
    pem: &str,
    line: usize,
    subject: &str,
) -> Option<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let expected = "certificates in PEM";
    let Some(ders) = read.ok().filter(|ders| !ders.is_empty()) else {
        let advice = "name a file with BEGIN CERTIFICATE in it";
        r.unusable(line, subject, expected, "none", advice);
        return None;
    };
    for der in &ders {
        let Some((from, until)) = validity_s(der) else {
            let found = "one that cannot be read";
            r.unusable(line, subject, expected, found, "request a new one");
            return None;
        };
        let fault = NotInForce {
            line,
            subject,
            expected: "a certificate in force",
            found: &span_text(from, until),
            advice: "renew it",
        };
        if r.in_force(vec![from..=until], fault) {
            ends_soon(r, line, subject, until);
        }
    }
    Some(ders)
}

fn span_text(from: i64, until: i64) -> String {
    format!("one from {} to {}", day(from), day(until))
}

/// Warns that a certificate expires within the month.
fn ends_soon(r: &mut ConfigReader<'_>, line: usize, subject: &str, until_s: i64) {
    if until_s.saturating_sub(r.now.seconds()) < EXPIRY_WARNING_S {
        let found = format!("the end on {}", day(until_s));
        let note = r.note(line, subject, "30 more days", &found, "renew it");
        r.warnings.push(note);
    }
}

/// First and last second of a certificate's validity; `None` if it cannot be read. Unit: Unix seconds.
pub fn validity_s(der: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let validity = certificate.validity();
    Some((
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    ))
}

/// The day of a moment, for display.
pub(super) fn day(seconds: i64) -> String {
    let text = crate::domain::identifiers::Timestamp::from_s(seconds).rfc3339();
    text.get(..10).unwrap_or_default().to_owned()
}

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PermittedReaders {
    Anybody,
    Owner,
}

/// The content of a named file.
pub(super) fn read_file(
    r: &mut ConfigReader<'_>,
    path: &Path,
    line: usize,
    subject: &str,
    readers: PermittedReaders,
) -> Option<String> {
    let name = path.display();
    let read = || {
        let file = files::open(path)?;
        let exposed = access::secret(path, &file.metadata()?);
        let text = files::decoded(&files::content(file, FILE_BYTES_MAX)?);
        Ok::<_, io::Error>((text, exposed))
    };
    match read() {
        Ok((text, exposed)) => {
            if readers == PermittedReaders::Owner
                && let Some(exposed) = exposed
            {
                let expected = format!("{name} to be for its owner only");
                r.fault(line, subject, &expected, &exposed.found, &exposed.advice);
            }
            Some(text)
        }
        Err(fault) => {
            let expected = format!("a readable file {name}");
            let found = fault.to_string();
            if is_fault_of_the_file(&fault) {
                let advice = "name the right file, or make it: paymux keys dev";
                r.unusable(line, subject, &expected, &found, advice);
            } else {
                // A shortage of this process or machine must not disable a party's key.
                let advice = "fix this on the machine, then read the file again";
                r.fault(line, subject, &expected, &found, advice);
            }
            None
        }
    }
}

/// Whether the file itself is at fault: it is missing, not readable for us, no plain file, or too long.
/// Every other error is a shortage of this process or of the machine.
fn is_fault_of_the_file(fault: &io::Error) -> bool {
    let is_ours_to_judge = fault.get_ref().is_some();
    matches!(
        fault.kind(),
        ErrorKind::NotFound | ErrorKind::PermissionDenied
    ) || is_ours_to_judge
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;
    use crate::config::PartyKind;
    use crate::domain::identifiers::Timestamp;

    /// F1, F3: a shortage of this machine disables no key: the whole file is refused, and the configuration
    /// in force stays.
    #[test]
    fn a_reload_without_file_descriptors_is_refused_whole() {
        let of = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        for short in [
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOMEM,
            Errno::IO,
            Errno::STALE,
        ] {
            assert!(!is_fault_of_the_file(&of(short)), "{short}");
        }
        assert!(!is_fault_of_the_file(&ErrorKind::OutOfMemory.into()));
        for theirs in [Errno::NOENT, Errno::ACCESS, Errno::PERM] {
            assert!(is_fault_of_the_file(&of(theirs)), "{theirs}");
        }
        let folder = tempfile::TempDir::new().unwrap();
        let (circle, long) = (folder.path().join("circle"), folder.path().join("long"));
        std::os::unix::fs::symlink(&circle, &circle).unwrap();
        let length = usize::try_from(FILE_BYTES_MAX).unwrap() + 1;
        std::fs::write(&long, vec![0; length]).unwrap();
        for (path, faults) in [
            (folder.path().to_owned(), 0),
            (folder.path().join("absent"), 0),
            (long, 0),
            // Any other error of the system stands in for a shortage.
            (circle, 1),
        ] {
            let mut r =
                ConfigReader::new(Path::new("routes.toml"), "", Timestamp::from_s(0), &|_| {
                    None
                });
            r.about(Some(PartyKind::Institution));
            assert!(read_file(&mut r, &path, 1, "file", PermittedReaders::Anybody).is_none());
            assert_eq!((r.faults.len(), r.unusable.len()), (faults, 1 - faults));
        }
    }
}
