//! `paymux keys import`: a private key and its certificates, from the file in which an authority
//! hands them out to the PEM files that `routes.toml` names.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use crate::command::keys::check_absent;
use crate::command::keys::development::{FileVisibility, write_new};
use crate::crypto::certificate::Certificate;
use crate::crypto::pem;
use crate::crypto::pkcs12::{self, KeyWithCertificates, Pkcs12Fault};
use crate::domain::identifiers::Timestamp;
use crate::files::{self, access};

/// The files that are written.
const KEY_FILE: &str = "key.pem";
const CERTIFICATE_FILE: &str = "cert.pem";

/// Writes the private key and the certificates of a PKCS #12 file into a folder, and prints what the
/// certificate says.
///
/// # Errors
/// The file cannot be read with this password or does not contain exactly one key with its
/// certificate, others may read the password, or a file exists or cannot be written.
pub fn import(
    out: &mut dyn Write,
    file: &Path,
    password_file: &Path,
    folder: &Path,
    now: Timestamp,
) -> anyhow::Result<ExitCode> {
    let key_file = folder.join(KEY_FILE);
    let certificate_file = folder.join(CERTIFICATE_FILE);
    check_absent(&[&key_file, &certificate_file], "--out")?;
    let password = password(password_file)?;
    let content = files::read(file, files::TEXT_BYTES_MAX)
        .with_context(|| format!("reading {}", file.display()))?;
    let found = pkcs12::read(&content, &password)
        .with_context(|| format!("reading {}", file.display()))
        .map_err(|fault| advise(fault, file, password_file))?;
    let private = pem::write(pem::PRIVATE_KEY, &found.private_key);
    write_new(&certificate_file, &chain(&found), FileVisibility::Public)?;
    write_new(&key_file, &private, FileVisibility::Private)
        .inspect_err(|_| drop(fs::remove_file(&certificate_file)))?;
    writeln!(out, "{} is private: do not share it", key_file.display())?;
    let count = found.issuers.len();
    writeln!(
        out,
        "{} has its certificate and {count} of its issuers",
        certificate_file.display()
    )?;
    describe(out, &found.certificate, now)?;
    Ok(ExitCode::SUCCESS)
}

/// The password: the first line of a file that nobody else may read.
fn password(path: &Path) -> anyhow::Result<String> {
    let reading = || format!("reading {}", path.display());
    let opened = files::open(path).with_context(reading)?;
    if let Some(unsafe_mode) = access::secret(path, &opened.metadata().with_context(reading)?) {
        let (found, advice) = (unsafe_mode.found, unsafe_mode.advice);
        anyhow::bail!("{} is not secret: {found}; {advice}", path.display());
    }
    let bytes = files::content(opened, files::TEXT_BYTES_MAX).with_context(reading)?;
    let text = files::decoded(&bytes);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn advise(fault: anyhow::Error, file: &Path, password_file: &Path) -> anyhow::Error {
    let (file, password) = (file.display(), password_file.display());
    let advice = match fault.downcast_ref::<Pkcs12Fault>() {
        Some(Pkcs12Fault::WrongPassword) => format!("check the first line of {password}"),
        Some(Pkcs12Fault::Unreadable) => format!(
            "write it anew with openssl: openssl pkcs12 -legacy -in {file} -nodes | openssl pkcs12 \
             -export -out NEW.pfx"
        ),
        Some(Pkcs12Fault::Keys(_) | Pkcs12Fault::KeyKind | Pkcs12Fault::NoCertificate) | None => {
            return fault;
        }
    };
    anyhow::anyhow!("{fault:#}; {advice}")
}

/// The certificate, its issuer, and so on.
fn chain(found: &KeyWithCertificates) -> String {
    let all = std::iter::once(&found.certificate).chain(&found.issuers);
    all.map(|certificate| pem::write(pem::CERTIFICATE, certificate.der()))
        .collect()
}

fn describe(out: &mut dyn Write, certificate: &Certificate, now: Timestamp) -> anyhow::Result<()> {
    let (_, until_s) = certificate.validity_s();
    let until = Timestamp::from_s(until_s).rfc3339();
    let until = until.get(..10).unwrap_or_default();
    let left = match until_s.saturating_sub(now.seconds()) {
        ..0 => "ended".to_owned(),
        seconds => format!("{} days left", seconds.div_euclid(86_400)),
    };
    let name = certificate.common_name().unwrap_or("-");
    let (decimal, hex) = (certificate.serial_decimal(), certificate.serial_hex());
    writeln!(out, "subject  {name}")?;
    writeln!(out, "serial   {decimal} (hexadecimal {hex})")?;
    writeln!(out, "expires  {until}, {left}")?;
    Ok(())
}
