//! Reads the fields of a request's body once and strictly (Q10), into types that cannot be wrong. No field
//! is read before the caller is authenticated.

use crate::domain::fields::Fields;
use crate::domain::identifiers::{
    CalendarDay, InstitutionId, Malformed, MerchantId, MerchantOrderNo, PayOrderNo,
};
use crate::domain::institutions::Mode;
use crate::domain::personal::MobileNo;
use crate::domain::personal::payer_context::{
    PayerAppId, PayerDetails, PayerDevice, PayerIdentity, PayerIp, PayerOpenId, PayerWallet,
};
use crate::domain::personal::secret_text::holds_secret;
use crate::domain::refusal::Refusal;
use crate::flow::read_order::OrderReference;
use crate::store::OrderKey;

/// A request's fields, and the merchant that signed them.
pub struct AuthenticatedFields<'a> {
    fields: &'a Fields<'a>,
    merchant: &'a MerchantId,
}

impl<'a> AuthenticatedFields<'a> {
    /// Checks the names, and that `merchantId` is the caller (Q4).
    ///
    /// # Errors
    /// A field this interface does not have; `merchantId` missing, malformed, or another merchant's.
    pub fn of(
        fields: &'a Fields<'a>,
        merchant: &'a MerchantId,
        allowed: &[&str],
    ) -> Result<Self, Refusal> {
        let unknown = fields.names().find(|name| !allowed.contains(name));
        if let Some(name) = unknown {
            let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
            return Err(Refusal::FieldUnknown(shown.into()));
        }
        let request = Self { fields, merchant };
        let named = request.required("merchantId", MerchantId::parse)?;
        if named == *merchant {
            Ok(request)
        } else {
            Err(Refusal::MerchantForeign)
        }
    }

    /// The caller.
    pub fn merchant(&self) -> &MerchantId {
        self.merchant
    }

    /// A required string, read into its type.
    pub fn required<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, Malformed>,
    ) -> Result<T, Refusal> {
        self.optional(name, parse)?
            .ok_or(Refusal::FieldMissing(name))
    }

    /// An optional string, read into its type.
    pub fn optional<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Refusal> {
        let Some(text) = self.fields.text(name) else {
            return Ok(None);
        };
        text.and_then(parse)
            .map(Some)
            .map_err(Refusal::malformed(name))
    }

    /// Free text, which must not contain a payer's secret (R-6.1.4-1).
    pub fn free_text(
        &self,
        name: &'static str,
        chars_max: usize,
    ) -> Result<Option<Box<str>>, Refusal> {
        let read = self.optional(name, text(chars_max))?;
        if read.as_deref().is_some_and(holds_secret) {
            return Err(Refusal::SecretInText(name));
        }
        Ok(read)
    }

    /// A string or number, exactly as it was written.
    pub fn scalar(&self, name: &'static str) -> Result<Option<&str>, Refusal> {
        self.fields
            .scalar(name)
            .transpose()
            .map_err(Refusal::malformed(name))
    }

    /// `true` or `false`; absent is false.
    pub fn flag(&self, name: &'static str) -> Result<bool, Refusal> {
        let flag = self
            .fields
            .flag(name)
            .transpose()
            .map_err(Refusal::malformed(name))?;
        Ok(flag.unwrap_or(false))
    }

    /// The payer's number: string or JSON number (G-1).
    pub fn mobile(&self) -> Result<Option<MobileNo>, Refusal> {
        let Some(text) = self.scalar("mobileNo")? else {
            return Ok(None);
        };
        MobileNo::parse(text)
            .map(Some)
            .map_err(Refusal::malformed("mobileNo"))
    }

    /// The named institution, and the mode.
    pub fn institution(&self) -> Result<(Option<InstitutionId>, Option<Mode>), Refusal> {
        let institution = self.optional("institutionId", InstitutionId::parse)?;
        Ok((institution, self.optional("mode", mode)?))
    }

    /// What the merchant knows of the payer's surroundings.
    pub fn payer(&self) -> Result<PayerDetails, Refusal> {
        let open_id = self.optional("payerOpenId", PayerOpenId::parse)?;
        let app = self.optional("payerAppId", PayerAppId::parse)?;
        let identity = match (open_id, app) {
            (Some(open_id), Some(app)) => Some(PayerIdentity { open_id, app }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return Err(Refusal::FieldsDisagree(
                    "payerOpenId and payerAppId belong together; send both or neither",
                ));
            }
        };
        Ok(PayerDetails {
            ip: self.optional("payerClientIp", PayerIp::parse)?,
            device: self.optional("payerDevice", PayerDevice::parse)?,
            wallet: self.optional("payerWallet", PayerWallet::parse)?,
            identity,
        })
    }

    /// The order reference: `payOrderNo` or `merchantOrderNo`; any other field of A3.2 that is
    /// given must match (`docs/openapi.yaml`).
    pub fn order(&self) -> Result<OrderReference, Refusal> {
        let pay_order_no = self.optional("payOrderNo", PayOrderNo::parse);
        let pay_order_no = match pay_order_no {
            Err(Refusal::FieldMalformed { .. }) => return Err(Refusal::OrderUnknown),
            read => read?,
        };
        let merchant_order_no = self.optional("merchantOrderNo", MerchantOrderNo::parse)?;
        let merchant = self.merchant.clone();
        let key = match (&pay_order_no, &merchant_order_no) {
            (Some(no), _) => OrderKey::PayOrderNo(merchant, no.clone()),
            (None, Some(no)) => OrderKey::MerchantOrderNo(merchant, no.clone()),
            (None, None) => return Err(Refusal::NeitherField("payOrderNo", "merchantOrderNo")),
        };
        Ok(OrderReference {
            key,
            pay_order_no,
            merchant_order_no,
            create_date: self.optional("createDate", CalendarDay::parse)?,
            mobile: self.mobile()?,
        })
    }
}

/// The fields of [`AuthenticatedFields::payer`].
pub const PAYER_FIELDS: [&str; 5] = [
    "payerClientIp",
    "payerDevice",
    "payerWallet",
    "payerOpenId",
    "payerAppId",
];

/// The fields that name an order.
pub const ORDER_KEY_FIELDS: [&str; 5] = [
    "payOrderNo",
    "createDate",
    "mobileNo",
    "merchantOrderNo",
    "merchantId",
];

fn mode(name: &str) -> Result<Mode, Malformed> {
    Mode::ALL
        .into_iter()
        .find(|mode| mode.name() == name)
        .ok_or(Malformed {
            expected: "one of WEBVIEW NATIVE",
        })
}

/// Text of 1 to so many characters. Control characters were refused before.
pub fn text(chars_max: usize) -> impl Fn(&str) -> Result<Box<str>, Malformed> {
    move |text| {
        let fits = !text.trim().is_empty() && text.chars().count() <= chars_max;
        if fits {
            Ok(text.into())
        } else {
            Err(Malformed {
                expected: "text, not empty, not too long",
            })
        }
    }
}
