//! The fields of this gateway's interface that may be shown.

/// Values under these names are shown unchanged: nothing personal, and nothing usable to pay (D1,
/// D5).
#[rustfmt::skip]
pub const INTERFACE_FIELDS_SHOWN: &[&str] = &[
    "attempt", "attemptStatus", "available", "businessType", "capabilities", "closeTime",
    "currency", "default", "eventId", "eventTime", "eventType", "expected", "expireTime",
    "explainInstitutions", "fee", "field", "found", "institutionId", "institutionOrderNo",
    "institutionRefundNo", "institutions", "interface", "merchantId", "merchantOrderNo",
    "merchantRefundNo", "mode", "modes", "noticeResult", "order", "orderAmount", "orderDate",
    "orderRefundStatus", "orderStatus", "payOrderNo", "payTime", "paymentDate", "paymentTime",
    "refundAmount", "refundCause", "refundOrderNo", "refundStatus", "refundTime",
    "refundedAmount", "refunds", "result", "retryAfter", "sequence", "status", "traceId",
    "transactionType", "type", "version",
];
