//! The requests of a [`PipeDir`](super::PipeDir) as bytes.
//!
//! Guarantee: what is decoded is within its bounds, whatever the bytes are: names are relative
//! and have no `..`, lengths and offsets are small enough to be added.

use std::io::{self, ErrorKind, Read, Write};

use super::dir::{File, NotAFile, Open};
use crate::workdir::mechanism::Mechanism;

/// A frame that asks for nothing.
pub(super) const SIGN_OF_LIFE: &[u8] = &[];
/// No frame is longer, in bytes.
pub(super) const LONGEST: usize = (1 << 20) + 4096;
/// So much is read or written by one request.
pub(super) const PIECE: usize = 1 << 20;
/// No file is longer: its offsets can be added.
const LARGEST_FILE: u64 = 1 << 42;
/// The longest name, and the most folders in it.
const LONGEST_NAME: usize = 1024;
const DEEPEST: usize = 40;

/// What is asked of a file that is open: it has a number that the asking side chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Len,
    Inode,
    Read {
        offset: u64,
        len: u32,
    },
    Write {
        offset: u64,
        bytes: Vec<u8>,
    },
    Sync,
    /// A sync that is not answered.
    SyncFirst,
    TryLock(Mechanism),
    IsLocked(Mechanism),
    Unlock(Mechanism),
    Modified,
    Close,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Open {
        file: u32,
        name: String,
        how: Open,
    },
    Of {
        file: u32,
        ask: Ask,
    },
    /// Opens a file and tries to lock it; `again` is the number of the second handle.
    Lock {
        file: u32,
        again: u32,
        by: Mechanism,
        name: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove(String),
    InodeOf(String),
    List(String),
    MakeDir(String),
    SyncNames(String),
    /// Opens a file that a task needs, which is not in the workdir, to read it.
    Input {
        file: u32,
        name: String,
    },
    /// Makes a file with this content; a name that is taken is left alone.
    Put {
        name: String,
        bytes: Vec<u8>,
    },
}

impl Request {
    /// Whether the asking side waits for an answer. What went wrong with another is the answer to
    /// the next request about its file.
    pub(super) fn is_answered(&self) -> bool {
        let silent = |ask: &Ask| {
            use Ask::{Close, SyncFirst, Unlock, Write};
            matches!(ask, Write { .. } | SyncFirst | Unlock(_) | Close)
        };
        match self {
            Self::Of { ask, .. } => !silent(ask),
            Self::Put { .. } => false,
            _ => true,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Open { file, name, how } => {
                let how = HOWS.iter().position(|known| known == how).unwrap_or(0);
                out.extend([0, how.to_le_bytes()[0]]);
                out.extend(file.to_le_bytes());
                out.extend(name.as_bytes());
            }
            Self::Of { file, ask } => {
                let (op, rest) = match ask {
                    Ask::Len => (1, Vec::new()),
                    Ask::Inode => (2, Vec::new()),
                    Ask::Read { offset, len } => {
                        (3, [&offset.to_le_bytes()[..], &len.to_le_bytes()].concat())
                    }
                    Ask::Write { offset, bytes } => {
                        (4, [&offset.to_le_bytes()[..], bytes].concat())
                    }
                    Ask::Sync => (5, Vec::new()),
                    Ask::TryLock(by) => (6, vec![number(*by)]),
                    Ask::IsLocked(by) => (7, vec![number(*by)]),
                    Ask::Unlock(by) => (8, vec![number(*by)]),
                    Ask::Modified => (9, Vec::new()),
                    Ask::Close => (10, Vec::new()),
                    Ask::SyncFirst => (19, Vec::new()),
                };
                out.push(op);
                out.extend(file.to_le_bytes());
                out.extend(rest);
            }
            Self::Lock {
                file,
                again,
                by,
                name,
            } => {
                let [file, again] = [file, again].map(|number| number.to_le_bytes());
                out = named(18, &[&file, &again, &[number(*by)], name.as_bytes()]);
            }
            Self::Rename { from, to } => out = named(11, &[from.as_bytes(), b"\0", to.as_bytes()]),
            Self::Remove(name) => out = named(12, &[name.as_bytes()]),
            Self::InodeOf(name) => out = named(13, &[name.as_bytes()]),
            Self::List(name) => out = named(14, &[name.as_bytes()]),
            Self::MakeDir(name) => out = named(15, &[name.as_bytes()]),
            Self::SyncNames(name) => out = named(16, &[name.as_bytes()]),
            Self::Input { file, name } => {
                out = named(20, &[&file.to_le_bytes(), name.as_bytes()]);
            }
            Self::Put { name, bytes } => out = named(17, &[name.as_bytes(), b"\0", bytes]),
        }
        out
    }

