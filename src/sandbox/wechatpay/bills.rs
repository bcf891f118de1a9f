//! Trade bills: the signed answer with an address, then the file, unsigned, proven by its SHA-1
//! alone (section 19). Written from the books when asked for, for a day that is over.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::Request;
use serde_json::json;

use crate::crypto::digest::Sha1;
use crate::crypto::hex;
use crate::sandbox::wechatpay::api::{WechatAnswer, WechatOutcome, parameters};
use crate::sandbox::wechatpay::book::{
    TradeState, WechatBook, WechatOrder, WechatRefund, WechatRefundState, WechatTransaction,
};
use crate::sandbox::wechatpay::drawing::draw_letters;
use crate::sandbox::wechatpay::merchants::{EnrolledMerchant, WechatMerchant};
use crate::sandbox::wechatpay::prepay::check_sub_merchant;
use crate::sandbox::wechatpay::refusal::{WechatErrorCode, WechatRefusal, reason};
use crate::sandbox::wechatpay::time::{bill_moment, day, hour, is_day};
use crate::sandbox::wechatpay::{WechatHost, WechatPayState};

/// How long an address works. Unit: seconds.
const ADDRESS_LIFE_S: i64 = 300;
/// How long bills are kept. Unit: seconds.
const KEPT_S: i64 = 90 * 86_400;
/// From when on the day before's bill is there.
const READY_HOUR: u8 = 9;
const ADDRESSES_MAX: usize = 1_000;

const HEADER: &str = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,\
交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,\
充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注";
const TOTALS_HEADER: &str =
    "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额";

/// Files that can be fetched for a while.
#[derive(Default)]
pub(super) struct WechatBillFiles(Mutex<Vec<WechatBillFile>>);

struct WechatBillFile {
    token: String,
    mchid: String,
    made_s: i64,
    bytes: Bytes,
    gzip: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BillType {
    All,
    Success,
    Refund,
}

fn refused(code: WechatErrorCode) -> WechatRefusal {
    WechatRefusal::of(code, reason::PARAMETER)
}

pub(super) fn trade_bill(
    shared: &WechatPayState,
    host: WechatHost,
    merchant: &EnrolledMerchant,
    request: &Request<Bytes>,
) -> WechatOutcome {
    let known = ["bill_date", "bill_type", "tar_type", "sub_mchid"];
    let [bill_date, bill_type, tar_type, sub_mchid] = parameters(request, known)?;
    let settings = &merchant.settings;
    let sub_mchid = match sub_mchid {
        None => None,
        Some(_) if !settings.is_provider() => {
            return Err(WechatRefusal::query("sub_mchid", "not a provider"));
        }
        Some(given) => Some(check_sub_merchant(settings, "sub_mchid", Some(&given))?),
    };
    let bill_date = bill_date.filter(|text| is_day(text));
    let bill_date = bill_date.ok_or_else(|| WechatRefusal::query("bill_date", "yyyy-MM-dd"))?;
    let kind = match bill_type.as_deref() {
        None | Some("ALL") => BillType::All,
        Some("SUCCESS") => BillType::Success,
        Some("REFUND") => BillType::Refund,
        Some("RECHARGE_REFUND" | "ALL_SPECIAL" | "SUC_SPECIAL" | "REF_SPECIAL") => {
            return Err(refused(WechatErrorCode::NoStatementExist));
        }
        Some(_) => return Err(WechatRefusal::query("bill_type", "ALL, SUCCESS, REFUND")),
    };
    let gzip = match tar_type.as_deref() {
        None => false,
        Some("GZIP") => true,
        Some(_) => return Err(WechatRefusal::query("tar_type", "GZIP")),
    };
    let now_s = shared.clock.now_s();
    check_ready(&bill_date, now_s)?;
    let text = shared
        .book
        .look(|book| written(book, settings, (sub_mchid.as_deref(), &bill_date, kind)));
    let text = text.ok_or_else(|| refused(WechatErrorCode::NoStatementExist))?;
    let mut hash = Sha1::new();
    hash.update(text.as_bytes());
    let hash = hex::lower(&hash.finish());
    let bytes = if gzip {
        gzipped(text.as_bytes())
    } else {
        Bytes::from(text)
    };
    let token = draw_letters(40);
    shared.files.keep(WechatBillFile {
        token: token.clone(),
        mchid: merchant.mchid().to_owned(),
        made_s: now_s,
        bytes,
        gzip,
    });
    let origin = shared.origin(host);
    let tar = if gzip { "&tartype=gzip" } else { "" };
    Ok(WechatAnswer::Json(json!({
        "download_url": format!("{origin}/v3/billdownload/file?token={token}{tar}"),
        "hash_type": "SHA1",
        "hash_value": hash,
    })))
}

/// Whether the bill of a day was made.
fn check_ready(bill_date: &str, now_s: i64) -> Result<(), WechatRefusal> {
    const DAY_S: i64 = 86_400;
    let today = day(now_s);
    let yesterday = day(now_s.saturating_sub(DAY_S));
    // Days in this form are ordered like their texts.
    if bill_date > today.as_str() {
        return Err(WechatRefusal::query("bill_date", "a day to come"));
    }
    let is_early = bill_date == yesterday && hour(now_s) < READY_HOUR;
    if bill_date == today || is_early {
        return Err(refused(WechatErrorCode::StatementCreating));
    }
    if bill_date < day(now_s.saturating_sub(KEPT_S)).as_str() {
        return Err(refused(WechatErrorCode::NoStatementExist));
    }
    Ok(())
}

pub(super) fn download(
    shared: &WechatPayState,
    merchant: &EnrolledMerchant,
    request: &Request<Bytes>,
) -> WechatOutcome {
    let [token, _] = parameters(request, ["token", "tartype"])?;
    let token = token.ok_or_else(|| WechatRefusal::query("token", "required"))?;
    let now_s = shared.clock.now_s();
    let found = shared.files.find(&token, merchant.mchid(), now_s);
    found.ok_or_else(|| refused(WechatErrorCode::ResourceNotExists).saying("no such file, or old"))
}

impl WechatBillFiles {
    fn keep(&self, file: WechatBillFile) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if files.len() >= ADDRESSES_MAX {
            files.remove(0);
        }
        files.push(file);
    }

