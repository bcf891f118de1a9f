//! What the gateway does, a file for each thing; each is read from its first line to its last.
//!
//! Flows hold no state and never wait for time: workers tell them what time it is.

pub mod register;
