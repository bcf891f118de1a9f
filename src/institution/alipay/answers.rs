//! The answer to a call: an object with one node, and a signature over the exact bytes of that node.
//!
//! The node is cut out by a JSON reader, which respects strings, escapes and nesting, at the top
//! level only; it is never written anew. What is not signed is not believed, but for an error that
//! says that nothing was done where nothing can have been paid.

use bytes::Bytes;
use http::{Response, StatusCode};

use crate::domain::evidence::Ambiguity;
use crate::domain::fields::Fields;
use crate::institution::alipay::account::AlipayAccount;
use crate::institution::alipay::codes::{AnswerCode, answer_code};
use crate::institution::alipay::parameters::SIGN;
use crate::institution::alipay::values::{needed, optional};

/// The node of an error that the gateway answers itself.
const ERROR_NODE: &str = "error_response";

/// The number of the certificate that signed.
const CERTIFICATE_NUMBER: &str = "alipay_cert_sn";

/// An answer to a call of one method.
pub(super) struct AlipayAnswer<'r> {
    /// The fields of its node.
    pub(super) fields: Fields<'r>,
    /// The institution signed it.
    pub(super) is_proven: bool,
    /// The gateway answered, not the method.
    is_error: bool,
}

impl<'r> AlipayAnswer<'r> {
    /// Reads the answer to a call of this method.
    ///
    /// # Errors
    /// It proves nothing, in whatever way it could be read.
    pub(super) fn read(
        account: &AlipayAccount,
        method: &str,
        reply: &'r Response<Bytes>,
    ) -> Result<Self, Ambiguity> {
        if reply.status().is_server_error() {
            return Err(Ambiguity::ServerFault);
        }
        if reply.status() != StatusCode::OK {
            return Err(Ambiguity::UnlistedWord);
        }
        let outer = Fields::parse(reply.body()).map_err(|_| Ambiguity::Unreadable)?;
        let own = format!("{}_response", method.replace('.', "_"));
        let (node, is_error) = match (outer.raw(&own), outer.raw(ERROR_NODE)) {
            (Some(node), None) => (node, false),
            (None, Some(node)) => (node, true),
            (Some(_), Some(_)) | (None, None) => return Err(Ambiguity::Unreadable),
        };
        let text = |name| outer.text(name).and_then(Result::ok);
        let sign = text(SIGN).unwrap_or_default();
        let is_proven = account.proves_answer(node, sign, text(CERTIFICATE_NUMBER));
        Ok(Self {
            fields: Fields::parse(node.as_bytes()).map_err(|_| Ambiguity::Unreadable)?,
            is_proven,
            is_error,
        })
    }

    /// What its code says. An error of the gateway itself is never a success.
    pub(super) fn code(&self) -> Result<AnswerCode, Ambiguity> {
        let code = answer_code(needed(&self.fields, "code")?, self.sub_code()?);
        match code {
            AnswerCode::Executed | AnswerCode::PayerConfirming if self.is_error => {
                Err(Ambiguity::Unreadable)
            }
            AnswerCode::Executed
            | AnswerCode::PayerConfirming
            | AnswerCode::NotExecuted(_)
            | AnswerCode::Unknown
            | AnswerCode::Business
            | AnswerCode::Unlisted => Ok(code),
        }
    }

    /// The code of a failure.
    pub(super) fn sub_code(&self) -> Result<Option<&str>, Ambiguity> {
        optional(&self.fields, "sub_code")
    }

    /// A field that must be there.
    pub(super) fn needed(&self, name: &str) -> Result<&str, Ambiguity> {
        needed(&self.fields, name)
    }

    /// A field that may be missing.
    pub(super) fn optional(&self, name: &str) -> Result<Option<&str>, Ambiguity> {
        optional(&self.fields, name)
    }
}
