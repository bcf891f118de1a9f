//! Ed25519 where implementations differ: points of small and mixed order, non-canonical points and
//! scalars. We never accept more than the library does (Q2).

use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use serde_json::Value;

use super::{array, bytes};
use crate::crypto::ed25519::{Ed25519PrivateKey, Ed25519PublicKey};

/// Message, key, R and S of the twelve vectors of Chalkias, Garillot and Nikolaenko, "Taming the
/// many `EdDSAs`" (2020), table 6; and whether they are valid without the cofactor.
const PUBLISHED: [(&str, &str, &str, &str, bool); 12] = [
    // 0, 1: a key of small order. 2: R of small order. 3: both of mixed order.
    (
        "8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "0000000000000000000000000000000000000000000000000000000000000000",
        true,
    ),
    (
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        true,
    ),
    (
        "aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e",
        true,
    ),
    (
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f",
        "87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009",
        true,
    ),
    // 4, 5: valid with the cofactor only.
    (
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed512",
        "5ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
        false,
    ),
    (
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7",
        "e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405",
        false,
    ),
    // 6, 7: S is the order of the group or more.
    (
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e",
        "547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514",
        false,
    ),
    (
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa1942",
        "7e71f98a473474f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c22",
        false,
    ),
    // 8, 9: R is not canonical.
    (
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "03be9678ac102edcd92b0210bb34d7428d12ffc5df5f37e359941266a4e35f0f",
        false,
    ),
    (
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "ca8c5b64cd208982aa38d4936621a4775aa233aa0505711d8fdcfdaa943d4908",
        false,
    ),
    // 10, 11: the key is not canonical and of small order.
    (
        "e96b7021eb39c1a163b6da4e3093dcd3f21387da4cc4572be588fafae23c155b",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dc",
        "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        false,
    ),
    (
        "39a591f5321bbe07fd5a23dc2f39d025d74526615746727ceefd6e82ae65c06f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dc",
        "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        false,
    ),
];

/// Computed independently of any library: the reason, and whether it is valid without the cofactor.
const COMPUTED: &str = include_str!("vectors/ed25519_edges.json");

/// The library's result; a key that it rejects verifies nothing.
fn library(key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    ParsedPublicKey::new(&ED25519, key).is_ok_and(|key| key.verify_sig(message, signature).is_ok())
}

/// Our result, from the bare bytes and from `SubjectPublicKeyInfo`, which must be equal.
fn ours(key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    let verify =
        |key: Option<Ed25519PublicKey>| key.is_some_and(|key| key.verify(message, signature));
    let spki = [bytes("302a300506032b6570032100").as_slice(), key].concat();
    let bare = verify(Ed25519PublicKey::from_point(key));
    assert_eq!(bare, verify(Ed25519PublicKey::from_spki(&spki)));
    bare
}

/// The private key of a secret, from PKCS #8.
fn private(secret: &str) -> Ed25519PrivateKey {
    let der = bytes(&format!("302e020100300506032b657004220420{secret}"));
    Ed25519PrivateKey::from_pkcs8(&der).unwrap()
}

/// The non-canonical encoding of a y below 19: plus 2^255 - 19.
fn non_canonical(y: u8, sign: u8) -> [u8; 32] {
    let mut encoded = [0xff; 32];
    encoded[0] = 0xed_u8.wrapping_add(y);
    encoded[31] = 0x7f | sign;
    encoded
}

/// Q2: RFC 8032, section 7.1, tests 1 and 3.
#[test]
fn known_messages_have_their_known_signatures() {
    for (secret, public, message, signature) in [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155\
             5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac\
             18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ] {
        let (key, message, signature) = (private(secret), bytes(message), bytes(signature));
        assert_eq!(key.public_point(), bytes(public));
        assert_eq!(key.sign(&message).unwrap(), signature);
        assert!(ours(&array(public), &message, &signature));
    }
}

/// Q2: an authentic signature is accepted; one altered in any bit, truncated or extended is not.
#[test]
fn no_altered_bit_is_accepted() {
    let pair = private(&"07".repeat(32));
    let key = pair.public_point().try_into().unwrap();
    let other = private(&"09".repeat(32));
    for length in [0, 1, 63, 64, 650] {
        let message = vec![0x5a; length];
        let good = pair.sign(&message).unwrap();
        assert!(ours(&key, &message, &good));
        for bit in 0..512 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!ours(&key, &message, &bad), "bit {bit}");
        }
        assert!(!ours(&key, b"another", &good));
        for length in [0, 1, 32, 63] {
            assert!(!ours(&key, &message, &good[..length]));
        }
        assert!(!ours(&key, &message, &[good.as_slice(), &[0]].concat()));
        assert!(!ours(&key, &message, &other.sign(&message).unwrap()));
    }
}

/// Q2: the published edge cases, each with the library's result; in addition, keys of small order
/// (0, 1) are refused when parsed.
#[test]
fn published_edges_verify_as_in_the_library() {
    for (number, (message, key, r, s, good)) in PUBLISHED.into_iter().enumerate() {
        let (message, key) = (bytes(message), array(key));
        let signature = bytes(&[r, s].concat());
        assert_eq!(library(&key, &message, &signature), good, "{number}");
        let good = good && number > 1;
        assert_eq!(ours(&key, &message, &signature), good, "{number}");
    }
}

/// Q2: keys and R with small-order components, R of small order or not canonical, S plus the order
/// of the group: our result equals the library's.
#[test]
fn small_order_parts_verify_as_in_the_library() {
    let all: Vec<Value> = serde_json::from_str(COMPUTED).unwrap();
    let mut results = [0_u32; 2];
    for one in &all {
        let text = |name: &str| one[name].as_str().unwrap();
        let (key, message) = (array(text("key")), text("message").as_bytes());
        let signature = bytes(&[text("r"), text("s")].concat());
        let good = one["good"].as_bool().unwrap();
        assert_eq!(library(&key, message, &signature), good, "{one}");
        assert_eq!(ours(&key, message, &signature), good, "{one}");
        results[usize::from(good)] += 1;
    }
    assert_eq!(results, [15, 9]);
}

/// Q2, Q3: RFC 8032, section 5.1.3: a key has one encoding; one of small order proves nothing.
#[test]
fn non_canonical_and_small_order_keys_are_refused() {
    for y in 0..19 {
        for sign in [0, 0x80] {
            let point = non_canonical(y, sign);
            assert!(Ed25519PublicKey::from_point(&point).is_none(), "{y} {sign}");
        }
    }
    for y in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    ] {
        for sign in [0, 0x80] {
            let mut point: [u8; 32] = array(y);
            point[31] |= sign;
            assert!(Ed25519PublicKey::from_point(&point).is_none(), "{y} {sign}");
        }
    }
}

/// Q3: the library checks only when verifying whether a point is on the curve: such a key is parsed
/// and never verifies anything.
#[test]
fn keys_off_the_curve_verify_nothing() {
    let mut largest = non_canonical(0, 0);
    largest[0] = 0xeb;
    let mut two = [0; 32];
    two[0] = 2;
    let mut identity = [0; 64];
    identity[0] = 1;
    for key in [largest, two] {
        let own = [key, [0; 32]].concat();
        for signature in [[0; 64].as_slice(), &identity, &own] {
            assert!(!ours(&key, b"pay", signature), "{key:02x?}");
        }
    }
}
