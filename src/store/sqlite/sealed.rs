//! The sealed columns, their format and their bindings (D2). Their content is never written
//! unsealed.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::domain::evidence::{PaymentAction, PaymentActionKind};
use crate::domain::identifiers::{Malformed, MerchantId, PayOrderNo, Timestamp, hex};
use crate::domain::order::Order;
use crate::domain::personal::MobileNo;
use crate::domain::personal::payer_context::{
    PayerAppId, PayerDetails, PayerDevice, PayerIdentity, PayerIp, PayerOpenId, PayerWallet,
};
use crate::seal::{Seal, SealBinding, SealFault, Sealed};
use crate::store::StoreError;
use crate::store::sqlite::SqliteFault;

/// Personal data and free text of an order, sealed together.
#[derive(Serialize, Deserialize)]
pub(super) struct SealedOrderFields<'a> {
    pub(super) mobile: Cow<'a, str>,
    pub(super) merchant_name: Cow<'a, str>,
    pub(super) goods_no: Option<Cow<'a, str>>,
    pub(super) goods_name: Option<Cow<'a, str>>,
    pub(super) goods_description: Option<Cow<'a, str>>,
    pub(super) attach: Option<Cow<'a, str>>,
    pub(super) page_secret: Cow<'a, str>,
    pub(super) return_url: Cow<'a, str>,
    pub(super) notice_url: Option<Cow<'a, str>>,
}

impl<'a> SealedOrderFields<'a> {
    pub(super) fn of(order: &'a Order) -> Self {
        let terms = &order.terms;
        Self {
            mobile: terms.mobile.expose().into(),
            merchant_name: terms.merchant_name.as_ref().into(),
            goods_no: terms.goods_no.as_deref().map(Cow::from),
            goods_name: terms.goods_name.as_deref().map(Cow::from),
            goods_description: terms.goods_description.as_deref().map(Cow::from),
            attach: terms.attach.as_deref().map(Cow::from),
            page_secret: hex(&order.page_secret).into(),
            return_url: terms.return_url.as_ref().into(),
            notice_url: order.notice_url.as_deref().map(Cow::from),
        }
    }

    pub(super) fn place(order: &PayOrderNo) -> SealBinding<'_> {
        let (table, row, column) = ("orders", order.as_str(), "sealed");
        SealBinding { table, row, column }
    }
}

/// Name and value of a form's field.
type FormField<'a> = (Cow<'a, str>, Cow<'a, str>);

/// A payment action, sealed because its link lets the holder pay.
#[derive(Serialize, Deserialize)]
pub(super) struct SealedPaymentAction<'a> {
    pub(super) link: Option<Cow<'a, str>>,
    pub(super) sdk: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<Cow<'a, str>>,
    /// The address of a form, and its names and values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) form: Option<(Cow<'a, str>, Vec<FormField<'a>>)>,
    pub(super) expires: Option<i64>,
}

impl<'a> SealedPaymentAction<'a> {
    pub(super) fn of(payment_action: &'a PaymentAction) -> Self {
        let mut sealed = Self {
            link: None,
            sdk: None,
            code: None,
            form: None,
            expires: payment_action.expires.map(Timestamp::ms),
        };
        match &payment_action.way {
            PaymentActionKind::Redirect(link) => sealed.link = Some(link.as_ref().into()),
            PaymentActionKind::SdkParameters(sdk) => sealed.sdk = Some(sdk.as_ref().into()),
            PaymentActionKind::QrCode(code) => sealed.code = Some(code.as_ref().into()),
            PaymentActionKind::Form(form) => {
                let fields = form.fields.iter();
                let fields = fields.map(|(name, value)| {
                    let (name, value) = (name.as_ref(), value.as_ref());
                    (Cow::from(name), Cow::from(value))
                });
                sealed.form = Some((form.url.as_ref().into(), fields.collect()));
            }
        }
        sealed
    }

    pub(super) fn place(attempt: &str) -> SealBinding<'_> {
        let (table, row, column) = ("attempts", attempt, "handover");
        SealBinding { table, row, column }
    }
}

/// What is known of an attempt's payer, sealed because it is personal.
#[derive(Serialize, Deserialize)]
pub(super) struct SealedPayerDetails<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ip: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) device: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) wallet: Option<Cow<'a, str>>,
    /// The payer's id in an application, and the application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<[Cow<'a, str>; 2]>,
}

