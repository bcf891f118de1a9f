//! Opens files by name: regular ones only, without blocking, and never one of a store that this
//! process holds. Checks of file permissions, for keys and for the store, are here too.

pub mod access;
pub mod reserve;
pub mod store_lock;

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// The size limit of a key, certificate or secret. Unit: bytes.
pub const TEXT_BYTES_MAX: u64 = 1_048_576;

/// Opens a regular file for reading. A pipe, a device or a socket is rejected: it could block its
/// reader for ever. A file of a store that this process holds is rejected too: closing it would
/// drop the locks under which `SQLite` works on it (POSIX locks end with any descriptor of the
/// file).
///
/// # Errors
/// There is no such file, it may not be read, or it is not a regular file.
pub fn open(path: &Path) -> io::Result<File> {
    // Checked first: even opening a device may have an effect.
    judge(&std::fs::metadata(path)?)?;
    let non_blocking = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(non_blocking.bits()).map_err(io::Error::other)?;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    // Checked again: another file may have taken the name in between.
    let found = file.metadata()?;
    if store_lock::is_of_a_store(&found) {
        // Closing it would drop the locks, so it stays open until this process ends.
        std::mem::forget(file);
        return Err(belongs_to_a_store());
    }
    judge(&found)?;
    Ok(file)
}

fn judge(found: &Metadata) -> io::Result<()> {
    if !found.is_file() {
        return Err(not_a_plain_file());
    }
    if store_lock::is_of_a_store(found) {
        return Err(belongs_to_a_store());
    }
    Ok(())
}

fn belongs_to_a_store() -> io::Error {
    io::Error::other("expected a file other than this gateway's store")
}

/// The content of a regular file.
///
/// # Errors
/// Those of [`open`], or it is larger than `bytes_max`.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    content(open(path)?, bytes_max)
}

/// The text of a key, a certificate or a secret in a regular file.
///
/// # Errors
/// Those of [`open`], or it is larger than the limit.
pub fn text(path: &Path) -> io::Result<String> {
    Ok(decoded(&read(path, TEXT_BYTES_MAX)?))
}

/// Checks a path that is not opened here, because `SQLite` opens it: an existing file must be a
/// regular one. A missing file is reported when it is opened.
///
/// # Errors
/// It is not a regular file.
pub fn expect_plain(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(not_a_plain_file()),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn not_a_plain_file() -> io::Error {
    io::Error::other("expected a plain file")
}

/// The rest of an open file.
///
/// # Errors
/// It cannot be read, or it is larger than `bytes_max`.
pub fn content(file: File, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        let why = format!("expected {bytes_max} bytes at most");
        return Err(io::Error::other(why));
    }
    Ok(bytes)
}

/// The text of a key, a certificate or a secret as other programs write it: strips a byte-order
/// mark, decodes UTF-16, and replaces invalid characters, for example of a comment in another
/// encoding.
pub fn decoded(bytes: &[u8]) -> String {
    let wide = |pairs: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = pairs.chunks(2).map(|pair| match pair {
            [first, second] => unit([*first, *second]),
            // An incomplete unit at the end.
            _ => 0xfffd,
        });
        let units: Vec<u16> = units.collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xff, 0xfe, pairs @ ..] => wide(pairs, u16::from_le_bytes),
        [0xfe, 0xff, pairs @ ..] => wide(pairs, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, text @ ..] | text => String::from_utf8_lossy(text).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe and a folder are rejected at once, without blocking; a regular file is read.
    #[test]
    fn only_a_plain_file_is_opened() {
        let folder = tempfile::TempDir::new().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        for other in [pipe.as_path(), folder.path(), Path::new("/dev/null")] {
            let refused = open(other).unwrap_err().to_string();
            assert!(refused.contains("plain file"), "{refused}");
        }
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "four").unwrap();
        assert_eq!(read(&plain, 4).unwrap(), b"four");
        let refused = read(&plain, 3).unwrap_err().to_string();
        assert_eq!(refused, "expected 3 bytes at most");
    }

    /// A key in the encodings and with the marks of common editors and systems is accepted.
    #[test]
    fn marks_and_other_encodings_are_read() {
        let key = "-----BEGIN";
        let mut wide = vec![0xff, 0xfe];
        wide.extend(key.encode_utf16().flat_map(u16::to_le_bytes));
        let mut wide_first = vec![0xfe, 0xff];
        wide_first.extend(key.encode_utf16().flat_map(u16::to_be_bytes));
        let mut marked = vec![0xef, 0xbb, 0xbf];
        marked.extend(key.bytes());
        for bytes in [key.as_bytes().to_vec(), wide, wide_first, marked] {
            assert_eq!(decoded(&bytes), key);
        }
        // Part of a comment in GBK.
        let text = decoded(b"\xb2\xe8\xb9\xdd\n-----BEGIN");
        assert!(text.ends_with("\n-----BEGIN"), "{text}");
    }
}
