//! An aggregated-payment gateway.

pub mod seal;
