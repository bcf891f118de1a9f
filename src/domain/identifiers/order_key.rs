//! Under which names an order is asked for.

use crate::domain::identifiers::{
    AttemptId, InstitutionId, MerchantId, MerchantOrderNo, PageToken, PayOrderNo, RefundOrderNo,
    RefundRequestNo,
};

/// Names an order. No variant is without an owner: whoever asks must hold the merchant's name,
/// the institution's number or the page's secret (K3, C2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderKey {
    /// By our number.
    PayOrderNo(MerchantId, PayOrderNo),
    /// By the merchant's number.
    MerchantOrderNo(MerchantId, MerchantOrderNo),
    /// By what an institution knows.
    Attempt(InstitutionId, AttemptId),
    /// By what an institution knows of one of its refunds.
    Refund(InstitutionId, RefundOrderNo),
    /// By our number of one of its refunds.
    RefundOrderNo(MerchantId, RefundOrderNo),
    /// By the merchant's number of one of its refunds.
    MerchantRefundNo(MerchantId, RefundRequestNo),
    /// By the address of the payer's page.
    Page(PageToken),
}
