//! Preparing a workdir for its task list: the first time, again with the same
//! list, again with a changed one, and after PyTaskFarmer.
//!
//! A task's id is permanent. A changed list is matched by the text of its lines
//! (and the how-manieth occurrence of it): a line that was there keeps its id,
//! a new one gets the next free id, one that vanished leaves `toprocess`. So
//! nothing that is done is ever mistaken for something else.
//!
//! Lists are read as streams; what is kept in memory of a task is a few words,
//! never its line.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::commit::Txn;
use super::error::{Context, Error, Result};
use super::fs::{Dir, Open};
use super::journal;
use super::layout::{self, FAILED, FINISHED, NODES, REQUEUED, TASKS, TOPROCESS};
use super::lines::Lines;
use super::lock::{Mechanism, Waiting};
use super::new_file::NewFile;
use super::state::{self, Act, Known, LOCK, ListIdentity, Queue, State};
use crate::model::task::{TaskId, parse_line};
use crate::model::tasklist::{ListError, Parser, Remarks};

/// A task list in a regular file.
pub struct ListFile {
    path: PathBuf,
    identity: ListIdentity,
}

impl ListFile {
    /// `None` when it is no regular file, and so must be read as a stream.
    pub fn at(path: &Path) -> std::io::Result<Option<Self>> {
        let stat = std::fs::metadata(path)?;
        if stat.is_dir() {
            return Err(std::io::ErrorKind::IsADirectory.into());
        }
        if !stat.is_file() {
            return Ok(None);
        }
        std::fs::File::open(path)?;
        let identity = ListIdentity {
            len: stat.len(),
            mtime: stat.mtime(),
            mtime_nsec: stat.mtime_nsec(),
            inode: stat.ino(),
        };
        Ok(Some(Self {
            path: path.to_owned(),
            identity,
        }))
    }

