//! Loads orders from rows: complete, or an error that says what cannot be read.

use std::sync::Arc;

use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension, Params, Row, params};
use serde::de::DeserializeOwned;

use crate::domain::amount::{Amount, Currency, Fee};
use crate::domain::attempt::{Attempt, AttemptState, Epoch, Stamp};
use crate::domain::evidence::{PaymentAction, PaymentActionKind, PaymentForm, Reason, Receipt};
use crate::domain::identifiers::{
    AccountId, AttemptId, CalendarDay, InstitutionId, MerchantId, MerchantOrderNo, PayOrderNo,
    ProductId, ReceiverId, Timestamp, unhex,
};
use crate::domain::institutions::{BusinessType, Mode, TransactionType};
use crate::domain::order::{CloseReason, Order, OrderState, OrderTerms};
use crate::domain::personal::MobileNo;
use crate::domain::personal::payer_context::PayerDetails;
use crate::domain::schedule::Schedule;
use crate::seal::{Seal, SealBinding};
use crate::store::OrderKey;
use crate::store::sqlite::SqliteFault;
use crate::store::sqlite::refunds::refunds;
use crate::store::sqlite::sealed::{
    SealedOrderFields, SealedPayerDetails, SealedPaymentAction, attempt_reason_place, open_maybe,
};

const ORDER: &str = "SELECT pay_order_no, merchant_id, merchant_order_no, order_date, minor,
    currency, business_type, transaction_type, expire_minutes, named_institution,
    named_mode, sealed, created, expires, state, ending, version, paying_attempt,
    chosen_institution FROM orders WHERE ";

/// Ends a transaction left open by a failed read: it would keep an old snapshot.
pub(super) fn up_to_date(connection: &Connection) -> Result<(), SqliteFault> {
    if !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    Ok(())
}

/// Loads an order by a key that the caller may use (K3).
pub(super) fn order(
    connection: &Connection,
    seal: &Seal,
    key: &OrderKey,
) -> Result<Option<Order>, SqliteFault> {
    match key {
        OrderKey::PayOrderNo(merchant, no) => {
            let which = "pay_order_no = ?1 AND merchant_id = ?2";
            let values = params![no.as_str(), merchant.as_str()];
            order_where(connection, seal, which, values)
        }
        OrderKey::MerchantOrderNo(merchant, no) => {
            let which = "merchant_id = ?1 AND merchant_order_no = ?2";
            let values = params![merchant.as_str(), no.as_str()];
            order_where(connection, seal, which, values)
        }
        OrderKey::Attempt(institution, attempt) => {
            let which = "pay_order_no = (SELECT pay_order_no FROM attempts
                WHERE attempt_id = ?1 AND institution_id = ?2)";
            let values = params![attempt.as_str(), institution.as_str()];
            order_where(connection, seal, which, values)
        }
        OrderKey::Refund(institution, no) => {
            let which = "pay_order_no = (SELECT r.pay_order_no FROM refunds r
                JOIN attempts a ON a.attempt_id = r.attempt_id
                WHERE r.refund_order_no = ?1 AND a.institution_id = ?2)";
            let values = params![no.as_str(), institution.as_str()];
            order_where(connection, seal, which, values)
        }
        OrderKey::RefundOrderNo(merchant, no) => {
            let which = "merchant_id = ?2 AND pay_order_no =
                (SELECT pay_order_no FROM refunds WHERE refund_order_no = ?1)";
            let values = params![no.as_str(), merchant.as_str()];
            order_where(connection, seal, which, values)
        }
        OrderKey::MerchantRefundNo(merchant, number) => {
            let which = "pay_order_no = (SELECT pay_order_no FROM refunds
                WHERE merchant_id = ?1 AND request_no = ?2)";
            let values = params![merchant.as_str(), number.as_str()];
            order_where(connection, seal, which, values)
        }
        OrderKey::Page(token) => {
            let values = params![token.order().as_str()];
            let found = order_where(connection, seal, "pay_order_no = ?1", values)?;
            Ok(found.filter(|order| token.opens(&order.page_secret)))
        }
    }
}

/// Loads the order that matches a condition.
pub(super) fn order_where(
    connection: &Connection,
    seal: &Seal,
    which: &str,
    values: impl Params,
) -> Result<Option<Order>, SqliteFault> {
    let mut statement = connection.prepare_cached(&format!("{ORDER}{which}"))?;
    let mut rows = statement.query(values)?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let mut order = order_alone(&Columns { row }, seal)?;
    order.attempts = attempts(connection, seal, &order.no)?;
    order.refunds = refunds(connection, seal, &order.no)?;
    Ok(Some(order))
}

