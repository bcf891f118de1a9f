//! Money on its way back: asked for by merchants, brought on by workers, decided by people where
//! nobody else can.

pub(in crate::flow) mod chase_refunds;
pub mod decide_refund;
pub mod refund_order;