    pub(super) fn each(
        &self,
        mut task: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Remarks, ListTrouble> {
        let name = || self.path.display().to_string();
        let unreadable = |source| ListTrouble::Unreadable {
            list: name(),
            source,
        };
        let mut file = std::fs::File::open(&self.path).map_err(unreadable)?;
        let mut parser = Parser::new();
        let mut chunk = vec![0; 1 << 18];
        let mut done = Ok(());
        let mut emit = |line: &[u8]| {
            if done.is_ok() {
                done = task(line);
            }
        };
        loop {
            let read = file.read(&mut chunk).map_err(unreadable)?;
            let wrong = |source| ListTrouble::Wrong {
                list: name(),
                source,
            };
            if read == 0 {
                parser.finish(&mut emit).map_err(wrong)?;
                break;
            }
            parser.feed(&chunk[..read], &mut emit).map_err(wrong)?;
        }
        done?;
        Ok(parser.remarks())
    }
}

/// Why a list cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub enum ListTrouble {
    /// It cannot be read.
    #[error("cannot read the task list {list}: {source}")]
    Unreadable {
        /// Its path.
        list: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A line of it can never run.
    #[error("{list}: {source}")]
    Wrong {
        /// Its path.
        list: String,
        /// Which line, and what is wrong with it.
        source: ListError,
    },
    /// It is not the list that the workdir was made from, and must be.
    #[error("{0}")]
    Refused(String),
    /// The workdir.
    #[error(transparent)]
    Workdir(#[from] Error),
}

/// What preparing found.
#[derive(Debug, Default)]
pub struct Prepared {
    /// Whether the workdir was new.
    pub is_new: bool,
    /// Tasks that PyTaskFarmer had left, when it made the workdir.
    pub imported: bool,
    /// What people should know about the list; only when it was read.
    pub remarks: Option<Remarks>,
    /// How a changed list differs.
    pub changed: Option<Changed>,
}

/// How a list differs from the one that the workdir knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Lines that are new.
    pub new: u64,
    /// The id that the first of them got.
    pub first_new: u64,
    /// Lines that are gone.
    pub vanished: u64,
    /// Of these, tasks that will not run any more.
    pub dropped: u64,
}

/// Makes the workdir ready for a list; several processes may try at once, one
/// does it.
pub fn prepare(
    dir: &Arc<dyn Dir>,
    mechanism: Mechanism,
    who: &str,
    waiting: &mut dyn Waiting,
    list: &ListFile,
    strict: bool,
) -> Result<Prepared, ListTrouble> {
    // A look without the lock: most processes find everything done.
    let look = dir.open(LOCK, Open::Create).context("open", LOCK)?;
    if state::read(&*look)?.is_some_and(|state| state.list.as_ref() == Some(&list.identity)) {
        return Ok(Prepared::default());
    }
    drop(look);
    let mut txn = Txn::begin(dir, mechanism, who, waiting)?;
    if txn.state().list.as_ref() == Some(&list.identity) {
        return Ok(Prepared::default());
    }
    let mut prepared = Prepared {
        is_new: txn.state().seq == 0,
        ..Prepared::default()
    };
    if prepared.is_new {
        check_never_used(dir).map_err(|error| txn.verdict(error))?;
        let imported = import(&mut txn, list);
        prepared.imported = imported.map_err(|error| txn.verdict(error))?;
    }
    if prepared.is_new && !prepared.imported {
        prepared.remarks = Some(fresh(&mut txn, list)?);
    } else {
        let matched = matched(&mut txn, list, strict);
        let (remarks, changed) = matched.map_err(|error| txn.verdict(error))?;
        (prepared.remarks, prepared.changed) = (Some(remarks), changed);
    }
    txn.state_mut().list = Some(list.identity.clone());
    txn.commit(Act::Prepare)?;
    Ok(prepared)
}

/// A workdir without a state has had no results, or it has lost its state.
fn check_never_used(dir: &Arc<dyn Dir>) -> Result<()> {
    let names = dir.list(NODES).context("list", NODES)?;
    for farmer in names.iter().filter_map(|name| layout::farmer_of(name)) {
        let name = layout::journal(farmer);
        let journal = dir.open(&name, Open::Read).context("open", &name)?;
        if !journal::ends(&*journal).context("read", &name)?.is_empty() {
            let what = format!(
                "it is gone or empty, but {name} holds results; see docs/workdir.md, \
                 \"A damaged workdir\""
            );
            return Err(Error::Damaged {
                file: LOCK.into(),
                what,
            });
        }
    }
    Ok(())
}

/// Makes the workdir ready for tasks from a stream.
pub fn prepare_stream(
    dir: &Arc<dyn Dir>,
    mechanism: Mechanism,
    who: &str,
    waiting: &mut dyn Waiting,
) -> Result<Prepared> {
    let txn = Txn::begin(dir, mechanism, who, waiting)?;
    if txn.state().seq > 0 {
        return Ok(Prepared::default());
    }
    check_never_used(dir).map_err(|error| txn.verdict(error))?;
    for name in [TASKS, TOPROCESS, FINISHED, FAILED, REQUEUED] {
        let file = dir.open(name, Open::Create).context("create", name)?;
        if file.len().context("look at", name)? > 0 {
            let what = "the workdir was made by PyTaskFarmer: give its task list as a file";
            return Err(txn.verdict(Error::Refused(what.into())));
        }
    }
    txn.commit(Act::Prepare)?;
    Ok(Prepared {
        is_new: true,
        ..Prepared::default()
    })
}

fn fresh(txn: &mut Txn<'_>, list: &ListFile) -> Result<Remarks, ListTrouble> {
    let mut tasks = txn.new_file(TASKS)?;
    let mut queue = txn.new_file(TOPROCESS)?;
    let mut next = 0;
    let remarks = list.each(|line| {
        tasks
            .write_task(TaskId(next), line)
            .context("write", TASKS)?;
        queue
            .write_task(TaskId(next), line)
            .context("write", TOPROCESS)?;
        next += 1;
        Ok(())
    })?;
    for name in [FINISHED, FAILED, REQUEUED] {
        txn.dir().open(name, Open::Create).context("create", name)?;
    }
    let known = tasks.known();
    txn.state_mut().tasks = known;
    txn.state_mut().queue = Queue {
        len: known.len,
        left: known.lines,
        cursor: 0,
        generation: 1,
        head: queue.head(),
    };
    txn.replace(TASKS, tasks)?;
    txn.replace(TOPROCESS, queue)?;
    Ok(remarks)
}

/// Takes over what PyTaskFarmer left: three files and no state. Its ids count
/// the lines that are not blank and do not begin with `#`.
fn import(txn: &mut Txn<'_>, list: &ListFile) -> Result<bool, ListTrouble> {
    let mut known: HashMap<u64, u64> = HashMap::new();
    let mut done = [Known::default(); 2];
    let mut any = false;
    for (nth, name) in [FINISHED, FAILED, TOPROCESS].into_iter().enumerate() {
        let file = txn.dir().open(name, Open::Create).context("open", name)?;
        let len = file.len().context("look at", name)?;
        any |= len > 0;
        let mut lines = Lines::new(&*file, 0, len);
        while let Some(line) = lines.next().context("read", name)? {
            let (id, text) = parse_line(line).ok_or_else(|| not_a_task_line(name, line))?;
            known.insert(id.0, key(text).0);
            if let Some(done) = done.get_mut(nth) {
                done.lines += 1;
            }
        }
        if lines.at() < len {
            let what = "its last line has no end: mend or remove that line".into();
            return Err(Error::Damaged {
                file: name.into(),
                what,
            }
            .into());
        }
        if let Some(done) = done.get_mut(nth) {
            done.len = len;
        }
    }
    if !any {
        return Ok(false);
    }
    let tasks = pytaskfarmer_tasks(txn, list, &known)?;
    txn.state_mut().tasks = tasks.known();
    txn.replace(TASKS, tasks)?;
    [txn.state_mut().finished, txn.state_mut().failed] = done;
    Ok(true)
}

fn not_a_task_line(name: &str, line: &[u8]) -> Error {
    let shown = String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned();
    let what = format!("'{shown}' is no task id and a command: mend or remove that line");
    Error::Damaged {
        file: name.into(),
        what,
    }
}

/// The list as PyTaskFarmer numbers it, which must agree with what its files say.
fn pytaskfarmer_tasks(
    txn: &Txn<'_>,
    list: &ListFile,
    known: &HashMap<u64, u64>,
) -> Result<NewFile, ListTrouble> {
    let name = list.path.display().to_string();
    let unreadable = |source| ListTrouble::Unreadable {
        list: name.clone(),
        source,
    };
    let text = std::fs::read(&list.path).map_err(unreadable)?;
    let mut tasks = txn.new_file(TASKS)?;
    let mut id = 0;
    for line in text.split(|&b| b == b'\n') {
        let stripped = line.trim_ascii();
        if line.starts_with(b"#") || stripped.is_empty() {
            continue;
        }
        if known
            .get(&id)
            .is_some_and(|&there| there != key(stripped).0)
        {
            return Err(ListTrouble::Refused(format!(
                "the workdir was made by PyTaskFarmer from another list than {name}: task {id} \
                 differs; run it with the list it was made from"
            )));
        }
        tasks
            .write_task(TaskId(id), stripped)
            .context("write", TASKS)?;
        id += 1;
    }
    if known.keys().any(|&there| there >= id) {
        return Err(ListTrouble::Refused(format!(
            "the workdir was made by PyTaskFarmer from a longer list than {name}"
        )));
    }
    Ok(tasks)
}

/// Two independent hashes of a line.
fn key(line: &[u8]) -> (u64, u64) {
    let hash = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, line).hash(&mut hasher);
        hasher.finish()
    };
    (hash(1), hash(2))
}

