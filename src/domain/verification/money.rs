//! Postings: the journal entries that an order's attempts and refunds require (M1), and the
//! account totals (M2).

use std::collections::BTreeMap;

use crate::domain::amount::Amount;
use crate::domain::attempt::AttemptState;
use crate::domain::journal::{JournalAccount, JournalEntry};
use crate::domain::refund::RefundState;
use crate::domain::verification::{
    AttemptRow, Breach, BreachSink, EntryRow, RefundRow, StoredOrder,
};

/// A posting in comparable form.
type Posting = (String, String, String, i64, &'static str);

/// M1: exactly the entries that the order's attempts and refunds require, each once; M3: their
/// balances.
pub(super) fn entries(of: &StoredOrder, report: &mut BreachSink<'_>) {
    let mut open: BTreeMap<Posting, i64> = BTreeMap::new();
    let covered = covered_minor(of);
    let is_summed = |kind: &str| covered > 0 && LATE.contains(&kind);
    if covered > 0 {
        late_sums(of, covered, report);
    }
    for entry in required(of).iter().filter(|one| !is_summed(one.kind)) {
        let open = open.entry(posting(entry)).or_default();
        *open = open.saturating_add(1);
    }
    for row in of.entries.iter().filter(|one| !is_summed(&one.kind)) {
        let posted = (
            row.kind.clone(),
            row.debit.clone(),
            row.credit.clone(),
            row.amount.minor(),
            row.amount.currency().code(),
        );
        let open = open.entry(posted).or_default();
        *open = open.saturating_sub(1);
        if *open < 0 {
            report(Breach::of(
                "M1",
                of.order.no.as_str(),
                "only entries that its attempts and refunds require",
                format!("entry {}: {}", row.id, written(row)),
            ));
        }
    }
    for ((kind, debit, credit, minor, currency), missing) in open {
        if missing > 0 {
            report(Breach::of(
                "M1",
                of.order.no.as_str(),
                format!("an entry {kind} {minor} {currency} {debit} -> {credit}"),
                format!("{missing} missing"),
            ));
        }
    }
    balances(of, report);
}

/// Events of refunds that succeeded late.
const LATE: [&str; 3] = ["REFUND_LATE", "REFUND_EXCESS", COVERED];
const COVERED: &str = "REFUND_COVERED";

/// Covered part of over-refunds (R9), as posted. Unit: minor units.
fn covered_minor(of: &StoredOrder) -> i64 {
    let covered = of.entries.iter().filter(|one| one.kind == COVERED);
    covered.fold(0, |sum, one| sum.saturating_add(one.amount.minor()))
}

/// M1 where an over-refund was covered: a refund's row has the remaining over-refund, not the
/// original one, so the postings of late refunds are compared by their totals.
fn late_sums(of: &StoredOrder, covered: i64, report: &mut BreachSink<'_>) {
    let no = &of.order.no;
    let mut open: BTreeMap<(&str, String, String), i64> = BTreeMap::new();
    let mut add = |kind, debit: String, credit: String, minor: i64| {
        let sum: &mut i64 = open.entry((kind, debit, credit)).or_default();
        *sum = sum.saturating_add(minor);
    };
    for entry in required(of).iter().filter(|one| LATE.contains(&one.kind)) {
        let (debit, credit) = (entry.debit.name(), entry.credit.name());
        add(entry.kind, debit, credit, entry.amount.minor());
    }
    let is_paying = |one: &&AttemptRow| of.order.paying_attempt_id.as_ref() == Some(&one.id);
    let whole = Amount::from_minor(covered, of.order.amount.currency());
    if let (Some(through), Ok(whole)) = (of.attempts.iter().find(is_paying), whole) {
        let by = &through.institution;
        for (entry, minor) in [
            (
                JournalEntry::refunded_late(by, no, whole),
                covered.saturating_neg(),
            ),
            (JournalEntry::lost(by, no, whole), covered),
            (JournalEntry::covered(no, whole), covered),
        ] {
            let (debit, credit) = (entry.debit.name(), entry.credit.name());
            add(entry.kind, debit, credit, minor);
        }
    }
    let late = of.entries.iter();
    for row in late.filter(|one| LATE.contains(&one.kind.as_str())) {
        let minor = row.amount.minor().saturating_neg();
        add(&row.kind, row.debit.clone(), row.credit.clone(), minor);
    }
    for ((kind, debit, credit), missing) in open {
        if missing != 0 {
            report(Breach::of(
                "M1",
                no.as_str(),
                format!("the total of {kind} {debit} -> {credit} that its refunds require"),
                format!("{missing} missing"),
            ));
        }
    }
}

/// The required entries, by event (M1).
fn required(of: &StoredOrder) -> Vec<JournalEntry> {
    let no = &of.order.no;
    let mut required = Vec::new();
    for attempt in of
        .attempts
        .iter()
        .filter(|one| one.state == AttemptState::Paid)
    {
        required.push(
            if of.order.paying_attempt_id.as_ref() == Some(&attempt.id) {
                JournalEntry::paid(&attempt.institution, no, attempt.amount)
            } else {
                JournalEntry::excess(&attempt.institution, &attempt.id, attempt.amount)
            },
        );
    }
    for attempt in of.attempts.iter().filter(|one| one.is_returned()) {
        let entries = JournalEntry::returned(&attempt.institution, &attempt.id, attempt.amount);
        required.extend(entries);
    }
    for refund in &of.refunds {
        let through = of.attempts.iter().find(|one| one.id == refund.attempt);
        // Without its attempt it has no institution; reported as `R5`.
        let Some(through) = through else { continue };
        let institution = &through.institution;
        let some = |minor| Amount::from_minor(minor, refund.amount.currency()).ok();
        let lost = some(refund.over_refunded_minor)
            .map(|excess| JournalEntry::lost(institution, no, excess));
        let back = refund.state == RefundState::Succeeded;
        if refund.is_excess {
            match lost {
                _ if !back => (),
                Some(lost) => required.push(lost),
                None => required.push(JournalEntry::excess_refunded(
                    institution,
                    &through.id,
                    refund.amount,
                )),
            }
            continue;
        }
        required.push(JournalEntry::reserved(no, refund.amount));
        if refund.state == RefundState::Failed || refund.is_late {
            required.push(JournalEntry::released(no, refund.amount));
        }
        if back && refund.is_late {
            let fits = some(
                refund
                    .amount
                    .minor()
                    .saturating_sub(refund.over_refunded_minor),
            );
            required.extend(fits.map(|fits| JournalEntry::refunded_late(institution, no, fits)));
            required.extend(lost);
        } else if back {
            required.push(JournalEntry::refunded(institution, no, refund.amount));
        }
    }
    required
}

fn posting(entry: &JournalEntry) -> Posting {
    (
        entry.kind.to_owned(),
        entry.debit.name(),
        entry.credit.name(),
        entry.amount.minor(),
        entry.amount.currency().code(),
    )
}

fn written(row: &EntryRow) -> String {
    format!(
        "{} {} {} {} -> {}",
        row.kind,
        row.amount.minor(),
        row.amount.currency().code(),
        row.debit,
        row.credit
    )
}

/// M3, from the postings: MERCH = paid − reserved, HOLD = reserved − refunded; no credit balance is
/// negative.
fn balances(of: &StoredOrder, report: &mut BreachSink<'_>) {
    let no = &of.order.no;
    let mut credits: BTreeMap<&str, i64> = BTreeMap::new();
    for row in &of.entries {
        let (debit, credit) = (row.debit.as_str(), row.credit.as_str());
        let minor = row.amount.minor();
        let of_debit = credits.entry(debit).or_default();
        *of_debit = of_debit.saturating_sub(minor);
        let of_credit = credits.entry(credit).or_default();
        *of_credit = of_credit.saturating_add(minor);
    }
    for (account, minor) in credits
        .iter()
        .filter(|(account, _)| !is_debit_side(account))
    {
        if *minor < 0 {
            report(Breach::of(
                "M3",
                no.as_str(),
                format!("{account} not negative"),
                format!("{minor}"),
            ));
        }
    }
    let (paid, reserved, refunded) = (paid_minor(of), reserved_minor(of), refunded_minor(of));
    let merchant = (
        JournalAccount::MerchantPayable(no.clone()).name(),
        "paid - reserved",
        paid.saturating_sub(reserved),
    );
    let refund_reserved = (
        JournalAccount::RefundReserved(no.clone()).name(),
        "reserved - refunded",
        reserved.saturating_sub(refunded),
    );
    for (account, formula, expected) in [merchant, refund_reserved] {
        let found = credits.get(account.as_str()).copied().unwrap_or_default();
        if found != expected {
            report(Breach::of(
                "M3",
                no.as_str(),
                format!("{account} = {formula} = {expected}"),
                format!("{found}"),
            ));
        }
    }
}

/// The amount paid by the paying attempt. Unit: minor units.
pub(super) fn paid_minor(of: &StoredOrder) -> i64 {
    let is_paying = |id| of.order.paying_attempt_id.as_ref() == Some(id);
    let paying_attempt_id = of.attempts.iter().find(|one| is_paying(&one.id));
    let paid = paying_attempt_id.filter(|one| one.state == AttemptState::Paid);
    paid.map_or(0, |one| one.amount.minor())
}

/// The part of it that is reserved or refunded (R1). Unit: minor units.
pub(super) fn reserved_minor(of: &StoredOrder) -> i64 {
    summed(of, |one| one.state.is_reserved())
}

/// The refunded part of it (R2). Unit: minor units.
pub(super) fn refunded_minor(of: &StoredOrder) -> i64 {
    summed(of, |one| one.state == RefundState::Succeeded)
}

fn summed(of: &StoredOrder, counts: impl Fn(&RefundRow) -> bool) -> i64 {
    let counted = of
        .refunds
        .iter()
        .filter(|one| !one.is_excess && counts(one));
    counted.fold(0, |sum, one| {
        let counted = one.amount.minor().saturating_sub(one.over_refunded_minor);
        sum.saturating_add(counted)
    })
}

fn is_debit_side(account: &str) -> bool {
    account.starts_with("RECV:") || account.starts_with("LOSS:")
}

/// Account totals of one currency, each with its normal sign. Unit: minor units.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct JournalSums {
    /// What institutions received.
    pub recv: i128,
    /// Over-refunds.
    pub loss: i128,
    /// Payable to merchants.
    pub merchant_payable: i128,
    /// Reserved for refunds.
    pub hold: i128,
    /// Excess payments payable to payers.
    pub excess_payable: i128,
}

