//! A workdir at the other end of a pipe: the requests of this end, one after the other.
//!
//! Writes are not answered: what went wrong with one is the answer to the next request about its
//! file, as where a file system writes behind. All other requests wait for their answer.
//!
//! Guarantee: when the pipe has ended every request fails, and none is ever sent again. So an
//! operation whose answer was lost was carried out once, or not at all.

use std::fs::File as StdFile;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::dir::{Dir, File, Open};
use super::wire::{self, Ask, PIECE, Request};
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

    /// Sends a new file, and does not wait; a name that is taken is left alone.
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> io::Result<()> {
        let name = name.to_owned();
        self.pipe.send(&Request::Put { name, bytes })
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
            return Err(ErrorKind::ConnectionAborted.into());
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
            return Err(ErrorKind::ConnectionAborted.into());
        }
        let sent = wire::write_frame(&mut self.to, &request.encode());
        // Half a frame may have been written.
        self.is_broken = sent.is_err();
        sent
    }
}

impl Dir for PipeDir {
    fn open(&self, name: &str, how: Open) -> io::Result<Box<dyn File>> {
        let file = self.pipe.next_file.fetch_add(1, Ordering::Relaxed);
        let name = name.to_owned();
        self.pipe.call(&Request::Open { file, name, how })?;
        Ok(Box::new(PipeFile {
            pipe: self.pipe.clone(),
            file,
        }))
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

/// A file that is open at the other end.
struct PipeFile {
    pipe: Arc<Pipe>,
    file: u32,
}

impl PipeFile {
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
        self.pipe.call_u64(&self.of(Ask::Len))
    }

    fn inode(&self) -> io::Result<u64> {
        self.pipe.call_u64(&self.of(Ask::Inode))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let len = u32::try_from(buf.len().min(PIECE)).unwrap_or(0);
        let bytes = self.pipe.call(&self.of(Ask::Read { offset, len }))?;
        let into = buf.get_mut(..bytes.len()).ok_or(ErrorKind::InvalidData)?;
        into.copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn write_at(&self, buf: &[u8], mut offset: u64) -> io::Result<()> {
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

    fn try_lock(&self, mechanism: Mechanism) -> io::Result<bool> {
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
