//! Reconciles our ledger with an institution's statement of a day (M7). First everything is
//! compared without changes; an incomplete or wrong statement ends there. Then movements that we do
//! not know as done are queried, and only the institution's reply to that query counts (V4).
//! Differences that remain become reconciliation breaks.

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
use crate::flow::FlowScope;
use crate::flow::apply_evidence::apply_evidence;
use crate::flow::call_institution::{acquire_permit, ask_with_permit};
use crate::institution::{Institution, Operation};
use crate::store::ledger::{BREAKS_AT_ONCE, MovementCursor, Reconciliation, ReconciliationLedger};
use crate::store::{OrderKey, StoreError};

/// Lines compared in one read of the store.
pub const LINES_AT_ONCE: usize = 1_000;

/// Maximum number of differences in one statement: more suggest the wrong statement, and all are
/// held in memory until the last line is read.
pub const DIFFERENCES_MAX: usize = 100_000;

/// While the day is not over: the minimum age of a movement that counts as missing in a statement.
const MISSING_AFTER: Duration = Duration::from_mins(5);

/// How often a query tries to get a permit.
const PERMIT_TRIES: u32 = 3;

/// A source of statement lines.
#[async_trait]
pub trait StatementSource: Send {
    /// The next lines, at most a few thousand; `None` after the last, and then their sums are known
    /// to match the totals that the statement claims.
    async fn next(&mut self) -> Result<Option<Vec<StatementLine>>, UnusableStatement>;
}

/// The dependencies of reconciliation.
pub struct ReconciliationScope<'a> {
    /// What every flow works with.
    pub flow: FlowScope<'a>,
    /// Movements and reconciliation breaks.
    pub ledger: &'a dyn ReconciliationLedger,
}

/// Progress of a reconciliation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReconciliationStep {
    /// Lines compared so far.
    Compared(u64),
    /// Movements queried so far, and their total.
    Asked(usize, usize),
}

/// Called after each step.
pub type ReconciliationProgress<'a> = &'a (dyn Fn(ReconciliationStep) + Send + Sync);

/// The result of a reconciliation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReconciliationResult {
    /// The totals of the statement.
    pub totals: StatementTotals,
    /// Number of our own movements of that day.
    pub ours: u64,
    /// Every difference and its outcome.
    pub recorded: Vec<(StatementDifference, DifferenceOutcome)>,
    /// Breaks that are new or open again.
    pub raised: u64,
    /// Breaks of earlier reconciliations that are resolved.
    pub resolved: u64,
}

impl ReconciliationResult {
    /// Differences that remain.
    pub fn remaining(&self) -> usize {
        let remain = self.recorded.iter();
        remain
            .filter(|(_, outcome)| *outcome == DifferenceOutcome::Break)
            .count()
    }
}

/// The outcome of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DifferenceOutcome {
    /// The institution confirmed the movement when queried, and our ledger has it now.
    Repaired,
    /// It remains, as a reconciliation break.
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

/// Why reconciliation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReconciled {
    /// The statement is unusable; nothing was changed.
    #[error(transparent)]
    Unusable(#[from] UnusableStatement),
    /// The store failed. Safe to repeat: nothing is done twice.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Compares, repairs what evidence allows, and records the remaining differences as breaks.
///
/// # Errors
/// [`NotReconciled`].
pub async fn reconcile_statement(
    scope: &ReconciliationScope<'_>,
    of: &Reconciliation,
    source: &mut dyn StatementSource,
    progress: ReconciliationProgress<'_>,
) -> Result<ReconciliationResult, NotReconciled> {
    let compared = match compare_all(scope, of, source, progress).await {
        Ok(compared) => compared,
        Err(NotReconciled::Unusable(why)) => {
            let result = format!("refused reason={}", why.reason);
            let refused = ConfigurationChange {
                version: None,
                endpoints: Vec::new(),
                accounts: Vec::new(),
                audit_entry: of.audit_entry("statement.reconcile", result),
            };
            scope
                .flow
                .store
                .changes
                .commit(&Change::configured(refused, of.at))
                .await?;
            return Err(why.into());
        }
        Err(fault) => return Err(fault),
    };
    let repaired = repair(scope, of, compared.open, progress).await?;
    let rest = compared.differences.into_iter();
    let recorded: Vec<_> = repaired
        .into_iter()
        .chain(rest.map(|difference| (difference, DifferenceOutcome::Break)))
        .collect();
    let mut outcome = ReconciliationResult {
        totals: compared.totals,
        ours: compared.ours,
        recorded,
        raised: 0,
        resolved: 0,
    };
    let remain = outcome.recorded.iter();
    let remain: Vec<_> = remain
        .filter(|(_, outcome)| *outcome == DifferenceOutcome::Break)
        .map(|(difference, _)| difference)
        .collect();
    for some in remain.chunks(BREAKS_AT_ONCE) {
        let some = some.iter().copied().cloned().collect();
        let raised = scope.ledger.raise(of, some).await?;
        outcome.raised = outcome.raised.saturating_add(raised);
    }
    let (lines, all, remaining) = (
        outcome.totals.lines,
        outcome.recorded.len(),
        outcome.remaining(),
    );
    let result = format!("done lines={lines} differences={all} remaining={remaining}");
    outcome.resolved = scope.ledger.conclude(of, result).await?;
    Ok(outcome)
}

/// The result of the comparison.
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

/// Compares the statement with our ledger, without changes.
async fn compare_all(
    scope: &ReconciliationScope<'_>,
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
            let known = scope.ledger.known(&of.institution, some).await?;
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
        // Yields so that a long statement does not delay payers.
        tokio::task::yield_now().await;
    }
    look_for_missing(scope, of, &seen, &mut found).await?;
    Ok(found)
}

