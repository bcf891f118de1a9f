//! Converts refunds to rows and back.

use rusqlite::{Connection, params};

use crate::domain::attempt::Epoch;
use crate::domain::change::ChangeRows;
use crate::domain::evidence::{Reason, Receipt};
use crate::domain::identifiers::{
    AttemptId, PayOrderNo, RefundOrderNo, RefundRequestNo, StaffId, Timestamp,
};
use crate::domain::order::Order;
use crate::domain::refund::{
    ExcessCause, Refund, RefundDecision, RefundDetails, RefundOrigin, RefundState, SendStatus,
};
use crate::seal::Seal;
use crate::store::StoreError;
use crate::store::sqlite::SqliteFault;
use crate::store::sqlite::loading::{Columns, named, read};
use crate::store::sqlite::rows::{RowWrite, maybe, moment, number, text};
use crate::store::sqlite::sealed::{open_maybe, refund_place, seal_maybe};

const UPSERT_REFUND: &str = "INSERT INTO refunds (refund_order_no, pay_order_no, seq, attempt_id,
    minor, currency, state, cause, merchant_id, request_no, notice_sealed, sealed, created,
    waits_until, left_at, epoch, receipt_minor, receipt_currency, institution_no, refunded_at,
    reason_sealed, late_success, excess_minor, staff, found_back, statement, named, found_no,
    found_at, asked, next_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
    ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31)
    ON CONFLICT (refund_order_no) DO UPDATE SET state = excluded.state,
    waits_until = excluded.waits_until, left_at = excluded.left_at, epoch = excluded.epoch,
    receipt_minor = excluded.receipt_minor, receipt_currency = excluded.receipt_currency,
    institution_no = excluded.institution_no, refunded_at = excluded.refunded_at,
    reason_sealed = excluded.reason_sealed, late_success = excluded.late_success,
    excess_minor = excluded.excess_minor, staff = excluded.staff,
    found_back = excluded.found_back, statement = excluded.statement, named = excluded.named,
    found_no = excluded.found_no, found_at = excluded.found_at,
    asked = excluded.asked, next_at = excluded.next_at";

/// R6, checked before anything is written: whether another refund has this number.
pub(super) const NUMBER_TAKEN: &str = "SELECT EXISTS (SELECT 1 FROM refunds
    WHERE merchant_id = ?1 AND request_no = ?2 AND refund_order_no <> ?3)";

/// Merchant, request number and our number of the new refund; a change has at most one.
pub(super) fn numbered(rows: &ChangeRows) -> Option<[String; 3]> {
    let refund = rows.reserved()?;
    let number = refund.request()?.number.to_string();
    let merchant = rows.order.terms.merchant.to_string();
    Some([merchant, number, refund.no.to_string()])
}

pub(super) fn refund_row(
    seal: &Seal,
    order: &Order,
    refund: &Refund,
) -> Result<RowWrite, StoreError> {
    let before = order
        .refunds
        .iter()
        .take_while(|known| known.no != refund.no)
        .count();
    let seq = u64::try_from(before).unwrap_or(u64::MAX).saturating_add(1);
    let (request, receipt) = (refund.request(), refund.receipt.as_ref());
    let decision = refund.decision.as_ref();
    let sealed = |column, text: Option<&str>| {
        seal_maybe(seal, refund_place(refund.no.as_str(), column), text)
    };
    let merchant_reason = sealed(
        "sealed",
        request.and_then(|request| request.reason.as_deref()),
    )?;
    let notice_url = request.and_then(|request| request.notice_url.as_deref());
    let notice_url = sealed("notice_sealed", notice_url)?;
    let reason = refund.reason.as_ref().map(Reason::as_str);
    let reason = sealed("reason_sealed", reason)?;
    let (waits_until, left_at) = match refund.sending {
        SendStatus::Waits(until) => (Some(until), None),
        SendStatus::Left(left) => (None, Some(left)),
    };
    let values = vec![
        text(refund.no.as_str()),
        text(order.no.as_str()),
        number(seq)?,
        text(refund.attempt.as_str()),
        refund.amount.minor().into(),
        text(refund.amount.currency().code()),
        text(refund.state.name()),
        maybe(refund.excess().map(ExcessCause::name)),
        maybe(request.map(|_| order.terms.merchant.as_str())),
        maybe(request.map(|request| request.number.as_str())),
        notice_url.into(),
        merchant_reason.into(),
        refund.created.ms().into(),
        moment(waits_until),
        moment(left_at),
        refund.epoch.0.into(),
        receipt.map(|receipt| receipt.amount.minor()).into(),
        maybe(receipt.map(|receipt| receipt.amount.currency().code())),
        maybe(receipt.and_then(|receipt| receipt.institution_no.as_deref())),
        moment(receipt.map(|receipt| receipt.paid_at)),
        reason.into(),
        i64::from(refund.late_success).into(),
        refund.over_refunded_minor.into(),
        maybe(decision.map(|decision| decision.staff.as_str())),
        decision
            .map(|decision| i64::from(decision.succeeded))
            .into(),
        decision.map(|decision| decision.statement.to_vec()).into(),
        i64::from(refund.named).into(),
        maybe(decision.and_then(|decision| decision.institution_no.as_deref())),
        moment(decision.and_then(|decision| decision.moved_at)),
        i64::from(refund.schedule.asked).into(),
        refund.schedule.next.ms().into(),
    ];
    let sql = UPSERT_REFUND;
    Ok(RowWrite { sql, values })
}

