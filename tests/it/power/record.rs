//! A record of a process's operations on the files of one folder, as written by `recorder.c`.

use std::ops::Range;

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DiskOperation {
    /// A process begins, with no descriptor open.
    Begin,
    /// Opens a file of the folder, or the folder itself, whose name is empty.
    Open { fd: i32, is_new: bool, name: String },
    /// Writes bytes of the record at an offset of the file.
    Write {
        fd: i32,
        at: usize,
        bytes: Range<usize>,
    },
    /// Sets the length of the file.
    Length { fd: i32, length: usize },
    /// Makes earlier changes of the file durable.
    Synchronise { fd: i32 },
    /// Removes the name.
    Unlink { name: String },
    /// Closes the descriptor.
    Close { fd: i32 },
}

impl DiskOperation {
    /// Whether a power loss after it can differ from one before it.
    pub(super) fn matters(&self) -> bool {
        match self {
            Self::Write { .. }
            | Self::Length { .. }
            | Self::Synchronise { .. }
            | Self::Unlink { .. } => true,
            Self::Open { is_new, .. } => *is_new,
            Self::Begin | Self::Close { .. } => false,
        }
    }
}

/// The recorded steps in order, and the bytes that they refer to.
pub(super) struct DiskRecording {
    pub(super) bytes: Vec<u8>,
    pub(super) steps: Vec<DiskOperation>,
}

impl DiskRecording {
    /// Parses a record; `folder` is the watched one.
    pub(super) fn read(bytes: Vec<u8>, folder: &str) -> Self {
        const HEAD: usize = 21;
        let mut steps = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let head = &bytes[at..at + HEAD];
            let fd = i32::from_ne_bytes(head[1..5].try_into().unwrap());
            let number = |from: usize| {
                let number = u64::from_ne_bytes(head[from..from + 8].try_into().unwrap());
                usize::try_from(number).unwrap()
            };
            let (number, length) = (number(5), number(13));
            let follows = at + HEAD..at + HEAD + length;
            let name = || {
                let path = std::str::from_utf8(&bytes[follows.clone()]).unwrap();
                let name = path.strip_prefix(folder).unwrap();
                name.trim_start_matches('/').to_owned()
            };
            steps.push(match head[0] {
                b'P' => DiskOperation::Begin,
                b'O' => DiskOperation::Open {
                    fd,
                    is_new: number == 1,
                    name: name(),
                },
                b'W' => DiskOperation::Write {
                    fd,
                    at: number,
                    bytes: follows.clone(),
                },
                b'T' => DiskOperation::Length { fd, length: number },
                b'S' => DiskOperation::Synchronise { fd },
                b'U' => DiskOperation::Unlink { name: name() },
                b'C' => DiskOperation::Close { fd },
                other => panic!("no such operation: {other}"),
            });
            at = follows.end;
        }
        Self { bytes, steps }
    }
}
