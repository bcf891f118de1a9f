//! SM2: the examples of the standard, of other implementations, and of institutions' documents.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::bytes;
use crate::crypto::digest::sm3;
use crate::crypto::sm2::{DEFAULT_USER_ID, Sm2Encoding, Sm2PrivateKey, Sm2PublicKey};
use crate::crypto::{hex, pem};

/// The key pair of GB/T 32918.5.
const STANDARD_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqBHM9VAYItBG0wawIBAQQgOUUgj3shRLE/NuOK
xtOflYiTk2koYLUaQvuB7033xbihRANCAAQJ+d8xHlQhoVDdfRYeS8XGchefrRgz
/AdrsI/zVvNQIMzqSQziZ3WlLcbqcYzBqmAK7QX7814ISmYy9gctqa0T
-----END PRIVATE KEY-----
";
const STANDARD_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoEcz1UBgi0DQgAECfnfMR5UIaFQ3X0WHkvFxnIXn60Y
M/wHa7CP81bzUCDM6kkM4md1pS3G6nGMwapgCu0F+/NeCEpmMvYHLamtEw==
-----END PUBLIC KEY-----
";
/// The example of GB/T 32918.5, r and s.
const STANDARD_R: &str = "f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3";
const STANDARD_S: &str = "b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa";
/// n - s of the same.
const MINUS_S: &str = "4e4955d520ded02789ce7d43f2bde35db673a66e0246c256cfb08a44b4197f79";
/// The order of the group.
const ORDER: &str = "fffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54123";

fn private(user_id: &str) -> Option<Sm2PrivateKey> {
    Sm2PrivateKey::from_pkcs8(
        &pem::read_block(pem::PRIVATE_KEY, STANDARD_PRIVATE)?,
        user_id,
    )
}

fn public(user_id: &str) -> Option<Sm2PublicKey> {
    Sm2PublicKey::from_spki(&pem::read_block(pem::PUBLIC_KEY, STANDARD_PUBLIC)?, user_id)
}

/// Q3: GB/T 32918.5; and with other user ids, with short numbers, of other implementations.
#[test]
fn sm2_signatures_of_the_standard_are_good() {
    for (user_id, message, r, s) in [
        (DEFAULT_USER_ID, "message digest", STANDARD_R, STANDARD_S),
        (
            "ALICE123@YAHOO.COM",
            "message digest",
            "b0e3e7d4ac2178f833ad73fa9d1191e41c76c8bfedb5ad89040ba2e5184bde58",
            "cc8d096578f7dd2669ac1ac42f7e722bcfa42b9e0be0b1b5df7ca0b53fdd5750",
        ),
        (
            "68759663125",
            "5G消息",
            "58cc03577242871a547867e8eaf22583afe4012b7a38311667694684457b14b1",
            "d96ea1bddba642dac8fc92cf1a8daf3c0ca05ad333fb575edc1949dda27582d9",
        ),
        (
            DEFAULT_USER_ID,
            "msg-108",
            "926d88fa4be284156367ed72082a7a77073427a3233168cede08ef44d75dc01a",
            "0013a93d6d8b7c8ddefb00122c3ec79ea7d5497b5b33cf99279714d585274670",
        ),
        (
            DEFAULT_USER_ID,
            "msg-205",
            "007e60f508c005dec2ccf5cc2f599f0fe0047c295f94dd3dca3a20d05949a1a2",
            "3c6fc4b0685b674d0c1bb24289d9558ab356831ba55b3960f20195d6865caf74",
        ),
    ] {
        let key = public(user_id).unwrap();
        let signature = [bytes(r), bytes(s)].concat();
        assert!(
            key.verify(message.as_bytes(), &signature, Sm2Encoding::Fixed),
            "{message}"
        );
        assert!(!key.verify(b"other", &signature, Sm2Encoding::Fixed));
        assert!(!key.verify(message.as_bytes(), &signature, Sm2Encoding::Der));
    }
}

