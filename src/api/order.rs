//! A3.1 and X-1: fields in, fields out, list of institutions.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::reading::{AuthenticatedFields, ORDER_KEY_FIELDS, text};
use crate::api::refusal::RETRY_AFTER_S;
use crate::domain::amount::{Amount, CNY, Currency};
use crate::domain::attempt::AttemptState;
use crate::domain::evidence::{PaymentAction, PaymentActionKind};
use crate::domain::fields::Fields;
use crate::domain::identifiers::{
    CalendarDay, InstitutionId, Malformed, MerchantId, MerchantOrderNo,
};
use crate::domain::institutions::{BusinessType, Mode, Offer, RoutingTable, TransactionType};
use crate::domain::order::{Order, OrderState, OrderTerms};
use crate::domain::refusal::Refusal;
use crate::flow::configuration_snapshot::ConfigurationSnapshot;
use crate::flow::read_order::OrderReference;
use crate::flow::start_attempt::{OrderOutcome, OrderReply};

/// Every field of a request to place an order: the standard's thirteen and ours.
pub const FIELDS: [&str; 19] = [
    "transactionType",
    "businessType",
    "bankReturnUrl",
    "merchantOrderNo",
    "merchantName",
    "orderDate",
    "orderAmount",
    "currency",
    "merchantId",
    "mobileNo",
    "goodsNo",
    "goodsName",
    "goodsDescription",
    "expireMinutes",
    "institutionId",
    "mode",
    "attach",
    "explainInstitutions",
    "withCards",
];

/// Minutes an order lives where the merchant does not say (G-21).
const EXPIRE_MINUTES_DEFAULT: u16 = 15;

/// Minutes an order may live.
const EXPIRE_MINUTES_MAX: u16 = 1_440;

/// What is read of a request to place an order: its terms, and what is wanted beside them.
///
/// # Errors
/// Those of [`terms`]; a field that is not its own.
pub fn placing(
    fields: &Fields<'_>,
    merchant: &MerchantId,
    routing: &RoutingTable,
) -> Result<(OrderTerms, ResponseOptions), Refusal> {
    let asked = AuthenticatedFields::of(fields, merchant, &FIELDS)?;
    Ok((terms(&asked, routing)?, ResponseOptions::of(&asked)?))
}

/// What is read of a request for the list of institutions: which order, and what is wanted.
///
/// # Errors
/// The first field that is missing, malformed or impossible.
pub fn listing(
    fields: &Fields<'_>,
    merchant: &MerchantId,
) -> Result<(OrderReference, ResponseOptions), Refusal> {
    let mut allowed = ORDER_KEY_FIELDS.to_vec();
    allowed.extend(["explainInstitutions", "withCards"]);
    let asked = AuthenticatedFields::of(fields, merchant, &allowed)?;
    let wanted = ResponseOptions::of(&asked)?;
    Ok((asked.order()?, wanted))
}

/// Which order goes where, and what is wanted beside that.
pub type SelectionFields = (
    OrderReference,
    (InstitutionId, Option<Mode>),
    ResponseOptions,
);

/// What is read of the payer's choice.
///
/// # Errors
/// The first field that is missing, malformed or impossible.
pub fn choosing(fields: &Fields<'_>, merchant: &MerchantId) -> Result<SelectionFields, Refusal> {
    let mut allowed = ORDER_KEY_FIELDS.to_vec();
    allowed.extend(["institutionId", "mode", "withCards"]);
    let asked = AuthenticatedFields::of(fields, merchant, &allowed)?;
    let (institution, mode) = asked.institution()?;
    let institution = institution.ok_or(Refusal::FieldMissing("institutionId"))?;
    let named = asked.order()?;
    Ok((named, (institution, mode), ResponseOptions::of(&asked)?))
}

/// What a merchant wants beside an order.
#[derive(Debug, Clone, Copy)]
pub struct ResponseOptions {
    explain: bool,
    cards: bool,
}

impl ResponseOptions {
    fn of(asked: &AuthenticatedFields<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            explain: asked.flag("explainInstitutions")?,
            cards: asked.flag("withCards")?,
        })
    }

    /// The same, with these institutions.
    pub fn with(self, offers: Option<Vec<Offer<'_>>>) -> ResponseExtras<'_> {
        ResponseExtras {
            offers,
            explain: self.explain,
            cards: self.cards,
        }
    }
}