/// The institution last used by this payer to pay this merchant.
pub(super) fn last_institution(
    connection: &Connection,
    digest: &[u8; 32],
) -> Result<Option<InstitutionId>, SqliteFault> {
    let mut statement =
        connection.prepare_cached("SELECT institution_id FROM payers WHERE payer_digest = ?1")?;
    let id: Option<String> = statement
        .query_row(params![digest], |row| row.get(0))
        .optional()?;
    id.map(|id| read(InstitutionId::parse(&id))).transpose()
}

/// A row, read by column index.
pub(super) struct Columns<'a> {
    pub(super) row: &'a Row<'a>,
}

impl Columns<'_> {
    pub(super) fn get<T: FromSql>(&self, at: usize) -> Result<T, SqliteFault> {
        Ok(self.row.get(at)?)
    }

    pub(super) fn parse<T, E>(
        &self,
        at: usize,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<T, SqliteFault> {
        let text = self.row.get_ref(at)?.as_str();
        read(parse(text.map_err(rusqlite::Error::from)?))
    }

    pub(super) fn parse_maybe<T, E>(
        &self,
        at: usize,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, SqliteFault> {
        let text = self.row.get_ref(at)?.as_str_or_null();
        let text = text.map_err(rusqlite::Error::from)?;
        text.map(|text| read(parse(text))).transpose()
    }

    pub(super) fn moment(&self, at: usize) -> Result<Timestamp, SqliteFault> {
        Ok(Timestamp::from_ms(self.get(at)?))
    }

    /// Reads a schedule: the query count and the next time, in adjacent columns.
    pub(super) fn schedule(&self, at: usize) -> Result<Schedule, SqliteFault> {
        Ok(Schedule {
            asked: self.get(at)?,
            next: self.moment(at.saturating_add(1))?,
        })
    }

    pub(super) fn number(&self, at: usize) -> Result<u64, SqliteFault> {
        read(u64::try_from(self.get::<i64>(at)?))
    }

    /// Reads an amount: minor units and currency, in adjacent columns.
    pub(super) fn amount(&self, at: usize) -> Result<Amount, SqliteFault> {
        let currency = self.parse(at.saturating_add(1), Currency::parse)?;
        read(Amount::from_minor(self.get(at)?, currency))
    }
}

/// Never quotes the stored value, which may be personal.
pub(super) fn read<T, E>(result: Result<T, E>) -> Result<T, SqliteFault> {
    result.map_err(|_| {
        let kind = std::any::type_name::<T>();
        SqliteFault::Corrupt(format!("a stored {kind} is malformed"))
    })
}

pub(super) fn named<T: Copy>(
    all: &[T],
    name: impl Fn(T) -> &'static str,
) -> impl Fn(&str) -> Result<T, ()> {
    move |text| all.iter().copied().find(|one| name(*one) == text).ok_or(())
}

/// Decrypts and parses a sealed text.
fn open<T: DeserializeOwned>(
    seal: &Seal,
    place: SealBinding<'_>,
    sealed: &[u8],
) -> Result<T, SqliteFault> {
    read(serde_json::from_slice(&seal.open(place, sealed)?))
}

fn order_alone(columns: &Columns<'_>, seal: &Seal) -> Result<Order, SqliteFault> {
    let no = columns.parse(0, PayOrderNo::parse)?;
    let private: SealedOrderFields<'static> = open(
        seal,
        SealedOrderFields::place(&no),
        &columns.get::<Vec<u8>>(11)?,
    )?;
    let page_secret = read(unhex(&private.page_secret).ok_or(()))?;
    let named_institution = columns.parse_maybe(9, InstitutionId::parse)?;
    let named_mode = columns.parse_maybe(10, named(&Mode::ALL, Mode::name))?;
    let terms = OrderTerms {
        merchant: columns.parse(1, MerchantId::parse)?,
        merchant_order_no: columns.parse(2, MerchantOrderNo::parse)?,
        merchant_name: private.merchant_name.into(),
        order_date: columns.parse(3, CalendarDay::parse)?,
        amount: columns.amount(4)?,
        business_type: columns.parse(6, |name| BusinessType::parse(name).ok_or(()))?,
        transaction_type: columns.parse(7, named(&TransactionType::ALL, TransactionType::name))?,
        return_url: private.return_url.into(),
        mobile: read(MobileNo::parse(&private.mobile))?,
        goods_no: private.goods_no.map(Into::into),
        goods_name: private.goods_name.map(Into::into),
        goods_description: private.goods_description.map(Into::into),
        attach: private.attach.map(Into::into),
        expire_minutes: columns.get(8)?,
        named: named_institution.map(|institution| (institution, named_mode)),
    };
    Ok(Order {
        no,
        terms: Arc::new(terms),
        page_secret,
        notice_url: private.notice_url.map(Into::into),
        created: columns.moment(12)?,
        expires: columns.moment(13)?,
        state: columns.parse(14, named(&OrderState::ALL, OrderState::name))?,
        ending: columns.parse_maybe(15, named(&CloseReason::ALL, CloseReason::name))?,
        version: columns.number(16)?,
        paying_attempt_id: columns.parse_maybe(17, AttemptId::parse)?,
        chosen: columns.parse_maybe(18, InstitutionId::parse)?,
        attempts: Vec::new(),
        refunds: Vec::new(),
    })
}