/// Finds our own movements of that day that are missing in the statement.
async fn look_for_missing(
    scope: &ReconciliationScope<'_>,
    of: &Reconciliation,
    seen: &HashSet<u64>,
    found: &mut StatementComparison,
) -> Result<(), NotReconciled> {
    let settled_ms = i64::try_from(MISSING_AFTER.as_millis()).unwrap_or(i64::MAX);
    let settled = Timestamp::from_ms(of.at.ms().saturating_sub(settled_ms));
    let is_over = of.at >= of.day.until;
    let mut next = Some(MovementCursor::before(&of.day));
    while let Some(place) = next {
        let (moved, then) = scope.ledger.moved(&of.institution, &of.day, &place).await?;
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

/// Queries each movement that we do not know as done, and compares it again.
async fn repair(
    scope: &ReconciliationScope<'_>,
    of: &Reconciliation,
    open: Vec<StatementLine>,
    progress: ReconciliationProgress<'_>,
) -> Result<Vec<(StatementDifference, DifferenceOutcome)>, NotReconciled> {
    let mut differences = Vec::with_capacity(open.len());
    let count = open.len();
    for (at, line) in open.iter().enumerate() {
        let before = scope
            .ledger
            .known(&of.institution, std::slice::from_ref(line));
        let before = compare(line, first(before.await?).as_ref(), &of.day);
        query_movement(scope, of, line).await?;
        let after = scope
            .ledger
            .known(&of.institution, std::slice::from_ref(line));
        let after = compare(line, first(after.await?).as_ref(), &of.day);
        let is_open = |one: &StatementDifference| one.kind == DifferenceKind::NotDone;
        let gone = before
            .into_iter()
            .filter(|one| is_open(one) && !after.iter().any(is_open));
        differences.extend(gone.map(|one| (one, DifferenceOutcome::Repaired)));
        differences.extend(after.into_iter().map(|one| (one, DifferenceOutcome::Break)));
        progress(ReconciliationStep::Asked(at.saturating_add(1), count));
    }
    Ok(differences)
}

fn first<T>(list: Vec<Option<T>>) -> Option<T> {
    list.into_iter().next().flatten()
}

/// Queries the institution about a movement and applies the evidence. The line only says what to
/// query: only the reply to our own query changes anything (V4).
async fn query_movement(
    scope: &ReconciliationScope<'_>,
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
    let FlowScope {
        store,
        world,
        snapshot,
    } = scope.flow;
    let adapter = snapshot.adapters.get(&of.institution);
    let (Some(adapter), Some(order)) = (adapter, store.orders.order(&key).await?) else {
        return Ok(());
    };
    let call = match &about {
        EvidenceSubject::Attempt(id) => {
            let attempt = order.attempts.iter().find(|attempt| attempt.id == *id);
            attempt.map(|attempt| snapshot.call(Operation::Query, attempt, &order.terms))
        }
        EvidenceSubject::Refund(no) => order.refund(no).and_then(|refund| {
            let attempt = order.attempt_of(refund)?;
            Some(snapshot.call(Operation::RefundQuery(refund), attempt, &order.terms))
        }),
    };
    let Some(call) = call else {
        return Ok(());
    };
    let adapter: &dyn Institution = adapter.as_ref();
    for _ in 0..PERMIT_TRIES {
        let Ok(permit) = acquire_permit(world, &of.institution, &order.terms.merchant).await else {
            continue;
        };
        let evidence = ask_with_permit(world, adapter, &call, permit).await;
        apply_evidence(scope.flow, adapter, evidence, None).await?;
        break;
    }
    Ok(())
}
