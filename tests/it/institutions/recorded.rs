//! Recorded exchanges: how they are parsed, and the order they are about.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use paymux::domain::amount::{Amount, CNY};
use paymux::domain::attempt::{Attempt, AttemptState, Epoch, Stamp};
use paymux::domain::evidence::{Evidence, Finding, PaymentActionKind, Receipt, Reversal};
use paymux::domain::identifiers::{
    AccountId, AttemptId, CalendarDay, InstitutionId, MerchantId, MerchantOrderNo, PayOrderNo,
    ProductId, ReceiverId, RefundOrderNo, RefundRequestNo, Timestamp,
};
use paymux::domain::institutions::{BusinessType, Mode, TransactionType};
use paymux::domain::order::{Order, OrderState, OrderTerms};
use paymux::domain::personal::MobileNo;
use paymux::domain::personal::payer_context::{
    PayerAppId, PayerDetails, PayerDevice, PayerIdentity, PayerIp, PayerOpenId,
};
use paymux::domain::refund::{Refund, RefundDetails, RefundOrigin, RefundState, SendStatus};
use paymux::domain::schedule::Schedule;
use paymux::institution::{Call, Operation, Unverified};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// The time of every recording: 2026-11-22 00:30:00 in Shanghai.
pub(super) const NOW_S: i64 = 1_795_278_600;

/// The attempt of all recordings, its account and its receiver.
const ATTEMPT: &str = "A01KAMB7E80000000000000000A";
pub(super) const ACCOUNT: &str = "ACC-1";

/// The refund of recordings about one.
const REFUND: &str = "R01KAMB7E80000000000000000C";

/// One recorded exchange.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recording {
    #[serde(skip)]
    pub(super) file: String,
    /// `create`, `query`, `close`, `refund`, `refund_query` or `callback`.
    pub(super) call: String,
    #[serde(default)]
    mode: Option<String>,
    /// The attempt's state when the call is made, `INTENT` where it is absent; for a call about a
    /// refund that refund's, `RESERVED` where it is absent.
    #[serde(default)]
    state: Option<String>,
    /// The product of its attempt, if not that of the `standard` dialect: then everything is known
    /// of its payer.
    #[serde(default)]
    product: Option<String>,
    /// Who pays, if not [`payer`].
    #[serde(default)]
    payer: Option<RecordedPayer>,
    /// The receiver of its attempt, if not [`ACCOUNT`].
    #[serde(default)]
    receiver: Option<String>,
    /// The institution's number of its payment, if that was paid.
    #[serde(default)]
    paid_as: Option<Box<str>>,
    /// Our first request.
    #[serde(default)]
    pub(super) request: Option<RecordedRequest>,
    /// The replies before the last one, of a call of several steps.
    #[serde(default)]
    pub(super) earlier: Vec<RecordedReply>,
    #[serde(default)]
    pub(super) status: u16,
    body: Box<RawValue>,
    /// The evidence, in the words of [`describe`].
    pub(super) evidence: String,
    /// The evidence of the same reply without a signature, if the dialect believes that.
    #[serde(default)]
    pub(super) unsigned: Option<String>,
    /// Fields that hold a status.
    #[serde(default)]
    pub(super) words: Vec<String>,
    /// Values of fields that mean another object than the requested one.
    #[serde(default)]
    pub(super) others: BTreeMap<String, Value>,
}

/// A payer in an application.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RecordedPayer {
    open_id: String,
    app: String,
}

/// A recorded request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordedRequest {
    /// `POST` where it is absent.
    #[serde(default)]
    method: Option<String>,
    pub(super) uri: String,
    /// Empty where it is absent.
    #[serde(default)]
    body: Option<Box<RawValue>>,
}

impl RecordedRequest {
    pub(super) fn method(&self) -> &str {
        self.method.as_deref().unwrap_or("POST")
    }

    pub(super) fn body(&self) -> &str {
        self.body.as_ref().map_or("", |body| body.get())
    }
}

/// A recorded reply before the last one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordedReply {
    pub(super) status: u16,
    /// Empty where it is absent.
    #[serde(default)]
    body: Option<Box<RawValue>>,
}

impl RecordedReply {
    pub(super) fn body(&self) -> &str {
        self.body.as_ref().map_or("", |body| body.get())
    }
}

impl Recording {
    pub(super) fn body(&self) -> &[u8] {
        self.body.get().as_bytes()
    }

    /// The body with one field replaced; a nested one is named by its path, `/amount/total`.
    pub(super) fn body_with(&self, name: &str, value: &Value) -> Vec<u8> {
        let mut body: Value = serde_json::from_str(self.body.get()).unwrap();
        if name.starts_with('/') {
            *body.pointer_mut(name).unwrap() = value.clone();
        } else {
            body[name] = value.clone();
        }
        serde_json::to_vec(&body).unwrap()
    }