    fn find(&self, token: &str, mchid: &str, now_s: i64) -> Option<WechatAnswer> {
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let file = files
            .iter()
            .find(|file| file.token == token && file.mchid == mchid)?;
        let is_fresh = now_s <= file.made_s.saturating_add(ADDRESS_LIFE_S);
        is_fresh.then(|| WechatAnswer::File {
            bytes: file.bytes.clone(),
            gzip: file.gzip,
        })
    }
}

fn gzipped(text: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    let _ = encoder.write_all(text);
    Bytes::from(encoder.finish().unwrap_or_default())
}

/// Sums of a bill. Unit: fen.
#[derive(Default)]
struct BillTotals {
    lines: usize,
    settled: i64,
    refunded: i64,
    fee: i64,
    ordered: i64,
    asked: i64,
}

/// One line before it is printed.
struct BillLine<'a> {
    at_s: i64,
    order: &'a WechatOrder,
    paid: &'a WechatTransaction,
    refund: Option<&'a WechatRefund>,
}

/// `None` if nothing happened on that day.
fn written(
    book: &WechatBook,
    merchant: &WechatMerchant,
    (sub_mchid, bill_date, kind): (Option<&str>, &str, BillType),
) -> Option<String> {
    let of_receiver = |order: &WechatOrder| {
        let receiver = order.terms.sub_mchid.as_deref();
        order.terms.mchid == merchant.mchid && sub_mchid.is_none_or(|it| receiver == Some(it))
    };
    let payments = book.orders().filter_map(|order| {
        let paid = order.transaction.as_ref()?;
        Some(BillLine {
            at_s: paid.success_s,
            order,
            paid,
            refund: None,
        })
    });
    let refunds = book.refunds().filter_map(|refund| {
        let order = book.find(&refund.order)?;
        Some(BillLine {
            at_s: refund.created_s,
            order,
            paid: order.transaction.as_ref()?,
            refund: Some(refund),
        })
    });
    let mut lines: Vec<BillLine<'_>> = payments
        .filter(|_| kind != BillType::Refund)
        .chain(refunds.filter(|_| kind != BillType::Success))
        .filter(|line| day(line.at_s) == bill_date && of_receiver(line.order))
        // A refund that ended without moving money is in no bill.
        .filter(|line| {
            line.refund
                .is_none_or(|it| it.state != WechatRefundState::Closed)
        })
        .collect();
    if lines.is_empty() {
        return None;
    }
    lines.sort_by_key(|line| line.at_s);
    let mut totals = BillTotals::default();
    let mut text = format!("\u{feff}{HEADER}\r\n");
    for line in &lines {
        let fee_points = merchant.fee_basis_points(line.order.terms.sub_mchid.as_deref());
        text.push_str(&printed(line, fee_points, &mut totals));
    }
    let totals = [
        totals.lines.to_string(),
        yuan(totals.settled),
        yuan(totals.refunded),
        yuan(0),
        fee_text(totals.fee),
        yuan(totals.ordered),
        yuan(totals.asked),
    ];
    // Writing to a string does not fail.
    let _ = write!(text, "{TOTALS_HEADER}\r\n`{}\r\n", totals.join(",`"));
    Some(text)
}

