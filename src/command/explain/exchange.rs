//! Prints an entry of the exchange log: both messages, and what their signatures cover.

use std::io::{self, Write};

use serde_json::Value;

use crate::domain::identifiers::Timestamp;
use crate::flow::exchange_log;
use crate::terminal::on_one_line;

/// One exchange: a request and its response.
pub(super) struct Exchange {
    /// When it began.
    pub(super) at: Timestamp,
    /// The other party.
    pub(super) with: String,
    /// The call.
    pub(super) what: String,
    /// The outcome, and how long it took.
    pub(super) result: String,
    entry: Value,
}

impl Exchange {
    /// Parses a stored entry; `None` if it is not one.
    pub(super) fn read(line: &str) -> Option<Self> {
        let entry = exchange_log::read(line)?;
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        let took = entry.get("tookMs").and_then(Value::as_u64).unwrap_or(0);
        let unproven = entry.get("unproven").and_then(Value::as_bool);
        let mark = if unproven.unwrap_or(false) {
            ", sender not proven"
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

    /// Both messages as stored, for the JSON output.
    pub(super) fn messages(mut self) -> impl Iterator<Item = (String, Value)> {
        let mut side = |name: &str| {
            let message = self.entry.get_mut(name).map(Value::take);
            message.map(|message| (name.to_owned(), message))
        };
        [side("asked"), side("answered")].into_iter().flatten()
    }

    /// Prints both messages, indented.
    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        for (side, sign) in [("asked", ">"), ("answered", "<")] {
            let Some(message) = self.entry.get(side) else {
                continue;
            };
            let line = message.get("line").and_then(Value::as_str);
            let query = message.get("query");
            let query = query.map(|query| format!(" ?{query}")).unwrap_or_default();
            let line = on_one_line(line.unwrap_or_default());
            match message.get("body") {
                None | Some(Value::Null) => writeln!(out, "{:14}{sign} {line}{query}", "")?,
                Some(body) => writeln!(out, "{:14}{sign} {line}{query} {body}", "")?,
            }
            if let Some(base) = message.get("signatureBase").and_then(Value::as_str) {
                for line in base.lines() {
                    writeln!(out, "{:14}{sign}   | {line}", "")?;
                }
            }
        }
        Ok(())
    }
}
