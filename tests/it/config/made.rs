//! Keys created by `paymux keys make`.

use std::path::Path;

use super::*;

/// D3: an existing key is never replaced.
#[test]
fn a_key_pair_is_made_once() {
    let folder = TempDir::new().unwrap();
    let mut out = Vec::new();
    keys::make(&mut out, "M2002-1", Algorithm::default(), folder.path()).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("[[merchant.keys]]") && text.contains("BEGIN PUBLIC KEY"));
    assert!(!text.contains("PRIVATE KEY"));
    let key = fs::read(folder.path().join("M2002-1.key")).unwrap();
    let ours = Algorithm::default();
    let why = not_made("M2002-1", ours, folder.path());
    let advice = "already exists; choose another --id or --out";
    assert!(
        why.contains("M2002-1.key") && why.ends_with(advice),
        "{why}"
    );
    not_made("../M", ours, folder.path());
    assert_eq!(fs::read(folder.path().join("M2002-1.key")).unwrap(), key);
}

/// The reason that no key is created.
fn not_made(id: &str, algorithm: Algorithm, folder: &Path) -> String {
    let made = keys::make(&mut Vec::new(), id, algorithm, folder);
    format!("{:#}", made.expect_err("it is made"))
}

/// A key that cannot be created here gets advice, and no file is left behind.
#[test]
fn a_key_that_is_not_made_says_what_to_do() {
    let folder = TempDir::new().unwrap();
    let rsa = Algorithm::parse("rsa-v1_5-sha256").unwrap();
    let why = not_made("M2002-2", rsa, folder.path());
    assert!(why.contains("openssl genpkey -algorithm RSA"), "{why}");
    let none = folder.path().join("none");
    for algorithm in [
        Algorithm::default(),
        Algorithm::parse("hmac-sha256").unwrap(),
    ] {
        let why = not_made("M2002-2", algorithm, &none);
        assert!(why.ends_with("create it first"), "{why}");
    }
    // Another party's public half is kept, and no private one is created beside it.
    fs::write(folder.path().join("M2002-3.pub"), "theirs").unwrap();
    let why = not_made("M2002-3", Algorithm::default(), folder.path());
    assert!(why.contains("M2002-3.pub"), "{why}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