/// The totals of each currency.
#[derive(Debug, Default)]
pub struct JournalTotals(BTreeMap<&'static str, JournalSums>);

impl JournalTotals {
    /// Adds one entry.
    pub fn add(&mut self, row: &EntryRow, report: &mut BreachSink<'_>) {
        let sums = self.0.entry(row.amount.currency().code()).or_default();
        let minor = i128::from(row.amount.minor());
        // A debit increases a debit account and decreases a credit account.
        for (account, debited) in [(&row.debit, minor), (&row.credit, minor.saturating_neg())] {
            let credited = debited.saturating_neg();
            let (sum, grows) = match account.split_once(':').map(|(kind, _)| kind) {
                Some("RECV") => (&mut sums.recv, debited),
                Some("LOSS") => (&mut sums.loss, debited),
                Some("MERCH") => (&mut sums.merchant_payable, credited),
                Some("HOLD") => (&mut sums.hold, credited),
                Some("SURP") => (&mut sums.excess_payable, credited),
                Some(_) | None => {
                    report(Breach::of(
                        "M2",
                        format!("entry {}", row.id),
                        "one of the accounts RECV, LOSS, MERCH, HOLD and SURP",
                        account.as_str(),
                    ));
                    continue;
                }
            };
            *sum = sum.saturating_add(grows);
        }
    }

    /// M2, after all entries were added.
    pub fn balance(&self, report: &mut BreachSink<'_>) {
        for (currency, sums) in &self.0 {
            let left = sums.recv.saturating_add(sums.loss);
            let right = sums.merchant_payable.saturating_add(sums.hold);
            let right = right.saturating_add(sums.excess_payable);
            if left != right {
                report(Breach::of(
                    "M2",
                    *currency,
                    format!("RECV + LOSS = {left}"),
                    format!("MERCH + HOLD + SURP = {right}"),
                ));
            }
        }
    }

    /// Each currency's code and totals.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, JournalSums)> {
        self.0.iter().map(|(currency, sums)| (*currency, *sums))
    }
}
