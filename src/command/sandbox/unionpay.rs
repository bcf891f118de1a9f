//! UnionPay's counterpart in `paymux sandbox`: its authority's and the merchant's keys in the
//! sandbox's folder, created if they are missing.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use crate::command::sandbox::{SandboxArgs, loopback, read, write_new};
use crate::sandbox::{
    PemIdentity, SandboxUnionPay, UNIONPAY_FAULTS, UnionPayAuthority, UnionPayDelays,
    UnionPayMerchant, UnionPaySettings,
};

/// The merchant number.
const MER_ID: &str = "898000000000001";
/// The merchant's `certId`.
const CERT_ID: u64 = 68_000_000_001;

/// Starts it on a port of this machine; 0 takes a free one.
///
/// # Errors
/// A file cannot be read or written, or the port is taken.
pub(super) async fn start(
    args: &SandboxArgs,
    port: u16,
    identity: &PemIdentity,
    roots_pem: &str,
) -> anyhow::Result<SandboxUnionPay> {
    let authority = authority(&args.dir)?;
    let certificate = args.dir.join("unionpay-merchant.pem");
    if !certificate.exists() {
        let issued = authority.issue_merchant(MER_ID, CERT_ID)?;
        write_new(
            &args.dir.join("unionpay-merchant.key"),
            &issued.key_pem,
            0o600,
        )?;
        write_new(&certificate, &issued.certificates_pem, 0o644)?;
    }
    let merchant = UnionPayMerchant {
        mer_id: MER_ID.to_owned(),
        name: "茶馆 · Tea House".to_owned(),
        certificates_pem: vec![read(&certificate)?],
        access_types: ["0", "1", "2"].map(str::to_owned).to_vec(),
        has_files: true,
        fee_basis_points: 60,
    };
    let settings = UnionPaySettings {
        listen: loopback(port),
        host: args.host.clone(),
        identity: identity.clone(),
        authority: Arc::new(authority),
        merchants: vec![merchant],
        roots_pem: roots_pem.to_owned(),
        delays: UnionPayDelays::default(),
    };
    Ok(SandboxUnionPay::start(settings).await?)
}

/// The authority of the folder's keys; its certificates are written beside them.
fn authority(folder: &Path) -> anyhow::Result<UnionPayAuthority> {
    let key = |name: &str| {
        let path = folder.join(name);
        if !path.exists() {
            write_new(&path, &UnionPayAuthority::draw_key()?, 0o600)?;
        }
        read(&path)
    };
    let [root, middle] = [key("unionpay-root.key")?, key("unionpay-middle.key")?];
    let authority = UnionPayAuthority::from_keys(&root, &middle)?;
    for (name, pem) in [
        ("unionpay-root.pem", authority.root_pem()),
        ("unionpay-middle.pem", authority.middle_pem()),
    ] {
        let path = folder.join(name);
        if !path.exists() {
            write_new(&path, &pem, 0o644)?;
        }
    }
    Ok(authority)
}

/// Its address, the merchant's files, and the faults available on demand.
pub(super) fn summary(args: &SandboxArgs, unionpay: &SandboxUnionPay) -> String {
    let (origin, dir) = (unionpay.origin(), args.dir.display());
    let mut text = format!(
        "\n# UnionPay 5.1.0 at {origin}, files included; merId {MER_ID}, certId {CERT_ID}\n\
         #   signs with {dir}/unionpay-merchant.key and .pem\n\
         #   trusts {dir}/unionpay-root.pem and {dir}/unionpay-middle.pem\n\
         # Amounts ending in these digits trigger a fault; so does POST {origin}/control/next:\n"
    );
    for (_, word, cents, what) in UNIONPAY_FAULTS {
        let cents = cents.map_or_else(|| "  ".to_owned(), |cents| format!("{cents:02}"));
        // Writing to a string does not fail.
        let _ = writeln!(text, "#   {cents}  {word}: {what}");
    }
    text
}