/// The terms of an order, read (R-A3.1-1).
///
/// # Errors
/// The first field that is missing, malformed or impossible.
pub fn terms(
    asked: &AuthenticatedFields<'_>,
    routing: &RoutingTable,
) -> Result<OrderTerms, Refusal> {
    let business_type = asked.required("businessType", |name| {
        let expected = "one of WEBVIEW NATIVE AGGREGATED";
        BusinessType::parse(name).ok_or(Malformed { expected })
    })?;
    let transaction_type = asked.required("transactionType", |name| {
        let expected = "PASSWORD_PAY";
        let mut all = TransactionType::ALL.into_iter();
        all.find(|known| known.name() == name)
            .ok_or(Malformed { expected })
    })?;
    let (institution, mode) = asked.institution()?;
    let named = named(business_type, institution, mode)?;
    let currency = match asked.optional("currency", |code| Ok::<Box<str>, _>(code.into()))? {
        Some(code) => Currency::parse(&code).map_err(|_| Refusal::CurrencyUnknown {
            settled: routing.settled().join(" ").into(),
        })?,
        None => CNY,
    };
    let amount = asked
        .scalar("orderAmount")?
        .ok_or(Refusal::FieldMissing("orderAmount"))?;
    let terms = OrderTerms {
        merchant: asked.merchant().clone(),
        merchant_order_no: asked.required("merchantOrderNo", MerchantOrderNo::parse)?,
        merchant_name: asked.required("merchantName", text(128))?,
        order_date: asked.required("orderDate", CalendarDay::parse)?,
        amount: Amount::parse(amount, currency)?,
        business_type,
        transaction_type,
        return_url: asked.required("bankReturnUrl", text(512))?,
        mobile: asked.mobile()?.ok_or(Refusal::FieldMissing("mobileNo"))?,
        goods_no: asked.optional("goodsNo", text(64))?,
        goods_name: asked.free_text("goodsName", 128)?,
        goods_description: asked.free_text("goodsDescription", 512)?,
        attach: asked.optional("attach", text(512))?,
        expire_minutes: expire_minutes(asked)?,
        named,
    };
    // Understood, and not to be had here yet: said after everything else was found sound.
    if transaction_type != TransactionType::PasswordPay {
        return Err(Refusal::NotOffered(
            "transactionType other than PASSWORD_PAY",
        ));
    }
    let chatbot = business_type == BusinessType::Single(Mode::Chatbot)
        || terms
            .named
            .as_ref()
            .is_some_and(|(_, mode)| *mode == Some(Mode::Chatbot));
    if chatbot {
        return Err(Refusal::NotOffered("payment by chatbot"));
    }
    Ok(terms)
}

/// `mode` belongs to aggregated orders; elsewhere it is absent or equal to `businessType`.
fn named(
    business_type: BusinessType,
    institution: Option<InstitutionId>,
    mode: Option<Mode>,
) -> Result<Option<(InstitutionId, Option<Mode>)>, Refusal> {
    match (business_type, mode) {
        (BusinessType::Single(only), Some(mode)) if mode != only => Err(Refusal::FieldsDisagree(
            "mode must be absent or equal to businessType",
        )),
        (BusinessType::Single(only), _) => Ok(institution.map(|id| (id, Some(only)))),
        (BusinessType::Aggregated, Some(_)) if institution.is_none() => Err(
            Refusal::FieldsDisagree("mode says how to pay through institutionId; name both"),
        ),
        (BusinessType::Aggregated, mode) => Ok(institution.map(|id| (id, mode))),
    }
}

