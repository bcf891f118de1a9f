//! Which institutions a payer may use: every reason and their order, one judgement on every
//! endpoint, and the order of the list.

mod circuit_breaker;
mod half_open;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use paymux::domain::amount::{Amount, CNY, Currency};
use paymux::domain::identifiers::{InstitutionId, MerchantId, Timestamp};
use paymux::domain::institutions::{
    AmountRange, CallEnd, CallPurpose, Health, IneligibleReason, Mode, OfferQuery, PayerTelling,
    Payers, RoutingTable, TransactionType,
};
use paymux::domain::merchant::Admission;
use paymux::domain::personal::MobileNo;
use paymux::domain::personal::payer_context::{PayerDetail, PayerDetails, PayerWallet};
use paymux::flow::configuration_snapshot::ConfigurationSnapshot;
use paymux::health::HealthTracker;
use paymux::world::Clock;
use serde_json::json;

use crate::tidy::tree;
use crate::world::clock::START_MS;
use crate::world::enrolment::{snapshot, up_to};
use crate::world::fake_institution::FakeInstitutionAbility;
use crate::world::random::SeededRandom;
use crate::world::test_gateway::{TestGateway, TestReply, naming};

const THREE: [(&str, FakeInstitutionAbility); 3] = [
    ("bank", FakeInstitutionAbility::ALL),
    ("purse", FakeInstitutionAbility::ALL),
    ("other", FakeInstitutionAbility::ALL),
];

fn id(name: &str) -> InstitutionId {
    InstitutionId::parse(name).unwrap()
}

/// Reasons that a list does not know yet, because the payer's surroundings follow with the choice.
const OF_SURROUNDINGS: [IneligibleReason; 2] = [
    IneligibleReason::NotInThisWallet,
    IneligibleReason::PayerContextMissing,
];

const IN_NO_WALLET: PayerDetails = PayerDetails {
    wallet: Some(PayerWallet::None),
    ..PayerDetails::UNKNOWN
};

/// 12.30 at noon in Shanghai, as in the tests' orders.
fn wanted<'a>(merchant: &'a MerchantId, payer: &'a MobileNo) -> OfferQuery<'a> {
    OfferQuery {
        merchant,
        payer,
        amount: Amount::parse("12.30", CNY).unwrap(),
        transaction_type: TransactionType::PasswordPay,
        mode: None,
        surroundings: &IN_NO_WALLET,
        telling: PayerTelling::Complete,
        expires: Timestamp::from_ms(START_MS + 900_000),
        now: Timestamp::from_ms(START_MS),
    }
}

/// Makes a reason apply to one institution. Health is not part of an enrolment.
fn bring_about(reason: IneligibleReason, name: &str, routing: &mut RoutingTable) {
    let (m1, bank) = (MerchantId::parse("M1").unwrap(), id(name));
    let merchant = routing.merchants.get_mut(&m1).unwrap();
    let institution = routing.institutions.get_mut(&bank).unwrap();
    let key = (m1, bank.clone());
    let product = &mut institution.facts.products[0];
    let mut contract = routing.contracts.get_mut(&key);
    let mut route = routing
        .routes
        .iter_mut()
        .find(|route| route.institution == bank);
    match (reason, &mut contract, &mut route) {
        (IneligibleReason::MerchantNotAdmitted, ..) => merchant.admission = Admission::Suspended,
        (IneligibleReason::NotContracted, ..) => drop(routing.contracts.remove(&key)),
        (IneligibleReason::InstitutionNotAdmitted, ..) => {
            institution.admission = Admission::Applied;
        }
        (IneligibleReason::ModeNotOffered, ..) => institution.modes = vec![Mode::Chatbot],
        (IneligibleReason::TransactionTypeNotOffered, Some(contract), _) => {
            contract.transaction_types = vec![TransactionType::ScanPay];
        }
        (IneligibleReason::CurrencyNotOffered, ..) => {
            institution.currencies = vec![Currency::parse("HKD").unwrap()];
        }
        (IneligibleReason::PayerNotServed, Some(contract), _) => {
            contract.payers.except = vec!["13".into()];
        }
        (IneligibleReason::AmountBelowLimit, Some(contract), _) => {
            contract.sums[0].minor_min = 100_000;
        }
        (IneligibleReason::AmountAboveLimit, _, Some(route)) => route.sums = vec![up_to(1_000)],
        (IneligibleReason::NotInThisWallet, ..) => product.wallets = &[PayerWallet::WeChat],
        (IneligibleReason::PayerContextMissing, ..) => product.wants = &[PayerDetail::OpenId],
        (IneligibleReason::OrderExpiresSoon, ..) => product.least_left = Duration::from_hours(1),
        (IneligibleReason::ContractStopped, Some(contract), _) => contract.stopped = true,
        (IneligibleReason::RouteStopped, _, Some(route)) => route.stopped = true,
        (IneligibleReason::InstitutionDown, ..) => institution.stopped = true,
        (IneligibleReason::OutsideHours, Some(contract), _) => contract.hours = Some((1_320, 360)),
        (IneligibleReason::InstitutionUnhealthy, ..) | (_, None, _) | (_, _, None) => (),
    }
}

