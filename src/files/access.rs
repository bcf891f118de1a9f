//! File permissions: a secret is for its owner, or for a group if root mounted it; the store is for
//! the process that serves it, and nobody else may put files into its folder (R-6.3.2-1a).

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{getegid, geteuid, getgroups};

/// The permission bits of a mode.
const MODE: u32 = 0o777;

/// The sticky bit: nobody may remove others' files from a folder.
const STICKY: u32 = 0o1000;

/// The file is accessible to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsafePermissions {
    /// What was found, as text.
    pub found: String,
    /// What to do, as text; a command where there is one.
    pub advice: String,
}

/// The user and groups of this process.
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

/// A file's owner, group and mode.
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

/// Checks a file that contains a secret: it belongs to this process's user or to root, and nobody
/// else may read it. A secret mounted by root may be readable by our group; with an ACL entry for
/// our user alone, as service managers set it, the mode shows only root's own group.
pub fn secret(path: &Path, found: &Metadata) -> Option<UnsafePermissions> {
    judge_secret(path, &ProcessOwner::now(), FileOwnership::of(found))
}

fn judge_secret(
    path: &Path,
    us: &ProcessOwner,
    ownership: FileOwnership,
) -> Option<UnsafePermissions> {
    let is_ours = ownership.group == 0 || us.groups.contains(&ownership.group);
    let is_for_us = ownership.user == 0 && us.user != 0 && is_ours;
    let nobodys = if is_for_us { 0o037 } else { 0o077 };
    check_owner(path, us, ownership, &[us.user, 0])
        .or_else(|| closed(path, ownership, nobodys, "600"))
}

/// Checks a file of the store: it belongs to this process's user, who alone may use it.
pub fn of_the_store(path: &Path, found: &Metadata) -> Option<UnsafePermissions> {
    let (us, ownership) = (ProcessOwner::now(), FileOwnership::of(found));
    check_owner(path, &us, ownership, &[us.user]).or_else(|| closed(path, ownership, 0o077, "600"))
}

/// Checks the store's folder: nobody else may remove or replace files in it. In a folder with the
/// sticky bit (`/tmp`, a fresh tmpfs) nobody can.
pub fn folder_of_the_store(path: &Path, found: &Metadata) -> Option<UnsafePermissions> {
    let (us, ownership) = (ProcessOwner::now(), FileOwnership::of(found));
    let nobodys = if found.mode() & STICKY == 0 { 0o022 } else { 0 };
    check_owner(path, &us, ownership, &[us.user, 0])
        .or_else(|| closed(path, ownership, nobodys, "go-w"))
}

fn check_owner(
    path: &Path,
    us: &ProcessOwner,
    ownership: FileOwnership,
    owners: &[u32],
) -> Option<UnsafePermissions> {
    let (user, ours, name) = (ownership.user, us.user, path.display());
    (!owners.contains(&user)).then(|| UnsafePermissions {
        found: format!("owner {user}, and this process runs as {ours}"),
        advice: format!("chown {ours} {name}, or run as {user}"),
    })
}

fn closed(
    path: &Path,
    ownership: FileOwnership,
    nobodys: u32,
    to: &str,
) -> Option<UnsafePermissions> {
    let (mode, name) = (ownership.mode, path.display());
    (mode & nobodys != 0).then(|| UnsafePermissions {
        found: format!("mode {mode:o}"),
        advice: format!("chmod {to} {name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found_text(us: &ProcessOwner, user: u32, group: u32, mode: u32) -> Option<String> {
        let ownership = FileOwnership { user, group, mode };
        judge_secret(Path::new("a.key"), us, ownership).map(|exposed| exposed.found)
    }

    /// R-6.3.2-1a: a secret is accessible to its owner only; one that root mounted for our group is
    /// accessible to us, for reading only.
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
                found_text(&us, user, group, mode),
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
            assert_eq!(found_text(&us, user, group, mode).as_deref(), Some(found));
        }
        let root = ProcessOwner {
            user: 0,
            groups: vec![0],
        };
        assert_eq!(found_text(&root, 0, 0, 0o640).as_deref(), Some("mode 640"));
    }
}