impl<'a> SealedPayerDetails<'a> {
    /// `None` if nothing is known, so that nothing is stored.
    pub(super) fn of(payer: &'a PayerDetails) -> Option<Self> {
        let identity = payer.identity.as_ref();
        (*payer != PayerDetails::UNKNOWN).then(|| Self {
            ip: payer.ip.map(|ip| ip.expose().into()),
            device: payer.device.map(|device| device.name().into()),
            wallet: payer.wallet.map(|wallet| wallet.name().into()),
            identity: identity.map(|one| [one.open_id.expose().into(), one.app.as_str().into()]),
        })
    }

    /// The values, if all are well-formed.
    pub(super) fn opened(&self) -> Result<PayerDetails, Malformed> {
        let [ip, device, wallet] = [&self.ip, &self.device, &self.wallet];
        let identity = self.identity.as_ref().map(|[open_id, app]| {
            Ok(PayerIdentity {
                open_id: PayerOpenId::parse(open_id)?,
                app: PayerAppId::parse(app)?,
            })
        });
        Ok(PayerDetails {
            ip: ip.as_deref().map(PayerIp::parse).transpose()?,
            device: device.as_deref().map(PayerDevice::parse).transpose()?,
            wallet: wallet.as_deref().map(PayerWallet::parse).transpose()?,
            identity: identity.transpose()?,
        })
    }

    pub(super) fn place(attempt: &str) -> SealBinding<'_> {
        let (table, row, column) = ("attempts", attempt, "payer_sealed");
        SealBinding { table, row, column }
    }
}

/// The binding of an event's body.
pub(super) fn event_place(event: &str) -> SealBinding<'_> {
    let (table, row, column) = ("events", event, "sealed");
    SealBinding { table, row, column }
}

/// The binding of an event's target URL.
pub(super) fn target_place(event: &str) -> SealBinding<'_> {
    let (table, row, column) = ("events", event, "target");
    SealBinding { table, row, column }
}

/// The binding of an institution's reason text for an attempt.
pub(super) fn attempt_reason_place(attempt: &str) -> SealBinding<'_> {
    let (table, row, column) = ("attempts", attempt, "reason_sealed");
    SealBinding { table, row, column }
}

/// The binding of a refund's sealed column: the merchant's texts (`sealed`), the institution's
/// reason (`reason_sealed`), the merchant's notification URL (`notice_sealed`).
pub(super) fn refund_place<'a>(refund: &'a str, column: &'a str) -> SealBinding<'a> {
    let (table, row) = ("refunds", refund);
    SealBinding { table, row, column }
}

/// Seals an optional text.
pub(super) fn seal_maybe(
    seal: &Seal,
    place: SealBinding<'_>,
    text: Option<&str>,
) -> Result<Option<Vec<u8>>, StoreError> {
    let sealed = text.map(|text| seal.seal(place, text.as_bytes()));
    let sealed = sealed.transpose().map_err(not_sealed)?;
    Ok(sealed.map(Sealed::into_bytes))
}

/// Opens an optional text.
pub(super) fn open_maybe(
    seal: &Seal,
    place: SealBinding<'_>,
    sealed: Option<&[u8]>,
) -> Result<Option<Box<str>>, SqliteFault> {
    let Some(sealed) = sealed else {
        return Ok(None);
    };
    let text = String::from_utf8(seal.open(place, sealed)?);
    let text = text.map_err(|_| SqliteFault::Corrupt("a sealed text is malformed".into()))?;
    Ok(Some(text.into()))
}

/// A digest of a payer at one merchant; the same payer has another digest at another merchant.
pub(super) fn payer_digest(seal: &Seal, merchant: &MerchantId, payer: &MobileNo) -> [u8; 32] {
    let value = format!("{merchant} {}", payer.expose());
    seal.digest("payer", value.as_bytes())
}

/// Serialises and seals a value.
pub(super) fn seal_text(
    seal: &Seal,
    place: SealBinding<'_>,
    what: &impl Serialize,
) -> Result<Vec<u8>, StoreError> {
    let plain =
        serde_json::to_vec(what).map_err(|error| StoreError::Unavailable(error.to_string()))?;
    Ok(seal.seal(place, &plain).map_err(not_sealed)?.into_bytes())
}

/// Converts a sealing error; nothing was written.
pub(super) fn not_sealed(fault: SealFault) -> StoreError {
    StoreError::Unavailable(fault.to_string())
}
