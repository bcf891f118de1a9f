//! `paymux sandbox`: runs three simulated institutions and a merchant on this machine, with the
//! keys and certificates of one folder. For development: creates missing signing keys there,
//! replaces none, and keeps its ledgers in memory only.

mod alipay;
mod unionpay;
mod wechatpay;

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::files;
use crate::sandbox::wechatpay::SandboxWechatPay;
use crate::sandbox::{
    FAULTS, InstitutionDelays, InstitutionSettings, MerchantSettings, PemIdentity,
    RefundCapabilities, SandboxAlipay, SandboxInstitution, SandboxMerchant, SandboxUnionPay,
};
use crate::signature::{EnrolledKey, KeyRing, SigningKey, VerifyingKey};
use crate::terminal;

/// The institutions, on the ports after the merchant's.
const INSTITUTIONS: [SandboxRole; 3] = [
    SandboxRole {
        id: "bluebank",
        name: "蓝色银行",
        name_en: "Blue Bank",
        account: "88001001",
        remembers_close: true,
    },
    SandboxRole {
        id: "redpay",
        name: "红色支付",
        name_en: "Red Pay",
        account: "R-77-1001",
        remembers_close: false,
    },
    SandboxRole {
        id: "greencard",
        name: "绿色卡组织",
        name_en: "Green Card",
        account: "GC1001",
        remembers_close: false,
    },
];

struct SandboxRole {
    id: &'static str,
    name: &'static str,
    name_en: &'static str,
    account: &'static str,
    remembers_close: bool,
}

/// Arguments of `paymux sandbox`.
#[derive(Debug, clap::Args)]
pub struct SandboxArgs {
    /// The folder with ca.pem, server.pem and server.key, as `paymux keys dev` creates them
    #[arg(long, default_value = "certs")]
    pub dir: PathBuf,
    /// The merchant's port; the institutions use the next three. With 0, free ports are used
    #[arg(long, default_value_t = 7443)]
    pub port: u16,
    /// Run no merchant: your own program listens on the merchant's port
    #[arg(long)]
    pub without_merchant: bool,
    /// The host name of all addresses; server.pem must be valid for it
    #[arg(long, default_value = "localhost")]
    pub host: String,
    /// The merchant's `merchantId`
    #[arg(long, default_value = "M1001")]
    pub merchant: String,
    /// The id of the gateway's key that signs notifications
    #[arg(long, default_value = "platform-1")]
    pub platform_key: String,
    /// Also run WeChat Pay's counterpart: its first host on this port, its second on the next. With
    /// 0, free ports are used
    #[arg(long)]
    pub wechatpay_port: Option<u16>,
    /// Also run Alipay's gateway, on this port. With 0, a free port is used
    #[arg(long)]
    pub alipay_port: Option<u16>,
    /// Also run UnionPay's gateway, on this port. With 0, a free port is used
    #[arg(long)]
    pub unionpay_port: Option<u16>,
}

