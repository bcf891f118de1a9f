//! What every request must be before it means anything: one form, the common parameters as the
//! sheet lists them, and the application's signature over all of them.

use crate::sandbox::alipay::answer::AlipayRefusal;
use crate::sandbox::alipay::biz::BizContent;
use crate::sandbox::alipay::books::AlipayParty;
use crate::sandbox::alipay::clock::parse_local;
use crate::sandbox::alipay::form::AlipayParameters;
use crate::sandbox::alipay::keys::{self, EnrolledApp};
use crate::sandbox::alipay::terms::AlipayProduct;
use crate::sandbox::alipay::{AlipayState, lock};

/// How far `timestamp` may be from the gateway's clock, either way. Unit: milliseconds.
const WINDOW_MS: i64 = 15 * 60_000;

/// Longest values of the common parameters. Unit: characters.
const LIMITS: [(&str, usize); 12] = [
    ("app_id", 32),
    ("method", 128),
    ("format", 40),
    ("return_url", 256),
    ("charset", 10),
    ("sign_type", 10),
    ("sign", 344),
    ("timestamp", 19),
    ("version", 3),
    ("notify_url", 256),
    ("app_auth_token", 40),
    ("app_cert_sn", 32),
];

/// Which methods come this way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    /// A call of a server.
    Server,
    /// A payer's browser.
    Browser,
    /// An order string in the wallet.
    Wallet,
}

/// Methods of servers, and the `sub_code` of a wrong field.
const SERVER_METHODS: [(&str, &str); 12] = [
    ("alipay.trade.precreate", INVALID),
    ("alipay.trade.create", INVALID),
    ("alipay.trade.pay", INVALID),
    ("alipay.trade.query", INVALID),
    ("alipay.trade.close", INVALID),
    ("alipay.trade.cancel", INVALID),
    ("alipay.trade.refund", INVALID),
    ("alipay.trade.fastpay.refund.query", INVALID),
    (
        "alipay.data.dataservice.bill.downloadurl.query",
        "INVAILID_ARGUMENTS",
    ),
    (
        "alipay.open.app.alipaycert.download",
        "isv.invalid-parameter",
    ),
    ("alipay.open.auth.token.app", "isv.invalid-parameter"),
    ("alipay.open.auth.token.app.query", "isv.invalid-parameter"),
];
const INVALID: &str = "ACQ.INVALID_PARAMETER";

impl Channel {
    /// The `sub_code` of a wrong field; `None` if the method does not come this way.
    fn wrong_field(self, method: &str) -> Option<&'static str> {
        let is = |product: AlipayProduct| product.method() == method;
        match self {
            Self::Server => {
                let found = SERVER_METHODS.iter().find(|(known, _)| *known == method);
                found.map(|(_, sub_code)| *sub_code)
            }
            Self::Browser => (is(AlipayProduct::Page) || is(AlipayProduct::Wap)).then_some(INVALID),
            Self::Wallet => is(AlipayProduct::App).then_some(INVALID),
        }
    }
}

/// A request that is what it says.
#[derive(Debug)]
pub(super) struct AdmittedCall {
    pub(super) method: String,
    pub(super) party: AlipayParty,
    /// Whether the answer names the gateway's certificate.
    pub(super) certificate_mode: bool,
    pub(super) notify_url: Option<String>,
    pub(super) return_url: Option<String>,
    pub(super) biz: BizContent,
}

/// Why a request was not admitted. Before the application is known, nothing can be signed.
#[derive(Debug)]
pub(super) struct Turned {
    pub(super) refusal: Box<AlipayRefusal>,
    /// The method and whether the application is in certificate mode, once both are known.
    pub(super) to: Option<(String, bool)>,
}

/// Checks a form.
pub(super) fn admit(
    state: &AlipayState,
    form: &AlipayParameters,
    channel: Channel,
) -> Result<AdmittedCall, Turned> {
    let unsigned = |refusal| Turned {
        refusal: Box::new(refusal),
        to: None,
    };
    let (app, method, wrong_field) = addressed(state, form, channel).map_err(unsigned)?;
    let certificate_mode = app.app.certificates.is_some();
    let signed = |refusal| Turned {
        refusal: Box::new(refusal),
        to: Some((method.to_owned(), certificate_mode)),
    };
    check_common(state, form).map_err(signed)?;
    check_certificates(app, form).map_err(signed)?;
    check_signature(app, form).map_err(signed)?;
    let (notify_url, return_url) = addresses(form, method, channel).map_err(signed)?;
    let party = party(state, app, form, method).map_err(signed)?;
    let biz = form.get("biz_content");
    let biz = biz.ok_or_else(|| signed(AlipayRefusal::missing("biz_content")))?;
    Ok(AdmittedCall {
        method: method.to_owned(),
        party,
        certificate_mode,
        notify_url,
        return_url,
        biz: BizContent::parse(biz, wrong_field).map_err(signed)?,
    })
}

/// Whom the request is from and what it asks for.
fn addressed<'a>(
    state: &'a AlipayState,
    form: &'a AlipayParameters,
    channel: Channel,
) -> Result<(&'a EnrolledApp, &'a str, &'static str), AlipayRefusal> {
    for (name, max) in LIMITS {
        if form
            .get(name)
            .is_some_and(|value| value.chars().count() > max)
        {
            return Err(AlipayRefusal::invalid("isv.invalid-parameter", name));
        }
    }
    let charset = required(form, "charset")?;
    if !charset.eq_ignore_ascii_case("utf-8") {
        return Err(AlipayRefusal::invalid("isv.invalid-charset", "编码错误"));
    }
    let method = required(form, "method")?;
    let wrong_field = channel
        .wrong_field(method)
        .ok_or_else(|| AlipayRefusal::invalid("isv.invalid-method", "不存在的方法名"))?;
    let app_id = required(form, "app_id")?;
    let app = state.apps.iter().find(|app| app.app.app_id == app_id);
    let app = app.ok_or_else(|| AlipayRefusal::invalid("isv.invalid-app-id", "无效的AppID参数"))?;
    Ok((app, method, wrong_field))
}

