//! Carries out the requests of a [`PipeDir`](super::PipeDir): file operations below one workdir,
//! the reading of certain files beside it, and nothing else, whatever is asked.
//!
//! Guarantee: no name leads out of the workdir but those of [`Readable`], which are read only, no link is followed, no file is opened that
//! [`RealDir`](super::RealDir) refuses; open files, lengths and answers are bounded. All locks are
//! given back when it ends.

use std::collections::{HashMap, HashSet};
use std::fs::File as StdFile;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::dir::{Dir, File, LockTry, Open};
use super::real::RealDir;
use super::wire::{self, Ask, Begin, LockAnswer, Request, SIGN_OF_LIFE, Stat};

/// So many files are open at a time.
const MOST_FILES: usize = 256;
/// So many names a listing has: it fits into a frame.
const LONGEST_LIST: usize = 1 << 20;

/// The files outside of the workdir that may be read.
#[derive(Default)]
pub struct Readable {
    /// The folder that they are in.
    pub folder: PathBuf,
    /// Their names below it.
    pub names: HashSet<String>,
}

/// The end of the pipe that has the workdir.
pub struct PipeServer {
    dir: Arc<RealDir>,
    readable: Arc<Readable>,
    files: HashMap<u32, Opened>,
}

/// A file that the other end has open.
struct Opened {
    file: Box<dyn File>,
    /// The first error of a request that is not answered.
    error: Option<io::Error>,
}

impl PipeServer {
    /// Serves this workdir.
    pub fn new(dir: Arc<RealDir>, readable: Arc<Readable>) -> Self {
        Self {
            dir,
            readable,
            files: HashMap::new(),
        }
    }

    /// Carries out requests until the pipe ends, or sends what is not a request; `answer` sends an
    /// answer.
    pub fn serve(
        self,
        from: &mut impl Read,
        answer: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.serve_frames(|| wire::read_frame(from), answer)
    }

    /// The same for frames, until there is none.
    pub fn serve_frames(
        mut self,
        mut next: impl FnMut() -> io::Result<Option<Vec<u8>>>,
        mut answer: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while let Some(frame) = next()? {
            if frame == SIGN_OF_LIFE {
                continue;
            }
            if let Some(bytes) = self.request(&frame)? {
                answer(&bytes)?;
            }
        }
        Ok(())
    }

    /// Carries out one request; its answer, where there is one.
    fn request(&mut self, frame: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let request = Request::decode(frame).ok_or(ErrorKind::InvalidData)?;
        let is_answered = request.is_answered();
        let done = self.act(request);
        Ok(is_answered.then(|| wire::encode_answer(done)))
    }

    fn act(&mut self, request: Request) -> io::Result<Vec<u8>> {
        match request {
            Request::Of { file, ask } => return self.ask(file, ask),
            Request::Open { file, name, how } => {
                self.check_number(file)?;
                self.check_folders(&name)?;
                let opened = self.dir.open(&name, how)?;
                let stat = Stat::of(&*opened)?;
                self.keep(file, opened);
                return Ok(stat.encode());
            }
            Request::Lock {
                file,
                again,
                by,
                name,
            } => {
                self.check_number(file)?;
                self.check_number(again)?;
                self.check_folders(&name)?;
                let tried = self.dir.try_lock(&name, by)?;
                return Ok(self.tried(tried, file, again)?.encode());
            }
            Request::Input { file, name } => {
                self.check_number(file)?;
                let (input, stat) = self.readable.open(&name)?;
                self.keep(file, Box::new(input));
                return Ok(stat);
            }
            Request::Rename { from, to } => {
                self.check_folders(&from)?;
                self.check_folders(&to)?;
                self.dir.rename(&from, &to)?;
            }
            Request::Remove(name) => {
                self.check_folders(&name)?;
                self.dir.remove(&name)?;
            }
            Request::InodeOf(name) => {
                self.check_folders(&name)?;
                return Ok(option(self.dir.inode(&name)?));
            }
            Request::List(sub) => {
                self.check_folders(&sub)?;
                let names = self.dir.list(&sub)?.join("\0").into_bytes();
                if names.len() > LONGEST_LIST {
                    return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
                }
                return Ok(names);
            }
            Request::MakeDir(name) => {
                self.check_folders(&name)?;
                self.dir.make_dir(&name)?;
            }
            Request::SyncNames(sub) if sub.is_empty() => self.dir.sync_names()?,
            Request::SyncNames(sub) => {
                self.check_folders(&sub)?;
                self.dir.sync_names_in(&sub)?;
            }
            Request::Put { name, bytes } => {
                self.check_folders(&name)?;
                if let Some((folder, _)) = name.rsplit_once('/') {
                    self.dir.make_dir(folder)?;
                }
                self.dir.open(&name, Open::CreateNew)?.write_at(&bytes, 0)?;
            }
        }
        Ok(Vec::new())
    }

