//! Which settings make an account, and which do not fit together.

use super::{
    ALIPAY_CERTIFICATE, ALIPAY_PUBLIC_KEY, ALIPAY_ROOT, APP_CERTIFICATE, KEY, account, built,
    certificates, key_text, signature, their_key, values, verifying, with_certificates,
    with_public_key,
};
use crate::institution::{SecretText, SettingValue, SettingValues, SettingsFault};

fn fault(values: SettingValues) -> &'static str {
    let Err(SettingsFault::Unfit(name, _)) = built(values) else {
        panic!("it is no fault of a setting");
    };
    name
}

fn secret(text: &str) -> SettingValue {
    SettingValue::Secret(SecretText::new(text))
}

/// A key is taken as the institution's tools write it: PKCS #1 or PKCS #8, with or without armour.
#[test]
fn a_key_is_read_in_each_form() {
    for form in ["pkcs8", "pkcs1"] {
        let values = with_public_key().with(KEY, secret(&key_text("ours", form)));
        assert!(built(values).unwrap().signing().is_some(), "{form}");
    }
    for bad in ["", "not a key", &key_text("ours", "spki")] {
        assert_eq!(fault(with_public_key().with(KEY, secret(bad))), KEY);
    }
}

/// C1: the application's own public key is not the institution's, and proves nothing.
#[test]
fn our_own_public_key_is_not_the_institutions() {
    let swapped = values().with(ALIPAY_PUBLIC_KEY, verifying("ours"));
    assert_eq!(fault(swapped), ALIPAY_PUBLIC_KEY);
}

/// Certificates fit our key and one another, and exclude a plain public key.
#[test]
fn certificates_that_do_not_fit_are_refused() {
    let certificate = |names: &[&str]| SettingValue::Certificate(certificates(names));
    assert!(built(with_certificates()).is_ok());
    let both = with_certificates().with(ALIPAY_PUBLIC_KEY, verifying("theirs"));
    assert_eq!(fault(both), ALIPAY_PUBLIC_KEY);
    let of_another_key = with_certificates().with(APP_CERTIFICATE, certificate(&["alipay"]));
    assert_eq!(fault(of_another_key), APP_CERTIFICATE);
    let without_intermediate =
        with_certificates().with(ALIPAY_CERTIFICATE, certificate(&["alipay"]));
    assert_eq!(fault(without_intermediate), ALIPAY_CERTIFICATE);
    let of_another_root = with_certificates().with(ALIPAY_ROOT, certificate(&["app"]));
    assert_eq!(fault(of_another_root), ALIPAY_CERTIFICATE);
}

/// V1: an account that could not believe any answer signs nothing, so that nobody can pay it.
#[test]
fn an_account_that_proves_nothing_signs_nothing() {
    let without = built(values()).unwrap();
    assert!(without.signing().is_none());
    assert!(!without.proves("text", &signature(&their_key(), "text")));
    let certificate = |names: &[&str]| SettingValue::Certificate(certificates(names));
    let partly = values().with(APP_CERTIFICATE, certificate(&["app"]));
    assert!(built(partly).unwrap().signing().is_none());
    assert!(account().signing().is_some());
}

/// C1: in certificate mode an answer names the certificate in hand; another, or none, proves nothing.
#[test]
fn an_answer_names_the_certificate_in_hand() {
    let account = built(with_certificates()).unwrap();
    let sign = signature(&their_key(), "{}");
    let number = "12f778c258d25f4a14a96bb3f6d6ee35";
    assert!(account.proves_answer("{}", &sign, Some(number)));
    for other in [None, Some(""), Some("88d85e3660168e6fde9aeabe92e3fe5f")] {
        assert!(!account.proves_answer("{}", &sign, other));
    }
    assert!(!account.proves_answer("{ }", &sign, Some(number)));
}
