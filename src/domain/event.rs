//! Events for merchants; an event's body is fixed when it is created (N1, N3, N9).

use serde::Serialize;

use crate::domain::evidence::Reason;
use crate::domain::identifiers::{EventId, MerchantId, PayOrderNo, Timestamp};
use crate::domain::order::Order;
use crate::domain::refund::{ExcessCause, Refund, RefundState};

/// What an event reports (`eventType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// The order was paid.
    OrderPaid,
    /// The order ended unpaid.
    OrderClosed,
    /// A refund succeeded.
    RefundSucceeded,
    /// A refund definitely failed.
    RefundFailed,
}

impl EventType {
    /// Every type; stores parse names with it.
    pub const ALL: [Self; 4] = [
        Self::OrderPaid,
        Self::OrderClosed,
        Self::RefundSucceeded,
        Self::RefundFailed,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::OrderPaid => "ORDER_PAID",
            Self::OrderClosed => "ORDER_CLOSED",
            Self::RefundSucceeded => "REFUND_SUCCEEDED",
            Self::RefundFailed => "REFUND_FAILED",
        }
    }

    pub(in crate::domain) fn letter(self) -> char {
        match self {
            Self::OrderPaid => 'P',
            Self::OrderClosed => 'C',
            Self::RefundSucceeded => 'R',
            Self::RefundFailed => 'F',
        }
    }
}

/// One event to deliver to a merchant.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// Identical on every delivery.
    pub id: EventId,
    /// What it reports.
    pub kind: EventType,
    /// The merchant to notify.
    pub merchant: MerchantId,
    /// The order it is about.
    pub order: PayOrderNo,
    /// The order's version that it reports (N5).
    pub version: u64,
    /// Destination; `None`: available by polling only.
    pub destination: Option<Box<str>>,
    /// The body, byte-identical on every delivery. Contains personal data.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Event({} {} of {})",
            self.id.as_str(),
            self.kind.name(),
            self.order
        )
    }
}

/// A3.3's ten fields, then our extensions.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NotificationBody<'a> {
    merchant_order_no: &'a str,
    merchant_name: &'a str,
    order_date: &'a str,
    order_amount: String,
    merchant_id: &'a str,
    mobile_no: &'a str,
    payment_date: String,
    payment_time: String,
    pay_order_no: &'a str,
    order_status: &'static str,
    event_id: &'a str,
    event_type: &'static str,
    version: u64,
    currency: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    institution_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attach: Option<&'a str>,
    #[serde(flatten)]
    refund: Option<NotificationRefund<'a>>,
}

/// Additional fields of refund events.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NotificationRefund<'a> {
    refund_order_no: &'a str,
    merchant_refund_no: &'a str,
    refund_amount: String,
    refund_status: &'static str,
    order_refund_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_cause: Option<&'static str>,
}

impl Event {
    /// The event that reports the order's new state.
    ///
    /// `bankReturnUrl` receives `ORDER_PAID` only, so that a merchant who knows only the ten fields
    /// is never misled by a second message.
    pub(in crate::domain) fn of(kind: EventType, order: &Order) -> Self {
        let destination = match kind {
            EventType::OrderPaid => Some(order.terms.return_url.clone()),
            EventType::OrderClosed | EventType::RefundSucceeded | EventType::RefundFailed => {
                order.notice_url.clone()
            }
        };
        Self::create(kind, order, destination, None)
    }

    /// The event that reports the end of a refund, sent to the refund's own address or the
    /// configured one.
    pub(in crate::domain) fn of_refund(order: &Order, refund: &Refund) -> Self {
        let kind = if refund.state == RefundState::Succeeded {
            EventType::RefundSucceeded
        } else {
            EventType::RefundFailed
        };
        let request = refund.request();
        let receipt = refund.receipt.as_ref();
        let body = NotificationRefund {
            refund_order_no: refund.no.as_str(),
            merchant_refund_no: refund.merchant_no(),
            refund_amount: refund.amount.to_string(),
            refund_status: refund.state.public_name(),
            order_refund_status: order.refund_view().name(),
            refund_time: receipt.map(|receipt| receipt.paid_at.rfc3339()),
            reason: refund
                .reason
                .as_ref()
                .filter(|_| kind == EventType::RefundFailed)
                .map(Reason::as_str),
            refund_cause: refund.excess().map(ExcessCause::name),
        };
        let own = request.and_then(|request| request.notice_url.clone());
        Self::create(
            kind,
            order,
            own.or_else(|| order.notice_url.clone()),
            Some(body),
        )
    }

    fn create(
        kind: EventType,
        order: &Order,
        destination: Option<Box<str>>,
        refund: Option<NotificationRefund<'_>>,
    ) -> Self {
        let id = EventId::of(&order.no, kind.letter(), order.version);
        let terms = &order.terms;
        let paid_at = order.receipt().map(|receipt| receipt.paid_at);
        let fields = NotificationBody {
            merchant_order_no: terms.merchant_order_no.as_str(),
            merchant_name: &terms.merchant_name,
            order_date: terms.order_date.as_str(),
            order_amount: terms.amount.to_string(),
            merchant_id: terms.merchant.as_str(),
            mobile_no: terms.mobile.expose(),
            payment_date: paid_at.map(Timestamp::date).unwrap_or_default(),
            payment_time: paid_at.map(Timestamp::time_of_day).unwrap_or_default(),
            pay_order_no: order.no.as_str(),
            order_status: order.state.name(),
            event_id: id.as_str(),
            event_type: kind.name(),
            version: order.version,
            currency: terms.amount.currency().code(),
            institution_id: order
                .paying_attempt()
                .map(|attempt| attempt.institution.as_str()),
            attach: terms.attach.as_deref(),
            refund,
        };
        // Text and numbers only: serialisation cannot fail.
        let body = serde_json::to_vec(&fields).unwrap_or_default();
        Self {
            id,
            kind,
            merchant: terms.merchant.clone(),
            order: order.no.clone(),
            version: order.version,
            destination,
            body,
        }
    }
}
