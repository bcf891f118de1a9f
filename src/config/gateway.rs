//! The tables about the gateway itself: listeners, health thresholds, platform keys, allowed private
//! networks.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

use crate::config::enrolment::Enrolment;
use crate::config::enrolment::owners::KeyNote;
use crate::config::named::{CertificateRole, text};
use crate::config::outline::mark;
use crate::config::reading::{ConfigReader, ExpectedValue, Located, shape};
use crate::config::section::Section;
use crate::config::{KeyClass, KeySummary, Listen};
use crate::domain::identifiers::{IpNetwork, KeyId};
use crate::domain::institutions::HealthSettings;
use crate::domain::merchant::origin;
use crate::flow::configuration_snapshot::{DatedKey, PlatformIdentity, SigningKeys};

pub(super) mod store;
mod trusted_proxies;

/// An https origin in normalised form: lower case, no default port, no path.
pub(super) const ORIGIN: ExpectedValue = shape(
    "https://host[:port] in lower case, without path or default port",
    "\"https://pay.example.com\"",
);
/// The id of a key, as in `keyid`.
pub(super) const KEY_ID: ExpectedValue = shape("1 to 64 of A-Z a-z 0-9 _ -", "\"platform-2026\"");

/// An origin in normalised form.
pub(super) fn plain_origin(text: &str) -> Option<String> {
    origin(text).filter(|origin| origin == text)
}

pub(super) fn listen(
    r: &mut ConfigReader<'_>,
    mut s: Section<'_>,
) -> (Option<Listen>, Option<String>) {
    const ADDRESS: ExpectedValue = shape("an address and a port", "\"127.0.0.1:8443\"");
    const HOST: ExpectedValue = shape("a name in lower case, without port", "\"paymux.internal\"");
    let address = |text: &str| text.parse::<SocketAddr>().ok();
    let public = s.may(r, "public", ADDRESS, |v| v.as_str().and_then(address));
    let operations = s.may(r, "operations", ADDRESS, |v| v.as_str().and_then(address));
    let beyond = s.flag(r, "operations_beyond_loopback", false);
    let operations_hosts = s.list(r, "operations_hosts", HOST, host_name);
    let origin = s.mandatory(r, "public_origin", ORIGIN, |v| {
        text(v).and_then(plain_origin)
    });
    let trusted_proxies = trusted_proxies::trusted_proxies(r, &mut s);
    let drain_s = s.number(r, "drain_s", 30, 1..=600);
    let identity = s.identity(r, ["certificate", "key"], CertificateRole::Server);

    let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let line = operations.as_ref().map_or(s.line, |found| found.line);
    let lines = [public.as_ref().map_or(s.line, |found| found.line), line];
    let public = public.map_or(loopback(8443), |found| found.value);
    let operations = operations.map_or(loopback(9443), |found| found.value);
    let subject = s.subject("operations");
    if !operations.ip().is_loopback() && !beyond {
        let advice = "listen on 127.0.0.1, or say operations_beyond_loopback = true \
                      and keep strangers out by other means";
        r.fault(
            line,
            &subject,
            "a loopback address",
            &format!("{operations:?}"),
            advice,
        );
    }
    if operations == public {
        let advice = "choose another port: metrics are not for the public";
        r.fault(
            line,
            &subject,
            "an address of its own",
            "the public one",
            advice,
        );
    }
    if let (Some(origin), Some(identity)) = (&origin, &identity) {
        check_name(r, &s, origin, identity);
    }
    s.end(r);
    let listen = identity.map(|identity| Listen {
        public,
        operations,
        operations_hosts: operations_hosts.into_iter().map(|it| it.value).collect(),
        trusted_proxies,
        identity,
        drain: Duration::from_secs(drain_s),
        lines,
    });
    (listen, origin.map(|found| found.value))
}

/// A host name as in `Host`.
fn host_name(text: &str) -> Option<String> {
    let fits = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
    };
    let is_name = (1..=253).contains(&text.len()) && text.bytes().all(fits);
    is_name.then(|| text.to_owned())
}

/// With a certificate for another name every merchant's connection would fail.
fn check_name(
    r: &mut ConfigReader<'_>,
    s: &Section<'_>,
    origin: &Located<String>,
    identity: &CertifiedKey,
) {
    let uri = origin.value.parse::<http::Uri>().ok();
    let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default();
    let fits = || {
        let name = ServerName::try_from(host.trim_matches(['[', ']'])).ok()?;
        let certificate = ParsedCertificate::try_from(identity.cert.first()?).ok()?;
        verify_server_name(&certificate, &name).ok()
    };
    if fits().is_none() {
        let expected = format!("{host}, which public_origin says, in the certificate");
        let advice = "name the certificate of that host";
        r.fault(
            origin.line,
            &s.subject("certificate"),
            &expected,
            "other names",
            advice,
        );
    }
}

