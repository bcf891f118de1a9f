//! A simulated merchant: a real HTTPS server that receives the gateway's notifications at
//! `/notices` and records each one, with faults on demand. Its API client is `client.rs`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::sandbox::authority::PemIdentity;
use crate::sandbox::clock::{now_ms, now_s, wait};
use crate::sandbox::refusal::{SandboxRefusal, answered};
use crate::sandbox::server::{
    BoundListener, RunningServer, SandboxParty, SandboxReply, StartFault,
};
use crate::sandbox::watched::Watched;
use crate::signature::{KeyRing, verify_request};

/// Notifications kept; the oldest are dropped first.
const NOTICES_MAX: usize = 100_000;

/// A3.3's fields, all required (R-A3.3-1).
const FIELDS: [&str; 10] = [
    "merchantOrderNo",
    "merchantName",
    "orderDate",
    "orderAmount",
    "merchantId",
    "mobileNo",
    "paymentDate",
    "paymentTime",
    "payOrderNo",
    "orderStatus",
];
/// Additional fields of a refund's event.
const REFUND_FIELDS: [&str; 4] = [
    "refundOrderNo",
    "merchantRefundNo",
    "refundAmount",
    "refundStatus",
];

/// Settings of a merchant.
#[derive(Clone)]
pub struct MerchantSettings {
    /// Its `merchantId` at the gateway.
    pub id: String,
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The host name of its URLs; its certificate must be valid for it.
    pub host: String,
    /// Its TLS certificate.
    pub identity: PemIdentity,
    /// The keys accepted for notifications.
    pub platform: KeyRing,
    /// The delay of a slow response.
    pub slow: Duration,
}

/// Faults of a merchant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MerchantFault {
    /// Records the notification, and answers 503.
    Refuses,
    /// Answers 200 without `SUCCESS`.
    Lies,
    /// Answers late.
    Slow,
    /// Closes the connection without an answer; records nothing.
    Dead,
}

/// One verified notification, as received.
#[derive(Debug, Clone)]
pub struct SandboxNotification {
    /// The raw body.
    pub body: Bytes,
    /// The body as JSON.
    pub fields: Value,
    /// `eventId`.
    pub event_id: String,
    /// `eventType`.
    pub event_type: String,
    /// `version`.
    pub version: i64,
    /// When it arrived. Unit: Unix milliseconds.
    pub arrived_ms: i64,
    /// Whether it was acknowledged.
    pub acknowledged: bool,
}

/// The notifications a merchant received.
#[derive(Debug, Clone, Default)]
pub struct NotificationInbox {
    /// Each event once, in order of first acknowledgement: what the merchant acts on.
    pub events: Vec<SandboxNotification>,
    /// Every verified notification, including repeated and unacknowledged ones.
    pub deliveries: Vec<SandboxNotification>,
    /// Requests to the endpoint that were rejected.
    pub forged: u32,
    seen: BTreeSet<String>,
}

impl NotificationInbox {
    /// The event of this type for this `merchantOrderNo`.
    pub fn event(&self, event_type: &str, merchant_order_no: &str) -> Option<&SandboxNotification> {
        self.events.iter().find(|notice| {
            let number = notice.fields.get("merchantOrderNo").and_then(Value::as_str);
            notice.event_type == event_type && number == Some(merchant_order_no)
        })
    }

    /// The event of this type for this `merchantRefundNo`.
    pub fn refund_event(
        &self,
        event_type: &str,
        merchant_refund_no: &str,
    ) -> Option<&SandboxNotification> {
        self.events.iter().find(|notice| {
            let number = notice
                .fields
                .get("merchantRefundNo")
                .and_then(Value::as_str);
            notice.event_type == event_type && number == Some(merchant_refund_no)
        })
    }

    fn record(&mut self, notice: SandboxNotification) {
        if notice.acknowledged && self.seen.insert(notice.event_id.clone()) {
            push_bounded(&mut self.events, notice.clone());
        }
        push_bounded(&mut self.deliveries, notice);
    }
}

fn push_bounded(notices: &mut Vec<SandboxNotification>, notice: SandboxNotification) {
    if notices.len() >= NOTICES_MAX {
        notices.drain(..NOTICES_MAX / 2);
    }
    notices.push(notice);
}

/// A running merchant. Dropping it stops it at once.
pub struct SandboxMerchant {
    shop: Arc<SandboxMerchantState>,
    address: SocketAddr,
    serving: RunningServer,
}