    /// A request of anybody; none when it is not one, or is out of bounds.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (op, rest) = bytes.split_first()?;
        Some(match op {
            0 => {
                let (how, rest) = rest.split_first()?;
                let (file, name) = split_number(rest)?;
                Self::Open {
                    file,
                    name: file_name(name)?,
                    how: *HOWS.get(usize::from(*how))?,
                }
            }
            1..=10 | 19 => {
                let (file, rest) = split_number(rest)?;
                Self::Of {
                    file,
                    ask: ask(*op, rest)?,
                }
            }
            11 => {
                let at = rest.iter().position(|byte| *byte == 0)?;
                Self::Rename {
                    from: file_name(&rest[..at])?,
                    to: file_name(&rest[at + 1..])?,
                }
            }
            12 => Self::Remove(file_name(rest)?),
            13 => Self::InodeOf(file_name(rest)?),
            14 => Self::List(folder_name(rest)?),
            15 => Self::MakeDir(file_name(rest)?),
            16 => Self::SyncNames(folder_name(rest)?),
            17 => {
                let at = rest.iter().position(|byte| *byte == 0)?;
                Self::Put {
                    name: file_name(&rest[..at])?,
                    bytes: rest[at + 1..].to_vec(),
                }
            }
            18 => {
                let (file, rest) = split_number(rest)?;
                let (again, rest) = split_number(rest)?;
                let (by, name) = rest.split_first()?;
                Self::Lock {
                    file,
                    again,
                    by: mechanism(&[*by])?,
                    name: file_name(name)?,
                }
            }
            20 => {
                let (file, name) = split_number(rest)?;
                // It is compared with those that are known, whatever it is.
                let name = str::from_utf8(name).ok()?.to_owned();
                Self::Input { file, name }
            }
            _ => return None,
        })
    }
}

fn ask(op: u8, rest: &[u8]) -> Option<Ask> {
    let by = || mechanism(rest);
    Some(match op {
        3 => {
            let (offset, rest) = split_offset(rest)?;
            let (len, rest) = split_number(rest)?;
            let is_good = rest.is_empty() && len as usize <= PIECE;
            is_good.then_some(Ask::Read { offset, len })?
        }
        4 => {
            let (offset, bytes) = split_offset(rest)?;
            let bytes = (bytes.len() <= PIECE).then(|| bytes.to_vec())?;
            Ask::Write { offset, bytes }
        }
        6 => Ask::TryLock(by()?),
        7 => Ask::IsLocked(by()?),
        8 => Ask::Unlock(by()?),
        _ if !rest.is_empty() => return None,
        1 => Ask::Len,
        2 => Ask::Inode,
        5 => Ask::Sync,
        9 => Ask::Modified,
        10 => Ask::Close,
        19 => Ask::SyncFirst,
        _ => return None,
    })
}

const HOWS: [Open; 6] = [
    Open::Read,
    Open::Fresh,
    Open::Write,
    Open::Create,
    Open::CreateNew,
    Open::CreateProgram,
];

const MECHANISMS: [Mechanism; 3] = [Mechanism::Flock, Mechanism::Fcntl, Mechanism::Link];

fn number(by: Mechanism) -> u8 {
    let at = MECHANISMS.iter().position(|known| *known == by);
    at.unwrap_or(0).to_le_bytes()[0]
}

fn mechanism(bytes: &[u8]) -> Option<Mechanism> {
    match bytes {
        [by] => MECHANISMS.get(usize::from(*by)).copied(),
        _ => None,
    }
}

fn named(op: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[op][..], &parts.concat()].concat()
}

fn split_number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*number), rest))
}

fn split_offset(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    let offset = u64::from_le_bytes(*number);
    (offset <= LARGEST_FILE).then_some((offset, rest))
}

/// A name below the workdir.
fn file_name(bytes: &[u8]) -> Option<String> {
    let name = str::from_utf8(bytes).ok()?;
    let is_part = |part: &str| !["", ".", ".."].contains(&part) && part.len() <= 255;
    let is_good = name.len() <= LONGEST_NAME
        && !name.contains('\0')
        && name.split('/').count() <= DEEPEST
        && name.split('/').all(is_part);
    is_good.then(|| name.to_owned())
}

/// The same, or the workdir itself.
fn folder_name(bytes: &[u8]) -> Option<String> {
    if bytes.is_empty() {
        return Some(String::new());
    }
    file_name(bytes)
}

