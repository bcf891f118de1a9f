//! Keys of each algorithm: parsed, generated, published, refused; none is accepted for another
//! algorithm.

use super::*;
use crate::crypto::pem::PUBLIC_KEY;

/// Algorithms with key pairs that sign here.
const PAIRS: [&str; 3] = ["ed25519", "ecdsa-p256-sha256", "rsa-pss-sha512"];

fn algorithm(name: &str) -> Algorithm {
    Algorithm::parse(name).unwrap()
}

fn made(name: &str) -> (SigningKey, String) {
    let (private, public) = SigningKey::generate(algorithm(name)).unwrap();
    let key = SigningKey::from_pkcs8_pem("k", &private).unwrap();
    (key, public)
}

fn der(pem: &str) -> Vec<u8> {
    let lines = pem.lines().filter(|line| !line.starts_with('-'));
    STANDARD.decode(lines.collect::<String>()).unwrap()
}

fn public_pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    format!("-----BEGIN {PUBLIC_KEY}-----\n{text}\n-----END {PUBLIC_KEY}-----\n")
}

/// Q3, R-6.3.2-2b: a key generated here can be parsed, signs, and is verified by its public half in
/// either format.
#[test]
fn each_algorithm_makes_reads_signs_and_proves() {
    for name in PAIRS {
        let (key, public) = made(name);
        assert_eq!(key.algorithm().name(), name);
        assert_eq!(key.public_pem(), public);
        assert_eq!(key.is_slow(), name == "rsa-pss-sha512", "{name}");
        let signature = key.sign(b"base").unwrap();
        let spki = VerifyingKey::from_spki_pem(&public).unwrap();
        let named = VerifyingKey::of_algorithm(algorithm(name), &public).unwrap();
        let jwk = VerifyingKey::from_jwk(&key.public_jwk()).unwrap();
        for read in [&spki, &named, &jwk] {
            assert_eq!(read.algorithm().name(), name);
            assert!(read.verifies(b"base", &signature), "{name}");
            assert!(!read.verifies(b"Base", &signature), "{name}");
        }
        let other = VerifyingKey::from_spki_pem(&made(name).1).unwrap();
        assert!(!other.verifies(b"base", &signature), "{name}");
    }
    for name in ["rsa-v1_5-sha256", "hmac-sha256"] {
        let outcome = SigningKey::generate(algorithm(name));
        assert_eq!(outcome, Err(KeyFault::NotMadeHere(algorithm(name))));
    }
    assert_eq!(Algorithm::parse("none"), None);
    assert_eq!(Algorithm::parse(""), None);
}

/// R-6.3.1-1c: RFC 7517, 7518, 8037: what a merchant needs to verify our responses, and no more.
#[test]
fn a_published_key_has_the_members_of_its_kind() {
    for (name, kind, alg, members) in [
        ("ed25519", "OKP", "EdDSA", ["crv", "x"].as_slice()),
        ("ecdsa-p256-sha256", "EC", "ES256", &["crv", "x", "y"]),
        ("rsa-pss-sha512", "RSA", "PS512", &["n", "e"]),
    ] {
        let jwk = made(name).0.public_jwk();
        assert_eq!(
            (&jwk["kty"], &jwk["alg"]),
            (&kind.into(), &alg.into()),
            "{name}"
        );
        assert_eq!(
            (&jwk["kid"], &jwk["use"]),
            (&"k".into(), &"sig".into()),
            "{name}"
        );
        for member in members {
            assert!(!jwk[member].as_str().unwrap().is_empty(), "{name} {member}");
        }
        let all = jwk.as_object().unwrap().len();
        assert_eq!(all, members.len() + 4, "{name}: {jwk}");
    }
    let rsa = made("rsa-pss-sha512").0.public_jwk();
    assert_eq!(rsa["e"], "AQAB");
    assert_eq!(rsa["n"].as_str().unwrap().len(), 342, "no leading zero");
    let mut unclear = rsa.clone();
    unclear.as_object_mut().unwrap().remove("alg");
    assert!(VerifyingKey::from_jwk(&unclear).is_err());
    let mut pkcs1 = rsa;
    pkcs1["alg"] = "RS256".into();
    let pkcs1 = VerifyingKey::from_jwk(&pkcs1).unwrap();
    assert_eq!(pkcs1.algorithm().name(), "rsa-v1_5-sha256");
}

