//! A workdir at the other end of a pipe: the requests of this end, one after the other.
//!
//! Writes are not answered: what went wrong with one is the answer to the next request about its
//! file, as where a file system writes behind. All other requests wait for their answer.
//!
//! Each answer costs a round trip, so some bring along what is asked next: an open the number and
//! the length of the file, a read from its beginning the last bytes of it. These are used once, and
//! not after a write or a lock.
//!
//! Guarantee: when the pipe has ended every request fails, and none is ever sent again. So an
//! operation whose answer was lost was carried out once, or not at all.

use std::fs::File as StdFile;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::dir::{Dir, File, LockTry, Open};
use super::wire::{self, Ask, Begin, LockAnswer, PIECE, Request, SIGN_OF_LIFE, Stat};
use crate::workdir::mechanism::Mechanism;

/// After this time without an answer, the pipe is taken to have ended.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// The end of the pipe that asks.
pub struct PipeDir {
    pipe: Arc<Pipe>,
}

struct Pipe {
    line: Mutex<Line>,
    next_file: AtomicU32,
}

struct Line {
    to: StdFile,
    answers: Receiver<Vec<u8>>,
    /// Whether a request could not be sent, or an answer was lost.
    is_broken: bool,
}

impl PipeDir {
    /// Asks by `to`; answers come by the channel, which ends with the pipe.
    pub fn new(to: StdFile, answers: Receiver<Vec<u8>>) -> Arc<Self> {
        Arc::new(Self {
            pipe: Arc::new(Pipe {
                line: Mutex::new(Line {
                    to,
                    answers,
                    is_broken: false,
                }),
                next_file: AtomicU32::new(0),
            }),
        })
    }

    /// Opens a file that a task needs, which is not in the workdir, to read it.
    pub fn open_input(&self, name: &str) -> io::Result<Input> {
        let file = self.pipe.next_file.fetch_add(1, Ordering::Relaxed);
        let name = name.to_owned();
        let stat = self.pipe.call(&Request::Input { file, name })?;
        let file = Box::new(PipeFile {
            pipe: self.pipe.clone(),
            file,
            inode: 0,
            ahead: Mutex::default(),
        });
        Input::of(file, &stat).ok_or_else(|| ErrorKind::InvalidData.into())
    }

    /// Sends a new file, and does not wait; a name that is taken is left alone.
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> io::Result<()> {
        let name = name.to_owned();
        self.pipe.send(&Request::Put { name, bytes })
    }

    /// Sends a sign of life, unless a request is under way, which is one.
    pub fn show_life(&self) {
        if let Ok(mut line) = self.pipe.line.try_lock()
            && !line.is_broken
        {
            line.is_broken = wire::write_frame(&mut line.to, SIGN_OF_LIFE).is_err();
        }
    }

    /// Whether requests fail from now on.
    pub fn is_broken(&self) -> bool {
        let line = self.pipe.line.lock();
        line.unwrap_or_else(PoisonError::into_inner).is_broken
    }

    /// Ends the pipe, after all that was sent.
    pub fn end(&self) {
        let line = self.pipe.line.lock();
        let mut line = line.unwrap_or_else(PoisonError::into_inner);
        line.is_broken = true;
        if let Ok(null) = StdFile::open("/dev/null") {
            line.to = null;
        }
    }
}