/// The running institutions and merchant. Dropping it stops them.
pub struct RunningSandbox {
    /// In the order of their ports.
    pub institutions: Vec<SandboxInstitution>,
    /// Receives notifications; `None` with `--without-merchant`.
    pub merchant: Option<SandboxMerchant>,
    /// WeChat Pay's counterpart; `None` without `--wechatpay-port`.
    pub wechatpay: Option<SandboxWechatPay>,
    /// Alipay's gateway; `None` without `--alipay-port`.
    pub alipay: Option<SandboxAlipay>,
    /// UnionPay's gateway; `None` without `--unionpay-port`.
    pub unionpay: Option<SandboxUnionPay>,
}

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
/// A file cannot be read or written, a port is taken, the output cannot be written.
pub fn run(args: &SandboxArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let sandbox = open(args).await?;
        terminal::stdout().write_all(summary(args, &sandbox).as_bytes())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = interrupt.recv() => (),
            _ = terminate.recv() => (),
        }
        for institution in sandbox.institutions {
            institution.stop().await;
        }
        if let Some(merchant) = sandbox.merchant {
            merchant.stop().await;
        }
        if let Some(wechatpay) = sandbox.wechatpay {
            wechatpay.stop().await;
        }
        if let Some(alipay) = sandbox.alipay {
            alipay.stop().await;
        }
        if let Some(unionpay) = sandbox.unionpay {
            unionpay.stop().await;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Starts the institutions and the merchant.
///
/// # Errors
/// A file cannot be read or written, or a port is taken.
pub async fn open(args: &SandboxArgs) -> anyhow::Result<RunningSandbox> {
    let advice = "run `paymux keys dev` first";
    let identity = PemIdentity {
        certificates_pem: read(&args.dir.join("server.pem")).context(advice)?,
        key_pem: read(&args.dir.join("server.key")).context(advice)?,
    };
    let roots_pem = read(&args.dir.join("ca.pem")).context(advice)?;
    let merchant = if args.without_merchant {
        None
    } else {
        Some(merchant(args, identity.clone()).await?)
    };
    let mut institutions = Vec::with_capacity(INSTITUTIONS.len());
    for (role, offset) in INSTITUTIONS.iter().zip(1..) {
        let port = match args.port {
            0 => 0,
            first => first.saturating_add(offset),
        };
        let settings = InstitutionSettings {
            id: role.id.to_owned(),
            name: format!("{} · {}", role.name, role.name_en),
            listen: loopback(port),
            host: args.host.clone(),
            identity: identity.clone(),
            key: pair(&args.dir, &format!("{}-1", role.id))?,
            callers: gateway_key_ring(&args.dir, &format!("paymux-{}", role.id))?,
            accounts: vec![role.account.to_owned()],
            roots_pem: roots_pem.clone(),
            can_close: true,
            remembers_close: role.remembers_close,
            refunding: RefundCapabilities::default(),
            waits: InstitutionDelays::default(),
        };
        let institution = SandboxInstitution::start(settings)
            .await
            .with_context(|| format!("{}, port {port}", role.id))?;
        institutions.push(institution);
    }
    let wechatpay = match args.wechatpay_port {
        None => None,
        Some(port) => Some(wechatpay::start(args, port, (&identity, &roots_pem)).await?),
    };
    let unionpay = match args.unionpay_port {
        None => None,
        Some(port) => Some(unionpay::start(args, port, &identity, &roots_pem).await?),
    };
    let alipay = alipay::start(args, identity, &roots_pem).await?;
    Ok(RunningSandbox {
        institutions,
        merchant,
        wechatpay,
        alipay,
        unionpay,
    })
}

async fn merchant(args: &SandboxArgs, identity: PemIdentity) -> anyhow::Result<SandboxMerchant> {
    let settings = MerchantSettings {
        id: args.merchant.clone(),
        listen: loopback(args.port),
        host: args.host.clone(),
        identity,
        platform: gateway_key_ring(&args.dir, &args.platform_key)?,
        slow: Duration::from_secs(3),
    };
    let started = SandboxMerchant::start(settings).await;
    started.with_context(|| {
        format!(
            "the merchant, port {}; with --without-merchant, your own program can receive \
             notifications on that port",
            args.port
        )
    })
}

/// Loopback only: simulated institutions are not reachable from other machines.
fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// The gateway's public key of this id, as enrolled at the simulated parties.
pub(in crate::command) fn gateway_key_ring(folder: &Path, id: &str) -> anyhow::Result<KeyRing> {
    let path = folder.join(format!("{id}.pub"));
    let pem = if path.exists() {
        read(&path)?
    } else {
        pair(folder, id)?.public_pem()
    };
    let key = VerifyingKey::from_spki_pem(&pem).with_context(|| path.display().to_string())?;
    let enrolled = EnrolledKey {
        id: id.to_owned(),
        owner: "paymux".to_owned(),
        key,
        not_before_s: 0,
        not_after_s: i64::MAX,
    };
    Ok(KeyRing::new(vec![enrolled])?)
}

/// The signing key in `ID.key`; it and `ID.pub` are created if neither exists.
pub(in crate::command) fn pair(folder: &Path, id: &str) -> anyhow::Result<SigningKey> {
    let path = folder.join(format!("{id}.key"));
    if !path.exists() {
        let (private, public) = SigningKey::generate_ed25519()?;
        write_new(&folder.join(format!("{id}.pub")), &public, 0o644)?;
        write_new(&path, &private, 0o600)?;
    }
    SigningKey::from_pkcs8_pem(id, &read(&path)?).with_context(|| path.display().to_string())
}

pub(in crate::command) fn read(path: &Path) -> anyhow::Result<String> {
    files::text(path).with_context(|| format!("reading {}", path.display()))
}

fn write_new(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path);
    match file {
        Ok(mut file) => Ok(file.write_all(text.as_bytes())?),
        Err(fault) if fault.kind() == ErrorKind::AlreadyExists => anyhow::bail!(
            "{} exists without its private key, which cannot be created",
            path.display()
        ),
        Err(fault) => Err(fault).with_context(|| format!("writing {}", path.display())),
    }
}

