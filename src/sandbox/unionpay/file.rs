//! The reconciliation file of a settlement day: lines of fixed widths in GBK, in a zip archive,
//! deflated once more, in Base64.

use std::io::{Cursor, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use encoding_rs::GBK;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::sandbox::unionpay::answer::UnionPayRejection;
use crate::sandbox::unionpay::calls::trace_time;
use crate::sandbox::unionpay::clock::ended_settlement_day;
use crate::sandbox::unionpay::form::UnionPayFields;
use crate::sandbox::unionpay::ledger::{
    UnionPayBook, UnionPayReceipt, UnionPayState, UnionPayTransaction,
};
use crate::sandbox::unionpay::request::UnionPayCall;
use crate::sandbox::unionpay::{UnionPayMerchant, UnionPayParty};

/// Widths of the fields of a line, in bytes; a blank stands between two.
const WIDTHS: [usize; 46] = [
    3, 11, 11, 6, 10, 19, 12, 4, 2, 21, 2, 32, 2, 6, 10, 13, 13, 4, 15, 2, 2, 6, 2, 4, 32, 1, 21,
    15, 1, 15, 32, 13, 13, 8, 32, 13, 13, 12, 2, 1, 32, 13, 2, 1, 12, 67,
];

/// What the counterpart writes where a request says nothing.
const ACQUIRER: &str = "48270000";
const SENDER: &str = "00049992";
const CARD: &str = "6221********0000";
const CATEGORY: &str = "5311";
const TERMINAL: &str = "01080209";

/// The file of a merchant's settlement day; there is none before the day has ended, and none of a
/// day without movements.
pub(super) fn answer(
    shared: &UnionPayParty,
    request: &UnionPayFields,
    now_s: i64,
) -> Result<UnionPayFields, UnionPayRejection> {
    let no_file = UnionPayRejection::of("98");
    let day = ended_settlement_day(request.text("settleDate"), now_s).ok_or(no_file)?;
    let merchant = shared.merchant(request.text("merId")).ok_or(no_file)?;
    let lines = shared.book.look(|book| lines(book, merchant, &day));
    if lines.is_empty() {
        return Err(no_file);
    }
    let short = day.get(2..).unwrap_or_default();
    let mer_id = &merchant.mer_id;
    let members = [
        (format!("INN{short}01ZM_{mer_id}"), lines),
        (format!("INN{short}01ZME_{mer_id}"), Vec::new()),
    ];
    let content = packed(&members).ok_or(no_file)?;
    let mut fields = UnionPayFields::default();
    for name in ["settleDate", "fileType"] {
        fields.set(name, request.text(name));
    }
    fields.set("fileName", format!("{mer_id}_{day}_01.zip"));
    fields.set("fileContent", content);
    Ok(fields)
}

/// Every movement of the day, in the order of its time.
fn lines(book: &UnionPayBook, merchant: &UnionPayMerchant, day: &str) -> Vec<u8> {
    let mut moved: Vec<(&UnionPayTransaction, &UnionPayReceipt)> = book
        .transactions()
        .filter(|one| one.mer_id == merchant.mer_id && !one.is_cancelled)
        .filter(|one| one.state == UnionPayState::Succeeded && one.call != UnionPayCall::Revoke)
        .filter_map(|one| Some((one, one.receipt.as_ref()?)))
        .filter(|(_, receipt)| receipt.day == day)
        .collect();
    moved.sort_by_key(|(_, receipt)| (receipt.at_s, receipt.trace_no.clone()));
    let mut text = Vec::new();
    for (one, receipt) in moved {
        let payment = one.of.as_ref().and_then(|key| book.look(key));
        text.extend(line(&fields_of(one, receipt, payment, merchant)));
    }
    text
}

/// A line: its fields by their number in the document.
fn line(fields: &[(usize, String)]) -> Vec<u8> {
    let mut text = Vec::new();
    for (number, width) in (1..).zip(WIDTHS) {
        if number > 1 {
            text.push(b' ');
        }
        let value = fields.iter().find(|(known, _)| *known == number);
        let value = value.map_or("", |(_, value)| value);
        let (encoded, ..) = GBK.encode(value);
        let mut cell: Vec<u8> = encoded.iter().copied().take(width).collect();
        cell.resize(width, b' ');
        text.extend(cell);
    }
    text.extend(b"\r\n");
    text
}

fn fields_of(
    one: &UnionPayTransaction,
    receipt: &UnionPayReceipt,
    payment: Option<&UnionPayTransaction>,
    merchant: &UnionPayMerchant,
) -> Vec<(usize, String)> {
    let request = &one.request;
    let or = |name: &str, default: &str| request.get(name).unwrap_or(default).to_owned();
    let is_payment = one.call.is_payment();
    // Money to the merchant, and from it.
    let (to, from) = if is_payment { ('C', 'D') } else { ('D', 'C') };
    let fee_fen = fee(one.amount_fen, merchant.fee_basis_points);
    let net = signed(to, one.amount_fen.saturating_sub(fee_fen));
    let discount_fen = one.amount_fen.saturating_sub(receipt.settle_fen);
    let mut fields = vec![
        (1, if is_payment { "S22" } else { "S30" }.to_owned()),
        (2, or("acqInsCode", ACQUIRER)),
        (3, SENDER.to_owned()),
        (4, receipt.trace_no.clone()),
        (5, trace_time(receipt.at_s)),
        (6, CARD.to_owned()),
        (7, format!("{:012}", one.amount_fen)),
        (8, or("merCatCode", CATEGORY)),
        (9, "07".to_owned()),
        (10, receipt.query_id.clone()),
        (12, one.order_id.clone()),
        (13, "01".to_owned()),
        (16, signed(from, fee_fen)),
        (17, net.clone()),
        (18, "0001".to_owned()),
        (20, or("txnType", "")),
        (21, or("txnSubType", "")),
        (22, or("bizType", "")),
        (23, "01".to_owned()),
        (28, one.mer_id.clone()),
        (29, "A".to_owned()),
        (30, or("subMerId", "")),
        (31, or("subMerAbbr", "")),
        (32, signed('C', 0)),
        (33, net),
        (34, or("termId", TERMINAL)),
        (36, signed('C', discount_fen)),
        (37, signed('C', 0)),
        (38, format!("C{:011}", 0)),
        (42, signed(to, one.amount_fen)),
    ];
    if let Some((payment, paid)) = payment.and_then(|one| Some((one, one.receipt.as_ref()?))) {
        fields.extend([
            (14, paid.trace_no.clone()),
            (15, trace_time(paid.at_s)),
            (27, paid.query_id.clone()),
            (41, payment.order_id.clone()),
        ]);
    }
    fields
}

fn signed(sign: char, fen: i64) -> String {
    format!("{sign}{fen:012}")
}

/// Half a fen is rounded up.
fn fee(amount_fen: i64, basis_points: i64) -> i64 {
    let product = amount_fen.saturating_mul(basis_points);
    product.saturating_add(5_000).div_euclid(10_000)
}

fn packed(members: &[(String, Vec<u8>)]) -> Option<String> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, content) in members {
        archive.start_file(name.as_str(), options).ok()?;
        archive.write_all(content).ok()?;
    }
    let archive = archive.finish().ok()?.into_inner();
    let mut deflated = ZlibEncoder::new(Vec::new(), Compression::default());
    deflated.write_all(&archive).ok()?;
    Some(STANDARD.encode(deflated.finish().ok()?))
}
