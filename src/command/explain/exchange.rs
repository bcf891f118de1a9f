//! An entry of the exchange log for a person: what both sides said, and what their signatures cover.

use std::io::{self, Write};

use serde_json::Value;

use crate::domain::identifiers::Timestamp;
use crate::flow::exchange_log;
use crate::terminal::on_one_line;

/// One exchange of messages.
pub(super) struct Exchange {
    /// When it began.
    pub(super) at: Timestamp,
    /// With whom.
    pub(super) with: String,
    /// What it was.
    pub(super) what: String,
    /// What was made of it, and how long it took.
    pub(super) result: String,
    entry: Value,
}

impl Exchange {
    /// Reads an entry as it was stored; nothing if it is none.
    pub(super) fn read(line: &str) -> Option<Self> {
        let entry = exchange_log::read(line)?;
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        let took = entry.get("tookMs").and_then(Value::as_u64).unwrap_or(0);
        let unproven = entry.get("unproven").and_then(Value::as_bool);
        let mark = if unproven.unwrap_or(false) {
            ", from somebody who was not proven"
        } else {
            ""
        };
        Some(Self {
            at: Timestamp::from_ms(entry.get("at")?.as_i64()?),
            with: text("with")?.to_owned(),
            what: text("what")?.to_owned(),
            result: format!("{}, {took} ms{mark}", text("result")?),
            entry,
        })
    }

    /// What was said, as it was stored, for machines.
    pub(super) fn said(mut self) -> impl Iterator<Item = (String, Value)> {
        let mut side = |name: &str| {
            let said = self.entry.get_mut(name).map(Value::take);
            said.map(|said| (name.to_owned(), said))
        };
        [side("asked"), side("answered")].into_iter().flatten()
    }

    /// Prints what was said, indented.
    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        for (side, sign) in [("asked", ">"), ("answered", "<")] {
            let Some(said) = self.entry.get(side) else {
                continue;
            };
            let line = said.get("line").and_then(Value::as_str).unwrap_or_default();
            let line = on_one_line(line);
            match said.get("body") {
                None | Some(Value::Null) => writeln!(out, "{:14}{sign} {line}", "")?,
                Some(body) => writeln!(out, "{:14}{sign} {line} {body}", "")?,
            }
            if let Some(base) = said.get("signatureBase").and_then(Value::as_str) {
                for line in base.lines() {
                    writeln!(out, "{:14}{sign}   | {line}", "")?;
                }
            }
        }
        Ok(())
    }
}