/// Q3: another user id, other numbers, zero, and numbers that are not below the order.
#[test]
fn sm2_signatures_are_refused() {
    let (r, s, zero) = (bytes(STANDARD_R), bytes(STANDARD_S), vec![0; 32]);
    let good = [r.clone(), s.clone()].concat();
    let message = b"message digest";
    let key = public(DEFAULT_USER_ID).unwrap();
    assert!(key.verify(message, &good, Sm2Encoding::Fixed));
    let other_id = public("1234567812345679").unwrap();
    assert!(!other_id.verify(message, &good, Sm2Encoding::Fixed));
    assert!(public("").is_none() && private("").is_none());
    assert!(public(&"1".repeat(8_192)).is_none());
    for (r, s) in [
        (&s, &r),
        (&r, &bytes(MINUS_S)),
        (&zero, &s),
        (&r, &zero),
        (&zero, &zero),
        (&bytes(ORDER), &s),
        (&r, &bytes(ORDER)),
        (&vec![0xff; 32], &vec![0xff; 32]),
    ] {
        let signature = [r.as_slice(), s].concat();
        assert!(!key.verify(message, &signature, Sm2Encoding::Fixed));
    }
    for at in 0..good.len() {
        let mut altered = good.clone();
        altered[at] ^= 1;
        assert!(
            !key.verify(message, &altered, Sm2Encoding::Fixed),
            "byte {at}"
        );
        assert!(
            !key.verify(message, &good[..at], Sm2Encoding::Fixed),
            "{at} bytes"
        );
    }
    assert!(!key.verify(
        message,
        &[good.as_slice(), &[0]].concat(),
        Sm2Encoding::Fixed
    ));
}

/// Q3: DER has one form for each signature: minimal positive integers, and nothing after them.
#[test]
fn sm2_signatures_in_der_have_one_form() {
    let key = public(DEFAULT_USER_ID).unwrap();
    for (message, der) in [
        (
            "message digest",
            "3046022100f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3\
             022100b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa",
        ),
        (
            "msg-108",
            "3044022100926d88fa4be284156367ed72082a7a77073427a3233168cede08ef44d75dc01a\
             021f13a93d6d8b7c8ddefb00122c3ec79ea7d5497b5b33cf99279714d585274670",
        ),
        (
            "msg-205",
            "3043021f7e60f508c005dec2ccf5cc2f599f0fe0047c295f94dd3dca3a20d05949a1a2\
             02203c6fc4b0685b674d0c1bb24289d9558ab356831ba55b3960f20195d6865caf74",
        ),
    ] {
        let der = bytes(der);
        assert!(
            key.verify(message.as_bytes(), &der, Sm2Encoding::Der),
            "{message}"
        );
        assert!(
            !key.verify(message.as_bytes(), &der, Sm2Encoding::Fixed),
            "{message}"
        );
        for length in 0..der.len() {
            assert!(!key.verify(message.as_bytes(), &der[..length], Sm2Encoding::Der));
        }
    }
    let (r, s) = (bytes(STANDARD_R), bytes(STANDARD_S));
    let wrap = |parts: &[&[u8]]| {
        let content = parts.concat();
        [
            &[0x30, u8::try_from(content.len()).unwrap()],
            content.as_slice(),
        ]
        .concat()
    };
    let good = wrap(&[&[2, 33, 0], &r, &[2, 33, 0], &s]);
    assert!(key.verify(b"message digest", &good, Sm2Encoding::Der));
    for other in [
        [good.as_slice(), &[0]].concat(),
        wrap(&[&[2, 33, 0], &r, &[2, 33, 0], &s, &[0]]),
        wrap(&[&[2, 34, 0, 0], &r, &[2, 33, 0], &s]),
        wrap(&[&[2, 32], &r, &[2, 32], &s]),
        wrap(&[&[2, 1, 0], &[2, 33, 0], &s]),
        wrap(&[&[2, 0], &[2, 33, 0], &s]),
        wrap(&[&[2, 33, 0], &r]),
        [&[0x30, 0x81, 70], &good[2..]].concat(),
        [&[0x30, 0x80], &good[2..], &[0, 0]].concat(),
        vec![0x30; 200],
        Vec::new(),
    ] {
        assert!(
            !key.verify(b"message digest", &other, Sm2Encoding::Der),
            "{other:02x?}"
        );
    }
}

