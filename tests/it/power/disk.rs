//! A disk that keeps what was synchronised and may keep, lose or tear everything else.
//!
//! A file and its name are synchronised separately: contents and length with the file, new and
//! removed names with the folder. Unsynchronised writes may have reached the disk in any order:
//! each is there, is missing, or is there in some of its sectors. A sector is written whole or not
//! at all.

use std::collections::BTreeMap;
use std::ops::Range;

use super::record::{DiskOperation, DiskRecording};
use crate::world::random::SeededRandom;

/// The bytes of an atomic disk write.
const SECTOR: usize = 512;

/// The files found after the power loss.
pub(super) type DiskImage = BTreeMap<String, Vec<u8>>;

/// What happens to unsynchronised writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LossExtent {
    /// None is lost: the process was killed without a power loss.
    Nothing,
    /// All are lost.
    Everything,
    /// Each is lost or not.
    Some,
    /// Of each, some sectors are lost.
    Torn,
}

impl LossExtent {
    pub(super) const ALL: [Self; 4] = [Self::Nothing, Self::Everything, Self::Some, Self::Torn];
}

/// A synchronisation that does nothing, which the replay must detect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FalseSync {
    /// Of the file with this suffix.
    Of(&'static str),
    /// Of the folder.
    OfFolder,
}

/// An unsynchronised change of a file.
#[derive(Debug, Clone)]
enum UnsyncedWrite {
    Bytes(usize, Range<usize>),
    Length(usize),
}

#[derive(Debug, Default)]
struct SimulatedFile {
    durable: Vec<u8>,
    pending: Vec<UnsyncedWrite>,
    is_lied_about: bool,
}

#[derive(Debug, Clone, Copy)]
enum OpenHandle {
    File(usize),
    Folder,
}

pub(super) struct SimulatedDisk<'r> {
    record: &'r DiskRecording,
    lie: Option<FalseSync>,
    files: Vec<SimulatedFile>,
    /// The names that a process sees.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<(String, Option<usize>)>,
    open: BTreeMap<i32, OpenHandle>,
}

impl<'r> SimulatedDisk<'r> {
    pub(super) fn new(record: &'r DiskRecording, lie: Option<FalseSync>) -> Self {
        Self {
            record,
            lie,
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            open: BTreeMap::new(),
        }
    }

    /// Applies the next step; returns the bytes if it wrote to the file of that name.
    pub(super) fn apply_step(
        &mut self,
        step: &DiskOperation,
        watched: &str,
    ) -> Option<Range<usize>> {
        match step {
            DiskOperation::Begin => self.open.clear(),
            DiskOperation::Open { fd, name, .. } if name.is_empty() => {
                self.open.insert(*fd, OpenHandle::Folder);
            }
            DiskOperation::Open { fd, name, .. } => {
                let file = self.named(name);
                self.open.insert(*fd, OpenHandle::File(file));
            }
            DiskOperation::Write { fd, at, bytes } => {
                let file = self.file(*fd);
                self.files[file]
                    .pending
                    .push(UnsyncedWrite::Bytes(*at, bytes.clone()));
                let is_watched = self.names.get(watched) == Some(&file);
                return is_watched.then(|| bytes.clone());
            }
            DiskOperation::Length { fd, length } => {
                let file = self.file(*fd);
                self.files[file]
                    .pending
                    .push(UnsyncedWrite::Length(*length));
            }
            DiskOperation::Synchronise { fd } => match self.open[fd] {
                OpenHandle::Folder if self.lie != Some(FalseSync::OfFolder) => {
                    for (name, file) in std::mem::take(&mut self.pending_names) {
                        enter(&mut self.durable_names, name, file);
                    }
                }
                OpenHandle::File(file) if !self.files[file].is_lied_about => {
                    let SimulatedFile {
                        durable, pending, ..
                    } = &mut self.files[file];
                    for one in pending.drain(..) {
                        apply(durable, &one, &self.record.bytes, |_| true);
                    }
                }
                OpenHandle::Folder | OpenHandle::File(_) => (),
            },
            DiskOperation::Unlink { name } => {
                self.names.remove(name);
                self.pending_names.push((name.clone(), None));
            }
            DiskOperation::Close { fd } => {
                self.open.remove(fd);
            }
        }
        None
    }

    fn named(&mut self, name: &str) -> usize {
        if let Some(known) = self.names.get(name) {
            return *known;
        }
        let is_lied_about = matches!(self.lie, Some(FalseSync::Of(end)) if name.ends_with(end));
        self.files.push(SimulatedFile {
            is_lied_about,
            ..SimulatedFile::default()
        });
        let file = self.files.len() - 1;
        self.names.insert(name.to_owned(), file);
        self.pending_names.push((name.to_owned(), Some(file)));
        file
    }

    fn file(&self, fd: i32) -> usize {
        match self.open[&fd] {
            OpenHandle::File(file) => file,
            OpenHandle::Folder => panic!("a folder is not written"),
        }
    }

    /// The files after a power loss at this point.
    pub(super) fn image(&self, loss: LossExtent, dice: &mut SeededRandom) -> DiskImage {
        let mut names = self.durable_names.clone();
        for (name, file) in &self.pending_names {
            let is_there = match loss {
                LossExtent::Nothing => true,
                LossExtent::Everything => false,
                LossExtent::Some | LossExtent::Torn => dice.one_in(2),
            };
            if is_there {
                enter(&mut names, name.clone(), *file);
            }
        }
        // From nearly none to nearly all.
        let many = 1 + dice.below(8);
        let mut image = DiskImage::new();
        for (name, file) in names {
            let SimulatedFile {
                durable, pending, ..
            } = &self.files[file];
            let mut content = durable.clone();
            for one in pending {
                match loss {
                    LossExtent::Nothing => apply(&mut content, one, &self.record.bytes, |_| true),
                    LossExtent::Everything => break,
                    LossExtent::Some if dice.below(9) < many => {
                        apply(&mut content, one, &self.record.bytes, |_| true);
                    }
                    LossExtent::Some => (),
                    LossExtent::Torn => {
                        let is_there = |_| dice.below(9) < many;
                        apply(&mut content, one, &self.record.bytes, is_there);
                    }
                }
            }
            image.insert(name, content);
        }
        image
    }
}

fn enter(names: &mut BTreeMap<String, usize>, name: String, file: Option<usize>) {
    match file {
        Some(file) => names.insert(name, file),
        None => names.remove(&name),
    };
}

/// Applies some sectors of a write, or a length, to a content. Unwritten bytes read as zero.
fn apply(
    content: &mut Vec<u8>,
    pending: &UnsyncedWrite,
    recorded: &[u8],
    mut is_there: impl FnMut(usize) -> bool,
) {
    match pending {
        UnsyncedWrite::Length(length) => {
            if is_there(0) {
                content.resize(*length, 0);
            }
        }
        UnsyncedWrite::Bytes(at, bytes) => {
            let (mut from, end) = (*at, at + bytes.len());
            while from < end {
                let until = end.min((from / SECTOR + 1) * SECTOR);
                if is_there(from / SECTOR) {
                    if content.len() < until {
                        content.resize(until, 0);
                    }
                    let source = bytes.start + (from - at);
                    let part = &recorded[source..source + (until - from)];
                    content[from..until].copy_from_slice(part);
                }
                from = until;
            }
        }
    }
}
