//! Keys imported by `paymux keys import` from files that openssl wrote.

use std::path::Path;
use std::process::Command;

use paymux::world::{Clock, SystemClock};

use super::*;

/// A folder with `key.in`, `cert.in` of serial number 68759663125, valid for ten days, and
/// `password`.
struct Handed(TempDir);

impl Handed {
    fn new() -> Self {
        let handed = Self(TempDir::new().unwrap());
        handed.openssl(
            "req -x509 -newkey rsa:2048 -nodes -keyout key.in -out cert.in -days 10 \
             -set_serial 68759663125 -subj /CN=041@Z2025@777290058110048@1",
        );
        handed.write("password", "000000\r\n", 0o600);
        handed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn openssl(&self, words: &str) {
        let mut command = Command::new("openssl");
        command.args(words.split_whitespace());
        let ran = command.current_dir(self.0.path()).output();
        let ran = ran.expect("openssl is needed here");
        assert!(ran.status.success(), "{words}: {ran:?}");
    }

    /// Imports `name`; the output, or the error.
    fn import(&self, name: &str) -> Result<String, String> {
        let mut out = Vec::new();
        let (file, password) = (self.path(name), self.path("password"));
        let made = keys::import(&mut out, &file, &password, self.0.path(), in_ten_days());
        match made {
            Ok(_) => Ok(String::from_utf8(out).unwrap()),
            Err(fault) => Err(format!("{fault:#}")),
        }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

/// A time at which the certificate has ended or ends within the day, whatever today is.
fn in_ten_days() -> Timestamp {
    let clock: &dyn Clock = &SystemClock::start();
    Timestamp::from_s(clock.now().seconds() + 10 * 86_400 - 3_600)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// What openssl writes, new and old, is read; the key is for its owner alone, and not printed.
#[test]
fn a_file_of_openssl_is_imported() {
    for encryption in ["", "-legacy"] {
        let handed = Handed::new();
        handed.openssl(&format!(
            "pkcs12 -export {encryption} -inkey key.in -in cert.in -out in.pfx -passout pass:000000"
        ));
        let text = handed.import("in.pfx").unwrap();
        let key = handed.read("key.pem");
        assert_eq!(key, handed.read("key.in"));
        assert_eq!(handed.read("cert.pem"), handed.read("cert.in"));
        assert_eq!(mode(&handed.path("key.pem")), 0o600);
        assert_eq!(mode(&handed.path("cert.pem")), 0o644);
        for part in [
            "key.pem is private",
            "cert.pem has its certificate and 0 of its issuers",
            "041@Z2025@777290058110048@1",
            "68759663125 (hexadecimal 1002653215)",
            ", 0 days left",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("PRIVATE KEY"));
    }
}

/// Nothing is replaced, and nothing is half written.
#[test]
fn an_existing_file_is_not_replaced() {
    for existing in ["key.pem", "cert.pem"] {
        let handed = Handed::new();
        handed.openssl("pkcs12 -export -inkey key.in -in cert.in -out in.pfx -passout pass:000000");
        handed.write(existing, "theirs", 0o600);
        let before = fs::read_dir(handed.0.path()).unwrap().count();
        let why = handed.import("in.pfx").unwrap_err();
        let advice = format!("{existing} already exists; choose another --out");
        assert!(why.ends_with(&advice), "{why}");
        assert_eq!(handed.read(existing), "theirs");
        assert_eq!(fs::read_dir(handed.0.path()).unwrap().count(), before);
    }
}

/// A wrong password, another kind of file, a password that others may read.
#[test]
fn a_file_that_is_not_imported_says_why() {
    let handed = Handed::new();
    handed.openssl("pkcs12 -export -inkey key.in -in cert.in -out in.pfx -passout pass:000001");
    let before = fs::read_dir(handed.0.path()).unwrap().count();
    for (name, advice) in [
        ("in.pfx", "check the first line of"),
        ("key.in", "openssl pkcs12 -legacy"),
        ("none.pfx", "No such file"),
    ] {
        let why = handed.import(name).unwrap_err();
        assert!(why.contains(name) && why.contains(advice), "{why}");
        assert!(!why.contains("000000"), "{why}");
    }
    handed.write("password", "000001", 0o644);
    let why = handed.import("in.pfx").unwrap_err();
    assert!(
        why.contains("is not secret") && why.contains("chmod"),
        "{why}"
    );
    assert_eq!(fs::read_dir(handed.0.path()).unwrap().count(), before);
}
