//! Bills: the signed call that gives an address for thirty seconds, and the unsigned file behind
//! it, a zip of two comma-separated texts in GBK, names included.

mod text;

use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};
use std::sync::Mutex;

use bytes::Bytes;
use encoding_rs::GBK;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::sandbox::alipay::admission::AdmittedCall;
use crate::sandbox::alipay::answer::{AlipayRefusal, NodeMembers};
use crate::sandbox::alipay::bills::text::{BillPeriod, details, rows, summary};
use crate::sandbox::alipay::clock::DAY_MS;
use crate::sandbox::alipay::{AlipayState, EmptyDay, lock};
use crate::sandbox::clock::draw_token;
use crate::sandbox::refusal::written;

/// How long an address can be used. Unit: milliseconds.
const ADDRESS_MS: i64 = 30_000;
/// How far back bills go. Unit: milliseconds.
const OLDEST_MS: i64 = DAY_MS.saturating_mul(365 * 6 + 1);

/// Files with an address.
#[derive(Default)]
pub(super) struct BillFiles(Mutex<BTreeMap<String, BillFile>>);

struct BillFile {
    archive: Bytes,
    /// Unit: Unix milliseconds.
    until_ms: i64,
}

/// `alipay.data.dataservice.bill.downloadurl.query`.
pub(super) fn address(
    state: &AlipayState,
    admitted: &AdmittedCall,
) -> Result<NodeMembers, AlipayRefusal> {
    let biz = &admitted.biz;
    biz.only(&[&["bill_type", "bill_date", "smid", "secure"]])?;
    let refused = |sub_code: &str| AlipayRefusal::business(sub_code, "账单不可下载");
    match biz.required("bill_type", 20)? {
        "trade" if biz.value("smid").is_none() => (),
        "trade" => return Err(biz.wrong("smid")),
        _ => return Err(refused("TYPE_NOT_SUPPORTED")),
    }
    let now_ms = state.now_ms();
    let period = BillPeriod::parse(biz.required("bill_date", 15)?);
    let period = period.ok_or_else(|| biz.wrong("bill_date"))?;
    if period.to_ms > now_ms || period.from_ms < now_ms.saturating_sub(OLDEST_MS) {
        return Err(biz.wrong("bill_date"));
    }
    if now_ms < period.ready_ms() {
        return Err(refused("NO_BILL_DATA"));
    }
    let scheme = match biz.text("secure", 5)? {
        Some("true") => "https",
        None | Some("false") => "http",
        Some(_) => return Err(biz.wrong("secure")),
    };
    let seller_id = &admitted.party.seller_id;
    let rows = state
        .books
        .look(|books| rows(books.trades(), seller_id, &period));
    if rows.is_empty() && state.empty_day == EmptyDay::NoBillData {
        return Err(refused("NO_BILL_DATA"));
    }
    let archive = archive(&[
        (
            period.member(seller_id, "业务明细"),
            details(seller_id, &period, &rows),
        ),
        (
            period.member(seller_id, "业务明细(汇总)"),
            summary(seller_id, &period, &rows),
        ),
    ]);
    let archive = archive.ok_or_else(|| refused("UNKNOWN_ERROR"))?;
    let token = draw_token();
    let file = BillFile {
        archive: Bytes::from(archive),
        until_ms: now_ms.saturating_add(ADDRESS_MS),
    };
    lock(&state.bills.0).insert(token.clone(), file);
    let authority = &state.authority;
    let url = format!("{scheme}://{authority}/downloadBillFile.resource?token={token}");
    let mut members: NodeMembers = vec![("bill_download_url", url.into())];
    if rows.is_empty() {
        members.push(("bill_file_code", "EMPTY_DATA_WITH_BILL_FILE".into()));
    }
    Ok(members)
}

/// The file behind an address, while it lives; callers must name themselves.
pub(super) fn download(state: &AlipayState, request: &Request<Bytes>) -> Response<Bytes> {
    let refused = |why: &str| written(StatusCode::FORBIDDEN, "text/plain", why.to_owned());
    let agent = request.headers().get(USER_AGENT);
    if agent.is_none_or(HeaderValue::is_empty) {
        return refused("no User-Agent");
    }
    let query = request.uri().query().unwrap_or_default();
    let token = query.strip_prefix("token=").unwrap_or_default();
    let now_ms = state.now_ms();
    let mut files = lock(&state.bills.0);
    files.retain(|_, file| now_ms < file.until_ms);
    let Some(file) = files.get(token) else {
        return refused("expired");
    };
    let mut answer = Response::new(file.archive.clone());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A zip of texts in GBK. The library writes names as UTF-8 with a flag that says so; the vendor's
/// names are GBK without it. So each member gets a stand-in of the right length first.
fn archive(members: &[(String, String)]) -> Option<Vec<u8>> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let mut names = Vec::with_capacity(members.len());
    for ((name, content), mark) in members.iter().zip('a'..) {
        let (name, ..) = GBK.encode(name);
        let stand_in: String = std::iter::repeat_n(mark, name.len()).collect();
        writer.start_file(stand_in.as_str(), options).ok()?;
        let (content, ..) = GBK.encode(content);
        writer.write_all(&content).ok()?;
        names.push((stand_in, name.into_owned()));
    }
    let mut written = writer.finish().ok()?.into_inner();
    for (stand_in, name) in names {
        replace_twice(&mut written, stand_in.as_bytes(), &name)?;
    }
    Some(written)
}

/// Replaces a name of equal length where an archive has it: before the content, and at the end.
fn replace_twice(archive: &mut [u8], stand_in: &[u8], name: &[u8]) -> Option<()> {
    let is_stand_in = |window: &[u8]| window == stand_in;
    let first = archive.windows(stand_in.len()).position(is_stand_in)?;
    let last = archive.windows(stand_in.len()).rposition(is_stand_in)?;
    for at in [first, last] {
        let end = at.checked_add(name.len())?;
        archive.get_mut(at..end)?.copy_from_slice(name);
    }
    (first != last).then_some(())
}
