//! PKCS #12: files as this and other libraries write them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p12_keystore::{
    Certificate as Bag, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKey,
    PrivateKeyChain,
};
use serde_json::Value;

use crate::crypto::pem;
use crate::crypto::pkcs12::{KeyWithCertificates, Pkcs12Fault, read};

const CERTIFICATES: &str = include_str!("vectors/certificates.json");
const KEYS: &str = include_str!("vectors/institutions_rsa.json");
const PASSWORD: &str = "000000";

fn key(name: &str) -> Vec<u8> {
    let all: Value = serde_json::from_str(KEYS).unwrap();
    let pkcs8 = all["keys"][name]["pkcs8"].as_str().unwrap();
    STANDARD.decode(pkcs8).unwrap()
}

fn certificate(name: &str) -> Vec<u8> {
    let all: Value = serde_json::from_str(CERTIFICATES).unwrap();
    let text = all["unionpay"][name].as_str().unwrap();
    pem::read_block(pem::CERTIFICATE, text).unwrap()
}

fn entry(key: &[u8], certificates: &[&str]) -> KeyStoreEntry {
    let certificates = certificates
        .iter()
        .map(|name| Bag::from_der(&certificate(name)).unwrap());
    let key = PrivateKey::from_der(key).unwrap();
    KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new("1", key, certificates))
}

fn store(entries: Vec<KeyStoreEntry>) -> KeyStore {
    let mut store = KeyStore::new();
    for (at, entry) in entries.into_iter().enumerate() {
        store.add_entry(&at.to_string(), entry);
    }
    store
}

fn written(entries: Vec<KeyStoreEntry>) -> Vec<u8> {
    store(entries).writer(PASSWORD).write().unwrap()
}

fn fault(file: &[u8], password: &str) -> Pkcs12Fault {
    read(file, password).map(|_| ()).unwrap_err()
}

fn is_the_merchants(found: &KeyWithCertificates) -> bool {
    let issuers: Vec<_> = found.issuers.iter().map(|one| one.der().to_vec()).collect();
    found.private_key == key("UnionPay, ours")
        && found.certificate.der() == certificate("merchant")
        && issuers == [certificate("middle"), certificate("root")]
}

/// The key, its certificate, then who issued it, in order, under each encryption.
#[test]
fn a_key_is_read_with_its_chain() {
    let whole = ["merchant", "middle", "root"];
    for (cipher, digest) in [
        (
            EncryptionAlgorithm::PbeWithHmacSha256AndAes256,
            MacAlgorithm::HmacSha256,
        ),
        (
            EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc,
            MacAlgorithm::HmacSha1,
        ),
        (
            EncryptionAlgorithm::PbeWithShaAnd40BitRc4Cbc,
            MacAlgorithm::HmacSha1,
        ),
    ] {
        let store = store(vec![entry(&key("UnionPay, ours"), &whole)]);
        let writer = store.writer(PASSWORD).encryption_algorithm(cipher);
        let file = writer.mac_algorithm(digest).write().unwrap();
        assert!(
            is_the_merchants(&read(&file, PASSWORD).unwrap()),
            "{cipher:?}"
        );
        for password in ["", "000001", "0000000"] {
            assert_eq!(
                fault(&file, password),
                Pkcs12Fault::WrongPassword,
                "{cipher:?}"
            );
        }
    }
    let alone = written(vec![entry(&key("UnionPay, ours"), &["merchant"])]);
    assert!(read(&alone, PASSWORD).unwrap().issuers.is_empty());
}

/// Which of two keys is meant cannot be guessed; a key without its certificate is useless.
#[test]
fn only_one_key_with_its_certificate_is_read() {
    let ours = || entry(&key("UnionPay, ours"), &["merchant"]);
    let two = written(vec![ours(), entry(&key("UnionPay, theirs"), &["signing"])]);
    assert_eq!(fault(&two, PASSWORD), Pkcs12Fault::Keys(2));
    let none = written(vec![KeyStoreEntry::Certificate(
        Bag::from_der(&certificate("merchant")).unwrap(),
    )]);
    assert_eq!(fault(&none, PASSWORD), Pkcs12Fault::Keys(0));
    let others = written(vec![entry(
        &key("UnionPay, theirs"),
        &["merchant", "middle"],
    )]);
    assert_eq!(fault(&others, PASSWORD), Pkcs12Fault::NoCertificate);
    let p256 = crate::crypto::ecdsa::EcdsaP256PrivateKey::generate_pkcs8().unwrap();
    let p256 = written(vec![entry(&p256, &["merchant"])]);
    assert_eq!(fault(&p256, PASSWORD), Pkcs12Fault::KeyKind);
}

/// Anything else is refused, and a cut file is never half a key.
#[test]
fn only_whole_files_are_read() {
    let file = written(vec![entry(&key("UnionPay, ours"), &["merchant"])]);
    for length in (0..file.len()).step_by(7) {
        assert_eq!(fault(&file[..length], PASSWORD), Pkcs12Fault::Unreadable);
    }
    let pem = pem::write(pem::CERTIFICATE, &certificate("merchant"));
    for other in [pem.as_bytes(), &certificate("merchant"), b"\x30\x80"] {
        assert_eq!(fault(other, PASSWORD), Pkcs12Fault::Unreadable);
    }
}
