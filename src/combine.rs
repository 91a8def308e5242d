//! `pytf combine`: the results of all tasks in one tree.
//!
//! Guarantee: nothing is written unless all of it can be; an existing file is never changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use pytf::cli::Combine;
use pytf::exit::RunExit;
use pytf::model::escape::escape;
use pytf::model::figures::counted;
use pytf::ui::progress::warn;
use pytf::workdir::layout::{LOCK, RESULTS};

use crate::say;

/// So many collisions are named.
const MOST_NAMED: usize = 20;

/// A result: the folder of a task.
struct TaskResult {
    task: u64,
    path: PathBuf,
}

/// A file for the tree.
struct Source {
    task: u64,
    path: PathBuf,
}

/// What the tree is to have.
#[derive(Default)]
struct Tree {
    files: BTreeMap<PathBuf, Source>,
    /// With a task that has it.
    folders: BTreeMap<PathBuf, u64>,
    /// Files that several tasks have, and that are the same.
    same: u64,
    collisions: Vec<String>,
}

/// Combines them.
pub(crate) fn combine(args: &Combine) -> RunExit {
    let results = if args.results.join(LOCK).exists() {
        args.results.join(RESULTS)
    } else {
        args.results.clone()
    };
    let cannot = |error: &io::Error| warn(&format!("cannot combine the results: {error}"));
    let (all, unknown) = match tasks(&results) {
        Ok(found) => found,
        Err(error) => {
            cannot(&error);
            return RunExit::WorkdirUnusable;
        }
    };
    for name in unknown {
        warn(&format!(
            "{} is not a task and is left out",
            escape(name.as_bytes())
        ));
    }
    let done = tree(&all, &args.folder).and_then(|tree| {
        if !tree.collisions.is_empty() {
            refuse(&tree.collisions);
            return Ok(RunExit::SomeFailed);
        }
        tree.write(&args.folder)?;
        let files = counted(tree.files.len() as u64, "file", "files");
        let tasks = counted(all.len() as u64, "task", "tasks");
        let same = match tree.same {
            0 => String::new(),
            n => format!(", {n} more were the same"),
        };
        let folder = args.folder.display();
        Ok(say(&format!("{files} of {tasks} in {folder}{same}\n")))
    });
    done.unwrap_or_else(|error| {
        cannot(&error);
        RunExit::WorkdirUnusable
    })
}

fn refuse(collisions: &[String]) {
    for what in collisions.iter().take(MOST_NAMED) {
        warn(what);
    }
    let more = collisions.len().saturating_sub(MOST_NAMED);
    let more = match more {
        0 => String::new(),
        n => format!("{n} more collide; "),
    };
    warn(&format!("{more}nothing was written"));
}

/// The result of each task, the latest where there are several; and names that are not of tasks.
fn tasks(results: &Path) -> io::Result<(Vec<TaskResult>, Vec<String>)> {
    let mut latest: BTreeMap<u64, (u32, PathBuf)> = BTreeMap::new();
    let mut unknown = BTreeSet::new();
    let at = |error| with_path(results, &error);
    for entry in fs::read_dir(results).map_err(at)? {
        let entry = entry.map_err(at)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // It is being made, or never became whole.
        if name.starts_with('.') {
            continue;
        }
        let (task, nth) = name.split_once('.').unwrap_or((&name, "1"));
        let (Ok(task), Ok(nth)) = (task.parse(), nth.parse()) else {
            unknown.insert(name.into_owned());
            continue;
        };
        let known = latest.entry(task).or_default();
        if nth > known.0 {
            *known = (nth, entry.path());
        }
    }
    let all = latest.into_iter();
    let all = all.map(|(task, (_, path))| TaskResult { task, path });
    Ok((all.collect(), unknown.into_iter().collect()))
}

/// What all of them have together, compared with what is in the folder.
fn tree(all: &[TaskResult], folder: &Path) -> io::Result<Tree> {
    let mut tree = Tree::default();
    for result in all {
        tree.add(result.task, &result.path, Path::new(""))?;
    }
    for (name, source) in &tree.files {
        let there = folder.join(name);
        let is_in_the_way = match fs::symlink_metadata(&there) {
            Ok(stat) => !stat.is_file() || !is_same(&there, &source.path)?,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) if error.kind() == ErrorKind::NotADirectory => true,
            Err(error) => return Err(with_path(&there, &error)),
        };
        if is_in_the_way {
            let (name, there, task) = (shown(name), folder.display(), source.task);
            tree.collisions.push(format!(
                "{name} of task {task} is not what {there} has of this name"
            ));
        }
    }
    Ok(tree)
}

impl Tree {
    /// Adds what is in a folder of a result; `below` is its name in the tree.
    fn add(&mut self, task: u64, folder: &Path, below: &Path) -> io::Result<()> {
        let at = |error| with_path(folder, &error);
        for entry in fs::read_dir(folder).map_err(at)? {
            let entry = entry.map_err(at)?;
            let (path, name) = (entry.path(), below.join(entry.file_name()));
            let kind = entry.file_type().map_err(at)?;
            if kind.is_dir() {
                if let Some(other) = self.files.get(&name) {
                    let other = other.task;
                    self.collide(&name, other, task, "is a file, and a folder");
                }
                self.folders.insert(name.clone(), task);
                self.add(task, &path, &name)?;
            } else if !kind.is_file() {
                let name = shown(&name);
                self.collisions.push(format!(
                    "{name} of task {task} is neither a file nor a folder"
                ));
            } else if let Some(&other) = self.folders.get(&name) {
                self.collide(&name, other, task, "is a folder, and a file");
            } else if let Some(other) = self.files.get(&name) {
                let other_task = other.task;
                if is_same(&other.path, &path)? {
                    self.same += 1;
                } else {
                    self.collide(&name, other_task, task, "is not the same");
                }
            } else {
                self.files.insert(name, Source { task, path });
            }
        }
        Ok(())
    }

    fn collide(&mut self, name: &Path, one: u64, other: u64, how: &str) {
        let name = shown(name);
        self.collisions.push(format!(
            "{name} of task {one} and of task {other}: it {how}"
        ));
    }

    /// Writes what is not there.
    fn write(&self, folder: &Path) -> io::Result<()> {
        for name in self.folders.keys() {
            fs::create_dir_all(folder.join(name))?;
        }
        fs::create_dir_all(folder)?;
        let new = folder.join(format!(".pytf-combine-{}", std::process::id()));
        for (name, source) in &self.files {
            let to = folder.join(name);
            if fs::symlink_metadata(&to).is_ok() {
                continue;
            }
            // A link does not replace what somebody has made meanwhile.
            let done = fs::copy(&source.path, &new).and_then(|_| fs::hard_link(&new, &to));
            let _ = fs::remove_file(&new);
            done.map_err(|error| with_path(&to, &error))?;
        }
        Ok(())
    }
}

fn shown(name: &Path) -> String {
    escape(name.as_os_str().as_encoded_bytes())
}

fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Whether two files have the same content.
fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let open = |path: &Path| File::open(path).map_err(|error| with_path(path, &error));
    let (mut one, mut other) = (open(one)?, open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 1 << 20], Vec::new());
    loop {
        let read = one.read(&mut left)?;
        right.resize(read, 0);
        match other.read_exact(&mut right) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            done => done?,
        }
        if left[..read] != right[..] {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
    }
}