fn required<'a>(form: &'a AlipayParameters, name: &str) -> Result<&'a str, AlipayRefusal> {
    form.get(name).ok_or_else(|| AlipayRefusal::missing(name))
}

fn check_common(state: &AlipayState, form: &AlipayParameters) -> Result<(), AlipayRefusal> {
    if required(form, "sign_type")? != "RSA2" {
        return Err(AlipayRefusal::invalid(
            "isv.invalid-signature-type",
            "无效签名类型",
        ));
    }
    if form.get("format").is_some_and(|format| format != "JSON") {
        return Err(AlipayRefusal::invalid("isv.invalid-format", "无效数据格式"));
    }
    if required(form, "version")? != "1.0" {
        return Err(AlipayRefusal::invalid("isv.invalid-parameter", "version"));
    }
    if form.get("encrypt_type").is_some() {
        return Err(AlipayRefusal::invalid(
            "isv.invalid-encrypt-type",
            "无效加密类型",
        ));
    }
    let moment_ms = parse_local(required(form, "timestamp")?);
    let distance = moment_ms.map(|moment_ms| state.now_ms().abs_diff(moment_ms));
    if distance.is_none_or(|distance| distance > WINDOW_MS.unsigned_abs()) {
        return Err(AlipayRefusal::invalid(
            "isv.invalid-timestamp",
            "非法的时间戳参数",
        ));
    }
    Ok(())
}

/// Both numbers in certificate mode, none otherwise.
fn check_certificates(app: &EnrolledApp, form: &AlipayParameters) -> Result<(), AlipayRefusal> {
    let expected = app.app.certificates.as_ref();
    for (name, expected) in [
        (
            "app_cert_sn",
            expected.map(|numbers| numbers.app_cert_sn.as_str()),
        ),
        (
            "alipay_root_cert_sn",
            expected.map(|numbers| numbers.root_cert_sn.as_str()),
        ),
    ] {
        match (form.get(name), expected) {
            (None, Some(_)) => return Err(AlipayRefusal::missing(name)),
            (found, expected) if found == expected => (),
            _ => {
                let sub_code = format!("isv.invalid-{}", name.replace('_', "-"));
                return Err(AlipayRefusal::invalid(&sub_code, name));
            }
        }
    }
    Ok(())
}

fn check_signature(app: &EnrolledApp, form: &AlipayParameters) -> Result<(), AlipayRefusal> {
    let missing = || AlipayRefusal::of("40001", "isv.missing-signature", "缺少签名参数");
    let signature = form.get("sign").ok_or_else(missing)?;
    let Some(key) = &app.key else {
        let detail = "应用未配置对应签名算法的公钥或者证书";
        return Err(AlipayRefusal::of(
            "40003",
            "isv.missing-signature-config",
            detail,
        ));
    };
    if keys::verify(key, &form.signed_text(&["sign"]), signature) {
        Ok(())
    } else {
        let detail = "无效签名，请检查签名字符串和公私钥是否匹配";
        Err(AlipayRefusal::invalid("isv.invalid-signature", detail))
    }
}

/// `notify_url` and `return_url`, only where the method has them.
fn addresses(
    form: &AlipayParameters,
    method: &str,
    channel: Channel,
) -> Result<(Option<String>, Option<String>), AlipayRefusal> {
    let creates = channel != Channel::Server
        || [
            AlipayProduct::Precreate,
            AlipayProduct::Create,
            AlipayProduct::Code,
        ]
        .iter()
        .any(|product| product.method() == method);
    let read = |name: &str, is_listed: bool| match form.get(name) {
        None => Ok(None),
        Some(url) if is_listed && (url.starts_with("https://") || url.starts_with("http://")) => {
            Ok(Some(url.to_owned()))
        }
        Some(_) => Err(AlipayRefusal::invalid("isv.invalid-parameter", name)),
    };
    Ok((
        read("notify_url", creates)?,
        read("return_url", channel == Channel::Browser)?,
    ))
}

/// The merchant for whom the application acts.
fn party(
    state: &AlipayState,
    app: &EnrolledApp,
    form: &AlipayParameters,
    method: &str,
) -> Result<AlipayParty, AlipayRefusal> {
    let own = |app_id: &str, seller_id: &str| AlipayParty {
        app_id: app.app.app_id.clone(),
        auth_app_id: app_id.to_owned(),
        seller_id: seller_id.to_owned(),
    };
    let Some(token) = form.get("app_auth_token") else {
        return Ok(own(&app.app.app_id, &app.app.seller_id));
    };
    if method.starts_with("alipay.open.") {
        return Err(AlipayRefusal::invalid(
            "isv.invalid-parameter",
            "app_auth_token",
        ));
    }
    let authorisations = lock(&state.authorisations);
    let found = authorisations.iter().find(|enrolled| {
        let authorisation = &enrolled.authorisation;
        authorisation.token == token && authorisation.app_id == app.app.app_id
    });
    match found {
        Some(enrolled) if !enrolled.withdrawn => Ok(own(
            &enrolled.authorisation.auth_app_id,
            &enrolled.authorisation.seller_id,
        )),
        _ => {
            let sub_code = "aop.invalid-app-auth-token";
            Err(AlipayRefusal::of("20001", sub_code, "无效的应用授权令牌"))
        }
    }
}
