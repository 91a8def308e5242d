//! The host's end: says what it lacks, and takes it.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::unistd::syncfs;

use super::copies::{DATA, END, Entry, FAILED, Need, Reply, SAME, Time, What, time_of};
use super::hash::hash_of;
use crate::model::relative::relative;
use crate::workdir::fs::read_frame;

/// So many files are in one answer.
const MOST_NEEDS: usize = 2000;
/// When so many files are whole, or so many bytes of them, they get their names.
const MOST_FILES: usize = 1000;
const MOST_BYTES: u64 = 256 << 20;

/// What went wrong, as a sentence.
type Taken<T> = Result<T, String>;

/// Takes what is sent into a folder; `say` answers.
pub(super) fn receive(
    folder: &Path,
    input: &mut impl Read,
    mut say: impl FnMut(&Reply) -> io::Result<()>,
) -> io::Result<()> {
    match take_all(folder, input, &mut say) {
        Ok(()) => say(&Reply::Done),
        Err(problem) => {
            say(&Reply::Problem(problem.clone()))?;
            Err(io::Error::other(problem))
        }
    }
}

fn take_all(
    folder: &Path,
    input: &mut impl Read,
    say: &mut impl FnMut(&Reply) -> io::Result<()>,
) -> Taken<()> {
    let entries = read_list(input)?;
    let mut needs = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        needs.extend(lacks(folder, at, entry)?);
    }
    let lost = |error: io::Error| format!("the connection was lost: {error}");
    for some in needs.chunks(MOST_NEEDS) {
        say(&Reply::Needs(some.to_vec())).map_err(lost)?;
    }
    say(&Reply::Needs(Vec::new())).map_err(lost)?;
    let mut batch = Batch::default();
    for need in &needs {
        take(folder, &entries[need.at], input, &mut batch)?;
        if batch.new.len() >= MOST_FILES || batch.bytes >= MOST_BYTES {
            batch.complete()?;
        }
    }
    batch.complete()
}

fn read_list(input: &mut impl Read) -> Taken<Vec<Entry>> {
    let mut entries = Vec::new();
    loop {
        let frame = next_frame(input)?;
        if frame.is_empty() {
            return Ok(entries);
        }
        let some: Vec<Entry> =
            serde_json::from_slice(&frame).map_err(|error| format!("a list is wrong: {error}"))?;
        for entry in some {
            relative(&entry.path)?;
            entries.push(entry);
        }
    }
}

fn next_frame(input: &mut impl Read) -> Taken<Vec<u8>> {
    match read_frame(input) {
        Ok(Some(frame)) => Ok(frame),
        Ok(None) => Err("the connection has ended".to_owned()),
        Err(error) => Err(format!("the connection was lost: {error}")),
    }
}

/// What is needed of an entry. Folders and links are made here.
fn lacks(folder: &Path, at: usize, entry: &Entry) -> Taken<Option<Need>> {
    let path = folder.join(&entry.path);
    let cannot = |error: io::Error| format!("{}: {error}", entry.path);
    match &entry.what {
        What::Folder { mode } => make_folder(&path, *mode).map(|()| None).map_err(cannot),
        What::Link { to } => make_link(&path, to).map(|()| None).map_err(cannot),
        What::File { size, time, mode } => {
            let there = match fs::symlink_metadata(&path) {
                Ok(there) if there.is_file() && there.len() == *size => there,
                Ok(there) if there.is_dir() => {
                    return Err(format!("{} is a folder there", entry.path));
                }
                _ => return Ok(Some(Need { at, hash: None })),
            };
            if time_of(&there) == Some(*time) {
                if there.mode() & 0o777 != *mode {
                    let mode = Permissions::from_mode(*mode);
                    fs::set_permissions(&path, mode).map_err(cannot)?;
                }
                return Ok(None);
            }
            // One that cannot be read is replaced.
            let hash = File::open(&path).and_then(|mut file| hash_of(&mut file));
            let hash = hash.ok();
            Ok(Some(Need { at, hash }))
        }
    }
}

fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|there| there.is_dir()) {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    // Files are put into it.
    fs::set_permissions(path, Permissions::from_mode(mode & 0o777 | 0o700))
}

fn make_link(path: &Path, to: &str) -> io::Result<()> {
    if fs::read_link(path).is_ok_and(|there| there == Path::new(to)) {
        return Ok(());
    }
    make_folder_of(path)?;
    let new = new_name(path, 0);
    symlink(to, &new)?;
    fs::rename(&new, path).inspect_err(|_| drop(fs::remove_file(&new)))
}

fn make_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

/// Where a file is until it is whole: beside its own name.
fn new_name(path: &Path, nth: usize) -> PathBuf {
    path.with_file_name(format!(".pytf-copy-{}-{nth}", std::process::id()))
}

/// Takes one file.
fn take(folder: &Path, entry: &Entry, input: &mut impl Read, batch: &mut Batch) -> Taken<()> {
    let What::File { mode, .. } = entry.what else {
        return Ok(());
    };
    let path = folder.join(&entry.path);
    let cannot = |error: io::Error| format!("{}: {error}", entry.path);
    let mut new = None;
    loop {
        let frame = next_frame(input)?;
        let (kind, rest) = frame.split_first().ok_or("an empty frame")?;
        if matches!(*kind, DATA | END) && new.is_none() {
            new = Some(batch.begin(&path).map_err(cannot)?);
        }
        match (*kind, &mut new) {
            (DATA, Some(file)) => {
                file.write_all(rest).map_err(cannot)?;
                batch.bytes += rest.len() as u64;
            }
            (END, Some(file)) => return settle(file, mode, rest).map_err(cannot),
            (SAME, None) => {
                let file = File::open(&path).map_err(cannot)?;
                return settle(&file, mode, rest).map_err(cannot);
            }
            (FAILED, _) => return Err(String::from_utf8_lossy(rest).into_owned()),
            _ => return Err("an unknown frame".to_owned()),
        }
    }
}

