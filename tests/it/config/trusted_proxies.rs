//! `[listen] trusted_proxies`: networks that would trust more than was meant are faults.

use super::*;

/// The committed configuration with this list in `[listen]`.
fn with_proxies(list: &str) -> ConfigFolder {
    let line = format!("drain_s = 30\ntrusted_proxies = {list}\n#");
    ConfigFolder::with("drain_s = 30 ", &line)
}

/// F1: networks of both families are read; without the list nobody is trusted.
#[test]
fn networks_of_both_families_are_read() {
    let read = |site: ConfigFolder| site.read().map_err(|f| f.to_string()).unwrap();
    let config = read(with_proxies(
        "[\"10.0.3.0/24\", \"192.0.2.7/32\", \"fd00:1::/64\"]",
    ));
    let written: Vec<_> = config
        .listen
        .trusted_proxies
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(written, ["10.0.3.0/24", "192.0.2.7/32", "fd00:1::/64"]);
    assert_eq!(
        config.snapshot.trusted_proxies,
        config.listen.trusted_proxies
    );
    assert!(
        read(ConfigFolder::fresh())
            .listen
            .trusted_proxies
            .is_empty()
    );
}

/// F1: each network that cannot be meant is a fault with its line and what to write instead.
#[test]
fn a_network_that_cannot_be_meant_is_a_fault() {
    for (list, expected, advice) in [
        (
            "[\"0.0.0.0/0\"]",
            "expected a network of /8 or narrower (IPv6: /7), found \"0.0.0.0/0\"",
            "whoever connects from here is believed about the address of every client",
        ),
        (
            "[\"::/0\"]",
            "(IPv6: /7), found \"::/0\"",
            "name the balancers' own network",
        ),
        (
            "[\"0.0.0.0/1\"]",
            "of /8 or narrower",
            "name the balancers' own network",
        ),
        (
            "[\"10.0.3.7/24\"]",
            "expected a network without host bits, found \"10.0.3.7/24\"",
            "write \"10.0.3.0/24\" for the network, or \"10.0.3.7/32\" for this address",
        ),
        (
            "[\"fd00::1/64\"]",
            "a network without host bits",
            "write \"fd00::/64\" for the network, or \"fd00::1/128\" for this address",
        ),
        (
            "[\"10.0.3.0/24\", \"10.0.3.0/24\"]",
            "expected each network once, found \"10.0.3.0/24\"",
            "remove one of the two",
        ),
        (
            "[\"::ffff:10.0.3.0/120\"]",
            "expected no IPv4-mapped network",
            "write \"10.0.3.0/24\"",
        ),
        (
            "[\"10.0.3.7\"]",
            "expected a network, ADDRESS/BITS",
            "\"10.0.3.0/24\"",
        ),
        (
            "[\"10.0.3.0/33\"]",
            "expected a network, ADDRESS/BITS",
            "\"10.0.3.0/24\"",
        ),
    ] {
        let fault = with_proxies(list).only_fault();
        assert!(fault.contains("[listen] trusted_proxies: "), "{fault}");
        assert!(
            fault.contains(expected) && fault.contains(advice),
            "{fault}"
        );
    }
    let two = with_proxies("[\n\"10.0.3.7/24\",\n\"0.0.0.0/0\",\n]");
    let text = fs::read_to_string(two.path("routes.toml")).unwrap();
    let faults = two.faults();
    assert_eq!(faults.len(), 2, "{faults:?}");
    for (fault, network) in faults.iter().zip(["10.0.3.7/24", "0.0.0.0/0"]) {
        let place = format!("routes.toml:{}: ", line_of(&text, network));
        assert!(fault.starts_with(&place), "{fault}");
    }
}

/// The number of networks is bounded: each new connection is compared with all.
#[test]
fn the_number_of_networks_is_bounded() {
    let list = |count: u32| {
        let networks = (0..count).map(|n| format!("\"10.0.{n}.0/24\""));
        format!("[{}]", networks.collect::<Vec<_>>().join(", "))
    };
    assert!(with_proxies(&list(64)).read().is_ok());
    let fault = with_proxies(&list(65)).only_fault();
    assert!(
        fault.contains("expected at most 64 networks, found 65"),
        "{fault}"
    );
}

/// `paymux check` names the networks, because connections from there are otherwise refused.
#[test]
fn the_check_names_the_networks() {
    let site = with_proxies("[\"10.0.3.0/24\", \"fd00:1::/64\"]");
    let mut out = Vec::new();
    check::check(&mut out, &site.path("routes.toml"), now()).unwrap();
    let text = String::from_utf8(out).unwrap();
    let line =
        "proxies     10.0.3.0/24, fd00:1::/64; each connection begins with a PROXY v2 header\n";
    assert!(text.contains(line), "{text}");
}
