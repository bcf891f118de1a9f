//! Reads an order (A3.2): committed state, refreshed by a query to the institution if it is
//! unresolved; never a guess.

use crate::domain::attempt::AttemptState;
use crate::domain::identifiers::{CalendarDay, MerchantOrderNo, PayOrderNo};
use crate::domain::order::Order;
use crate::domain::personal::MobileNo;
use crate::domain::refusal::Refusal;
use crate::flow::FlowScope;
use crate::flow::apply_evidence::{EvidenceOutcome, apply_evidence};
use crate::flow::call_institution::{READ_TIMEOUTS, call_institution};
use crate::institution::Operation;
use crate::store::{OrderKey, Store, StoreError};

/// How a caller names an order: by one number; any other given field must match.
#[derive(Debug, Clone)]
pub struct OrderReference {
    /// The number, and its owner.
    pub key: OrderKey,
    /// `payOrderNo`, if it was given.
    pub pay_order_no: Option<PayOrderNo>,
    /// `merchantOrderNo`, if it was given.
    pub merchant_order_no: Option<MerchantOrderNo>,
    /// `createDate`, if it was given.
    pub create_date: Option<CalendarDay>,
    /// `mobileNo`, if it was given.
    pub mobile: Option<MobileNo>,
}

impl OrderReference {
    /// A reference by key only.
    pub fn by(key: OrderKey) -> Self {
        Self {
            key,
            pay_order_no: None,
            merchant_order_no: None,
            create_date: None,
            mobile: None,
        }
    }

    /// Loads the order if it belongs to this owner and all given fields match (K3): any mismatch is
    /// answered as "not found" (R-A3.2-1).
    pub async fn load(&self, store: &Store) -> Result<Option<Order>, StoreError> {
        Ok(store
            .orders
            .order(&self.key)
            .await?
            .filter(|order| self.fits(order)))
    }

    fn fits(&self, order: &Order) -> bool {
        let terms = &order.terms;
        self.pay_order_no.as_ref().is_none_or(|no| *no == order.no)
            && self
                .merchant_order_no
                .as_ref()
                .is_none_or(|no| *no == terms.merchant_order_no)
            && self
                .create_date
                .as_ref()
                .is_none_or(|day| day.as_str() == order.created.date())
            && self
                .mobile
                .as_ref()
                .is_none_or(|mobile| *mobile == terms.mobile)
    }
}

/// Reads an order by a reference of the caller.
///
/// # Errors
/// There is none, or a given field does not match: both have the same answer (K3).
pub async fn read_order(store: &Store, named: &OrderReference) -> Result<Order, Refusal> {
    named.load(store).await?.ok_or(Refusal::OrderUnknown)
}

/// Queries the institution about an unresolved order, within a small time budget (R-A3.2-3), and
/// returns the current order.
pub async fn refresh(scope: FlowScope<'_>, order: Order) -> Result<Order, Refusal> {
    let unresolved = |state| matches!(state, AttemptState::Unknown | AttemptState::Closing);
    let Some(attempt) = order
        .live_attempt()
        .filter(|attempt| unresolved(attempt.state))
    else {
        return Ok(order);
    };
    let Some(adapter) = scope.snapshot.adapters.get(&attempt.institution) else {
        return Ok(order);
    };
    let call = scope.snapshot.call(Operation::Query, attempt, &order.terms);
    let evidence = call_institution(scope.world, adapter.as_ref(), &call, READ_TIMEOUTS).await;
    let committed = order.clone();
    let applied = apply_evidence(scope, adapter.as_ref(), evidence, Some(order)).await;
    // The committed state is valid whatever happened to the evidence (Q8).
    let order = applied.ok().and_then(EvidenceOutcome::into_order);
    Ok(order.unwrap_or(committed))
}