/// Gives a file its mode and its time, where that is known.
fn settle(file: &File, mode: u32, time: &[u8]) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(mode & 0o777))?;
    let time: Option<Time> = serde_json::from_slice(time)?;
    if let Some((seconds, nanos)) = time {
        let since = Duration::from_secs(seconds) + Duration::from_nanos(u64::from(nanos));
        let at: Option<SystemTime> = UNIX_EPOCH.checked_add(since);
        let at = at.ok_or(ErrorKind::InvalidData)?;
        file.set_times(FileTimes::new().set_modified(at))?;
    }
    Ok(())
}

/// Files that are not yet under their names; removed when that does not come to be.
#[derive(Default)]
struct Batch {
    new: Vec<(PathBuf, PathBuf)>,
    bytes: u64,
}

impl Batch {
    fn begin(&mut self, path: &Path) -> io::Result<File> {
        make_folder_of(path)?;
        let new = new_name(path, self.new.len());
        // One of an earlier process with this number.
        let _ = fs::remove_file(&new);
        let mut how = OpenOptions::new();
        let file = how.write(true).create_new(true).mode(0o600).open(&new)?;
        self.new.push((new, path.to_owned()));
        Ok(file)
    }

    /// Writes them to the disk, and gives them their names.
    fn complete(&mut self) -> Taken<()> {
        let mut disks = BTreeMap::new();
        for folder in self.new.iter().filter_map(|(new, _)| new.parent()) {
            let disk = File::open(folder).and_then(|file| Ok((file.metadata()?.dev(), file)));
            let (disk, file) = disk.map_err(|error| format!("{}: {error}", folder.display()))?;
            disks.insert(disk, file);
        }
        for folder in disks.values() {
            syncfs(folder).map_err(|error| format!("cannot sync: {error}"))?;
        }
        for (new, path) in &self.new {
            fs::rename(new, path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        *self = Self::default();
        Ok(())
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        for (new, _) in &self.new {
            let _ = fs::remove_file(new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workdir::fs::write_frame;

    fn file(path: &str, size: u64) -> Entry {
        let (time, mode) = ((1_000_000_000, 5), 0o640);
        let what = What::File { size, time, mode };
        Entry {
            path: path.into(),
            what,
        }
    }

    fn frames(entries: &[Entry], rest: &[&[u8]]) -> Vec<u8> {
        let mut all = Vec::new();
        let list = serde_json::to_vec(entries).unwrap();
        for frame in [&list[..], &[]].iter().chain(rest) {
            write_frame(&mut all, frame).unwrap();
        }
        all
    }

    /// What was said, and whether all is there.
    fn received(folder: &Path, input: &[u8]) -> (Vec<Reply>, bool) {
        let mut said = Vec::new();
        let done = receive(folder, &mut &input[..], |reply| {
            said.push(reply.clone());
            Ok(())
        });
        (said, done.is_ok())
    }

    #[test]
    fn only_what_is_whole_gets_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let entries = [file("a/one", 3), file("two", 2)];
        let one: [&[u8]; 2] = [b"\0abc", b"\x01[1000000000,5]"];
        let names = || {
            let all = fs::read_dir(folder.path()).unwrap();
            let mut names: Vec<_> = all.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        for cut in [
            &one[..1],
            &one[..],
            &[one[0], one[1], b"\0d"],
            &[one[0], b"\x03no"],
        ] {
            let (said, is_done) = received(folder.path(), &frames(&entries, cut));
            assert!(!is_done);
            assert!(matches!(said.last(), Some(Reply::Problem(_))), "{said:?}");
            assert_eq!(names(), ["a"]);
            assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 0);
        }
        let all = [one[0], one[1], b"\0de", b"\x01null"];
        let (said, is_done) = received(folder.path(), &frames(&entries, &all));
        assert!(is_done, "{said:?}");
        assert_eq!(names(), ["a", "two"]);
        let there = fs::metadata(folder.path().join("a/one")).unwrap();
        assert_eq!(
            (time_of(&there), there.mode() & 0o777),
            (Some((1_000_000_000, 5)), 0o640)
        );
        // Again: the second has another time, so its hash is asked for, and it is the same.
        let (said, is_done) = received(folder.path(), &frames(&entries, &[b"\x02[1000000000,5]"]));
        assert!(is_done, "{said:?}");
        let Reply::Needs(needs) = &said[0] else {
            panic!("{said:?}")
        };
        assert_eq!((needs.len(), needs[0].at), (1, 1));
        assert!(needs[0].hash.as_ref().is_some_and(|hash| hash.len() == 64));
        let (said, _) = received(folder.path(), &frames(&entries, &[]));
        assert_eq!(said, [Reply::Needs(Vec::new()), Reply::Done]);
    }

    #[test]
    fn nothing_is_written_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["/tmp/x", "../x", "a/../../x", ""] {
            let input = frames(&[file(path, 1)], &[b"\0a", b"\x01null"]);
            assert!(!received(folder.path(), &input).1, "{path}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
