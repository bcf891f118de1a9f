//! Money on its way back: asked for by merchants, brought on by workers, decided by people where
//! nobody else can.

pub mod decide_refund;
pub(in crate::flow) mod poll_refunds;
pub mod refund_order;
