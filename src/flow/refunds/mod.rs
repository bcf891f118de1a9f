//! Refunds: requested by merchants, sent and polled by workers, decided in manual review where no
//! evidence can be had.

pub mod decide_refund;
pub(in crate::flow) mod poll_refunds;
pub mod refund_order;