pub(super) fn refunds(
    connection: &Connection,
    seal: &Seal,
    order: &PayOrderNo,
) -> Result<Vec<Refund>, SqliteFault> {
    let sql = "SELECT refund_order_no, attempt_id, minor, currency, state, cause, request_no,
        notice_sealed, sealed, created, waits_until, left_at, epoch, receipt_minor, receipt_currency,
        institution_no, refunded_at, reason_sealed, late_success, excess_minor, staff, found_back,
        statement, named, found_no, found_at, asked, next_at
        FROM refunds WHERE pay_order_no = ?1 ORDER BY seq";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![order.as_str()])?;
    let mut refunds = Vec::new();
    while let Some(row) = rows.next()? {
        refunds.push(refund(&Columns { row }, seal)?);
    }
    Ok(refunds)
}

fn refund(columns: &Columns<'_>, seal: &Seal) -> Result<Refund, SqliteFault> {
    let no = columns.parse(0, RefundOrderNo::parse)?;
    let opened = |at, column| {
        let sealed = columns.get::<Option<Vec<u8>>>(at)?;
        open_maybe(seal, refund_place(no.as_str(), column), sealed.as_deref())
    };
    let cause = columns.parse_maybe(5, named(&ExcessCause::ALL, ExcessCause::name))?;
    let number = columns.parse_maybe(6, RefundRequestNo::read)?;
    let why = match (cause, number) {
        (Some(cause), None) => RefundOrigin::Excess(cause),
        (None, Some(number)) => RefundOrigin::Asked(RefundDetails {
            number,
            reason: opened(8, "sealed")?,
            notice_url: opened(7, "notice_sealed")?,
        }),
        (Some(_), Some(_)) | (None, None) => return read(Err(())),
    };
    let moment = |at| Ok::<_, SqliteFault>(columns.get::<Option<i64>>(at)?.map(Timestamp::from_ms));
    let sending = match (moment(10)?, moment(11)?) {
        (Some(until), None) => SendStatus::Waits(until),
        (None, Some(left)) => SendStatus::Left(left),
        (Some(_), Some(_)) | (None, None) => return read(Err(())),
    };
    let receipt = match columns.get::<Option<i64>>(13)? {
        Some(_) => Some(Receipt {
            amount: columns.amount(13)?,
            institution_no: columns.get(15)?,
            paid_at: columns.moment(16)?,
            fee: None,
        }),
        None => None,
    };
    let reason = opened(17, "reason_sealed")?;
    Ok(Refund {
        no,
        attempt: columns.parse(1, AttemptId::parse)?,
        amount: columns.amount(2)?,
        state: columns.parse(4, named(&RefundState::ALL, RefundState::name))?,
        why,
        created: columns.moment(9)?,
        sending,
        schedule: columns.schedule(26)?,
        epoch: Epoch(columns.get(12)?),
        named: columns.get(23)?,
        receipt,
        reason: reason.as_deref().map(Reason::from_code),
        late_success: columns.get(18)?,
        over_refunded_minor: columns.get(19)?,
        decision: match columns.parse_maybe(20, StaffId::parse)? {
            Some(staff) => Some(RefundDecision {
                staff,
                succeeded: columns.get(21)?,
                statement: columns.get(22)?,
                institution_no: columns.get(24)?,
                moved_at: moment(25)?,
            }),
            None => None,
        },
    })
}
