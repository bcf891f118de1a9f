//! Standard output and standard error of every command: one writer for all text.
//!
//! Untrusted text may reach a terminal: the text of an order, of an institution's response, of a
//! file. A terminal would interpret control characters, and format characters would disguise the
//! text, so all of them except the line feed are escaped.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, IsTerminal, StderrLock, StdoutLock, Write};

/// The reader of the output has closed its end of the pipe, as `| head -1` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reader of the output is gone")]
pub struct ReaderGone;

/// A writer that escapes control and format characters.
pub struct EscapedOutput<W> {
    inner: W,
    allowed: &'static [char],
}

/// Control characters allowed in any text.
const LINES: &[char] = &['\n'];

/// Control characters allowed in text of our own for a terminal: colours, and rewriting a line.
const SCREEN: &[char] = &['\n', '\r', '\u{1b}'];

/// Standard output.
pub fn stdout() -> EscapedOutput<StdoutLock<'static>> {
    EscapedOutput {
        inner: io::stdout().lock(),
        allowed: LINES,
    }
}

/// Standard error.
pub fn stderr() -> EscapedOutput<StderrLock<'static>> {
    EscapedOutput {
        inner: io::stderr().lock(),
        allowed: LINES,
    }
}

/// Whether standard output and standard error are terminals.
pub fn are_terminals() -> (bool, bool) {
    (io::stdout().is_terminal(), io::stderr().is_terminal())
}

/// Standard output for text that is entirely our own and may contain colours: the demonstration's.
pub fn screen() -> EscapedOutput<StdoutLock<'static>> {
    EscapedOutput {
        inner: io::stdout().lock(),
        allowed: SCREEN,
    }
}

impl<W: Write> Write for EscapedOutput<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let text = escaped_but(&text, self.allowed);
        self.inner
            .write_all(text.as_bytes())
            .map_err(mark_closed_reader)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush().map_err(mark_closed_reader)
    }
}

/// Marks a closed output pipe with [`ReaderGone`], to tell it from a broken network connection.
fn mark_closed_reader(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::BrokenPipe {
        io::Error::new(ErrorKind::BrokenPipe, ReaderGone)
    } else {
        error
    }
}

/// Escapes everything but line feeds that a terminal would interpret, in JSON's form (`\u009b`), so
/// that a JSON text keeps its meaning.
pub fn escaped(text: &str) -> Cow<'_, str> {
    escaped_but(text, LINES)
}

/// Escapes line feeds as well.
pub fn on_one_line(text: &str) -> Cow<'_, str> {
    escaped_but(text, &[])
}

/// The same for a log line on a terminal: only colour sequences are kept.
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

fn escaped_but<'t>(text: &'t str, allowed: &[char]) -> Cow<'t, str> {
    let is_hidden = |character: char| is_hidden(character) && !allowed.contains(&character);
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len().saturating_add(16));
    for character in text.chars() {
        if is_hidden(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Whether a character is a control or invisible: C0, DEL, C1, bidirectional controls, zero-width
/// characters, fillers and tags.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
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
            allowed: LINES,
        };
        write!(out, "{text}").unwrap();
        String::from_utf8(out.inner).unwrap()
    }

    /// Control and format characters are escaped, and JSON keeps its meaning.
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
