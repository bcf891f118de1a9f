//! Header fields of signatures, parsed strictly as structured fields (RFC 8941). Parses only;
//! verifies nothing.

use std::borrow::Cow;
use std::convert::Infallible;

use http::{HeaderMap, HeaderName};
use sfv::visitor::{
    DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ParameterVisitor,
};
use sfv::{BareItemFromInput, KeyRef, Parser, StringRef, Version};

use crate::signature::covered::{Covered, push_parameter};
use crate::signature::fault::SignatureFault;

/// Maximum number of members of such a field; more are refused.
const MEMBERS_MAX: usize = 8;

const INPUT_FAULT: &str = "Signature-Input is not a dictionary of component lists";
const DUPLICATE: &str = "duplicate signature parameter";
const WRONG_TYPE: &str =
    "created and expires must be integers; keyid, alg and nonce must be strings";

/// The value of a field according to RFC 9421, section 2.1: lines trimmed and joined.
///
/// # Errors
/// [`SignatureFault::Malformed`] if it is not printable ASCII. Folded lines cannot occur: a
/// `HeaderValue` contains no line breaks.
pub(super) fn value<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<Cow<'a, str>>, SignatureFault> {
    let mut joined: Option<Cow<'a, str>> = None;
    for line in headers.get_all(name) {
        let line = line
            .to_str()
            .map_err(|_| SignatureFault::Malformed("a covered field is not printable ASCII"))?
            .trim_matches([' ', '\t']);
        joined = Some(match joined {
            None => Cow::Borrowed(line),
            Some(before) => {
                let mut before = before.into_owned();
                before.push_str(", ");
                before.push_str(line);
                Cow::Owned(before)
            }
        });
    }
    Ok(joined)
}

/// One member of `Signature-Input`.
#[derive(Default)]
pub(super) struct Input<'a> {
    pub(super) label: &'a str,
    pub(super) covered: Covered<'a>,
    pub(super) key_id: Option<Cow<'a, str>>,
    pub(super) algorithm: Option<Cow<'a, str>>,
    pub(super) nonce: Option<Cow<'a, str>>,
    pub(super) created_s: Option<i64>,
    pub(super) expires_s: Option<i64>,
    /// The fault of this member; relevant only if its key is known.
    pub(super) fault: Option<&'static str>,
}

/// Parses `Signature-Input`.
///
/// # Errors
/// [`SignatureFault::Malformed`] for the field as a whole; the fault of a single member is stored
/// in it.
pub(super) fn inputs(field: &str) -> Result<Vec<Input<'_>>, SignatureFault> {
    let read = Parser::new(field)
        .with_version(Version::Rfc8941)
        .parse_dictionary_with_visitor(Members {
            members: Vec::new(),
            fault: None,
        })
        .map_err(|_| SignatureFault::Malformed(INPUT_FAULT))?;
    let not_a_list = read
        .members
        .iter()
        .find_map(|input| input.fault.filter(|&it| it == INPUT_FAULT));
    match read.fault.or(not_a_list) {
        None => Ok(read.members),
        Some(fault) => Err(SignatureFault::Malformed(fault)),
    }
}

/// A dictionary of byte sequences by label, in field order.
#[derive(Default)]
pub(super) struct ByteSequences<'a> {
    pub(super) members: Vec<(&'a str, Vec<u8>)>,
    pub(super) has_parameters: bool,
    broken: bool,
}

/// Parses a dictionary of byte sequences: `Signature`, `Content-Digest`.
///
/// # Errors
/// [`SignatureFault::Malformed`] with the given text if it is anything else, or has too many
/// members.
pub(super) fn byte_sequences<'a>(
    field: &'a str,
    fault: &'static str,
) -> Result<ByteSequences<'a>, SignatureFault> {
    Parser::new(field)
        .with_version(Version::Rfc8941)
        .parse_dictionary_with_visitor(ByteSequences::default())
        .ok()
        .filter(|read| !read.broken)
        .ok_or(SignatureFault::Malformed(fault))
}

struct Members<'a> {
    members: Vec<Input<'a>>,
    fault: Option<&'static str>,
}

impl<'de> DictionaryVisitor<'de> for Members<'de> {
    type Out = Self;
    type Error = Infallible;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Infallible> {
        let label = key.as_str();
        if self.members.len() >= MEMBERS_MAX {
            self.fault = Some("too many signatures");
            return Ok(None);
        }
        if self.members.iter().any(|earlier| earlier.label == label) {
            self.fault = Some("duplicate label in Signature-Input");
            return Ok(None);
        }
        self.members.push(Input {
            label,
            ..Input::default()
        });
        Ok(self.members.last_mut().map(Member))
    }

    fn finish(self) -> Result<Self, Infallible> {
        Ok(self)
    }
}

struct Member<'s, 'de>(&'s mut Input<'de>);

