//! Standard output and standard error of every command: one writer, through which all text goes.
//!
//! What somebody else wrote may reach a person's terminal: the text of an order, of an
//! institution's answer, of a file. Control characters would be obeyed there, characters of format
//! would show something else than is there, so all but the line feed are escaped.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, IsTerminal, StderrLock, StdoutLock, Write};

/// Nobody reads the output any more, as behind `| head -1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads the output any more")]
pub struct ReaderGone;

/// Text for people and programs, escaped.
pub struct EscapedOutput<W> {
    inner: W,
    obeyed: &'static [char],
}

/// What every text may hold.
const LINES: &[char] = &['\n'];

/// What a text of our own for a terminal holds besides: colours, and a line that is written anew.
const SCREEN: &[char] = &['\n', '\r', '\u{1b}'];

/// Standard output.
pub fn stdout() -> EscapedOutput<StdoutLock<'static>> {
    EscapedOutput {
        inner: io::stdout().lock(),
        obeyed: LINES,
    }
}

/// Standard error.
pub fn stderr() -> EscapedOutput<StderrLock<'static>> {
    EscapedOutput {
        inner: io::stderr().lock(),
        obeyed: LINES,
    }
}

/// Whether a person sees standard output and standard error.
pub fn are_terminals() -> (bool, bool) {
    (io::stdout().is_terminal(), io::stderr().is_terminal())
}

/// Standard output where it is a terminal and the text is all our own: the demonstration's.
pub fn screen() -> EscapedOutput<StdoutLock<'static>> {
    EscapedOutput {
        inner: io::stdout().lock(),
        obeyed: SCREEN,
    }
}

impl<W: Write> Write for EscapedOutput<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let text = escaped_but(&text, self.obeyed);
        self.inner.write_all(text.as_bytes()).map_err(told)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush().map_err(told)
    }
}

/// A closed pipe by a name that tells it from a connection that broke.
fn told(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::BrokenPipe {
        io::Error::new(ErrorKind::BrokenPipe, ReaderGone)
    } else {
        error
    }
}

/// A text in which nothing but line feeds is obeyed by a terminal: `\u009b`, as JSON has it, so
/// that a JSON text means the same as before.
pub fn escaped(text: &str) -> Cow<'_, str> {
    escaped_but(text, LINES)
}

/// A text that stays on its line as well.
pub fn on_one_line(text: &str) -> Cow<'_, str> {
    escaped_but(text, &[])
}

/// The same for a line of the log on a terminal: it may be coloured, and nothing else.
pub fn on_one_coloured_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        shown.push_str(&on_one_line(before));
        let colour = after.strip_prefix('[').and_then(|one| one.split_once('m'));
        let is_colour = |codes: &str| codes.bytes().all(|it| it.is_ascii_digit() || it == b';');
        if let Some((codes, next)) = colour.filter(|(codes, _)| is_colour(codes)) {
            let _ = write!(shown, "\u{1b}[{codes}m");
            rest = next;
        } else {
            shown.push_str("\\u001b");
            rest = after;
        }
    }
    shown.push_str(&on_one_line(rest));
    shown
}

fn escaped_but<'t>(text: &'t str, obeyed: &[char]) -> Cow<'t, str> {
    let is_hidden = |message: char| is_hidden(message) && !obeyed.contains(&message);
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len().saturating_add(16));
    for message in text.chars() {
        if is_hidden(message) {
            for unit in message.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(message);
        }
    }
    Cow::Owned(shown)
}

/// Whether a character does something or nothing visible: controls (C0, DEL, C1), what turns the
/// direction of writing, what has no width, fillers and tags.
fn is_hidden(message: char) -> bool {
    message.is_control()
        || matches!(message,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        let mut out = EscapedOutput {
            inner: Vec::new(),
            obeyed: LINES,
        };
        write!(out, "{text}").unwrap();
        String::from_utf8(out.inner).unwrap()
    }

    /// What a terminal would obey, or show as something else, is spelled out, and JSON stays
    /// the JSON it was.
    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(
            written("a\u{1b}[2J\u{9b}31m\r\tb\n"),
            "a\\u001b[2J\\u009b31m\\u000d\\u0009b\n"
        );
        for hidden in [
            "\u{202e}", "\u{2066}", "\u{200b}", "\u{feff}", "\u{ad}", "\u{7f}", "\u{85}",
        ] {
            assert!(written(hidden).is_ascii(), "{hidden:?}");
        }
        assert_eq!(written("\u{e0041}"), "\\udb40\\udc41");
        let json = serde_json::json!({ "title": "\u{9b}2J\u{202e}\u{e0041}付款 é" });
        let read: serde_json::Value = serde_json::from_str(&written(&json.to_string())).unwrap();
        assert_eq!(read, json);
        assert_eq!(written("付款 é ✓ 👍"), "付款 é ✓ 👍");
        assert_eq!(on_one_line("a\nb"), "a\\u000ab");
    }
}
