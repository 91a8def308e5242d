//! What tasks have made, brought into the workdir: `results/ID`.
//!
//! Guarantee: a folder of this name has all that the attempt has made, on the disk, before the
//! end of the attempt is recorded; nothing that has a name there is ever changed. Where the name
//! is taken, by an attempt that was made before and of which no end was recorded, a number
//! follows: `results/ID.2`. What is copied has a name that begins with a point until then.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use wildmatch::WildMatch;

use super::staging::{MOST_PIECE, Pace, Wanted};
use crate::model::task::Task;
use crate::workdir::folder::is_same_folder;
use crate::workdir::fs::{Dir, File as DirFile, Open};
use crate::workdir::layout::RESULTS;

/// Where results go.
pub(super) struct Results {
    /// The files of the run.
    pub(super) records: Arc<dyn Dir>,
    /// Whether they are at the other end of a pipe.
    pub(super) is_piped: bool,
    /// The workdir, which is nobody's result.
    pub(super) workdir: PathBuf,
    /// The farmer, for names.
    pub(super) farmer: String,
}

/// What an attempt has made.
#[derive(Default)]
struct Found {
    folders: BTreeSet<String>,
    files: BTreeSet<String>,
    /// What is left out, and why.
    notes: Vec<String>,
}

impl Results {
    /// Brings what the attempt has made in this folder; `is_ours` says, when all is there, whether
    /// it still counts. Returns what is to be said of it; the error is a sentence.
    pub(super) fn bring(
        &self,
        task: &Task,
        wanted: &Wanted,
        folder: &Path,
        is_ours: impl Fn() -> bool,
    ) -> Result<Vec<String>, String> {
        let mut found = Found::default();
        for pattern in &wanted.outputs {
            let paths = paths(pattern, wanted, folder);
            let paths = paths.map_err(|error| format!("its result {pattern}: {error}"))?;
            if paths.is_empty() {
                return Err(format!("its result {pattern} is not there"));
            }
            for path in paths {
                let taken = self.take(folder, &path, &mut found);
                taken.map_err(|error| format!("its result {path}: {error}"))?;
            }
        }
        let part = format!("{RESULTS}/.{}.{}-{}", task.id, task.attempt, self.farmer);
        let mut made = Vec::new();
        let copied = self.copy(folder, &found, &part, &mut made);
        let named = copied.and_then(|()| {
            if is_ours() {
                return self.name(task, &part);
            }
            // It runs elsewhere by now.
            Err(io::Error::other("the task was taken over by others"))
        });
        match named {
            Ok(()) => Ok(found.notes),
            Err(error) => {
                for file in made {
                    let _ = self.records.remove(&file);
                }
                Err(format!(
                    "its result cannot be brought to {RESULTS}: {error}"
                ))
            }
        }
    }

    /// Notes a file, or a folder with all that is in it.
    fn take(&self, base: &Path, path: &str, found: &mut Found) -> io::Result<()> {
        let stat = fs::metadata(base.join(path))?;
        if stat.is_file() {
            found.add_folders_of(path);
            found.files.insert(path.to_owned());
            return Ok(());
        }
        if !stat.is_dir() {
            return Err(io::Error::other("it is neither a file nor a folder"));
        }
        if is_same_folder(base.join(path), &self.workdir) {
            return Ok(());
        }
        found.add_folders_of(path);
        found.folders.insert(path.to_owned());
        for name in names(&base.join(path))? {
            let path = format!("{path}/{name}");
            let full = base.join(&path);
            let why = match (fs::symlink_metadata(&full), fs::metadata(&full)) {
                (_, Ok(there)) if there.is_file() => None,
                (Ok(here), _) if here.is_dir() => None,
                (Ok(here), Ok(_)) if here.is_symlink() => Some("a link to what is not a file"),
                (Ok(here), Err(_)) if here.is_symlink() => Some("a link to nothing"),
                (Ok(_), _) => Some("neither a file nor a folder"),
                // It was removed meanwhile.
                (Err(_), _) => continue,
            };
            match why {
                None => self.take(base, &path, found)?,
                Some(why) => found
                    .notes
                    .push(format!("{path} is left out of the results: it is {why}")),
            }
        }
        Ok(())
    }

