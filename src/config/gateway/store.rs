//! `[store]`: the path, the seal keys, and whether a gateway can use that path: nobody else may access
//! the files, and a control socket must fit beside them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

use crate::config::StoreSettings;
use crate::config::reading::{ConfigReader, ExpectedValue, shape};
use crate::config::section::Section;
use crate::files::store_lock::{self, StoreLockError, beside};
use crate::seal::Seal;

/// The default path of the store.
const STORE: &str = "var/paymux.sqlite";

/// The suffix that makes the store's file name the control socket's.
pub const CONTROL: &str = ".control";

/// The longest path of a socket. Unit: bytes.
const SOCKET_BYTES_MAX: usize = 107;

/// The path in `sqlite:PATH`.
fn sqlite_path(text: &str) -> Option<&str> {
    text.strip_prefix("sqlite:").filter(|path| !path.is_empty())
}

/// The location that [`store`] would read, whatever other faults there are.
pub(in crate::config) fn url_of(folder: &Path, document: &DeTable<'_>) -> String {
    let store = document.get("store").and_then(|it| it.get_ref().get("url"));
    let path = store.and_then(|it| it.get_ref().as_str().and_then(sqlite_path));
    format!("sqlite:{}", folder.join(path.unwrap_or(STORE)).display())
}

/// Default of the free disk space below which no new order is accepted. Unit: MiB.
const RESERVE_MB: u64 = 256;

pub(in crate::config) fn store(
    r: &mut ConfigReader<'_>,
    mut s: Section<'_>,
) -> Option<StoreSettings> {
    const URL: ExpectedValue = shape("sqlite:PATH", "\"sqlite:var/paymux.sqlite\"");
    const SEAL_ID: ExpectedValue = shape("1 to 16 of A-Z a-z 0-9 - _", "\"seal-1\"");
    let url = s.may(r, "url", URL, |v| v.as_str().and_then(sqlite_path));
    let url_line = url.as_ref().map_or(s.line, |found| found.line);
    let url = url.map_or(STORE, |found| found.value);
    let digest_line = s.line_of(r, "digest_key");
    let seal_id = |id: &str| {
        let fits = (1..=crate::seal::KEY_ID_BYTES_MAX).contains(&id.len())
            && id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        fits.then(|| id.to_owned())
    };
    let current = s.mandatory(r, "seal_key", SEAL_ID, |v| v.as_str().and_then(seal_id));
    let digest_key = s.secret_bytes(r, "digest_key");
    let reserve_mb = s.number(r, "reserve_mb", RESERVE_MB, 0..=1_048_576);
    let mut seen = BTreeMap::new();
    let mut keys = BTreeMap::new();
    for mut table in s.tables(r, "seal_keys") {
        let id = table.mandatory(r, "id", SEAL_ID, |v| v.as_str().and_then(seal_id));
        let key = table.secret_bytes(r, "key");
        if let Some(id) = id {
            r.once(&mut seen, &id, &table.subject("id"));
            if let Some(key) = key {
                keys.insert(id.value, key);
            }
        }
        table.end(r);
    }
    if let Some(current) = &current
        && !seen.contains_key(&current.value)
    {
        // D3: without the key that seals, the gateway must not start.
        let advice = "add it under [[store.seal_keys]], or name one that is there";
        let found = format!("{:?}", current.value);
        r.fault(
            current.line,
            &s.subject("seal_key"),
            "the id of a seal key",
            &found,
            advice,
        );
    }
    let path = r.path(url);
    can_be_served(r, &path, url_line);
    let url = format!("sqlite:{}", path.display());
    let line = s.line;
    s.end(r);
    match Seal::new(&current?.value, keys, digest_key?) {
        Ok(seal) => Some(StoreSettings {
            url,
            seal: Arc::new(seal),
            reserve_mb,
            lines: [url_line, digest_line],
        }),
        Err(_) if !r.faults.is_empty() => None,
        Err(fault) => {
            r.fault(
                line,
                "[store]",
                "keys that seal",
                &fault.to_string(),
                "check them",
            );
            None
        }
    }
}

/// Reports in advance what would make `paymux serve` fail, with advice.
fn can_be_served(r: &mut ConfigReader<'_>, path: &Path, line: usize) {
    let subject = "[store] url";
    let socket = beside(path, CONTROL);
    let bytes = socket.as_os_str().len();
    if bytes > SOCKET_BYTES_MAX {
        let longest = SOCKET_BYTES_MAX.saturating_sub(CONTROL.len());
        let expected = format!(
            "a path of at most {longest} bytes, so that the control socket beside it can be made"
        );
        let found = format!("{} bytes", bytes.saturating_sub(CONTROL.len()));
        let advice = "name a shorter path, or one relative to where the gateway runs";
        r.fault(line, subject, &expected, &found, advice);
    }
    match store_lock::examine(path) {
        Ok(()) => (),
        Err(StoreLockError::Exposed {
            path,
            expected,
            exposed,
        }) => {
            let expected = format!("{} to be {expected}", path.display());
            r.fault(line, subject, &expected, &exposed.found, &exposed.advice);
        }
        Err(StoreLockError::SecondName { path, names }) => {
            let expected = format!("{} to have one name", path.display());
            let found = format!("{names} (hard links)");
            let advice = "remove the others: the write-ahead log is beside one of them only";
            r.fault(line, subject, &expected, &found, advice);
        }
        Err(fault @ (StoreLockError::InUse(_) | StoreLockError::Unusable { .. })) => {
            let advice = "name a path where a plain file can be";
            r.fault(line, subject, "a usable path", &fault.to_string(), advice);
        }
    }
}
