//! The reconciliation file.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use encoding_rs::GBK;
use flate2::read::ZlibDecoder;

use super::client::UnionPayFieldList;
use super::{BACK, FILES, MER_ID, MORNING_S, UnionPayTestbed};
use paymux::sandbox::UnionPayFault;

const NUMBER: &str = "5GM20260101000001";

/// Names and contents of the members of a file.
pub(super) fn members(content: &str) -> Vec<(String, Vec<u8>)> {
    let deflated = STANDARD.decode(content).unwrap();
    let mut archive = Vec::new();
    ZlibDecoder::new(&deflated[..])
        .read_to_end(&mut archive)
        .unwrap();
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(archive)).unwrap();
    let mut members = Vec::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).unwrap();
        let mut text = Vec::new();
        member.read_to_end(&mut text).unwrap();
        members.push((member.name().unwrap().into_owned(), text));
    }
    members
}

/// A field of a line, by offset and width in bytes.
fn cell(line: &[u8], offset: usize, width: usize) -> String {
    let (text, _, is_broken) = GBK.decode(&line[offset..offset + width]);
    assert!(!is_broken);
    text.trim_end().to_owned()
}

fn request(settle_date: &str) -> UnionPayFieldList {
    UnionPayTestbed::base(["76", "01"], "000000")
        .with("fileType", "00")
        .with("settleDate", settle_date)
}

/// There is no file before the day has ended, and none of a day without movements.
#[tokio::test]
async fn a_file_comes_after_its_day() {
    let testbed = UnionPayTestbed::build().await;
    testbed.paid(NUMBER, "1001").await;
    let code = async |settle_date: &str, moment: &str| {
        let fields = request(settle_date).with("txnTime", moment);
        testbed.post(FILES, &fields).await.code().to_owned()
    };
    assert_eq!(code("0101", "20260101080000").await, "98");
    assert_eq!(
        code("1231", "20260101080000").await,
        "98",
        "nothing moved on that day"
    );
    testbed.control.hold_clock(Some(MORNING_S + 15 * 3_600 - 1));
    assert_eq!(code("0101", "20260101225959").await, "98");
    testbed.control.hold_clock(Some(MORNING_S + 15 * 3_600));
    assert_eq!(code("0101", "20260101230000").await, "00");
    assert_eq!(code("0230", "20260101230000").await, "98");
    assert_eq!(code("101", "20260101230000").await, "10");
    testbed.control.next(UnionPayFault::Refuses("98"), 1);
    assert_eq!(code("0101", "20260101230000").await, "98");
}

/// A payment and its refund, one that was reversed, and one of the next settlement day; the
/// `queryId` of the first.
async fn settle_a_day(testbed: &UnionPayTestbed) -> String {
    let sub = testbed
        .qr(NUMBER, "1001")
        .with("accessType", "2")
        .with("subMerId", "00001")
        .with("subMerName", "示例商城有限公司")
        .with("subMerAbbr", "示例商城");
    testbed.post(BACK, &sub).await;
    testbed.press(NUMBER, "pay").await;
    let paid = testbed.acknowledged(NUMBER, 1).await;
    let query_id = paid.receipt.unwrap().query_id;
    let refund = testbed
        .refund("5GR20260101000001", "301", &query_id)
        .with("accessType", "2");
    let foreign = refund.clone().with("subMerId", "00002");
    assert_eq!(testbed.post(BACK, &foreign).await.code(), "36");
    assert_eq!(testbed.post(BACK, &refund).await.code(), "00");
    testbed.acknowledged("5GR20260101000001", 1).await;
    let reversed = "5GM20260101000002";
    testbed.post(BACK, &testbed.barcode(reversed, "500")).await;
    testbed.acknowledged(reversed, 1).await;
    let reversal = UnionPayTestbed::base(["99", "01"], "000000").with("channelType", "08");
    testbed
        .post(BACK, &reversal.with("orderId", reversed))
        .await;
    testbed.control.hold_clock(Some(MORNING_S + 15 * 3_600));
    testbed.paid("5GM20260101000003", "700").await;
    query_id
}

/// The file holds every movement of the settlement day, and no other.
#[tokio::test]
async fn a_file_holds_the_movements_of_its_day() {
    let testbed = UnionPayTestbed::build().await;
    let query_id = settle_a_day(&testbed).await;
    let answer = testbed.post(FILES, &request("0101")).await;
    assert_eq!(answer.code(), "00", "{}", answer.text);
    let members = members(answer.fields.get("fileContent"));
    let names: Vec<&str> = members.iter().map(|(name, _)| &**name).collect();
    assert_eq!(
        names,
        [
            format!("INN26010101ZM_{MER_ID}"),
            format!("INN26010101ZME_{MER_ID}")
        ]
    );
    assert_eq!(members[1].1.len(), 0);
    let lines: Vec<&[u8]> = members[0].1.chunks(610).collect();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line.ends_with(b"\r\n")));
    let cells = |line: &[u8]| {
        [
            (0, 3),
            (66, 12),
            (112, 32),
            (166, 13),
            (180, 13),
            (311, 15),
            (327, 32),
        ]
        .map(|(offset, width)| cell(line, offset, width))
    };
    let payment = [
        "S22",
        "000000001001",
        NUMBER,
        "D000000000006",
        "C000000000995",
        "00001",
        "示例商城",
    ];
    assert_eq!(cells(lines[0]), payment);
    let back = [
        "S30",
        "000000000301",
        "5GR20260101000001",
        "C000000000002",
        "D000000000299",
        "",
        "",
    ];
    assert_eq!(cells(lines[1]), back);
    assert_eq!(cell(lines[1], 271, 21), query_id);
    assert_eq!(cell(lines[1], 476, 32), NUMBER);
}

/// The vendor's test merchants have no files.
#[tokio::test]
async fn a_merchant_without_files_gets_none() {
    let testbed = UnionPayTestbed::build().await;
    let other = "777290058110097";
    let certificate = super::whole("merchant_certificate");
    testbed.control.enrol(other, certificate).unwrap();
    let answer = testbed
        .post(FILES, &request("0101").with("merId", other))
        .await;
    assert_eq!(answer.code(), "32");
    let access = UnionPayTestbed::query_of(NUMBER)
        .with("merId", other)
        .with("accessType", "2");
    let answer = testbed.post(super::QUERY, &access).await;
    assert_eq!(
        answer.code(),
        "32",
        "an access type that is not in the contract"
    );
}