    pub(super) fn mode(&self) -> Mode {
        let named = self.mode.as_deref().unwrap_or("WEBVIEW");
        Mode::ALL
            .into_iter()
            .find(|mode| mode.name() == named)
            .unwrap()
    }

    /// The order of its attempt or refund.
    pub(super) fn order(&self) -> Order {
        if self.call.starts_with("refund") {
            let named = self.state.as_deref().unwrap_or("RESERVED");
            return self.dressed(order_with_refund(named, self.mode()));
        }
        let named = self.state.as_deref().unwrap_or("INTENT");
        let state = AttemptState::ALL
            .into_iter()
            .find(|state| state.name() == named);
        self.dressed(order_with(state.unwrap(), self.mode()))
    }

    /// The order with the product, payer and receiver of the recording.
    fn dressed(&self, mut order: Order) -> Order {
        let attempt = &mut order.attempts[0];
        if let Some(product) = &self.product {
            attempt.product = ProductId::parse(product).unwrap();
            attempt.payer = payer();
        }
        if let Some(payer) = &self.payer {
            attempt.payer.identity = Some(PayerIdentity {
                open_id: PayerOpenId::parse(&payer.open_id).unwrap(),
                app: PayerAppId::parse(&payer.app).unwrap(),
            });
        }
        if let Some(receiver) = &self.receiver {
            attempt.receiver = ReceiverId::parse(receiver).unwrap();
        }
        if let Some(number) = &self.paid_as {
            attempt.receipt = Some(Receipt {
                amount: attempt.amount,
                institution_no: Some(number.clone()),
                paid_at: attempt.sent_at,
                fee: None,
            });
        }
        order
    }

    /// An order for which its attempt or refund is unresolved.
    pub(super) fn unresolved(&self) -> Order {
        let names = |name| self.body.get().contains(name);
        if self.call.starts_with("refund") || names("merchantRefundNo") || names(REFUND) {
            self.dressed(order_with_refund("UNKNOWN", self.mode()))
        } else {
            self.dressed(order_with(AttemptState::Unknown, self.mode()))
        }
    }

    /// The call it answers; none if it is a callback.
    pub(super) fn call<'a>(&self, order: &'a Order) -> Option<Call<'a>> {
        let (attempt, terms) = (&order.attempts[0], &*order.terms);
        match self.call.as_str() {
            "create" => Some(Call::new(Operation::Create, attempt, terms)),
            "query" => Some(Call::new(Operation::Query, attempt, terms)),
            "close" => Some(Call::new(Operation::Close, attempt, terms)),
            "refund" => Some(Call::new(
                Operation::Refund(&order.refunds[0]),
                attempt,
                terms,
            )),
            "refund_query" => Some(Call::new(
                Operation::RefundQuery(&order.refunds[0]),
                attempt,
                terms,
            )),
            "callback" => None,
            other => panic!("{}: there is no call {other}", self.file),
        }
    }
}

/// A payer of whom everything is known.
pub(super) fn payer() -> PayerDetails {
    PayerDetails {
        ip: PayerIp::parse("203.0.113.10").ok(),
        device: Some(PayerDevice::Ios),
        wallet: None,
        identity: Some(PayerIdentity {
            open_id: PayerOpenId::parse("oUpF8uMuAJO_M2pxb1Q9zNjWeS6o").unwrap(),
            app: PayerAppId::parse("wxd678efh567hg6787").unwrap(),
        }),
    }
}

/// Every recording of a kind.
pub(super) fn recordings(kind: &str) -> Vec<Recording> {
    let folder = format!("{}/tests/institution/{kind}", env!("CARGO_MANIFEST_DIR"));
    let read = |file: fs::DirEntry| {
        let text = fs::read_to_string(file.path()).unwrap();
        let mut recording: Recording =
            serde_json::from_str(&text).unwrap_or_else(|fault| panic!("{file:?}: {fault}"));
        recording.file = file.file_name().into_string().unwrap();
        recording
    };
    fs::read_dir(folder)
        .unwrap()
        .map(|file| read(file.unwrap()))
        .collect()
}

