//! How many may wait for institutions: numbers that bound each other.

use super::{COMMITTED, Site};

/// R-6.4-1c, F1: creates that wait at silent institutions cannot be set to hold the places of all
/// requests: not together, and not those of one institution most of them. What may be raised instead
/// is said.
#[test]
fn waiting_creates_cannot_be_set_to_hold_everything() {
    for (name, from, most, other) in [
        ("turns_waiting_in_all_max", 256, 256, "in_flight_orders_max"),
        ("turns_waiting_max", 128, 128, "turns_waiting_in_all_max"),
        (
            "turns_waiting_per_merchant_max",
            64,
            128,
            "turns_waiting_max",
        ),
    ] {
        let (line, over) = (format!("{name} = {from} "), most + 1);
        let fault = Site::with(&line, &format!("{name} = {over} ")).only_fault();
        let expected = format!("[limits] {name}: expected a whole number from 0 to {most}, ");
        let advice = format!("write {most} or less, or raise {other}");
        assert!(fault.contains(&expected), "{fault}");
        assert!(fault.contains(&advice), "{fault}");
    }
    let site = Site::fresh();
    let said = site.read().map_err(|f| f.to_string()).unwrap().limits;
    let silent = COMMITTED.lines().filter(|it| !it.starts_with("turns_w"));
    site.write(&silent.collect::<Vec<_>>().join("\n"));
    let meant = site.read().map_err(|f| f.to_string()).unwrap().limits;
    assert_eq!(said, meant, "the file says what is meant without it");
    let less = "in_flight_orders_max = 64 ";
    let site = Site::with("in_flight_orders_max = 512 ", less);
    let faults = site.faults();
    assert_eq!(faults.len(), 3, "{faults:#?}");
}
