//! Notes made small: deflate (RFC 1951) that begins with what nearly every note says, so that even
//! the first note of an order finds its words already said.

use std::sync::LazyLock;

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress, create_comp_flags_from_zip_params,
};
use miniz_oxide::inflate::decompress_to_vec_with_limit;

/// Which words were said before; others would be another number.
const WORDS_ID: u8 = 1;

/// The longest note first, the most frequent words last: what is nearer is named shorter.
const WORDS: &str = concat!(
    r#""version":1,"institutionResult":"PAID","refundOrderNo":"R01","merchantRefundNo":""#,
    r#""refundAmount":"0.00","refundStatus":"SUCCEEDED","orderRefundStatus":"NONE","#,
    r#""tookMs":0,"verdict":"ACCEPTED","what":"A3.2","with":"merchant M"}"#,
    r#"{"answered":{"body":{"noticeResult":"SUCCESS"},"line":"200","signatureBase":null},"#,
    r#""asked":{"body":{"currency":"CNY","eventId":"E01","eventType":"ORDER_PAID","fee":"0.00","#,
    r#""institutionId":"","merchantId":"M","merchantOrderNo":"","mobileNo":"1******","#,
    r#""notShown":["merchantName","payTime"],"orderAmount":"0.00","orderDate":"2026","#,
    r#""orderStatus":"PAID","payOrderNo":"P01","attemptStatus":"PAID","#,
    r#""payTime":"2026-T:00+08:00","version":2},"line":"POST https:///notices","#,
    r#""signatureBase":"\"@method\": POST\n\"@target-uri\": https:///v1/orders/query"#,
    r#"/v1/orders/select/v1/orders/close/v1/refunds/v1/callbacks/},"verdict":"E5 no_answer"#,
    r#"GENUINE: E3 succeeded acknowledged","what":"callback notify ORDER_PAID, delivery 1","#,
    r#""with":"institution ","stranger":true,"verdict":"E3 accepted","what":"query","#,
    r#"{"answered":{"body":{"attemptStatus":"ACCEPTED","expireTime":"2026-T:00+08:00","#,
    r#""institutionId":"","merchantId":"M","merchantOrderNo":"","mode":"WEBVIEW","#,
    r#""notShown":["createDate","merchantName","payUrl"],"orderAmount":"0.00","orderStatus":"OPEN","#,
    r#""payOrderNo":"P01","result":"ACCEPTED"},"line":"200","signatureBase":"\"@status\": 200\n"#,
    r#"\"content-digest\": sha-256=:=:\n\"content-type\": application/json\n\"@method\";req: POST\n"#,
    r#"\"@target-uri\";req: https://localhost/v1/orders\n\"content-digest\";req: sha-256=:"#,
    r#"=:\n\"signature\";req;key=\"sig1\": :==:\n\"@signature-params\": (\"@status\" "#,
    r#"\"content-digest\" \"content-type\" \"@method\";req \"@target-uri\";req "#,
    r#"\"content-digest\";req \"signature\";req;key=\"sig1\");created=17;keyid=\"platform-1\""},"#,
    r#""asked":{"body":{"bankReturnUrl":"https://","businessType":"AGGREGATED","currency":"CNY","#,
    r#""institutionId":"","merchantId":"M","merchantOrderNo":"","mobileNo":"1******","#,
    r#""notShown":["goodsDescription","goodsName","goodsNo","merchantName"],"orderAmount":"0.00","#,
    r#""orderDate":"2026","transactionType":"PASSWORD_PAY"},"line":"POST https://localhost"#,
    r#"/v1/orders","signatureBase":"\"@method\": POST\n\"@target-uri\": https://localhost"#,
    r#"/v1/orders\n\"content-digest\": sha-256=:=:\n\"content-type\": application/json\n"#,
    r#"\"@signature-params\": (\"@method\" \"@target-uri\" \"content-digest\" \"content-type\")"#,
    r#";created=17;expires=17;nonce=\"\";keyid=\""},"at":17,"tookMs":1,"verdict":"ACCEPTED","#,
    r#""what":"A3.1","with":"merchant M"}"#,
);

/// Text repeats itself; more effort finds hardly more.
const EFFORT: i32 = 6;
/// No header and no sum: what is sealed cannot have changed.
const RAW: i32 = -15;
/// One code for all, instead of one made for each text: a fourteenth larger, and half the work.
const FIXED: i32 = 4;

/// What a packer knows when the words have been said, and what it wrote of them, up to a whole byte:
/// what follows may be cut off there and put behind the words again, whoever packed those.
static SAID: LazyLock<(CompressorOxide, Vec<u8>)> = LazyLock::new(|| {
    let flags = create_comp_flags_from_zip_params(EFFORT, RAW, FIXED);
    let mut deflate = CompressorOxide::new(flags);
    let mut packed = Vec::new();
    feed(
        &mut deflate,
        WORDS.as_bytes(),
        &mut packed,
        TDEFLFlush::Sync,
    );
    (deflate, packed)
});

/// Packs a text.
pub(super) fn pack(text: &[u8]) -> Vec<u8> {
    let mut deflate = SAID.0.clone();
    let mut kept = vec![WORDS_ID];
    feed(&mut deflate, text, &mut kept, TDEFLFlush::Finish);
    kept
}

/// Unpacks it; nothing if it is not what [`pack`] made, or longer than allowed. Unit: bytes.
pub(super) fn unpack(kept: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let (id, rest) = kept.split_first()?;
    if *id != WORDS_ID {
        return None;
    }
    let packed = [SAID.1.as_slice(), rest].concat();
    let bytes_max = bytes_max.saturating_add(WORDS.len());
    let text = decompress_to_vec_with_limit(&packed, bytes_max).ok()?;
    text.strip_prefix(WORDS.as_bytes()).map(<[u8]>::to_vec)
}

fn feed(with: &mut CompressorOxide, text: &[u8], packed: &mut Vec<u8>, flush: TDEFLFlush) {
    let mut rest = text;
    loop {
        let from = packed.len();
        packed.resize(from.saturating_add(rest.len()).saturating_add(512), 0);
        let room = packed.get_mut(from..).unwrap_or_default();
        let (status, read, written) = compress(with, rest, room, flush);
        packed.truncate(from.saturating_add(written));
        rest = rest.get(read..).unwrap_or_default();
        let is_over = match status {
            TDEFLStatus::Done | TDEFLStatus::BadParam | TDEFLStatus::PutBufFailed => true,
            // Room was left over: everything is out.
            TDEFLStatus::Okay => rest.is_empty() && written < rest.len().saturating_add(512),
        };
        if is_over {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is packed comes back, and nothing else does.
    #[test]
    fn what_is_packed_comes_back() {
        let noise: Vec<u8> = (0..9_000_u32)
            .flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes())
            .collect();
        let long = WORDS.repeat(20);
        for text in [
            b"".as_slice(),
            b"a",
            WORDS.as_bytes(),
            &noise,
            long.as_bytes(),
        ] {
            let kept = pack(text);
            assert_eq!(unpack(&kept, text.len()).as_deref(), Some(text));
            if !text.is_empty() {
                assert_eq!(unpack(&kept, text.len() - 1), None, "more than allowed");
            }
        }
        let kept = pack(WORDS.as_bytes());
        assert!(
            kept.len() < 40,
            "{} bytes for what was said before",
            kept.len()
        );
        for broken in [
            &kept[..0],
            &kept[1..],
            &kept[..kept.len() - 2],
            &[WORDS_ID, 0xff, 0xff],
        ] {
            assert_eq!(unpack(broken, 10_000), None);
        }
    }
}
