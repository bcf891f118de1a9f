//! Certificates of institutions' documents, and what does not chain.

use std::slice::from_ref;

use serde_json::Value;

use crate::crypto::certificate::chain::ChainFault;
use crate::crypto::certificate::{Certificate, rsa_issuer_serial_md5s};
use crate::crypto::digest::sha256;
use crate::crypto::pem;
use crate::crypto::rsa::{RsaPublicKey, RsaScheme};

/// Test certificates of institutions' documents, and three with SM2 that were made with openssl.
const CERTIFICATES: &str = include_str!("vectors/certificates.json");
const KEYS: &str = include_str!("vectors/institutions_rsa.json");

/// Within the validity of all of them: 2027-01-01. Unit: Unix seconds.
const NOW_S: i64 = 1_798_761_600;

fn text(of: &str, name: &str) -> String {
    let all: Value = serde_json::from_str(CERTIFICATES).unwrap();
    all[of][name].as_str().unwrap().to_owned()
}

fn certificate(of: &str, name: &str) -> Certificate {
    Certificate::from_pem(&text(of, name)).unwrap()
}

/// Alipay's documents: the numbers by which its certificates are named.
#[test]
fn published_certificate_numbers_are_computed() {
    let app = certificate("alipay", "app");
    let issuer = "CN=Example Certification Authority Class 2 R1,OU=Certification Authority,\
                  O=Example Certification,C=CN";
    assert_eq!(app.issuer(), Some(issuer));
    assert_eq!(
        app.serial_decimal(),
        "42665165797603320261246143653451698194"
    );
    let number = app.issuer_serial_md5();
    assert_eq!(number.as_deref(), Some("88d85e3660168e6fde9aeabe92e3fe5f"));
    let alipay = certificate("alipay", "alipay");
    assert_eq!(
        alipay.serial_decimal(),
        "42665165797603320279032819109809029137"
    );
    let number = alipay.issuer_serial_md5();
    assert_eq!(number.as_deref(), Some("12f778c258d25f4a14a96bb3f6d6ee35"));

    let roots = text("alipay", "roots");
    assert_eq!(Certificate::all_from_pem(&roots).len(), 3);
    let numbers = "7e5e5bbe934b56aced8b25f7c7b1c9a7_ef960c9b6a6f83c29f3453bf984eafc0";
    assert_eq!(rsa_issuer_serial_md5s(&roots).as_deref(), Some(numbers));
}

/// Alipay's documents: a certificate of the bundle that cannot be parsed is skipped.
#[test]
fn a_damaged_certificate_of_a_bundle_is_skipped() {
    let roots = text("alipay", "roots");
    let numbers = rsa_issuer_serial_md5s(&roots);
    let damaged = pem::write(pem::CERTIFICATE, b"damaged");
    let not_base64 = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    let unended = "-----BEGIN CERTIFICATE-----\nMIID\n";
    let more = format!("{damaged}{not_base64}{roots}{damaged}{unended}");
    assert_eq!(rsa_issuer_serial_md5s(&more), numbers);
    for none in [damaged.as_str(), not_base64, unended, ""] {
        assert_eq!(rsa_issuer_serial_md5s(none), None);
        assert_eq!(Certificate::from_pem(none), None);
    }
    assert_eq!(rsa_issuer_serial_md5s(&text("sm2", "root")), None);
}