/// Q3: a key is valid for one algorithm only, except for RSA, where the enrolment decides.
#[test]
fn the_enrolment_decides_what_an_rsa_key_is_for() {
    for name in PAIRS {
        let public = made(name).1;
        for other in Algorithm::all() {
            let read = VerifyingKey::of_algorithm(other, &public);
            let rsa = name.starts_with("rsa") && other.name().starts_with("rsa");
            assert_eq!(read.is_ok(), other.name() == name || rsa, "{name} {other}");
        }
    }
    let (key, public) = made("rsa-pss-sha512");
    let signature = key.sign(b"base").unwrap();
    let pkcs1 = VerifyingKey::of_algorithm(algorithm("rsa-v1_5-sha256"), &public).unwrap();
    assert!(!pkcs1.verifies(b"base", &signature));
}

/// Q3: an RSA key signs with the padding that its dialect names, and with no other.
#[test]
fn an_rsa_key_signs_with_the_padding_it_is_read_for() {
    let (private, public) = SigningKey::generate(algorithm("rsa-pss-sha512")).unwrap();
    let both = ["rsa-pss-sha512", "rsa-v1_5-sha256"];
    for signs in both {
        let key = SigningKey::of_algorithm(algorithm(signs), "k", &private).unwrap();
        assert_eq!((key.algorithm().name(), key.is_slow()), (signs, true));
        assert_eq!(key.public_pem(), public);
        let signature = key.sign(b"base").unwrap();
        let jwk = VerifyingKey::from_jwk(&key.public_jwk()).unwrap();
        assert!(jwk.verifies(b"base", &signature), "{signs}");
        for verifies in both {
            let read = VerifyingKey::of_algorithm(algorithm(verifies), &public).unwrap();
            let is_valid = read.verifies(b"base", &signature);
            assert_eq!(is_valid, signs == verifies, "{signs} {verifies}");
        }
    }
    for other in ["ed25519", "ecdsa-p256-sha256", "hmac-sha256"] {
        let read = SigningKey::of_algorithm(algorithm(other), "k", &private);
        assert!(read.is_err(), "{other}");
    }
}

/// Q3: a key marked for PSS only, as some tools write it, is accepted for PSS only.
#[test]
fn a_key_that_says_pss_is_never_taken_for_the_older_padding() {
    const RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    const PSS: &[u8] = b"\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a";
    // Two bytes shorter: the whole has the form 30 82 length.
    let says_pss = |der: &[u8]| {
        let at = der.windows(RSA.len()).position(|it| it == RSA).unwrap();
        let mut der = [&der[..at], PSS, &der[at + RSA.len()..]].concat();
        assert_eq!(der[..2], [0x30, 0x82]);
        let length = u16::try_from(der.len() - 4).unwrap().to_be_bytes();
        der[2..4].copy_from_slice(&length);
        der
    };
    let (private, public) = SigningKey::generate(algorithm("rsa-pss-sha512")).unwrap();
    let label = "PRIVATE KEY";
    let text = STANDARD.encode(says_pss(&der(&private)));
    let private = format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n");
    let key = SigningKey::from_pkcs8_pem("k", &private).unwrap();
    assert!(SigningKey::of_algorithm(algorithm("rsa-v1_5-sha256"), "k", &private).is_err());
    assert_eq!(key.public_pem(), public, "published as everybody reads it");
    let public = public_pem(&says_pss(&der(&public)));
    let read = VerifyingKey::from_spki_pem(&public).unwrap();
    assert!(read.verifies(b"base", &key.sign(b"base").unwrap()));
    assert!(VerifyingKey::of_algorithm(algorithm("rsa-v1_5-sha256"), &public).is_err());
}

fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let element = |tag: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], length.as_slice(), content].concat()
    };
    let numbers = [element(2, modulus), element(2, exponent)].concat();
    let bits = [[0].as_slice(), &element(0x30, &numbers)].concat();
    let algorithm = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    element(0x30, &[algorithm.as_slice(), &element(3, &bits)].concat())
}

