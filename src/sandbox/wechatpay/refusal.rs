//! WeChat Pay's error answers: status, `code`, `message`, `detail`, and the internal reason at the
//! end of `Request-ID`.

use serde_json::{Value, json};

/// A documented error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the documented code of its name")]
pub enum WechatErrorCode {
    UserPaying,
    ParamError,
    InvalidRequest,
    AppidMchidNotMatch,
    MchNotExists,
    OrderClosed,
    OrderPaid,
    NoStatementExist,
    StatementCreating,
    SignError,
    NoAuth,
    AccountError,
    NotEnough,
    OutTradeNoUsed,
    RuleLimit,
    TradeError,
    UserAccountAbnormal,
    OrderNotExist,
    ResourceNotExists,
    FrequencyLimited,
    RateLimitExceeded,
    SystemError,
    BankError,
    InvalidTransactionId,
    OpenidMismatch,
    ServiceUnavailable,
}

use WechatErrorCode as Code;

/// Each code with its word, its status and its usual message.
const CODES: [(Code, &str, u16, &str); 26] = [
    (
        Code::UserPaying,
        "USERPAYING",
        202,
        "用户支付中，需要输入密码",
    ),
    (Code::ParamError, "PARAM_ERROR", 400, "参数错误"),
    (Code::InvalidRequest, "INVALID_REQUEST", 400, "无效请求"),
    (
        Code::AppidMchidNotMatch,
        "APPID_MCHID_NOT_MATCH",
        400,
        "appid和mch_id不匹配",
    ),
    (Code::MchNotExists, "MCH_NOT_EXISTS", 400, "商户号不存在"),
    (Code::OrderClosed, "ORDER_CLOSED", 400, "订单已关闭"),
    (Code::OrderPaid, "ORDERPAID", 400, "该订单已支付"),
    (
        Code::NoStatementExist,
        "NO_STATEMENT_EXIST",
        400,
        "账单文件不存在",
    ),
    (
        Code::StatementCreating,
        "STATEMENT_CREATING",
        400,
        "账单生成中",
    ),
    (Code::SignError, "SIGN_ERROR", 401, "签名错误"),
    (Code::NoAuth, "NO_AUTH", 403, "商户无权限"),
    (Code::AccountError, "ACCOUNT_ERROR", 403, "账号异常"),
    (
        Code::NotEnough,
        "NOT_ENOUGH",
        403,
        "基本账户余额不足，请充值后重新发起",
    ),
    (
        Code::OutTradeNoUsed,
        "OUT_TRADE_NO_USED",
        403,
        "商户订单号重复",
    ),
    (Code::RuleLimit, "RULE_LIMIT", 403, "业务规则限制"),
    (Code::TradeError, "TRADE_ERROR", 403, "交易错误"),
    (
        Code::UserAccountAbnormal,
        "USER_ACCOUNT_ABNORMAL",
        403,
        "用户账号异常",
    ),
    (Code::OrderNotExist, "ORDER_NOT_EXIST", 404, "订单不存在"),
    (
        Code::ResourceNotExists,
        "RESOURCE_NOT_EXISTS",
        404,
        "查询的资源不存在",
    ),
    (Code::FrequencyLimited, "FREQUENCY_LIMITED", 429, "频率超限"),
    (
        Code::RateLimitExceeded,
        "RATELIMIT_EXCEEDED",
        429,
        "频率限制",
    ),
    (Code::SystemError, "SYSTEM_ERROR", 500, "系统错误"),
    (Code::BankError, "BANK_ERROR", 500, "银行系统异常"),
    (
        Code::InvalidTransactionId,
        "INVALID_TRANSACTIONID",
        500,
        "微信支付订单号非法",
    ),
    (
        Code::OpenidMismatch,
        "OPENID_MISMATCH",
        500,
        "openid和appid不匹配",
    ),
    (
        Code::ServiceUnavailable,
        "SERVICE_UNAVAILABLE",
        503,
        "服务不可用",
    ),
];

impl WechatErrorCode {
    /// The word in `code`.
    pub fn word(self) -> &'static str {
        self.line().map_or("SYSTEM_ERROR", |line| line.1)
    }

    /// The HTTP status it comes with.
    pub fn status(self) -> u16 {
        self.line().map_or(500, |line| line.2)
    }

    /// The code of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        CODES
            .iter()
            .find_map(|(code, known, ..)| (*known == word).then_some(*code))
    }

    fn line(self) -> Option<&'static (Code, &'static str, u16, &'static str)> {
        CODES.iter().find(|(code, ..)| *code == self)
    }
}

/// Why a call was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WechatRefusal {
    pub(super) code: Code,
    pub(super) message: String,
    /// A JSON pointer into the body, or the name of a header or a parameter.
    field: Option<String>,
    /// What is wrong with the field.
    issue: Option<String>,
    location: &'static str,
    /// The digits after the last hyphen of `Request-ID`.
    pub(super) reason: u64,
}

