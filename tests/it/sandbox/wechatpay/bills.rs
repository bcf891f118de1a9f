//! Trade bills: when there is one, its address and file, its columns, fees and totals.

use std::io::Read as _;

use flate2::read::GzDecoder;
use paymux::sandbox::wechatpay::{AnswerFault, Carried, WechatCall, WechatRefundState};
use serde_json::json;

use super::client::WechatReply;
use super::{PLATFORM_SERIAL, SUB_MCHID, WechatTestbed};

const BILL: &str = "/v3/bill/tradebill?bill_date=2026-01-01";

impl WechatTestbed {
    async fn download(&self, bill: &WechatReply) -> WechatReply {
        let url = bill.json["download_url"].as_str().unwrap();
        let path = url.strip_prefix(&self.wechat.origin()).unwrap();
        self.get(path).await
    }

    /// To 10:00 of the second of January.
    fn next_morning(&self) {
        self.wechat.control().advance(26 * 3_600);
    }
}

/// By columns' names.
fn lines(text: &str) -> (Vec<Vec<(String, String)>>, Vec<String>) {
    let text = text.strip_prefix('\u{feff}').unwrap();
    let lines: Vec<&str> = text.split_terminator("\r\n").collect();
    let values = |line: &str| -> Vec<String> {
        let line = line.strip_prefix('`').unwrap();
        line.split(",`").map(str::to_owned).collect()
    };
    let names: Vec<&str> = lines[0].split(',').collect();
    let (rows, totals) = lines[1..].split_at(lines.len() - 3);
    let rows = rows.iter().map(|row| {
        let values = values(row);
        assert_eq!(values.len(), names.len());
        names
            .iter()
            .map(|it| (*it).to_owned())
            .zip(values)
            .collect()
    });
    (rows.collect(), values(totals[1]))
}

fn value<'a>(row: &'a [(String, String)], name: &str) -> &'a str {
    let found = row.iter().find(|(known, _)| known == name);
    &found.unwrap_or_else(|| panic!("{name}")).1
}

/// Section 19: payments and refunds of the day in yuan, fees, totals, and a digest that fits.
#[tokio::test]
async fn a_bill_lists_the_day_with_fees_and_totals() {
    let bed = WechatTestbed::build().await;
    bed.paid("ORDER-1").await;
    bed.paid("ORDER-2").await;
    bed.place("native", "ORDER-3").await;
    bed.refund("ORDER-2", "R1", 500).await;
    bed.wechat
        .control()
        .move_refund("R1", WechatRefundState::Success);
    bed.next_morning();
    let bill = bed.get(BILL).await;
    assert!(bill.is_signed(PLATFORM_SERIAL));
    assert_eq!(bill.json["hash_type"], "SHA1");
    let file = bed.download(&bill).await;
    assert!(
        file.headers.get("wechatpay-signature").is_none(),
        "a file is not signed"
    );
    let text = String::from_utf8(file.body.to_vec()).unwrap();
    let (rows, totals) = lines(&text);
    assert_eq!(rows.len(), 3);
    let of = |number: &str, state: &str| {
        let mut found = rows
            .iter()
            .filter(|row| value(row, "商户订单号") == number && value(row, "交易状态") == state);
        found.next().unwrap().clone()
    };
    let paid = of("ORDER-2", "SUCCESS");
    for (name, text) in [
        ("应结订单金额", "10.01"),
        ("订单金额", "10.01"),
        ("手续费", "0.06000"),
        ("费率", "0.60%"),
        ("特约商户号", "0"),
        ("商户退款单号", "0"),
        ("货币种类", "CNY"),
    ] {
        assert_eq!(value(&paid, name), text, "{name}");
    }
    let refunded = of("ORDER-2", "REFUND");
    for (name, text) in [
        ("商户退款单号", "R1"),
        ("退款金额", "5.00"),
        ("申请退款金额", "5.00"),
        ("退款状态", "SUCCESS"),
        ("手续费", "-0.03000"),
        ("应结订单金额", "0.00"),
    ] {
        assert_eq!(value(&refunded, name), text, "{name}");
    }
    assert_eq!(
        totals,
        ["3", "20.02", "5.00", "0.00", "0.09000", "20.02", "5.00"]
    );
    let payments = bed.get(&format!("{BILL}&bill_type=SUCCESS")).await;
    let payments = bed.download(&payments).await;
    assert_eq!(
        lines(std::str::from_utf8(&payments.body).unwrap()).0.len(),
        2
    );
}