/// The addresses, the tables for `routes.toml`, and the faults available on demand.
fn summary(args: &SandboxArgs, sandbox: &RunningSandbox) -> String {
    let mut text = match &sandbox.merchant {
        Some(merchant) => {
            let url = merchant.notice_url();
            format!(
                "# merchant {} receives notifications at {url}\n",
                args.merchant
            )
        }
        None => String::from("# your own program receives notifications\n"),
    };
    for (order, (role, institution)) in (1..).zip(INSTITUTIONS.iter().zip(&sandbox.institutions)) {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n{}",
            tables(args, role, &institution.origin(), order)
        );
    }
    text.push_str(
        "\n# Amounts ending in these digits trigger a fault; so does POST /control/next:\n",
    );
    for (_, word, cents, what) in FAULTS {
        let _ = writeln!(text, "#   {cents:02}  {word}: {what}");
    }
    if let Some(wechatpay) = &sandbox.wechatpay {
        text.push_str(&wechatpay::summary(args, wechatpay));
    }
    if let Some(gateway) = &sandbox.alipay {
        text.push_str(&alipay::summary(args, gateway));
    }
    if let Some(unionpay) = &sandbox.unionpay {
        text.push_str(&unionpay::summary(args, unionpay));
    }
    text
}

fn tables(args: &SandboxArgs, role: &SandboxRole, origin: &str, order: u32) -> String {
    let SandboxRole {
        id,
        name,
        name_en,
        account,
        ..
    } = role;
    let (dir, merchant) = (args.dir.display(), &args.merchant);
    format!(
        r#"[[institution]]
id = "{id}"
kind = "standard"
url = "{origin}"
name = "{name}"
name_en = "{name_en}"
state = "admitted"
evidence = "development: played by the sandbox"
since = 2026-01-01
modes = ["WEBVIEW", "NATIVE"]
capabilities = [
    "password_pay", "full_refund", "partial_refund", "repeated_refund", "bind_card",
    "reset_password",
]
roots = "{dir}/ca.pem"

[[account]]
id = "{merchant}"
institution = "{id}"
role = "direct"
merchant_id = "{account}"
key_id = "paymux-{id}"
key = "file:{dir}/paymux-{id}.key"
key_not_before = 2026-01-01
key_not_after = 2035-12-31

[[account.keys]]
id = "{id}-1"
algorithm = "ed25519"
file = "{dir}/{id}-1.pub"
not_before = 2026-01-01
not_after = 2035-12-31

[[contract]]
merchant = "{merchant}"
institution = "{id}"
account = "{merchant}"
modes = ["WEBVIEW", "NATIVE"]
transaction_types = ["PASSWORD_PAY"]
amount_min = "0.01"
amount_max = "50000.00"

[[route]]
institution = "{id}"
order = {order}
"#
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::domain::identifiers::Timestamp;
    use crate::sandbox::Authority;

    fn arguments(dir: &Path) -> SandboxArgs {
        SandboxArgs {
            dir: dir.to_owned(),
            port: 0,
            without_merchant: false,
            host: "localhost".to_owned(),
            merchant: "M1001".to_owned(),
            platform_key: "platform-1".to_owned(),
            wechatpay_port: None,
            alipay_port: None,
            unionpay_port: None,
        }
    }

    /// A folder with the certificate of a server.
    fn server_folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("Test").unwrap();
        let identity = authority.issue("Server", &["localhost"]).unwrap();
        for (name, text) in [
            ("ca.pem", authority.roots_pem()),
            ("server.pem", identity.certificates_pem),
            ("server.key", identity.key_pem),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    /// G-12
    #[tokio::test]
    async fn three_institutions_and_a_merchant_start_from_a_folder() {
        let folder = server_folder();
        let mut args = arguments(folder.path());
        let sandbox = open(&args).await.unwrap();
        let text = summary(&args, &sandbox);
        assert_eq!(text.matches("[[institution]]").count(), 3);
        assert!(folder.path().join("bluebank-1.pub").exists());
        assert!(sandbox.merchant.is_some());
        args.without_merchant = true;
        let sandbox = open(&args).await.unwrap();
        assert!(sandbox.merchant.is_none());
        assert!(summary(&args, &sandbox).contains("your own program"));
        assert!(sandbox.wechatpay.is_none() && sandbox.alipay.is_none());
        assert!(sandbox.unionpay.is_none(), "only if asked for");
    }

    /// Each counterpart runs only if it is asked for, with keys that are created once.
    #[tokio::test]
    async fn counterparts_keep_their_keys() {
        let folder = server_folder();
        let mut args = arguments(folder.path());
        args.wechatpay_port = Some(0);
        args.alipay_port = Some(0);
        args.unionpay_port = Some(0);
        let made = [
            "wechatpay/platform.key",
            "alipay.pub",
            "unionpay-root.pem",
            "unionpay-merchant.key",
        ];
        let keys = || made.map(|name| fs::read_to_string(folder.path().join(name)).unwrap());
        let first = open(&args).await.unwrap();
        let before = keys();
        drop(first);
        let again = open(&args).await.unwrap();
        assert_eq!(before, keys(), "keys are created once");
        let text = summary(&args, &again);
        let second = again.wechatpay.as_ref().unwrap().second_origin();
        let gateway = again.alipay.as_ref().unwrap().gateway_url();
        for expected in [
            "wechatpay/merchant.key",
            "unionpay-merchant.key",
            &second,
            &gateway,
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }

    /// F1: `paymux check` accepts the tables printed for `routes.toml` unchanged.
    #[tokio::test]
    async fn what_the_sandbox_prints_passes_paymux_check() {
        let committed = include_str!("../../routes.toml");
        let (head, _) = committed
            .split_once("# Institutions. `paymux sandbox`")
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (file, dir) = (
            folder.path().join("routes.toml"),
            folder.path().join("certs"),
        );
        let now = Timestamp::parse_local("20261122", "120000").unwrap();
        let made = || crate::command::keys::dev(&mut Vec::new(), &file, &dir, now).unwrap();
        fs::write(&file, committed).unwrap();
        made();
        let mut args = arguments(&dir);
        args.without_merchant = true;
        args.wechatpay_port = Some(0);
        args.alipay_port = Some(0);
        args.unionpay_port = Some(0);
        let sandbox = open(&args).await.unwrap();
        fs::write(&file, format!("{head}{}", summary(&args, &sandbox))).unwrap();
        made();
        let read = crate::config::read(&file, now, &|_| None);
        let config = read.map_err(|faults| faults.to_string()).unwrap();
        assert_eq!((config.warnings, config.unusable), (vec![], vec![]));
        assert_eq!(config.snapshot.routing.contracts.len(), 3);
    }
}
