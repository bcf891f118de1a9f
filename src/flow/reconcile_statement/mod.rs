//! The books beside an institution's statement of a day (M7). First everything is compared and
//! nothing touched; a statement that is not whole, or of something else, ends there. Then what we do
//! not know as done is asked about, and only the institution's answer to that question counts (V4).
//! What still differs becomes an incident.

mod statement_from_file;
mod statement_from_institution;

pub use statement_from_file::FromFile;
pub use statement_from_institution::FromInstitution;

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::change::{Change, ConfigurationChange};
use crate::domain::evidence::EvidenceSubject;
use crate::domain::identifiers::Timestamp;
use crate::domain::statement::{
    DifferenceKind, LINES_MAX, StatementDifference, StatementLine, StatementTotals,
    UnusableStatement, compare, mark, missing,
};
use crate::flow::apply_evidence::apply_evidence;
use crate::flow::call_institution::{acquire_permit, ask_with_permit};
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::institution::{Call, Institution};
use crate::store::ledger::{BREAKS_AT_ONCE, MovementCursor, Reconciliation, ReconciliationLedger};
use crate::store::{OrderKey, Store, StoreError};
use crate::world::World;

/// Lines compared in one read of the store.
pub const LINES_AT_ONCE: usize = 1_000;

/// Differences of one statement at most. Past it, it is hardly a statement of ours; and all of them
/// are kept in memory until the last line was read.
pub const DIFFERENCES_MAX: usize = 100_000;

/// Of a day that is not over: how long ago money must have moved to be missed in a statement.
const MISSING_AFTER: Duration = Duration::from_mins(5);

/// Tries of a question for a turn at the institution.
const PERMIT_TRIES: u32 = 3;

/// Where lines come from.
#[async_trait]
pub trait StatementSource: Send {
    /// The next lines, at most a few thousand; nothing after the last, and then what they add up to
    /// is what was said.
    async fn next(&mut self) -> Result<Option<Vec<StatementLine>>, UnusableStatement>;
}

/// What reconciling takes.
pub struct ReconciliationScope<'a> {
    /// Orders.
    pub store: &'a Store,
    /// Movements and incidents.
    pub ledger: &'a dyn ReconciliationLedger,
    /// Time, and the institution.
    pub world: &'a World,
    /// How it is asked.
    pub snapshot: &'a ConfigurationSnapshot,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReconciliationStep {
    /// So many lines were compared.
    Compared(u64),
    /// So many of so many movements were asked about.
    Asked(usize, usize),
}

/// Told each step.
pub type ReconciliationProgress<'a> = &'a (dyn Fn(ReconciliationStep) + Send + Sync);

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReconciliationResult {
    /// What the statement adds up to.
    pub totals: StatementTotals,
    /// Our own movements of that day.
    pub ours: u64,
    /// Every difference, and what happened to it.
    pub noted: Vec<(StatementDifference, DifferenceOutcome)>,
    /// Incidents that are new or open again.
    pub raised: u64,
    /// Incidents of earlier reconciliations that are gone.
    pub resolved: u64,
}

impl ReconciliationResult {
    /// Differences that remain.
    pub fn remaining(&self) -> usize {
        let remain = self.noted.iter();
        remain
            .filter(|(_, fate)| *fate == DifferenceOutcome::Break)
            .count()
    }
}

/// What happened to a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DifferenceOutcome {
    /// The institution confirmed it when it was asked, and the books say so now.
    Repaired,
    /// It remains, as an incident.
    Break,
}

impl DifferenceOutcome {
    /// A stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Repaired => "repaired",
            Self::Break => "break",
        }
    }
}

