//! Answers of the gateway: a node of one method, refusals by `code` and `sub_code`, and the
//! envelope around a node, signed over exactly the node's characters.

use serde_json::Value;

use crate::crypto::rsa::RsaPrivateKey;
use crate::sandbox::alipay::keys;

/// Members of a node after `code` and `msg`, in the order in which they are written.
pub(super) type NodeMembers = Vec<(&'static str, Value)>;

/// The node of failures that belong to no method.
pub(super) const ERROR_NODE: &str = "error_response";

/// A refusal, or an answer that is neither success nor refusal.
#[derive(Debug, Clone)]
pub(super) struct AlipayRefusal {
    pub(super) code: String,
    pub(super) sub_code: String,
    pub(super) detail: String,
    pub(super) members: NodeMembers,
}

impl AlipayRefusal {
    pub(super) fn of(code: &str, sub_code: &str, detail: &str) -> Self {
        Self {
            code: code.to_owned(),
            sub_code: sub_code.to_owned(),
            detail: detail.to_owned(),
            members: NodeMembers::new(),
        }
    }

    /// 40001: a parameter is missing.
    pub(super) fn missing(name: &str) -> Self {
        let sub_code = format!("isv.missing-{}", name.replace('_', "-"));
        Self::of("40001", &sub_code, &format!("缺少参数 {name}"))
    }

    /// 40002: a parameter is wrong; nothing was carried out.
    pub(super) fn invalid(sub_code: &str, detail: &str) -> Self {
        Self::of("40002", sub_code, detail)
    }

    /// 40004: the method refuses.
    pub(super) fn business(sub_code: &str, detail: &str) -> Self {
        Self::of("40004", sub_code, detail)
    }

    /// Adds members to its node.
    pub(super) fn with(mut self, members: NodeMembers) -> Self {
        self.members = members;
        self
    }

    /// The text of its node.
    pub(super) fn node(&self) -> String {
        let mut members = vec![
            ("code", self.code.as_str().into()),
            ("msg", message(&self.code).into()),
        ];
        if !self.sub_code.is_empty() {
            members.push(("sub_code", self.sub_code.as_str().into()));
            members.push(("sub_msg", self.detail.as_str().into()));
        }
        members.extend(self.members.clone());
        written(&members)
    }
}

/// The text of a successful node.
pub(super) fn success(more: &NodeMembers) -> String {
    let mut members = vec![("code", "10000".into()), ("msg", message("10000").into())];
    members.extend(more.clone());
    written(&members)
}

/// What `msg` says of a code.
fn message(code: &str) -> &'static str {
    match code {
        "10000" => "Success",
        "10003" => "order success pay inprocess",
        "20000" => "Service Currently Unavailable",
        "20001" => "Insufficient Token Permissions",
        "40001" => "Missing Required Arguments",
        "40002" => "Invalid Arguments",
        "40003" => "Insufficient Conditions",
        "40004" => "Business Failed",
        "40005" => "Call Limited",
        "40006" => "Insufficient Permissions",
        _ => "Unknown",
    }
}

/// A JSON object in this order, with each slash escaped, as the gateway writes it.
fn written(members: &NodeMembers) -> String {
    let pairs: Vec<String> = members
        .iter()
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{{{}}}", pairs.join(",")).replace('/', "\\/")
}

/// `alipay_trade_query_response` of `alipay.trade.query`.
pub(super) fn node_name(method: &str) -> String {
    format!("{}_response", method.replace('.', "_"))
}

/// Order of the envelope's members: it is not promised, so it changes.
#[derive(Debug, Clone, Copy)]
pub(super) enum MemberOrder {
    NodeFirst,
    SignatureFirst,
}

/// A node in its envelope, signed; `serial` is the certificate's number in certificate mode.
pub(super) fn signed(
    name: &str,
    node: &str,
    key: &RsaPrivateKey,
    serial: Option<&str>,
    order: MemberOrder,
) -> String {
    let signature = format!("\"sign\":\"{}\"", keys::sign(key, node));
    let serial = serial.map(|serial| format!("\"alipay_cert_sn\":\"{serial}\""));
    let node = format!("\"{name}\":{node}");
    let members: Vec<String> = match order {
        MemberOrder::NodeFirst => [Some(node), serial, Some(signature)],
        MemberOrder::SignatureFirst => [Some(signature), Some(node), serial],
    }
    .into_iter()
    .flatten()
    .collect();
    format!("{{{}}}", members.join(","))
}

/// A refusal before the gateway knew whom it answers, or too broken to sign.
pub(super) fn unsigned(refusal: &AlipayRefusal) -> String {
    format!("{{\"{ERROR_NODE}\":{},\"sign\":\"\"}}", refusal.node())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vendor's answers: members in order, `\/` for each slash, braces inside values.
    #[test]
    fn a_node_is_written_as_the_gateway_writes_it() {
        let node = success(&vec![
            ("out_trade_no", "5GM20260101000001".into()),
            ("qr_code", "https://qr.example.com/bax0000000001".into()),
        ]);
        assert_eq!(
            node,
            r#"{"code":"10000","msg":"Success","out_trade_no":"5GM20260101000001","qr_code":"https:\/\/qr.example.com\/bax0000000001"}"#
        );
        let refusal = AlipayRefusal::business("ACQ.TRADE_NOT_EXIST", "交易不存在");
        assert_eq!(
            refusal.with(vec![("out_trade_no", "5".into())]).node(),
            r#"{"code":"40004","msg":"Business Failed","sub_code":"ACQ.TRADE_NOT_EXIST","sub_msg":"交易不存在","out_trade_no":"5"}"#
        );
    }
}
