//! The conditions of contracts and routes: amounts per currency, payers, hours.

use crate::config::enrolment::Enrolment;
use crate::config::reading::{ConfigReader, ExpectedValue, Located, shape};
use crate::config::section::Section;
use crate::domain::amount::{Amount, CNY, Currency, MINOR_UNITS_MAX};
use crate::domain::identifiers::InstitutionId;
use crate::domain::institutions::{AmountRange, Payers};

const CURRENCY: ExpectedValue = shape(
    "a currency, one of CNY EUR GBP HKD JPY MOP SGD USD",
    "\"CNY\"",
);

fn currency(text: &str) -> Option<Currency> {
    Currency::parse(text).ok()
}

/// `currencies`; renminbi if absent (M6).
pub(super) fn currencies(r: &mut ConfigReader<'_>, s: &mut Section<'_>) -> Vec<Located<Currency>> {
    if s.has("currencies") {
        return s.some(r, "currencies", CURRENCY, currency);
    }
    s.knows(&["currencies"]);
    vec![Located {
        value: CNY,
        line: s.line,
    }]
}

/// `payer_prefixes` and `payer_prefixes_denied`.
pub(super) fn payers(r: &mut ConfigReader<'_>, s: &mut Section<'_>) -> Payers {
    const PREFIX: ExpectedValue = shape("1 to 11 digits", "\"138\"");
    let mut read = |name| {
        let found = s.list(r, name, PREFIX, |text| {
            let fits = (1..=11).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            fits.then(|| text.to_owned())
        });
        found.into_iter().map(|found| found.value).collect()
    };
    Payers {
        only: read("payer_prefixes"),
        except: read("payer_prefixes_denied"),
    }
}

/// The configured amounts: those in renminbi in the table itself, those in each other currency in a
/// table of their own. `None` after a fault.
pub(super) fn sums(
    r: &mut ConfigReader<'_>,
    s: &mut Section<'_>,
) -> Option<Vec<Located<AmountRange>>> {
    let before = r.faults.len();
    let mut found = Vec::new();
    if s.has("amount_min") || s.has("amount_max") {
        found.extend(range(r, s, CNY));
    } else {
        s.knows(&["amount_min", "amount_max"]);
    }
    for mut table in s.tables(r, "sums") {
        let named = table.mandatory(r, "currency", CURRENCY, |v| v.as_str().and_then(currency));
        if let Some(named) = named {
            let range = range(r, &mut table, named.value);
            let is_second = |one: &Located<AmountRange>| one.value.currency == named.value;
            if found.iter().any(is_second) || named.value == CNY {
                let expected = "a currency whose amounts are not given yet (CNY has amount_min and \
                                amount_max above)";
                let there = named.value.code();
                let subject = table.subject("currency");
                r.fault(named.line, &subject, expected, there, "join the two");
            }
            found.extend(range);
        } else {
            table.knows(&["amount_min", "amount_max"]);
        }
        table.end(r);
    }
    (r.faults.len() == before).then_some(found)
}

/// `amount_min` and `amount_max` of one currency; unbounded where one is absent.
fn range(
    r: &mut ConfigReader<'_>,
    s: &mut Section<'_>,
    currency: Currency,
) -> Option<Located<AmountRange>> {
    const SUM: ExpectedValue = shape(
        "an amount as decimal text in that currency, above zero",
        "\"0.01\"",
    );
    let read = |text: &str| Amount::parse(text, currency).ok().map(Amount::minor);
    let before = r.faults.len();
    let min = s.may(r, "amount_min", SUM, |v| v.as_str().and_then(read));
    let max = s.may(r, "amount_max", SUM, |v| v.as_str().and_then(read));
    let line = max.as_ref().map_or(s.line, |found| found.line);
    let minor_min = min.map_or(1, |found| found.value);
    let minor_max = max.map_or(MINOR_UNITS_MAX, |found| found.value);
    if minor_min > minor_max {
        let expected = "an amount not below amount_min";
        let advice = "exchange the two, or correct one";
        let subject = s.subject("amount_max");
        r.fault(line, &subject, expected, "a smaller one", advice);
    }
    let value = AmountRange {
        currency,
        minor_min,
        minor_max,
    };
    (r.faults.len() == before).then_some(Located { value, line })
}

impl Enrolment {
    /// The currencies of a contract, each with its amounts. Renminbi may be unbounded; limits in renminbi
    /// do not apply to other currencies, so each other currency needs its own.
    pub(super) fn agreed_sums(
        &self,
        r: &mut ConfigReader<'_>,
        s: &mut Section<'_>,
        institution: &InstitutionId,
    ) -> Option<Vec<AmountRange>> {
        let agreed = currencies(r, s);
        let named = sums(r, s)?;
        let subject = s.subject("currencies");
        for one in &named {
            let currency = one.value.currency;
            if !agreed.iter().any(|agreed| agreed.value == currency) {
                let expected = "sums of an agreed currency only";
                let advice = format!(
                    "add it to currencies = [\"{}\"], or remove it",
                    currency.code()
                );
                r.fault(one.line, &subject, expected, currency.code(), &advice);
            }
        }
        let offered = self.institutions.get(institution);
        let offered = offered.filter(|_| !self.partly_read.contains(institution));
        let mut all = Vec::with_capacity(agreed.len());
        for Located { value, line } in agreed {
            let code = value.code();
            if offered.is_some_and(|offered| !offered.currencies.contains(&value)) {
                let expected = format!("a currency that {institution} settles in");
                let advice = "remove it here, or add it to the institution's currencies";
                r.fault(line, &subject, &expected, code, advice);
            }
            let of_it = named.iter().find(|one| one.value.currency == value);
            match of_it {
                Some(found) => all.push(found.value),
                None if value == CNY => all.push(AmountRange {
                    currency: CNY,
                    minor_min: 1,
                    minor_max: MINOR_UNITS_MAX,
                }),
                None => {
                    let expected = format!("amounts in {code}: those in CNY do not apply to it");
                    let advice = "add [[contract.sums]] with currency, amount_min and amount_max";
                    r.fault(line, &subject, &expected, "none", advice);
                }
            }
        }
        Some(all)
    }
}
