//! One table of a TOML document: its allowed and its required names.
//!
//! A value that cannot be read is absent for the caller, and the reader has recorded the fault.

mod advice;
mod renamed;

use std::ops::RangeInclusive;

use toml::de::{DeTable, DeValue};

use crate::config::reading::{ConfigReader, ExpectedValue, Located, shape};
use crate::domain::identifiers::Timestamp;

/// Which second of a day is meant: the first or the last.
#[derive(Clone, Copy)]
pub(super) enum DayBoundary {
    First,
    Last,
}

/// One table of the document. The names that were read are the allowed ones.
pub(super) struct Section<'d> {
    pub(super) title: String,
    pub(super) line: usize,
    table: Option<&'d DeTable<'d>>,
    known: Vec<&'static str>,
}

/// Why a number has its bounds.
#[derive(Default, Clone, Copy)]
pub(super) struct BoundsReason<'a> {
    /// What follows the bounds in the fault.
    pub(super) why: &'a str,
    /// What to do; `None` for the usual advice on a number.
    pub(super) advice: Option<&'a str>,
}

impl<'d> Section<'d> {
    pub(super) fn whole(table: &'d DeTable<'d>) -> Self {
        Self {
            title: String::new(),
            line: 1,
            table: Some(table),
            known: Vec::new(),
        }
    }