/// `[health]`: when an institution becomes ineligible for new orders, and for how long.
pub(super) fn health(r: &mut ConfigReader<'_>, mut s: Section<'_>) -> HealthSettings {
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let count = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let open_ms = s.number(r, "open_ms", 5_000, 100..=600_000);
    let settings = HealthSettings {
        window: Duration::from_secs(s.number(r, "window_s", 60, 5..=3_600)),
        calls_min: size(s.number(r, "calls_min", 8, 2..=64)),
        failures_percent: size(s.number(r, "failures_percent", 50, 1..=100)),
        not_sent_in_a_row: count(s.number(r, "not_sent_in_a_row", 3, 1..=64)),
        open: Duration::from_millis(open_ms),
        // The pause grows from `open_ms`, so its maximum must not be shorter.
        open_max: Duration::from_millis(s.number(r, "open_ms_max", 120_000, open_ms..=3_600_000)),
        probes: count(s.number(r, "probes", 1, 1..=64)),
        slow: Duration::from_millis(s.number(r, "slow_ms", 2_000, 10..=60_000)),
    };
    s.end(r);
    settings
}

/// `[platform]`: the signing keys, each with its validity, and their published halves.
pub(super) fn platform(
    r: &mut ConfigReader<'_>,
    mut s: Section<'_>,
    origin: Option<String>,
    enrolment: &mut Enrolment,
) -> Option<PlatformIdentity> {
    let mut keys: Vec<DatedKey> = Vec::new();
    let before = r.faults.len();
    for mut table in s.tables(r, "keys") {
        let id = table.mandatory(r, "id", KEY_ID, |v| KeyId::parse(v.as_str()?).ok());
        let key = table.signing_key(r, "key", id.as_ref().map(|id| id.value.as_str()));
        let span = table.span(r, ["not_before", "not_after"]);
        if let Some(id) = &id {
            r.once(&mut enrolment.key_ids, id, &table.subject("id"));
        }
        if let (Some(key), Some((from_s, until_s))) = (key, span) {
            enrolment.notes.push(KeyNote {
                summary: KeySummary {
                    id: key.id().to_owned(),
                    owner: "this gateway".to_owned(),
                    class: KeyClass::Platform,
                    mark: mark(key.public_pem().as_bytes()),
                    algorithm: key.algorithm().name(),
                    validity_s: Some((from_s, until_s)),
                },
                party: "this gateway".to_owned(),
                line: id.map_or(table.line, |id| id.line),
            });
            keys.push(DatedKey {
                from_s,
                until_s,
                key,
            });
        }
        table.end(r);
    }
    let line = s.line;
    s.end(r);
    let now = r.now.seconds();
    keys.sort_by_key(|one| one.from_s);
    let last = keys.iter().map(|one| one.until_s).max();
    keys.retain(|one| one.until_s >= now);
    let jwks = jwks(&keys);
    let signing = SigningKeys::of(keys, now);
    if signing.is_none() && r.faults.len() == before {
        let advice = "add one under [[platform.keys]]: paymux keys make --id platform-2026";
        r.fault(
            line,
            "[[platform.keys]]",
            "a key in force today",
            "none",
            advice,
        );
    }
    r.ends_soon(line, "[[platform.keys]]", last);
    Some(PlatformIdentity {
        origin: origin?,
        signing: signing?,
        jwks,
    })
}

/// The published keys: the public halves, each with its validity.
fn jwks(keys: &[DatedKey]) -> Bytes {
    let jwk = |one: &DatedKey| {
        let mut jwk = one.key.public_jwk();
        if let Some(members) = jwk.as_object_mut() {
            members.insert("nbf".to_owned(), one.from_s.into());
            members.insert("exp".to_owned(), one.until_s.into());
        }
        jwk
    };
    let keys: Vec<serde_json::Value> = keys.iter().map(jwk).collect();
    Bytes::from(serde_json::json!({ "keys": keys }).to_string())
}

/// Private networks that may be called.
pub(super) fn networks(r: &mut ConfigReader<'_>, s: &mut Section<'_>) -> Vec<IpNetwork> {
    const NETWORK: ExpectedValue = shape("a network, ADDRESS/BITS", "\"127.0.0.0/8\"");
    let found = s.list(r, "allowed_private_networks", NETWORK, |text| {
        text.parse().ok()
    });
    found.into_iter().map(|found| found.value).collect()
}