/// Reason codes in the last part of `Request-ID`.
pub(super) mod reason {
    /// Of a code that was ordered.
    pub(in crate::sandbox::wechatpay) const NONE: u64 = 0;
    pub(in crate::sandbox::wechatpay) const PARAMETER: u64 = 268_435_461;
    pub(in crate::sandbox::wechatpay) const RANGE: u64 = 268_435_464;
    pub(in crate::sandbox::wechatpay) const UNKNOWN_MEMBER: u64 = 270_924_358;
    pub(in crate::sandbox::wechatpay) const SIGNATURE: u64 = 268_443_699;
    pub(in crate::sandbox::wechatpay) const SUB_MCHID_MISSING: u64 = 268_443_704;
    pub(in crate::sandbox::wechatpay) const SUB_MCHID_IS_PROVIDER: u64 = 268_443_705;
    pub(in crate::sandbox::wechatpay) const SUB_MCHID_UNRELATED: u64 = 268_443_701;
    pub(in crate::sandbox::wechatpay) const SUB_MCHID_OF_ANOTHER: u64 = 268_447_845;
    pub(in crate::sandbox::wechatpay) const MCHID_OF_ANOTHER: u64 = 268_447_843;
    pub(in crate::sandbox::wechatpay) const APP_OF_ANOTHER: u64 = 268_445_527;
    pub(in crate::sandbox::wechatpay) const EXPIRED_OR_CLOSED: u64 = 268_447_914;
    pub(in crate::sandbox::wechatpay) const PAID: u64 = 268_449_538;
    pub(in crate::sandbox::wechatpay) const OTHER_CONTENT: u64 = 268_498_688;
    pub(in crate::sandbox::wechatpay) const NO_SUCH_ORDER: u64 = 268_512_771;
    pub(in crate::sandbox::wechatpay) const OPENID_MISSING: u64 = 268_501_013;
    pub(in crate::sandbox::wechatpay) const TOO_FREQUENT: u64 = 268_447_840;
}

impl WechatRefusal {
    pub(super) fn of(code: Code, reason: u64) -> Self {
        let usual = code.line().map_or("", |line| line.3);
        Self {
            code,
            message: usual.to_owned(),
            field: None,
            issue: None,
            location: "body",
            reason,
        }
    }

    /// Says what is wrong in words.
    pub(super) fn saying(mut self, issue: impl Into<String>) -> Self {
        self.issue = Some(issue.into());
        self
    }

    /// `PARAM_ERROR` at a member of the body, named by its JSON pointer.
    pub(super) fn member(pointer: &str, issue: impl Into<String>) -> Self {
        let mut refusal = Self::of(Code::ParamError, reason::PARAMETER).saying(issue);
        refusal.field = Some(pointer.to_owned());
        refusal
    }

    /// `PARAM_ERROR` at a parameter of the address.
    pub(super) fn query(name: &str, issue: impl Into<String>) -> Self {
        let mut refusal = Self::member(name, issue);
        refusal.location = "query";
        refusal
    }

    /// `PARAM_ERROR` at a header.
    pub(super) fn header(name: &str, issue: impl Into<String>) -> Self {
        let mut refusal = Self::member(name, issue);
        refusal.location = "header";
        refusal
    }

    /// `SIGN_ERROR` at a part of the Authorization header.
    pub(super) fn signature(field: &str, issue: impl Into<String>) -> Self {
        let mut refusal = Self::of(Code::SignError, reason::SIGNATURE).saying(issue);
        refusal.field = Some(field.to_owned());
        refusal.location = "authorization";
        refusal
    }

    pub(super) fn because(mut self, reason: u64) -> Self {
        self.reason = reason;
        self
    }

    /// `PARAM_ERROR` from serde's text, which names the member in backticks.
    pub(super) fn unreadable(fault: &serde_json::Error) -> Self {
        let text = fault.to_string();
        let named = text.split('`').nth(1).unwrap_or_default();
        let refusal = Self::member(&format!("/{named}"), &text);
        if text.starts_with("unknown field") {
            return refusal.because(reason::UNKNOWN_MEMBER);
        }
        refusal
    }

    /// The body of the answer.
    pub(super) fn body(&self) -> Value {
        let mut body = json!({ "code": self.code.word(), "message": self.message });
        let detail = self
            .field
            .as_ref()
            .map(|field| json!({ "field": field, "issue": self.issue, "location": self.location }));
        let detail = detail.or_else(|| Some(json!({ "issue": self.issue.as_ref()? })));
        if let (Some(detail), Some(members)) = (detail, body.as_object_mut()) {
            members.insert("detail".to_owned(), detail);
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section 15 of the protocol.
    #[test]
    fn each_code_has_one_word_and_one_status() {
        for (code, word, status, _) in CODES {
            assert_eq!(Code::from_word(word), Some(code));
            assert_eq!((code.word(), code.status()), (word, status));
        }
        assert_eq!(Code::from_word("ORDERNOTEXIST"), None);
    }

    #[test]
    fn a_refusal_names_the_member() {
        let refusal = WechatRefusal::member("/amount/total", "at least 1");
        let body = refusal.body();
        assert_eq!(body["code"], "PARAM_ERROR");
        assert_eq!(body["detail"]["field"], "/amount/total");
        assert_eq!(body["detail"]["location"], "body");
    }
}
