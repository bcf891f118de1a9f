//! Requests a statement from the institution: one receiver after the other, page by page.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Response;

use crate::domain::attempt::Stamp;
use crate::domain::evidence::EvidenceSubject;
use crate::domain::identifiers::{CalendarDay, MerchantId, OrderKey};
use crate::domain::institutions::{CallEnd, CallPurpose};
use crate::domain::statement::{
    AccountReceiver, StatementLine, StatementTotals, UnusableStatement,
};
use crate::flow::call_institution::executor::{Conversation, Start, execute, sign_in};
use crate::flow::reconcile_statement::{NotReconciled, ReconciliationScope, StatementSource};
use crate::institution::{
    CallState, Institution, SigningParty, StatementPage, StatementQuery, Step, Unmade,
};
use crate::store::ledger::Reconciliation;
use crate::world::signing::{SigningPlace, SigningPool};
use crate::world::{CallTimeouts, World};

/// Lines requested per page: a page of them stays below [`PAGE_BYTES_MAX`].
const PAGE_LINES_MAX: u32 = 4_000;

/// Bytes of a page that are read; a longer reply is rejected.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// How long a page may take.
const PAGE_TIMEOUTS: CallTimeouts = CallTimeouts {
    head: Duration::from_secs(20),
    whole: Duration::from_secs(30),
    body_bytes_max: PAGE_BYTES_MAX,
};

/// Tries of one page: reading a statement changes nothing.
const TRIES: u32 = 3;

/// A statement read from the institution's replies.
pub struct FromInstitution<'a> {
    world: &'a World,
    adapter: Arc<dyn Institution>,
    date: CalendarDay,
    receivers: std::collections::btree_set::IntoIter<AccountReceiver>,
    now: Option<ReceiverCursor>,
}

/// The position in the statement of one receiver.
struct ReceiverCursor {
    of: AccountReceiver,
    counted: StatementTotals,
    claimed: Option<StatementTotals>,
}

impl<'a> FromInstitution<'a> {
    /// Covers every receiver under contract, and every other one that had movements that day.
    ///
    /// # Errors
    /// The institution is not configured, or its adapter has no call for statements.
    pub async fn new(
        scope: &'a ReconciliationScope<'_>,
        of: &Reconciliation,
    ) -> Result<Self, NotReconciled> {
        let adapter = scope.flow.snapshot.adapters.get(&of.institution);
        let adapter = adapter.ok_or_else(|| {
            let detail = format!(
                "expected a configured institution, found {}",
                of.institution
            );
            UnusableStatement::new("institution_unknown", detail)
        })?;
        if adapter.statements().is_none() {
            let detail = "its dialect has no call for statements; give its file with --statement";
            return Err(UnusableStatement::new("no_statement", detail).into());
        }
        let moved = scope.ledger.receivers(&of.institution, &of.day).await?;
        let contracts = scope.flow.snapshot.routing.contracts.values();
        let agreed = contracts
            .filter(|contract| contract.institution == of.institution)
            .map(|contract| AccountReceiver {
                account: contract.account.clone(),
                receiver: contract.receiver.clone(),
            });
        // Each receiver once, whichever accounts it has had: the one of its contract asks.
        let mut accounts = BTreeMap::new();
        for AccountReceiver { account, receiver } in agreed.chain(moved) {
            accounts.entry(receiver).or_insert(account);
        }
        let receivers = accounts.into_iter();
        let receivers = receivers.map(|(receiver, account)| AccountReceiver { account, receiver });
        let receivers: BTreeSet<AccountReceiver> = receivers.collect();
        Ok(Self {
            world: scope.flow.world,
            adapter: Arc::clone(adapter),
            date: of.day.date.clone(),
            receivers: receivers.into_iter(),
            now: None,
        })
    }

