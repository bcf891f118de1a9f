//! Keys in the configuration: of each algorithm, and those that are too weak as proof.

use super::*;

/// The table of an additional key of M1001.
fn further(id: &str, algorithm: &str, named: &str) -> String {
    format!(
        "[[merchant.keys]]\nid = \"{id}\"\nalgorithm = \"{algorithm}\"\n{named}\n\
         not_before = 2026-01-01\nnot_after = 2035-12-31\n\n"
    )
}

const SHARED: &str = "secret = \"file:certs/M1001-shared.secret\"";
const AFTER_KEYS: &str = "[merchant.default_institution]";

/// Q3, R-6.3.1-1c: a key of each algorithm is created and enrolled; for RSA the enrolment names which one.
#[test]
fn a_key_of_each_algorithm_is_enrolled() {
    let named = |algorithm: Algorithm| {
        if algorithm.is_shared() {
            SHARED.to_owned()
        } else {
            format!("file = \"certs/{algorithm}.pub\"")
        }
    };
    let id = |algorithm: Algorithm| format!("M1001-{}", algorithm.name().replace('.', "-"));
    let tables = Algorithm::all().map(|it| further(&id(it), it.name(), &named(it)));
    let tables: String = tables.collect();
    let site = ConfigFolder::fresh();
    site.replace(&[(AFTER_KEYS, &format!("{tables}{AFTER_KEYS}"))]);
    let made = site.make_keys();
    assert!(
        made.contains("ecdsa-p256-sha256") && made.contains("rsa-pss-sha512"),
        "{made}"
    );
    let config = site.read().map_err(|f| f.to_string()).unwrap();
    for algorithm in Algorithm::all() {
        let key = config.snapshot.keys.key(&id(algorithm)).unwrap();
        assert_eq!(key.key.algorithm(), algorithm);
    }
    // The expected text names exactly the algorithms of the list.
    let site = ConfigFolder::with("algorithm = \"ed25519\"\nfile = \"certs/redpay-1.pub\"", "");
    let faults = site.faults().join("\n");
    for algorithm in Algorithm::all() {
        assert!(faults.contains(algorithm.name()), "{algorithm}: {faults}");
    }
}

const WEAK: &str = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDF2w8p4PamndTcOXANP7AOiWEgxyy6rzGby/61VUuC\
    /Qh33+uAXnmUIOe24R7bn5L4LjvZJQxiR+47BxE5PiKkn99Vs92Rmns5VQs8cm1iyhcwFQTjpy0xc2wJ\
    HR/O5BJ8OSmSom/cCzZv9s7jCIzNq2TVW5lKvymaZMuNOYBnKQIDAQAB";

