//! The demonstration's ports, all on loopback: well-known ones for interactive use, free ones for
//! tests and scripts, which may run several demonstrations at a time.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use anyhow::Context;

use crate::world::{Entropy, SystemEntropy};

/// Free ports are chosen below the ephemeral port range, so that no outgoing connection takes one
/// before it is used.
const FIRST: u16 = 10_000;
const SPAN: u16 = 20_000;

/// Attempts to find one free port.
const TRIES_MAX: u32 = 200;

/// The port of each party.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The gateway, for merchants, callbacks and payers.
    pub public: u16,
    /// The gateway's operations endpoint.
    pub operations: u16,
    /// The first merchant.
    pub tea: u16,
    /// The second merchant.
    pub books: u16,
    /// The institutions.
    pub institutions: [u16; 3],
}

impl Ports {
    /// The ports used in the documentation.
    pub const FRIENDLY: Self = Self {
        public: 8443,
        operations: 9443,
        tea: 7443,
        books: 7447,
        institutions: [7444, 7445, 7446],
    };

    /// Seven consecutive ports; the first is the gateway's.
    pub fn from_base(base: u16) -> Self {
        let port = |offset| base.saturating_add(offset);
        Self {
            public: port(0),
            operations: port(1),
            tea: port(2),
            institutions: [port(3), port(4), port(5)],
            books: port(6),
        }
    }

    /// Seven free ports.
    ///
    /// # Errors
    /// No free port was found.
    pub fn free() -> anyhow::Result<Self> {
        // Kept bound until all are found, so that none is found twice.
        let mut bound = Vec::new();
        let mut find = || {
            let found = (0..TRIES_MAX).find_map(|_| TcpListener::bind(loopback(random())).ok());
            let found = found.context("no free port on 127.0.0.1")?;
            let port = found.local_addr()?.port();
            bound.push(found);
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

    /// Checks that every port is free, before anything is started.
    ///
    /// # Errors
    /// A port is in use; the message names it, and says how to choose others.
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
                    "port {port} is in use; is another paymux running? Choose seven other \
                     consecutive ports with: paymux demo --port-base 18443"
                )
            })?;
        }
        Ok(())
    }
}

/// An address reachable only from this machine.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn random() -> u16 {
    let entropy: &dyn Entropy = &SystemEntropy;
    let number = u16::from_be_bytes(entropy.draw());
    FIRST.saturating_add(number % SPAN)
}
