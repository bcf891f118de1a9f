//! One pass over a JSON text that takes it apart without reading it: names, and values as they stand. What is
//! inside a value that is passed over is not looked at, so whoever shows one must know what it is.

use std::borrow::Cow;

/// What is left of the text.
pub(super) struct Scanner<'a>(&'a str);

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
        Self(text)
    }

    /// The byte that comes next, behind white space.
    pub(super) fn peek(&mut self) -> Option<u8> {
        self.0 = self.0.trim_start_matches([' ', '\t', '\n', '\r']);
        self.0.bytes().next()
    }

    /// Takes this sign if it comes next.
    pub(super) fn take(&mut self, sign: char) -> bool {
        self.peek();
        let rest = self.0.strip_prefix(sign);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// Takes a string.
    pub(super) fn quoted(&mut self) -> Option<Quoted<'a>> {
        if !self.take('"') {
            return None;
        }
        let (mut is_escaped, mut has_escapes) = (false, false);
        for (at, byte) in self.0.bytes().enumerate() {
            match byte {
                0..=0x1f => return None,
                _ if is_escaped => is_escaped = false,
                b'\\' => (is_escaped, has_escapes) = (true, true),
                b'"' => {
                    let (inner, rest) = self.0.split_at_checked(at)?;
                    self.0 = rest.strip_prefix('"')?;
                    return Some(Quoted { inner, has_escapes });
                }
                _ => (),
            }
        }
        None
    }

    /// Takes a number, `true`, `false` or `null`.
    pub(super) fn scalar(&mut self) -> Option<&'a str> {
        self.peek();
        let is_end = |message: char| !(message.is_ascii_alphanumeric() || "+-.".contains(message));
        let end = self.0.find(is_end).unwrap_or(self.0.len());
        let (scalar, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
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
                    self.step();
                    depth = depth.saturating_add(1);
                }
                b'}' | b']' | b',' | b':' if depth > 0 => {
                    let is_close = matches!(self.peek()?, b'}' | b']');
                    self.step();
                    depth = depth.saturating_sub(usize::from(is_close));
                }
                _ => drop(self.scalar()?),
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn step(&mut self) {
        let mut messages = self.0.chars();
        messages.next();
        self.0 = messages.as_str();
    }
}
