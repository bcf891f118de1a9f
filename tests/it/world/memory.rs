//! A store in memory, as strict as the trait requires, with its content open to checks. A restart
//! keeps what was durable and loses the rest.

mod clocks;
mod handles;
mod leasing;
mod planted;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use paymux::domain::attempt::{AttemptState, Epoch};
use paymux::domain::audit::AuditEntry;
use paymux::domain::change::{Change, ChangeRows};
use paymux::domain::event::Event;
use paymux::domain::identifiers::forgotten::Forgotten;
use paymux::domain::identifiers::{
    AttemptId, EventId, FreshNonce, InstitutionId, KeyId, MerchantId, MerchantOrderNo, PayOrderNo,
    ReceiverId, Timestamp,
};
use paymux::domain::institutions::{AccountKey, InstitutionEndpoint};
use paymux::domain::journal::JournalEntry;
use paymux::domain::order::Order;
use paymux::domain::refund::{Refund, RefundState, SendStatus};
use paymux::store::{
    ArchiveOutcome, Committed, DeliveryOutcome, FORGED_ARCHIVED_MAX, InboxMessage, InboxStatus,
    LEASE, Lease, LeaseCompletion, LeasedWork, OrderKey, Store,
};

/// An order's row: the order and what is stored with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemoryOrderRow {
    pub(crate) order: Order,
    pub(crate) due: Option<Timestamp>,
    pub(super) lease: MemoryLease,
}

/// An event's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemoryEventRow {
    pub(crate) event: Event,
    /// The merchant's sequence number, in the order of commits.
    pub(crate) sequence: u64,
    pub(crate) born: Timestamp,
    pub(crate) outcome: MemoryEventState,
    pub(crate) due: Timestamp,
    pub(super) lease: MemoryLease,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemoryEventState {
    Pending,
    Delivered,
    Dead,
}

/// A row's lease: its fence, its end, and the number of tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct MemoryLease {
    pub(super) fence: u64,
    pub(super) until: Option<Timestamp>,
    pub(super) tries: u32,
}

impl MemoryLease {
    pub(super) fn is_free(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    pub(super) fn next_due(&self, due: Timestamp) -> Timestamp {
        self.until.map_or(due, |until| until.max(due))
    }

    pub(super) fn take(&mut self, now: Timestamp) -> (u64, u32) {
        self.fence += 1;
        self.until = Some(now.plus(LEASE));
        (self.fence, self.tries)
    }
}

/// Everything durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DurableState {
    pub(crate) orders: BTreeMap<PayOrderNo, MemoryOrderRow>,
    pub(crate) events: BTreeMap<EventId, MemoryEventRow>,
    pub(crate) entries: Vec<JournalEntry>,
    pub(crate) audit_entries: Vec<(AuditEntry, Timestamp)>,
    pub(crate) nonces: BTreeMap<(KeyId, Box<str>), Timestamp>,
    pub(crate) inbox: Vec<MemoryMessageRow>,
    pub(crate) forgotten: Arc<Forgotten>,
    configuration: u64,
    endpoints: BTreeMap<InstitutionId, InstitutionEndpoint>,
    receivers: BTreeMap<AccountKey, ReceiverId>,
    /// R6 is not enforced.
    pub(crate) takes_any_number: bool,
    /// When each finished attempt ended, or a refund of it was last updated.
    ended: BTreeMap<AttemptId, Timestamp>,
    /// Every change of an order, in the order of commits.
    pub(crate) history: Vec<RecordedTransition>,
    /// Violations observed.
    pub(crate) faults: Vec<String>,
    epoch: i64,
}

/// One change of one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordedTransition {
    pub(crate) before: Option<Order>,
    pub(crate) after: Order,
}

/// An archived message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemoryMessageRow {
    pub(crate) institution: InstitutionId,
    pub(crate) status: InboxStatus,
    pub(crate) raw: Vec<u8>,
}

impl DurableState {
    fn find(&self, key: &OrderKey) -> Option<&MemoryOrderRow> {
        let mut rows = self.orders.values();
        match key {
            OrderKey::PayOrderNo(merchant, no) => self
                .orders
                .get(no)
                .filter(|row| row.order.terms.merchant == *merchant),
            OrderKey::MerchantOrderNo(merchant, no) => {
                rows.find(|row| is_theirs(&row.order, merchant, no))
            }
            OrderKey::Attempt(institution, id) => {
                rows.find(|row| has_attempt(&row.order, institution, id))
            }
            OrderKey::Refund(institution, no) => rows.find(|row| {
                let refund = row.order.refund(no);
                let through = refund.and_then(|one| row.order.attempt_of(one));
                through.is_some_and(|one| one.institution == *institution)
            }),
            OrderKey::RefundOrderNo(merchant, no) => rows.find(|row| {
                row.order.terms.merchant == *merchant && row.order.refund(no).is_some()
            }),
            OrderKey::MerchantRefundNo(merchant, number) => rows.find(|row| {
                let mut requests = row.order.refunds.iter().filter_map(Refund::request);
                row.order.terms.merchant == *merchant && requests.any(|one| one.number == *number)
            }),
            OrderKey::Page(token) => self
                .orders
                .get(token.order())
                .filter(|row| token.opens(&row.order.page_secret)),
        }
    }

