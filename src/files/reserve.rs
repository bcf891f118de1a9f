//! Reserved space on the store's disk, so that the gateway can start when the disk is full: a start
//! writes an epoch and a record before it serves.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::store_lock::{beside, folder};

/// The file that occupies the space until it is needed.
const RESERVE: &str = ".reserve";

/// Several times what a start writes. Unit: bytes.
const BYTES: u64 = 2 * 1_048_576;

/// Less than this is useless. Unit: bytes.
const BYTES_MIN: u64 = 262_144;

/// Free bytes on the disk of this folder for an unprivileged user.
///
/// # Errors
/// The system call fails.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Releases the reserve if little other space is free; returns whether it did.
pub fn release(store: &Path) -> bool {
    let free = free_bytes(folder(store));
    free.is_ok_and(|free| free < BYTES) && std::fs::remove_file(beside(store, RESERVE)).is_ok()
}

/// Reserves the space for the next start: all of it, or as much as there is.
///
/// # Errors
/// There is no space, or the file system does not support reservation.
pub fn keep(store: &Path) -> io::Result<()> {
    let path = beside(store, RESERVE);
    match std::fs::symlink_metadata(&path) {
        Ok(found) if found.is_file() && found.len() >= BYTES => return Ok(()),
        Ok(_) => std::fs::remove_file(&path)?,
        Err(_) => (),
    }
    let mut options = File::options();
    let file = options
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&path)?;
    let mut bytes = BYTES;
    loop {
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => return Ok(()),
            Err(_) if bytes > BYTES_MIN => bytes = bytes.saturating_div(2),
            Err(error) => {
                let _ = std::fs::remove_file(&path);
                return Err(error.into());
            }
        }
    }
}