/// The known tasks by text, and which occurrences the new list has used.
struct ByText {
    tasks: Vec<((u64, u64), u64)>,
    used: Vec<bool>,
}

impl ByText {
    fn read(txn: &mut Txn<'_>) -> Result<Self> {
        let mut tasks = Vec::new();
        txn.each_line(TASKS, |line| {
            if let Some((id, text)) = parse_line(line) {
                tasks.push((key(text), id.0));
            }
        })?;
        tasks.sort_unstable();
        let used = vec![false; tasks.len()];
        Ok(Self { tasks, used })
    }

    /// The first task with this text that is not yet used.
    fn take(&mut self, line: &[u8]) -> Option<u64> {
        let key = key(line);
        let from = self.tasks.partition_point(|(there, _)| *there < key);
        let same = self.tasks[from..]
            .iter()
            .take_while(|(there, _)| *there == key)
            .count();
        let free = (from..from + same).find(|&at| !self.used[at])?;
        self.used[free] = true;
        Some(self.tasks[free].1)
    }

    fn vanished(&self) -> impl Iterator<Item = u64> + '_ {
        self.tasks
            .iter()
            .zip(&self.used)
            .filter(|(_, used)| !**used)
            .map(|((_, id), _)| *id)
    }
}

/// Matches a list with the known tasks; writes `toprocess` anew when it differs.
fn matched(
    txn: &mut Txn<'_>,
    list: &ListFile,
    strict: bool,
) -> Result<(Remarks, Option<Changed>), ListTrouble> {
    let was_known = txn.state().tasks.lines;
    let mut by_text = ByText::read(txn)?;
    let (mut order, mut new, mut next) = (Vec::new(), Vec::new(), was_known);
    let remarks = list.each(|line| {
        order.push(by_text.take(line).unwrap_or_else(|| {
            crate::model::task::push_line(&mut new, TaskId(next), line);
            next += 1;
            next - 1
        }));
        Ok(())
    })?;
    let is_same = next == was_known && order.iter().copied().eq(0..was_known);
    let is_prepared = txn.state().seq > 0;
    if is_same && is_prepared {
        return Ok((remarks, None));
    }
    let n_new = next - was_known;
    let mut changed = Changed {
        new: n_new,
        first_new: was_known,
        ..Changed::default()
    };
    changed.vanished = by_text.vanished().count() as u64;
    if is_prepared {
        refuse(&changed, was_known, order.len() as u64, list, strict)?;
    }
    let busy = busy(txn, next)?;
    let gone = by_text.vanished().filter(|&id| !busy[index(id)]).count() as u64;
    changed.dropped = gone.saturating_sub(txn.state().dropped);
    txn.state_mut().dropped = gone;
    txn.append_tasks(&new, n_new)?;
    requeue_all(txn, list, &order, &busy)?;
    Ok((remarks, (!is_same).then_some(changed)))
}