impl SandboxMerchant {
    /// Starts it.
    ///
    /// # Errors
    /// [`StartFault`] if the address is in use or a certificate is unusable.
    pub async fn start(settings: MerchantSettings) -> Result<Self, StartFault> {
        let listener = BoundListener::bind(settings.listen, &settings.identity).await?;
        let address = listener.address;
        let shop = Arc::new(SandboxMerchantState {
            authority: format!("{}:{}", settings.host, address.port()),
            settings,
            inbox: Watched::default(),
            faults: Mutex::default(),
        });
        let site: Arc<dyn SandboxParty> = shop.clone();
        Ok(Self {
            serving: listener.serve(site),
            shop,
            address,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its origin, as registered at the gateway: `https://host:port`.
    pub fn origin(&self) -> String {
        format!("https://{}", self.shop.authority)
    }

    /// Where it receives notifications: its `bankReturnUrl` and `noticeUrl`.
    pub fn notice_url(&self) -> String {
        format!("{}/notices", self.origin())
    }

    /// A copy of its inbox.
    pub fn inbox(&self) -> NotificationInbox {
        self.shop.inbox.look(Clone::clone)
    }

    /// Waits until `look` finds something in the inbox, for at most `at_most`.
    pub async fn wait_for<R>(
        &self,
        look: impl Fn(&NotificationInbox) -> Option<R>,
        at_most: Duration,
    ) -> Option<R> {
        self.shop.inbox.wait_for(look, at_most).await
    }

    /// Applies this fault to the next `times` notifications.
    pub fn next(&self, fault: MerchantFault, times: u32) {
        let mut faults = self
            .shop
            .faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        faults.push((fault, times));
    }

    /// Stops it; its address is free afterwards.
    pub async fn stop(self) {
        self.serving.stop().await;
    }
}

struct SandboxMerchantState {
    settings: MerchantSettings,
    authority: String,
    inbox: Watched<NotificationInbox>,
    faults: Mutex<Vec<(MerchantFault, u32)>>,
}

impl SandboxMerchantState {
    fn fault(&self) -> Option<MerchantFault> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.retain(|(_, left)| *left > 0);
        let (fault, left) = faults.first_mut()?;
        *left = left.saturating_sub(1);
        Some(*fault)
    }

    fn read(&self, request: &Request<Bytes>) -> Result<SandboxNotification, SandboxRefusal> {
        let host = request.headers().get(HOST);
        if host.is_none_or(|host| host.as_bytes() != self.authority.as_bytes()) {
            return Err(SandboxRefusal::of(421, "authority_wrong", "another host"));
        }
        let target = format!("https://{}{}", self.authority, request.uri());
        let now = now_s();
        let proven = verify_request(request, &target, &self.settings.platform, now)
            .map_err(|fault| SandboxRefusal::of(401, "signature_unusable", fault.to_string()))?;
        if proven.created_s < now.saturating_sub(300) || proven.expires_s.is_some_and(|it| it < now)
        {
            return Err(SandboxRefusal::of(401, "outside_window", "too old"));
        }
        let fields: Value = serde_json::from_slice(request.body())
            .map_err(|fault| SandboxRefusal::unreadable(&fault))?;
        let text = |name: &str| {
            let value = fields.get(name).and_then(Value::as_str);
            let missing =
                || SandboxRefusal::of(400, "field_missing", "required in a notification").at(name);
            value.map(str::to_owned).ok_or_else(missing)
        };
        let event_type = text("eventType")?;
        let of_refund: &[&str] = if event_type.starts_with("REFUND_") {
            &REFUND_FIELDS
        } else {
            &[]
        };
        for name in FIELDS.iter().chain(of_refund) {
            text(name)?;
        }
        Ok(SandboxNotification {
            body: request.body().clone(),
            event_id: text("eventId")?,
            event_type,
            version: fields
                .get("version")
                .and_then(Value::as_i64)
                .unwrap_or_default(),
            arrived_ms: now_ms(),
            acknowledged: false,
            fields,
        })
    }
}

#[async_trait]
impl SandboxParty for SandboxMerchantState {
    async fn reply(self: Arc<Self>, request: Request<Bytes>, _from: SocketAddr) -> SandboxReply {
        let answer = match (request.method(), request.uri().path()) {
            (&Method::POST, "/notices") => match self.read(&request) {
                Ok(notice) => return self.receive(notice).await,
                Err(refusal) => {
                    self.inbox
                        .change(|inbox| inbox.forged = inbox.forged.saturating_add(1));
                    refusal
                }
            },
            _ => SandboxRefusal::of(404, "path_unknown", "POST /notices"),
        };
        SandboxReply::Answer(answer.into_response())
    }
}

impl SandboxMerchantState {
    async fn receive(&self, mut notice: SandboxNotification) -> SandboxReply {
        let answer = match self.fault() {
            Some(MerchantFault::Dead) => return SandboxReply::Silence(Duration::ZERO),
            Some(MerchantFault::Refuses) => {
                SandboxRefusal::of(503, "unavailable", "try again later").into_response()
            }
            Some(MerchantFault::Lies) => answered(&json!({ "noticeResult": "RECEIVED" })),
            Some(MerchantFault::Slow) => {
                wait(self.settings.slow).await;
                notice.acknowledged = true;
                answered(&json!({ "noticeResult": "SUCCESS" }))
            }
            None => {
                notice.acknowledged = true;
                answered(&json!({ "noticeResult": "SUCCESS" }))
            }
        };
        self.inbox.change(|inbox| inbox.record(notice));
        SandboxReply::Answer(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(event_id: &str, acknowledged: bool) -> SandboxNotification {
        SandboxNotification {
            body: Bytes::new(),
            fields: json!({ "merchantOrderNo": "M1" }),
            event_id: event_id.to_owned(),
            event_type: "ORDER_PAID".to_owned(),
            version: 1,
            arrived_ms: 0,
            acknowledged,
        }
    }

    /// N2
    #[test]
    fn repeated_notifications_are_recorded_and_acted_on_once() {
        let mut inbox = NotificationInbox::default();
        inbox.record(notice("e1", false));
        assert!(inbox.event("ORDER_PAID", "M1").is_none());
        inbox.record(notice("e1", true));
        inbox.record(notice("e1", true));
        assert_eq!((inbox.events.len(), inbox.deliveries.len()), (1, 3));
    }
}