/// Q3, Q4, R-6.3.1-1b: an invalid key, one of another algorithm, or one too weak as proof is refused with
/// its line and the reason.
#[test]
fn keys_that_prove_too_little_are_faults() {
    let short = "secret = \"file:certs/short.secret\"";
    let plain = "secret = \"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\"";
    let own = "file = \"certs/M1001-1.pub\"";
    for (algorithm, named, expected) in [
        ("rsa-pss-sha256", own, "one of ed25519, ecdsa-p256-sha256"),
        ("none", own, "one of ed25519"),
        (
            "ecdsa-p256-sha256",
            own,
            "ed25519, which the key in the file is for",
        ),
        (
            "rsa-v1_5-sha256",
            own,
            "ed25519, which the key in the file is for",
        ),
        (
            "rsa-pss-sha512",
            "file = \"certs/weak.pub\"",
            "weak (RSA: 2048 to 4096 bits",
        ),
        ("hmac-sha256", short, "32 to 256 random bytes"),
        (
            "hmac-sha256",
            "secret = \"file:certs/zero.secret\"",
            "32 to 256 random bytes",
        ),
        ("hmac-sha256", plain, "something else (not shown)"),
        ("hmac-sha256", own, "secret: expected the name of a secret"),
    ] {
        let site = ConfigFolder::fresh();
        let table = further("M1001-2", algorithm, named);
        site.replace(&[(AFTER_KEYS, &format!("{table}{AFTER_KEYS}"))]);
        let weak = format!("-----BEGIN PUBLIC KEY-----\n{WEAK}\n-----END PUBLIC KEY-----\n");
        fs::write(site.path("certs/weak.pub"), weak).unwrap();
        for (file, text) in [("short", "00".repeat(31) + "01"), ("zero", "00".repeat(64))] {
            let path = site.path(&format!("certs/{file}.secret"));
            let text = if file == "short" {
                text[2..].to_owned()
            } else {
                text
            };
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let faults: Vec<String> = match site.read() {
            // A single party's key: it is not enrolled.
            Ok(config) => {
                assert!(config.snapshot.keys.key("M1001-2").is_none(), "{named}");
                let notes = config.unusable.iter().map(|it| it.note.to_string());
                notes.collect()
            }
            Err(faults) => faults.0.iter().map(ToString::to_string).collect(),
        };
        let fits = |fault: &&String| fault.contains(expected);
        let fault = faults.iter().find(fits);
        let fault = fault.unwrap_or_else(|| panic!("{algorithm}, {named}: {faults:#?}"));
        assert!(fault.contains("routes.toml:"), "{fault}");
        assert!(!fault.contains("00112233"), "{fault}");
    }
}

/// R-6.3.1-1b: a shared secret is enrolled only if a certificate is verified as well, and never for an
/// institution.
#[test]
fn a_shared_secret_alone_is_a_fault() {
    for (from, to) in [
        ("mtls = \"optional\"", "mtls = \"off\""),
        ("certificates = [\"certs/M1001.pem\"]", "certificates = []"),
    ] {
        let site = ConfigFolder::fresh();
        let table = further("M1001-2", "hmac-sha256", SHARED);
        site.replace(&[(from, to), (AFTER_KEYS, &format!("{table}{AFTER_KEYS}"))]);
        site.make_keys();
        let faults = site.faults();
        assert_eq!(faults.len(), 1, "{faults:#?}");
        assert!(
            faults[0].contains("a client certificate beside a shared secret"),
            "{faults:#?}"
        );
    }
    let site = ConfigFolder::with(
        "algorithm = \"ed25519\"\nfile = \"certs/redpay-1.pub\"",
        &format!("algorithm = \"hmac-sha256\"\n{SHARED}"),
    );
    site.make_keys();
    let faults = site.faults();
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert!(
        faults[0].contains("a public key of the institution"),
        "{faults:#?}"
    );
}

/// R-6.3.1-1c: the gateway's own key may be of any signing algorithm, and is published with it.
#[test]
fn the_platform_signs_with_any_key_that_signs() {
    for (name, kind, alg) in [
        ("ed25519", "OKP", "EdDSA"),
        ("ecdsa-p256-sha256", "EC", "ES256"),
        ("rsa-pss-sha512", "RSA", "PS512"),
    ] {
        let site = ConfigFolder::fresh();
        for file in ["certs/platform-1.key", "certs/platform-1.pub"] {
            fs::remove_file(site.path(file)).unwrap();
        }
        let algorithm = Algorithm::parse(name).unwrap();
        let folder = site.path("certs");
        keys::make(&mut Vec::new(), "platform-1", algorithm, &folder).unwrap();
        let config = site.read().map_err(|f| f.to_string()).unwrap();
        let signing = &config.snapshot.platform.signing;
        assert_eq!(signing.at(now().seconds()).unwrap().algorithm(), algorithm);
        let set: serde_json::Value =
            serde_json::from_slice(&config.snapshot.platform.jwks).unwrap();
        let jwk = &set["keys"][0];
        assert_eq!((&jwk["kty"], &jwk["alg"]), (&kind.into(), &alg.into()));
        assert!(jwk["nbf"].is_number() && jwk["exp"].is_number() && jwk["d"].is_null());
    }
}

/// D1, D3: a shared secret is created once, readable for its owner only, and not printed.
#[test]
fn a_shared_secret_is_made_and_not_shown() {
    let folder = TempDir::new().unwrap();
    let shared = Algorithm::parse("hmac-sha256").unwrap();
    let mut out = Vec::new();
    keys::make(&mut out, "M2002-1", shared, folder.path()).unwrap();
    let text = String::from_utf8(out).unwrap();
    let file = folder.path().join("M2002-1.secret");
    let secret = fs::read_to_string(&file).unwrap();
    assert_eq!(secret.trim().len(), 64);
    assert!(!text.contains(secret.trim()), "{text}");
    assert!(
        text.contains("algorithm = \"hmac-sha256\"\nsecret = \"file:"),
        "{text}"
    );
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(keys::make(&mut Vec::new(), "M2002-1", shared, folder.path()).is_err());
    let verified_only = Algorithm::parse("rsa-v1_5-sha256").unwrap();
    let refused = keys::make(&mut Vec::new(), "M2002-2", verified_only, folder.path());
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("key pairs cannot be generated")
    );
}

