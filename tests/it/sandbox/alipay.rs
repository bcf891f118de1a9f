//! Alipay's gateway in the sandbox keeps the published wire format and judges by it: over real
//! sockets on loopback, with a small signing client and the vectors of the wire format.

mod admission;
mod bills;
mod client;
mod faults;
mod inbox;
mod notices;
mod payments;
mod refunding;