fn attempts(
    connection: &Connection,
    seal: &Seal,
    order: &PayOrderNo,
) -> Result<Vec<Attempt>, SqliteFault> {
    let sql = "SELECT seq, attempt_id, institution_id, receiver_id, mode, minor, currency, state,
        stamp_at, stamp_nonce, sent_at, configuration, epoch, payment_action, receipt_minor,
        receipt_currency, institution_no, paid_at, fee, reason_sealed, late_success, named,
        asked, next_at, account_id, product, pay_by, payer_sealed
        FROM attempts WHERE pay_order_no = ?1 ORDER BY seq";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![order.as_str()])?;
    let mut attempts = Vec::new();
    while let Some(row) = rows.next()? {
        attempts.push(attempt(&Columns { row }, seal)?);
    }
    Ok(attempts)
}

fn attempt(columns: &Columns<'_>, seal: &Seal) -> Result<Attempt, SqliteFault> {
    let id = columns.parse(1, AttemptId::parse)?;
    let payment_action = match columns.get::<Option<Vec<u8>>>(13)? {
        Some(sealed) => Some(payment_action(seal, &id, &sealed)?),
        None => None,
    };
    let payer = match columns.get::<Option<Vec<u8>>>(27)? {
        Some(sealed) => {
            let place = SealedPayerDetails::place(id.as_str());
            let payer: SealedPayerDetails<'static> = open(seal, place, &sealed)?;
            read(payer.opened())?
        }
        None => PayerDetails::UNKNOWN,
    };
    let reason = columns.get::<Option<Vec<u8>>>(19)?;
    let place = attempt_reason_place(id.as_str());
    let reason = open_maybe(seal, place, reason.as_deref())?;
    Ok(Attempt {
        id,
        seq: columns.get(0)?,
        institution: columns.parse(2, InstitutionId::parse)?,
        account: columns.parse(24, AccountId::parse)?,
        receiver: columns.parse(3, ReceiverId::parse)?,
        mode: columns.parse(4, named(&Mode::ALL, Mode::name))?,
        product: columns.parse(25, ProductId::parse)?,
        pay_by: columns.moment(26)?,
        payer,
        amount: columns.amount(5)?,
        state: columns.parse(7, named(&AttemptState::ALL, AttemptState::name))?,
        stamp: Stamp {
            now: columns.moment(8)?,
            nonce: columns.get(9)?,
        },
        sent_at: columns.moment(10)?,
        schedule: columns.schedule(22)?,
        configuration: columns.number(11)?,
        epoch: Epoch(columns.get(12)?),
        named: columns.get(21)?,
        payment_action,
        receipt: receipt(columns)?,
        reason: reason.as_deref().map(Reason::from_code),
        late_success: columns.get(20)?,
    })
}

fn receipt(columns: &Columns<'_>) -> Result<Option<Receipt>, SqliteFault> {
    if columns.get::<Option<i64>>(14)?.is_none() {
        return Ok(None);
    }
    let amount = columns.amount(14)?;
    Ok(Some(Receipt {
        amount,
        institution_no: columns.get(16)?,
        paid_at: columns.moment(17)?,
        fee: columns.parse_maybe(18, |text| Fee::parse(text, amount.currency()))?,
    }))
}

fn payment_action(
    seal: &Seal,
    attempt: &AttemptId,
    sealed: &[u8],
) -> Result<PaymentAction, SqliteFault> {
    let path: SealedPaymentAction<'static> =
        open(seal, SealedPaymentAction::place(attempt.as_str()), sealed)?;
    let way = match (path.link, path.sdk, path.code, path.form) {
        (Some(link), None, None, None) => PaymentActionKind::Redirect(link.into()),
        (None, Some(sdk), None, None) => PaymentActionKind::SdkParameters(sdk.into()),
        (None, None, Some(code), None) => PaymentActionKind::QrCode(code.into()),
        (None, None, None, Some((url, fields))) => PaymentActionKind::Form(PaymentForm {
            url: url.into(),
            fields: fields
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        }),
        _ => return read(Err(())),
    };
    let expires = path.expires.map(Timestamp::from_ms);
    Ok(PaymentAction { way, expires })
}
