//! The format of an institution's messages, and which of their values may be shown.

#[cfg(doc)]
use crate::domain::personal::INTERFACE_FIELDS_SHOWN;

/// The format of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFormat {
    /// A JSON object.
    Json,
    /// `name=value`, escaped, joined by `&`.
    Form,
    /// `name=value` as it is, joined by `&`; what stands in braces belongs to its value.
    KeyValue,
    /// Elements in one root element, without attributes and without any entity but the five
    /// predefined ones.
    Xml,
}

/// How messages are read for display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageFormat {
    /// The format of bodies that are neither a JSON object nor XML by their first character.
    pub body: BodyFormat,
    /// The fields whose values may be shown.
    pub shown: ShownFields,
}

/// The fields whose values may be shown, wherever they stand: nothing personal, and nothing usable to
/// pay (D1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownFields {
    /// Those of this gateway's own interface ([`INTERFACE_FIELDS_SHOWN`]).
    OfInterface,
    /// These.
    Listed(&'static [&'static str]),
}

impl MessageFormat {
    /// That of this gateway's own interface.
    pub const INTERFACE: Self = Self {
        body: BodyFormat::Json,
        shown: ShownFields::OfInterface,
    };
}
