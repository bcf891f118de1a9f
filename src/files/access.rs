//! Who else may use a file: a secret is for its owner, or for a group by root's hand; the store is
//! for the process that serves it, and nobody else may put files into its folder (R-6.3.2-1a).

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{getegid, geteuid, getgroups};

/// The bits of a mode that say who may do what.
const MODE: u32 = 0o777;

/// The bit that keeps everybody from taking others' files out of a folder.
const STICKY: u32 = 0o1000;

/// Somebody else may use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsafePermissions {
    /// What was found, for people.
    pub found: String,
    /// What to do, for people; a command where there is one.
    pub advice: String,
}

/// Who this process is, for the system.
#[derive(Debug, Clone)]
struct ProcessOwner {
    user: u32,
    groups: Vec<u32>,
}

impl ProcessOwner {
    fn now() -> Self {
        let mut groups = vec![getegid().as_raw()];
        let others = getgroups().unwrap_or_default();
        groups.extend(others.into_iter().map(rustix::fs::Gid::as_raw));
        Self {
            user: geteuid().as_raw(),
            groups,
        }
    }
}

/// Whose a file is and what its mode says.
#[derive(Debug, Clone, Copy)]
struct FileOwnership {
    user: u32,
    group: u32,
    mode: u32,
}

impl FileOwnership {
    fn of(found: &Metadata) -> Self {
        Self {
            user: found.uid(),
            group: found.gid(),
            mode: found.mode() & MODE,
        }
    }
}

/// What is wrong with a file that holds a secret: it belongs to this process's user, or to root,
/// and nobody else may read it. As secrets are mounted, root may let our group read one; of an entry for our
/// user alone, as service managers write it, the mode shows only that root's own group might.
pub fn secret(path: &Path, found: &Metadata) -> Option<UnsafePermissions> {
    judge_secret(path, &ProcessOwner::now(), FileOwnership::of(found))
}

fn judge_secret(
    path: &Path,
    us: &ProcessOwner,
    stands: FileOwnership,
) -> Option<UnsafePermissions> {
    let is_ours = stands.group == 0 || us.groups.contains(&stands.group);
    let is_for_us = stands.user == 0 && us.user != 0 && is_ours;
    let nobodys = if is_for_us { 0o037 } else { 0o077 };
    check_owner(path, us, stands, &[us.user, 0]).or_else(|| closed(path, stands, nobodys, "600"))
}

/// What is wrong with a file of the store: it belongs to this process's user, who alone may use it.
pub fn of_the_store(path: &Path, found: &Metadata) -> Option<UnsafePermissions> {
    let (us, stands) = (ProcessOwner::now(), FileOwnership::of(found));
    check_owner(path, &us, stands, &[us.user]).or_else(|| closed(path, stands, 0o077, "600"))
}

/// What is wrong with the folder of the store: nobody else may take files out of it or put others in
/// their place. In a folder with the sticky bit (`/tmp`, a fresh tmpfs) nobody can.
pub fn folder_of_the_store(path: &Path, found: &Metadata) -> Option<UnsafePermissions> {
    let (us, stands) = (ProcessOwner::now(), FileOwnership::of(found));
    let nobodys = if found.mode() & STICKY == 0 { 0o022 } else { 0 };
    check_owner(path, &us, stands, &[us.user, 0]).or_else(|| closed(path, stands, nobodys, "go-w"))
}

fn check_owner(
    path: &Path,
    us: &ProcessOwner,
    stands: FileOwnership,
    owners: &[u32],
) -> Option<UnsafePermissions> {
    let (user, ours, name) = (stands.user, us.user, path.display());
    (!owners.contains(&user)).then(|| UnsafePermissions {
        found: format!("owner {user}, and this process runs as {ours}"),
        advice: format!("chown {ours} {name}, or run as {user}"),
    })
}

fn closed(path: &Path, stands: FileOwnership, nobodys: u32, to: &str) -> Option<UnsafePermissions> {
    let (mode, name) = (stands.mode, path.display());
    (mode & nobodys != 0).then(|| UnsafePermissions {
        found: format!("mode {mode:o}"),
        advice: format!("chmod {to} {name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(us: &ProcessOwner, user: u32, group: u32, mode: u32) -> Option<String> {
        let stands = FileOwnership { user, group, mode };
        judge_secret(Path::new("a.key"), us, stands).map(|exposed| exposed.found)
    }

    /// R-6.3.2-1a: a secret is its owner's alone; one that root mounted for our group is ours too,
    /// to be read and no more.
    #[test]
    fn a_secret_is_for_its_owner_or_mounted_for_our_group() {
        let us = ProcessOwner {
            user: 1000,
            groups: vec![1000, 2000],
        };
        let mine = [
            (1000, 1000, 0o600),
            (1000, 7, 0o400),
            (0, 2000, 0o440),
            (0, 2000, 0o640),
            (0, 0, 0o440),
        ];
        for (user, group, mode) in mine {
            assert_eq!(
                told(&us, user, group, mode),
                None,
                "{user}:{group} {mode:o}"
            );
        }
        for (user, group, mode, found) in [
            (1000, 1000, 0o640, "mode 640"),
            (0, 2000, 0o444, "mode 444"),
            (0, 2000, 0o460, "mode 460"),
            (0, 3000, 0o440, "mode 440"),
            (7, 1000, 0o400, "owner 7, and this process runs as 1000"),
        ] {
            assert_eq!(told(&us, user, group, mode).as_deref(), Some(found));
        }
        let root = ProcessOwner {
            user: 0,
            groups: vec![0],
        };
        assert_eq!(told(&root, 0, 0, 0o640).as_deref(), Some("mode 640"));
    }
}