/// What a file that is not one can be.
const KINDS: [&str; 5] = [
    "a directory",
    "a symbolic link",
    "a socket or a device",
    "a FIFO",
    "a device",
];

/// An answer: what was asked for, or an error as the file system had it.
pub(super) fn encode_answer(answer: io::Result<Vec<u8>>) -> Vec<u8> {
    let error = match answer {
        Ok(bytes) => return [&[0][..], &bytes].concat(),
        Err(error) => error,
    };
    if let Some(NotAFile(kind)) = NotAFile::of(&error) {
        let at = KINDS.iter().position(|known| *known == kind);
        return vec![2, at.unwrap_or(4).to_le_bytes()[0]];
    }
    match error.raw_os_error() {
        Some(number) => [&[1][..], &number.to_le_bytes()].concat(),
        None if error.kind() == ErrorKind::PermissionDenied => {
            [&[3][..], error.to_string().as_bytes()].concat()
        }
        None => [&[4][..], error.to_string().as_bytes()].concat(),
    }
}

pub(super) fn decode_answer(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Err(match bytes {
        [0, rest @ ..] => return Ok(rest.to_vec()),
        [1, number @ ..] if number.len() == 4 => {
            let number = number.try_into().map_or(libc::EIO, i32::from_le_bytes);
            io::Error::from_raw_os_error(number)
        }
        [2, kind] => NotAFile(KINDS.get(usize::from(*kind)).unwrap_or(&KINDS[4])).refuse(),
        [3, rest @ ..] => io::Error::new(ErrorKind::PermissionDenied, text(rest)),
        [4, rest @ ..] => io::Error::other(text(rest)),
        _ => ErrorKind::InvalidData.into(),
    })
}

/// What is known of a file as it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) inode: u64,
    pub(super) len: u64,
}

impl Stat {
    pub(super) fn of(file: &dyn File) -> io::Result<Self> {
        let (inode, len) = (file.inode()?, file.len()?);
        Ok(Self { inode, len })
    }

    pub(super) fn encode(self) -> Vec<u8> {
        [self.inode.to_le_bytes(), self.len.to_le_bytes()].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (inode, rest) = bytes.split_first_chunk()?;
        let (inode, len) = (u64::from_le_bytes(*inode), rest.try_into().ok()?);
        let len = u64::from_le_bytes(len);
        Some(Self { inode, len })
    }
}

/// The answer to [`Request::Lock`].
#[derive(Debug)]
pub(super) enum LockAnswer {
    Locked(Stat),
    Busy(Stat),
    Replaced,
    Unusable(io::Error),
}

impl LockAnswer {
    pub(super) fn encode(self) -> Vec<u8> {
        match self {
            Self::Locked(stat) => [&[0][..], &stat.encode()].concat(),
            Self::Busy(stat) => [&[1][..], &stat.encode()].concat(),
            Self::Replaced => vec![2],
            Self::Unusable(error) => [&[3][..], &encode_answer(Err(error))].concat(),
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(match bytes {
            [0, stat @ ..] => Self::Locked(Stat::decode(stat)?),
            [1, stat @ ..] => Self::Busy(Stat::decode(stat)?),
            [2] => Self::Replaced,
            [3, error @ ..] => Self::Unusable(decode_answer(error).err()?),
            _ => return None,
        })
    }
}

/// What a read from the beginning of a file has given: the bytes that were asked for, and the
/// last ones of the file, read after those.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Begin {
    pub(super) bytes: Vec<u8>,
    pub(super) end_at: u64,
    pub(super) end: Vec<u8>,
}

impl Begin {
    /// So many last bytes: what is at the end of a log.
    pub(super) const END: u16 = 512;

    pub(super) fn encode(self) -> Vec<u8> {
        let len = u32::try_from(self.bytes.len()).unwrap_or(0).to_le_bytes();
        [&len[..], &self.bytes, &self.end_at.to_le_bytes(), &self.end].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (len, rest) = split_number(bytes)?;
        let (bytes, rest) = rest.split_at_checked(len as usize)?;
        let (end_at, end) = split_offset(rest)?;
        let (bytes, end) = (bytes.to_vec(), end.to_vec());
        Some(Self { bytes, end_at, end })
    }
}

/// Writes a frame, in one write.
pub fn write_frame(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let len = u32::try_from(bytes.len()).map_err(|_| ErrorKind::InvalidInput)?;
    to.write_all(&[&len.to_le_bytes()[..], bytes].concat())
}

