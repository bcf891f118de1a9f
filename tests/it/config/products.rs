//! What a contract says of products and of the fee.

use paymux::domain::amount::fee_terms::{FeeRounding, FeeTerms};

use super::*;

const CONTRACT: &str = "account = \"tea-red\"\nmodes";

/// The contract with redpay with these lines.
fn contract(lines: &str) -> ConfigFolder {
    ConfigFolder::with(CONTRACT, &format!("account = \"tea-red\"\n{lines}\nmodes"))
}

fn fee(site: &ConfigFolder) -> Option<FeeTerms> {
    let config = site.read().map_err(|faults| faults.to_string()).unwrap();
    let contracts = &config.snapshot.routing.contracts;
    let redpay = InstitutionId::parse("redpay").unwrap();
    let mut of_redpay = contracts.values().filter(|it| it.institution == redpay);
    of_redpay.next().unwrap().fee
}

/// F1: a contract names products of its dialect; with one product that is all there is to say.
#[test]
fn a_contract_names_the_products_that_were_agreed() {
    let products = |site: &ConfigFolder| {
        let config = site.read().map_err(|faults| faults.to_string()).unwrap();
        let contracts = config.snapshot.routing.contracts.values();
        let named = contracts.map(|it| it.products.iter().map(ToString::to_string).collect());
        named.collect::<Vec<Vec<String>>>()
    };
    let only = vec![vec!["STANDARD".to_owned()]; 2];
    assert_eq!(products(&ConfigFolder::fresh()), only);
    assert_eq!(products(&contract("products = [\"STANDARD\"]")), only);
}

/// F1: each fault of products and fee has its line with what was expected.
#[test]
fn every_fault_of_products_and_fee_has_its_line() {
    for (lines, expected) in [
        (
            "products = [\"STANDRAD\"]",
            "[[contract]] products: expected a product of standard: STANDARD, found \"STANDRAD\"; \
             did you mean \"STANDARD\"?",
        ),
        (
            "products = [\"STANDARD\", \"STANDARD\"]",
            "[[contract]] products: expected each product once, found \"STANDARD\" twice",
        ),
        (
            "products = []",
            "[[contract]] products: expected at least one, the id of a product, found none",
        ),
        (
            "fee = { rate = 0.006 }",
            "fee] rate: expected a rate from 0 to less than 1 as decimal text",
        ),
        (
            "fee = { rate = \"1.5\" }",
            "fee] rate: expected a rate from 0",
        ),
        ("fee = { scale = 2 }", "fee] rate: expected a rate from 0"),
        (
            "fee = { rate = \"0.006\", rounding = \"even\" }",
            "fee] rounding: expected one of half_up, half_even, up, down, found \"even\"",
        ),
        (
            "fee = { rate = \"0.006\", scale = 9 }",
            "fee] scale: expected a whole number from 0 to 8",
        ),
        (
            "fee = { rate = \"0.006\", tax = 1 }",
            "unknown name \"tax\"",
        ),
    ] {
        let faults = contract(lines).faults();
        let is_reported = faults.iter().any(|fault| fault.contains(expected));
        assert!(is_reported, "{expected}: {faults:#?}");
    }
}

/// M4: a fee is kept as it was agreed.
#[test]
fn a_fee_is_kept_as_it_was_agreed() {
    assert_eq!(fee(&ConfigFolder::fresh()), None);
    let agreed =
        "fee = { rate = \"0.0060\", scale = 2, rounding = \"half_even\", returned = false }";
    let agreed = fee(&contract(agreed)).unwrap();
    assert_eq!(agreed.rate.to_string(), "0.006");
    let FeeTerms {
        scale,
        rounding,
        returned,
        ..
    } = agreed;
    assert_eq!(
        (scale, rounding, returned),
        (2, FeeRounding::HalfEven, false)
    );
    let by_default = fee(&contract("fee = { rate = \"0.006\" }")).unwrap();
    assert_eq!(by_default.rounding, FeeRounding::HalfUp);
    assert!(by_default.returned && by_default.scale == 2);
}
