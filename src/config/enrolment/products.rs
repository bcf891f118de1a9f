//! What a contract says of products and of the institution's fee.

use crate::config::faults::nearest;
use crate::config::reading::{ConfigReader, ExpectedValue, Located, shape};
use crate::config::section::Section;
use crate::domain::amount::fee_terms::{FeeRate, FeeRounding, FeeTerms};
use crate::domain::identifiers::ProductId;
use crate::domain::institutions::{Mode, Product};
use crate::institution::InstitutionKind;

/// The products agreed; without a list the only one of the dialect. Each mode of the contract needs
/// one that serves it.
pub(super) fn products(
    r: &mut ConfigReader<'_>,
    s: &mut Section<'_>,
    kind: Option<&InstitutionKind>,
    modes: &[Located<Mode>],
) -> Vec<ProductId> {
    const PRODUCT: ExpectedValue = shape("the id of a product", "\"H5\"");
    let Some(kind) = kind else {
        s.knows(&["products"]);
        return Vec::new();
    };
    if !s.has("products")
        && let [only] = kind.products
    {
        s.knows(&["products"]);
        check_reached(r, s, &[*only], modes);
        return vec![only.stored_id()];
    }
    let before = r.faults.len();
    let named = s.some(r, "products", PRODUCT, |text| Some(text.to_owned()));
    let mut agreed: Vec<Product> = Vec::with_capacity(named.len());
    for Located { value, line } in &named {
        let found = kind.products.iter().find(|one| one.id == value);
        match found {
            Some(product) if agreed.contains(product) => {
                let found = format!("{value:?} twice");
                let subject = s.subject("products");
                r.fault(*line, &subject, "each product once", &found, "remove one");
            }
            Some(product) => agreed.push(*product),
            None => unknown_product(r, s, kind, value, *line),
        }
    }
    if r.faults.len() == before {
        check_reached(r, s, &agreed, modes);
    }
    agreed.iter().map(Product::stored_id).collect()
}

fn unknown_product(
    r: &mut ConfigReader<'_>,
    s: &Section<'_>,
    kind: &InstitutionKind,
    word: &str,
    line: usize,
) {
    let ids: Vec<&'static str> = kind.products.iter().map(|one| one.id).collect();
    let expected = format!("a product of {}: {}", kind.name, ids.join(", "));
    let advice = nearest(word, &ids).map_or_else(
        || "paymux check --kinds describes each".to_owned(),
        |id| format!("did you mean {id:?}?"),
    );
    let found = format!("{word:?}");
    r.fault(line, &s.subject("products"), &expected, &found, &advice);
}

/// A mode that no agreed product serves would be offered to nobody.
fn check_reached(
    r: &mut ConfigReader<'_>,
    s: &Section<'_>,
    agreed: &[Product],
    modes: &[Located<Mode>],
) {
    for mode in modes {
        if !agreed.iter().any(|one| one.modes.contains(&mode.value)) {
            let expected = format!("a mode that one of its products serves: {}", served(agreed));
            let found = mode.value.name();
            let advice = "add a product that serves it, or remove the mode";
            r.fault(mode.line, &s.subject("modes"), &expected, found, advice);
        }
    }
}

fn served(agreed: &[Product]) -> String {
    let is_served = |mode: &Mode| agreed.iter().any(|one| one.modes.contains(mode));
    let names = Mode::ALL.into_iter().filter(is_served).map(Mode::name);
    names.collect::<Vec<_>>().join(", ")
}

/// `fee`: what the institution takes of each payment.
pub(super) fn fee(r: &mut ConfigReader<'_>, s: &mut Section<'_>) -> Option<FeeTerms> {
    const RATE: ExpectedValue = shape(
        "a rate from 0 to less than 1 as decimal text, with 8 decimal places at most",
        "\"0.006\"",
    );
    const ROUNDING: ExpectedValue = shape("one of half_up, half_even, up, down", "\"half_up\"");
    if !s.has("fee") {
        s.knows(&["fee"]);
        return None;
    }
    let mut table = s.table(r, "fee");
    let rate = table.mandatory(r, "rate", RATE, |v| FeeRate::parse(v.as_str()?).ok());
    let scale = table.number(r, "scale", 2, 0..=8);
    let rounding = table.may(r, "rounding", ROUNDING, |v| {
        let word = v.as_str()?;
        FeeRounding::ALL.into_iter().find(|one| one.word() == word)
    });
    let returned = table.flag(r, "returned", true);
    table.end(r);
    Some(FeeTerms {
        rate: rate?.value,
        scale: u8::try_from(scale).unwrap_or(u8::MAX),
        rounding: rounding.map_or(FeeRounding::HalfUp, |found| found.value),
        returned,
    })
}
