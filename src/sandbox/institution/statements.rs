//! A simulated institution's daily statement: every movement in its ledger, in pages
//! (`docs/statements.md`).

use serde::Deserialize;
use serde_json::{Value, json};

use crate::sandbox::clock::{rfc_3339_shanghai, shanghai};
use crate::sandbox::institution::SandboxInstitutionState;
use crate::sandbox::institution::faults::{FaultTrigger, InstitutionFault, SandboxCall};
use crate::sandbox::institution::ledger::{InstitutionLedger, PaymentState};
use crate::sandbox::institution::orders::{self, CallResult};
use crate::sandbox::institution::refunds::SandboxRefundState;
use crate::sandbox::institution::terms::{all_digits, yuan_text};
use crate::sandbox::refusal::SandboxRefusal;

/// Most lines of a page, whatever limit was requested.
const PAGE_LINES_MAX: usize = 1_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StatementRequestBody {
    merchant_id: String,
    date: String,
    after_line: usize,
    limit: usize,
}

/// A line of the statement.
struct StatementMovement {
    at_s: i64,
    is_refund: bool,
    number: String,
    institution_no: String,
    cents: i64,
}

pub(super) fn page(shared: &SandboxInstitutionState, body: &[u8]) -> CallResult {
    let request: StatementRequestBody = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(fault) => {
            let refusal = SandboxRefusal::of(400, "body_unreadable", fault.to_string());
            return (Err(refusal), None);
        }
    };
    if request.date.len() != 8 || !all_digits(&request.date) || request.limit == 0 {
        let detail = "date: yyyyMMdd; limit: at least 1";
        return (
            Err(SandboxRefusal::of(400, "field_malformed", detail)),
            None,
        );
    }
    if let Err(refusal) = orders::check_account(shared, &request.merchant_id) {
        return (Err(refusal), None);
    }
    let fault = shared
        .faults
        .take(FaultTrigger::Call(SandboxCall::Statement), None);
    if fault == Some(InstitutionFault::ServerError) {
        return (Err(orders::broken()), fault);
    }
    let moved = shared.book.look(|book| moved(book, &request));
    (Ok(response(&request, &moved)), fault)
}

fn moved(book: &InstitutionLedger, request: &StatementRequestBody) -> Vec<StatementMovement> {
    let of_day = |at_s: i64| shanghai(at_s).0 == request.date;
    let payments = book.payments().filter_map(|payment| {
        let at_s = payment.paid_s.filter(|at_s| of_day(*at_s))?;
        let is_theirs = payment.terms.merchant_id == request.merchant_id;
        (is_theirs && payment.state == PaymentState::Paid).then(|| StatementMovement {
            at_s,
            is_refund: false,
            number: payment.terms.merchant_order_no.clone(),
            institution_no: payment.institution_no.clone(),
            cents: payment.taken_cents,
        })
    });
    let refunds = book.refunds().filter_map(|refund| {
        let at_s = refund.ended_s.filter(|at_s| of_day(*at_s))?;
        let is_theirs = refund.terms.merchant_id == request.merchant_id;
        (is_theirs && refund.standing == SandboxRefundState::Succeeded).then(|| StatementMovement {
            at_s,
            is_refund: true,
            number: refund.merchant_refund_no.clone(),
            institution_no: refund.refund_no.clone(),
            cents: refund.terms.sum_cents,
        })
    });
    let mut moved: Vec<StatementMovement> = payments.chain(refunds).collect();
    moved.sort_by(|one, other| (one.at_s, &one.number).cmp(&(other.at_s, &other.number)));
    moved
}

fn response(request: &StatementRequestBody, moved: &[StatementMovement]) -> Value {
    let sum = |is_refund: bool| {
        let of_kind = moved.iter().filter(|one| one.is_refund == is_refund);
        let cents = of_kind.fold(0_i64, |sum, one| sum.saturating_add(one.cents));
        json!({ "CNY": yuan_text(cents) })
    };
    let page = moved.iter().skip(request.after_line);
    let page = page.take(request.limit.min(PAGE_LINES_MAX));
    let lines: Vec<Value> = page.map(line).collect();
    let first = request.after_line.saturating_add(1);
    let next = first.saturating_add(lines.len());
    let mut answer = json!({
        "merchantId": request.merchant_id,
        "date": request.date,
        "firstLine": first,
        "lines": lines,
        "totalLines": moved.len(),
        "totalPayments": sum(false),
        "totalRefunds": sum(true),
    });
    if let (true, Some(members)) = (next <= moved.len(), answer.as_object_mut()) {
        members.insert("nextLine".to_owned(), next.into());
    }
    answer
}

fn line(moved: &StatementMovement) -> Value {
    let (kind, number) = if moved.is_refund {
        ("REFUND", "merchantRefundNo")
    } else {
        ("PAYMENT", "merchantOrderNo")
    };
    json!({
        "kind": kind,
        number: moved.number,
        "institutionNo": moved.institution_no,
        "amount": yuan_text(moved.cents),
        "currency": "CNY",
        "moment": rfc_3339_shanghai(moved.at_s),
    })
}