/// Section 5, Q3, R-6.3.1-1b: a key belongs to one party: two members of staff, merchants or institutions
/// cannot share one, nor staff with any other party. Two ids of one owner may have one key.
#[test]
fn a_key_has_one_owner() {
    let staff = |name: &str, file: &str| {
        format!(
            "[[staff]]\nid = \"{name}\"\n\n[[staff.keys]]\nid = \"{name}-1\"\n\
             algorithm = \"ed25519\"\nfile = \"certs/{file}.pub\"\n\
             not_before = 2026-01-01\nnot_after = 2035-12-31\n\n"
        )
    };
    let li_wei = staff("li-wei", "li-wei-1");
    let two = |file: &str| format!("{li_wei}{}", staff("wang-fang", file));
    let institution = "[[institution]]\nid = \"bluebank\"";
    let enrolled = |staff: &str| (institution, format!("{staff}{institution}"));
    let file = |name: &str| format!("file = \"certs/{name}.pub\"");
    let same = further("M1001-2", "ed25519", &file("M1001-1"));
    let redpay = file("redpay-1");
    let cases = [
        (enrolled(&two("wang-fang-1")), None),
        ((AFTER_KEYS, format!("{same}{AFTER_KEYS}")), None),
        (enrolled(&two("li-wei-1")), Some("li-wei")),
        (enrolled(&staff("li-wei", "M1001-1")), Some("M1001")),
        (
            enrolled(&staff("li-wei", "bluebank-1")),
            Some("tea-blue at bluebank"),
        ),
        (
            enrolled(&staff("li-wei", "platform-1")),
            Some("this gateway"),
        ),
        ((&*redpay, file("bluebank-1")), Some("tea-blue at bluebank")),
        ((&*redpay, file("M1001-1")), Some("M1001")),
        ((&*redpay, file("platform-1")), Some("this gateway")),
    ];
    for ((from, to), first) in cases {
        let site = ConfigFolder::fresh();
        for name in ["li-wei-1", "wang-fang-1", "platform-1"] {
            let (_, public) = SigningKey::generate_ed25519().unwrap();
            let public = if name == "platform-1" {
                let own = fs::read_to_string(site.path("certs/platform-1.key")).unwrap();
                SigningKey::from_pkcs8_pem(name, &own).unwrap().public_pem()
            } else {
                public
            };
            fs::write(site.path(&format!("certs/{name}.pub")), public).unwrap();
        }
        site.replace(&[(from, &to)]);
        let Some(first) = first else {
            assert!(site.read().is_ok(), "{to}");
            continue;
        };
        let faults = site.faults();
        assert_eq!(faults.len(), 1, "{to}: {faults:?}");
        let of = format!("of {first} in line");
        let fits = faults[0].contains("expected a key of one owner") && faults[0].contains(&of);
        assert!(fits, "{faults:?}");
    }
}