/// Q3: short, huge, even and degenerate RSA keys: under some of them anybody could sign.
#[test]
fn weak_rsa_keys_are_refused() {
    let modulus = |bits: usize| {
        let mut bytes = vec![0xff; bits / 8];
        bytes.insert(0, 0);
        bytes
    };
    let read = |modulus: &[u8], exponent: &[u8]| {
        let pem = public_pem(&rsa_spki(modulus, exponent));
        VerifyingKey::of_algorithm(algorithm("rsa-v1_5-sha256"), &pem).is_ok()
    };
    let usual = [1, 0, 1];
    // The library writes short lengths; a non-minimal one from us is also accepted.
    assert!(read(&modulus(2048), &usual));
    assert!(read(&modulus(4096), &usual));
    assert!(!read(&modulus(1024), &usual));
    assert!(!read(&modulus(2040), &usual));
    assert!(!read(&modulus(4104), &usual));
    assert!(!read(&modulus(8192), &usual));
    let mut even = modulus(2048);
    *even.last_mut().unwrap() = 0xfe;
    assert!(!read(&even, &usual));
    for exponent in [
        [].as_slice(),
        &[0],
        &[1],
        &[3],
        &[1, 0, 0],
        &[1, 0, 2],
        &[0x40, 0, 0, 0, 1],
        &[0xff; 9],
    ] {
        assert!(!read(&modulus(2048), exponent), "{exponent:?}");
    }
    assert!(!read(&modulus(2048)[1..], &usual), "a negative modulus");
    assert!(!read(&[&[0], modulus(2048).as_slice()].concat(), &usual));
}

/// Q3: points that are not on the curve, and curves other than P-256.
#[test]
fn keys_off_the_curve_are_refused() {
    let (_, public) = made("ecdsa-p256-sha256");
    let good = der(&public);
    let read = |der: &[u8]| VerifyingKey::from_spki_pem(&public_pem(der)).is_ok();
    assert!(read(&good));
    let mut off = good.clone();
    *off.last_mut().unwrap() ^= 1;
    assert!(!read(&off));
    let mut zero = good.clone();
    zero[27..].fill(0);
    assert!(!read(&zero));
    let mut curve = good.clone();
    curve[22] = 0x06;
    assert!(!read(&curve));
    assert!(!read(&good[..good.len() - 1]));
    assert!(!read(&[good.as_slice(), &[0]].concat()));
    assert!(!read(&good[26..]), "a bare point");
}

/// Q3: r‖s of 64 bytes, each number within the group; never DER.
#[test]
fn an_ecdsa_signature_has_one_form() {
    let (key, public) = made("ecdsa-p256-sha256");
    let public = VerifyingKey::from_spki_pem(&public).unwrap();
    let signature = key.sign(b"base").unwrap();
    assert_eq!(signature.len(), 64);
    let (r, s) = signature.split_at(32);
    let zero = [0; 32];
    let order = b"\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\
                  \xbc\xe6\xfa\xad\xa7\x17\x9e\x84\xf3\xb9\xca\xc2\xfc\x63\x25\x51";
    for [r, s] in [
        [r, &zero],
        [&zero, s],
        [&zero, &zero],
        [r, order],
        [order, s],
        [s, r],
    ] {
        assert!(!public.verifies(b"base", &[r, s].concat()));
    }
    // In ASN.1, as most libraries do by default.
    let number = |n: &[u8]| [&[2, 33, 0], n].concat();
    let der = [[0x30, 70].as_slice(), &number(r), &number(s)].concat();
    assert!(!public.verifies(b"base", &der));
}

/// Q3: an empty or missing secret never verifies, nor does a non-random one.
#[test]
fn a_secret_that_could_be_guessed_is_refused() {
    for secret in [
        [].as_slice(),
        &[7],
        b"thirty-one bytes are one too fe",
        &[0; 32],
        b"................................",
        &[[1; 256].as_slice(), &[2]].concat(),
    ] {
        assert_eq!(
            VerifyingKey::from_secret(secret).unwrap_err(),
            KeyFault::SecretUnfit
        );
        assert_eq!(
            SigningKey::from_secret("k", secret).unwrap_err(),
            KeyFault::SecretUnfit
        );
    }
    let key = SigningKey::from_secret("k", b"thirty-two bytes are long enough").unwrap();
    assert_eq!(format!("{key:?}"), "SigningKey(k, hmac-sha256)");
    assert!(key.public_jwk().is_null(), "a secret is not published");
    assert!(der(&key.public_pem()).is_empty());
    assert!(key.algorithm().is_shared());
    assert!(!algorithm("ed25519").is_shared());
}