impl<'de> EntryVisitor<'de> for Member<'_, 'de> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Infallible> {
        self.0.fault = Some(INPUT_FAULT);
        Ok(Ignored)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Infallible> {
        Ok(self)
    }
}

impl<'de> InnerListVisitor<'de> for Member<'_, 'de> {
    type Error = Infallible;

    fn item(&mut self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(Named(self.0))
    }

    fn finish(self) -> Result<impl ParameterVisitor<'de>, Infallible> {
        self.0.covered.close();
        Ok(Parameters(self.0))
    }
}

/// A component's name, then its parameters.
struct Named<'s, 'de>(&'s mut Input<'de>);

impl<'de> ItemVisitor<'de> for Named<'_, 'de> {
    type Out = ();
    type Error = Infallible;

    fn bare_item(
        self,
        item: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = ()>, Infallible> {
        let fault = self.0.covered.open(item);
        self.0.fault = self.0.fault.or(fault);
        Ok(self)
    }
}

impl<'de> ParameterVisitor<'de> for Named<'_, 'de> {
    type Out = ();
    type Error = Infallible;

    fn parameter(
        &mut self,
        key: &'de KeyRef,
        value: BareItemFromInput<'de>,
    ) -> Result<(), Infallible> {
        self.0.covered.parameter(key, value);
        Ok(())
    }

    fn finish(self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// The parameters of a signature.
struct Parameters<'s, 'de>(&'s mut Input<'de>);

impl<'de> ParameterVisitor<'de> for Parameters<'_, 'de> {
    type Out = ();
    type Error = Infallible;

    fn parameter(
        &mut self,
        key: &'de KeyRef,
        value: BareItemFromInput<'de>,
    ) -> Result<(), Infallible> {
        let input = &mut *self.0;
        push_parameter(&mut input.covered.written, key, &value);
        let fault = match key.as_str() {
            "created" => store(&mut input.created_s, into_seconds(&value)),
            "expires" => store(&mut input.expires_s, into_seconds(&value)),
            "keyid" => store(&mut input.key_id, into_text(value)),
            "alg" => store(&mut input.algorithm, into_text(value)),
            "nonce" => store(&mut input.nonce, into_text(value)),
            // Other parameters are covered by the signature but have no meaning here.
            _ => None,
        };
        input.fault = input.fault.or(fault);
        Ok(())
    }

    fn finish(self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Stores a parameter's value, or returns its fault.
fn store<T>(place: &mut Option<T>, value: Option<T>) -> Option<&'static str> {
    match (place.is_some(), value) {
        (true, _) => Some(DUPLICATE),
        (false, None) => Some(WRONG_TYPE),
        (false, Some(value)) => {
            *place = Some(value);
            None
        }
    }
}

fn into_seconds(value: &BareItemFromInput<'_>) -> Option<i64> {
    value.as_integer().map(i64::from)
}

pub(super) fn into_text(value: BareItemFromInput<'_>) -> Option<Cow<'_, str>> {
    if let BareItemFromInput::String(text) = value {
        Some(match text {
            Cow::Borrowed(text) => Cow::Borrowed(StringRef::as_str(text)),
            Cow::Owned(text) => Cow::Owned(text.as_str().to_owned()),
        })
    } else {
        None
    }
}

impl<'de> DictionaryVisitor<'de> for ByteSequences<'de> {
    type Out = Self;
    type Error = Infallible;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Infallible> {
        let label = key.as_str();
        if self.members.len() >= MEMBERS_MAX
            || self.members.iter().any(|(earlier, _)| *earlier == label)
        {
            self.broken = true;
        }
        Ok(Sequence { all: self, label })
    }

    fn finish(self) -> Result<Self, Infallible> {
        Ok(self)
    }
}

struct Sequence<'s, 'de> {
    all: &'s mut ByteSequences<'de>,
    label: &'de str,
}

impl<'de> EntryVisitor<'de> for Sequence<'_, 'de> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Infallible> {
        self.all.broken = true;
        Ok(Ignored)
    }
}

impl<'de> ItemVisitor<'de> for Sequence<'_, 'de> {
    type Out = ();
    type Error = Infallible;

    fn bare_item(
        self,
        item: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = ()>, Infallible> {
        if let BareItemFromInput::ByteSequence(bytes) = item {
            if !self.all.broken {
                self.all.members.push((self.label, bytes));
            }
        } else {
            self.all.broken = true;
        }
        Ok(self)
    }
}

impl<'de> ParameterVisitor<'de> for Sequence<'_, 'de> {
    type Out = ();
    type Error = Infallible;

    fn parameter(&mut self, _: &'de KeyRef, _: BareItemFromInput<'de>) -> Result<(), Infallible> {
        self.all.has_parameters = true;
        Ok(())
    }

    fn finish(self) -> Result<(), Infallible> {
        Ok(())
    }
}