/// What a message proves, in words.
pub(super) fn describe(read: &Result<Evidence, Unverified>) -> String {
    let finding = match read {
        Ok(evidence) => &evidence.finding,
        Err(Unverified::Unverified(word)) => return format!("forged {word}"),
        Err(Unverified::Unreadable(word) | Unverified::NamesNothing(word)) => {
            return format!("nothing {word}");
        }
    };
    match finding {
        Finding::NotSent => "not_sent".to_owned(),
        Finding::NotExecuted(why) => format!("not_executed {}", why.word()),
        Finding::Reversed(Reversal::Unpaid) => "reversed".to_owned(),
        Finding::Reversed(Reversal::Returned(receipt)) => format!("returned {}", receipt.amount),
        Finding::Hint => "hint".to_owned(),
        Finding::Refused(reason) => format!("refused {}", reason.as_str()),
        Finding::Accepted(None) => "accepted".to_owned(),
        Finding::Accepted(Some(payment_action)) => {
            let until = payment_action.expires.map(Timestamp::rfc3339);
            let until = until
                .map(|text| format!(" until {text}"))
                .unwrap_or_default();
            match &payment_action.way {
                PaymentActionKind::Redirect(link) => format!("accepted link {link}{until}"),
                PaymentActionKind::SdkParameters(parameters) => {
                    format!("accepted sdk {parameters}{until}")
                }
                PaymentActionKind::QrCode(code) => format!("accepted code {code}{until}"),
                PaymentActionKind::Form(form) => {
                    let fields = form
                        .fields
                        .iter()
                        .map(|(name, value)| format!("{name}={value}"));
                    let fields = fields.collect::<Vec<_>>().join("&");
                    format!("accepted form {} {fields}{until}", form.url)
                }
            }
        }
        Finding::Succeeded(receipt) => {
            let amount = receipt.amount;
            let fee = receipt.fee.map(|fee| format!(" fee {fee}"));
            format!(
                "paid {amount} {} as {} at {}{}",
                amount.currency().code(),
                receipt.institution_no.as_deref().unwrap_or("none"),
                receipt.paid_at.rfc3339(),
                fee.unwrap_or_default()
            )
        }
        Finding::Closed => "closed".to_owned(),
        Finding::NotFound => "not_found".to_owned(),
        Finding::Ambiguous(why) => format!("ambiguous {}", why.word()),
    }
}

/// A paid order of 12.30 yuan, with a refund of 5.00 in progress.
pub(super) fn order_with_refund(state: &str, mode: Mode) -> Order {
    let mut order = order_with(AttemptState::Paid, mode);
    let named = RefundState::ALL
        .into_iter()
        .find(|known| known.name() == state);
    order.state = OrderState::Paid;
    order.paying_attempt_id = Some(order.attempts[0].id.clone());
    order.refunds.push(Refund {
        no: RefundOrderNo::parse(REFUND).unwrap(),
        attempt: order.attempts[0].id.clone(),
        amount: Amount::parse("5.00", CNY).unwrap(),
        state: named.unwrap(),
        why: RefundOrigin::Asked(RefundDetails {
            number: RefundRequestNo::parse("B-1").unwrap(),
            reason: None,
            notice_url: None,
        }),
        created: order.created,
        sending: SendStatus::Left(order.created),
        schedule: Schedule::from(order.created),
        epoch: Epoch(1),
        named: false,
        receipt: None,
        reason: None,
        late_success: false,
        over_refunded_minor: 0,
        decision: None,
    });
    order
}

/// An open order of 12.30 yuan with one attempt.
pub(super) fn order_with(state: AttemptState, mode: Mode) -> Order {
    let now = Timestamp::from_s(NOW_S);
    let amount = Amount::parse("12.30", CNY).unwrap();
    let terms = OrderTerms {
        merchant: MerchantId::parse("M1").unwrap(),
        merchant_order_no: MerchantOrderNo::parse("T-1").unwrap(),
        merchant_name: "茶".into(),
        order_date: CalendarDay::parse("20261121").unwrap(),
        amount,
        business_type: BusinessType::Aggregated,
        transaction_type: TransactionType::PasswordPay,
        return_url: "https://shop.example/notice".into(),
        mobile: MobileNo::parse("13812345678").unwrap(),
        goods_no: None,
        goods_name: Some("Oolong \"1\"".into()),
        goods_description: None,
        attach: Some("not for the institution".into()),
        expire_minutes: 15,
        named: None,
    };
    let stamp = Stamp {
        now,
        nonce: [7; 10],
    };
    let attempt = Attempt {
        id: AttemptId::parse(ATTEMPT).unwrap(),
        seq: 1,
        institution: InstitutionId::parse("harbour").unwrap(),
        account: AccountId::parse(ACCOUNT).unwrap(),
        receiver: ReceiverId::parse(ACCOUNT).unwrap(),
        mode,
        product: ProductId::parse("STANDARD").unwrap(),
        pay_by: now.plus(std::time::Duration::from_mins(15)),
        payer: PayerDetails::UNKNOWN,
        amount,
        state,
        stamp,
        sent_at: now,
        schedule: Schedule::from(now),
        configuration: 1,
        epoch: Epoch(1),
        named: false,
        payment_action: None,
        receipt: None,
        reason: None,
        late_success: false,
    };
    Order {
        no: PayOrderNo::mint(now, [1; 10]),
        terms: Arc::new(terms),
        page_secret: [0; 16],
        notice_url: None,
        created: now,
        expires: now.plus(std::time::Duration::from_mins(15)),
        state: OrderState::Open,
        ending: None,
        version: 1,
        paying_attempt_id: None,
        chosen: None,
        attempts: vec![attempt],
        refunds: vec![],
    }
}
