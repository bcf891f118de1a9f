//! `paymux call`: signs and sends a merchant's request and proves the answer: the client in the
//! box. `--explain` shows what was signed, and a curl line that does the same.

mod published;

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::{Method, Request, Response, header};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde_json::{Map, Value, json};

use crate::command::call::published::platform_keys;
use crate::command::not_done;
use crate::domain::identifiers::{InstitutionId, hex, unhex_any};
use crate::files;
use crate::outbound::{HyperOutbound, HyperOutboundSettings, PartyClientSettings};
use crate::signature::{self, Covering, KeyFault, Question, SigningKey};
use crate::terminal;
use crate::world::{
    CallTimeouts, Clock, Entropy, Outbound, OutboundParty, SystemClock, SystemEntropy,
};

/// How long an answer may take: longer than the gateway lets an institution take.
const TIMEOUTS: CallTimeouts = CallTimeouts {
    head: Duration::from_secs(15),
    whole: Duration::from_secs(20),
    body_bytes_max: 1 << 20,
};

/// The gateway, as a party of the network door.
const GATEWAY: &str = "gateway";

/// Arguments of `paymux call`.
#[derive(Debug, Args)]
pub struct CallArgs {
    #[command(subcommand)]
    what: CallCommand,
    /// Where the gateway is, as merchants sign for it
    #[arg(long, global = true, default_value = "https://localhost:8443")]
    gateway: String,
    /// Authorities believed for the gateway's certificate (PEM)
    #[arg(long, global = true, default_value = "certs/ca.pem")]
    roots: PathBuf,
    /// Who asks
    #[arg(long, global = true, default_value = "M1001")]
    merchant: String,
    /// The merchant's signing key (PKCS#8 PEM), or the secret it shares with the gateway
    /// (hexadecimal digits)
    #[arg(long, global = true, default_value = "certs/M1001-1.key")]
    key: PathBuf,
    /// The name it was enrolled under
    #[arg(long, global = true, default_value = "M1001-1")]
    key_id: String,
    /// The merchant's client certificate (PEM); used if the file exists
    #[arg(long, global = true, default_value = "certs/M1001.pem")]
    certificate: PathBuf,
    /// Its key (PEM)
    #[arg(long, global = true, default_value = "certs/M1001.key")]
    certificate_key: PathBuf,
    /// A further or another field of the body, NAME=VALUE; may be repeated
    #[arg(long = "field", global = true, value_name = "NAME=VALUE")]
    fields: Vec<String>,
    /// Show what was signed, and a curl line that does the same
    #[arg(long, global = true)]
    explain: bool,
}

#[derive(Debug, Subcommand)]
enum CallCommand {
    /// Place an order (A3.1)
    Place {
        /// Yuan, such as 12.30
        #[arg(long)]
        amount: String,
        /// The payer's number
        #[arg(long)]
        mobile: String,
        /// WEBVIEW, NATIVE or AGGREGATED
        #[arg(long, default_value = "AGGREGATED")]
        business_type: String,
        /// The merchant's own number; a new one if absent
        #[arg(long)]
        order_no: Option<String>,
        /// The merchant's enrolled name
        #[arg(long, default_value = "Tea House")]
        name: String,
        /// Where the result goes
        #[arg(long, default_value = "https://localhost:7443/notices")]
        return_url: String,
        /// An institution, if it is chosen already
        #[arg(long)]
        institution: Option<String>,
    },
    /// List the institutions open to an order's payer, with reasons (X-1)
    Institutions(OrderNumbers),
    /// Take an order to an institution (X-2)
    Select {
        #[command(flatten)]
        named: OrderNumbers,
        /// Which
        #[arg(long)]
        institution: String,
        /// WEBVIEW or NATIVE
        #[arg(long)]
        mode: Option<String>,
    },
    /// Ask where an order stands (A3.2)
    Query(OrderNumbers),
    /// End an unpaid order (X-3)
    Close(OrderNumbers),
}

/// How an order is named.
#[derive(Debug, Args)]
struct OrderNumbers {
    /// The merchant's own number
    #[arg(long)]
    order_no: Option<String>,
    /// The gateway's number
    #[arg(long)]
    pay_order_no: Option<String>,
}

/// Signs, sends, proves, prints. Exit status 0 for a 2xx answer that is proven and no refusal.
pub fn run(args: &CallArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(call(args))
}

