//! Notes made small: Zstandard (RFC 8878) with what nearly every note says for a dictionary, so that
//! even the first note of an order finds its words already said.

use std::io;
use std::sync::LazyLock;

use zstd::bulk::{Compressor, Decompressor};
use zstd::dict::{DecoderDictionary, EncoderDictionary};
use zstd::zstd_safe::CParameter;

/// Which words were said before; others would be another number. 1 was deflate.
const WORDS_ID: u8 = 2;

/// A note of each kind without what differs, the most frequent kinds last: what is nearer is named
/// shorter.
const WORDS: &str = concat!(
    r#""stranger":true,"verdict":"E5 no_answer","version":1,"orderRefundStatus":"NONE","refundCause":"#,
    r#""reasonCode":"","retryAfter":1,"type":"about:blank","title":"","status":409,"code":"","#,
    r#""refundOrderNo":"R01","refundStatus":"PROCESSING","institutionRefundNo":"","refundTime":"2026-T"#,
    r#""what":"A3.4","verdict":"ACCEPTED","asked":{"line":"POST https://localhost/v1/refunds","body":{"#,
    r#""merchantRefundNo":"","refundAmount":"0.00","notShown":["noticeUrl","refundReason"]},"#,
    r#"E3 succeeded","asked":{"line":"POST https:///v1/refunds","refundStatus":"SUCCEEDED"}"#,
    r#","what":"notify ORDER_CLOSED, delivery 1","what":"notify REFUND_SUCCEEDED, delivery 1","#,
    r#""what":"X-3","verdict":"ACCEPTED","asked":{"line":"POST https://localhost/v1/orders/close","#,
    r#""what":"query","verdict":"E4 closed","asked":{"line":"POST https:///v1/orders/query","body":{"#,
    r#""orderStatus":"CLOSED","payOrderNo":"#,
    r#","what":"notify ORDER_PAID, delivery 1","verdict":"acknowledged","asked":{"line":"POST https:///"#,
    r#"notices","body":{"merchantOrderNo":"","orderDate":"2026","orderAmount":"0.00","merchantId":"M","#,
    r#""mobileNo":"1****","paymentDate":"2026","paymentTime":"","payOrderNo":"P01","orderStatus":"PAID","#,
    r#""eventId":"E01","eventType":"ORDER_PAID","version":2,"currency":"CNY","institutionId":"","#,
    r#""notShown":["merchantName"]},"content-type":"application/json","content-digest":"sha-256=:"#,
    r#"=:"},"answered":{"line":"200","body":{"noticeResult":"SUCCESS"},"content-type":"application/json"}}"#,
    r#","what":"callback","verdict":"GENUINE: E3 succeeded","asked":{"line":"POST https://localhost"#,
    r#"/v1/callbacks/","body":{"currency":"CNY","eventId":"","eventType":"ORDER_PAID","fee":"0.00","#,
    r#""merchantId":"","merchantOrderNo":"A01","mobileNo":"1****","orderAmount":"0.00","orderDate":"2026"#,
    r#"","orderStatus":"PAID","payOrderNo":"","paymentDate":"2026","paymentTime":"","notShown":["#,
    r#""merchantName"]},"content-type":"answered":{"line":"200","body":{"noticeResult":"SUCCESS"},"#,
    r#"","what":"X-2","verdict":"ACCEPTED","asked":{"line":"POST https://localhost/v1/orders/select","#,
    r#""body":{"institutionId":"","merchantId":"M","merchantOrderNo":"","mode":"WEBVIEW"},"content-type"#,
    r#","orderStatus":"OPEN","expireTime":"2026-T:00+08:00","attemptStatus":"ACCEPTED","institutionId":""#,
    r#"","mode":"WEBVIEW","notShown":["createDate","merchantName","payUrl"]},"content-type":"#,
    r#""with":"institution ","what":"create","verdict":"E3 accepted","asked":{"line":"POST https:///"#,
    r#"v1/orders","body":{"transactionType":"PASSWORD_PAY","businessType":"WEBVIEW","bankReturnUrl":""#,
    r#"https:///v1/callbacks/","merchantId":"","merchantOrderNo":"A01","orderDate":"2026","orderAmount":""#,
    r#"0.00","currency":"CNY","mobileNo":"1****","notShown":["merchantName","goodsNo","goodsName","#,
    r#""goodsDescription"]},"content-type":"","nonce=\"create-0-17\";keyid=\"","answered":{"line":"200","#,
    r#""body":{"currency":"CNY","merchantId":"","merchantOrderNo":"A01","orderAmount":"0.00","orderStatus"#,
    r#"":"OPEN","payOrderNo":"","result":"ACCEPTED","notShown":["payUrl"]},"content-type":"#,
    r#"{"at":17,"tookMs":1,"with":"merchant M","what":"A3.1","verdict":"ACCEPTED","asked":{"line":"POST "#,
    r#"https://localhost/v1/orders","body":{"bankReturnUrl":"https://","businessType":"AGGREGATED","#,
    r#""currency":"CNY","merchantId":"M","merchantOrderNo":"","mobileNo":"1****","orderAmount":"0.00","#,
    r#""orderDate":"2026","transactionType":"PASSWORD_PAY","notShown":["goodsDescription","goodsName","#,
    r#""goodsNo","merchantName"]},"content-type":"application/json","content-digest":"sha-256=:"#,
    r#"=:","signature-input":"sig1=(\"@method\" \"@target-uri\" \"content-digest\" \"content-type\")"#,
    r#";created=17;expires=17;nonce=\"\";keyid=\"","signature":"sig1=:==:"},"answered":{"line":"200","#,
    r#""body":{"payOrderNo":"P01","merchantId":"M","merchantOrderNo":"","orderAmount":"0.00","result":""#,
    r#"ACCEPTED","orderStatus":"OPEN","expireTime":"2026-T:00+08:00","attemptStatus":"NONE","#,
    r#""institutions":[{"institutionId":"","modes":["WEBVIEW"],"available":true,"notShown":["name","#,
    r#""nameEn","passwordFree"]},{"institutionId":"],"notShown":["createDate","merchantName"]},"#,
    r#""content-type":"application/json","content-digest":"sha-256=:=:","signature-input":"sig1=("#,
    r#"\"@status\" \"content-digest\" \"content-type\" \"@method\";req \"@target-uri\";req "#,
    r#"\"content-digest\";req \"signature\";req;key=\"sig1\");created=17;keyid=\"platform-1\""}}"#,
);

