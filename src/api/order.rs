//! A3.1, X-1 and X-2: the fields of a request about an order.

pub mod reply;

use reply::ResponseExtras;

use crate::api::reading::{AuthenticatedFields, ORDER_KEY_FIELDS, PAYER_FIELDS, text};
use crate::domain::amount::{Amount, CNY, Currency};
use crate::domain::fields::Fields;
use crate::domain::identifiers::{
    CalendarDay, InstitutionId, Malformed, MerchantId, MerchantOrderNo,
};
use crate::domain::institutions::{BusinessType, Mode, Offer, RoutingTable, TransactionType};
use crate::domain::order::OrderTerms;
use crate::domain::personal::payer_context::PayerDetails;
use crate::domain::refusal::Refusal;
use crate::flow::read_order::OrderReference;

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

/// Minutes until an order expires where the merchant does not say (G-21).
const EXPIRE_MINUTES_DEFAULT: u16 = 15;

/// Minutes until an order expires at most.
const EXPIRE_MINUTES_MAX: u16 = 1_440;

/// The terms of an order, what is known of its payer, and the options of the response.
pub type PlacingFields = (OrderTerms, PayerDetails, ResponseOptions);

/// Reads a request to place an order. What it says of the payer belongs to its first attempt, not to
/// the order (Q7).
///
/// # Errors
/// Those of [`terms`]; a field that this interface does not have.
pub fn placing(
    fields: &Fields<'_>,
    merchant: &MerchantId,
    routing: &RoutingTable,
) -> Result<PlacingFields, Refusal> {
    let mut allowed = FIELDS.to_vec();
    allowed.extend(PAYER_FIELDS);
    let request = AuthenticatedFields::of(fields, merchant, &allowed)?;
    let payer = request.payer()?;
    let terms = terms(&request, routing)?;
    Ok((terms, payer, ResponseOptions::of(&request)?))
}

/// Reads a request for the list of institutions: the order, and the options of the response.
///
/// # Errors
/// The first field that is missing, malformed or impossible.
pub fn listing(
    fields: &Fields<'_>,
    merchant: &MerchantId,
) -> Result<(OrderReference, ResponseOptions), Refusal> {
    let mut allowed = ORDER_KEY_FIELDS.to_vec();
    allowed.extend(["explainInstitutions", "withCards"]);
    let request = AuthenticatedFields::of(fields, merchant, &allowed)?;
    let options = ResponseOptions::of(&request)?;
    Ok((request.order()?, options))
}

/// The order, the selected institution, what is known of the payer, and the options of the response.
pub type SelectionFields = (
    OrderReference,
    (InstitutionId, Option<Mode>),
    PayerDetails,
    ResponseOptions,
);

/// Reads a selection.
///
/// # Errors
/// The first field that is missing, malformed or impossible.
pub fn choosing(fields: &Fields<'_>, merchant: &MerchantId) -> Result<SelectionFields, Refusal> {
    let mut allowed = ORDER_KEY_FIELDS.to_vec();
    allowed.extend(["institutionId", "mode", "withCards"]);
    allowed.extend(PAYER_FIELDS);
    let request = AuthenticatedFields::of(fields, merchant, &allowed)?;
    let (institution, mode) = request.institution()?;
    let institution = institution.ok_or(Refusal::FieldMissing("institutionId"))?;
    let (named, payer) = (request.order()?, request.payer()?);
    let options = ResponseOptions::of(&request)?;
    Ok((named, (institution, mode), payer, options))
}

/// What the response has beside the order.
#[derive(Debug, Clone, Copy)]
pub struct ResponseOptions {
    explain: bool,
    cards: bool,
}

impl ResponseOptions {
    fn of(request: &AuthenticatedFields<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            explain: request.flag("explainInstitutions")?,
            cards: request.flag("withCards")?,
        })
    }

    /// These options, with these institutions.
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
    request: &AuthenticatedFields<'_>,
    routing: &RoutingTable,
) -> Result<OrderTerms, Refusal> {
    let business_type = request.required("businessType", |name| {
        let expected = "one of WEBVIEW NATIVE AGGREGATED";
        BusinessType::parse(name).ok_or(Malformed { expected })
    })?;
    let transaction_type = request.required("transactionType", |name| {
        let expected = "PASSWORD_PAY";
        let mut all = TransactionType::ALL.into_iter();
        all.find(|known| known.name() == name)
            .ok_or(Malformed { expected })
    })?;
    let (institution, mode) = request.institution()?;
    let named = named(business_type, institution, mode)?;
    let currency = match request.optional("currency", |code| Ok::<Box<str>, _>(code.into()))? {
        Some(code) => Currency::parse(&code).map_err(|_| Refusal::CurrencyUnknown {
            settled: routing.settled().join(" ").into(),
        })?,
        None => CNY,
    };
    let amount = request
        .scalar("orderAmount")?
        .ok_or(Refusal::FieldMissing("orderAmount"))?;
    let terms = OrderTerms {
        merchant: request.merchant().clone(),
        merchant_order_no: request.required("merchantOrderNo", MerchantOrderNo::parse)?,
        merchant_name: request.required("merchantName", text(128))?,
        order_date: request.required("orderDate", CalendarDay::parse)?,
        amount: Amount::parse(amount, currency)?,
        business_type,
        transaction_type,
        return_url: request.required("bankReturnUrl", text(512))?,
        mobile: request.mobile()?.ok_or(Refusal::FieldMissing("mobileNo"))?,
        goods_no: request.optional("goodsNo", text(64))?,
        goods_name: request.free_text("goodsName", 128)?,
        goods_description: request.free_text("goodsDescription", 512)?,
        attach: request.optional("attach", text(512))?,
        expire_minutes: expire_minutes(request)?,
        named,
    };
    // Understood and not offered yet: refused only after everything else was found valid.
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

fn expire_minutes(request: &AuthenticatedFields<'_>) -> Result<u16, Refusal> {
    let Some(text) = request.scalar("expireMinutes")? else {
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
