//! Which institutions a payer may use: every reason and their order, one judgement at every door, and
//! the order of the list.

mod pulse;
mod trial;

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use paymux::domain::amount::{Amount, CNY, Currency};
use paymux::domain::identifiers::{InstitutionId, MerchantId, Timestamp};
use paymux::domain::institutions::{
    CallEnd, Directory, Mode, Payers, Purpose, Standing, Sums, TransactionType, Wanted, Withheld,
};
use paymux::domain::merchant::Admission;
use paymux::domain::personal::MobileNo;
use paymux::flow::register::Register;
use paymux::health::Health;
use paymux::world::Clock;
use serde_json::json;

use crate::tidy::tree;
use crate::world::books::Ability;
use crate::world::chance::Dice;
use crate::world::clock::START_MS;
use crate::world::enrolment::{register, up_to};
use crate::world::town::{Told, Town, naming};

const THREE: [(&str, Ability); 3] = [
    ("bank", Ability::ALL),
    ("purse", Ability::ALL),
    ("other", Ability::ALL),
];

fn id(name: &str) -> InstitutionId {
    InstitutionId::parse(name).unwrap()
}

/// 12.30 at noon in Shanghai: what the tests' orders are.
fn wanted<'a>(merchant: &'a MerchantId, payer: &'a MobileNo) -> Wanted<'a> {
    Wanted {
        merchant,
        payer,
        amount: Amount::parse("12.30", CNY).unwrap(),
        transaction_type: TransactionType::PasswordPay,
        mode: None,
        now: Timestamp::from_ms(START_MS),
    }
}

/// Makes a reason hold of one institution. Health is not part of an enrolment.
fn bring_about(reason: Withheld, name: &str, directory: &mut Directory) {
    let (m1, bank) = (MerchantId::parse("M1").unwrap(), id(name));
    let merchant = directory.merchants.get_mut(&m1).unwrap();
    let institution = directory.institutions.get_mut(&bank).unwrap();
    let key = (m1, bank.clone());
    let mut contract = directory.contracts.get_mut(&key);
    let mut route = directory
        .routes
        .iter_mut()
        .find(|route| route.institution == bank);
    match (reason, &mut contract, &mut route) {
        (Withheld::MerchantNotAdmitted, ..) => merchant.admission = Admission::Suspended,
        (Withheld::NotContracted, ..) => drop(directory.contracts.remove(&key)),
        (Withheld::InstitutionNotAdmitted, ..) => institution.admission = Admission::Applied,
        (Withheld::ModeNotOffered, ..) => institution.modes = vec![Mode::Chatbot],
        (Withheld::TransactionTypeNotOffered, Some(contract), _) => {
            contract.transaction_types = vec![TransactionType::ScanPay];
        }
        (Withheld::CurrencyNotOffered, ..) => {
            institution.currencies = vec![Currency::parse("HKD").unwrap()];
        }
        (Withheld::PayerNotServed, Some(contract), _) => contract.payers.except = vec!["13".into()],
        (Withheld::AmountBelowLimit, Some(contract), _) => {
            contract.sums[0].minor_min = 100_000;
        }
        (Withheld::AmountAboveLimit, _, Some(route)) => route.sums = vec![up_to(1_000)],
        (Withheld::ContractStopped, Some(contract), _) => contract.stopped = true,
        (Withheld::RouteStopped, _, Some(route)) => route.stopped = true,
        (Withheld::InstitutionDown, ..) => institution.stopped = true,
        (Withheld::OutsideHours, Some(contract), _) => contract.hours = Some((1_320, 360)),
        (Withheld::InstitutionUnhealthy, ..) | (_, None, _) | (_, _, None) => (),
    }
}

fn standing_if(reasons: &[Withheld]) -> Standing {
    if reasons.contains(&Withheld::InstitutionUnhealthy) {
        Standing::Unhealthy
    } else {
        Standing::Healthy
    }
}

/// R-4-3, R-A2.4.1-3a: each reason is found, and of two that hold the one that is listed first.
#[test]
fn of_two_reasons_the_first_is_given() {
    let (m1, payer) = (
        MerchantId::parse("M1").unwrap(),
        MobileNo::parse("13812345678").unwrap(),
    );
    let wanted = wanted(&m1, &payer);
    let judged = |reasons: &[Withheld]| {
        let mut directory = register(&THREE).directory;
        for reason in reasons {
            bring_about(*reason, "bank", &mut directory);
        }
        let bank = &directory.institutions[&id("bank")];
        directory.withheld(bank, &wanted, standing_if(reasons))
    };
    assert_eq!(judged(&[]), None);
    for (place, first) in Withheld::ALL.into_iter().enumerate() {
        assert_eq!(judged(&[first]), Some(first));
        for second in &Withheld::ALL[place..] {
            assert_eq!(judged(&[*second, first]), Some(first), "{second:?}");
        }
    }
    assert!(Withheld::ALL.is_sorted(), "the list is in its own order");
}

