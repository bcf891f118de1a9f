//! What was noted of an order beside the ledger, for a person: what both sides said, and what their
//! signatures cover.

use std::io::{self, Write};

use serde_json::Value;

use crate::domain::identifiers::Timestamp;
use crate::flow::trail;
use crate::terminal::on_one_line;

/// One exchange of messages.
pub(super) struct Noted {
    /// When it began.
    pub(super) at: Timestamp,
    /// With whom.
    pub(super) with: String,
    /// What it was.
    pub(super) what: String,
    /// What was made of it, and how long it took.
    pub(super) verdict: String,
    note: Value,
}

impl Noted {
    /// Reads a note as it was kept; nothing if it is none.
    pub(super) fn read(line: &str) -> Option<Self> {
        let note = trail::read(line)?;
        let text = |name: &str| note.get(name).and_then(Value::as_str);
        let took = note.get("tookMs").and_then(Value::as_u64).unwrap_or(0);
        let stranger = note.get("stranger").and_then(Value::as_bool);
        let mark = if stranger.unwrap_or(false) {
            ", from somebody who was not proven"
        } else {
            ""
        };
        Some(Self {
            at: Timestamp::from_ms(note.get("at")?.as_i64()?),
            with: text("with")?.to_owned(),
            what: text("what")?.to_owned(),
            verdict: format!("{}, {took} ms{mark}", text("verdict")?),
            note,
        })
    }

    /// What was said, as it was kept, for machines.
    pub(super) fn said(mut self) -> impl Iterator<Item = (String, Value)> {
        let mut side = |name: &str| {
            let said = self.note.get_mut(name).map(Value::take);
            said.map(|said| (name.to_owned(), said))
        };
        [side("asked"), side("answered")].into_iter().flatten()
    }

    /// Prints what was said, indented.
    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        for (side, sign) in [("asked", ">"), ("answered", "<")] {
            let Some(said) = self.note.get(side) else {
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
