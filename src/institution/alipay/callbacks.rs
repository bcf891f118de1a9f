//! Notifications: forms, signed over their unescaped values, and how they are acknowledged.
//!
//! A notification about a refund is a hint only: its sum is a running total, and a full refund may
//! never be notified at all. There is no time window: a repeat changes nothing (C5).

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};

use crate::domain::amount::Amount;
use crate::domain::evidence::{Ambiguity, EvidenceSubject, Finding, OriginalPayment, Receipt};
use crate::domain::identifiers::{AttemptId, ReceiverId, RefundOrderNo};
use crate::domain::institutions::AccountRole;
use crate::institution::alipay::account::AlipayAccount;
use crate::institution::alipay::form::DecodedForm;
use crate::institution::alipay::parameters::{CHARSET, RSA2, SIGN, SIGN_TYPE, UTF_8, signed_text};
use crate::institution::alipay::payments::{AlipayFinding, number};
use crate::institution::alipay::values::{is_nothing, moment, yuan};
use crate::institution::{Acknowledgement, Unverified};

/// The only type of notification that is about a payment.
const TRADE: &str = "trade_status_sync";

/// A notification that the institution signed for this account.
pub(super) struct AlipayNotification {
    form: DecodedForm,
    /// The payment or refund that it is about.
    pub(super) about: EvidenceSubject,
    payment: AttemptId,
    is_hint: bool,
}

impl AlipayNotification {
    /// Verifies and reads a notification.
    ///
    /// # Errors
    /// [`Unverified`]: not signed for this account, or not about anything of ours.
    pub(super) fn read(account: &AlipayAccount, body: &[u8]) -> Result<Self, Unverified> {
        let form = DecodedForm::parse(body).map_err(|_| Unverified::Unverified("form"))?;
        let charset = form.get(CHARSET).unwrap_or(UTF_8);
        if !charset.eq_ignore_ascii_case(UTF_8) {
            return Err(Unverified::Unverified("charset"));
        }
        if form.get(SIGN_TYPE) != Some(RSA2) {
            return Err(Unverified::Unverified("sign_type"));
        }
        let text = signed_text(form.without(&[SIGN, SIGN_TYPE]));
        let sign = form.get(SIGN).unwrap_or_default();
        if !account.proves(&text, sign) {
            return Err(Unverified::Unverified("signature"));
        }
        if form.get("notify_type") != Some(TRADE) {
            return Err(Unverified::NamesNothing("notify_type"));
        }
        let payment = form.get("out_trade_no").map(AttemptId::parse);
        let payment = payment
            .and_then(Result::ok)
            .ok_or(Unverified::NamesNothing("names_no_attempt"))?;
        let is_hint = is_about_a_refund(&form);
        // A refund that was made elsewhere has another number: then its payment is asked about.
        let refund = form.get("out_biz_no").map(RefundOrderNo::parse);
        let about = match refund {
            Some(Ok(no)) if is_hint => EvidenceSubject::Refund(no),
            Some(Ok(_) | Err(_)) | None => EvidenceSubject::Attempt(payment.clone()),
        };
        Ok(Self {
            form,
            about,
            payment,
            is_hint,
        })
    }

    /// Whether it names the application of this account, and as the merchant's no other, unless the
    /// account acts for other merchants.
    pub(super) fn is_of(&self, account: &AlipayAccount) -> bool {
        let authorised = match account.role {
            AccountRole::Direct => self.form.get("auth_app_id"),
            AccountRole::Provider => None,
        };
        self.form.get("app_id") == Some(&*account.app_id)
            && authorised.is_none_or(|app| app == &*account.app_id)
    }

    /// The receiver that it names.
    pub(super) fn receiver(&self) -> Option<ReceiverId> {
        ReceiverId::parse(self.form.get("seller_id")?).ok()
    }

    /// The amount of the payment, if it is about one.
    pub(super) fn sum(&self) -> Option<Amount> {
        match self.about {
            EvidenceSubject::Attempt(_) => self.total().ok(),
            EvidenceSubject::Refund(_) => None,
        }
    }

    /// The payment that is refunded, if it is about a refund.
    pub(super) fn along(&self) -> OriginalPayment {
        match self.about {
            EvidenceSubject::Attempt(_) => OriginalPayment::default(),
            EvidenceSubject::Refund(_) => OriginalPayment {
                number: Some(self.payment.as_str().into()),
                paid: self.total().ok(),
            },
        }
    }

    /// What it proves. Without a receiver and a sum it could be about anything.
    pub(super) fn finding(&self) -> AlipayFinding {
        let status = self.form.get("trade_status").ok_or(Ambiguity::Unreadable)?;
        let amount = self.total()?;
        self.receiver().ok_or(Ambiguity::Unreadable)?;
        match status {
            "TRADE_SUCCESS" | "TRADE_FINISHED" | "TRADE_CLOSED" if self.is_hint => {
                Ok(Finding::Hint)
            }
            "TRADE_SUCCESS" | "TRADE_FINISHED" => {
                let no = self.form.get("trade_no").ok_or(Ambiguity::Unreadable)?;
                Ok(Finding::Succeeded(Receipt {
                    amount,
                    institution_no: Some(number(no)?.into()),
                    paid_at: moment(self.form.get("gmt_payment")),
                    fee: None,
                }))
            }
            // Paid once, and wholly refunded since.
            "TRADE_CLOSED" if self.form.get("gmt_payment").is_some() => Ok(Finding::Hint),
            "TRADE_CLOSED" => Ok(Finding::Closed),
            "WAIT_BUYER_PAY" => Ok(Finding::Accepted(None)),
            _ => Err(Ambiguity::UnlistedWord),
        }
    }

    fn total(&self) -> FormAmount {
        yuan(self.form.get("total_amount").ok_or(Ambiguity::Unreadable)?)
    }
}

type FormAmount = Result<Amount, Ambiguity>;

/// A payment and a partial refund of it have the same status.
fn is_about_a_refund(form: &DecodedForm) -> bool {
    let moved = form.get("refund_fee").is_some_and(|sum| !is_nothing(sum));
    moved || form.get("gmt_refund").is_some() || form.get("out_biz_no").is_some()
}

/// The reply: exactly seven characters, or the notification comes again, eight times in 25 hours.
pub(super) fn acknowledge(acknowledged: Acknowledgement) -> Response<Bytes> {
    let (status, text) = match acknowledged {
        // No repeat makes a contradiction true.
        Acknowledgement::Recorded | Acknowledgement::Quarantined => (StatusCode::OK, "success"),
        Acknowledgement::TryAgain => (StatusCode::SERVICE_UNAVAILABLE, "fail"),
        Acknowledgement::UnknownReference => (StatusCode::NOT_FOUND, "fail"),
        Acknowledgement::Unreadable => (StatusCode::BAD_REQUEST, "fail"),
        Acknowledgement::Unverified => (StatusCode::UNAUTHORIZED, "fail"),
    };
    let mut answer = Response::new(Bytes::from_static(text.as_bytes()));
    *answer.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain");
    answer.headers_mut().insert(CONTENT_TYPE, plain);
    answer
}
