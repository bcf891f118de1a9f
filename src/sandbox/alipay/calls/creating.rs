//! Calls that create payments: a code to be scanned, a trade for a mini program, a scanned code.

use std::sync::Arc;

use crate::sandbox::alipay::admission::AdmittedCall;
use crate::sandbox::alipay::answer::{AlipayRefusal, NodeMembers};
use crate::sandbox::alipay::biz::yuan;
use crate::sandbox::alipay::books::offers::AlipayOffer;
use crate::sandbox::alipay::books::{AlipayAct, AlipayActed};
use crate::sandbox::alipay::calls::{acq, moment, trade_members};
use crate::sandbox::alipay::notices::NoticeEvent;
use crate::sandbox::alipay::steering::AlipayFault;
use crate::sandbox::alipay::terms::{AlipayProduct, AlipayTerms};
use crate::sandbox::alipay::{AlipayState, notices};
use crate::sandbox::clock::draw_token;

fn terms(
    state: &AlipayState,
    admitted: &AdmittedCall,
    product: AlipayProduct,
) -> Result<AlipayTerms, AlipayRefusal> {
    let seller_id = &admitted.party.seller_id;
    AlipayTerms::read(product, &admitted.biz, seller_id, state.now_ms())
}

pub(super) async fn precreate(
    state: &Arc<AlipayState>,
    admitted: &AdmittedCall,
) -> Result<NodeMembers, AlipayRefusal> {
    let terms = terms(state, admitted, AlipayProduct::Precreate)?;
    let now_ms = state.now_ms();
    let number = terms.out_trade_no.clone();
    let offer = AlipayOffer {
        dead_ms: terms.offer_deadline_ms(now_ms),
        party: admitted.party.clone(),
        terms,
        notify_url: admitted.notify_url.clone(),
        return_url: None,
    };
    let key = offer.key();
    let offered = state.books.change(|books| {
        let earlier = books.code_offered(&key, &offer.terms)?;
        let token = earlier.unwrap_or_else(|| format!("bax{}", draw_token()));
        books.offer(&token, offer, now_ms)?;
        Ok(token)
    });
    let token = offered.map_err(acq)?;
    if state
        .steering
        .shows(&admitted.method, AlipayFault::PaidEarly)
    {
        state
            .books
            .change(|books| books.act_on_offer(&token, AlipayAct::Pay, now_ms));
        notices::tell_now(state, &key).await;
    }
    Ok(vec![
        ("out_trade_no", number.into()),
        ("qr_code", format!("{}/qr/{token}", state.origin()).into()),
    ])
}

pub(super) async fn create(
    state: &Arc<AlipayState>,
    admitted: &AdmittedCall,
) -> Result<NodeMembers, AlipayRefusal> {
    let terms = terms(state, admitted, AlipayProduct::Create)?;
    let notify_url = admitted.notify_url.clone();
    let now_ms = state.now_ms();
    let opened = state
        .books
        .change(|books| books.open(&admitted.party, terms, notify_url, now_ms));
    let trade = opened.map_err(acq)?;
    if state
        .steering
        .shows(&admitted.method, AlipayFault::PaidEarly)
    {
        let key = trade.key();
        state
            .books
            .change(|books| books.act_on_trade(&key, AlipayAct::Pay, now_ms));
        notices::tell_now(state, &key).await;
    }
    Ok(vec![
        ("out_trade_no", trade.terms.out_trade_no.into()),
        ("trade_no", trade.trade_no.into()),
    ])
}

/// The merchant scanned the payer's bar code.
pub(super) fn pay(
    state: &Arc<AlipayState>,
    admitted: &AdmittedCall,
) -> Result<NodeMembers, AlipayRefusal> {
    let biz = &admitted.biz;
    if biz.required("scene", 32)? != "bar_code" {
        return Err(biz.wrong("scene"));
    }
    let auth_code = biz.required("auth_code", 24)?;
    let is_known = matches!(
        auth_code.as_bytes(),
        [b'2', b'5'..=b'9', ..] | [b'3', b'0', ..]
    );
    let all_digits = auth_code.bytes().all(|byte| byte.is_ascii_digit());
    if !is_known || !all_digits || auth_code.len() < 16 {
        return Err(acq("ACQ.PAYMENT_AUTH_CODE_INVALID"));
    }
    let terms = terms(state, admitted, AlipayProduct::Code)?;
    let key = (admitted.party.seller_id.clone(), terms.out_trade_no.clone());
    let confirms = state
        .steering
        .shows(&admitted.method, AlipayFault::PayerConfirms);
    let notify_url = admitted.notify_url.clone();
    let now_ms = state.now_ms();
    let paid = state.books.change(|books| {
        // A repeat of a call that waits finds the same trade, and pays nothing.
        let is_new = books.look(&key, now_ms).is_none();
        if is_new && !books.use_code(auth_code) {
            return Err("ACQ.PAYMENT_AUTH_CODE_INVALID");
        }
        let trade = books.open(&admitted.party, terms, notify_url, now_ms)?;
        let act = if is_new && !confirms {
            AlipayAct::Pay
        } else {
            AlipayAct::Open
        };
        let acted = books.act_on_trade(&key, act, now_ms);
        Ok((acted, books.look(&key, now_ms).unwrap_or(trade)))
    });
    let (acted, trade) = paid.map_err(acq)?;
    match acted {
        AlipayActed::Paid => {
            notices::tell(state, &trade.key(), &NoticeEvent::Paid);
            let mut members = trade_members(&trade);
            members.retain(|(name, _)| !matches!(*name, "trade_status" | "send_pay_date"));
            members.push(("gmt_payment", moment(trade.paid_ms)));
            Ok(members)
        }
        AlipayActed::Waiting | AlipayActed::Failed => {
            let members: NodeMembers = vec![
                ("out_trade_no", trade.terms.out_trade_no.into()),
                ("trade_no", trade.trade_no.into()),
                ("total_amount", yuan(trade.terms.total_fen).into()),
            ];
            Err(AlipayRefusal::of("10003", "", "").with(members))
        }
        AlipayActed::Refused(sub_code) => Err(acq(sub_code)),
    }
}
