//! The addresses of the demonstration, all on loopback: friendly ones for people, free ones for
//! programs, which may run several demonstrations at a time.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use anyhow::Context;

use crate::world::{Entropy, SystemEntropy};

/// Free ports are looked for here: below the range from which systems take ports for outgoing
/// connections, so that nobody takes one between finding and using it.
const FIRST: u16 = 10_000;
const SPAN: u16 = 20_000;

/// Tries to find one free port.
const TRIES_MAX: u32 = 200;

/// Who listens where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The gateway, for merchants, callbacks and payers.
    pub public: u16,
    /// The gateway, for operations.
    pub operations: u16,
    /// The first merchant.
    pub tea: u16,
    /// The second merchant.
    pub books: u16,
    /// The institutions.
    pub institutions: [u16; 3],
}

impl Ports {
    /// The ports that the documents name.
    pub const FRIENDLY: Self = Self {
        public: 8443,
        operations: 9443,
        tea: 7443,
        books: 7447,
        institutions: [7444, 7445, 7446],
    };

    /// Seven ports in a row, of which the gateway takes the first.
    pub fn from_base(base: u16) -> Self {
        let port = |behind| base.saturating_add(behind);
        Self {
            public: port(0),
            operations: port(1),
            tea: port(2),
            institutions: [port(3), port(4), port(5)],
            books: port(6),
        }
    }

    /// Seven ports that nobody listens on.
    ///
    /// # Errors
    /// None was found.
    pub fn free() -> anyhow::Result<Self> {
        // Held until all are found, so that none is found twice.
        let mut held = Vec::new();
        let mut find = || {
            let found = (0..TRIES_MAX).find_map(|_| TcpListener::bind(loopback(drawn())).ok());
            let found = found.context("no free port on 127.0.0.1")?;
            let port = found.local_addr()?.port();
            held.push(found);
            anyhow::Ok(port)
        };
        Ok(Self {
            public: find()?,
            operations: find()?,
            tea: find()?,
            books: find()?,
            institutions: [find()?, find()?, find()?],
        })
    }

    /// Says which port is taken before anything is started, and how to choose others.
    ///
    /// # Errors
    /// One is taken.
    pub fn check(&self) -> anyhow::Result<()> {
        let [first, second, third] = self.institutions;
        for port in [
            self.public,
            self.operations,
            self.tea,
            self.books,
            first,
            second,
            third,
        ] {
            TcpListener::bind(loopback(port)).with_context(|| {
                format!(
                    "port {port} is taken; is another paymux running? Choose others, seven in a \
                     row: paymux demo --port-base 18443"
                )
            })?;
        }
        Ok(())
    }
}

/// An address that nobody beyond this machine reaches.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn drawn() -> u16 {
    let entropy: &dyn Entropy = &SystemEntropy;
    let drawn = u16::from_be_bytes(entropy.draw());
    FIRST.saturating_add(drawn % SPAN)
}