fn health_if(reasons: &[IneligibleReason]) -> Health {
    if reasons.contains(&IneligibleReason::InstitutionUnhealthy) {
        Health::Open
    } else {
        Health::Healthy
    }
}

/// R-4-3, R-A2.4.1-3a: each reason is found, and of two that apply the first in the list.
#[test]
fn of_two_reasons_the_first_is_returned() {
    let (m1, payer) = (
        MerchantId::parse("M1").unwrap(),
        MobileNo::parse("13812345678").unwrap(),
    );
    let wanted = wanted(&m1, &payer);
    let judged = |reasons: &[IneligibleReason]| {
        let mut routing = snapshot(&THREE).routing;
        for reason in reasons {
            bring_about(*reason, "bank", &mut routing);
        }
        let bank = &routing.institutions[&id("bank")];
        routing.ineligible(bank, &wanted, health_if(reasons))
    };
    assert_eq!(judged(&[]), None);
    for (place, first) in IneligibleReason::ALL.into_iter().enumerate() {
        assert_eq!(judged(&[first]), Some(first));
        for second in &IneligibleReason::ALL[place..] {
            assert_eq!(judged(&[*second, first]), Some(first), "{second:?}");
        }
    }
    assert!(
        IneligibleReason::ALL.is_sorted(),
        "the list is in its own order"
    );
}

