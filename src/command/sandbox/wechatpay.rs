//! `paymux sandbox --wechatpay-port`: WeChat Pay's counterpart with a direct merchant and a
//! provider, whose keys, certificates and secrets are created once in `DIR/wechatpay`, as a
//! merchant would get them from the portal.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::command::sandbox::{SandboxArgs, loopback, read, write_new};
use crate::crypto::random;
use crate::crypto::rsa::RsaPrivateKey;
use crate::crypto::{pem, rsa::RsaScheme};
use crate::domain::identifiers::hex;
use crate::sandbox::wechatpay::{
    ANSWER_FAULTS, KeyPhase, MerchantApiCertificate, NOTIFICATION_FAULTS, PlatformCertificate,
    PlatformPublicKey, SandboxWechatPay, WechatMerchant, WechatPaySettings, WechatPayWaits,
    WechatSubMerchant,
};
use crate::sandbox::{Authority, PemIdentity};

/// A directly contracted merchant.
const MERCHANT: WechatRole = WechatRole {
    name: "merchant",
    mchid: "1900009191",
    appid: "wxd678efh567hg6787",
};
/// A provider (服务商).
const PROVIDER: WechatRole = WechatRole {
    name: "provider",
    mchid: "1900009192",
    appid: "wxd678efh567hg6788",
};
/// The provider's sub-merchant, and its app.
const SUB_MERCHANT: (&str, &str) = ("1900009291", "wxd678efh567hg6789");
const PUBLIC_KEY_ID: &str = "PUB_KEY_ID_0119000091912026010100389200000001";
/// 0.60 %.
const FEE_BASIS_POINTS: u32 = 60;
/// The validity of certificates that the sandbox issues. Unit: Unix seconds.
const VALID_S: (i64, i64) = (1_735_689_600, 2_366_841_600);

struct WechatRole {
    name: &'static str,
    mchid: &'static str,
    appid: &'static str,
}

fn folder(args: &SandboxArgs) -> PathBuf {
    args.dir.join("wechatpay")
}

pub(super) async fn start(
    args: &SandboxArgs,
    port: u16,
    (identity, roots_pem): (&PemIdentity, &str),
) -> anyhow::Result<SandboxWechatPay> {
    let folder = folder(args);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let second = match port {
        0 => 0,
        first => first.saturating_add(1),
    };
    let platform = certificate(&folder, "platform")?;
    let certificate_pem = platform.certificate_pem;
    let settings = WechatPaySettings {
        listen: loopback(port),
        listen_second: loopback(second),
        host: args.host.clone(),
        identity: identity.clone(),
        roots_pem: roots_pem.to_owned(),
        merchants: vec![
            merchant(args, &folder, &MERCHANT, Vec::new())?,
            merchant(
                args,
                &folder,
                &PROVIDER,
                vec![WechatSubMerchant {
                    mchid: SUB_MERCHANT.0.to_owned(),
                    apps: vec![SUB_MERCHANT.1.to_owned()],
                    fee_basis_points: FEE_BASIS_POINTS,
                }],
            )?,
        ],
        certificates: vec![PlatformCertificate {
            serial: platform.serial,
            certificate_pem,
            key_pem: platform.key_pem,
            effective_s: VALID_S.0,
            expires_s: VALID_S.1,
        }],
        public_key: Some(PlatformPublicKey {
            id: PUBLIC_KEY_ID.to_owned(),
            key_pem: key(&folder, "platform-public-key")?,
        }),
        phases: [MERCHANT, PROVIDER]
            .map(|role| (role.mchid.to_owned(), KeyPhase::PublicKey))
            .into(),
        starts_s: None,
        waits: WechatPayWaits::default(),
    };
    SandboxWechatPay::start(settings)
        .await
        .with_context(|| format!("WeChat Pay, ports {port} and {second}"))
}

fn merchant(
    args: &SandboxArgs,
    folder: &Path,
    role: &WechatRole,
    sub_merchants: Vec<WechatSubMerchant>,
) -> anyhow::Result<WechatMerchant> {
    let issued = certificate(folder, role.name)?;
    Ok(WechatMerchant {
        mchid: role.mchid.to_owned(),
        apps: vec![role.appid.to_owned()],
        certificates: vec![MerchantApiCertificate {
            serial: issued.serial,
            public_key_pem: public_pem(&issued.key_pem)?,
        }],
        apiv3_key: secret(&folder.join(format!("{}.apiv3", role.name)))?,
        fee_basis_points: FEE_BASIS_POINTS,
        h5_hosts: vec![args.host.clone()],
        sub_merchants,
    })
}