fn refuse(
    changed: &Changed,
    was_known: u64,
    lines: u64,
    list: &ListFile,
    strict: bool,
) -> Result<(), ListTrouble> {
    let name = list.path.display();
    if strict {
        return Err(ListTrouble::Refused(format!(
            "{name} is not the list that this workdir was made from: {} lines are new, {} are gone; \
             without --strict it is matched line by line",
            changed.new, changed.vanished
        )));
    }
    if was_known > 0 && lines > 0 && changed.new == lines {
        return Err(ListTrouble::Refused(format!(
            "no line of {name} is among the {was_known} tasks of this workdir: it belongs to another \
             list; choose another with --workdir"
        )));
    }
    Ok(())
}

/// Which tasks must not be queued: done, or in the hands of a live farmer.
fn busy(txn: &mut Txn<'_>, n: u64) -> Result<Vec<bool>> {
    let mut busy = vec![false; usize::try_from(n).unwrap_or(0)];
    for name in [FINISHED, FAILED] {
        txn.each_line(name, |line| {
            let id = parse_line(line).and_then(|(id, _)| usize::try_from(id.0).ok());
            if let Some(busy) = id.and_then(|id| busy.get_mut(id)) {
                *busy = true;
            }
        })?;
    }
    for id in claimed(&txn.entries()?) {
        if let Some(busy) = usize::try_from(id).ok().and_then(|id| busy.get_mut(id)) {
            *busy = true;
        }
    }
    Ok(busy)
}

/// What live farmers have claimed in this log and not given back; some of it
/// may be settled.
fn claimed(entries: &[state::Entry]) -> Vec<u64> {
    let mut claims: HashMap<u64, u32> = HashMap::new();
    for entry in entries {
        match &entry.act {
            Act::Join { by, claim, .. } => {
                claims.extend(claim.iter().map(|id| (id.0, *by)));
            }
            Act::Turn {
                by,
                claim,
                back,
                leave,
                ..
            } => {
                // In this order: what is given back may be claimed again at once.
                for id in back.iter() {
                    claims.remove(&id.0);
                }
                claims.extend(claim.iter().map(|id| (id.0, *by)));
                if *leave {
                    claims.retain(|_, owner| owner != by);
                }
            }
            Act::Seal { of, .. } => claims.retain(|_, owner| owner != of),
            Act::Retry { ids } | Act::Quarantine { ids, .. } => ids.iter().for_each(|id| {
                claims.remove(&id.0);
            }),
            Act::Prepare | Act::Release { .. } => {}
        }
    }
    claims.into_keys().collect()
}

fn index(id: u64) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}

/// Writes `toprocess` anew: the lines of the list, in its order, that are not busy.
fn requeue_all(
    txn: &mut Txn<'_>,
    list: &ListFile,
    order: &[u64],
    busy: &[bool],
) -> Result<(), ListTrouble> {
    let mut queue = txn.new_file(TOPROCESS)?;
    let mut order = order.iter();
    list.each(|line| match order.next() {
        Some(&id) if !busy[index(id)] => queue
            .write_task(TaskId(id), line)
            .context("write", TOPROCESS),
        _ => Ok(()),
    })?;
    let (known, generation) = (queue.known(), txn.state().queue.generation + 1);
    txn.state_mut().queue = Queue {
        len: known.len,
        left: known.lines,
        cursor: 0,
        generation,
        head: queue.head(),
    };
    txn.replace(TOPROCESS, queue)?;
    Ok(())
}

/// The state of a workdir, as a look without the lock shows it; `None` before
/// it was prepared.
pub fn look(dir: &Arc<dyn Dir>) -> Result<Option<State>> {
    match dir.open(LOCK, Open::Read) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        file => state::read(&*file.context("open", LOCK)?),
    }
}