/// Q3: what is signed here verifies, in the encoding asked for, under its own user id only.
#[test]
fn sm2_signs_under_its_user_id() {
    let der = pem::read_block(pem::PUBLIC_KEY, STANDARD_PUBLIC).unwrap();
    for user_id in [DEFAULT_USER_ID, "68759663125"] {
        let key = private(user_id).unwrap();
        assert_eq!(key.public_spki(), der);
        for (encoding, other) in [
            (Sm2Encoding::Der, Sm2Encoding::Fixed),
            (Sm2Encoding::Fixed, Sm2Encoding::Der),
        ] {
            let signature = key.sign(b"pay", encoding).unwrap();
            assert!(
                public(user_id)
                    .unwrap()
                    .verify(b"pay", &signature, encoding)
            );
            assert!(!public(user_id).unwrap().verify(b"pay", &signature, other));
            assert!(!public("2").unwrap().verify(b"pay", &signature, encoding));
        }
    }
}

/// Q3: keys of other curves, points off the curve, other point formats, damaged ones.
#[test]
fn only_sm2_keys_are_read() {
    let spki = pem::read_block(pem::PUBLIC_KEY, STANDARD_PUBLIC).unwrap();
    let mut off = spki.clone();
    *off.last_mut().unwrap() ^= 1;
    let mut p256 = spki.clone();
    p256[15..23].copy_from_slice(&[0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03]);
    let longer = [spki.as_slice(), &[0]].concat();
    for other in [off.as_slice(), &p256, &longer, &spki[1..], &spki[..90], &[]] {
        assert!(Sm2PublicKey::from_spki(other, DEFAULT_USER_ID).is_none());
    }
    let point = &spki[26..];
    assert!(Sm2PublicKey::from_point(point, DEFAULT_USER_ID).is_some());
    let compressed = [&[0x03], &point[1..33]].concat();
    for other in [compressed.as_slice(), &point[1..], &[0], &[4; 65]] {
        assert!(Sm2PublicKey::from_point(other, DEFAULT_USER_ID).is_none());
    }
    let pkcs8 = pem::read_block(pem::PRIVATE_KEY, STANDARD_PRIVATE).unwrap();
    for length in 0..pkcs8.len() {
        let cut = Sm2PrivateKey::from_pkcs8(&pkcs8[..length], DEFAULT_USER_ID);
        assert!(cut.is_none(), "{length} bytes");
    }
    let p256 = crate::crypto::ecdsa::EcdsaP256PrivateKey::generate_pkcs8().unwrap();
    assert!(Sm2PrivateKey::from_pkcs8(&p256, DEFAULT_USER_ID).is_none());
}

/// Q3: `WeChat` Pay signs with the default user id in DER.
#[test]
fn wechat_pays_published_sm2_signatures_are_good() {
    let merchant = "MFkwEwYHKoZIzj0CAQYIKoEcz1UBgi0DQgAEJ4kc3eR9jxIZQHJXE3E+rSx8OhCy\
                    2N93F8sWvGEXxfRRwPZBVGIuRfC6LteRhSfNg1NDXdfwifZhMiR95toHHw==";
    let platform = "MFkwEwYHKoZIzj0CAQYIKoEcz1UBgi0DQgAEjAsFsSUili5/urtS0X4ke4thG0wG\
                    rvfJncQzwnz19YNFbIuj273l9fOKc7t0zT84TQ/Aoy6J2pfjREB1ri3kRQ==";
    for (key, message, signature) in [
        (
            merchant,
            "GET\n/v3/pay/transactions/out-trade-no/5GM20260101000001?mchid=1900009191\n\
             1767225660\n59Z1PO0NS2BFQ7YQ5LXG7XM2H4M0T0QX\n\n",
            "MEUCIQC/yu6RZYDXS7DjYHhffHNrPjyHfMU0eKVmq/FcQ4G34AIgA9pplvoIuGv/2UE3qYJdtSGAAH/\
             NOWc0fJK33ZKaMiQ=",
        ),
        (
            platform,
            "1767225601\nc5ac7061fccab6bf3e254dcf98995b8c\n\
             {\"code_url\":\"weixin://wxpay/bizpayurl?pr=8kXb0Exzz\"}\n",
            "MEQCICftUMIS+iuT1uQjq/15Q4Iirs4LSCyFyS6HgI4T7OyGAiB4y52+L1Awvm6zOSVKwugew8TO3mO\
             0jDhGcbjzpTXbFg==",
        ),
    ] {
        let spki = pem::read_bare(key).unwrap();
        let key = Sm2PublicKey::from_spki(&spki, DEFAULT_USER_ID).unwrap();
        let signature = STANDARD.decode(signature).unwrap();
        assert!(key.verify(message.as_bytes(), &signature, Sm2Encoding::Der));
        assert!(!key.verify(&message.as_bytes()[1..], &signature, Sm2Encoding::Der));
    }
    let private = "MIGHAgEAMBMGByqGSM49AgEGCCqBHM9VAYItBG0wawIBAQQgn52oK7fsCqJjTAuP\
                   oALSA7xB54IvQmdRhxWOEiwCnJqhRANCAAQniRzd5H2PEhlAclcTcT6tLHw6ELLY\
                   33cXyxa8YRfF9FHA9kFUYi5F8Lou15GFJ82DU0Nd1/CJ9mEyJH3m2gcf";
    let der = pem::read_bare(private).unwrap();
    let private = Sm2PrivateKey::from_pkcs8(&der, DEFAULT_USER_ID).unwrap();
    assert_eq!(private.public_spki(), pem::read_bare(merchant).unwrap());
}