    /// Whether an institution may know this attempt (A1).
    pub(crate) fn knows_attempt(&self, institution: &InstitutionId, id: &AttemptId) -> bool {
        self.order_of(institution, id).is_some()
    }

    /// The order that an institution knows by this attempt.
    pub(crate) fn order_of(&self, institution: &InstitutionId, id: &AttemptId) -> Option<&Order> {
        let key = OrderKey::Attempt(institution.clone(), id.clone());
        self.find(&key).map(|row| &row.order)
    }

    fn write(&mut self, change: &Change) -> Committed {
        let spent = |nonce: &FreshNonce| {
            self.forgotten.contains(nonce.created)
                || self
                    .nonces
                    .contains_key(&(nonce.key.clone(), nonce.value.clone()))
        };
        if change.nonce().is_some_and(spent) {
            return Committed::NonceSpent;
        }
        if change.rows().is_some_and(|rows| self.is_number_taken(rows)) {
            return Committed::KeyTaken;
        }
        if let Some(refused) = change.rows().and_then(|rows| self.guard(rows)) {
            return refused;
        }
        if let Some(nonce) = change.nonce() {
            let key = (nonce.key.clone(), nonce.value.clone());
            self.nonces.insert(key, nonce.created);
        }
        if let Some(rows) = change.rows() {
            self.write_rows(rows, change.at());
        }
        if let Some(configured) = change.configuration() {
            self.configuration = self.configuration.max(configured.version.unwrap_or(0));
            self.endpoints.extend(configured.endpoints.iter().cloned());
            self.receivers.extend(configured.accounts.iter().cloned());
            self.audit_entries
                .push((configured.audit_entry.clone(), change.at()));
        }
        Committed::Done
    }

    /// R6: whether a new refund has the number of another one.
    fn is_number_taken(&self, rows: &ChangeRows) -> bool {
        if self.takes_any_number {
            return false;
        }
        let Some((refund, request)) = rows.reserved().and_then(|one| Some((one, one.request()?)))
        else {
            return false;
        };
        let merchant = rows.order.terms.merchant.clone();
        let key = OrderKey::MerchantRefundNo(merchant, request.number.clone());
        let taken = self.find(&key).map(|row| &row.order);
        taken.is_some_and(|order| order.refund(&refund.no).is_none())
    }

    fn guard(&self, rows: &ChangeRows) -> Option<Committed> {
        let order = &rows.order;
        let known = self.orders.get(&order.no);
        let Some(before) = rows.before else {
            let (merchant, no) = (&order.terms.merchant, &order.terms.merchant_order_no);
            let theirs = OrderKey::MerchantOrderNo(merchant.clone(), no.clone());
            let taken = known.is_some() || self.find(&theirs).is_some();
            return taken.then_some(Committed::KeyTaken);
        };
        let fits = known.is_some_and(|row| row.order.version == before);
        (!fits).then_some(Committed::Stale)
    }

    fn write_rows(&mut self, rows: &ChangeRows, at: Timestamp) {
        let fence = self
            .orders
            .get(&rows.order.no)
            .map_or(0, |row| row.lease.fence + 1);
        // A change ends the lease: the order is due as the change says.
        let row = MemoryOrderRow {
            order: rows.order.clone(),
            due: rows.due,
            lease: MemoryLease {
                fence,
                ..MemoryLease::default()
            },
        };
        let before = self.orders.insert(rows.order.no.clone(), row);
        self.history.push(RecordedTransition {
            before: before.map(|row| row.order),
            after: rows.order.clone(),
        });
        for attempt in rows.attempts().filter(|one| !one.state.is_live()) {
            self.ended.insert(attempt.id.clone(), at);
        }
        for refund in rows.refunds() {
            let ended = self.ended.get_mut(&refund.attempt);
            if let Some(ended) = ended {
                *ended = at.max(*ended);
            }
        }
        self.entries.extend(rows.entries.iter().cloned());
        self.audit_entries.push((rows.audit_entry.clone(), at));
        for event in &rows.events {
            let row = MemoryEventRow {
                event: event.clone(),
                sequence: self.next_sequence(&event.merchant),
                born: at,
                outcome: MemoryEventState::Pending,
                due: at,
                lease: MemoryLease::default(),
            };
            if self.events.insert(event.id.clone(), row).is_some() {
                self.faults.push(format!("N4: {event:?} was born twice"));
            }
        }
    }