    pub(super) fn subject(&self, name: &str) -> String {
        format!("{} {name}", self.title).trim().to_owned()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(name))
    }

    /// Allows names that are not read this time.
    pub(super) fn knows(&mut self, names: &[&'static str]) {
        self.known.extend(names);
    }

    fn value(
        &mut self,
        r: &ConfigReader<'_>,
        name: &'static str,
    ) -> Option<Located<&'d DeValue<'d>>> {
        self.known.push(name);
        let value = self.table?.get(name)?;
        Some(Located {
            line: r.line(value.span().start),
            value: value.get_ref(),
        })
    }

    /// The line of a name; the line of the table if the name is absent.
    pub(super) fn line_of(&self, r: &ConfigReader<'_>, name: &str) -> usize {
        let value = self.table.and_then(|table| table.get(name));
        value.map_or(self.line, |value| r.line(value.span().start))
    }

    /// Reads an optional value.
    pub(super) fn may<T>(
        &mut self,
        r: &mut ConfigReader<'_>,
        name: &'static str,
        shape: ExpectedValue,
        read: impl FnOnce(&'d DeValue<'d>) -> Option<T>,
    ) -> Option<Located<T>> {
        let Located { value, line } = self.value(r, name)?;
        if let Some(value) = read(value) {
            return Some(Located { value, line });
        }
        let advice = advice::on_value(name, shape, value);
        r.fault(
            line,
            &self.subject(name),
            shape.expected,
            &describe(value),
            &advice,
        );
        None
    }

    /// Reads a required value.
    pub(super) fn mandatory<T>(
        &mut self,
        r: &mut ConfigReader<'_>,
        name: &'static str,
        shape: ExpectedValue,
        read: impl FnOnce(&'d DeValue<'d>) -> Option<T>,
    ) -> Option<Located<T>> {
        if self.has(name) {
            return self.may(r, name, shape, read);
        }
        self.known.push(name);
        // A missing table has been reported already.
        self.table?;
        let advice = format!("add it, for example {name} = {}", shape.example);
        r.fault(
            self.line,
            &self.subject(name),
            shape.expected,
            "nothing",
            &advice,
        );
        None
    }

    /// A whole number within bounds, or its default.
    pub(super) fn number(
        &mut self,
        r: &mut ConfigReader<'_>,
        name: &'static str,
        default: u64,
        bounds: RangeInclusive<u64>,
    ) -> u64 {
        self.number_for(r, name, default, bounds, BoundsReason::default())
    }

    /// The same with a reason for the bounds and advice.
    pub(super) fn number_for(
        &mut self,
        r: &mut ConfigReader<'_>,
        name: &'static str,
        default: u64,
        bounds: RangeInclusive<u64>,
        reason: BoundsReason<'_>,
    ) -> u64 {
        let Some(Located { value, line }) = self.value(r, name) else {
            return default;
        };
        let number = value
            .as_integer()
            .and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
        if let Some(number) = number.filter(|n| bounds.contains(n)) {
            return number;
        }
        let (first, last) = (bounds.start(), bounds.end());
        let expected = format!("a whole number from {first} to {last}{}", reason.why);
        let text = value.as_str().and_then(|text| text.trim().parse().ok());
        let fits = text.is_some_and(|number| bounds.contains(&number));
        let advice = match reason.advice {
            Some(advice) => advice.to_owned(),
            None => advice::on_number(name, default, value, fits),
        };
        let found = describe(value);
        r.fault(line, &self.subject(name), &expected, &found, &advice);
        default
    }

    pub(super) fn flag(
        &mut self,
        r: &mut ConfigReader<'_>,
        name: &'static str,
        default: bool,
    ) -> bool {
        let example = if default { "true" } else { "false" };
        self.may(r, name, shape("true or false", example), DeValue::as_bool)
            .map_or(default, |found| found.value)
    }

    /// A list of texts; empty if absent. Each invalid entry is a fault of its own.
    pub(super) fn list<T>(
        &mut self,
        r: &mut ConfigReader<'_>,
        name: &'static str,
        shape: ExpectedValue,
        read: impl Fn(&str) -> Option<T>,
    ) -> Vec<Located<T>> {
        let Some(Located { value, line }) = self.value(r, name) else {
            return Vec::new();
        };
        let Some(entries) = value.as_array() else {
            let advice = advice::on_no_list(name, shape, value);
            let expected = format!("a list, each entry {}", shape.expected);
            r.fault(
                line,
                &self.subject(name),
                &expected,
                &describe(value),
                &advice,
            );
            return Vec::new();
        };
        let mut found = Vec::with_capacity(entries.len());
        for entry in entries {
            let line = r.line(entry.span().start);
            if let Some(value) = entry.get_ref().as_str().and_then(&read) {
                found.push(Located { value, line });
            } else {
                let there = describe(entry.get_ref());
                let advice = advice::on_entry(name, shape, entry.get_ref());
                r.fault(line, &self.subject(name), shape.expected, &there, &advice);
            }
        }
        found
    }

    /// A list of texts with at least one entry.
    pub(super) fn some<T>(
        &mut self,
        r: &mut ConfigReader<'_>,
        name: &'static str,
        shape: ExpectedValue,
        read: impl Fn(&str) -> Option<T>,
    ) -> Vec<Located<T>> {
        let there = self.table.and_then(|table| table.get(name));
        let is_empty = |list: &DeValue<'_>| list.as_array().is_some_and(|list| list.is_empty());
        if there.is_none_or(|value| is_empty(value.get_ref())) {
            let expected = format!("at least one, {}", shape.expected);
            let advice = advice::on_none("name one", name, shape);
            r.fault(self.line, &self.subject(name), &expected, "none", &advice);
        }
        self.list(r, name, shape, read)
    }

    /// A moment. A day is one of Asia/Shanghai. Unit: Unix seconds.
    pub(super) fn moment(
        &mut self,
        r: &mut ConfigReader<'_>,
        name: &'static str,
        edge: DayBoundary,
    ) -> Option<Located<i64>> {
        const DAY: ExpectedValue = shape(
            "a day or a moment with its offset, of the years 2000 to 8999",
            "2026-11-22",
        );
        self.mandatory(r, name, DAY, |value| match value.as_datetime() {
            Some(moment) => seconds(&moment.to_string(), edge),
            None => None,
        })
    }

    /// From the first name to the second, which must not end before it begins. Unit: Unix seconds.
    pub(super) fn span(
        &mut self,
        r: &mut ConfigReader<'_>,
        [first, last]: [&'static str; 2],
    ) -> Option<(i64, i64)> {
        let from = self.moment(r, first, DayBoundary::First);
        let until = self.moment(r, last, DayBoundary::Last);
        let (from, until) = (from?, until?);
        if from.value > until.value {
            let found = "an earlier one";
            let advice = "exchange the two, or correct one";
            let subject = self.subject(last);
            let expected = format!("a day after {first}");
            r.fault(until.line, &subject, &expected, found, advice);
            return None;
        }
        Some((from.value, until.value))
    }

    /// `[name]` in this table; an empty one if absent.
    pub(super) fn table(&mut self, r: &mut ConfigReader<'_>, name: &'static str) -> Section<'d> {
        let title = self.inner(name);
        let there = self.value(r, name);
        let line = there.as_ref().map_or(self.line, |found| found.line);
        let table = there.as_ref().and_then(|found| found.value.as_table());
        if let (Some(found), None) = (&there, table) {
            let advice = format!("write [{title}] on a line of its own");
            r.fault(
                line,
                &format!("[{title}]"),
                "a table",
                &describe(found.value),
                &advice,
            );
        }
        Section {
            title: format!("[{title}]"),
            line,
            table,
            known: Vec::new(),
        }
    }

    /// `[name]`, which is required.
    pub(super) fn required(&mut self, r: &mut ConfigReader<'_>, name: &'static str) -> Section<'d> {
        if !self.has(name) {
            let title = format!("[{}]", self.inner(name));
            r.fault(
                0,
                &title,
                "this table",
                "nothing",
                "add it; the routes.toml that comes with paymux shows how",
            );
        }
        self.table(r, name)
    }

    /// The text under every name of this table, whatever the names are. Each invalid one is a fault of
    /// its own.
    pub(super) fn named_texts<T>(
        &self,
        r: &mut ConfigReader<'_>,
        shape: ExpectedValue,
        read: impl Fn(&str) -> Option<T>,
    ) -> Vec<(Box<str>, T)> {
        let mut found = Vec::new();
        for (name, value) in self.table.iter().flat_map(|table| table.iter()) {
            let name = name.get_ref().as_ref();
            if let Some(read) = value.get_ref().as_str().and_then(&read) {
                found.push((name.into(), read));
                continue;
            }
            let line = r.line(value.span().start);
            let title = self.title.trim_matches(['[', ']']);
            let there = describe(value.get_ref());
            let advice = format!("write {name} = {}", shape.example);
            let subject = format!("{title} {name}");
            r.fault(line, &subject, shape.expected, &there, &advice);
        }
        found
    }

    /// Every `[[name]]` in this table.
    pub(super) fn tables(
        &mut self,
        r: &mut ConfigReader<'_>,
        name: &'static str,
    ) -> Vec<Section<'d>> {
        let title = self.inner(name);
        let Some(Located { value, line }) = self.value(r, name) else {
            return Vec::new();
        };
        let entries = value.as_array().map(|list| list.iter()).unwrap_or_default();
        let tables: Vec<_> = entries
            .filter_map(|entry| {
                Some(Section {
                    title: format!("[[{title}]]"),
                    line: r.line(entry.span().start),
                    table: Some(entry.get_ref().as_table()?),
                    known: Vec::new(),
                })
            })
            .collect();
        if value
            .as_array()
            .is_none_or(|list| list.len() != tables.len())
        {
            let advice = format!("write [[{title}]] on a line of its own");
            r.fault(
                line,
                &format!("[[{title}]]"),
                "tables",
                &describe(value),
                &advice,
            );
        }
        tables
    }

    fn inner(&self, name: &str) -> String {
        match self.title.trim_matches(['[', ']']) {
            "" => name.to_owned(),
            outer => format!("{outer}.{name}"),
        }
    }

    /// Reports every name in the table that was not read as unknown.
    pub(super) fn end(&self, r: &mut ConfigReader<'_>) {
        for name in self.table.iter().flat_map(|table| table.keys()) {
            let typed = name.get_ref().as_ref();
            if self.known.contains(&typed) {
                continue;
            }
            let expected = format!("one of {}", self.known.join(", "));
            let advice = advice::on_unknown(&self.title, typed, &self.known);
            let line = r.line(name.span().start);
            let subject = if self.title.is_empty() {
                "names"
            } else {
                &self.title
            };
            r.fault(
                line,
                subject,
                &expected,
                &format!("unknown name {typed:?}"),
                &advice,
            );
        }
    }
}

fn seconds(moment: &str, edge: DayBoundary) -> Option<i64> {
    if moment.len() == 10 {
        let time_of_day = match edge {
            DayBoundary::First => "000000",
            DayBoundary::Last => "235959",
        };
        let moment = Timestamp::parse_local(&moment.replace('-', ""), time_of_day).ok()?;
        return Some(moment.seconds());
    }
    let moment = Timestamp::parse_rfc3339(moment).ok()?;
    Some(moment.seconds())
}

/// A short description of a value. What looks like a private key is not repeated.
fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.contains("PRIVATE KEY") => {
            "a private key (not shown)".to_owned()
        }
        DeValue::String(text) if text.chars().count() > 60 => {
            format!("a text of {} characters", text.chars().count())
        }
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(moment) => moment.to_string(),
        DeValue::Array(list) if list.is_empty() => "an empty list".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