/// Section 19: gzip on request; the digest is that of the plain file.
#[tokio::test]
async fn a_bill_is_packed_on_request() {
    let bed = WechatTestbed::build().await;
    bed.paid("ORDER-1").await;
    bed.next_morning();
    let plain = bed.get(BILL).await;
    let packed = bed.get(&format!("{BILL}&tar_type=GZIP")).await;
    assert_eq!(plain.json["hash_value"], packed.json["hash_value"]);
    assert_eq!(plain.json["hash_value"].as_str().unwrap().len(), 40);
    let file = bed.download(&packed).await;
    let mut text = Vec::new();
    GzDecoder::new(&file.body[..])
        .read_to_end(&mut text)
        .unwrap();
    assert_eq!(text, bed.download(&plain).await.body);
    let control = bed.wechat.control();
    control.next_answer(WechatCall::Download, AnswerFault::DamagedFile, Carried::Out);
    assert_ne!(text, bed.download(&plain).await.body);
}

/// Section 19: not before nine, none for an empty day, and an address works for five minutes.
#[tokio::test]
async fn a_bill_is_there_from_nine_of_the_next_day() {
    let bed = WechatTestbed::build().await;
    bed.paid("ORDER-1").await;
    let creating = (400, "STATEMENT_CREATING");
    let none = (400, "NO_STATEMENT_EXIST");
    assert_eq!(bed.get(BILL).await.refusal(), creating);
    bed.wechat.control().advance(24 * 3_600);
    assert_eq!(bed.get(BILL).await.refusal(), creating, "at eight");
    bed.wechat.control().advance(2 * 3_600);
    let bill = bed.get(BILL).await;
    assert_eq!(bill.status, 200);
    let day = |day: &str| format!("/v3/bill/tradebill?bill_date={day}");
    assert_eq!(
        bed.get(&day("2025-12-31")).await.refusal(),
        none,
        "an empty day"
    );
    assert_eq!(
        bed.get(&format!("{BILL}&bill_type=REFUND")).await.refusal(),
        none
    );
    for bad in ["20260101", "2026-02-30", "2026-01-09", ""] {
        assert_eq!(
            bed.get(&day(bad)).await.refusal(),
            (400, "PARAM_ERROR"),
            "{bad}"
        );
    }
    for bad in [
        "&bill_type=x",
        "&tar_type=ZIP",
        "&sub_mchid=1900009291",
        "&a=b",
    ] {
        let reply = bed.get(&format!("{BILL}{bad}")).await;
        assert_eq!(reply.refusal(), (400, "PARAM_ERROR"), "{bad}");
    }
    bed.wechat.control().advance(301);
    assert_eq!(bed.download(&bill).await.status, 404, "ask anew");
    bed.wechat.control().advance(100 * 86_400);
    assert_eq!(bed.get(BILL).await.refusal(), none, "kept for three months");
}

/// Sections 19 and 24.2: one file over all sub-merchants, or of one, each with its own fee.
#[tokio::test]
async fn a_providers_bill_names_the_receiver_of_each_line() {
    let bed = WechatTestbed::of_provider().await;
    for (number, sub_mchid) in [("ORDER-1", SUB_MCHID), ("ORDER-2", "1900009391")] {
        let mut order = bed.order("native", number);
        let members = order.as_object_mut().unwrap();
        let (appid, mchid) = (members.remove("appid"), members.remove("mchid"));
        order["sp_appid"] = appid.unwrap();
        order["sp_mchid"] = mchid.unwrap();
        order["sub_mchid"] = json!(sub_mchid);
        let placed = bed
            .post("/v3/pay/partner/transactions/native", &order)
            .await;
        assert_eq!(placed.status, 200, "{}", placed.json);
        bed.wechat.control().pay(number, None);
    }
    bed.next_morning();
    let all = bed.get(BILL).await;
    let all = bed.download(&all).await;
    let (rows, totals) = lines(std::str::from_utf8(&all.body).unwrap());
    let fees: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| (value(row, "特约商户号"), value(row, "手续费")))
        .collect();
    assert_eq!(fees, [(SUB_MCHID, "0.04000"), ("1900009391", "0.06000")]);
    assert_eq!(totals[4], "0.10000");
    let one = bed.get(&format!("{BILL}&sub_mchid={SUB_MCHID}")).await;
    let one = bed.download(&one).await;
    assert_eq!(lines(std::str::from_utf8(&one.body).unwrap()).0.len(), 1);
}
