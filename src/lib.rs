#![doc = include_str!("../ARCHITECTURE.md")]

pub mod api;
pub mod command;
pub mod config;
pub mod domain;
pub mod flow;
pub mod institution;
pub mod seal;
pub mod signature;
pub mod store;
pub mod world;