    /// Copies all into a folder, and to the disk; `made` gets the names of the files.
    fn copy(
        &self,
        base: &Path,
        found: &Found,
        part: &str,
        made: &mut Vec<String>,
    ) -> io::Result<()> {
        let records = &self.records;
        records.make_dir(RESULTS)?;
        records.make_dir(part)?;
        // A folder comes before those in it.
        for folder in &found.folders {
            records.make_dir(&format!("{part}/{folder}"))?;
        }
        for file in &found.files {
            let to = format!("{part}/{file}");
            // One of an attempt that was given back, and begun again.
            records.remove(&to)?;
            let mut from = File::open(base.join(file))?;
            let how = match from.metadata()?.mode() & 0o111 {
                0 => Open::CreateNew,
                _ => Open::CreateProgram,
            };
            let new = records.open(&to, how)?;
            made.push(to);
            if self.is_piped {
                send(&mut from, &*new)?;
            } else {
                // The kernel copies it, or shares its blocks.
                io::copy(&mut from, &mut File::from(new.share()?))?;
            }
            new.sync()?;
        }
        for folder in &found.folders {
            records.sync_names_in(&format!("{part}/{folder}"))?;
        }
        records.sync_names_in(part)
    }

    /// Gives the folder the first name that is free.
    fn name(&self, task: &Task, part: &str) -> io::Result<()> {
        for nth in 1.. {
            let name = match nth {
                1 => format!("{RESULTS}/{}", task.id),
                nth => format!("{RESULTS}/{}.{nth}", task.id),
            };
            if self.records.inode(&name)?.is_some() {
                continue;
            }
            match self.records.rename(part, &name) {
                // Another has just taken it.
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(libc::EEXIST | libc::ENOTEMPTY | libc::ENOTDIR)
                    ) => {}
                Err(error) => return Err(error),
                Ok(()) => return self.records.sync_names_in(RESULTS),
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }
}

impl Found {
    fn add_folders_of(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.folders.insert(path[..at].to_owned());
        }
    }
}

/// What has such a name in the folder.
fn paths(pattern: &str, wanted: &Wanted, folder: &Path) -> io::Result<Vec<String>> {
    let parts: Vec<&str> = pattern.split('/').collect();
    let mut paths = Vec::new();
    expand(folder, String::new(), &parts, &mut paths)?;
    // A pattern does not mean what was there before.
    if pattern.contains(['*', '?']) {
        paths.retain(|path| !wanted.inputs.contains(path));
    }
    Ok(paths)
}

/// Sends a file by a pipe. A write has no answer: each piece is followed by a question.
fn send(from: &mut File, to: &dyn DirFile) -> io::Result<()> {
    let (mut offset, mut pace) = (0, Pace::default());
    let mut bytes = vec![0; MOST_PIECE];
    loop {
        let piece = pace.piece(u64::MAX);
        let read = from.read(&mut bytes[..piece])?;
        if read == 0 {
            return Ok(());
        }
        let since = Instant::now();
        to.write_at(&bytes[..read], offset)?;
        offset += read as u64;
        if to.len()? != offset {
            return Err(ErrorKind::WriteZero.into());
        }
        pace.took(since.elapsed());
    }
}

/// The names in a folder, in order.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(folder)?.map(|entry| {
        let name = entry?.file_name();
        let name = name.into_string();
        name.map_err(|name| io::Error::other(format!("{} is not UTF-8", name.display())))
    });
    let mut names = names.collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

