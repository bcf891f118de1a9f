//! Locks the files of a store for this process, by file identity, not by name. Our single
//! descriptor is opened before `SQLite` opens its own and closed after it.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::access::{self, UnsafePermissions};

/// The suffixes of `SQLite`'s companion files: the write-ahead log and its index.
const COMPANION_SUFFIXES: [&str; 2] = ["-wal", "-shm"];

/// A lock file for programs that check whether a gateway is running.
const LOCK_SUFFIX: &str = ".lock";

/// Device and inode: the identity of a file, whatever its name.
type FileId = (u64, u64);

/// Stores that this process holds, and the path of each.
static HELD_STORES: Mutex<BTreeMap<FileId, PathBuf>> = Mutex::new(BTreeMap::new());

fn held_stores() -> MutexGuard<'static, BTreeMap<FileId, PathBuf>> {
    HELD_STORES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn identity(found: &Metadata) -> FileId {
    (found.dev(), found.ino())
}

/// Whether this is a file of a store that this process holds: it must not be opened, because
/// closing it would drop `SQLite`'s locks.
pub(super) fn is_of_a_store(found: &Metadata) -> bool {
    let held = held_stores();
    let this = identity(found);
    held.contains_key(&this)
        || held.values().any(|path| {
            let others = COMPANION_SUFFIXES.iter().map(|suffix| beside(path, suffix));
            let mut others = others.filter_map(|other| std::fs::metadata(other).ok());
            others.any(|other| identity(&other) == this)
        })
}

/// Why a store could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum StoreLockError {
    /// A process holds it, under this or another name.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// Others may access it.
    #[error("{}: expected {expected}, found {}; {}", path.display(), exposed.found, exposed.advice)]
    Exposed {
        /// The file or folder.
        path: PathBuf,
        /// What was expected.
        expected: &'static str,
        /// What is wrong.
        exposed: UnsafePermissions,
    },
    /// It has a second name: the log is beside one of the names, and a program that opens the other
    /// loses it.
    #[error(
        "{}: expected a file with one name, found {names} (hard links); remove the others",
        path.display()
    )]
    SecondName {
        /// The store.
        path: PathBuf,
        /// The number of names.
        names: u64,
    },
    /// The file or its folder cannot be used.
    #[error("{}: {error}", path.display())]
    Unusable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// An exclusive lock on a store, until it is dropped or the process ends. Drop it after the last
/// connection.
#[derive(Debug)]
pub struct StoreLock {
    /// The path as it was given.
    name: PathBuf,
    path: PathBuf,
    identity: FileId,
    file: File,
    lock: File,
}

impl StoreLock {
    /// The path without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks again once `SQLite` has created its files: another user may have created one first.
    ///
    /// # Errors
    /// Others may access one of them.
    pub fn recheck(&self) -> Result<(), StoreLockError> {
        look(&self.path, &BTreeMap::new())
    }

    /// The names of its files once `SQLite` has created them. Call it before anything is
    /// acknowledged as stored.
    ///
    /// # Errors
    /// One of them is missing, or is another file than the one that is held.
    pub fn names(&self) -> Result<StorePaths, StoreLockError> {
        let mut leading = vec![(self.name.clone(), self.identity)];
        if self.name != self.path {
            leading.push((self.path.clone(), self.identity));
        }
        for suffix in COMPANION_SUFFIXES {
            let path = beside(&self.path, suffix);
            let found = std::fs::metadata(&path).map_err(|error| unusable(&path, error))?;
            leading.push((path, identity(&found)));
        }
        let names = StorePaths(leading);
        match names.astray() {
            Some(path) => Err(unusable(path, io::Error::other("it was just replaced"))),
            None => Ok(names),
        }
    }

    /// Makes the names of new files durable by syncing their folder. `SQLite` holds no locks on the
    /// folder.
    ///
    /// # Errors
    /// They may not be durable.
    pub fn sync_folder(&self) -> Result<(), StoreLockError> {
        let folder = folder(&self.path);
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| unusable(folder, error))
    }
}

/// Every name under which the next start, or another program, looks for the files that are held.
#[derive(Debug, Default)]
pub struct StorePaths(Vec<(PathBuf, FileId)>);

impl StorePaths {
    /// The first name that does not lead to the held file any more: it was removed, replaced or
    /// moved, so the next start would not see later writes. Costs one `stat` per name.
    pub fn astray(&self) -> Option<&Path> {
        let leads = |path: &Path, held: &FileId| {
            let found = std::fs::metadata(path);
            // If it cannot be checked, it counts as missing.
            found.is_ok_and(|found| identity(&found) == *held)
        };
        let astray = self.0.iter().find(|(path, held)| !leads(path, held));
        astray.map(|(path, _)| path.as_path())
    }
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        // Unlocked explicitly, not only closed: a child process shares these descriptors between
        // fork and exec.
        let mut held = held_stores();
        let _ = (self.lock.unlock(), self.file.unlock());
        held.remove(&self.identity);
    }
}

