//! The file of a store, taken for this process alone by what the file is, not by its name. The one
//! descriptor that we have of it is opened before `SQLite` opens its own and closed after it.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::access::{self, UnsafePermissions};

/// What `SQLite` puts beside its file: the write-ahead log and its index.
const COMPANION_SUFFIXES: [&str; 2] = ["-wal", "-shm"];

/// Locked for those who look for a running gateway by it.
const LOCK_SUFFIX: &str = ".lock";

/// Device and number of a file: what it is, whatever it is called.
type FileId = (u64, u64);

/// Stores that this process holds, and the path of each.
static HELD_STORES: Mutex<BTreeMap<FileId, PathBuf>> = Mutex::new(BTreeMap::new());

fn held_stores() -> MutexGuard<'static, BTreeMap<FileId, PathBuf>> {
    HELD_STORES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn identity(found: &Metadata) -> FileId {
    (found.dev(), found.ino())
}

/// Whether this is a file of a store that this process holds: then it must not be opened, because
/// closing it would drop the locks of `SQLite`.
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

/// Why a store is not held.
#[derive(Debug, thiserror::Error)]
pub enum StoreLockError {
    /// Somebody holds it, under this or another name.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// Others may use it.
    #[error("{}: expected {expected}, found {}; {}", path.display(), exposed.found, exposed.advice)]
    Exposed {
        /// What they may use.
        path: PathBuf,
        /// What was expected instead.
        expected: &'static str,
        /// What is wrong.
        exposed: UnsafePermissions,
    },
    /// It has a second name: the log lies beside one of them, and whoever opens the other loses it.
    #[error(
        "{}: expected a file with one name, found {names} (hard links); remove the others",
        path.display()
    )]
    SecondName {
        /// The store.
        path: PathBuf,
        /// How many it has.
        names: u64,
    },
    /// The file or its folder cannot be used.
    #[error("{}: {error}", path.display())]
    Unusable {
        /// What cannot be used.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// A store that is this process's alone, until this is dropped or the process ends. To be dropped
/// after the last connection.
#[derive(Debug)]
pub struct StoreLock {
    /// As it was named.
    name: PathBuf,
    path: PathBuf,
    identity: FileId,
    file: File,
    lock: File,
}

impl StoreLock {
    /// Where it really is, whatever name led there.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks again once `SQLite` has made its files: what somebody else put there first is not ours.
    ///
    /// # Errors
    /// Others may use one of them.
    pub fn recheck(&self) -> Result<(), StoreLockError> {
        look(&self.path, &BTreeMap::new())
    }

    /// What leads to its files, once `SQLite` has made them: to be asked before anybody is told that
    /// something is stored.
    ///
    /// # Errors
    /// One of them is not there, or another file than the one that is held.
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

    /// Makes the names of new files durable, which are their folder's content. Nothing of `SQLite`'s
    /// is locked by a folder.
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
    /// The first that does not lead to what is held any more: it was removed, replaced or moved, so
    /// whatever is written from now on is lost to the next start. Costs a `stat` for each.
    pub fn astray(&self) -> Option<&Path> {
        let leads = |path: &Path, held: &FileId| {
            let found = std::fs::metadata(path);
            // What cannot be seen is not known to be there.
            found.is_ok_and(|found| identity(&found) == *held)
        };
        let astray = self.0.iter().find(|(path, held)| !leads(path, held));
        astray.map(|(path, _)| path.as_path())
    }
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        // Unlocked, not only closed: a child that is just being started has these descriptors too, until it
        // is the other program.
        let mut held = held_stores();
        let _ = (self.lock.unlock(), self.file.unlock());
        held.remove(&self.identity);
    }
}

/// Takes the store at this path for this process (S1), and makes an empty file where there is none.
///
/// # Errors
/// [`StoreLockError`]; nothing was changed, except that an empty file may have been made.
pub fn hold(path: &Path) -> Result<StoreLock, StoreLockError> {
    let name = path.to_owned();
    let path = &real(path).map_err(|error| unusable(path, error))?;
    // Until it is registered nobody else of this process may come between looking and opening.
    let mut held = held_stores();
    look(path, &held)?;
    let (file, lock_path) = (private(path)?, beside(path, LOCK_SUFFIX));
    let found = file.metadata().map_err(|error| unusable(path, error))?;
    let identity = identity(&found);
    if held.contains_key(&identity) {
        // Another took its name since it was looked at. Closing it is what must not happen.
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

/// What stands in the way of a store at this path, as far as can be seen without opening anything.
///
/// # Errors
/// The first thing that does.
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

/// The path without symbolic links, so that the log lies beside the file and not beside a link.
fn real(path: &Path) -> io::Result<PathBuf> {
    match std::fs::canonicalize(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => match path.file_name() {
            // A link to nothing is found where the file should be, and is no plain file.
            Some(name) => match std::fs::canonicalize(folder(path)) {
                Ok(folder) => Ok(folder.join(name)),
                // There is no folder yet.
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

/// A path beside this one: the same with something behind it.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(suffix);
    PathBuf::from(beside)
}

/// Opens a file for its owner alone, making it where it is missing (R-6.3.2-1a).
fn private(path: &Path) -> Result<File, StoreLockError> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true).mode(0o600);
    options.open(path).map_err(|error| unusable(path, error))
}

/// Locks of a whole file belong to the descriptor, so they meet none of `SQLite`'s.
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

    /// S1: a store that was given back is free, also while a child that is being started still has a
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