async fn call(args: &CallArgs) -> anyhow::Result<ExitCode> {
    let pem = read(
        &args.key,
        "--key",
        "`paymux keys dev` makes the one of routes.toml",
    )?;
    let key = signing_key(&args.key_id, &pem)
        .with_context(|| format!("{}: not a usable signing key", args.key.display()))?;
    let outbound = line(args)?;
    let clock = SystemClock::start();
    let (path, body) = body(args, &clock)?;
    let target = format!("{}{path}", args.gateway.trim_end_matches('/'));
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(&target)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Bytes::from(serde_json::to_vec(&body)?))?;
    let now_s = clock.now().seconds();
    let base = sign(&mut request, &target, &key, now_s)?;
    let mut out = terminal::stdout();
    if args.explain {
        // A nonce admits one request, and this one is about to be sent.
        let mut another = request.clone();
        sign(&mut another, &target, &key, now_s)?;
        explain(&mut out, args, &another, &base)?;
    }
    let question = Question::of(&request, &target).context("the request was not signed")?;
    let keys = platform_keys(&outbound, &args.gateway).await?;
    let answer = send(&outbound, request).await?;
    let proven = signature::verify_response(&answer, &question, &keys, now_s);
    let proof = match &proven {
        Ok(proven) => format!("signed by {} and bound to this request", proven.key_id),
        Err(fault) => format!("NOT PROVEN: {fault}"),
    };
    writeln!(out, "HTTP {}  ({proof})", answer.status())?;
    let json = serde_json::from_slice::<Value>(answer.body());
    match &json {
        Ok(json) => writeln!(out, "{}", serde_json::to_string_pretty(json)?)?,
        Err(_) => writeln!(out, "{}", String::from_utf8_lossy(answer.body()))?,
    }
    if let Err(fault) = proven {
        return Ok(not_done(&format!("the answer is not proven: {fault}")));
    }
    if !answer.status().is_success() {
        return Ok(not_done("the gateway refused it; the answer says why"));
    }
    let is_refused = json.is_ok_and(|json| json.get("result") == Some(&json!("REFUSED")));
    if is_refused {
        return Ok(not_done("the institution refused it; the answer says why"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Signs with a nonce of its own; answers the signature base.
fn sign(
    request: &mut Request<Bytes>,
    target: &str,
    key: &SigningKey,
    now_s: i64,
) -> anyhow::Result<String> {
    let entropy: &dyn Entropy = &SystemEntropy;
    let nonce = URL_SAFE_NO_PAD.encode(entropy.draw::<16>());
    let covering = Covering {
        created_s: now_s,
        expires_s: Some(now_s.saturating_add(300)),
        nonce: Some(&nonce),
    };
    Ok(signature::sign_request(request, target, key, &covering)?)
}

/// A private key says what it signs with; what is no PEM is a shared secret.
pub(super) fn signing_key(id: &str, text: &str) -> Result<SigningKey, KeyFault> {
    match unhex_any(text.trim()).filter(|secret| !secret.is_empty()) {
        Some(secret) => SigningKey::from_secret(id, &secret),
        None => SigningKey::from_pkcs8_pem(id, text),
    }
}

fn read(path: &Path, flag: &str, advice: &str) -> anyhow::Result<String> {
    files::text(path).with_context(|| {
        format!(
            "{}: cannot be read; give {flag}, or: {advice}",
            path.display()
        )
    })
}

/// The network door, with the gateway as its only party.
fn line(args: &CallArgs) -> anyhow::Result<HyperOutbound> {
    let roots = read(
        &args.roots,
        "--roots",
        "`paymux keys dev` makes a development authority",
    )?;
    let roots = CertificateDer::pem_slice_iter(roots.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let client_identity = if args.certificate.exists() {
        let chain = read(&args.certificate, "--certificate", "leave it away")?;
        let chain =
            CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = read(
            &args.certificate_key,
            "--certificate-key",
            "it belongs to --certificate",
        )?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        Some(Arc::new(CertifiedKey::from_der(chain, key, &provider)?))
    } else {
        None
    };
    let settings = PartyClientSettings {
        roots,
        client_identity,
        connections_max: 1,
    };
    let institutions = HashMap::from([(InstitutionId::parse(GATEWAY)?, settings)]);
    Ok(HyperOutbound::new(HyperOutboundSettings {
        institutions,
        ..HyperOutboundSettings::default()
    })?)
}

async fn send(
    outbound: &HyperOutbound,
    request: Request<Bytes>,
) -> anyhow::Result<Response<Bytes>> {
    let party = OutboundParty::Institution(InstitutionId::parse(GATEWAY)?);
    Ok(outbound.send(&party, request, TIMEOUTS.into()).await?)
}

/// Path and body of what is asked.
fn body(args: &CallArgs, clock: &dyn Clock) -> anyhow::Result<(&'static str, Value)> {
    let mut body = Map::new();
    let mut put = |name: &str, value: &Option<String>| {
        if let Some(value) = value {
            body.insert(name.into(), json!(value));
        }
    };
    put("merchantId", &Some(args.merchant.clone()));
    let mut name_order = |named: &OrderNumbers| {
        put("merchantOrderNo", &named.order_no);
        put("payOrderNo", &named.pay_order_no);
    };
    let path = match &args.what {
        CallCommand::Place {
            amount,
            mobile,
            business_type,
            order_no,
            name,
            return_url,
            institution,
        } => {
            let drawn: &dyn Entropy = &SystemEntropy;
            let minted = || format!("T{}", hex(&drawn.draw::<8>()));
            put("transactionType", &Some("PASSWORD_PAY".into()));
            put("businessType", &Some(business_type.clone()));
            put("bankReturnUrl", &Some(return_url.clone()));
            put(
                "merchantOrderNo",
                &Some(order_no.clone().unwrap_or_else(minted)),
            );
            put("merchantName", &Some(name.clone()));
            put("orderDate", &Some(clock.now().date()));
            put("orderAmount", &Some(amount.clone()));
            put("mobileNo", &Some(mobile.clone()));
            put("institutionId", institution);
            body.insert(
                "explainInstitutions".into(),
                json!(business_type == "AGGREGATED"),
            );
            "/v1/orders"
        }
        CallCommand::Institutions(named) => {
            name_order(named);
            body.insert("explainInstitutions".into(), json!(true));
            "/v1/orders/institutions"
        }
        CallCommand::Select {
            named,
            institution,
            mode,
        } => {
            name_order(named);
            put("institutionId", &Some(institution.clone()));
            put("mode", mode);
            "/v1/orders/select"
        }
        CallCommand::Query(named) => {
            name_order(named);
            "/v1/orders/query"
        }
        CallCommand::Close(named) => {
            name_order(named);
            "/v1/orders/close"
        }
    };
    add_fields(&mut body, &args.fields)?;
    Ok((path, Value::Object(body)))
}

/// Further fields, as they were given.
fn add_fields(body: &mut Map<String, Value>, fields: &[String]) -> anyhow::Result<()> {
    for field in fields {
        let Some((name, value)) = field.split_once('=') else {
            bail!("--field {field}: expected NAME=VALUE");
        };
        body.insert(name.into(), json!(value));
    }
    Ok(())
}

/// What was signed, and how to send the same without this program.
fn explain(
    out: &mut impl Write,
    args: &CallArgs,
    request: &Request<Bytes>,
    base: &str,
) -> anyhow::Result<()> {
    writeln!(
        out,
        "signature base (RFC 9421), signed with {}:\n",
        args.key_id
    )?;
    writeln!(out, "{base}\n")?;
    writeln!(
        out,
        "the same with curl, signed with a nonce of its own; good for 300 s, and once:\n"
    )?;
    write!(
        out,
        "curl --cacert {}",
        shell(&args.roots.display().to_string())
    )?;
    if args.certificate.exists() {
        let (certificate, key) = (args.certificate.display(), args.certificate_key.display());
        write!(out, " \\\n  --cert {}", shell(&certificate.to_string()))?;
        write!(out, " --key {}", shell(&key.to_string()))?;
    }
    for (name, value) in request.headers() {
        let line = format!("{name}: {}", value.to_str().unwrap_or_default());
        write!(out, " \\\n  -H {}", shell(&line))?;
    }
    let body = String::from_utf8_lossy(request.body());
    writeln!(
        out,
        " \\\n  --data-binary {} \\\n  {}\n",
        shell(&body),
        shell(&request.uri().to_string())
    )?;
    Ok(())
}

/// A word that a shell reads back as it was.
fn shell(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
