//! The connection to an institution.

use rustls::pki_types::CertificateDer;

use crate::config::InstitutionConnection;
use crate::config::gateway::{ORIGIN, plain_origin};
use crate::config::named::{CertificateRole, text, validity_s};
use crate::config::reading::ConfigReader;
use crate::config::section::Section;
use crate::domain::institutions::{Credentials, Validity};

/// Default maximum of concurrent calls to one institution: a slow one must not use up the capacity of the
/// gateway.
const CALLS_AT_ONCE: u64 = 128;

/// The connection: trusted authorities and our client certificate; and the credentials with those of the
/// connection. If its authorities or its certificate cannot be used there is no connection: others are
/// never used instead.
pub(super) fn leg(
    r: &mut ConfigReader<'_>,
    s: &mut Section<'_>,
    at: Option<(&'static str, String)>,
    mut credentials: Credentials,
) -> (Option<InstitutionConnection>, Credentials) {
    let moved_from = s.may(r, "moved_from", ORIGIN, |v| text(v).and_then(plain_origin));
    let calls_at_once = s.number(r, "calls_at_once", CALLS_AT_ONCE, 1..=10_000);
    let roots = s.authorities(r, "roots");
    if let Some(roots) = &roots {
        let validity = |der| validity_s(der).map(|(from, until)| from..=until);
        credentials = credentials.and(roots.iter().filter_map(validity).collect());
    }
    let shows = s.has("client_certificate") || s.has("client_key");
    let identity = if shows {
        let identity = s.identity(
            r,
            ["client_certificate", "client_key"],
            CertificateRole::Client,
        );
        let validity = identity.as_ref().and_then(|one| chain_validity(&one.cert));
        credentials = credentials.and(validity.into_iter().collect());
        identity
    } else {
        s.knows(&["client_certificate", "client_key"]);
        None
    };
    let believes_nobody = roots.as_ref().is_some_and(Vec::is_empty);
    if believes_nobody || shows && identity.is_none() {
        return (None, credentials);
    }
    let leg = at.map(|(kind, origin)| InstitutionConnection {
        kind,
        origin,
        moved_from: moved_from.map(|found| found.value),
        roots,
        identity,
        calls_at_once: u32::try_from(calls_at_once).unwrap_or(u32::MAX),
    });
    (leg, credentials)
}

/// When every certificate of a chain is in force.
fn chain_validity(chain: &[CertificateDer<'_>]) -> Option<Validity> {
    let all: Option<Vec<(i64, i64)>> = chain.iter().map(validity_s).collect();
    let all = all?;
    let from = all.iter().map(|(from, _)| *from).max()?;
    let until = all.iter().map(|(_, until)| *until).min()?;
    Some(from..=until)
}