/// Notes what is there of this name. As in a shell, `*` does not begin with a point.
fn expand(base: &Path, before: String, parts: &[&str], found: &mut Vec<String>) -> io::Result<()> {
    let Some((part, rest)) = parts.split_first() else {
        if fs::symlink_metadata(base.join(&before)).is_ok() {
            found.push(before);
        }
        return Ok(());
    };
    let with = |name: &str| match &*before {
        "" => name.to_owned(),
        before => format!("{before}/{name}"),
    };
    if !part.contains(['*', '?']) {
        return expand(base, with(part), rest, found);
    }
    let pattern = WildMatch::new(part);
    let names = match names(&base.join(&before)) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(());
        }
        names => names?,
    };
    for name in names {
        let is_hidden = name.starts_with('.') && !part.starts_with('.');
        if !is_hidden && pattern.matches(&name) {
            expand(base, with(&name), rest, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::task::TaskId;
    use crate::workdir::fs::RealDir;

    #[test]
    fn patterns_find_what_a_shell_finds() {
        let folder = tempfile::tempdir().unwrap();
        for path in [
            "a/one.dat",
            "a/two.dat",
            "b/one.dat",
            "a/.hidden.dat",
            "x.txt",
        ] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        for (pattern, paths) in [
            ("x.txt", &["x.txt"][..]),
            ("*/one.dat", &["a/one.dat", "b/one.dat"]),
            ("a/*.dat", &["a/one.dat", "a/two.dat"]),
            ("a/.*", &["a/.hidden.dat"]),
            ("?", &["a", "b"]),
            ("a", &["a"]),
            ("none", &[]),
            ("none/*", &[]),
            ("x.txt/*", &[]),
        ] {
            let mut found = Vec::new();
            let parts: Vec<&str> = pattern.split('/').collect();
            expand(folder.path(), String::new(), &parts, &mut found).unwrap();
            assert_eq!(found, paths, "{pattern}");
        }
    }

    #[test]
    fn a_result_is_whole_and_never_overwritten() {
        let place = tempfile::tempdir().unwrap();
        let (workdir, folder) = (place.path().join("w"), place.path().join("f"));
        fs::create_dir_all(&workdir).unwrap();
        fs::create_dir_all(folder.join("out/deep")).unwrap();
        fs::write(folder.join("out/deep/a"), "a").unwrap();
        fs::write(folder.join("b"), "b").unwrap();
        std::os::unix::fs::symlink("../b", folder.join("out/link")).unwrap();
        std::os::unix::fs::symlink(".", folder.join("out/round")).unwrap();
        let results = Results {
            records: RealDir::open(&workdir).unwrap(),
            is_piped: false,
            workdir: workdir.clone(),
            farmer: "f".into(),
        };
        let task = Task {
            failures: 0,
            id: TaskId(7),
            line: Vec::new(),
            attempt: 1,
        };
        let wanted = |outputs: &[&str]| Wanted {
            inputs: Vec::new(),
            outputs: outputs.iter().map(|&path| path.to_owned()).collect(),
        };
        let all = wanted(&["out", "b"]);
        let notes = results.bring(&task, &all, &folder, || true).unwrap();
        assert_eq!(notes.len(), 1, "{notes:?}");
        let text = |name: &str| fs::read_to_string(workdir.join("results").join(name)).unwrap();
        assert_eq!(
            (text("7/out/deep/a"), text("7/out/link")),
            ("a".into(), "b".into())
        );
        fs::write(folder.join("b"), "other").unwrap();
        results.bring(&task, &all, &folder, || true).unwrap();
        assert_eq!((text("7/b"), text("7.2/b")), ("b".into(), "other".into()));
        // Nothing that looks like a result.
        assert!(results.bring(&task, &all, &folder, || false).is_err());
        let why = results.bring(&task, &wanted(&["b", "none*"]), &folder, || true);
        assert_eq!(why.unwrap_err(), "its result none* is not there");
        let mut names: Vec<_> = names(&workdir.join("results")).unwrap();
        names.retain(|name| !name.starts_with('.'));
        assert_eq!(names, ["7", "7.2"]);
    }
}
