//! What is asked to be reconciled: whether it can be, and where the statement comes from.

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

/// Why a statement is refused whose institution is not configured.
pub(super) const INSTITUTION_UNKNOWN: &str = "institution_unknown";

/// What is to be compared, if it is configured and can be asked.
pub(super) fn of(
    books: &ReconciliationScope<'_>,
    question: &ReconcileRequest,
    by: &str,
) -> Result<Reconciliation, UnusableStatement> {
    let institution = InstitutionId::parse(&question.institution).ok();
    let (snapshot, at) = (books.snapshot, books.world.clock.now());
    let known = institution.filter(|id| snapshot.routing.institutions.contains_key(id));
    let found = &question.institution;
    let institution = known.ok_or_else(|| {
        let detail = format!("expected the id of a configured institution, found {found:?}");
        UnusableStatement::new(INSTITUTION_UNKNOWN, detail)
    })?;
    if !snapshot.is_wholly_usable(&institution, at) {
        let detail = format!(
            "expected credentials of {found:?} in force, found unusable ones; paymux check lists them"
        );
        return Err(UnusableStatement::new("credentials_unusable", detail));
    }
    let day = SettlementDay::parse(&question.date).map_err(|fault| {
        let found = &question.date;
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
    books: &'a ReconciliationScope<'_>,
    question: &ReconcileRequest,
    of: &Reconciliation,
) -> Result<Box<dyn StatementSource + 'a>, NotReconciled> {
    let Some(path) = &question.statement else {
        return Ok(Box::new(FromInstitution::new(books, of).await?));
    };
    // Opened where it may take its time: not on a thread that serves.
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
