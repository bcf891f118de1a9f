//! The store's file belongs to one process and one user, whatever path names it and whichever
//! program reads it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use paymux::files;
use paymux::store::{OpenError, Store, StoreError, open};

use super::Stores;
use super::builders::{done, place};
use super::embedded::{EmbeddedStores, open_with};

/// What an unrelated program does: a copy by `VACUUM INTO`, then a plain read; it prints how many
/// orders it saw.
const OTHER_PROGRAM: &str = "import sqlite3, sys
store = sqlite3.connect(sys.argv[1])
store.execute('VACUUM INTO ?', (sys.argv[2],))
print(store.execute('SELECT COUNT(*) FROM orders').fetchone()[0])
store.close()
for name in (sys.argv[1], sys.argv[1] + '-wal', sys.argv[1] + '-shm'):
    open(name, 'rb').read()
";

fn seen_by_another(file: &Path, copy: &Path) -> u32 {
    let mut python = Command::new("python3");
    let ran = python
        .args(["-c", OTHER_PROGRAM])
        .arg(file)
        .arg(copy)
        .output();
    let ran = ran.expect("python3 is missing: `make setup-tests` installs it");
    let said = String::from_utf8_lossy(&ran.stdout);
    let why = String::from_utf8_lossy(&ran.stderr);
    said.trim()
        .parse()
        .unwrap_or_else(|_| panic!("{said}{why}"))
}

/// S1, S3: another program that opens, copies and closes the file does not remove our log: what is
/// acknowledged afterwards is visible to the next reader.
#[tokio::test]
async fn another_program_that_looks_takes_nothing_away() {
    let stores = EmbeddedStores::new();
    let store = stores.open();
    let copies: Vec<PathBuf> = (1..=3)
        .map(|n| stores.file().with_extension(format!("copy{n}")))
        .collect();
    for (n, copy) in (1..).zip(&copies) {
        done(&store, place(n, None)).await;
        assert_eq!(seen_by_another(&stores.file(), copy), n);
    }
}

/// S1: the process never opens its own store's file outside `SQLite`, not even when somebody
/// names it as a statement or a key: closing it would drop the locks of all connections.
#[tokio::test]
async fn a_held_store_is_never_opened_as_something_else() {
    let stores = EmbeddedStores::new();
    let store = stores.open();
    done(&store, place(1, None)).await;
    let link = stores.file().with_extension("link");
    symlink(stores.file(), &link).unwrap();
    let beside = |suffix: &str| files::store_lock::beside(&stores.file(), suffix);
    for path in [stores.file(), link, beside("-wal"), beside("-shm")] {
        let refused = files::open(&path).unwrap_err().to_string();
        assert!(
            refused.contains("other than this gateway's store"),
            "{refused}"
        );
    }
    drop(store);
    assert!(files::open(&stores.file()).is_ok());
}

/// S1: one store, one process, under any path: a link, a relative path, a link to its folder.
#[tokio::test]
async fn another_name_is_the_same_store() {
    let stores = EmbeddedStores::new();
    let store = stores.open();
    let folder = stores.file().parent().unwrap().to_owned();
    let elsewhere = tempfile::TempDir::new().unwrap();
    let (link, of_folder) = (
        elsewhere.path().join("link.db"),
        elsewhere.path().join("link"),
    );
    symlink(stores.file(), &link).unwrap();
    symlink(&folder, &of_folder).unwrap();
    let detour = folder.join("..").join(folder.file_name().unwrap());
    for other in [
        link.clone(),
        of_folder.join("paymux.db"),
        detour.join("paymux.db"),
    ] {
        let opened = open_with(&other, 1, 2);
        assert!(matches!(opened, Err(OpenError::InUse(_))), "{other:?}");
    }
    drop(store);
    // Opened only through the link it works, with its log beside the file.
    drop(open_with(&link, 1, 2).unwrap());
    assert!(!files::store_lock::beside(&link, ".lock").exists());
}

/// S1: for a file with two hard links the log is beside one name; opening the other name would lose
/// it.
#[tokio::test]
async fn a_store_with_a_second_name_is_refused() {
    let stores = EmbeddedStores::new();
    drop(stores.open());
    let second = stores.file().with_extension("second");
    fs::hard_link(stores.file(), &second).unwrap();
    for name in [stores.file(), second.clone()] {
        let why = open_with(&name, 1, 2).err().unwrap().to_string();
        assert!(why.contains("one name"), "{why}");
    }
    fs::remove_file(second).unwrap();
    assert!(open_with(&stores.file(), 1, 2).is_ok());
}

