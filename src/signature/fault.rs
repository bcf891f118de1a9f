//! What can be wrong with a key or with a signature: what was expected, what was found, what to do.
//! Never quotes a secret; text of the sender's is cut short.

use crate::signature::key::Algorithm;

/// How much of the sender's own text a fault repeats. Unit: characters.
const SHOWN_CHARS_MAX: usize = 64;

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Not PEM, or PEM of something else.
    #[error("the key cannot be read: expected one PEM block '{expected}'")]
    Unreadable {
        /// The label of the block that was looked for.
        expected: &'static str,
    },
    /// Readable, but of no algorithm known here, damaged, or of a kind that proves nothing.
    #[error(
        "the key is damaged, weak (RSA: 2048 to 4096 bits, an exponent of 65537 or more), or of an \
         algorithm that is not supported (supported: {0})"
    )]
    Unsupported(String),
    /// A shared secret that could be guessed.
    #[error("a shared secret is 32 to 256 random bytes")]
    SecretUnfit,
    /// A key id travels inside quotes in a header.
    #[error("a key id is 1 to 64 characters of printable ASCII without quotes and backslashes")]
    BadId,
    /// A key id names one key of one owner, or a signature could speak for two.
    #[error("the key id '{id}' is enrolled twice")]
    IdTaken {
        /// The id in question.
        id: String,
    },
    /// Of this algorithm nothing is signed here, or its keys are no pairs.
    #[error("{0} is verified here, but no key pair is made for it")]
    NotMadeHere(Algorithm),
    /// The library could make no key.
    #[error("no key could be generated")]
    NotGenerated,
}

/// Why a message is not proven to come from the owner of a key, or could not be signed.
///
/// The texts are for the people who write the other side; programs look at the variant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// Neither `Signature-Input` nor `Signature` is there.
    #[error(
        "the message is not signed: expected the headers Content-Digest (RFC 9530), \
         Signature-Input and Signature (RFC 9421)"
    )]
    Unsigned,
    /// A header breaks its grammar or contradicts another.
    #[error("the signature cannot be read: {0}")]
    Malformed(&'static str),
    /// The signature says too little about the message (Q2).
    #[error("the signature covers too little: add {missing} to the covered components")]
    CoversTooLittle {
        /// The identifiers that are not covered, separated by spaces.
        missing: String,
    },
    /// A parameter of the signature that is always needed is not there.
    #[error("the signature lacks the parameter '{0}'")]
    ParameterMissing(&'static str),
    /// A component is covered in a way that is not supported here.
    #[error(
        "the component {0} is not supported: cover plain fields and @method, @target-uri, \
         @authority, @scheme, @path, @query, @request-target, @status"
    )]
    UnsupportedComponent(String),
    /// A component is covered, or has to be, and the message has no such thing.
    #[error("the component {0} is not part of the message")]
    ComponentAbsent(String),
    /// Two signatures by known keys: which one counts is not for us to guess.
    #[error("more than one signature by a known key: send exactly one")]
    TooManySignatures,
    /// No signature names a key that is known.
    #[error("the key '{named}' is not known: 'keyid' has to name an enrolled key")]
    KeyUnknown {
        /// What the first signature says; empty if nothing.
        named: String,
    },
    /// The key is known and its time has not come.
    #[error("the key '{key_id}' is not valid before {not_before_s} (Unix seconds)")]
    KeyNotYetValid {
        /// The key.
        key_id: String,
        /// The first second of its validity.
        not_before_s: i64,
    },
    /// The key is known and its time is over.
    #[error("the key '{key_id}' was valid until {not_after_s} (Unix seconds): use its successor")]
    KeyExpired {
        /// The key.
        key_id: String,
        /// The last second of its validity.
        not_after_s: i64,
    },
    /// The message names another algorithm than the key has (Q3).
    #[error("'alg' says '{named}', the key is for '{expected}': correct 'alg' or leave it out")]
    AlgorithmMismatch {
        /// What the message says.
        named: String,
        /// What the key is for.
        expected: Algorithm,
    },
    /// The body is not the one that was digested.
    #[error("Content-Digest does not belong to this body, whose digest is {computed}")]
    DigestMismatch {
        /// The digest of the body as received, in the form of the header.
        computed: String,
    },
    /// The signature is not one of this message by this key.
    #[error("the signature does not belong to this signature base:\n{base}")]
    SignatureMismatch {
        /// The signature base computed from the message as received.
        base: String,
    },
    /// The library did not sign.
    #[error("the message could not be signed")]
    NotSigned,
}

impl SignatureFault {
    /// The signature base computed from the message, if the fault is that the signature is of another.
    pub fn base(&self) -> Option<&str> {
        if let Self::SignatureMismatch { base } = self {
            Some(base)
        } else {
            None
        }
    }
}

/// The sender's text, short enough to be repeated.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}
