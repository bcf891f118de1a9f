//! Files as found in practice: keys with byte order marks and comments, stores with long or exposed paths.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use paymux::config;

use super::{ConfigFolder, now};

/// F1: a certificate or key is read despite a byte order mark, line ends of another system, or comments
/// in any encoding.
#[test]
fn certificates_are_read_as_other_programs_leave_them() {
    let site = ConfigFolder::fresh();
    for name in ["certs/ca.pem", "certs/server.key", "certs/seal-1.key"] {
        let path = site.path(name);
        let good = fs::read_to_string(&path).unwrap();
        let marked = [b"\xef\xbb\xbf", good.as_bytes()].concat();
        let wide: Vec<u8> = "\u{feff}"
            .encode_utf16()
            .chain(good.encode_utf16())
            .flat_map(u16::to_le_bytes)
            .collect();
        let crlf = good.replace('\n', "\r\n").into_bytes();
        let mut all = vec![marked, wide, crlf];
        if good.contains("-----BEGIN") {
            // A name in GBK.
            all.push([b"friendlyName: \xb2\xe8\xb9\xdd\n", good.as_bytes()].concat());
        }
        for bytes in all {
            fs::write(&path, &bytes).unwrap();
            let read = config::read(&site.path("routes.toml"), now(), &|_| None);
            assert!(read.is_ok(), "{name}: {}", read.err().unwrap());
        }
        fs::write(&path, good).unwrap();
    }
}

/// F1: a path too long for the control socket, or a store accessible to others, is reported before a start.
#[test]
fn a_store_that_cannot_be_served_is_a_fault() {
    let deep = format!("sqlite:{}/paymux.sqlite", "d".repeat(100));
    let fault = ConfigFolder::with("sqlite:var/paymux.sqlite", &deep).only_fault();
    assert!(
        fault.contains("[store] url") && fault.contains("control socket"),
        "{fault}"
    );
    let site = ConfigFolder::fresh();
    fs::create_dir(site.path("var")).unwrap();
    let store = site.path("var/paymux.sqlite");
    fs::write(&store, "").unwrap();
    let (open, own) = (
        fs::Permissions::from_mode(0o644),
        fs::Permissions::from_mode(0o600),
    );
    fs::set_permissions(&store, open).unwrap();
    let fault = site.only_fault();
    assert!(fault.contains("found mode 644; chmod 600"), "{fault}");
    fs::set_permissions(&store, own).unwrap();
    assert!(config::read(&site.path("routes.toml"), now(), &|_| None).is_ok());
}