    pub(super) fn is_orphaned(&self, order: &Order) -> bool {
        let mut attempts = order.attempts.iter();
        let mut refunds = order.refunds.iter();
        attempts.any(|one| one.state == AttemptState::Intent && one.epoch != Epoch(self.epoch))
            || refunds.any(|one| {
                one.state == RefundState::Reserved
                    && matches!(one.sending, SendStatus::Left(_))
                    && one.epoch != Epoch(self.epoch)
            })
    }

    fn complete(&mut self, lease: &Lease, outcome: DeliveryOutcome) -> LeaseCompletion {
        match &lease.of {
            LeasedWork::Order(_) => LeaseCompletion::LeaseLost,
            LeasedWork::Event(event, _) => match self.events.get_mut(&event.id) {
                Some(row)
                    if holds(&row.lease, lease) && row.outcome == MemoryEventState::Pending =>
                {
                    match outcome {
                        DeliveryOutcome::Again(at) | DeliveryOutcome::NotAttempted(at) => {
                            row.due = at;
                        }
                        DeliveryOutcome::Delivered(_) => row.outcome = MemoryEventState::Delivered,
                        DeliveryOutcome::Dead => row.outcome = MemoryEventState::Dead,
                    }
                    row.lease.until = None;
                    row.lease.tries +=
                        u32::from(!matches!(outcome, DeliveryOutcome::NotAttempted(_)));
                    LeaseCompletion::Done
                }
                _ => LeaseCompletion::LeaseLost,
            },
        }
    }

    fn archive(&mut self, message: &InboxMessage) -> ArchiveOutcome {
        let mut rows = self.inbox.iter_mut();
        let same = |row: &&mut MemoryMessageRow| {
            row.institution == message.institution && row.raw == message.raw
        };
        if let Some(row) = rows.find(same) {
            // A quarantine replaces any earlier status of the same bytes.
            if message.status == InboxStatus::Quarantined {
                row.status = InboxStatus::Quarantined;
            }
            return ArchiveOutcome::Seen;
        }
        let forged = |row: &&MemoryMessageRow| {
            row.institution == message.institution && row.status == InboxStatus::Forged
        };
        let full = self.inbox.iter().filter(forged).count()
            >= usize::try_from(FORGED_ARCHIVED_MAX).unwrap();
        if message.status == InboxStatus::Forged && full {
            return ArchiveOutcome::Dropped;
        }
        self.inbox.push(MemoryMessageRow {
            institution: message.institution.clone(),
            status: message.status,
            raw: message.raw.clone(),
        });
        ArchiveOutcome::New
    }
}

fn holds(taken: &MemoryLease, lease: &Lease) -> bool {
    taken.fence == lease.fence && taken.until.is_some()
}

fn is_theirs(order: &Order, merchant: &MerchantId, no: &MerchantOrderNo) -> bool {
    order.terms.merchant == *merchant && order.terms.merchant_order_no == *no
}

fn has_attempt(order: &Order, institution: &InstitutionId, id: &AttemptId) -> bool {
    order
        .attempts
        .iter()
        .any(|attempt| attempt.institution == *institution && attempt.id == *id)
}

/// One process's handle on the durable state.
pub(crate) struct MemoryStore {
    durable: Arc<Mutex<DurableState>>,
    epoch: Epoch,
}

impl MemoryStore {
    pub(crate) fn new() -> Self {
        let durable = DurableState {
            orders: BTreeMap::new(),
            events: BTreeMap::new(),
            entries: Vec::new(),
            audit_entries: Vec::new(),
            nonces: BTreeMap::new(),
            inbox: Vec::new(),
            forgotten: Arc::default(),
            configuration: 0,
            endpoints: BTreeMap::new(),
            receivers: BTreeMap::new(),
            takes_any_number: false,
            ended: BTreeMap::new(),
            history: Vec::new(),
            faults: Vec::new(),
            epoch: 0,
        };
        Self {
            durable: Arc::new(Mutex::new(durable)),
            epoch: Epoch(0),
        }
    }

    /// The next process on the same durable state.
    pub(crate) fn restarted(&self) -> Self {
        let mut durable = self.durable.lock().unwrap();
        durable.epoch += 1;
        durable.requeue_in_flight();
        Self {
            durable: Arc::clone(&self.durable),
            epoch: Epoch(durable.epoch),
        }
    }

    /// The handles for the gateway.
    pub(crate) fn handles(self: &Arc<Self>) -> Arc<Store> {
        Arc::new(Store::of(self, self.epoch))
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The durable state, for inspection.
    pub(crate) fn durable(&self) -> MutexGuard<'_, DurableState> {
        self.durable.lock().unwrap()
    }
}