/// A key and its certificate.
struct WechatCertificate {
    serial: String,
    certificate_pem: String,
    key_pem: String,
}

/// `NAME.key` and `NAME.pem`, created if they are missing.
fn certificate(folder: &Path, name: &str) -> anyhow::Result<WechatCertificate> {
    let key_pem = key(folder, name)?;
    let authority = Authority::new("paymux sandbox WeChat Pay")?;
    let (made, serial) = authority.certify(name, &key_pem)?;
    let path = folder.join(format!("{name}.pem"));
    if !path.exists() {
        write_new(&path, &made.certificates_pem, 0o644)?;
    }
    Ok(WechatCertificate {
        serial,
        certificate_pem: read(&path)?,
        key_pem,
    })
}

/// The RSA key in `NAME.key`; it and `NAME.pub` are created if neither exists.
fn key(folder: &Path, name: &str) -> anyhow::Result<String> {
    let path = folder.join(format!("{name}.key"));
    if !path.exists() {
        let der = RsaPrivateKey::generate_pkcs8().context("no RSA key could be generated")?;
        let text = pem::write(pem::PRIVATE_KEY, &der);
        let public = public_pem(&text)?;
        write_new(&folder.join(format!("{name}.pub")), &public, 0o644)?;
        write_new(&path, &text, 0o600)?;
    }
    read(&path)
}

fn public_pem(key_pem: &str) -> anyhow::Result<String> {
    let key = pem::read_private_key(key_pem.as_bytes())
        .and_then(|der| RsaPrivateKey::from_pkcs8(&der, RsaScheme::Pkcs1Sha256));
    let key = key.context("not an RSA key in PKCS #8")?;
    Ok(pem::write(pem::PUBLIC_KEY, &key.public_spki()))
}

/// The `APIv3` key: 32 characters.
fn secret(path: &Path) -> anyhow::Result<String> {
    if !path.exists() {
        let mut drawn = [0; 16];
        random::fill(&mut drawn)?;
        write_new(path, &hex(&drawn), 0o600)?;
    }
    Ok(read(path)?.trim_end().to_owned())
}

/// The addresses, the numbers and files of both accounts, and the faults on demand.
pub(super) fn summary(args: &SandboxArgs, wechatpay: &SandboxWechatPay) -> String {
    let dir = folder(args);
    let dir = dir.display();
    let (first, second) = (wechatpay.origin(), wechatpay.second_origin());
    let mut lines = vec![
        String::new(),
        format!("WeChat Pay API v3 at {first}, and with the same books at {second}"),
    ];
    for role in [MERCHANT, PROVIDER] {
        let WechatRole { name, mchid, appid } = role;
        lines.push(format!(
            "  {name}: mchid {mchid}, appid {appid}, {dir}/{name}.key, {dir}/{name}.pem, \
             {dir}/{name}.apiv3"
        ));
    }
    let (sub_mchid, sub_appid) = SUB_MERCHANT;
    lines.push(format!(
        "  the provider's sub-merchant: sub_mchid {sub_mchid}, sub_appid {sub_appid}"
    ));
    lines.push(format!(
        "  platform: certificate {dir}/platform.pem; public key {PUBLIC_KEY_ID}, \
         {dir}/platform-public-key.pub"
    ));
    lines.push("  the public key signs; POST /control/keys switches to certificates".to_owned());
    lines.push("  the payer: the h5 page; POST /payer/jsapi, app, native; /control/pay".to_owned());
    lines.push(
        "  POST /control/next: faults of an answer (with \"call\"), any error code, or".to_owned(),
    );
    let words = |words: Vec<&str>| words.join(", ");
    lines.push(format!(
        "    {}",
        words(ANSWER_FAULTS.iter().map(|fault| fault.1).collect())
    ));
    lines.push(format!(
        "  and of a notification: {}",
        words(NOTIFICATION_FAULTS.iter().map(|fault| fault.1).collect())
    ));
    let lines = lines
        .iter()
        .map(|line| format!("# {line}").trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n") + "\n"
}