/// R-6.3.2-1a: a store that other users may read, write or replace aborts start-up, with an
/// instruction.
#[tokio::test]
async fn a_store_that_others_may_use_stops_the_start() {
    let stores = EmbeddedStores::new();
    drop(stores.open());
    let log = files::store_lock::beside(&stores.file(), "-wal");
    super::builders::private(&log, &[]);
    let folder = stores.file().parent().unwrap().to_owned();
    let lock = files::store_lock::beside(&stores.file(), ".lock");
    for (path, mode, says) in [
        (stores.file(), 0o644, "found mode 644; chmod 600"),
        (stores.file(), 0o620, "found mode 620; chmod 600"),
        (log.clone(), 0o640, "found mode 640; chmod 600"),
        (lock, 0o666, "found mode 666; chmod 600"),
        (folder, 0o777, "found mode 777; chmod go-w"),
    ] {
        let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let before = fs::metadata(&path).unwrap().permissions().mode();
        set(mode);
        let why = open_with(&stores.file(), 1, 2).err().unwrap().to_string();
        set(before);
        assert!(why.contains(says), "{why}");
    }
    drop(stores.open());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&stores.file()), 0o600);
    let _open = stores.open();
    assert_eq!(mode(&log), 0o600, "what is made beside it is as closed");
}

/// Opens a store, and returns the reasons passed to `on_fatal`.
fn watched(path: &Path) -> (Arc<Store>, Receiver<String>) {
    let (tell, reported) = channel();
    let fatal = Box::new(move |why: &str| drop(tell.send(why.to_owned())));
    let seal = Arc::new(EmbeddedStores::seal());
    let store = open(path, seal, fatal, Box::new(|_, _| ())).unwrap();
    (store, reported)
}

/// Longer than two checks of the store's path, which are a second apart.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Replaces the file under a running gateway, given the file and an unused path.
type ReplaceFile = fn(&Path, &Path);

const REPLACED: [(&str, ReplaceFile); 6] = [
    ("renamed over", |file, other| {
        seen_by_another(file, other);
        fs::rename(other, file).unwrap();
    }),
    ("copied over and put in its place", |file, other| {
        fs::copy(file, other).unwrap();
        fs::remove_file(file).unwrap();
        fs::rename(other, file).unwrap();
    }),
    ("removed", |file, _| fs::remove_file(file).unwrap()),
    ("without its log", |file, _| {
        fs::remove_file(files::store_lock::beside(file, "-wal")).unwrap();
    }),
    ("without the index of its log", |file, _| {
        fs::remove_file(files::store_lock::beside(file, "-shm")).unwrap();
    }),
    ("its folder moved", |file, other| {
        fs::rename(file.parent().unwrap(), other).unwrap();
    }),
];

/// S1, S3: a store that is removed, replaced or moved under the process acknowledges nothing more,
/// because the next start would not find it. The process is told to stop, and why; also while
/// nothing is written.
#[tokio::test]
async fn a_store_that_was_replaced_acknowledges_nothing_more() {
    for (how, replace) in REPLACED {
        for writes in [true, false] {
            let stores = tempfile::TempDir::new().unwrap();
            let folder = stores.path().join("var");
            fs::create_dir(&folder).unwrap();
            let file = folder.join("paymux.db");
            let (store, reported) = watched(&file);
            done(&store, place(1, None)).await;
            replace(&file, &stores.path().join("other"));
            if writes {
                let refused = store.changes.commit(&place(2, None)).await;
                let unresolved = matches!(refused, Err(StoreError::OutcomeUnknown(_)));
                assert!(unresolved, "{how}: {refused:?}");
            }
            let why = reported.recv_timeout(TIMEOUT).expect(how);
            assert!(why.contains("removed, replaced or moved"), "{how}: {why}");
            assert!(
                store.changes.commit(&place(3, None)).await.is_err(),
                "{how}"
            );
        }
    }
}

/// S1: a link redirected to another store counts as a replaced store.
#[tokio::test]
async fn a_link_that_leads_elsewhere_acknowledges_nothing_more() {
    let (stores, others) = (EmbeddedStores::new(), EmbeddedStores::new());
    drop((stores.open(), others.open()));
    let elsewhere = tempfile::TempDir::new().unwrap();
    let link = elsewhere.path().join("link.db");
    symlink(stores.file(), &link).unwrap();
    let (store, _reported) = watched(&link);
    done(&store, place(1, None)).await;
    fs::remove_file(&link).unwrap();
    symlink(others.file(), &link).unwrap();
    assert!(store.changes.commit(&place(2, None)).await.is_err());
}

/// S1: start-up waits for another program's lock, as a running gateway does.
#[tokio::test]
async fn a_start_waits_for_anothers_lock() {
    let stores = EmbeddedStores::new();
    drop(stores.open());
    let other = stores.look();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (tell, opened) = channel();
    let file = stores.file();
    let opening = std::thread::spawn(move || {
        let store = open_with(&file, 1, 2);
        let _ = tell.send(store.as_ref().err().map(ToString::to_string));
        store
    });
    // Waiting cannot be observed; an immediate refusal would arrive well within this time.
    let early = opened.recv_timeout(Duration::from_millis(500));
    assert!(early.is_err(), "{early:?}");
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(opened.recv_timeout(TIMEOUT), Ok(None));
    drop(opening.join().unwrap());
}