/// Reads a frame; none at the end. One that is too long is an error.
pub fn read_frame(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut len = [0; 4];
    match from.read_exact(&mut len) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        done => done?,
    }
    let len = u32::from_le_bytes(len) as usize;
    if len > LONGEST {
        return Err(ErrorKind::InvalidData.into());
    }
    // Memory is taken as bytes come, not as they are promised.
    let mut bytes = Vec::new();
    let read = from.take(len as u64).read_to_end(&mut bytes)?;
    if read < len {
        return Ok(None);
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_the_way() {
        let by = Mechanism::Fcntl;
        let asks = [
            Ask::Len,
            Ask::Inode,
            Ask::Read { offset: 7, len: 9 },
            Ask::Write {
                offset: 1,
                bytes: vec![0, 255],
            },
            Ask::Sync,
            Ask::SyncFirst,
            Ask::TryLock(by),
            Ask::IsLocked(by),
            Ask::Unlock(by),
            Ask::Modified,
            Ask::Close,
        ];
        let asks = asks.map(|ask| Request::Of { file: 3, ask });
        let name = || "nodes/a".to_owned();
        let named = [
            Request::Open {
                file: 1,
                name: name(),
                how: Open::CreateNew,
            },
            Request::Lock {
                file: 1,
                again: 2,
                by,
                name: name(),
            },
            Request::Rename {
                from: name(),
                to: "b".into(),
            },
            Request::Remove(name()),
            Request::InodeOf(name()),
            Request::List(String::new()),
            Request::MakeDir(name()),
            Request::SyncNames(String::new()),
            Request::Input {
                file: 2,
                name: "../x".into(),
            },
            Request::Put {
                name: name(),
                bytes: vec![0, 1],
            },
        ];
        for request in asks.into_iter().chain(named) {
            assert_eq!(Request::decode(&request.encode()), Some(request));
        }
    }

    #[test]
    fn answers_survive_the_way() {
        let stat = Stat { inode: 7, len: 9 };
        let decoded = LockAnswer::decode(&LockAnswer::Locked(stat).encode());
        assert!(matches!(decoded, Some(LockAnswer::Locked(there)) if there == stat));
        let decoded = LockAnswer::decode(&LockAnswer::Busy(stat).encode());
        assert!(matches!(decoded, Some(LockAnswer::Busy(there)) if there == stat));
        let decoded = LockAnswer::decode(&LockAnswer::Replaced.encode());
        assert!(matches!(decoded, Some(LockAnswer::Replaced)));
        let refused = io::Error::from_raw_os_error(libc::ENOLCK);
        match LockAnswer::decode(&LockAnswer::Unusable(refused).encode()) {
            Some(LockAnswer::Unusable(error)) => {
                assert_eq!(error.raw_os_error(), Some(libc::ENOLCK));
            }
            other => panic!("{other:?}"),
        }
        let (bytes, end) = (vec![1, 2], vec![3]);
        let begin = Begin {
            bytes,
            end_at: 9,
            end,
        };
        assert_eq!(Begin::decode(&begin.clone().encode()), Some(begin));
        for bad in [&[][..], &[9, 0, 0, 0, 1], &[0, 0, 0, 0, 1]] {
            assert_eq!(Begin::decode(bad), None);
        }
    }

    #[test]
    fn names_stay_below_the_workdir() {
        for bad in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "a/..",
            "../a",
            "a//b",
            "a/",
            "./a",
            &"a/".repeat(60),
        ] {
            assert_eq!(
                Request::decode(&named(12, &[bad.as_bytes()])),
                None,
                "{bad}"
            );
        }
        assert_eq!(Request::decode(&named(12, &[b"a\0b"])), None);
        let long = "x".repeat(256);
        assert_eq!(Request::decode(&named(12, &[long.as_bytes()])), None);
    }

    #[test]
    fn errors_survive_the_way() {
        for number in [libc::ENOENT, libc::ENOSPC, libc::EEXIST] {
            let there = encode_answer(Err(io::Error::from_raw_os_error(number)));
            assert_eq!(
                decode_answer(&there).unwrap_err().raw_os_error(),
                Some(number)
            );
        }
        let there = encode_answer(Err(NotAFile("a FIFO").refuse()));
        let error = decode_answer(&there).unwrap_err();
        assert_eq!(NotAFile::of(&error), Some(NotAFile("a FIFO")));
        assert_eq!(decode_answer(&encode_answer(Ok(vec![4]))).unwrap(), [4]);
    }
}