/// `UnionPay`'s and `WeChat` Pay's documents: serial numbers, names, validity and keys.
#[test]
fn fields_are_those_of_the_certificate() {
    let merchant = certificate("unionpay", "merchant");
    assert_eq!(merchant.serial_decimal(), "68759663125");
    assert_eq!(merchant.serial_hex(), "1002653215");
    let name = "041@Z2025@777290058110048@1";
    assert_eq!(merchant.common_name(), Some(name));
    assert_eq!(merchant.validity_s(), (1_735_689_600, 2_398_377_599));
    for (now_s, is) in [
        (1_735_689_599, false),
        (1_735_689_600, true),
        (2_398_377_599, true),
        (2_398_377_600, false),
    ] {
        assert_eq!(merchant.is_in_force(now_s), is, "{now_s}");
    }
    let signing = certificate("unionpay", "signing");
    let parts: Vec<&str> = signing.common_name().unwrap().split('@').collect();
    let parts_expected = [
        "041",
        "8310000000083040",
        "中国银联股份有限公司",
        "00016495",
    ];
    assert_eq!(parts, parts_expected);
    // The leading zero byte that keeps the number positive is not part of it.
    assert_eq!(signing.serial_hex(), "FD65ABCD");
    assert_eq!(signing.serial_decimal(), "4251298765");
    let platform = certificate("wechatpay", "platform");
    let serial = "7132D72A03E93CDDF8C03BBD1F37EEDF5A1B2C3D";
    assert_eq!(platform.serial_hex(), serial);
    assert!(RsaPublicKey::from_spki(platform.public_key(), RsaScheme::Pkcs1Sha256).is_some());
    assert_eq!(platform.fingerprint(), sha256(platform.der()));
}

/// A serial number that is not positive has two texts, and of two common names either could be meant.
#[test]
fn ambiguous_fields_are_not_read() {
    let merchant = certificate("unionpay", "merchant");
    let changed = |from: &[u8], to: &[u8]| {
        let der = merchant.der();
        let starts = (0..der.len()).filter(|at| der[*at..].starts_with(from));
        let mut changed = der.to_vec();
        for at in starts {
            changed[at..at + to.len()].copy_from_slice(to);
        }
        Certificate::from_der(&changed)
    };
    let serial = b"\x02\x05\x10\x02\x65\x32\x15";
    assert!(changed(serial, serial).is_some());
    for other in [
        b"\x02\x05\x90\x02\x65\x32\x15",
        b"\x02\x05\x00\x00\x00\x00\x00",
    ] {
        assert_eq!(changed(serial, other), None);
    }
    // Its organisational units, as common names.
    let two = changed(b"\x06\x03\x55\x04\x0b", b"\x06\x03\x55\x04\x03").unwrap();
    assert_eq!(two.common_name(), None);
    let none = changed(b"\x06\x03\x55\x04\x03", b"\x06\x03\x55\x04\x0b").unwrap();
    assert_eq!(none.common_name(), None);
}

/// `UnionPay`'s certificate comes in the message: it is believed only under the configured
/// intermediate and root.
#[test]
fn a_certificate_chains_to_its_root_only() {
    for of in ["unionpay", "sm2"] {
        let (leaf, middle) = (certificate(of, "signing"), certificate(of, "middle"));
        let root = certificate(of, "root");
        let verify = |leaf: &Certificate, middle: &Certificate, root: &Certificate| {
            leaf.verify_chain(from_ref(middle), from_ref(root), NOW_S)
        };
        assert_eq!(verify(&leaf, &middle, &root), Ok(()), "{of}");
        let other = certificate(if of == "sm2" { "unionpay" } else { "sm2" }, "root");
        let other_middle = certificate("alipay", "intermediate");
        for (middle, root) in [
            (&middle, &other),
            (&other_middle, &root),
            (&leaf, &root),
            (&root, &root),
            (&middle, &leaf),
        ] {
            assert_eq!(
                verify(&leaf, middle, root),
                Err(ChainFault::Untrusted),
                "{of}"
            );
        }
        let untrusted = Err(ChainFault::Untrusted);
        assert_eq!(leaf.verify_chain(from_ref(&middle), &[], NOW_S), untrusted);
        assert_eq!(leaf.verify_chain(&[], from_ref(&root), NOW_S), untrusted);
        // An authority's certificate signs no message.
        assert_eq!(verify(&middle, &middle, &root), untrusted);
    }
}

