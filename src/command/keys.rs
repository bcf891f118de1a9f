//! `paymux keys`: creates, imports, lists and shows keys. Never prints a private key, never replaces
//! one.

mod development;
mod import;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::{Args, Subcommand};

pub use self::import::import;

use crate::command::FINDINGS;
use crate::command::check::table;
use crate::command::keys::development::{DevelopmentKeys, FileVisibility, read_key, write_new};
use crate::config::{self, KeySummary};
use crate::domain::identifiers::{KeyId, Timestamp, hex};
use crate::signature::{Algorithm, KeyFault, SigningKey};
use crate::terminal;
use crate::world::{Clock, Entropy, SystemClock, SystemEntropy};

/// Arguments of `paymux keys`.
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// The subcommand.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// Subcommands of `paymux keys`.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// For development: create the missing keys and certificates that the configuration names
    Dev(DevArgs),
    /// Create a key pair or a shared secret, and print how to enrol it
    Make(MakeArgs),
    /// Read a .pfx or .p12 file (PKCS #12), and write its key and certificates as PEM
    Import(ImportArgs),
    /// List every signing key with its validity
    List(ReadArgs),
    /// Print the gateway's public keys, which merchants need, as a JWK set
    Show(ReadArgs),
}

/// Arguments of `paymux keys dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// The configuration file
    #[arg(long, default_value = config::FILE)]
    pub config: PathBuf,
    /// The folder; no file outside it is created
    #[arg(long, default_value = "certs")]
    pub dir: PathBuf,
}

/// Arguments of `paymux keys make`.
#[derive(Debug, Args)]
pub struct MakeArgs {
    /// The key's id (keyid of its signatures)
    #[arg(long)]
    pub id: String,
    /// ed25519 (fastest), ecdsa-p256-sha256, rsa-pss-sha512 (slow to sign), or hmac-sha256: a
    /// shared secret, accepted only together with a client certificate
    #[arg(long, default_value = "ed25519", value_parser = algorithm)]
    pub algorithm: Algorithm,
    /// The folder for `ID.key` and `ID.pub`, or for `ID.secret`
    #[arg(long, default_value = ".")]
    pub out: PathBuf,
}

/// Arguments of `paymux keys import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The file with the private key and its certificates
    pub file: PathBuf,
    /// A file with its password in the first line, readable by you only
    #[arg(long)]
    pub password_file: PathBuf,
    /// The folder for `key.pem` and `cert.pem`
    #[arg(long)]
    pub out: PathBuf,
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    let expected = || {
        let names: Vec<_> = Algorithm::all().map(Algorithm::name).collect();
        format!("expected one of {}", names.join(", "))
    };
    Algorithm::parse(name).ok_or_else(expected)
}

/// Arguments of the subcommands that only read.
#[derive(Debug, Args)]
pub struct ReadArgs {
    /// The configuration file
    #[arg(long, default_value = config::FILE)]
    pub config: PathBuf,
}

/// Runs the subcommand. Configuration faults are printed, and exit with 3.
///
/// # Errors
/// A file cannot be read or written, or the output cannot be written.
pub fn run(args: &KeysArgs) -> anyhow::Result<ExitCode> {
    let mut out = terminal::stdout();
    let now = SystemClock::start().now();
    match &args.command {
        KeysCommand::Dev(args) => dev(&mut out, &args.config, &args.dir, now),
        KeysCommand::Make(args) => make(&mut out, &args.id, args.algorithm, &args.out),
        KeysCommand::Import(args) => {
            import(&mut out, &args.file, &args.password_file, &args.out, now)
        }
        KeysCommand::List(args) => list(&mut out, &args.config, now),
        KeysCommand::Show(args) => show(&mut out, &args.config, now),
    }
}

