//! The covered components of a signature, in order, and the resulting signature base (RFC 9421,
//! section 2). Used for both signing and verifying, so that they cannot differ.

use std::borrow::Cow;
use std::ops::Range;

use sfv::{BareItemFromInput, ItemSerializer, KeyRef, RefBareItem};

use crate::signature::fault::{SignatureFault, shown};
use crate::signature::field;
use crate::signature::message::{Found, Message};

/// Maximum number of covered components; comparing them with each other is quadratic.
const COMPONENTS_MAX: usize = 64;
/// Initial capacities that fit our own messages, to avoid reallocation.
const WRITTEN_BYTES: usize = 320;
const BASE_BYTES: usize = 1_024;

/// A supported component: a name, of this message or of its request, and for a dictionary field the
/// key of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) req: bool,
    pub(super) key: Option<Cow<'a, str>>,
}

impl<'a> Part<'a> {
    /// A component of the message itself.
    pub(super) const fn own(name: &'a str) -> Self {
        Self {
            name: Cow::Borrowed(name),
            req: false,
            key: None,
        }
    }

    /// A component of the request that a response answers (`req`).
    pub(super) const fn of_request(name: &'a str) -> Self {
        Self {
            name: Cow::Borrowed(name),
            req: true,
            key: None,
        }
    }

    /// The signature with this label in the request that a response answers.
    pub(super) const fn request_signature(label: &'a str) -> Self {
        Self {
            name: Cow::Borrowed("signature"),
            req: true,
            key: Some(Cow::Borrowed(label)),
        }
    }

    fn write_identifier(&self, out: &mut String) {
        out.push('"');
        out.push_str(&self.name);
        out.push('"');
        if self.req {
            out.push_str(";req");
        }
        if let Some(key) = &self.key {
            out.push_str(";key=\"");
            out.push_str(key);
            out.push('"');
        }
    }
}

struct Component<'a> {
    part: Part<'a>,
    /// The range of its identifier in `written`.
    identifier: Range<usize>,
    supported: bool,
}

impl Component<'_> {
    fn is(&self, part: &Part<'_>) -> bool {
        self.supported && self.part == *part
    }
}

/// The covered components and the member of `Signature-Input` that they form.
pub(super) struct Covered<'a> {
    components: Vec<Component<'a>>,
    /// `("@method" …);created=…` in canonical form, as far as parsed or written.
    pub(super) written: String,
}

impl Default for Covered<'_> {
    fn default() -> Self {
        let mut written = String::with_capacity(WRITTEN_BYTES);
        written.push('(');
        Self {
            components: Vec::with_capacity(8),
            written,
        }
    }
}

impl<'a> Covered<'a> {
    /// Covers these components; signature parameters must still be appended to `written`.
    pub(super) fn of(parts: &[Part<'a>]) -> Self {
        let mut covered = Self::default();
        for part in parts {
            covered.separate();
            let start = covered.written.len();
            part.write_identifier(&mut covered.written);
            let identifier = start..covered.written.len();
            covered.components.push(Component {
                part: part.clone(),
                identifier,
                supported: true,
            });
        }
        covered.close();
        covered
    }

    /// Adds the name of the next component of a list being parsed, or returns its fault.
    pub(super) fn open(&mut self, name: BareItemFromInput<'a>) -> Option<&'static str> {
        if self.components.len() >= COMPONENTS_MAX {
            return Some("too many covered components");
        }
        self.separate();
        let start = self.written.len();
        write_bare(&mut self.written, &name);
        let identifier = start..self.written.len();
        let Some(name) = field::into_text(name) else {
            return Some("the name of a covered component is not a string");
        };
        let part = Part {
            name,
            req: false,
            key: None,
        };
        self.components.push(Component {
            part,
            identifier,
            supported: true,
        });
        None
    }

    /// Adds a parameter of the last component.
    pub(super) fn parameter(&mut self, key: &KeyRef, value: BareItemFromInput<'a>) {
        push_parameter(&mut self.written, key, &value);
        let Some(component) = self.components.last_mut() else {
            return;
        };
        component.identifier.end = self.written.len();
        let part = &mut component.part;
        component.supported &= match (key.as_str(), value) {
            ("req", BareItemFromInput::Boolean(true)) if !part.req => {
                part.req = true;
                true
            }
            ("key", value @ BareItemFromInput::String(_)) if part.key.is_none() => {
                part.key = field::into_text(value);
                true
            }
            _ => false,
        };
    }

    /// Ends the list; signature parameters follow in `written`.
    pub(super) fn close(&mut self) {
        self.written.push(')');
    }

    fn separate(&mut self) {
        if !self.components.is_empty() {
            self.written.push(' ');
        }
    }

    /// Checks that all required components are covered.
    ///
    /// # Errors
    /// [`SignatureFault::CoversTooLittle`] with all missing ones.
    pub(super) fn require(&self, parts: &[Part<'_>]) -> Result<(), SignatureFault> {
        let mut missing = String::new();
        for part in parts {
            if !self.components.iter().any(|component| component.is(part)) {
                if !missing.is_empty() {
                    missing.push(' ');
                }
                part.write_identifier(&mut missing);
            }
        }
        if missing.is_empty() {
            Ok(())
        } else {
            Err(SignatureFault::CoversTooLittle { missing })
        }
    }

    /// The signature base: what is signed.
    ///
    /// # Errors
    /// A component is unsupported, absent, or covered twice.
    pub(super) fn base(&self, message: &Message<'_>) -> Result<String, SignatureFault> {
        let mut base = String::with_capacity(BASE_BYTES);
        let mut rest = self.components.as_slice();
        while let [component, later @ ..] = rest {
            if component.supported && later.iter().any(|other| other.is(&component.part)) {
                return Err(SignatureFault::Malformed("a component is covered twice"));
            }
            rest = later;
            let identifier = self
                .written
                .get(component.identifier.clone())
                .unwrap_or_default();
            base.push_str(identifier);
            base.push_str(": ");
            let found = if component.supported {
                message.write(&component.part, &mut base)?
            } else {
                Found::Unsupported
            };
            match found {
                Found::Written => base.push('\n'),
                Found::Absent => return Err(SignatureFault::ComponentAbsent(shown(identifier))),
                Found::Unsupported => {
                    return Err(SignatureFault::UnsupportedComponent(shown(identifier)));
                }
            }
        }
        base.push_str("\"@signature-params\": ");
        base.push_str(&self.written);
        Ok(base)
    }
}

/// Appends `;key=value` in canonical form (RFC 8941, section 4.1.1.2).
pub(super) fn push_parameter<'b>(
    out: &mut String,
    key: &KeyRef,
    value: impl Into<RefBareItem<'b>>,
) {
    let value = value.into();
    out.push(';');
    out.push_str(key.as_str());
    if value != RefBareItem::Boolean(true) {
        out.push('=');
        write_bare(out, value);
    }
}

fn write_bare<'b>(out: &mut String, value: impl Into<RefBareItem<'b>>) {
    let _ = ItemSerializer::with_buffer(out).bare_item(value);
}
