//! An aggregated-payment gateway.

pub mod seal;
pub mod signature;
