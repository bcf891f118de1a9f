//! Known answers and negative tests: each primitive against its standard's examples.

mod certificate;
mod ed25519;
mod institutions;
mod pkcs12;
mod rsa;
mod sm;

use super::aead::{Aes256GcmKey, Sm4GcmKey};
use super::compare::constant_time_eq;
use super::digest::{Sha256, sha256, sha512, sm3};
use super::ecdsa::EcdsaP256PublicKey;
use super::hex;
use super::hmac::HmacKey;
use super::pem;

/// Parses hexadecimal digits.
fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    assert!(rest.is_empty());
    let byte = |pair: &[char; 2]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
    pairs.iter().map(|pair| byte(pair).unwrap()).collect()
}

fn array<const N: usize>(hex: &str) -> [u8; N] {
    bytes(hex).try_into().unwrap()
}

/// FIPS 180-4: the three-letter examples.
#[test]
fn digests_are_those_of_the_standard() {
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(sha256(b"abc").as_slice(), bytes(abc));
    let long = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
    assert_eq!(sha512(b"abc").as_slice(), bytes(long));
    let mut parts = Sha256::new();
    parts.update(b"a");
    parts.update(b"");
    parts.update(b"bc");
    assert_eq!(parts.finish(), sha256(b"abc"));
    assert_eq!(Sha256::default().finish(), sha256(b""));
}

/// Q3: RFC 4231, cases 1 and 2; a truncated or extended tag is refused.
#[test]
fn tags_are_those_of_the_standard() {
    for (secret, message, tag) in [
        (
            [0x0b; 20].as_slice(),
            b"Hi There".as_slice(),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
    ] {
        let key = HmacKey::new(secret);
        let tag = bytes(tag);
        assert_eq!(key.sign(message).as_slice(), tag);
        let (begin, end) = message.split_at(3);
        assert_eq!(key.sign_parts(&[begin, b"", end]).as_slice(), tag);
        assert!(key.verify(message, &tag));
        assert!(!key.verify(b"another", &tag));
        for length in 0..tag.len() {
            assert!(!key.verify(message, &tag[..length]), "{length} bytes");
        }
        assert!(!key.verify(message, &[tag.as_slice(), &[0]].concat()));
    }
}

/// D2: `McGrew` and Viega, "The Galois/Counter Mode of Operation", case 16; altered data does not
/// open.
#[test]
fn sealing_is_that_of_the_standard() {
    let key = array("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
    let key = Aes256GcmKey::new(&key).unwrap();
    let nonce = array("cafebabefacedbaddecaf888");
    let aad = bytes("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    let plain = bytes(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
         1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
    );
    let sealed = bytes(
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
         8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662\
         76fc6ece0f4e1768cddf8853bb2d551b",
    );
    assert_eq!(key.seal(nonce, &aad, &plain).unwrap(), sealed);
    assert_eq!(key.open(nonce, &aad, &sealed).unwrap(), plain);
    assert_eq!(key.open(nonce, &aad[1..], &sealed), None);
    assert_eq!(key.open([0; 12], &aad, &sealed), None);
    for at in 0..sealed.len() {
        let mut altered = sealed.clone();
        altered[at] ^= 1;
        assert_eq!(key.open(nonce, &aad, &altered), None, "byte {at}");
        assert_eq!(key.open(nonce, &aad, &sealed[..at]), None, "{at} bytes");
    }
}

/// GB/T 32905, and values that at least three implementations agree on.
#[test]
fn sm3_is_that_of_the_standard() {
    let four = "abcd".repeat(16);
    let million = "a".repeat(1_000_000);
    for (message, digest) in [
        (
            "abc",
            "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0",
        ),
        (
            &four,
            "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732",
        ),
        (
            "",
            "1ab21d8355cfa17f8e61194831e81a8f22bec8c728fefb747ed035eb5082aa2b",
        ),
        (
            "message digest",
            "c522a942e89bd80d97dd666e7a5531b36188c9817149e9b258dfe51ece98ed77",
        ),
        (
            &million,
            "c8aaf89429554029e231941a2acc0ad61ff2a5acd8fadd25847a3a732b3b02c3",
        ),
    ] {
        assert_eq!(hex::lower(&sm3(message.as_bytes())), digest);
    }
}

/// RFC 8998, appendix A.1, and an empty text; altered data does not open.
#[test]
fn sm4_gcm_is_that_of_the_standard() {
    let key = Sm4GcmKey::new(&array("0123456789abcdeffedcba9876543210"));
    let nonce = array("00001234567800000000abcd");
    let aad = bytes("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    let plain = bytes(
        "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd\
         eeeeeeeeeeeeeeeeffffffffffffffffeeeeeeeeeeeeeeeeaaaaaaaaaaaaaaaa",
    );
    let sealed = bytes(
        "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735\
         d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d\
         83de3541e4c2b58177e065a9bf7b62ec",
    );
    assert_eq!(key.seal(nonce, &aad, &plain).unwrap(), sealed);
    assert_eq!(key.open(nonce, &aad, &sealed).unwrap(), plain);
    assert_eq!(key.open(nonce, &aad[1..], &sealed), None);
    assert_eq!(key.open([0; 12], &aad, &sealed), None);
    for at in 0..sealed.len() {
        let mut altered = sealed.clone();
        altered[at] ^= 1;
        assert_eq!(key.open(nonce, &aad, &altered), None, "byte {at}");
        assert_eq!(key.open(nonce, &aad, &sealed[..at]), None, "{at} bytes");
    }
    let tag = key.seal(*b"0123456789ab", b"", b"").unwrap();
    assert_eq!(hex::lower(&tag), "ec6d79eaa5bd5aaeca073b72637edc67");
}

/// Q3: RFC 6979, appendix A.2.5, "sample" with SHA-256.
#[test]
fn an_ecdsa_signature_of_the_standard_is_good() {
    let x = array("60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6");
    let y = array("7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299");
    let signature = bytes(
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716\
         f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
    );
    let key = EcdsaP256PublicKey::from_coordinates(&x, &y).unwrap();
    assert!(key.verify(b"sample", &signature));
    assert!(!key.verify(b"test", &signature));
    assert!(EcdsaP256PublicKey::from_coordinates(&y, &x).is_none());
}

///
#[test]
fn secrets_are_compared_whole() {
    assert!(constant_time_eq(b"abc", b"abc"));
    for other in [b"abd".as_slice(), b"ab", b"abcd", b""] {
        assert!(!constant_time_eq(b"abc", other));
    }
}

/// Q3: a key is read only from a block with its own label, whatever surrounds it.
#[test]
fn a_key_is_read_under_its_own_label() {
    let der = [0x5a; 100];
    let private = pem::write(pem::PRIVATE_KEY, &der);
    let public = pem::write(pem::PUBLIC_KEY, &der);
    assert!(private.lines().all(|line| line.len() <= 64));
    let both = format!("a comment\n{private}{public}");
    assert_eq!(pem::read_private_key(both.as_bytes()).unwrap(), der);
    assert_eq!(pem::read_public_key(both.as_bytes()).unwrap(), der);
    assert_eq!(pem::read_private_key(public.as_bytes()), None);
    assert_eq!(pem::read_public_key(private.as_bytes()), None);
    assert_eq!(pem::read_public_key(b""), None);
}
