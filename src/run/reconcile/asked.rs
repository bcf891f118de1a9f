//! What is asked to be reconciled: whether it can be, and where the statement comes from.

use std::io::{self, BufReader};

use super::Question;
use crate::domain::identifiers::InstitutionId;
use crate::domain::statement::{Day, Unusable};
use crate::files;
use crate::flow::reconcile_statement::{Books, FromFile, FromInstitution, NotReconciled, Source};
use crate::run::beside::Beside;
use crate::store::ledger::Reconciled;

/// Why a statement is refused whose institution is not configured.
pub(super) const NOBODY: &str = "institution_unknown";

/// What is to be compared, if it is configured and can be asked.
pub(super) fn of(books: &Books<'_>, question: &Question, by: &str) -> Result<Reconciled, Unusable> {
    let institution = InstitutionId::parse(&question.institution).ok();
    let (register, at) = (books.register, books.world.clock.now());
    let known = institution.filter(|id| register.directory.institutions.contains_key(id));
    let found = &question.institution;
    let institution = known.ok_or_else(|| {
        let detail = format!("expected the id of a configured institution, found {found:?}");
        Unusable::new(NOBODY, detail)
    })?;
    if register.usable_adapter(&institution, at).is_none() {
        let detail = format!(
            "expected credentials of {found:?} in force, found unusable ones; paymux check lists them"
        );
        return Err(Unusable::new("credentials_unusable", detail));
    }
    let day = Day::parse(&question.date).map_err(|fault| {
        let found = &question.date;
        Unusable::new("date_malformed", format!("{fault}, found {found:?}"))
    })?;
    Ok(Reconciled {
        institution,
        day,
        by: by.to_owned(),
        at,
    })
}

/// Where the statement comes from.
pub(super) async fn source<'a>(
    books: &'a Books<'_>,
    question: &Question,
    of: &Reconciled,
) -> Result<Box<dyn Source + 'a>, NotReconciled> {
    let Some(path) = &question.statement else {
        return Ok(Box::new(FromInstitution::new(books, of).await?));
    };
    // Opened where it may take its time: not on a thread that serves.
    let named = path.clone();
    let opened = tokio::task::spawn_blocking(move || files::open(&named)).await;
    let opened = opened.unwrap_or_else(|fault| Err(io::Error::other(fault)));
    let file = opened.map_err(|error| {
        let detail = format!("expected a file at {}, found: {error}", path.display());
        Unusable::new("file_unreadable", detail)
    })?;
    Ok(Box::new(Beside::new(FromFile::new(
        BufReader::new(file),
        of,
    ))))
}
