//! Names that a configuration of an earlier version may hold: each is refused, and its successor said.

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

/// A table, names that stood in it, and where they stand now.
const MOVED: &[(&str, &[&str], &str)] = &[(
    "[[institution]]",
    &["key", "key_id", "key_not_after", "key_not_before", "keys"],
    "[[account]]",
)];

/// In which table a name stands now that stood in this one.
pub(super) fn moved(title: &str, old: &str) -> Option<&'static str> {
    let found = MOVED
        .iter()
        .find(|(table, names, _)| *table == title && names.contains(&old));
    found.map(|(_, _, place)| *place)
}

/// What a name of an earlier version is called now.
pub(super) fn renamed(old: &str) -> Option<&'static str> {
    let found = RENAMED.iter().find(|(name, _)| *name == old);
    found.map(|(_, new)| *new)
}