/// R-A2.4.1-3a: every reason is documented, in the order in which they are checked.
#[test]
fn every_reason_is_documented_in_its_order() {
    let page = tree::read("docs/reasons.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let words: Vec<&str> = rows
        .filter_map(|row| row.split('`').next())
        .filter(|word| *word != "reason")
        .collect();
    assert_eq!(words, IneligibleReason::ALL.map(IneligibleReason::word));
}

/// Prefixes: only payers that are included, never those excluded, and an exclusion wins.
#[test]
fn payers_are_matched_by_their_first_digits() {
    let payer = |text: &str| MobileNo::parse(text).unwrap();
    let list = |prefixes: &[&str]| prefixes.iter().map(|it| (*it).to_owned()).collect();
    let payers = |only: &[&str], except: &[&str]| Payers {
        only: list(only),
        except: list(except),
    };
    for (payers, served, number) in [
        (payers(&[], &[]), true, "13812345678"),
        (payers(&["138", "139"], &[]), true, "13912345678"),
        (payers(&["138", "139"], &[]), false, "13712345678"),
        (payers(&[], &["13812345678"]), false, "13812345678"),
        (payers(&[], &["13812345678"]), true, "13812345679"),
        (payers(&["138"], &["13812"]), false, "13812345678"),
        (payers(&["13812"], &["138"]), false, "13812345678"),
    ] {
        assert_eq!(payers.include(&payer(number)), served, "{payers:?}");
    }
}

/// Opening hours are in Asia/Shanghai, end excluded, and may pass midnight.
#[test]
fn opening_hours_may_pass_midnight() {
    let (m1, payer) = (
        MerchantId::parse("M1").unwrap(),
        MobileNo::parse("13812345678").unwrap(),
    );
    let day = (480, 1_320);
    let night = (1_320, 360);
    for (hours, time, open) in [
        (day, "080000", true),
        (day, "075959", false),
        (day, "215959", true),
        (day, "220000", false),
        (night, "220000", true),
        (night, "235959", true),
        (night, "000000", true),
        (night, "055959", true),
        (night, "060000", false),
        (night, "120000", false),
    ] {
        let mut routing = snapshot(&THREE).routing;
        for contract in routing.contracts.values_mut() {
            contract.hours = Some(hours);
        }
        let wanted = OfferQuery {
            now: Timestamp::parse_local("20260926", time).unwrap(),
            ..wanted(&m1, &payer)
        };
        let bank = &routing.institutions[&id("bank")];
        let found = routing.ineligible(bank, &wanted, Health::Healthy);
        let expected = (!open).then_some(IneligibleReason::OutsideHours);
        assert_eq!(found, expected, "{time} {hours:?}");
    }
}

/// Limits are those of the payment's currency, ends included; one matching route is enough, and of
/// routes that do not match, the nearest gives the reason.
#[test]
fn limits_are_those_of_the_currency_and_of_one_route() {
    let (m1, payer) = (
        MerchantId::parse("M1").unwrap(),
        MobileNo::parse("13812345678").unwrap(),
    );
    let hkd = Currency::parse("HKD").unwrap();
    let mut routing = snapshot(&THREE).routing;
    let bank = id("bank");
    let key = (m1.clone(), bank.clone());
    let institution = routing.institutions.get_mut(&bank).unwrap();
    institution.currencies.push(hkd);
    let judged = |routing: &RoutingTable, text: &str, currency| {
        let wanted = OfferQuery {
            amount: Amount::parse(text, currency).unwrap(),
            ..wanted(&m1, &payer)
        };
        routing.ineligible(&routing.institutions[&bank], &wanted, Health::Slow)
    };
    let not_offered = Some(IneligibleReason::CurrencyNotOffered);
    assert_eq!(judged(&routing, "12.30", hkd), not_offered, "no contract");
    let contract = routing.contracts.get_mut(&key).unwrap();
    contract.sums.push(AmountRange {
        currency: hkd,
        minor_min: 1_000,
        minor_max: 2_000,
    });
    let (below, above) = (
        Some(IneligibleReason::AmountBelowLimit),
        Some(IneligibleReason::AmountAboveLimit),
    );
    for (text, expected) in [
        ("9.99", below),
        ("10.00", None),
        ("20.00", None),
        ("20.01", above),
    ] {
        assert_eq!(judged(&routing, text, hkd), expected, "{text} HKD");
        assert_eq!(judged(&routing, text, CNY), None, "{text} CNY");
    }
    let mut second = routing.routes[0].clone();
    routing.routes[0].sums = vec![up_to(1_000)];
    routing.routes[0].payers.only = vec!["138".into()];
    second.sums[0].minor_min = 2_000;
    second.payers.only = vec!["139".into()];
    routing.routes.push(second);
    assert_eq!(judged(&routing, "10.00", CNY), None);
    assert_eq!(judged(&routing, "25.00", CNY), above);
    routing.routes[3].payers.only.clear();
    assert_eq!(judged(&routing, "25.00", CNY), None);
    routing.routes[3].stopped = true;
    let stopped = Some(IneligibleReason::RouteStopped);
    assert_eq!(judged(&routing, "25.00", CNY), stopped);
}

/// Calls fail to be sent until the institution takes nothing new.
fn cut_off(health: &HealthTracker, name: &str, now: Timestamp) {
    while health.standing(&id(name), now) != Health::Open {
        let begun = health.begin(&id(name), now);
        health.end(
            &id(name),
            begun,
            CallPurpose::Query,
            CallEnd::Unreachable,
            now,
        );
    }
}

/// Institutions of a reply, each with its reason or none.
fn listed(reply: &TestReply) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let all = reply.json["institutions"].as_array().unwrap();
    all.iter()
        .map(|it| (text(&it["institutionId"]), text(&it["reason"])))
        .collect()
}