/// R-A2.4.1-3a: every reason is documented, in the order in which they are looked for.
#[test]
fn every_reason_is_documented_in_its_order() {
    let page = tree::read("docs/reasons.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let words: Vec<&str> = rows
        .filter_map(|row| row.split('`').next())
        .filter(|word| *word != "reason")
        .collect();
    assert_eq!(words, Withheld::ALL.map(Withheld::word));
}

/// Prefixes: only those that are named, never those that are excepted, and an exception wins.
#[test]
fn payers_are_told_apart_by_the_first_digits() {
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

/// Opening hours are those of Asia/Shanghai, end excluded, and may pass midnight.
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
        let mut directory = register(&THREE).directory;
        for contract in directory.contracts.values_mut() {
            contract.hours = Some(hours);
        }
        let wanted = Wanted {
            now: Timestamp::parse_local("20260926", time).unwrap(),
            ..wanted(&m1, &payer)
        };
        let bank = &directory.institutions[&id("bank")];
        let found = directory.withheld(bank, &wanted, Standing::Healthy);
        let expected = (!open).then_some(Withheld::OutsideHours);
        assert_eq!(found, expected, "{time} {hours:?}");
    }
}

/// Sums are those of the payment's currency, ends included; one route that fits is enough, and of
/// those that do not, the one that comes nearest says why.
#[test]
fn sums_are_those_of_the_currency_and_of_one_route() {
    let (m1, payer) = (
        MerchantId::parse("M1").unwrap(),
        MobileNo::parse("13812345678").unwrap(),
    );
    let hkd = Currency::parse("HKD").unwrap();
    let mut directory = register(&THREE).directory;
    let bank = id("bank");
    let key = (m1.clone(), bank.clone());
    let institution = directory.institutions.get_mut(&bank).unwrap();
    institution.currencies.push(hkd);
    let judged = |directory: &Directory, text: &str, currency| {
        let wanted = Wanted {
            amount: Amount::parse(text, currency).unwrap(),
            ..wanted(&m1, &payer)
        };
        directory.withheld(&directory.institutions[&bank], &wanted, Standing::Slow)
    };
    let not_offered = Some(Withheld::CurrencyNotOffered);
    assert_eq!(judged(&directory, "12.30", hkd), not_offered, "no contract");
    let contract = directory.contracts.get_mut(&key).unwrap();
    contract.sums.push(Sums {
        currency: hkd,
        minor_min: 1_000,
        minor_max: 2_000,
    });
    let (below, above) = (
        Some(Withheld::AmountBelowLimit),
        Some(Withheld::AmountAboveLimit),
    );
    for (text, expected) in [
        ("9.99", below),
        ("10.00", None),
        ("20.00", None),
        ("20.01", above),
    ] {
        assert_eq!(judged(&directory, text, hkd), expected, "{text} HKD");
        assert_eq!(judged(&directory, text, CNY), None, "{text} CNY");
    }
    let mut second = directory.routes[0].clone();
    directory.routes[0].sums = vec![up_to(1_000)];
    directory.routes[0].payers.only = vec!["138".into()];
    second.sums[0].minor_min = 2_000;
    second.payers.only = vec!["139".into()];
    directory.routes.push(second);
    assert_eq!(judged(&directory, "10.00", CNY), None);
    assert_eq!(judged(&directory, "25.00", CNY), above);
    directory.routes[3].payers.only.clear();
    assert_eq!(judged(&directory, "25.00", CNY), None);
    directory.routes[3].stopped = true;
    let stopped = Some(Withheld::RouteStopped);
    assert_eq!(judged(&directory, "25.00", CNY), stopped);
}

/// Nothing could be sent to it so often that nothing new is.
fn cut_off(health: &Health, name: &str, now: Timestamp) {
    while health.standing(&id(name), now) != Standing::Unhealthy {
        let begun = health.begin(&id(name), now);
        health.end(&id(name), begun, (Purpose::Ask, CallEnd::Unreachable), now);
    }
}

/// Institutions of an answer, each with the reason or nothing.
fn listed(told: &Told) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let all = told.json["institutions"].as_array().unwrap();
    all.iter()
        .map(|it| (text(&it["institutionId"]), text(&it["reason"])))
        .collect()
}

/// Any enrolment: each reason that an enrolment can have holds of some institution now and then.
fn any_register(dice: &mut Dice) -> (Register, Vec<&'static str>) {
    let mut register = register(&THREE);
    let mut unhealthy = Vec::new();
    for (name, _) in THREE {
        // The merchant itself is let in, or nobody would be asked anything.
        for reason in &Withheld::ALL[1..] {
            if !dice.one_in(12) {
                continue;
            }
            if *reason == Withheld::InstitutionUnhealthy {
                unhealthy.push(name);
            }
            bring_about(*reason, name, &mut register.directory);
        }
    }
    (register, unhealthy)
}