fn printed(line: &BillLine<'_>, fee_points: u32, totals: &mut BillTotals) -> String {
    let BillLine {
        at_s,
        order,
        paid,
        refund,
    } = line;
    let terms = &order.terms;
    let coupon = terms.total_fen.saturating_sub(paid.payer_total_fen);
    let refund_fen = refund.map_or(0, |refund| refund.refund_fen);
    let (settled, ordered, coupon, fee) = match refund {
        None => {
            let fee = fee_fen(paid.payer_total_fen, fee_points);
            (paid.payer_total_fen, terms.total_fen, coupon, fee)
        }
        Some(_) => (
            0,
            0,
            0,
            0_i64.saturating_sub(fee_fen(refund_fen, fee_points)),
        ),
    };
    totals.lines = totals.lines.saturating_add(1);
    totals.settled = totals.settled.saturating_add(settled);
    totals.refunded = totals.refunded.saturating_add(refund_fen);
    totals.fee = totals.fee.saturating_add(fee);
    totals.ordered = totals.ordered.saturating_add(ordered);
    totals.asked = totals.asked.saturating_add(refund_fen);
    let state = if refund.is_some() {
        TradeState::Refund
    } else {
        TradeState::Success
    };
    let plain = |text: &str| text.replace(['`', '\r', '\n'], " ");
    let none = || "0".to_owned();
    let fields = [
        bill_moment(*at_s),
        terms.appid.clone(),
        terms.mchid.clone(),
        terms.sub_mchid.clone().unwrap_or_else(none),
        String::new(),
        paid.transaction_id.clone(),
        terms.out_trade_no.clone(),
        paid.openid.clone(),
        terms.product.trade_type().to_owned(),
        state.word().to_owned(),
        "OTHERS".to_owned(),
        "CNY".to_owned(),
        yuan(settled),
        yuan(coupon),
        refund.map_or_else(none, |refund| refund.refund_id.clone()),
        refund.map_or_else(none, |refund| refund.out_refund_no.clone()),
        yuan(refund_fen),
        yuan(0),
        refund.map_or_else(String::new, |_| "ORIGINAL".to_owned()),
        refund.map_or_else(String::new, |refund| refund.state.word().to_owned()),
        plain(&terms.description),
        plain(terms.attach.as_deref().unwrap_or_default()),
        fee_text(fee),
        format!("{}.{:02}%", fee_points / 100, fee_points % 100),
        yuan(ordered),
        yuan(refund_fen),
        String::new(),
    ];
    format!("`{}\r\n", fields.join(",`"))
}

/// The fee of a sum, rounded half up. Unit: fen.
fn fee_fen(sum_fen: i64, basis_points: u32) -> i64 {
    let ten_thousandths = sum_fen.saturating_mul(i64::from(basis_points));
    ten_thousandths.saturating_add(5_000) / 10_000
}

fn yuan(fen: i64) -> String {
    let sign = if fen < 0 { "-" } else { "" };
    let fen = fen.unsigned_abs();
    format!("{sign}{}.{:02}", fen / 100, fen % 100)
}

/// A fee is printed with five places.
fn fee_text(fen: i64) -> String {
    format!("{}000", yuan(fen))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section 19 of the protocol: amounts in yuan, in fees five places.
    #[test]
    fn fees_are_rounded_half_up_to_the_fen() {
        assert_eq!((fee_fen(1_001, 60), fee_fen(1_083, 60)), (6, 6));
        assert_eq!((fee_fen(1_084, 60), fee_fen(0, 60)), (7, 0));
        assert_eq!(
            (yuan(1_001), yuan(-5)),
            ("10.01".to_owned(), "-0.05".to_owned())
        );
        assert_eq!(
            (fee_text(6), fee_text(-6)),
            ("0.06000".to_owned(), "-0.06000".to_owned())
        );
    }
}