/// Correctly issued to somebody else: the chain holds, the name says who it is.
#[test]
fn a_chain_says_nothing_of_the_name() {
    let other = certificate("unionpay", "someone_else");
    let (middle, root) = (
        certificate("unionpay", "middle"),
        certificate("unionpay", "root"),
    );
    assert_eq!(other.verify_chain(&[middle], &[root], NOW_S), Ok(()));
    assert_eq!(
        other.common_name().unwrap().split('@').nth(2),
        Some("Someone Else")
    );
}

/// Alipay's documents: a downloaded certificate is believed if it chains to the bundle.
#[test]
fn a_certificate_chains_to_one_of_several_roots() {
    let roots = Certificate::all_from_pem(&text("alipay", "roots"));
    let intermediate = [certificate("alipay", "intermediate")];
    for name in ["app", "alipay"] {
        let leaf = certificate("alipay", name);
        assert_eq!(leaf.verify_chain(&intermediate, &roots, NOW_S), Ok(()));
        let others = leaf.verify_chain(&intermediate, &roots[1..], NOW_S);
        assert_eq!(others, Err(ChainFault::Untrusted));
    }
}

/// Before and after the validity of the certificate or of its root, and at impossible times.
#[test]
fn a_chain_holds_while_all_of_it_is_in_force() {
    let leaf = certificate("unionpay", "signing");
    let (middle, root) = (
        certificate("unionpay", "middle"),
        certificate("unionpay", "root"),
    );
    let (from, until) = leaf.validity_s();
    let at = |now_s| leaf.verify_chain(from_ref(&middle), from_ref(&root), now_s);
    assert_eq!((at(from), at(until)), (Ok(()), Ok(())));
    for now_s in [from - 1, until + 1, -1, i64::MIN, i64::MAX] {
        assert_eq!(at(now_s), Err(ChainFault::NotInForce), "{now_s}");
    }
}

/// Every byte of a certificate is signed or is the signature.
#[test]
fn an_altered_certificate_never_chains() {
    for of in ["unionpay", "sm2"] {
        let leaf = certificate(of, "signing");
        let (middle, root) = (certificate(of, "middle"), certificate(of, "root"));
        let (middle, root) = ([middle], [root]);
        for at in 0..leaf.der().len() {
            let mut altered = leaf.der().to_vec();
            altered[at] ^= 1;
            let chains = Certificate::from_der(&altered)
                .is_some_and(|leaf| leaf.verify_chain(&middle, &root, NOW_S).is_ok());
            assert!(!chains, "{of}, byte {at}");
        }
        for length in 0..leaf.der().len() {
            assert_eq!(Certificate::from_der(&leaf.der()[..length]), None);
        }
        let longer = [leaf.der(), &[0]].concat();
        assert_eq!(Certificate::from_der(&longer), None);
    }
}

/// RFC 2253: special characters, several attributes in one part, UTF-16, unknown keys.
#[test]
fn names_are_written_as_in_rfc_2253() {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};
    let named = |parts: Vec<(DnType, DnValue)>| {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (key, value) in parts {
            params.distinguished_name.push(key, value);
        }
        let key = KeyPair::generate().unwrap();
        Certificate::from_der(params.self_signed(&key).unwrap().der()).unwrap()
    };
    let utf8 = |text: &str| DnValue::Utf8String(text.to_owned());
    let wide = DnValue::BmpString("中国".try_into().unwrap());
    let found = named(vec![
        (DnType::CountryName, utf8("CN")),
        (DnType::OrganizationName, wide),
        (DnType::CommonName, utf8(" #a,b+c\"d\\e<f>g;h=i ")),
    ]);
    let expected = "CN=\\ #a\\,b\\+c\\\"d\\\\e\\<f\\>g\\;h=i\\ ,O=中国,C=CN";
    assert_eq!(found.issuer(), Some(expected));
    assert_eq!(found.common_name(), Some(" #a,b+c\"d\\e<f>g;h=i "));
    let unknown = DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
    let found = named(vec![
        (unknown, utf8("a@b")),
        (DnType::CommonName, utf8("#1")),
    ]);
    assert_eq!(found.issuer(), None);
    assert_eq!(found.issuer_serial_md5(), None);
    assert_eq!(found.common_name(), Some("#1"));
}

