//! Refund, refund query and cancel.

use std::sync::Arc;

use crate::sandbox::alipay::admission::AdmittedCall;
use crate::sandbox::alipay::answer::{AlipayRefusal, NodeMembers};
use crate::sandbox::alipay::biz::yuan;
use crate::sandbox::alipay::books::AlipayBooks;
use crate::sandbox::alipay::books::refunds::{CancelAction, RefundAsked, RefundPace};
use crate::sandbox::alipay::calls::{BUYER_ID, BUYER_LOGON_ID, acq, moment, named};
use crate::sandbox::alipay::notices::NoticeEvent;
use crate::sandbox::alipay::steering::AlipayFault;
use crate::sandbox::alipay::{AlipayState, notices};

const REFUND_FIELDS: &[&str] = &[
    "out_trade_no",
    "trade_no",
    "refund_amount",
    "out_request_no",
    "refund_reason",
    "query_options",
    "refund_royalty_parameters",
    "goods_detail",
];
const QUERY_FIELDS: &[&str] = &[
    "out_trade_no",
    "trade_no",
    "out_request_no",
    "query_options",
];
const CANCEL_FIELDS: &[&str] = &["out_trade_no", "trade_no"];

pub(super) fn refund(
    state: &Arc<AlipayState>,
    admitted: &AdmittedCall,
) -> Result<NodeMembers, AlipayRefusal> {
    let biz = &admitted.biz;
    biz.only(&[REFUND_FIELDS])?;
    let asked = RefundAsked {
        number: biz.text("out_request_no", 64)?.map(str::to_owned),
        fen: biz.amount("refund_amount")?,
        reason: biz.text("refund_reason", 256)?.map(str::to_owned),
    };
    let key = named(state, admitted)?;
    let pace = pace(state, &admitted.method);
    let now_ms = state.now_ms();
    let refunded = state
        .books
        .change(|books| books.refund(&key, asked, pace, now_ms));
    let refunded = refunded.map_err(acq)?;
    if refunded.fund_change == "Y" {
        let event = NoticeEvent::Refunded(refunded.number.clone());
        notices::tell(state, &key, &event);
    }
    let trade = &refunded.trade;
    let returned = yuan(trade.refunded_fen());
    let mut members: NodeMembers = vec![
        ("buyer_logon_id", BUYER_LOGON_ID.into()),
        ("buyer_user_id", BUYER_ID.into()),
        ("fund_change", refunded.fund_change.into()),
        ("out_trade_no", trade.terms.out_trade_no.as_str().into()),
        ("refund_fee", returned.as_str().into()),
        ("send_back_fee", returned.as_str().into()),
        ("trade_no", trade.trade_no.as_str().into()),
    ];
    if refunded.moved_ms.is_some() {
        members.push(("gmt_refund_pay", moment(refunded.moved_ms)));
    }
    Ok(members)
}

fn pace(state: &AlipayState, method: &str) -> RefundPace {
    let of_refunds = |fault| {
        matches!(
            fault,
            AlipayFault::RefundPending | AlipayFault::RefundForgotten
        )
    };
    let steered = state.steering.take(method, of_refunds);
    match steered.map(|steered| steered.fault) {
        Some(AlipayFault::RefundPending) => RefundPace::Pending,
        Some(AlipayFault::RefundForgotten) => RefundPace::Forgotten,
        _ => RefundPace::AtOnce,
    }
}

/// Without `refund_status` while the refund did not arrive, failed, or does not show yet.
pub(super) fn query(
    state: &AlipayState,
    admitted: &AdmittedCall,
) -> Result<NodeMembers, AlipayRefusal> {
    let biz = &admitted.biz;
    biz.only(&[QUERY_FIELDS])?;
    let number = biz.required("out_request_no", 64)?;
    let key = named(state, admitted)?;
    let now_ms = state.now_ms();
    let trade = state.books.change(|books| books.look(&key, now_ms));
    let trade = trade.ok_or_else(|| acq("ACQ.TRADE_NOT_EXIST"))?;
    let mut members: NodeMembers = vec![
        ("out_request_no", number.into()),
        ("out_trade_no", trade.terms.out_trade_no.as_str().into()),
        ("trade_no", trade.trade_no.as_str().into()),
    ];
    let is_hidden = state
        .steering
        .shows(&admitted.method, AlipayFault::RefundHidden);
    let shown = AlipayBooks::refund_shown(&trade, number, now_ms).filter(|_| !is_hidden);
    if let Some(refund) = shown {
        members.push(("gmt_refund_pay", moment(refund.moved_ms)));
        members.push(("refund_amount", yuan(refund.fen).into()));
        if let Some(reason) = refund.reason {
            members.push(("refund_reason", reason.into()));
        }
        members.push(("refund_status", "REFUND_SUCCESS".into()));
        members.push(("total_amount", yuan(trade.terms.total_fen).into()));
    }
    Ok(members)
}

/// Of a trade that does not exist there is nothing to cancel; its code can still be used.
pub(super) fn cancel(
    state: &Arc<AlipayState>,
    admitted: &AdmittedCall,
) -> Result<NodeMembers, AlipayRefusal> {
    let biz = &admitted.biz;
    biz.only(&[CANCEL_FIELDS])?;
    let answered = |retry: &str, more: NodeMembers| {
        let mut members: NodeMembers = vec![("retry_flag", retry.into())];
        members.extend(more);
        members
    };
    if state
        .steering
        .shows(&admitted.method, AlipayFault::CancelAgain)
    {
        return Ok(answered("Y", NodeMembers::new()));
    }
    let key = match named(state, admitted) {
        Err(refusal) if refusal.sub_code == "ACQ.TRADE_NOT_EXIST" => {
            let number = biz.text("out_trade_no", 64)?.unwrap_or_default();
            return Ok(answered("N", vec![("out_trade_no", number.into())]));
        }
        named => named?,
    };
    let now_ms = state.now_ms();
    let cancelled = state.books.change(|books| books.cancel(&key, now_ms));
    let (action, trade) = cancelled.map_err(acq)?;
    let mut more: NodeMembers = vec![
        ("out_trade_no", trade.terms.out_trade_no.as_str().into()),
        ("trade_no", trade.trade_no.as_str().into()),
    ];
    match action {
        CancelAction::Nothing => (),
        CancelAction::Close => {
            notices::tell(state, &key, &NoticeEvent::Ended);
            more.push(("action", "close".into()));
        }
        CancelAction::Refund => {
            let event = NoticeEvent::Refunded(trade.trade_no.clone());
            notices::tell(state, &key, &event);
            more.push(("action", "refund".into()));
        }
    }
    Ok(answered("N", more))
}