/// A random enrolment: each reason that an enrolment can have applies to some institution now and
/// then.
fn any_snapshot(dice: &mut SeededRandom) -> (ConfigurationSnapshot, Vec<&'static str>) {
    let mut snapshot = snapshot(&THREE);
    let mut unhealthy = Vec::new();
    for (name, _) in THREE {
        // The merchant itself is admitted, or every request would be refused.
        for reason in &IneligibleReason::ALL[1..] {
            if !dice.one_in(12) || OF_SURROUNDINGS.contains(reason) {
                continue;
            }
            if *reason == IneligibleReason::InstitutionUnhealthy {
                unhealthy.push(name);
            }
            bring_about(*reason, name, &mut snapshot.routing);
        }
    }
    (snapshot, unhealthy)
}

/// R-A2.4.1-3a, R-5.1.4-1, R-5.1.4-4: list, choice, named order and the payer's page judge alike,
/// whatever the enrolment: what the list calls open is accepted, what it calls ineligible is
/// refused for its reason, and the page offers what is open, in the list's order.
#[test]
fn every_endpoint_judges_as_the_list_does() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let mut dice = SeededRandom::new(seed);
        let (snapshot, unhealthy) = any_snapshot(&mut dice);
        let gateway = TestGateway::enrolled(&THREE, snapshot);
        for name in unhealthy {
            cut_off(&gateway.api.world.health, name, gateway.clock.now());
        }
        let explained = json!({ "explainInstitutions": true });
        let list = listed(&gateway.place("T1", explained));
        assert_eq!(list.len(), 3, "seed {seed}");
        let page = gateway.order("T1").page_token().expose();
        let page = Request::get(format!("/pay/{page}")).body(Bytes::new());
        let html = gateway.send(page.unwrap()).response;
        let html = std::str::from_utf8(html.body()).unwrap();
        let on_page: Vec<Option<usize>> = list
            .iter()
            .filter(|(_, reason)| reason.is_empty())
            .map(|(name, _)| html.find(&format!("id=\"institution-{name}\"")))
            .collect();
        assert!(
            on_page.iter().all(Option::is_some) && on_page.is_sorted(),
            "seed {seed}: {on_page:?}"
        );
        for (name, reason) in &list {
            let is_shown = html.contains(&format!("id=\"institution-{name}\""));
            assert_eq!(is_shown, reason.is_empty(), "seed {seed}, {name}");
            let named = gateway.place(&format!("N-{name}"), json!({ "institutionId": name }));
            assert_eq!(
                named.text("reason"),
                reason,
                "seed {seed}: {:?}",
                named.json
            );
            let fresh = format!("S-{name}");
            gateway.place(&fresh, json!({}));
            let chosen = gateway.select(&fresh, name);
            assert_eq!(
                chosen.text("reason"),
                reason,
                "seed {seed}: {:?}",
                chosen.json
            );
            let expected = match reason.as_str() {
                "" => 200,
                "NOT_CONTRACTED" => 403,
                _ => 422,
            };
            assert_eq!((named.status, chosen.status), (expected, expected));
            seen.insert(reason.clone());
        }
    }
    // All but the merchant's own suspension, which is checked first, and no reason at all.
    let all = IneligibleReason::ALL.len() - OF_SURROUNDINGS.len();
    assert_eq!(seen.len(), all, "{seen:?}");
}

