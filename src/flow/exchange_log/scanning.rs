//! One pass over a JSON text that takes it apart without reading it: names, and values as they stand. What is
//! inside a value that is passed over is not looked at, so whoever shows one must know what it is.

use std::borrow::Cow;

/// A text, and how far it was read. Unit: bytes.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

/// A string as it stands, between its quotes.
#[derive(Clone, Copy)]
pub(super) struct Quoted<'a> {
    inner: &'a str,
    has_escapes: bool,
}

impl<'a> Quoted<'a> {
    /// The same as it stands, if it can be written again without a change.
    pub(super) fn plain(self) -> Option<&'a str> {
        (!self.has_escapes).then_some(self.inner)
    }

    /// What it says; nothing if an escape in it means no character.
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

    /// The byte that comes next, after white space.
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.rest().first()? {
                b' ' | b'\t' | b'\n' | b'\r' => self.step(1),
                other => return Some(*other),
            }
        }
    }

    /// Where what comes next begins.
    pub(super) fn position(&mut self) -> usize {
        self.peek();
        self.at
    }

    /// The text from a position to what was taken last.
    pub(super) fn since(&self, position: usize) -> &'a str {
        self.text.get(position..self.at).unwrap_or_default()
    }

    /// Takes this sign if it comes next.
    pub(super) fn take(&mut self, sign: u8) -> bool {
        let comes_next = self.peek() == Some(sign);
        self.step(usize::from(comes_next));
        comes_next
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
                    // Whatever it is, it does not end the string; a control character is no escape.
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
        let is_one: Result<serde::de::IgnoredAny, _> = serde_json::from_str(scalar);
        is_one.ok().map(|_| scalar)
    }

    /// Passes over a value, whatever it is.
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
