//! Creates keys and certificates for development: the missing files that `routes.toml` names in one
//! folder. Never touches a file outside that folder, never replaces a key (D3).

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::{Duration, OffsetDateTime};

use crate::config::{CertificateRole, NamedFile, validity_s};
use crate::crypto::digest::sha256;
use crate::domain::identifiers::{Timestamp, hex};
use crate::files;
use crate::signature::{Algorithm, SigningKey};
use crate::world::{Entropy, SystemEntropy};

/// Validity of a development authority, and of a certificate that it signs. Unit: days.
const AUTHORITY_DAYS: i64 = 3_650;
const CERTIFICATE_DAYS: i64 = 820;

/// Whether a file is readable by everybody.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FileVisibility {
    Public,
    Private,
}

/// The folder in which files are created, and what was created there.
pub(super) struct DevelopmentKeys {
    folder: PathBuf,
    /// The same, canonical: named paths are compared with it.
    whole_folder: PathBuf,
    now: Timestamp,
    /// One line for each file that was created.
    pub(super) made: Vec<String>,
    /// Missing files outside the folder, which this command does not create.
    pub(super) outside: Vec<PathBuf>,
}

impl DevelopmentKeys {
    pub(super) fn new(folder: &Path, now: Timestamp) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        Ok(Self {
            folder: folder.to_owned(),
            whole_folder: folder.canonicalize()?,
            now,
            made: Vec::new(),
            outside: Vec::new(),
        })
    }

    /// Creates a named file, and its other half, if missing.
    pub(super) fn make(&mut self, file: &NamedFile) -> anyhow::Result<()> {
        let path = match file {
            NamedFile::Certificate { certificate, .. } => certificate,
            NamedFile::Private { path, .. }
            | NamedFile::Public { path, .. }
            | NamedFile::Authorities(path)
            | NamedFile::Secret(path) => path,
        };
        if !self.contains(path) {
            if !path.exists() {
                self.outside.push(path.clone());
            }
            return Ok(());
        }
        match file {
            NamedFile::Certificate {
                certificate,
                key,
                holder,
            } => {
                let beside = certificate.with_extension("key");
                self.certificate(certificate, key.as_ref().unwrap_or(&beside), *holder)
            }
            NamedFile::Authorities(path) => self.authority().and_then(|(pem, _)| {
                if path.exists() {
                    return Ok(());
                }
                self.write(
                    path,
                    &pem,
                    FileVisibility::Public,
                    "certificate of the authority",
                )
            }),
            NamedFile::Private { id, path } => {
                let algorithm = Algorithm::default();
                self.key_pair(id, algorithm, path, &path.with_extension("pub"))
            }
            NamedFile::Public {
                id,
                algorithm,
                path,
            } => self.key_pair(id, *algorithm, &path.with_extension("key"), path),
            NamedFile::Secret(path) if path.exists() => Ok(()),
            NamedFile::Secret(path) => {
                let mut bytes = [0_u8; 32];
                SystemEntropy.fill(&mut bytes);
                let text = format!("{}\n", hex(&bytes));
                self.write(path, &text, FileVisibility::Private, "32 random bytes")
            }
        }
    }

    /// Whether the path is in the folder, also after links are resolved.
    fn contains(&self, path: &Path) -> bool {
        let folder = path.parent().map(Path::canonicalize);
        folder
            .is_some_and(|folder| folder.is_ok_and(|folder| folder.starts_with(&self.whole_folder)))
    }

    /// Creates the key pair `id`. An existing private key is kept, and its public half created.
    fn key_pair(
        &mut self,
        id: &str,
        algorithm: Algorithm,
        private: &Path,
        public: &Path,
    ) -> anyhow::Result<()> {
        if private.exists() && public.exists() {
            return Ok(());
        }
        if public.exists() {
            // Somebody else's key: we do not have its private half.
            return Ok(());
        }
        if !private.exists() {
            let (pem, _) = SigningKey::generate(algorithm.of_pairs())?;
            let what = format!("private key {id}, {algorithm}");
            self.write(private, &pem, FileVisibility::Private, &what)?;
        }
        let key = read_key(id, private)?;
        self.write(
            public,
            &key.public_pem(),
            FileVisibility::Public,
            &format!("public key {id}"),
        )
    }

    /// The development authority: its certificate in PEM, and its key.
    fn authority(&mut self) -> anyhow::Result<(String, KeyPair)> {
        let (certificate, key) = (self.folder.join("ca.pem"), self.folder.join("ca.key"));
        if certificate.exists() && key.exists() {
            let pem = files::text(&certificate)?;
            return Ok((pem, KeyPair::from_pem(&files::text(&key)?)?));
        }
        let pair = self.tls_key(&key)?;
        let pem = self.authority_params()?.self_signed(&pair)?.pem();
        self.write(
            &certificate,
            &pem,
            FileVisibility::Public,
            "certificate of the authority",
        )?;
        Ok((pem, pair))
    }

    /// The name is always the same, so that any of the authority's certificates is a valid issuer.
    fn authority_params(&self) -> anyhow::Result<CertificateParams> {
        let mut params = self.params("paymux development authority", AUTHORITY_DAYS)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(params)
    }

    /// Creates a certificate and its key unless a valid one exists. A server's is signed by the
    /// authority, a client's is self-signed: it is enrolled by digest and needs no authority.
    fn certificate(
        &mut self,
        path: &Path,
        key: &Path,
        holder: CertificateRole,
    ) -> anyhow::Result<()> {
        if self.is_in_force(path) && key.exists() {
            return Ok(());
        }
        let pair = self.tls_key(key)?;
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut params = self.params(&name, CERTIFICATE_DAYS)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let pem = match holder {
            CertificateRole::Server => {
                let (_, authority_key) = self.authority()?;
                let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
                params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                let issuer = Issuer::new(self.authority_params()?, authority_key);
                params.signed_by(&pair, &issuer)?.pem()
            }
            CertificateRole::Client => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
                params.self_signed(&pair)?.pem()
            }
        };
        let der = CertificateDer::from_pem_slice(pem.as_bytes())?;
        let digest = hex(&sha256(&der));
        self.write(
            path,
            &pem,
            FileVisibility::Public,
            &format!("certificate, SHA-256 {digest}"),
        )
    }

    /// A certificate's key, created if missing: ECDSA P-256, which every client supports.
    fn tls_key(&mut self, path: &Path) -> anyhow::Result<KeyPair> {
        if path.exists() {
            return Ok(KeyPair::from_pem(&files::text(path)?)?);
        }
        let pair = KeyPair::generate()?;
        self.write(
            path,
            &pair.serialize_pem(),
            FileVisibility::Private,
            "private key for TLS",
        )?;
        Ok(pair)
    }

    fn params(&self, name: &str, days: i64) -> anyhow::Result<CertificateParams> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "paymux development");
        params.distinguished_name.push(DnType::CommonName, name);
        let now = OffsetDateTime::from_unix_timestamp(self.now.seconds())?;
        let span = |days| now.checked_add(Duration::days(days));
        params.not_before = span(-1).context("the clock is out of range")?;
        params.not_after = span(days).context("the clock is out of range")?;
        Ok(params)
    }

    fn is_in_force(&self, path: &Path) -> bool {
        let now = self.now.seconds();
        let der = files::text(path)
            .ok()
            .and_then(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).ok());
        der.and_then(|der| validity_s(&der))
            .is_some_and(|(from, until)| (from..=until).contains(&now))
    }

    fn write(
        &mut self,
        path: &Path,
        text: &str,
        secrecy: FileVisibility,
        what: &str,
    ) -> anyhow::Result<()> {
        if secrecy == FileVisibility::Public && path.exists() {
            fs::remove_file(path)?;
        }
        write_new(path, text, secrecy)?;
        self.made.push(format!("{}  {what}", path.display()));
        Ok(())
    }
}

/// Reads a private key that signs as `id`.
pub(super) fn read_key(id: &str, path: &Path) -> anyhow::Result<SigningKey> {
    let pem = files::text(path).with_context(|| format!("reading {}", path.display()))?;
    SigningKey::from_pkcs8_pem(id, &pem).with_context(|| format!("reading {}", path.display()))
}

/// Writes a new file; a private one is created with mode 0600.
pub(super) fn write_new(path: &Path, text: &str, secrecy: FileVisibility) -> anyhow::Result<()> {
    let mode = match secrecy {
        FileVisibility::Public => 0o644,
        FileVisibility::Private => 0o600,
    };
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| {
            let written = file.write_all(text.as_bytes());
            // Half a key would be in the way of the next try.
            written
                .and_then(|()| file.sync_all())
                .inspect_err(|_| drop(fs::remove_file(path)))
        })
        .map_err(|error| {
            let path = path.display();
            if error.kind() == ErrorKind::NotFound {
                return anyhow!("writing {path}: the folder does not exist; create it first");
            }
            anyhow!("writing {path}: {error}")
        })
}
