//! `paymux sandbox --alipay-port`: one more listener, Alipay's gateway, with RSA keys in the same
//! folder and one application in public-key mode.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;

use crate::command::sandbox::{SandboxArgs, loopback, read, write_new};
use crate::crypto::pem::{self, PRIVATE_KEY, PUBLIC_KEY};
use crate::crypto::rsa::{RsaPrivateKey, RsaScheme};
use crate::sandbox::{
    ALIPAY_FAULTS, AlipayApp, AlipayDelays, AlipayKey, AlipaySettings, AlipayTime, EmptyDay,
    PemIdentity, SandboxAlipay,
};

/// The one application, and the merchant to whom it belongs.
const APP_ID: &str = "2021000123456789";
const SELLER_ID: &str = "2088123412341234";

/// Starts the gateway if its port was given.
///
/// # Errors
/// A file cannot be read or written, or the port is taken.
pub(super) async fn start(
    args: &SandboxArgs,
    identity: PemIdentity,
    roots_pem: &str,
) -> anyhow::Result<Option<SandboxAlipay>> {
    let Some(port) = args.alipay_port else {
        return Ok(None);
    };
    let settings = AlipaySettings {
        listen: loopback(port),
        host: args.host.clone(),
        identity,
        roots_pem: roots_pem.to_owned(),
        key: AlipayKey {
            private_key: rsa_pair(&args.dir, "alipay")?.0,
            certificate: None,
        },
        apps: vec![AlipayApp {
            app_id: APP_ID.to_owned(),
            seller_id: SELLER_ID.to_owned(),
            public_key: Some(rsa_pair(&args.dir, "paymux-alipay")?.1),
            certificates: None,
        }],
        authorisations: Vec::new(),
        empty_day: EmptyDay::EmptyFile,
        time: AlipayTime::default(),
        delays: AlipayDelays::default(),
    };
    let started = SandboxAlipay::start(settings).await;
    Ok(Some(
        started.with_context(|| format!("alipay, port {port}"))?,
    ))
}

/// Private and public key in `ID.key` and `ID.pub`; created if neither exists.
fn rsa_pair(folder: &Path, id: &str) -> anyhow::Result<(String, String)> {
    let (private, public) = (
        folder.join(format!("{id}.key")),
        folder.join(format!("{id}.pub")),
    );
    if !private.exists() {
        let der = RsaPrivateKey::generate_pkcs8().context("no randomness")?;
        let key = RsaPrivateKey::from_pkcs8(&der, RsaScheme::Pkcs1Sha256);
        let spki = key.context("an RSA key cannot be created")?.public_spki();
        write_new(&public, &pem::write(PUBLIC_KEY, &spki), 0o644)?;
        write_new(&private, &pem::write(PRIVATE_KEY, &der), 0o600)?;
    }
    Ok((read(&private)?, read(&public)?))
}

/// Where it listens, who calls it, and the faults available on demand.
pub(super) fn summary(args: &SandboxArgs, gateway: &SandboxAlipay) -> String {
    let dir = args.dir.display();
    let mut text = format!(
        "\n# Alipay's gateway: {}\n\
         #   app_id {APP_ID}, seller_id {SELLER_ID}, public-key mode\n\
         #   sign with {dir}/paymux-alipay.key, verify with {dir}/alipay.pub\n\
         #   POST /control/next {{\"fault\": …}} shows one of these; GET /control/books:\n",
        gateway.gateway_url(),
    );
    for (_, word, effect) in ALIPAY_FAULTS {
        // Writing to a string does not fail.
        let _ = writeln!(text, "#   {word}: {effect}");
    }
    text
}