    async fn page(&self, query: &StatementQuery) -> Result<StatementPage, UnusableStatement> {
        let mut last = UnusableStatement::new("no_answer", "the institution was not called");
        for _ in 0..TRIES {
            let call = PageCall {
                adapter: self.adapter.as_ref(),
                query,
            };
            let start = Start {
                stamp: Stamp {
                    now: self.world.clock.now(),
                    nonce: self.world.entropy.draw(),
                },
                timeouts: PAGE_TIMEOUTS,
                permit: None,
                in_flight: None,
                place: None,
            };
            last = match execute(self.world, self.adapter.as_ref(), &call, start).await {
                Ok(done) => match done.outcome {
                    Err(fault) if fault.reason == "no_answer" => fault,
                    page => return page,
                },
                Err(failure) => UnusableStatement::new("no_answer", failure.why()),
            };
        }
        Err(last)
    }
}

/// The call for one page.
struct PageCall<'a> {
    adapter: &'a dyn Institution,
    query: &'a StatementQuery,
}

impl Conversation for PageCall<'_> {
    type Outcome = Result<StatementPage, UnusableStatement>;

    async fn begin(
        &self,
        stamp: Stamp,
        pool: &SigningPool,
        place: Option<SigningPlace>,
    ) -> Step<Self::Outcome> {
        let party = SigningParty::Account(&self.query.of.account);
        let Some(slow) = self.adapter.slow(party) else {
            let statements = self.adapter.statements();
            return statements.map_or(Step::Unmade(Unmade::Malformed), |statements| {
                statements.begin_page(self.query, &stamp)
            });
        };
        let query = self.query.clone();
        let signed = sign_in(pool, place, move || {
            let statements = slow.statements();
            statements.map(|statements| statements.begin_page(&query, &stamp))
        });
        signed
            .await
            .flatten()
            .unwrap_or(Step::Unmade(Unmade::Unsigned))
    }

    fn next(
        &self,
        state: &CallState,
        reply: &Response<Bytes>,
        stamp: &Stamp,
    ) -> Step<Self::Outcome> {
        let statements = self.adapter.statements();
        statements.map_or(Step::Unmade(Unmade::Malformed), |statements| {
            statements.next_page(self.query, state, reply, stamp)
        })
    }

    fn label(&self) -> &'static str {
        "statement"
    }

    /// Statement calls say nothing about the institution's health for payments.
    fn purpose(&self) -> Option<CallPurpose> {
        None
    }

    fn about(&self) -> Option<(EvidenceSubject, &MerchantId)> {
        None
    }

    fn order(&self) -> Option<OrderKey> {
        None
    }

    fn judge(&self, outcome: &Self::Outcome) -> (CallEnd, String) {
        let reason = outcome.as_ref().err().map_or("page", |fault| fault.reason);
        (CallEnd::Answered, reason.to_owned())
    }
}

#[async_trait]
impl StatementSource for FromInstitution<'_> {
    async fn next(&mut self) -> Result<Option<Vec<StatementLine>>, UnusableStatement> {
        loop {
            let begun = self.now.take().or_else(|| {
                self.receivers.next().map(|of| ReceiverCursor {
                    of,
                    counted: StatementTotals::default(),
                    claimed: None,
                })
            });
            let Some(mut reading) = begun else {
                return Ok(None);
            };
            let query = StatementQuery {
                of: reading.of.clone(),
                date: self.date.clone(),
                after: reading.counted.lines,
                limit: PAGE_LINES_MAX,
            };
            let page = self.page(&query).await?;
            page.lines.iter().for_each(|line| reading.counted.add(line));
            reading.follow(&page)?;
            if page.more {
                self.now = Some(reading);
            }
            if !page.lines.is_empty() {
                return Ok(Some(page.lines));
            }
        }
    }
}

impl ReceiverCursor {
    fn follow(&mut self, page: &StatementPage) -> Result<(), UnusableStatement> {
        let claimed = self.claimed.get_or_insert_with(|| page.totals.clone());
        if *claimed != page.totals {
            let detail = "expected the totals of the first page, found others: the statement \
                          changed; request it again";
            return Err(UnusableStatement::new("changed_meanwhile", detail));
        }
        if !page.more && *claimed != self.counted {
            let (expected, found) = (claimed.text(), self.counted.text());
            let detail = format!(
                "receiver {}: expected {expected}, found {found}",
                self.of.receiver
            );
            return Err(UnusableStatement::new("cut_off", detail));
        }
        Ok(())
    }
}
