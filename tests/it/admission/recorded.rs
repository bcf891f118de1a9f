//! Refused callers are in the audit log, aggregated by caller and bounded in number, and log lines
//! about unauthenticated callers are sampled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use paymux::api::Peer;
use paymux::domain::audit::AuditEntry;
use paymux::domain::identifiers::{MerchantId, Timestamp};
use paymux::domain::merchant::Admission;
use paymux::flow::admit_request::refused_callers::{
    LINES_PER_SECOND_MAX, ROWS_MAX, RefusedCallers,
};
use serde_json::json;

use super::{ONE, PLACE, with};
use crate::world::enrolment::{order_fields, shown, snapshot, unsigned};
use crate::world::test_gateway::{PEER, TestGateway, now};

fn written(gateway: &TestGateway) -> Vec<AuditEntry> {
    let at = gateway.api.now();
    now(gateway.api.refused_callers.write(&*gateway.memory, at)).unwrap();
    let audit_entries = gateway.durable_state().audit_entries;
    let refused = audit_entries
        .into_iter()
        .map(|(audit_entry, _)| audit_entry);
    refused
        .filter(|audit_entry| audit_entry.action == "authentication.refuse")
        .collect()
}

fn from(address: impl Into<IpAddr>) -> Peer {
    Peer {
        address: address.into(),
        ..PEER
    }
}

fn check_rate(gateway: &TestGateway, peer: Peer) {
    let body = order_fields("M1", "T1").to_string();
    let reply = gateway.send_from(unsigned(PLACE, body), peer);
    assert_eq!(reply.result, "signature_unusable");
}

/// L4, L5: failed authentication is recorded once for each caller and minute with its count, and
/// identifies the caller only by a digest; all beyond the bound share a row.
#[test]
fn failed_authentication_is_recorded_within_a_bound() {
    let gateway = TestGateway::new();
    check_rate(&gateway, from(Ipv4Addr::new(203, 0, 113, 9)));
    check_rate(&gateway, from(Ipv4Addr::new(203, 0, 113, 9)));
    let rows = written(&gateway);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0].object, "A3.1");
    assert_eq!(rows[0].result, "signature_unusable times=2");
    assert!(rows[0].actor.starts_with("caller:address:"), "{rows:?}");
    assert!(!rows[0].actor.contains("203"), "{rows:?}");
    assert_eq!(
        written(&gateway).len(),
        1,
        "written entries are not written again"
    );

    let peer = Peer {
        certificate: Some(shown("nobody", i64::MAX)),
        ..PEER
    };
    let each = u64::try_from(ROWS_MAX).unwrap() + 5;
    for n in 0..each {
        let mut certificate = shown("nobody", i64::MAX);
        certificate.digest[..8].copy_from_slice(&n.to_be_bytes());
        check_rate(
            &gateway,
            Peer {
                certificate: Some(certificate),
                ..peer
            },
        );
    }
    let rows = written(&gateway);
    assert_eq!(rows.len(), 1 + ROWS_MAX + 1, "{rows:?}");
    assert!(rows[1].actor.starts_with("caller:certificate:"));
    assert_eq!(rows.last().unwrap().result, "and others times=5");
}

/// L5, R-4-3: a known merchant that is not admitted is recorded by its key.
#[test]
fn a_refused_merchant_is_recorded_by_its_key() {
    let mut enrolled = snapshot(&ONE);
    let m1 = MerchantId::parse("M1").unwrap();
    enrolled.routing.merchants.get_mut(&m1).unwrap().admission = Admission::Suspended;
    let gateway = TestGateway::enrolled(&ONE, enrolled);
    assert_eq!(
        gateway.send(with(&gateway, json!({}))).result,
        "merchant_not_admitted"
    );
    let rows = written(&gateway);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].actor, "caller:key:M1-key");
    assert_eq!(rows[0].result, "merchant_not_admitted times=1");
}

/// L4: addresses of one household's network count as one caller.
#[test]
fn addresses_of_one_network_are_one_caller() {
    let first = |address: &[u8]| {
        let mut digest = [0; 32];
        digest[..address.len().min(8)].copy_from_slice(&address[..address.len().min(8)]);
        digest
    };
    let mut gateway = TestGateway::new();
    gateway.api.refused_callers = Arc::new(RefusedCallers::new(Box::new(first)));
    for last in [1, 2] {
        check_rate(
            &gateway,
            from(Ipv6Addr::new(0x2001, 0xdb8, 0, 7, 0, 0, 0, last)),
        );
    }
    check_rate(
        &gateway,
        from(Ipv6Addr::new(0x2001, 0xdb8, 0, 8, 0, 0, 0, 1)),
    );
    let rows = written(&gateway);
    assert_eq!(rows.len(), 2, "{rows:?}");
}

/// Lines about unauthenticated callers are limited in each second, and the omitted ones are
/// counted.
#[test]
fn lines_about_unauthenticated_callers_are_sampled() {
    let callers = RefusedCallers::new(Box::new(|_| [0; 32]));
    for second in [5, 6] {
        let at = Timestamp::from_s(second);
        let logged = (0..1_000).filter(|_| callers.may_log(at)).count();
        assert_eq!(u32::try_from(logged).unwrap(), LINES_PER_SECOND_MAX);
    }
    let left_out = 2 * (1_000 - u64::from(LINES_PER_SECOND_MAX));
    assert_eq!((callers.suppressed(), callers.suppressed()), (left_out, 0));
}
