//! Names from earlier versions of the configuration: each is refused, with its new name or table.

/// Old name, new name.
const RENAMED: &[(&str, &str)] = &[
    ("departures", "waivers"),
    ("in_reach_days", "removal_guard_days"),
    ("operator", "staff"),
    ("shed_pause_ms", "rejection_pause_ms"),
    ("sheds_per_second_max", "rejections_per_second_max"),
    ("trail_days", "exchange_log_days"),
    ("turn_ms", "permit_wait_ms"),
    ("turns_waiting_in_all_max", "permits_waiting_in_all_max"),
    ("turns_waiting_max", "permits_waiting_max"),
    (
        "turns_waiting_per_merchant_max",
        "permits_waiting_per_merchant_max",
    ),
];

/// A table, names it had earlier, and the table that has them now.
const MOVED: &[(&str, &[&str], &str)] = &[(
    "[[institution]]",
    &["key", "key_id", "key_not_after", "key_not_before", "keys"],
    "[[account]]",
)];

/// The table to which a name of this table has moved.
pub(super) fn moved(title: &str, old: &str) -> Option<&'static str> {
    let found = MOVED
        .iter()
        .find(|(table, names, _)| *table == title && names.contains(&old));
    found.map(|(_, _, place)| *place)
}

/// The new name of a renamed one.
pub(super) fn renamed(old: &str) -> Option<&'static str> {
    let found = RENAMED.iter().find(|(name, _)| *name == old);
    found.map(|(_, new)| *new)
}