    /// What a try to lock has come to; keeps what is open now.
    fn tried(&mut self, tried: LockTry, file: u32, again: u32) -> io::Result<LockAnswer> {
        Ok(match tried {
            LockTry::Locked(locked, second) => {
                let stat = Stat::of(&*locked)?;
                self.keep(file, locked);
                self.keep(again, second);
                LockAnswer::Locked(stat)
            }
            LockTry::Busy(busy) => {
                let stat = Stat::of(&*busy)?;
                self.keep(file, busy);
                LockAnswer::Busy(stat)
            }
            LockTry::Replaced => LockAnswer::Replaced,
            LockTry::Unusable(error) => LockAnswer::Unusable(error),
        })
    }

    /// Whether a file can have this number.
    fn check_number(&self, file: u32) -> io::Result<()> {
        // A lock opens two.
        if self.files.len() + 2 > MOST_FILES || self.files.contains_key(&file) {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        Ok(())
    }

    fn keep(&mut self, number: u32, file: Box<dyn File>) {
        self.files.insert(number, Opened { file, error: None });
    }

    fn ask(&mut self, number: u32, ask: Ask) -> io::Result<Vec<u8>> {
        if ask == Ask::Close {
            self.files.remove(&number);
            return Ok(Vec::new());
        }
        let bad = || io::Error::from_raw_os_error(libc::EBADF);
        let opened = self.files.get_mut(&number).ok_or_else(bad)?;
        let file = &opened.file;
        match ask {
            Ask::Write { offset, bytes } => {
                // What follows a write that failed must not be written.
                if opened.error.is_none() {
                    opened.error = file.write_at(&bytes, offset).err();
                }
                return Ok(Vec::new());
            }
            Ask::SyncFirst => {
                if opened.error.is_none() {
                    opened.error = file.sync().err();
                }
                return Ok(Vec::new());
            }
            Ask::Unlock(by) => {
                file.unlock(by);
                return Ok(Vec::new());
            }
            _ => {}
        }
        if let Some(error) = opened.error.take() {
            return Err(error);
        }
        match ask {
            Ask::Len => Ok(file.len()?.to_le_bytes().to_vec()),
            Ask::Inode => Ok(file.inode()?.to_le_bytes().to_vec()),
            Ask::Read { offset, len } => {
                let mut bytes = vec![0; len as usize];
                let read = file.read_at(&mut bytes, offset)?;
                bytes.truncate(read);
                if offset > 0 {
                    return Ok(bytes);
                }
                let end_at = file.len()?.saturating_sub(Begin::END.into());
                let mut end = vec![0; Begin::END.into()];
                let read = file.read_at(&mut end, end_at)?;
                end.truncate(read);
                Ok(Begin { bytes, end_at, end }.encode())
            }
            Ask::Sync => file.sync().map(|()| Vec::new()),
            Ask::TryLock(by) => Ok(vec![u8::from(file.try_lock(by)?)]),
            Ask::IsLocked(by) => Ok(vec![u8::from(file.is_locked(by)?)]),
            Ask::Modified => {
                let micros = u64::try_from(file.modified()?.as_micros()).unwrap_or(u64::MAX);
                Ok(micros.to_le_bytes().to_vec())
            }
            Ask::Write { .. } | Ask::SyncFirst | Ask::Unlock(_) | Ask::Close => Ok(Vec::new()),
        }
    }

    /// The folders above a name are folders: a link among them would lead elsewhere.
    fn check_folders(&self, name: &str) -> io::Result<()> {
        let ends = name.match_indices('/').map(|(at, _)| at);
        for end in ends {
            let folder = self.dir.path().join(&name[..end]);
            match std::fs::symlink_metadata(folder) {
                Ok(stat) if !stat.is_dir() => {
                    return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Readable {
    /// Opens one of them; its length, time and mode, too.
    fn open(&self, name: &str) -> io::Result<(StdFile, Vec<u8>)> {
        if !self.names.contains(name) {
            let why = "no task named it with in= when pytf was started";
            return Err(io::Error::new(ErrorKind::PermissionDenied, why));
        }
        let mut how = StdFile::options();
        // A FIFO must not hang us.
        let how = how
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let file = how.open(self.folder.join(name))?;
        let stat = file.metadata()?;
        if !stat.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        let since = stat.modified()?.duration_since(UNIX_EPOCH);
        let since = since.unwrap_or_default();
        let stat = [
            &stat.len().to_le_bytes()[..],
            &since.as_secs().to_le_bytes(),
            &since.subsec_nanos().to_le_bytes(),
            &stat.mode().to_le_bytes(),
        ];
        Ok((file, stat.concat()))
    }
}

/// A number that may not be there.
fn option(number: Option<u64>) -> Vec<u8> {
    number.map_or_else(Vec::new, |number| number.to_le_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workdir::mechanism::Mechanism;

    /// A request about names good and bad, mostly with some bytes changed.
    fn any_frame(random: &mut fastrand::Rng) -> Vec<u8> {
        const NAMES: [&str; 8] = [
            "lock",
            "link",
            "folder/x",
            "nodes/a",
            "nodes",
            "../secret",
            "folder",
            "a/b/c",
        ];
        const HOWS: [Open; 6] = [
            Open::Read,
            Open::Write,
            Open::Create,
            Open::CreateNew,
            Open::CreateProgram,
            Open::Fresh,
        ];
        let (name, to) = (
            NAMES[random.usize(..8)].to_owned(),
            NAMES[random.usize(..8)].to_owned(),
        );
        let bytes = vec![7; random.usize(..100)];
        let (file, offset, len) = (
            random.u32(..300),
            random.u64(..1 << 16),
            random.u32(..1 << 20),
        );
        let of = |ask| Request::Of { file, ask };
        let request = match random.u8(..19) {
            16 => of(Ask::SyncFirst),
            17 => Request::Lock {
                file,
                again: random.u32(..300),
                by: Mechanism::Flock,
                name,
            },
            0..4 => Request::Open {
                file,
                name,
                how: HOWS[random.usize(..5)],
            },
            4 => Request::Rename { from: name, to },
            5 => Request::Remove(name),
            6 => Request::List(name),
            7 => Request::MakeDir(name),
            8 => Request::Put { name, bytes },
            9 => of(Ask::Write { offset, bytes }),
            10 => of(Ask::Read { offset, len }),
            11 => of(Ask::TryLock(Mechanism::Flock)),
            12 => of(Ask::Close),
            13 => of(Ask::Sync),
            14 => Request::SyncNames(name),
            15 => Request::Input { file, name },
            _ => of(Ask::Len),
        };
        let mut frame = request.encode();
        for _ in 0..random.usize(..3) {
            let at = random.usize(..frame.len());
            frame[at] = random.u8(..);
        }
        if random.u8(..10) == 0 {
            frame.truncate(random.usize(..frame.len()));
        }
        frame
    }

    /// Random and mutated requests: nothing outside of the workdir is touched, nothing panics.
    #[test]
    fn nobody_gets_out() {
        let outer = tempfile::tempdir().unwrap();
        let (secret, workdir) = (outer.path().join("secret"), outer.path().join("w"));
        std::fs::create_dir(&workdir).unwrap();
        std::fs::create_dir(outer.path().join("other")).unwrap();
        std::fs::write(&secret, "treasure").unwrap();
        std::os::unix::fs::symlink("../secret", workdir.join("link")).unwrap();
        std::os::unix::fs::symlink("../other", workdir.join("folder")).unwrap();
        let rounds = std::env::var("PYTF_FUZZ").map_or(20_000, |rounds| rounds.parse().unwrap());
        let mut random = fastrand::Rng::with_seed(fastrand::u64(..));
        let seed = random.get_seed();
        // One that may be read, and is not a file.
        let readable = Arc::new(Readable {
            folder: outer.path().to_owned(),
            names: ["folder", "w"].map(str::to_owned).into(),
        });
        let mut server = PipeServer::new(RealDir::open(&workdir).unwrap(), readable);
        for _ in 0..rounds {
            let frame = any_frame(&mut random);
            if let Ok(Some(answer)) = server.request(&frame) {
                assert!(answer.len() <= wire::LONGEST, "seed {seed}");
                let tells = answer.windows(8).any(|part| part == b"treasure");
                assert!(!tells, "seed {seed}");
            }
            assert!(server.files.len() <= MOST_FILES);
        }
        assert_eq!(std::fs::read(&secret).unwrap(), b"treasure", "seed {seed}");
        let names = |path: &std::path::Path| std::fs::read_dir(path).unwrap().count();
        assert_eq!(names(outer.path()), 3, "seed {seed}");
        assert_eq!(names(&outer.path().join("other")), 0, "seed {seed}");
    }

    /// Files that tasks need are read, and nothing else beside the workdir.
    #[test]
    fn only_named_files_are_read() {
        let outer = tempfile::tempdir().unwrap();
        let workdir = outer.path().join("w");
        std::fs::create_dir(&workdir).unwrap();
        for name in ["input", "secret"] {
            std::fs::write(outer.path().join(name), name).unwrap();
        }
        let readable = Arc::new(Readable {
            folder: outer.path().to_owned(),
            names: ["input", "absent", "w"].map(str::to_owned).into(),
        });
        let mut server = PipeServer::new(RealDir::open(&workdir).unwrap(), readable);
        let mut ask = |request: Request| {
            let answer = server.request(&request.encode()).unwrap();
            answer.map_or(Ok(Vec::new()), |answer| wire::decode_answer(&answer))
        };
        for (file, name) in (10..).zip([
            "secret",
            "../secret",
            "./input",
            "absent",
            "w",
            "/etc/passwd",
        ]) {
            let name = name.to_owned();
            assert!(ask(Request::Input { file, name }).is_err());
            let (offset, len) = (0, 10);
            assert!(
                ask(Request::Of {
                    file,
                    ask: Ask::Read { offset, len }
                })
                .is_err()
            );
        }
        let name = "input".to_owned();
        assert_eq!(ask(Request::Input { file: 1, name }).unwrap().len(), 24);
        let of = |ask| Request::Of { file: 1, ask };
        let bytes = b"bad".to_vec();
        assert_eq!(ask(of(Ask::Write { offset: 0, bytes })).unwrap(), b"");
        assert!(ask(of(Ask::Len)).is_err(), "it is not written");
        let (offset, len) = (1, 10);
        assert_eq!(ask(of(Ask::Read { offset, len })).unwrap(), b"nput");
    }
}