/// Locks the store at this path for this process (S1), creating an empty file if there is none.
///
/// # Errors
/// [`StoreLockError`]; nothing was changed, except that an empty file may have been made.
pub fn hold(path: &Path) -> Result<StoreLock, StoreLockError> {
    let name = path.to_owned();
    let path = &real(path).map_err(|error| unusable(path, error))?;
    // Until it is registered, no other thread of this process may come between the check and the
    // open.
    let mut held = held_stores();
    look(path, &held)?;
    let (file, lock_path) = (private(path)?, beside(path, LOCK_SUFFIX));
    let found = file.metadata().map_err(|error| unusable(path, error))?;
    let identity = identity(&found);
    if held.contains_key(&identity) {
        // Another file took its name since the check. Closing it would drop locks, so it stays
        // open.
        std::mem::forget(file);
        return Err(StoreLockError::InUse(path.clone()));
    }
    take(&file, path, path)?;
    let lock = private(&lock_path)?;
    take(&lock, &lock_path, path)?;
    held.insert(identity, path.clone());
    Ok(StoreLock {
        name,
        path: path.clone(),
        identity,
        file,
        lock,
    })
}

/// Checks a store's files without opening anything, and returns the first problem.
///
/// # Errors
/// The first problem.
pub fn examine(path: &Path) -> Result<(), StoreLockError> {
    let path = real(path).map_err(|error| unusable(path, error))?;
    look(&path, &BTreeMap::new())
}

fn look(path: &Path, held: &BTreeMap<FileId, PathBuf>) -> Result<(), StoreLockError> {
    let folder = folder(path);
    if let Some(found) = there(folder)? {
        let expected = "a folder that nobody else may write to";
        let exposed = access::folder_of_the_store(folder, &found);
        refuse(folder, expected, exposed)?;
    }
    for suffix in ["", LOCK_SUFFIX].iter().chain(&COMPANION_SUFFIXES) {
        let one = beside(path, suffix);
        let Some(found) = there(&one)? else {
            continue;
        };
        if suffix.is_empty() && held.contains_key(&identity(&found)) {
            return Err(StoreLockError::InUse(one));
        }
        if !found.is_file() {
            let error = io::Error::other("expected a plain file");
            return Err(unusable(&one, error));
        }
        if found.nlink() > 1 {
            let names = found.nlink();
            return Err(StoreLockError::SecondName { path: one, names });
        }
        let expected = "a file that nobody else may read or write";
        let exposed = access::of_the_store(&one, &found);
        refuse(&one, expected, exposed)?;
    }
    Ok(())
}

fn refuse(
    path: &Path,
    expected: &'static str,
    exposed: Option<UnsafePermissions>,
) -> Result<(), StoreLockError> {
    let path = path.to_owned();
    match exposed {
        Some(exposed) => Err(StoreLockError::Exposed {
            path,
            expected,
            exposed,
        }),
        None => Ok(()),
    }
}

fn there(path: &Path) -> Result<Option<Metadata>, StoreLockError> {
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(path, error)),
    }
}

/// The path without symbolic links, so that the log is beside the file and not beside a link.
fn real(path: &Path) -> io::Result<PathBuf> {
    match std::fs::canonicalize(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => match path.file_name() {
            // A dangling link is found where the file should be, and is not a regular file.
            Some(name) => match std::fs::canonicalize(folder(path)) {
                Ok(folder) => Ok(folder.join(name)),
                // The folder does not exist yet.
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(path.to_owned()),
                Err(error) => Err(error),
            },
            None => Err(error),
        },
        other => other,
    }
}

pub(super) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

/// The same path with a suffix.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(suffix);
    PathBuf::from(beside)
}

/// Opens a file for its owner alone, creating it if it is missing (R-6.3.2-1a).
fn private(path: &Path) -> Result<File, StoreLockError> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true).mode(0o600);
    options.open(path).map_err(|error| unusable(path, error))
}

/// Whole-file locks (flock) belong to the descriptor, so they do not conflict with `SQLite`'s.
fn take(file: &File, path: &Path, store: &Path) -> Result<(), StoreLockError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(StoreLockError::InUse(store.to_owned())),
        Err(TryLockError::Error(error)) => Err(unusable(path, error)),
    }
}

fn unusable(path: &Path, error: io::Error) -> StoreLockError {
    StoreLockError::Unusable {
        path: path.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S1: a released store is free, also while a child process that is being started still has a
    /// copy of our descriptors.
    #[test]
    fn a_child_process_being_started_keeps_no_store_locked() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("paymux.db");
        let held = hold(&path).unwrap();
        assert!(matches!(hold(&path), Err(StoreLockError::InUse(_))));
        let copies = [
            held.file.try_clone().unwrap(),
            held.lock.try_clone().unwrap(),
        ];
        drop(held);
        assert!(hold(&path).is_ok());
        drop(copies);
    }
}
