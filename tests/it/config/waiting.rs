//! Limits of waiting for permits at institutions, which bound each other.

use super::{COMMITTED, ConfigFolder};

/// F1: a name from an earlier version gets the new name as advice.
#[test]
fn an_old_name_is_answered_with_the_new_one() {
    for (old, new) in [
        ("sheds_per_second_max", "rejections_per_second_max"),
        ("turn_ms", "permit_wait_ms"),
        ("turns_waiting_max", "permits_waiting_max"),
    ] {
        let (from, to) = (format!("\n{new} = "), format!("\n{old} = "));
        let fault = ConfigFolder::with(&from, &to).only_fault();
        let advice = format!("it is called {new} now");
        assert!(fault.contains(&advice), "{fault}");
    }
}

/// R-6.4-1c, F1: creates waiting at silent institutions cannot be configured to use the capacity of all
/// requests, nor those of one institution to use most of it. The fault names the limit that may be raised
/// instead.
#[test]
fn waiting_creates_cannot_be_set_to_hold_everything() {
    for (name, from, most, other) in [
        (
            "permits_waiting_in_all_max",
            256,
            256,
            "in_flight_orders_max",
        ),
        (
            "permits_waiting_max",
            128,
            128,
            "permits_waiting_in_all_max",
        ),
        (
            "permits_waiting_per_merchant_max",
            64,
            128,
            "permits_waiting_max",
        ),
    ] {
        let (line, over) = (format!("{name} = {from} "), most + 1);
        let fault = ConfigFolder::with(&line, &format!("{name} = {over} ")).only_fault();
        let expected = format!("[limits] {name}: expected a whole number from 0 to {most}, ");
        let advice = format!("write {most} or less, or raise {other}");
        assert!(fault.contains(&expected), "{fault}");
        assert!(fault.contains(&advice), "{fault}");
    }
    let site = ConfigFolder::fresh();
    let said = site.read().map_err(|f| f.to_string()).unwrap().limits;
    let silent = COMMITTED.lines().filter(|it| !it.starts_with("permits_w"));
    site.write(&silent.collect::<Vec<_>>().join("\n"));
    let meant = site.read().map_err(|f| f.to_string()).unwrap().limits;
    assert_eq!(said, meant, "the file says what is meant without it");
    let less = "in_flight_orders_max = 64 ";
    let site = ConfigFolder::with("in_flight_orders_max = 512 ", less);
    let faults = site.faults();
    assert_eq!(faults.len(), 3, "{faults:#?}");
}
