//! Lookup keys of an order.

use crate::domain::identifiers::{
    AttemptId, InstitutionId, MerchantId, MerchantOrderNo, PageToken, PayOrderNo, RefundOrderNo,
    RefundRequestNo,
};

/// A lookup key. Every variant includes its owner: the caller must know the merchant, the
/// institution's number or the page's secret (K3, C2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderKey {
    /// By our number.
    PayOrderNo(MerchantId, PayOrderNo),
    /// By the merchant's number.
    MerchantOrderNo(MerchantId, MerchantOrderNo),
    /// By the attempt number at an institution.
    Attempt(InstitutionId, AttemptId),
    /// By the refund number at an institution.
    Refund(InstitutionId, RefundOrderNo),
    /// By our number of one of its refunds.
    RefundOrderNo(MerchantId, RefundOrderNo),
    /// By the merchant's number of one of its refunds.
    MerchantRefundNo(MerchantId, RefundRequestNo),
    /// By the token of its payment page.
    Page(PageToken),
}