/// R-A2.4.1-3a: first the institution this payer last paid through, whatever was tried since and
/// whatever its health; then healthy, slow and half-open ones; then the configured order.
#[test]
fn the_last_that_was_paid_comes_first_then_the_healthier() {
    let gateway = TestGateway::with(&THREE);
    let order = || {
        let reply = gateway.ask("M1", "/v1/orders/institutions", &naming("T1"));
        let list = listed(&reply);
        list.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    gateway.place("T1", json!({}));
    assert_eq!(order(), ["bank", "purse", "other"]);
    slowly(&gateway, "bank");
    assert_eq!(
        order(),
        ["purse", "other", "bank"],
        "slow is last, and open"
    );
    cut_off(&gateway.api.world.health, "purse", gateway.clock.now());
    assert_eq!(order(), ["other", "bank"]);
    gateway.advance_s(5);
    assert_eq!(order(), ["other", "bank", "purse"], "half-open");
    gateway.place("T2", json!({}));
    gateway.select("T2", "other");
    assert_eq!(order(), ["other", "bank", "purse"], "chosen is not paid");
    gateway.place("T3", json!({}));
    gateway.select("T3", "bank");
    let paid = gateway.pay("T3", "bank");
    gateway.call_back("bank", &paid);
    assert_eq!(order(), ["bank", "other", "purse"], "paid, and slow");
    for _ in 0..3 {
        assert_eq!(order(), ["bank", "other", "purse"], "the same each time");
    }
}

/// Three creates of three seconds each.
fn slowly(gateway: &TestGateway, name: &str) {
    for _ in 0..3 {
        let begun = gateway
            .api
            .world
            .health
            .begin(&id(name), gateway.clock.now());
        gateway.advance_s(3);
        let health = &gateway.api.world.health;
        let (purpose, end) = (CallPurpose::Create, CallEnd::Answered);
        health.end(&id(name), begun, purpose, end, gateway.clock.now());
    }
}

/// F2: a stop of contract, route or institution, and ill health, affect new orders; what was begun
/// is queried, closed, applied and its payment action returned again.
#[test]
fn begun_payments_go_on_where_new_ones_may_not() {
    for reason in [
        IneligibleReason::ContractStopped,
        IneligibleReason::RouteStopped,
        IneligibleReason::InstitutionDown,
        IneligibleReason::InstitutionNotAdmitted,
        IneligibleReason::InstitutionUnhealthy,
    ] {
        let mut gateway = TestGateway::with(&THREE);
        for no in ["T1", "T2", "T3"] {
            gateway.place(no, json!({}));
        }
        gateway.select("T1", "bank");
        let link = gateway.onward("T1");
        gateway.select("T2", "bank");
        let mut enrolled = snapshot(&THREE);
        bring_about(reason, "bank", &mut enrolled.routing);
        gateway.api.snapshot = Arc::new(enrolled);
        if reason == IneligibleReason::InstitutionUnhealthy {
            cut_off(&gateway.api.world.health, "bank", gateway.clock.now());
        }
        assert_eq!(gateway.select("T3", "bank").text("reason"), reason.word());
        let again = gateway.select("T1", "bank");
        assert_eq!(again.text("result"), "ACCEPTED", "{reason:?}");
        assert_eq!(gateway.onward("T1"), link, "{reason:?}");
        assert_eq!(gateway.query("T1").status, 200);
        assert_eq!(gateway.close("T2").text("orderStatus"), "CLOSED");
        let paid = gateway.pay("T1", "bank");
        assert_eq!(gateway.call_back("bank", &paid).status, 200);
        assert_eq!(
            gateway.query("T1").text("orderStatus"),
            "PAID",
            "{reason:?}"
        );
    }
}
