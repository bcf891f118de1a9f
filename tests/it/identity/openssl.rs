//! What our libraries sign and encrypt for institutions is accepted by openssl, which shares no code
//! with them.

use std::fs;
use std::process::Command;

use paymux::crypto::pem;
use paymux::crypto::rsa::RsaPrivateKey;
use paymux::crypto::rsa::oaep::RsaOaepPublicKey;
use paymux::crypto::rsa::{RsaPublicKey, RsaScheme};
use paymux::crypto::sm2::{DEFAULT_USER_ID, Sm2Encoding, Sm2PrivateKey, Sm2PublicKey};
use tempfile::TempDir;

/// A folder in which openssl runs.
struct OpensslFolder(TempDir);

impl OpensslFolder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.path().join(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.path().join(name)).unwrap()
    }

    /// Runs openssl; whether it succeeded.
    fn run(&self, words: &str) -> bool {
        let mut command = Command::new("openssl");
        let command = command.args(words.split_whitespace());
        let ran = command.current_dir(self.0.path()).output();
        ran.expect("openssl is needed here").status.success()
    }

    /// The key in `key.pem`, as PKCS #8.
    fn key(&self) -> Vec<u8> {
        pem::read_private_key(&self.read("key.pem")).unwrap()
    }
}

/// Q3: SM2 both ways, under the user id of certificates and under a serial number.
#[test]
fn sm2_signatures_are_those_of_openssl() {
    let folder = OpensslFolder::new();
    assert!(folder.run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:SM2 -out key.pem"));
    assert!(folder.run("pkey -in key.pem -pubout -out key.pub"));
    folder.write("message", "支付 10.01".as_bytes());
    let message = folder.read("message");
    for (user_id, other) in [
        (DEFAULT_USER_ID, "68759663125"),
        ("68759663125", DEFAULT_USER_ID),
    ] {
        let key = Sm2PrivateKey::from_pkcs8(&folder.key(), user_id).unwrap();
        folder.write("ours", &key.sign(&message, Sm2Encoding::Der).unwrap());
        let verify = |id| {
            folder.run(&format!(
                "dgst -sm3 -verify key.pub -sigopt distid:{id} -signature ours message"
            ))
        };
        assert!(verify(user_id));
        assert!(!verify(other));

        let sign = format!("dgst -sm3 -sign key.pem -sigopt distid:{user_id} -out theirs message");
        assert!(folder.run(&sign));
        let theirs = folder.read("theirs");
        let public = |id| Sm2PublicKey::from_spki(&key.public_spki(), id).unwrap();
        assert!(public(user_id).verify(&message, &theirs, Sm2Encoding::Der));
        assert!(!public(other).verify(&message, &theirs, Sm2Encoding::Der));
    }
}

/// Q3: PKCS #1 v1.5 both ways; a field encrypted for a key is read with it.
#[test]
fn rsa_is_that_of_openssl() {
    let folder = OpensslFolder::new();
    assert!(folder.run("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key.pem"));
    assert!(folder.run("pkey -in key.pem -pubout -out key.pub"));
    folder.write("message", "支付 10.01".as_bytes());
    let message = folder.read("message");
    let key = RsaPrivateKey::from_pkcs8(&folder.key(), RsaScheme::Pkcs1Sha256).unwrap();
    let ours = key.sign(&message).unwrap();
    folder.write("ours", &ours);
    assert!(folder.run("dgst -sha256 -verify key.pub -signature ours message"));
    assert!(folder.run("dgst -sha256 -sign key.pem -out theirs message"));
    assert_eq!(folder.read("theirs"), ours);
    let public = RsaPublicKey::from_spki(&key.public_spki(), RsaScheme::Pkcs1Sha256).unwrap();
    assert!(public.verify(&message, &ours));

    let oaep = RsaOaepPublicKey::from_spki(&key.public_spki()).unwrap();
    folder.write("sealed", &oaep.encrypt(&message).unwrap());
    let decrypt = "pkeyutl -decrypt -inkey key.pem -in sealed -out opened \
                   -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha1 \
                   -pkeyopt rsa_mgf1_md:sha1";
    assert!(folder.run(decrypt));
    assert_eq!(folder.read("opened"), message);
}
