//! Tokenizes a JSON text in one pass: names, and values as raw text. The content of a skipped value
//! is not checked, so a caller that prints one must know what it is.

use std::borrow::Cow;

/// A text and the current position. Unit: bytes.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

/// The raw text of a string, between its quotes.
#[derive(Clone, Copy)]
pub(super) struct Quoted<'a> {
    inner: &'a str,
    has_escapes: bool,
}

impl<'a> Quoted<'a> {
    /// The raw text, if it has no escapes.
    pub(super) fn plain(self) -> Option<&'a str> {
        (!self.has_escapes).then_some(self.inner)
    }

    /// The decoded text; `None` if an escape is invalid.
    pub(super) fn text(self) -> Option<Cow<'a, str>> {
        if let Some(plain) = self.plain() {
            return Some(Cow::Borrowed(plain));
        }
        let quoted = format!("\"{}\"", self.inner);
        serde_json::from_str(&quoted).ok().map(Cow::Owned)
    }
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next byte after white space.
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.rest().first()? {
                b' ' | b'\t' | b'\n' | b'\r' => self.step(1),
                other => return Some(*other),
            }
        }
    }

    /// The position of the next token.
    pub(super) fn position(&mut self) -> usize {
        self.peek();
        self.at
    }

    /// The text from a position to the end of the last token.
    pub(super) fn since(&self, position: usize) -> &'a str {
        self.text.get(position..self.at).unwrap_or_default()
    }

    /// Takes this byte if it is next.
    pub(super) fn take(&mut self, expected: u8) -> bool {
        let is_next = self.peek() == Some(expected);
        self.step(usize::from(is_next));
        is_next
    }

    /// Takes a string.
    pub(super) fn quoted(&mut self) -> Option<Quoted<'a>> {
        if !self.take(b'"') {
            return None;
        }
        let from = self.at;
        let mut has_escapes = false;
        loop {
            let rest = self.rest();
            let is_special = |byte: &u8| matches!(byte, 0..=0x1f | b'"' | b'\\');
            let special = rest.iter().position(is_special)?;
            self.step(special.saturating_add(1));
            match rest.get(special)? {
                b'"' => break,
                b'\\' => {
                    has_escapes = true;
                    // An escaped byte does not end the string; a control character is invalid.
                    let escaped = self.rest().first().filter(|byte| **byte > 0x1f)?;
                    self.step(usize::from(escaped.is_ascii()));
                }
                _ => return None,
            }
        }
        let inner = self.text.get(from..self.at.saturating_sub(1))?;
        Some(Quoted { inner, has_escapes })
    }

    /// Takes a number, `true`, `false` or `null`.
    pub(super) fn scalar(&mut self) -> Option<&'a str> {
        self.peek();
        let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let length = self.rest().iter().take_while(is_part).count();
        let from = self.at;
        self.step(length);
        let scalar = self.text.get(from..self.at)?;
        // Held to what its reader can read: a number may be written so that it is out of range.
        let is_one: Result<serde_json::Value, _> = serde_json::from_str(scalar);
        is_one.ok().map(|_| scalar)
    }

    /// Skips any value.
    pub(super) fn pass(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => drop(self.quoted()?),
                b'{' | b'[' => {
                    self.step(1);
                    depth = depth.saturating_add(1);
                }
                sign @ (b'}' | b']' | b',' | b':') if depth > 0 => {
                    self.step(1);
                    depth = depth.saturating_sub(usize::from(matches!(sign, b'}' | b']')));
                }
                _ => drop(self.scalar()?),
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn step(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
    }
}
