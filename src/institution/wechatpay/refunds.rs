//! Refunds: each `status`, one by one (C3); an unlisted word proves nothing (V1). Who sent it was
//! verified before.

use crate::domain::amount::{Amount, Currency};
use crate::domain::attempt::Attempt;
use crate::domain::evidence::{Ambiguity, Finding, OriginalPayment, Reason, Receipt};
use crate::domain::fields::Fields;
use crate::domain::identifiers::ReceiverId;
use crate::domain::institutions::AccountRole;
use crate::domain::refund::Refund;
use crate::institution::wechatpay::accounts::WechatAccount;
use crate::institution::wechatpay::errors::WechatFinding;
use crate::institution::wechatpay::payments::{fen, moment, needed, nested, optional, platform_no};

/// The finding of a verified answer 200 to a refund or to a query about it: accepted is not refunded.
pub(super) fn answered(fields: &Fields<'_>, refund: &Refund) -> WechatFinding {
    state(fields, needed(fields, "status")?, refund.amount)
}

/// The finding of a verified notification.
pub(super) fn noticed(fields: &Fields<'_>, event: &str, sum: Amount) -> WechatFinding {
    let status = needed(fields, "refund_status")?;
    match (event, status) {
        ("REFUND.SUCCESS", "SUCCESS")
        | ("REFUND.ABNORMAL", "ABNORMAL")
        | ("REFUND.CLOSED", "CLOSED") => state(fields, status, sum),
        _ => Err(Ambiguity::UnlistedWord),
    }
}

fn state(fields: &Fields<'_>, status: &str, amount: Amount) -> WechatFinding {
    match status {
        // ABNORMAL is stuck: the merchant has to say where to, and until then it is under way.
        "PROCESSING" | "ABNORMAL" => Ok(Finding::Accepted(None)),
        "SUCCESS" => Ok(Finding::Succeeded(Receipt {
            amount,
            institution_no: Some(platform_no(fields, "refund_id")?.into()),
            paid_at: moment(fields, "success_time")?,
            fee: None,
        })),
        // No money moved under this number, and none will.
        "CLOSED" => Ok(Finding::Refused(Reason::from_code("CLOSED"))),
        _ => Err(Ambiguity::UnlistedWord),
    }
}

/// Whether a verified answer is about this refund (E3): our numbers of both, and both sums. It need not
/// name the receiver.
pub(super) fn is_about(
    fields: &Fields<'_>,
    refund: &Refund,
    attempt: &Attempt,
    account: &WechatAccount,
) -> Result<(), Ambiguity> {
    let currency = refund.amount.currency();
    let is_ours = needed(fields, "out_refund_no")? == refund.no.as_str()
        && needed(fields, "out_trade_no")? == attempt.id.as_str();
    let amount = nested(fields, "amount")?;
    let is_of_sums = fen(&amount, "refund", currency)? == refund.amount
        && fen(&amount, "total", currency)? == attempt.amount;
    let named = parties(fields, account)?;
    let is_of_receiver = named
        .receiver
        .is_none_or(|receiver| receiver == attempt.receiver);
    if is_ours && is_of_sums && named.are_of_account && is_of_receiver {
        Ok(())
    } else {
        Err(Ambiguity::Mismatch)
    }
}

/// The parties that a message about a refund names, as far as it does.
pub(super) struct WechatRefundParties {
    /// No number in it is of another account.
    pub(super) are_of_account: bool,
    pub(super) receiver: Option<ReceiverId>,
}

/// The parties that a message names. Of a provider the own number stands under either name.
pub(super) fn parties(
    fields: &Fields<'_>,
    account: &WechatAccount,
) -> Result<WechatRefundParties, Ambiguity> {
    let is_own = |name| -> Result<bool, Ambiguity> {
        let number = optional(fields, name)?;
        Ok(number.is_none_or(|number| number == account.mchid.as_str()))
    };
    let receiver = match account.role {
        AccountRole::Direct => optional(fields, "mchid")?,
        AccountRole::Provider => optional(fields, "sub_mchid")?,
    };
    let receiver = receiver.map(ReceiverId::parse).transpose();
    Ok(WechatRefundParties {
        // Of a direct account it is the receiver, which is compared with that of the payment.
        are_of_account: is_own("sp_mchid")?
            && (account.role == AccountRole::Direct || is_own("mchid")?),
        receiver: receiver.map_err(|_| Ambiguity::Unreadable)?,
    })
}

/// The refunded sum of a notification, which names no currency (M6).
pub(super) fn sum(fields: &Fields<'_>, absent: Currency) -> Result<Amount, Ambiguity> {
    fen(&nested(fields, "amount")?, "refund", absent)
}

/// The original payment that a notification names.
pub(super) fn along(fields: &Fields<'_>, absent: Currency) -> Result<OriginalPayment, Ambiguity> {
    let amount = nested(fields, "amount")?;
    Ok(OriginalPayment {
        number: Some(needed(fields, "out_trade_no")?.into()),
        paid: Some(fen(&amount, "total", absent)?),
    })
}