/// A root that has ended vouches for nobody, though what it issued is in force; and neither does one
/// whose key is of a kind that institutions do not use.
#[test]
fn an_ended_root_or_another_algorithm_is_not_believed() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
    let params = |name: &str, until: i32| {
        let mut params = CertificateParams::default();
        let names = &mut params.distinguished_name;
        names.push(rcgen::DnType::CommonName, name);
        params.not_before = date_time_ymd(2025, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        params
    };
    let keys: Value = serde_json::from_str(KEYS).unwrap();
    let rsa = || {
        let pkcs8 = keys["keys"]["UnionPay, ours"]["pkcs8"].as_str().unwrap();
        KeyPair::try_from(pem::read_bare(pkcs8).unwrap()).unwrap()
    };
    let issued = |key: KeyPair, root_until: i32| {
        let mut root = params("root", root_until);
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_der = root.self_signed(&key).unwrap();
        let leaf = params("leaf", 2030).signed_by(&rsa(), &Issuer::new(root, key));
        let root = Certificate::from_der(root_der.der()).unwrap();
        let leaf = Certificate::from_der(leaf.unwrap().der()).unwrap();
        assert!(leaf.is_in_force(NOW_S) && leaf.names_as_issuer(&root));
        leaf.verify_chain(&[], &[root], NOW_S)
    };
    assert_eq!(issued(rsa(), 2030), Ok(()));
    assert_eq!(issued(rsa(), 2026), Err(ChainFault::NotInForce));
    let p256 = KeyPair::generate().unwrap();
    assert_eq!(issued(p256, 2030), Err(ChainFault::Untrusted));
}

/// A key that only encrypts proves no message, though its certificate chains; an endless serial number
/// and a heap of intermediates cost nothing.
#[test]
fn a_key_that_may_not_sign_is_not_trusted() {
    use rcgen::KeyUsagePurpose::{ContentCommitment, DigitalSignature, KeyEncipherment};
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
    let keys: Value = serde_json::from_str(KEYS).unwrap();
    let rsa = || {
        let pkcs8 = keys["keys"]["UnionPay, ours"]["pkcs8"].as_str().unwrap();
        KeyPair::try_from(pem::read_bare(pkcs8).unwrap()).unwrap()
    };
    let issued = |usages: &[KeyUsagePurpose], serial_bytes: usize, intermediates: usize| {
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_der = root.self_signed(&rsa()).unwrap();
        let mut leaf = CertificateParams::default();
        leaf.key_usages = usages.to_vec();
        leaf.serial_number = Some(vec![7; serial_bytes].into());
        let leaf = leaf.signed_by(&rsa(), &Issuer::new(root, rsa())).unwrap();
        let root = Certificate::from_der(root_der.der()).unwrap();
        let leaf = Certificate::from_der(leaf.der())?;
        let others = vec![root.clone(); intermediates];
        Some(leaf.verify_chain(&others, &[root], NOW_S))
    };
    let untrusted = Some(Err(ChainFault::Untrusted));
    for (usages, expected) in [
        (&[][..], Some(Ok(()))),
        (&[DigitalSignature, KeyEncipherment][..], Some(Ok(()))),
        (&[ContentCommitment][..], Some(Ok(()))),
        (&[KeyEncipherment][..], untrusted),
    ] {
        assert_eq!(issued(usages, 20, 0), expected, "{usages:?}");
    }
    assert_eq!(issued(&[], 21, 0), None);
    assert_eq!(issued(&[], 20, 9), untrusted);
}
