//! A reconciliation request: whether it can run, and where the statement comes from.

use std::io::{self, BufReader};

use super::ReconcileRequest;
use crate::domain::identifiers::InstitutionId;
use crate::domain::statement::{SettlementDay, UnusableStatement};
use crate::files;
use crate::flow::reconcile_statement::{
    FromFile, FromInstitution, NotReconciled, ReconciliationScope, StatementSource,
};
use crate::run::blocking_source::BlockingSource;
use crate::store::ledger::Reconciliation;

/// The reason when the statement's institution is not configured.
pub(super) const INSTITUTION_UNKNOWN: &str = "institution_unknown";

/// What to reconcile, if the institution is configured and usable.
pub(super) fn of(
    scope: &ReconciliationScope<'_>,
    request: &ReconcileRequest,
    by: &str,
) -> Result<Reconciliation, UnusableStatement> {
    let institution = InstitutionId::parse(&request.institution).ok();
    let (snapshot, at) = (scope.flow.snapshot, scope.flow.world.clock.now());
    let known = institution.filter(|id| snapshot.routing.institutions.contains_key(id));
    let found = &request.institution;
    let institution = known.ok_or_else(|| {
        let detail = format!("expected the id of a configured institution, found {found:?}");
        UnusableStatement::new(INSTITUTION_UNKNOWN, detail)
    })?;
    if !snapshot.is_wholly_usable(&institution, at) {
        let detail = format!(
            "expected usable credentials of {found:?}, found unusable ones; paymux check lists them"
        );
        return Err(UnusableStatement::new("credentials_unusable", detail));
    }
    let day = SettlementDay::parse(&request.date).map_err(|fault| {
        let found = &request.date;
        UnusableStatement::new("date_malformed", format!("{fault}, found {found:?}"))
    })?;
    Ok(Reconciliation {
        institution,
        day,
        by: by.to_owned(),
        at,
    })
}

/// Where the statement comes from.
pub(super) async fn source<'a>(
    scope: &'a ReconciliationScope<'_>,
    request: &ReconcileRequest,
    of: &Reconciliation,
) -> Result<Box<dyn StatementSource + 'a>, NotReconciled> {
    let Some(path) = &request.statement else {
        return Ok(Box::new(FromInstitution::new(scope, of).await?));
    };
    // Opening may be slow, so not on a thread that serves.
    let named = path.clone();
    let opened = tokio::task::spawn_blocking(move || files::open(&named)).await;
    let opened = opened.unwrap_or_else(|fault| Err(io::Error::other(fault)));
    let file = opened.map_err(|error| {
        let detail = format!("expected a file at {}, found: {error}", path.display());
        UnusableStatement::new("file_unreadable", detail)
    })?;
    Ok(Box::new(BlockingSource::new(FromFile::new(
        BufReader::new(file),
        of,
    ))))
}