/// Q3: `UnionPay` signs the text of a digest, under the certificate's serial number, never in DER.
#[test]
fn unionpays_published_sm2_signature_is_good() {
    let message = "accessType=0&bizType=000201&certId=68759663125&encoding=UTF-8&\
                   merId=777290058110048&orderId=5GM20260101000001&signMethod=21&txnSubType=00&\
                   txnTime=20260101080000&txnType=00&version=5.1.0";
    let digest = hex::lower(&sm3(message.as_bytes()));
    assert_eq!(
        digest,
        "52968b95809c80461ffb475cee5dc8106e9896812b5767e8c7f444d71a670dc0"
    );
    let raw = "coYlLgBjQqZHmciXJogfgvxvbcmKOQSZzoxkLCfUf//k1HzpzRaOys+bAZa9edLOt9QDdwv+7aQAMTX3t2\
               xl0w==";
    let der = "MEUCIHKGJS4AY0KmR5nIlyaIH4L8b23JijkEmc6MZCwn1H//AiEA5NR86c0WjsrPmwGWvXnSzrfUA3cL/u\
               2kADE197dsZdM=";
    let key = public("68759663125").unwrap();
    let (raw, der) = (STANDARD.decode(raw).unwrap(), STANDARD.decode(der).unwrap());
    assert!(key.verify(digest.as_bytes(), &raw, Sm2Encoding::Fixed));
    assert!(!key.verify(digest.as_bytes(), &der, Sm2Encoding::Fixed));
    assert!(!key.verify(message.as_bytes(), &raw, Sm2Encoding::Fixed));
    assert!(
        !public(DEFAULT_USER_ID)
            .unwrap()
            .verify(digest.as_bytes(), &raw, Sm2Encoding::Fixed)
    );
}

/// `UnionPay`'s symmetric methods, which are not used: they show that the digests are right.
#[test]
fn unionpays_published_digests_are_ours() {
    let message = |method| {
        format!(
            "accessType=0&bizType=000201&encoding=UTF-8&merId=777290058110048&\
             orderId=5GM20260101000001&signMethod={method}&txnSubType=00&txnTime=20260101080000&\
             txnType=00&version=5.1.0"
        )
    };
    let secret = "PY5Ka7wTn3Vd9Lx2";
    let keyed = |digest: fn(&[u8]) -> [u8; 32], method| {
        let inner = hex::lower(&digest(secret.as_bytes()));
        let whole = hex::lower(&digest(format!("{}&{inner}", message(method)).as_bytes()));
        (inner, whole)
    };
    let (inner, whole) = keyed(crate::crypto::digest::sha256, "11");
    assert_eq!(
        inner,
        "e8b8eefd9c6394297f4081581474b9d58b33dd5f07a505ce592b0b3418ad1f31"
    );
    assert_eq!(
        whole,
        "b17e9aebe50e18ce1128a91044079313be49efc0cf3580325d7ef93e823583ba"
    );
    let (inner, whole) = keyed(sm3, "12");
    assert_eq!(
        inner,
        "38f343c14bb9998efeae7c0f976902ca94ff14d001097c76b43dd2c2f992058d"
    );
    assert_eq!(
        whole,
        "aa35cacdce1fa44bd6b5afa042ddf61d7dd85bca1c63bb96229907996a7acaeb"
    );
}