impl Pipe {
    /// Sends a request that is not answered.
    fn send(&self, request: &Request) -> io::Result<()> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.send(request)
    }

    /// Sends a request and waits for its answer.
    fn call(&self, request: &Request) -> io::Result<Vec<u8>> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.send(request)?;
        let Ok(answer) = line.answers.recv_timeout(ANSWER_WITHIN) else {
            line.is_broken = true;
            return Err(lost());
        };
        wire::decode_answer(&answer)
    }

    fn call_u64(&self, request: &Request) -> io::Result<u64> {
        let bytes = self.call(request)?;
        let bytes = bytes.try_into().map_err(|_| ErrorKind::InvalidData)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn call_bool(&self, request: &Request) -> io::Result<bool> {
        match self.call(request)?[..] {
            [answer] => Ok(answer == 1),
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }
}

impl Line {
    fn send(&mut self, request: &Request) -> io::Result<()> {
        if self.is_broken {
            return Err(lost());
        }
        let sent = wire::write_frame(&mut self.to, &request.encode());
        // Half a frame may have been written.
        self.is_broken = sent.is_err();
        sent.map_err(|_| lost())
    }
}

/// What every request ends with when the pipe has ended.
fn lost() -> io::Error {
    io::Error::new(ErrorKind::ConnectionAborted, "the connection was lost")
}

impl PipeDir {
    fn next_file(&self) -> u32 {
        self.pipe.next_file.fetch_add(1, Ordering::Relaxed)
    }

    /// A file that the other end has opened by this number.
    fn opened(&self, file: u32, stat: Stat) -> Box<dyn File> {
        Box::new(PipeFile {
            pipe: self.pipe.clone(),
            file,
            inode: stat.inode,
            ahead: Mutex::new(Ahead {
                len: Some(stat.len),
                end: None,
            }),
        })
    }
}

impl Dir for PipeDir {
    fn open(&self, name: &str, how: Open) -> io::Result<Box<dyn File>> {
        let (file, name) = (self.next_file(), name.to_owned());
        let answer = self.pipe.call(&Request::Open { file, name, how })?;
        let stat = Stat::decode(&answer).ok_or(ErrorKind::InvalidData)?;
        Ok(self.opened(file, stat))
    }

    fn try_lock(&self, name: &str, by: Mechanism) -> io::Result<LockTry> {
        let (file, again, name) = (self.next_file(), self.next_file(), name.to_owned());
        let answer = self.pipe.call(&Request::Lock {
            file,
            again,
            by,
            name,
        })?;
        let answer = LockAnswer::decode(&answer).ok_or(ErrorKind::InvalidData)?;
        Ok(match answer {
            LockAnswer::Locked(stat) => {
                LockTry::Locked(self.opened(file, stat), self.opened(again, stat))
            }
            LockAnswer::Busy(stat) => LockTry::Busy(self.opened(file, stat)),
            LockAnswer::Replaced => LockTry::Replaced,
            LockAnswer::Unusable(error) => LockTry::Unusable(error),
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.pipe.call(&Request::Rename { from, to }).map(drop)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.pipe.call(&Request::Remove(name.to_owned())).map(drop)
    }

    fn inode(&self, name: &str) -> io::Result<Option<u64>> {
        let bytes = self.pipe.call(&Request::InodeOf(name.to_owned()))?;
        Ok(bytes.try_into().ok().map(u64::from_le_bytes))
    }

    fn list(&self, sub: &str) -> io::Result<Vec<String>> {
        let bytes = self.pipe.call(&Request::List(sub.to_owned()))?;
        let names = String::from_utf8(bytes).map_err(|_| ErrorKind::InvalidData)?;
        let names = names.split('\0').filter(|name| !name.is_empty());
        Ok(names.map(str::to_owned).collect())
    }

    fn make_dir(&self, name: &str) -> io::Result<()> {
        self.pipe.call(&Request::MakeDir(name.to_owned())).map(drop)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.sync_names_in("")
    }

    fn sync_names_in(&self, sub: &str) -> io::Result<()> {
        self.pipe
            .call(&Request::SyncNames(sub.to_owned()))
            .map(drop)
    }
}

/// A file that a task needs, at the other end.
pub struct Input {
    /// The file, to be read.
    pub file: Box<dyn File>,
    /// Its length in bytes.
    pub len: u64,
    /// When it was last written, since 1970.
    pub modified: Duration,
    /// Its mode.
    pub mode: u32,
}

impl Input {
    fn of(file: Box<dyn File>, stat: &[u8]) -> Option<Self> {
        let (len, stat) = stat.split_first_chunk()?;
        let (seconds, stat) = stat.split_first_chunk()?;
        let (nanos, stat) = stat.split_first_chunk()?;
        let nanos = u32::from_le_bytes(*nanos).min(999_999_999);
        Some(Self {
            file,
            len: u64::from_le_bytes(*len),
            modified: Duration::new(u64::from_le_bytes(*seconds), nanos),
            mode: u32::from_le_bytes(stat.try_into().ok()?),
        })
    }
}

/// A file that is open at the other end.
struct PipeFile {
    pipe: Arc<Pipe>,
    file: u32,
    inode: u64,
    ahead: Mutex<Ahead>,
}

/// What an answer has brought along.
#[derive(Default)]
struct Ahead {
    /// The length of the file.
    len: Option<u64>,
    /// Its last bytes, and where they begin.
    end: Option<(u64, Vec<u8>)>,
}

impl Ahead {
    /// Fills `buf` from the last bytes, where all of it is among them.
    fn fill(&mut self, buf: &mut [u8], offset: u64) -> Option<usize> {
        let (begin, end) = self.end.take()?;
        let from = usize::try_from(offset.checked_sub(begin)?).ok()?;
        buf.copy_from_slice(end.get(from..from + buf.len())?);
        Some(buf.len())
    }
}

impl PipeFile {
    fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_ahead(&self) {
        *self.ahead() = Ahead::default();
    }

    fn of(&self, ask: Ask) -> Request {
        Request::Of {
            file: self.file,
            ask,
        }
    }
}

impl Drop for PipeFile {
    fn drop(&mut self) {
        // Where the pipe has ended, the other end has closed it.
        let _ = self.pipe.send(&self.of(Ask::Close));
    }
}

impl File for PipeFile {
    fn len(&self) -> io::Result<u64> {
        let known = self.ahead().len.take();
        known.map_or_else(|| self.pipe.call_u64(&self.of(Ask::Len)), Ok)
    }

    fn inode(&self) -> io::Result<u64> {
        Ok(self.inode)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if let Some(read) = self.ahead().fill(buf, offset) {
            return Ok(read);
        }
        let len = u32::try_from(buf.len().min(PIECE)).unwrap_or(0);
        let mut bytes = self.pipe.call(&self.of(Ask::Read { offset, len }))?;
        if offset == 0 {
            let begin = Begin::decode(&bytes).ok_or(ErrorKind::InvalidData)?;
            self.ahead().end = Some((begin.end_at, begin.end));
            bytes = begin.bytes;
        }
        let into = buf.get_mut(..bytes.len()).ok_or(ErrorKind::InvalidData)?;
        into.copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn write_at(&self, buf: &[u8], mut offset: u64) -> io::Result<()> {
        self.forget_ahead();
        for piece in buf.chunks(PIECE) {
            let bytes = piece.to_vec();
            self.pipe.send(&self.of(Ask::Write { offset, bytes }))?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.pipe.call(&self.of(Ask::Sync)).map(drop)
    }

    fn sync_first(&self) -> io::Result<()> {
        self.pipe.send(&self.of(Ask::SyncFirst))
    }

    fn try_lock(&self, mechanism: Mechanism) -> io::Result<bool> {
        self.forget_ahead();
        self.pipe.call_bool(&self.of(Ask::TryLock(mechanism)))
    }

    fn is_locked(&self, mechanism: Mechanism) -> io::Result<bool> {
        self.pipe.call_bool(&self.of(Ask::IsLocked(mechanism)))
    }

    fn unlock(&self, mechanism: Mechanism) {
        // Where the pipe has ended, the lock has gone with it.
        let _ = self.pipe.send(&self.of(Ask::Unlock(mechanism)));
    }

    fn modified(&self) -> io::Result<Duration> {
        let micros = self.pipe.call_u64(&self.of(Ask::Modified))?;
        Ok(Duration::from_micros(micros))
    }

    /// The lock is at the other end: there is nothing to be handed on.
    fn share(&self) -> io::Result<OwnedFd> {
        Ok(StdFile::open("/dev/null")?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workdir::fs::{PipeServer, RealDir};
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::AtomicUsize;

    /// A workdir over a pipe, and how many answers have come by it.
    fn piped(path: &std::path::Path) -> (Arc<PipeDir>, Arc<AtomicUsize>) {
        let (here, mut there) = UnixStream::pair().unwrap();
        let server = PipeServer::new(RealDir::open(path).unwrap(), Arc::default());
        let (answer, answers) = crossbeam_channel::unbounded();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        std::thread::spawn(move || {
            server.serve(&mut there, |bytes| {
                counted.fetch_add(1, Ordering::Relaxed);
                answer.send(bytes.to_vec()).map_err(io::Error::other)
            })
        });
        (PipeDir::new(OwnedFd::from(here).into(), answers), count)
    }

    #[test]
    fn what_an_answer_brings_along_is_used_once_and_not_after_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, _) = piped(folder.path());
        let local = RealDir::open(folder.path()).unwrap();
        let other = local.open("a", Open::Create).unwrap();
        other.write_at(b"first", 0).unwrap();
        let file = dir.open("a", Open::Write).unwrap();
        other.write_at(b"longer", 0).unwrap();
        assert_eq!((file.len().unwrap(), file.len().unwrap()), (5, 6));
        let mut buf = [0; 3];
        assert_eq!(file.read_at(&mut buf, 0).unwrap(), 3);
        other.write_at(b"change", 0).unwrap();
        file.write_at(b"C", 0).unwrap();
        assert_eq!((file.read_at(&mut buf, 1).unwrap(), &buf), (3, b"han"));
        assert_eq!((file.read_at(&mut buf, 0).unwrap(), &buf), (3, b"Cha"));
        other.write_at(b"again!", 0).unwrap();
        assert!(file.try_lock(Mechanism::Flock).unwrap());
        assert_eq!((file.read_at(&mut buf, 3).unwrap(), &buf), (3, b"in!"));
        assert_eq!(file.read_at(&mut buf, 4).unwrap(), 2);
        assert_eq!(file.read_at(&mut buf, 9).unwrap(), 0);
    }

    #[test]
    fn a_lock_and_the_end_of_a_file_cost_one_answer_each() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, count) = piped(folder.path());
        let LockTry::Locked(file, again) = dir.try_lock("lock", Mechanism::Flock).unwrap() else {
            panic!("nobody else has it");
        };
        file.sync_first().unwrap();
        file.write_at(&[b'x'; 5000], 0).unwrap();
        let mut begin = [0; 4000];
        assert_eq!(file.read_at(&mut begin, 0).unwrap(), 4000);
        assert_eq!(file.read_at(&mut begin[..100], 4900).unwrap(), 100);
        assert_eq!(begin[99], b'x');
        assert_eq!(count.load(Ordering::Relaxed), 2);

        let busy = dir.try_lock("lock", Mechanism::Flock).unwrap();
        assert!(matches!(busy, LockTry::Busy(_)));
        drop((busy, again));
        file.unlock(Mechanism::Flock);
        drop(file);
        let free = dir.try_lock("lock", Mechanism::Flock).unwrap();
        assert!(matches!(free, LockTry::Locked(..)));
        assert!(dir.try_lock("no/lock", Mechanism::Flock).is_err());
    }
}