fn expire_minutes(asked: &AuthenticatedFields<'_>) -> Result<u16, Refusal> {
    let Some(text) = asked.scalar("expireMinutes")? else {
        return Ok(EXPIRE_MINUTES_DEFAULT);
    };
    let minutes = text
        .parse()
        .ok()
        .filter(|minutes| (1..=EXPIRE_MINUTES_MAX).contains(minutes))
        .filter(|minutes: &u16| minutes.to_string() == text);
    minutes.ok_or(Refusal::FieldMalformed {
        field: "expireMinutes",
        expected: "whole minutes from 1 to 1440",
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OrderResponseBody<'a> {
    pay_order_no: &'a str,
    create_date: String,
    merchant_id: &'a str,
    merchant_order_no: &'a str,
    merchant_name: &'a str,
    order_amount: String,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pay_url: Option<String>,
    status_url: String,
    order_status: &'static str,
    expire_time: String,
    attempt_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    institution_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sdk_parameters: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attach: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    institutions: Option<Vec<ListedInstitution<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cards: Option<Vec<serde_json::Value>>,
}

/// One institution of the list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedInstitution<'a> {
    institution_id: &'a str,
    name: &'a str,
    name_en: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    logo_url: Option<&'a str>,
    modes: Vec<&'static str>,
    password_free: PasswordFree,
    available: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// Password-free payment is not offered yet, and says so.
#[derive(Serialize)]
struct PasswordFree {
    available: bool,
    enabled: bool,
}

/// What goes with an order in its answer.
#[derive(Default)]
pub struct ResponseExtras<'a> {
    /// Institutions for this payer, where they were asked for.
    pub offers: Option<Vec<Offer<'a>>>,
    /// Withheld ones are listed as well, with their reasons.
    pub explain: bool,
    /// Ready message cards are wanted.
    pub cards: bool,
}

/// The answer of A3.1, X-1 and X-2 (R-A3.1-2).
pub fn answer(
    snapshot: &ConfigurationSnapshot,
    answered: &OrderReply,
    extras: &ResponseExtras<'_>,
) -> Response<Bytes> {
    let order = &answered.order;
    let terms = &order.terms;
    let attempt = order.reported_attempt();
    let payment_action = usable_payment_action(order);
    let sdk_parameters = match payment_action.map(|payment_action| &payment_action.way) {
        Some(PaymentActionKind::SdkParameters(json)) => serde_json::from_str(json).ok(),
        Some(PaymentActionKind::Redirect(_)) | None => None,
    };
    let (status, reason) = match &answered.outcome {
        OrderOutcome::Accepted | OrderOutcome::AlreadyPaid | OrderOutcome::Closed => {
            (StatusCode::OK, None)
        }
        OrderOutcome::Pending => (StatusCode::ACCEPTED, None),
        OrderOutcome::Refused(reason) => (StatusCode::OK, Some(reason.as_str())),
    };
    let cards = (extras.cards).then(|| {
        crate::api::cards::cards(order, extras.offers.as_deref(), pay_url(snapshot, order))
    });
    let body = OrderResponseBody {
        pay_order_no: order.no.as_str(),
        create_date: order.created.date(),
        merchant_id: terms.merchant.as_str(),
        merchant_order_no: terms.merchant_order_no.as_str(),
        merchant_name: &terms.merchant_name,
        order_amount: terms.amount.to_string(),
        result: answered.outcome.word(),
        pay_url: pay_url(snapshot, order),
        status_url: status_url(snapshot, order),
        order_status: order.state.name(),
        expire_time: order.expires.rfc3339(),
        attempt_status: attempt.map_or("NONE", |attempt| attempt.state.public_name()),
        institution_id: attempt.map(|attempt| attempt.institution.as_str()),
        mode: attempt.map(|attempt| attempt.mode.name()),
        sdk_parameters,
        reason,
        attach: terms.attach.as_deref(),
        institutions: extras.offers.as_ref().map(|offers| {
            let shown = offers
                .iter()
                .filter(|offer| extras.explain || offer.ineligible.is_none());
            shown.map(|offer| listed(snapshot, order, offer)).collect()
        }),
        cards,
    };
    let mut answer = json(status, &body);
    if status == StatusCode::ACCEPTED {
        answer
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
    }
    answer
}

fn listed<'a>(
    snapshot: &ConfigurationSnapshot,
    order: &Order,
    offer: &Offer<'a>,
) -> ListedInstitution<'a> {
    let modes = snapshot
        .routing
        .available_modes(&order.terms.merchant, offer.institution);
    ListedInstitution {
        institution_id: offer.institution.id.as_str(),
        name: &offer.institution.name,
        name_en: &offer.institution.name_en,
        logo_url: offer.institution.logo_url.as_deref(),
        modes: modes.into_iter().map(Mode::name).collect(),
        password_free: PasswordFree {
            available: false,
            enabled: false,
        },
        available: offer.ineligible.is_none(),
        reason: offer
            .ineligible
            .map(crate::domain::institutions::IneligibleReason::word),
    }
}

/// Where the payer pays (R-A3.1-3): the institution's page once it is known, until then, in
/// webview mode, our own, where the payer chooses.
pub fn pay_url(snapshot: &ConfigurationSnapshot, order: &Order) -> Option<String> {
    match usable_payment_action(order).map(|payment_action| &payment_action.way) {
        Some(PaymentActionKind::Redirect(link)) => Some(link.to_string()),
        Some(PaymentActionKind::SdkParameters(_)) => None,
        None => (order.terms.business_type == BusinessType::Single(Mode::Webview))
            .then(|| page_url(snapshot, order)),
    }
}

/// The hand-over that leads to paying: of an order that may still be paid, and of no other, or our
/// own answer would cause a second payment.
fn usable_payment_action(order: &Order) -> Option<&PaymentAction> {
    if order.state != OrderState::Open || order.ending.is_some() {
        return None;
    }
    let attempt = order.live_attempt()?;
    (attempt.state == AttemptState::Accepted)
        .then_some(attempt.payment_action.as_ref())
        .flatten()
}

/// The address of the payer's page of an order.
pub fn page_url(snapshot: &ConfigurationSnapshot, order: &Order) -> String {
    format!(
        "{}/pay/{}",
        snapshot.platform.origin,
        order.page_token().expose()
    )
}

/// Where a payment SDK, or the merchant's application, reads how an order stands: a public address
/// that holds a random token and answers nothing personal (R-A2.3-5b, R-A2.4.3-7b, X-6).
fn status_url(snapshot: &ConfigurationSnapshot, order: &Order) -> String {
    format!("{}/status", page_url(snapshot, order))
}

/// A JSON answer.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response<Bytes> {
    // Our own bodies hold text, numbers and lists of them: writing them cannot fail.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut answer = Response::new(Bytes::from(body));
    *answer.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    answer
}