/// R-A2.4.1-3a, R-5.1.4-1, R-5.1.4-4: list, choice, named order and the payer's page judge alike,
/// whatever the enrolment: what the list calls open is taken, what it withholds is refused for the
/// reason it gives, and the page offers what is open, in the list's order.
#[test]
fn every_door_judges_as_the_list_does() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let mut dice = Dice::new(seed);
        let (register, unhealthy) = any_register(&mut dice);
        let town = Town::enrolled(&THREE, register);
        for name in unhealthy {
            cut_off(&town.api.world.health, name, town.clock.now());
        }
        let explained = json!({ "explainInstitutions": true });
        let list = listed(&town.place("T1", explained));
        assert_eq!(list.len(), 3, "seed {seed}");
        let page = town.order("T1").page_token().expose();
        let page = Request::get(format!("/pay/{page}")).body(Bytes::new());
        let html = town.send(page.unwrap()).response;
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
            let named = town.place(&format!("N-{name}"), json!({ "institutionId": name }));
            assert_eq!(
                named.text("reason"),
                reason,
                "seed {seed}: {:?}",
                named.json
            );
            let fresh = format!("S-{name}");
            town.place(&fresh, json!({}));
            let chosen = town.select(&fresh, name);
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
    // Everything but the merchant's own suspension, which is met at the door, and nothing at all.
    assert_eq!(seen.len(), Withheld::ALL.len(), "{seen:?}");
}

/// R-A2.4.1-3a: first the institution this payer last paid through, whatever was tried since and
/// however it fares; then the healthy, the slow and those on trial; then the operator's order.
#[test]
fn the_last_that_was_paid_comes_first_then_the_healthier() {
    let town = Town::with(&THREE);
    let order = || {
        let told = town.ask("M1", "/v1/orders/institutions", &naming("T1"));
        let list = listed(&told);
        list.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    town.place("T1", json!({}));
    assert_eq!(order(), ["bank", "purse", "other"]);
    slowly(&town, "bank");
    assert_eq!(
        order(),
        ["purse", "other", "bank"],
        "slow is last, and open"
    );
    cut_off(&town.api.world.health, "purse", town.clock.now());
    assert_eq!(order(), ["other", "bank"]);
    town.pass_s(5);
    assert_eq!(order(), ["other", "bank", "purse"], "on trial");
    town.place("T2", json!({}));
    town.select("T2", "other");
    assert_eq!(order(), ["other", "bank", "purse"], "chosen is not paid");
    town.place("T3", json!({}));
    town.select("T3", "bank");
    let paid = town.pay("T3", "bank");
    town.call_back("bank", &paid);
    assert_eq!(order(), ["bank", "other", "purse"], "paid, and slow");
    for _ in 0..3 {
        assert_eq!(order(), ["bank", "other", "purse"], "the same each time");
    }
}

/// Three creates that took three seconds each.
fn slowly(town: &Town, name: &str) {
    for _ in 0..3 {
        let begun = town.api.world.health.begin(&id(name), town.clock.now());
        town.pass_s(3);
        let health = &town.api.world.health;
        let answered = (Purpose::Create, CallEnd::Answered);
        health.end(&id(name), begun, answered, town.clock.now());
    }
}

/// F2: a stop of contract, route or institution, and ill health, are for new orders; what was begun
/// is queried, closed, believed and handed over again.
#[test]
fn what_was_begun_goes_on_where_nothing_new_may() {
    for reason in [
        Withheld::ContractStopped,
        Withheld::RouteStopped,
        Withheld::InstitutionDown,
        Withheld::InstitutionNotAdmitted,
        Withheld::InstitutionUnhealthy,
    ] {
        let mut town = Town::with(&THREE);
        for no in ["T1", "T2", "T3"] {
            town.place(no, json!({}));
        }
        let link = town.select("T1", "bank");
        town.select("T2", "bank");
        let mut enrolled = register(&THREE);
        bring_about(reason, "bank", &mut enrolled.directory);
        town.api.register = Arc::new(enrolled);
        if reason == Withheld::InstitutionUnhealthy {
            cut_off(&town.api.world.health, "bank", town.clock.now());
        }
        assert_eq!(town.select("T3", "bank").text("reason"), reason.word());
        let again = town.select("T1", "bank");
        assert_eq!(again.text("payUrl"), link.text("payUrl"), "{reason:?}");
        assert_eq!(town.query("T1").status, 200);
        assert_eq!(town.close("T2").text("orderStatus"), "CLOSED");
        let paid = town.pay("T1", "bank");
        assert_eq!(town.call_back("bank", &paid).status, 200);
        assert_eq!(town.query("T1").text("orderStatus"), "PAID", "{reason:?}");
    }
}
