//! Ed25519 where implementations differ: points of small and of mixed order, points and scalars that
//! are written another way. What multiples of a key say is what the library says (Q2).

use std::ops::Neg as _;

use aws_lc_rs::digest::{SHA512, digest};
use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;

use crate::signature::multiples::Known;

/// Message, key, R and S of the twelve vectors of Chalkias, Garillot and Nikolaenko, "Taming the many
/// `EdDSAs`" (2020), table 6; and whether they are good without the cofactor.
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
    // 4, 5: good with the cofactor alone.
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
    // 8, 9: R is written another way.
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
    // 10, 11: the key is written another way; the library takes no such key.
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

fn bytes(hex: &str) -> [u8; 32] {
    let digits: Vec<char> = hex.chars().collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    assert!(rest.is_empty() && pairs.len() == 32);
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    }
    bytes
}

/// The library's verdict; a key that it does not take verifies nothing.
fn library(key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    ParsedPublicKey::new(&ED25519, key).is_ok_and(|key| key.verify_sig(message, signature).is_ok())
}

/// The verdict of multiples, where there are some.
fn ours(known: Option<&Known>, message: &[u8], signature: &[u8]) -> Option<bool> {
    known.map(|known| known.verifies(message, signature))
}

/// The y of a point may be written once more where it is less than 19: plus 2^255 - 19.
fn written_otherwise(y: u8, sign: u8) -> [u8; 32] {
    let mut written = [0xff; 32];
    written[0] = 0xed_u8.wrapping_add(y);
    written[31] = 0x7f | sign;
    written
}

/// Q2: the published edges, each with the library's verdict.
#[test]
fn published_edges_are_judged_as_the_library_judges_them() {
    for (number, (message, key, r, s, good)) in PUBLISHED.into_iter().enumerate() {
        let (message, key) = (bytes(message), bytes(key));
        let signature = [bytes(r), bytes(s)].concat();
        assert_eq!(library(&key, &message, &signature), good, "{number}");
        let known = Known::of(key);
        assert_eq!(known.is_some(), number < 10, "{number}");
        let verdict = ours(known.as_ref(), &message, &signature);
        assert!(verdict.is_none_or(|verdict| verdict == good), "{number}");
    }
}

/// Q2: keys and R with every part of small order, R of small order alone, and each S with the order
/// of the group added: the same verdict each time, and both verdicts occur.
#[test]
fn small_parts_are_judged_as_the_library_judges_them() {
    let secret = Scalar::from_bytes_mod_order([0x37; 32]);
    let order_less_one = -Scalar::ONE;
    let mut verdicts = [0_u32; 2];
    for of_key in EIGHT_TORSION {
        let key = (EdwardsPoint::mul_base(&secret) + of_key).compress().0;
        let known = Known::of(key).unwrap();
        for of_r in EIGHT_TORSION {
            for round in 0..16_u8 {
                let message = [round; 40];
                let nonce = match round {
                    0..8 => Scalar::ZERO,
                    _ => Scalar::from_bytes_mod_order([round; 32]),
                };
                let r = (EdwardsPoint::mul_base(&nonce) + of_r).compress().0;
                let hash = digest(&SHA512, &[&r[..], &key, &message].concat());
                let k = Scalar::from_bytes_mod_order_wide(hash.as_ref().try_into().unwrap());
                let s = (nonce + k * secret).to_bytes();
                let verdict = known.verifies(&message, &[r, s].concat());
                assert_eq!(verdict, library(&key, &message, &[r, s].concat()));
                verdicts[usize::from(verdict)] += 1;
                let mut carry = 1_u16;
                let more: [u8; 32] = std::array::from_fn(|at| {
                    carry += u16::from(s[at]) + u16::from(order_less_one.as_bytes()[at]);
                    let byte = u8::try_from(carry & 0xff).unwrap();
                    carry >>= 8;
                    byte
                });
                assert!(!known.verifies(&message, &[r, more].concat()));
                assert!(!library(&key, &message, &[r, more].concat()));
            }
        }
    }
    assert!(verdicts.into_iter().all(|count| count > 50), "{verdicts:?}");
}

/// Q2: no multiples of a key that is written another way than points are; an R that is, is never good.
#[test]
fn points_written_otherwise_are_never_good() {
    let secret = Scalar::from_bytes_mod_order([0x37; 32]);
    let key = EdwardsPoint::mul_base(&secret).compress().0;
    let known = Known::of(key).unwrap();
    let zero_negative = |mut point: [u8; 32]| {
        point[31] |= 0x80;
        point
    };
    let identity = EIGHT_TORSION[0].compress().0;
    let order_two = EIGHT_TORSION[4].compress().0;
    assert_eq!(EIGHT_TORSION[4].neg(), EIGHT_TORSION[4]);
    let mut others = vec![zero_negative(identity), zero_negative(order_two)];
    for y in 0..19 {
        others.extend([0, 0x80].map(|sign| written_otherwise(y, sign)));
    }
    for other in others {
        assert!(Known::of(other).is_none(), "{other:02x?}");
        let message = b"pay";
        let hash = digest(&SHA512, &[&other[..], &key, message].concat());
        let k = Scalar::from_bytes_mod_order_wide(hash.as_ref().try_into().unwrap());
        let signature = [other, (k * secret).to_bytes()].concat();
        assert!(!known.verifies(message, &signature), "{other:02x?}");
        assert!(!library(&key, message, &signature), "{other:02x?}");
    }
}