/// Creates the missing development keys and certificates, and prints what was created.
///
/// # Errors
/// The configuration or an existing file cannot be read, or a file cannot be written.
pub fn dev(
    out: &mut dyn Write,
    config: &Path,
    folder: &Path,
    now: Timestamp,
) -> anyhow::Result<ExitCode> {
    let mut keys = DevelopmentKeys::new(folder, now)?;
    for file in config::named_files(config, now)? {
        keys.make(&file)?;
    }
    for line in &keys.made {
        writeln!(out, "made  {line}")?;
    }
    for path in &keys.outside {
        let (path, folder) = (path.display(), folder.display());
        writeln!(out, "skip  {path}  missing, but outside {folder}")?;
    }
    if keys.made.is_empty() {
        writeln!(out, "nothing was missing in {}", folder.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Creates a key pair, or a shared secret; refuses to replace one.
///
/// # Errors
/// The id is malformed, keys of the algorithm are not created here, or a file exists or cannot be
/// written.
pub fn make(
    out: &mut dyn Write,
    id: &str,
    algorithm: Algorithm,
    folder: &Path,
) -> anyhow::Result<ExitCode> {
    let id = KeyId::parse(id)?;
    if algorithm.is_shared() {
        return make_secret(out, &id, algorithm, folder);
    }
    let private = folder.join(format!("{id}.key"));
    let public = folder.join(format!("{id}.pub"));
    check_absent(&[&private, &public], "--id or --out")?;
    let generated = SigningKey::generate(algorithm).map_err(|fault| {
        if matches!(fault, KeyFault::NotMadeHere(_)) {
            return anyhow!("{fault}; {}", openssl_advice(&private, &public));
        }
        fault.into()
    });
    let (private_pem, public_pem) = generated?;
    write_new(&private, &private_pem, FileVisibility::Private)?;
    write_new(&public, &public_pem, FileVisibility::Public)?;
    let key = read_key(id.as_str(), &private)?;
    writeln!(out, "{} is private: do not share it", private.display())?;
    writeln!(
        out,
        "{} is public: give it to whoever verifies your signatures; in routes.toml:\n",
        public.display()
    )?;
    enrolment(
        out,
        &id,
        algorithm,
        &format!("file = \"{}\"", public.display()),
    )?;
    writeln!(out, "{public_pem}\n{}", key.public_jwk())?;
    Ok(ExitCode::SUCCESS)
}

/// Fails if any of the files exists: none is replaced, and no half is made for an existing other
/// half.
fn check_absent(files: &[&Path], options: &str) -> anyhow::Result<()> {
    if let Some(file) = files.iter().find(|file| file.exists()) {
        let file = file.display();
        anyhow::bail!("{file} already exists; choose another {options}");
    }
    Ok(())
}

/// How to create an RSA key, which this command does not.
fn openssl_advice(private: &Path, public: &Path) -> String {
    let (private, public) = (private.display(), public.display());
    format!(
        "create it with openssl: openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out \
         {private} && openssl pkey -in {private} -pubout -out {public}"
    )
}

fn make_secret(
    out: &mut dyn Write,
    id: &KeyId,
    algorithm: Algorithm,
    folder: &Path,
) -> anyhow::Result<ExitCode> {
    let file = folder.join(format!("{id}.secret"));
    check_absent(&[&file], "--id or --out")?;
    let entropy: &dyn Entropy = &SystemEntropy;
    let text = format!("{}\n", hex(&entropy.draw::<32>()));
    write_new(&file, &text, FileVisibility::Private)?;
    writeln!(
        out,
        "{} is a secret shared by you and the gateway only; it is accepted only together with your \
         client certificate; in routes.toml:\n",
        file.display()
    )?;
    enrolment(
        out,
        id,
        algorithm,
        &format!("secret = \"file:{}\"", file.display()),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the section to add to routes.toml.
fn enrolment(
    out: &mut dyn Write,
    id: &KeyId,
    algorithm: Algorithm,
    named: &str,
) -> std::io::Result<()> {
    writeln!(
        out,
        "[[merchant.keys]]\nid = \"{id}\"\nalgorithm = \"{algorithm}\"\n{named}\n\
         not_before = YYYY-MM-DD\nnot_after = YYYY-MM-DD\n",
    )
}

/// Lists every signing key with its validity and the days left.
///
/// # Errors
/// The output cannot be written.
pub fn list(out: &mut dyn Write, config: &Path, now: Timestamp) -> anyhow::Result<ExitCode> {
    let config = match config::read(config, now, &config::environment) {
        Ok(config) => config,
        Err(faults) => {
            writeln!(out, "{faults}")?;
            return Ok(ExitCode::from(FINDINGS));
        }
    };
    let head = ["id", "owner", "algorithm", "from", "until", "left"].map(str::to_owned);
    let rows: Vec<_> = [head]
        .into_iter()
        .chain(config.keys.iter().map(|key| row(key, now)))
        .collect();
    write!(out, "{}", table(&rows))?;
    Ok(ExitCode::SUCCESS)
}

fn row(key: &KeySummary, now: Timestamp) -> [String; 6] {
    let day = |seconds| {
        let text = Timestamp::from_s(seconds).rfc3339();
        text.get(..10).unwrap_or_default().to_owned()
    };
    let (from, until, left) = match key.validity_s {
        None => ("-".to_owned(), "-".to_owned(), "-".to_owned()),
        Some((from, until)) => {
            let left = match until.saturating_sub(now.seconds()) {
                ..0 => "ended".to_owned(),
                _ if from > now.seconds() => "not yet".to_owned(),
                seconds => format!("{} days", seconds.div_euclid(86_400)),
            };
            (day(from), day(until), left)
        }
    };
    let algorithm = key.algorithm.to_owned();
    [
        key.id.clone(),
        key.owner.clone(),
        algorithm,
        from,
        until,
        left,
    ]
}

/// Prints the JWK set of the gateway's public keys.
///
/// # Errors
/// The output cannot be written.
pub fn show(out: &mut dyn Write, config: &Path, now: Timestamp) -> anyhow::Result<ExitCode> {
    match config::read(config, now, &config::environment) {
        Ok(config) => {
            out.write_all(&config.snapshot.platform.jwks)?;
            writeln!(out)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(faults) => {
            writeln!(out, "{faults}")?;
            Ok(ExitCode::from(FINDINGS))
        }
    }
}