/// One more makes notes a tenth smaller, for two thirds more of work.
const EFFORT: i32 = 3;

static TO_PACK: LazyLock<EncoderDictionary<'_>> =
    LazyLock::new(|| EncoderDictionary::copy(WORDS.as_bytes(), EFFORT));

static TO_UNPACK: LazyLock<DecoderDictionary<'_>> =
    LazyLock::new(|| DecoderDictionary::copy(WORDS.as_bytes()));

/// Packs some texts, one after the other.
pub(super) struct Packer(Compressor<'static>);

impl Packer {
    /// Knows the words.
    ///
    /// # Errors
    /// There is no memory.
    pub(super) fn new() -> io::Result<Self> {
        let mut packer = Compressor::with_prepared_dictionary(&TO_PACK)?;
        // What is sealed cannot have changed, and the words have a number here.
        packer.set_parameter(CParameter::ChecksumFlag(false))?;
        packer.set_parameter(CParameter::DictIdFlag(false))?;
        Ok(Self(packer))
    }

    /// Packs a text.
    ///
    /// # Errors
    /// There is no memory.
    pub(super) fn pack(&mut self, text: &[u8]) -> io::Result<Vec<u8>> {
        let mut kept = self.0.compress(text)?;
        kept.insert(0, WORDS_ID);
        Ok(kept)
    }
}

/// Whether a [`Packer`] of this release made it.
pub(super) fn is_ours(kept: &[u8]) -> bool {
    kept.first() == Some(&WORDS_ID)
}

/// Unpacks it; nothing if it is not what a [`Packer`] made, or longer than allowed. Unit: bytes.
pub(super) fn unpack(kept: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let packed = is_ours(kept).then(|| kept.get(1..))??;
    let mut unpacker = Decompressor::with_prepared_dictionary(&TO_UNPACK).ok()?;
    unpacker.decompress(packed, bytes_max).ok()
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
        let mut packer = Packer::new().unwrap();
        for text in [
            b"".as_slice(),
            b"a",
            WORDS.as_bytes(),
            &noise,
            long.as_bytes(),
        ] {
            let kept = packer.pack(text).unwrap();
            assert_eq!(unpack(&kept, text.len()).as_deref(), Some(text));
            if !text.is_empty() {
                assert_eq!(unpack(&kept, text.len() - 1), None, "more than allowed");
            }
        }
        let kept = packer.pack(WORDS.as_bytes()).unwrap();
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
