//! Bills: an address for thirty seconds, and a zip of two texts in GBK.

use std::io::{Cursor, Read as _};

use encoding_rs::GBK;
use paymux::sandbox::EmptyDay;
use serde_json::{Value, json};
use zip::ZipArchive;

use super::client::{AlipayTestbed, Answered};

const METHOD: &str = "alipay.data.dataservice.bill.downloadurl.query";

fn asked(date: &str) -> Value {
    json!({ "bill_type": "trade", "bill_date": date, "secure": "true" })
}

async fn ask(bed: &AlipayTestbed, date: &str) -> Answered {
    bed.call(METHOD, &asked(date)).await
}

/// The members of an archive: name in bytes, content in text.
fn members(archive: &[u8]) -> Vec<(Vec<u8>, String)> {
    let mut archive = ZipArchive::new(Cursor::new(archive)).unwrap();
    (0..archive.len())
        .map(|place| {
            let mut member = archive.by_index(place).unwrap();
            let mut content = Vec::new();
            member.read_to_end(&mut content).unwrap();
            let (text, _, damaged) = GBK.decode(&content);
            assert!(!damaged);
            (member.name_raw().to_vec(), text.into_owned())
        })
        .collect()
}

/// A day's payments and refunds, in the vendor's layout, under names in GBK without a flag.
#[tokio::test]
async fn a_days_bill_has_its_payments_and_refunds() {
    let bed = AlipayTestbed::build().await;
    bed.pay_by_qr("5GM20260101000001", "10.01").await;
    let refund = json!({ "out_trade_no": "5GM20260101000001", "refund_amount": "3.01",
        "out_request_no": "5GR20260101000001" });
    bed.call("alipay.trade.refund", &refund).await;
    bed.advance_s(16 * 3_600);
    bed.pay_by_qr("5GM20260102000001", "1.00").await;
    bed.advance_s(9 * 3_600);
    let answer = ask(&bed, "2026-01-01").await;
    assert_eq!(answer.outcome(), ("10000", ""), "{}", answer.body);
    assert_eq!(answer.text("bill_file_code"), "");
    let file = bed
        .get(answer.text("bill_download_url"), Some("paymux"))
        .await;
    assert_eq!(file.status, 200);
    let members = members(&file.body);
    let name: Vec<u8> = [
        b"20881234123412340156_20260101_".as_slice(),
        b"\xd2\xb5\xce\xf1\xc3\xf7\xcf\xb8.csv",
    ]
    .concat();
    assert_eq!(members[0].0, name);
    assert_eq!(members.len(), 2);
    let (details, summary) = (&members[0].1, &members[1].1);
    let rows: Vec<&str> = details
        .split("\r\n")
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .collect();
    assert_eq!(rows.len(), 3, "{details}");
    let cells: Vec<&str> = rows[2].split(',').map(str::trim).collect();
    assert_eq!(cells.len(), 25);
    assert_eq!((cells[1], cells[2]), ("5GM20260101000001", "退款"));
    assert_eq!((cells[11], cells[21]), ("-3.01", "5GR20260101000001"));
    assert!(details.contains("#交易合计：1笔，商家实收共10.01元"));
    assert!(details.contains("#退款合计：1笔，商家实收退款共-3.01元"));
    assert!(summary.contains("#支付宝业务汇总查询") && summary.contains("合计\t,,1,1,7.00"));
    // The name has no flag that says UTF-8: bit 11 of the flags after the first four signatures.
    assert_eq!(file.body[7] & 0x08, 0);
}

/// The address is for thirty seconds, for callers that name themselves, and https on request.
#[tokio::test]
async fn an_address_expires_after_thirty_seconds() {
    let bed = AlipayTestbed::build().await;
    bed.advance_s(26 * 3_600);
    let answer = ask(&bed, "2026-01-01").await;
    let url = answer.text("bill_download_url");
    assert!(url.starts_with("https://"));
    assert_eq!(answer.text("bill_file_code"), "EMPTY_DATA_WITH_BILL_FILE");
    assert_eq!(bed.get(url, None).await.status, 403);
    bed.advance_s(29);
    assert_eq!(bed.get(url, Some("paymux")).await.status, 200);
    bed.advance_s(1);
    assert_eq!(bed.get(url, Some("paymux")).await.status, 403);
    let mut open = asked("2026-01-01");
    open.as_object_mut().unwrap().remove("secure");
    let answer = bed.call(METHOD, &open).await;
    assert!(answer.text("bill_download_url").starts_with("http://"));
}

/// Days that are not over, not ready, too old, or of another kind.
#[tokio::test]
async fn bills_that_do_not_exist_are_refused() {
    let bed = AlipayTestbed::build_with(|settings| settings.empty_day = EmptyDay::NoBillData).await;
    for (date, sub_code) in [
        ("2026-01-01", "INVAILID_ARGUMENTS"),
        ("2025-12-31", "NO_BILL_DATA"),
        ("2026-01-02", "INVAILID_ARGUMENTS"),
        ("2026-01", "INVAILID_ARGUMENTS"),
        ("2025-12", "NO_BILL_DATA"),
        ("2019-12-31", "INVAILID_ARGUMENTS"),
        ("2025-13-01", "INVAILID_ARGUMENTS"),
        ("20251231", "INVAILID_ARGUMENTS"),
    ] {
        let answer = ask(&bed, date).await;
        assert_eq!(answer.outcome(), ("40004", sub_code), "{date}");
    }
    bed.advance_s(3_600);
    let empty = ask(&bed, "2025-12-31").await;
    assert_eq!(
        empty.outcome().1,
        "NO_BILL_DATA",
        "some accounts get no empty file"
    );
    for (name, value, sub_code) in [
        ("bill_type", "signcustomer", "TYPE_NOT_SUPPORTED"),
        ("secure", "yes", "INVAILID_ARGUMENTS"),
        ("smid", "2088", "INVAILID_ARGUMENTS"),
        ("more", "x", "INVAILID_ARGUMENTS"),
    ] {
        let mut biz = asked("2025-12-31");
        biz[name] = value.into();
        assert_eq!(bed.call(METHOD, &biz).await.outcome().1, sub_code, "{name}");
    }
}
