//! `paymux call`: signs and sends a merchant's request and verifies the response.
//! `--explain` shows the signature base and an equivalent curl command.

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

/// How long a response may take: longer than the gateway waits for an institution.
const TIMEOUTS: CallTimeouts = CallTimeouts {
    head: Duration::from_secs(15),
    whole: Duration::from_secs(20),
    body_bytes_max: 1 << 20,
};

/// The gateway's id as an outbound party.
const GATEWAY: &str = "gateway";

/// Arguments of `paymux call`.
#[derive(Debug, Args)]
pub struct CallArgs {
    #[command(subcommand)]
    what: CallCommand,
    /// The gateway's public origin, which merchants sign
    #[arg(long, global = true, default_value = "https://localhost:8443")]
    gateway: String,
    /// Trusted certificate authorities for the gateway (PEM)
    #[arg(long, global = true, default_value = "certs/ca.pem")]
    roots: PathBuf,
    /// The calling merchant's merchantId
    #[arg(long, global = true, default_value = "M1001")]
    merchant: String,
    /// The merchant's signing key (PKCS#8 PEM), or its shared secret (hexadecimal digits)
    #[arg(long, global = true, default_value = "certs/M1001-1.key")]
    key: PathBuf,
    /// The key's id, as enrolled
    #[arg(long, global = true, default_value = "M1001-1")]
    key_id: String,
    /// The merchant's client certificate (PEM); used if the file exists
    #[arg(long, global = true, default_value = "certs/M1001.pem")]
    certificate: PathBuf,
    /// The certificate's private key (PEM)
    #[arg(long, global = true, default_value = "certs/M1001.key")]
    certificate_key: PathBuf,
    /// Add or override a field of the body, NAME=VALUE; repeatable
    #[arg(long = "field", global = true, value_name = "NAME=VALUE")]
    fields: Vec<String>,
    /// Show the signature base, and an equivalent curl command
    #[arg(long, global = true)]
    explain: bool,
}

#[derive(Debug, Subcommand)]
enum CallCommand {
    /// Place an order (A3.1)
    Place {
        /// The amount in yuan, such as 12.30
        #[arg(long)]
        amount: String,
        /// The payer's mobile number
        #[arg(long)]
        mobile: String,
        /// WEBVIEW, NATIVE or AGGREGATED
        #[arg(long, default_value = "AGGREGATED")]
        business_type: String,
        /// The merchant's order number; generated if absent
        #[arg(long)]
        order_no: Option<String>,
        /// The merchant's name, as enrolled
        #[arg(long, default_value = "Tea House")]
        name: String,
        /// Where the result is sent (bankReturnUrl)
        #[arg(long, default_value = "https://localhost:7443/notices")]
        return_url: String,
        /// The institution, if already chosen
        #[arg(long)]
        institution: Option<String>,
    },
    /// List the institutions available to an order's payer, with reasons for the others (X-1)
    Institutions(OrderNumbers),
    /// Select the institution for an order (X-2)
    Select {
        #[command(flatten)]
        named: OrderNumbers,
        /// The institution's id
        #[arg(long)]
        institution: String,
        /// WEBVIEW or NATIVE
        #[arg(long)]
        mode: Option<String>,
    },
    /// Query an order's status (A3.2)
    Query(OrderNumbers),
    /// Close an unpaid order (X-3)
    Close(OrderNumbers),
}

/// Identifies an order.
#[derive(Debug, Args)]
struct OrderNumbers {
    /// The merchant's order number (merchantOrderNo)
    #[arg(long)]
    order_no: Option<String>,
    /// The gateway's order number (payOrderNo)
    #[arg(long)]
    pay_order_no: Option<String>,
}

/// Signs and sends the request, verifies and prints the response. Exits with 0 for a verified 2xx
/// response that is not a refusal.
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
        "run `paymux keys dev` to create the one in routes.toml",
    )?;
    let key = signing_key(&args.key_id, &pem)
        .with_context(|| format!("{}: not a usable signing key", args.key.display()))?;
    let outbound = outbound(args)?;
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
        // A nonce is accepted once, and this request's is about to be used.
        let mut another = request.clone();
        sign(&mut another, &target, &key, now_s)?;
        explain(&mut out, args, &another, &base)?;
    }
    let question = Question::of(&request, &target).context("the request was not signed")?;
    let keys = platform_keys(&outbound, &args.gateway).await?;
    let answer = send(&outbound, request).await?;
    let verified = signature::verify_response(&answer, &question, &keys, now_s);
    let proof = match &verified {
        Ok(proven) => format!("signed by {} and bound to this request", proven.key_id),
        Err(fault) => format!("NOT VERIFIED: {fault}"),
    };
    writeln!(out, "HTTP {}  ({proof})", answer.status())?;
    let json = serde_json::from_slice::<Value>(answer.body());
    match &json {
        Ok(json) => writeln!(out, "{}", serde_json::to_string_pretty(json)?)?,
        Err(_) => writeln!(out, "{}", String::from_utf8_lossy(answer.body()))?,
    }
    if let Err(fault) = verified {
        return Ok(not_done(&format!("response not verified: {fault}")));
    }
    if !answer.status().is_success() {
        return Ok(not_done("refused by the gateway; see the response"));
    }
    let is_refused = json.is_ok_and(|json| json.get("result") == Some(&json!("REFUSED")));
    if is_refused {
        return Ok(not_done("refused by the institution; see the response"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Signs with a new nonce; returns the signature base.
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

/// Reads hexadecimal digits as a shared secret, anything else as a PEM private key.
pub(super) fn signing_key(id: &str, text: &str) -> Result<SigningKey, KeyFault> {
    match unhex_any(text.trim()).filter(|secret| !secret.is_empty()) {
        Some(secret) => SigningKey::from_secret(id, &secret),
        None => SigningKey::from_pkcs8_pem(id, text),
    }
}

fn read(path: &Path, flag: &str, advice: &str) -> anyhow::Result<String> {
    files::text(path).with_context(|| {
        format!(
            "{}: cannot be read; set {flag}, or {advice}",
            path.display()
        )
    })
}

/// An HTTP client with the gateway as its only party.
fn outbound(args: &CallArgs) -> anyhow::Result<HyperOutbound> {
    let roots = read(
        &args.roots,
        "--roots",
        "run `paymux keys dev` to create a development authority",
    )?;
    let roots = CertificateDer::pem_slice_iter(roots.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let client_identity = if args.certificate.exists() {
        let chain = read(&args.certificate, "--certificate", "omit it")?;
        let chain =
            CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = read(
            &args.certificate_key,
            "--certificate-key",
            "omit --certificate, which needs it",
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

/// Path and body of the request.
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
            let entropy: &dyn Entropy = &SystemEntropy;
            let generated = || format!("T{}", hex(&entropy.draw::<8>()));
            put("transactionType", &Some("PASSWORD_PAY".into()));
            put("businessType", &Some(business_type.clone()));
            put("bankReturnUrl", &Some(return_url.clone()));
            put(
                "merchantOrderNo",
                &Some(order_no.clone().unwrap_or_else(generated)),
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

/// Adds the fields given with `--field`.
fn add_fields(body: &mut Map<String, Value>, fields: &[String]) -> anyhow::Result<()> {
    for field in fields {
        let Some((name, value)) = field.split_once('=') else {
            bail!("--field {field}: expected NAME=VALUE");
        };
        body.insert(name.into(), json!(value));
    }
    Ok(())
}

/// Prints the signature base, and a curl command that sends an equivalent request.
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
        "equivalent curl command, with its own nonce; valid for 300 s and one use:\n"
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

/// Quotes a word for a shell.
fn shell(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