/// Why nothing came of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReconciled {
    /// The statement is not used; nothing was touched.
    #[error(transparent)]
    Unusable(#[from] UnusableStatement),
    /// The store did not answer. To be repeated: nothing is done twice.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Compares, repairs what evidence allows, and notes the rest.
///
/// # Errors
/// [`NotReconciled`].
pub async fn reconcile_statement(
    books: &ReconciliationScope<'_>,
    of: &Reconciliation,
    source: &mut dyn StatementSource,
    progress: ReconciliationProgress<'_>,
) -> Result<ReconciliationResult, NotReconciled> {
    let compared = match compare_all(books, of, source, progress).await {
        Ok(compared) => compared,
        Err(NotReconciled::Unusable(why)) => {
            let result = format!("refused reason={}", why.reason);
            let refused = ConfigurationChange {
                version: None,
                endpoints: Vec::new(),
                accounts: Vec::new(),
                audit_entry: of.audit_entry("statement.reconcile", result),
            };
            books
                .store
                .changes
                .commit(&Change::configured(refused, of.at))
                .await?;
            return Err(why.into());
        }
        Err(fault) => return Err(fault),
    };
    let noted = repair(books, of, compared.open, progress).await?;
    let rest = compared.differences.into_iter();
    let noted: Vec<_> = noted
        .into_iter()
        .chain(rest.map(|difference| (difference, DifferenceOutcome::Break)))
        .collect();
    let mut outcome = ReconciliationResult {
        totals: compared.totals,
        ours: compared.ours,
        noted,
        raised: 0,
        resolved: 0,
    };
    let remain = outcome.noted.iter();
    let remain: Vec<_> = remain
        .filter(|(_, fate)| *fate == DifferenceOutcome::Break)
        .map(|(difference, _)| difference)
        .collect();
    for some in remain.chunks(BREAKS_AT_ONCE) {
        let some = some.iter().copied().cloned().collect();
        let raised = books.ledger.raise(of, some).await?;
        outcome.raised = outcome.raised.saturating_add(raised);
    }
    let (lines, all, left) = (
        outcome.totals.lines,
        outcome.noted.len(),
        outcome.remaining(),
    );
    let result = format!("done lines={lines} differences={all} remaining={left}");
    outcome.resolved = books.ledger.conclude(of, result).await?;
    Ok(outcome)
}

/// What comparing finds.
struct StatementComparison {
    totals: StatementTotals,
    ours: u64,
    differences: Vec<StatementDifference>,
    /// Lines of movements that we do not know as done.
    open: Vec<StatementLine>,
}

impl StatementComparison {
    fn is_within_bounds(&self) -> Result<(), UnusableStatement> {
        if self.totals.lines > LINES_MAX {
            let detail = format!("expected at most {LINES_MAX} lines, found more");
            return Err(UnusableStatement::new("too_many_lines", detail));
        }
        if self.differences.len().saturating_add(self.open.len()) > DIFFERENCES_MAX {
            let detail = format!(
                "expected at most {DIFFERENCES_MAX} differences, found more: is it the statement of \
                 this gateway?"
            );
            return Err(UnusableStatement::new("too_many_differences", detail));
        }
        Ok(())
    }
}

/// Touches nothing.
async fn compare_all(
    books: &ReconciliationScope<'_>,
    of: &Reconciliation,
    source: &mut dyn StatementSource,
    progress: ReconciliationProgress<'_>,
) -> Result<StatementComparison, NotReconciled> {
    if of.day.from > of.at {
        let detail = "expected a day that has begun in Asia/Shanghai, found one to come";
        return Err(UnusableStatement::new("day_to_come", detail).into());
    }
    let mut seen = HashSet::new();
    let mut found = StatementComparison {
        totals: StatementTotals::default(),
        ours: 0,
        differences: Vec::new(),
        open: Vec::new(),
    };
    while let Some(lines) = source.next().await? {
        for some in lines.chunks(LINES_AT_ONCE) {
            let known = books.ledger.known(&of.institution, some).await?;
            for (line, ours) in some.iter().zip(&known) {
                found.totals.add(line);
                if !seen.insert(line.mark()) {
                    let twice = DifferenceKind::DoubledLine;
                    let no = &line.institution_no;
                    found
                        .differences
                        .push(StatementDifference::of(line, twice, "one line", no));
                    continue;
                }
                let differ = compare(line, ours.as_ref(), &of.day);
                let is_open = |one: &StatementDifference| one.kind == DifferenceKind::NotDone;
                if differ.iter().any(is_open) {
                    found.open.push(line.clone());
                } else {
                    found.differences.extend(differ);
                }
            }
            found.is_within_bounds()?;
        }
        progress(ReconciliationStep::Compared(found.totals.lines));
        // Payers are not kept waiting by a million lines.
        tokio::task::yield_now().await;
    }
    look_for_missing(books, of, &seen, &mut found).await?;
    Ok(found)
}

/// What of our own movements of that day the statement lacks.
async fn look_for_missing(
    books: &ReconciliationScope<'_>,
    of: &Reconciliation,
    seen: &HashSet<u64>,
    found: &mut StatementComparison,
) -> Result<(), NotReconciled> {
    let settled_ms = i64::try_from(MISSING_AFTER.as_millis()).unwrap_or(i64::MAX);
    let settled = Timestamp::from_ms(of.at.ms().saturating_sub(settled_ms));
    let is_over = of.at >= of.day.until;
    let mut next = Some(MovementCursor::before(&of.day));
    while let Some(place) = next {
        let (moved, then) = books.ledger.moved(&of.institution, &of.day, &place).await?;
        for ours in &moved {
            found.ours = found.ours.saturating_add(1);
            let may_be_missed = is_over || ours.moved_before(settled);
            if may_be_missed && !seen.contains(&mark(ours.movement, &ours.number)) {
                found.differences.push(missing(ours));
            }
        }
        found.is_within_bounds()?;
        next = then;
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Asks about each movement that we do not know as done, and compares it again.
async fn repair(
    books: &ReconciliationScope<'_>,
    of: &Reconciliation,
    open: Vec<StatementLine>,
    progress: ReconciliationProgress<'_>,
) -> Result<Vec<(StatementDifference, DifferenceOutcome)>, NotReconciled> {
    let mut noted = Vec::with_capacity(open.len());
    let count = open.len();
    for (at, line) in open.iter().enumerate() {
        let before = books
            .ledger
            .known(&of.institution, std::slice::from_ref(line));
        let before = compare(line, first(before.await?).as_ref(), &of.day);
        ask(books, of, line).await?;
        let after = books
            .ledger
            .known(&of.institution, std::slice::from_ref(line));
        let after = compare(line, first(after.await?).as_ref(), &of.day);
        let is_open = |one: &StatementDifference| one.kind == DifferenceKind::NotDone;
        let gone = before
            .into_iter()
            .filter(|one| is_open(one) && !after.iter().any(is_open));
        noted.extend(gone.map(|one| (one, DifferenceOutcome::Repaired)));
        noted.extend(after.into_iter().map(|one| (one, DifferenceOutcome::Break)));
        progress(ReconciliationStep::Asked(at.saturating_add(1), count));
    }
    Ok(noted)
}

fn first<T>(list: Vec<Option<T>>) -> Option<T> {
    list.into_iter().next().flatten()
}

/// Asks the institution how a movement stands and weighs its answer. The line only said where to
/// ask: what moves anything is the answer to our own question (V4).
async fn ask(
    books: &ReconciliationScope<'_>,
    of: &Reconciliation,
    line: &StatementLine,
) -> Result<(), StoreError> {
    let Some(about) = line.about() else {
        return Ok(());
    };
    let id = of.institution.clone();
    let key = match &about {
        EvidenceSubject::Attempt(attempt) => OrderKey::Attempt(id, attempt.clone()),
        EvidenceSubject::Refund(no) => OrderKey::Refund(id, no.clone()),
    };
    let adapter = books.snapshot.adapters.get(&of.institution);
    let (Some(adapter), Some(order)) = (adapter, books.store.orders.order(&key).await?) else {
        return Ok(());
    };
    let call = match &about {
        EvidenceSubject::Attempt(id) => {
            let attempt = order.attempts.iter().find(|attempt| attempt.id == *id);
            attempt.map(|attempt| Call::Query(attempt, &order.terms))
        }
        EvidenceSubject::Refund(no) => order.refund(no).and_then(|refund| {
            let attempt = order.attempt_of(refund)?;
            Some(Call::RefundQuery(refund, attempt, &order.terms))
        }),
    };
    let Some(call) = call else {
        return Ok(());
    };
    let adapter: &dyn Institution = adapter.as_ref();
    for _ in 0..PERMIT_TRIES {
        let Ok(permit) = acquire_permit(books.world, &of.institution, &order.terms.merchant).await
        else {
            continue;
        };
        let evidence = ask_with_permit(books.world, adapter, &call, permit).await;
        apply_evidence(books.store, books.world, adapter, evidence, None).await?;
        break;
    }
    Ok(())
}
