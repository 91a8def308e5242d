//! Making a damaged workdir whole again: from the journals, which hold every
//! result, and from what the other files still say.
//!
//! It works without the state, which may be what is damaged. Others rely on
//! this: nothing is changed while a farmer is alive; what there was is copied
//! into a folder first; the new `lock` takes its place last, so a repair that was
//! cut off is simply done again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::commit::Why;
use super::error::{Context, Error, Result};
use super::farmers;
use super::fs::{Dir, File, NoFile, Open, is_no_folder, read_from};
use super::layout::{self, DONE, FAILED, FINISHED, LOGS, NODES, REQUEUED, TASKS, TOPROCESS};
use super::lines::{Lines, sum_of};
use super::lock::{Mechanism, Waiting};
use super::new_file::NewFile;
use super::resume::{ListFile, ListTrouble};
use super::state::{self, Act, FORMAT, LOCK, Log, Members, State};
use super::watch;
use crate::model::durations;
use crate::model::identity::Process;
use crate::model::liveness::{Lock, Verdict, unlocked_after};
use crate::model::outcome::Destination;
use crate::model::record::Record;
use crate::model::task::{TaskId, parse_line};
use crate::model::tasklist::Dialect;

/// What a repair made of a workdir.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Tasks in `finished`.
    pub finished: u64,
    /// Tasks in `failed`.
    pub failed: u64,
    /// Tasks in `toprocess`.
    pub left: u64,
    /// Lines in any file that were not to be used.
    pub unusable: u64,
    /// The folder in the workdir that holds the files as they were.
    pub kept: String,
}

/// Makes all files anew. `list` is the task list that the workdir was made from,
/// for lines that no file holds any more; `fallback` is how the lock is taken when no
/// state tells.
pub fn repair(
    dir: &Arc<dyn Dir>,
    list: Option<(&Path, &Dialect)>,
    fallback: Mechanism,
    waiting: &mut dyn Waiting,
) -> Result<Repaired, ListTrouble> {
    for folder in [NODES, DONE, LOGS] {
        make_folder(dir, folder)?;
    }
    for folder in [NODES, DONE] {
        for name in dir.list(folder).context("list", folder)? {
            let name = format!("{folder}/{name}");
            if name != DONE {
                move_away_if_no_file(dir, &name)?;
            }
        }
    }
    move_away_if_no_file(dir, LOCK)?;
    let lock = dir.open(LOCK, Open::Create).context("open", LOCK)?;
    check_nobody_works(dir, &*lock, fallback, waiting)?;
    let state = state::read(&*lock).ok().flatten();
    let mut found = Remains::read(dir, &*lock, state.as_ref())?;
    if let Some(state) = state {
        found.weigh(&state);
    }
    if let Some(list) = list {
        found.take_lines_of(list)?;
    }
    found.check_complete(list.is_some())?;
    let kept = keep(dir)?;
    let mut repaired = found.write(dir, (&*lock, fallback))?;
    repaired.kept = kept;
    Ok(repaired)
}

/// The lock that we get is kept until `lock` is closed.
fn check_nobody_works(
    dir: &Arc<dyn Dir>,
    lock: &dyn File,
    fallback: Mechanism,
    waiting: &mut dyn Waiting,
) -> Result<()> {
    // It may be the state that is damaged.
    let state = state::read(lock).ok().flatten();
    let mechanism = state.map_or(fallback, |state| state.mechanism);
    for way in [Mechanism::Flock, Mechanism::Fcntl] {
        match lock.try_lock(way) {
            Ok(false) => return refuse("another process"),
            // An error is no answer; nobody takes it in another way than all do.
            Err(error) if way == mechanism => return Err(error).context("lock", LOCK),
            Ok(true) | Err(_) => {}
        }
    }
    let now = stamp(dir)?;
    farmers::move_marked(dir)?;
    let mut open = farmers::unsealed(dir)?;
    let (began, mut rounds) = (waiting.now(), 0_u32);
    while !open.is_empty() {
        let watched = waiting.now().saturating_sub(began);
        for farmer in std::mem::take(&mut open) {
            match look_at(dir, mechanism, &farmer, (now, watched), waiting)? {
                Opinion::Over => {}
                Opinion::Dying if rounds < 300 => open.push(farmer),
                Opinion::Unproved => {
                    if rounds == 0 {
                        let most = durations::show(unlocked_after(waiting.takeover()));
                        let text = format!(
                            "waiting for up to {most} whether farmer {farmer} gives a sign of life"
                        );
                        waiting.tell(text);
                    }
                    open.push(farmer);
                }
                Opinion::Dying | Opinion::Works => return refuse(&format!("farmer {farmer}")),
            }
        }
        rounds += 1;
        if !open.is_empty() && !waiting.pause(Duration::from_millis(10)) {
            return Err(Error::GaveUp);
        }
    }
    Ok(())
}

fn refuse(who: &str) -> Result<()> {
    Err(Error::Refused(format!(
        "{who} works on this workdir: stop it first, or wait until it has ended"
    )))
}

/// What is thought of a farmer that has no mark.
enum Opinion {
    /// It is dead.
    Over,
    /// It has ended, and its guard ends its tasks.
    Dying,
    /// It has been silent for long. It is dead if that goes on for a while.
    Unproved,
    /// It works, or may.
    Works,
}

/// Looks at a farmer; `now` is by the file system's clock, and the farmer has been
/// `watched` for that long.
fn look_at(
    dir: &Arc<dyn Dir>,
    mechanism: Mechanism,
    farmer: &str,
    (now, watched): (Duration, Duration),
    waiting: &mut dyn Waiting,
) -> Result<Opinion> {
    let judged = watch::judge(dir, mechanism, farmer, waiting)?;
    let Some((seen, verdict)) = judged else {
        return Ok(Opinion::Over);
    };
    let takeover = waiting.takeover();
    let is_recent = now.saturating_sub(seen.modified) < takeover;
    Ok(match (verdict, seen.process, seen.lock) {
        (Verdict::Dead(_), ..) => Opinion::Over,
        (_, Process::Gone, Lock::Held) => Opinion::Dying,
        (Verdict::Alive, ..) | (_, Process::Runs, _) | (.., Lock::Held) => Opinion::Works,
        (Verdict::Unproved, _, Lock::Free) => Opinion::Unproved,
        // Clocks can lie: an old file alone proves nothing.
        _ if is_recent => Opinion::Works,
        _ if watched > unlocked_after(takeover) => Opinion::Over,
        _ => Opinion::Unproved,
    })
}

/// Whether a file is what the state knows; format 1 knew no more than lengths and
/// numbers of lines.
fn is_whole(dir: &Arc<dyn Dir>, state: &State, name: &str) -> Result<bool> {
    let known = state.known(name);
    let file = match dir.open(name, Open::Read) {
        Ok(file) => file,
        Err(error) if is_no_file(&error) => return Ok(false),
        Err(error) => return Err(error).context("open", name),
    };
    if file.len().context("look at", name)? < known.len {
        return Ok(false);
    }
    if state.format < FORMAT {
        let mut lines = Lines::new(&*file, 0, known.len);
        let mut n = 0;
        while lines.next().context("read", name)?.is_some() {
            n += 1;
        }
        return Ok(n == known.lines && lines.at() == known.len);
    }
    Ok(sum_of(&*file, known.len).context("read", name)? == known.sum)
}

/// The tasks that have not ended, as far as that is certain: those that nobody has
/// claimed, by a `toprocess` that has its checksum, and those that somebody has open, by a
/// log that has it.
fn not_ended(dir: &Arc<dyn Dir>, lock: &dyn File, state: &State) -> Result<BTreeSet<TaskId>> {
    let mut ids = BTreeSet::new();
    if state.format < FORMAT {
        return Ok(ids);
    }
    if is_whole(dir, state, TOPROCESS)? {
        let file = dir.open(TOPROCESS, Open::Read).context("open", TOPROCESS)?;
        let mut lines = Lines::new(&*file, state.queue().cursor, state.queue().len);
        while let Some(line) = lines.next().context("read", TOPROCESS)? {
            ids.extend(parse_line(line).map(|(id, _)| id));
        }
    }
    match state::entries(lock, &state.log, &Log::default()) {
        Err(Error::Damaged { .. }) => {}
        entries => {
            for member in Members::after(&entries?).iter() {
                ids.extend(member.open.ids().iter());
            }
        }
    }
    Ok(ids)
}

/// The time now, as the file system has it.
fn stamp(dir: &Arc<dyn Dir>) -> Result<Duration> {
    let name = "repair.stamp.new";
    let file = dir.open(name, Open::Create).context("create", name)?;
    file.write_at(b"now", 0).context("write", name)?;
    let now = file.modified().context("look at", name)?;
    dir.remove(name).context("remove", name)?;
    Ok(now)
}

/// What the files still say.
#[derive(Default)]
struct Remains {
    lines: BTreeMap<TaskId, Vec<u8>>,
    /// Tasks whose lines are not the same in all files: what else they may be.
    disputed: BTreeMap<TaskId, Vec<Vec<u8>>>,
    fates: BTreeMap<TaskId, Fate>,
    /// Their lines had vanished from the list.
    dropped: BTreeSet<TaskId>,
    /// How many tasks there were, by `tasks`.
    n_tasks: u64,
    /// The files that have the checksums which the state knows.
    whole: BTreeSet<&'static str>,
    /// The tasks that have certainly not ended, whatever a file says that has not its
    /// checksum.
    not_ended: BTreeSet<TaskId>,
    /// The tasks in `finished`.
    in_finished: BTreeSet<TaskId>,
    unusable: u64,
    /// Nothing that is known belongs to a later transaction.
    seq: u64,
}

/// What is known of a task: its newest attempt, and how that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fate {
    attempt: u32,
    end: Option<Destination>,
}

impl Fate {
    /// The newer attempt counts; of two records of one attempt the better.
    fn merge(&mut self, other: Self) {
        let rank = |end: Option<Destination>| match end {
            None => 0,
            Some(Destination::ToProcess) => 1,
            Some(Destination::Failed) => 2,
            Some(Destination::Finished) => 3,
        };
        if (other.attempt, rank(other.end)) > (self.attempt, rank(self.end)) {
            *self = other;
        }
    }

    fn is(self, end: Destination) -> bool {
        self.end == Some(end)
    }
}

impl Remains {
    fn read(dir: &Arc<dyn Dir>, lock: &dyn File, state: Option<&State>) -> Result<Self> {
        let mut found = Self::default();
        if let Some(state) = state {
            for name in [TASKS, FINISHED] {
                if is_whole(dir, state, name)? {
                    found.whole.insert(name);
                }
            }
            found.not_ended = not_ended(dir, lock, state)?;
        }
        for farmer in farmers::unsealed(dir)? {
            found.read_journal(dir, &layout::journal(&farmer))?;
        }
        for over in farmers::over(dir)? {
            found.seq = found.seq.max(over.seq);
            found.read_journal(dir, &over.journal)?;
        }
        // `tasks` last: where two files know a line, it is right. First when it has its
        // checksum: then no other line is believed.
        let mut files = [
            (TOPROCESS, None),
            (FAILED, Some(Destination::Failed)),
            (FINISHED, Some(Destination::Finished)),
            (TASKS, None),
        ];
        if found.whole.contains(TASKS) {
            files.rotate_right(1);
        }
        for (name, end) in files {
            found.read_tasks(dir, name, end)?;
        }
        found.read_requeued(dir)?;
        Ok(found)
    }

    fn read_journal(&mut self, dir: &Arc<dyn Dir>, name: &str) -> Result<()> {
        let mut learn = Vec::new();
        self.each_line(dir, name, |line| {
            let record = Record::parse(line);
            match &record {
                Some(Record::Start(start)) => learn.push((start.id, start.attempt, None)),
                Some(Record::End(end)) => {
                    learn.push((end.id, end.attempt, Some(end.outcome.destination())));
                }
                _ => {}
            }
            record.is_some()
        })?;
        for (id, attempt, end) in learn {
            self.learn(id, Fate { attempt, end });
        }
        Ok(())
    }

    fn learn(&mut self, id: TaskId, fate: Fate) {
        self.fates.entry(id).or_insert(fate).merge(fate);
    }

    /// Lines of tasks; in `finished` and `failed` they say how the task ended, in
    /// case its journal is gone.
    fn read_tasks(
        &mut self,
        dir: &Arc<dyn Dir>,
        name: &'static str,
        end: Option<Destination>,
    ) -> Result<()> {
        let mut tasks = Vec::new();
        self.each_line(dir, name, |line| {
            let task = parse_line(line).map(|(id, text)| (id, text.to_vec()));
            let is_task = task.as_ref().is_some_and(|(_, text)| !text.contains(&0));
            tasks.extend(task.filter(|_| is_task));
            is_task
        })?;
        let is_sure = self.whole.contains(TASKS);
        for (id, text) in tasks {
            if is_sure && name != TASKS && self.lines.get(&id) != Some(&text) {
                self.unusable += 1;
                continue;
            }
            let may_be = self.whole.contains(name) || !self.not_ended.contains(&id);
            if end.is_some() && may_be {
                // Journals know better.
                let attempt = 1;
                self.fates.entry(id).or_insert(Fate { attempt, end });
            }
            match name {
                TASKS => self.n_tasks += 1,
                FINISHED => {
                    self.in_finished.insert(id);
                }
                _ => {}
            }
            if let Some(other) = self.lines.get(&id).filter(|other| **other != text) {
                self.disputed.entry(id).or_default().push(other.clone());
            }
            self.lines.insert(id, text);
        }
        Ok(())
    }

    /// What the state knows decides between files: it leaves out tasks whose numbers are
    /// beyond all that it and `tasks` know, since these are damage themselves; and where
    /// `finished` has its checksum, a task in it is finished, whatever its journal says.
    fn weigh(&mut self, state: &State) {
        self.forget_from(TaskId(self.n_tasks.max(state.tasks.lines)));
        if !self.whole.contains(FINISHED) {
            return;
        }
        for id in &self.in_finished {
            if let Some(fate) = self.fates.get_mut(id) {
                fate.end = Some(Destination::Finished);
            }
        }
    }

    fn forget_from(&mut self, first: TaskId) {
        let strangers = self.lines.split_off(&first);
        let mut strangers: BTreeSet<TaskId> = strangers.into_keys().collect();
        strangers.extend(self.fates.split_off(&first).into_keys());
        self.disputed.split_off(&first);
        self.dropped.split_off(&first);
        self.unusable += strangers.len() as u64;
    }

    /// A task that was put back is not over, though its last attempt is; unless that
    /// succeeded: nobody puts such a task back who knows of it.
    fn read_requeued(&mut self, dir: &Arc<dyn Dir>) -> Result<()> {
        let mut back = Vec::new();
        self.each_line(dir, REQUEUED, |line| {
            let text = std::str::from_utf8(line).unwrap_or("");
            let mut words = text.split(' ');
            let is_dropped = text.ends_with(Why::Dropped.word());
            let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
            let attempt = |n| u32::try_from(n).ok().filter(|&n| n < u32::MAX / 2);
            let note = number().zip(number().and_then(attempt));
            back.extend(note.map(|(id, attempt)| (id, attempt, is_dropped)));
            note.is_some()
        })?;
        for (id, attempt, is_dropped) in back {
            if is_dropped {
                self.dropped.insert(TaskId(id));
            } else {
                self.dropped.remove(&TaskId(id));
            }
            let attempt = attempt.saturating_sub(1);
            let end = Some(Destination::ToProcess);
            let back = Fate { attempt, end };
            let fate = self.fates.entry(TaskId(id)).or_insert(back);
            if fate.attempt <= attempt && !fate.is(Destination::Finished) {
                *fate = back;
            }
        }
        Ok(())
    }

    /// Shows the whole lines of a file, if there is one; counts those that are
    /// of no use.
    fn each_line(
        &mut self,
        dir: &Arc<dyn Dir>,
        name: &str,
        mut is_good: impl FnMut(&[u8]) -> bool,
    ) -> Result<()> {
        let file = match dir.open(name, Open::Read) {
            Ok(file) => file,
            Err(error) if is_no_file(&error) => return Ok(()),
            Err(error) => return Err(error).context("open", name),
        };
        let len = file.len().context("look at", name)?;
        let mut lines = Lines::new(&*file, 0, len);
        while let Some(line) = lines.next().context("read", name)? {
            self.unusable += u64::from(!is_good(line));
        }
        self.unusable += u64::from(lines.at() < len);
        Ok(())
    }

    /// The k-th task of the list is task k, unless a file says otherwise.
    fn take_lines_of(&mut self, (list, dialect): (&Path, &Dialect)) -> Result<(), ListTrouble> {
        let unreadable = |source| ListTrouble::Unreadable {
            list: list.display().to_string(),
            source,
        };
        let Some(file) = ListFile::at(list).map_err(unreadable)? else {
            let what = "a repair needs the task list as a file, not as a stream";
            return Err(ListTrouble::Refused(what.into()));
        };
        let file = file.read_as(dialect);
        let mut next = 0;
        file.each(|line| {
            let id = TaskId(next);
            next += 1;
            let known = self.lines.entry(id).or_insert_with(|| line.to_vec());
            let others = self.disputed.get(&id).map(Vec::as_slice);
            if others.is_some_and(|others| others.iter().any(|other| other == line)) {
                *known = line.to_vec();
            }
            Ok(())
        })?;
        self.disputed.clear();
        // What the list does not lead up to is the line of no task.
        let mut ids = (0..).zip(self.lines.keys());
        let gap = ids.find(|(n, id)| id.0 != *n).map(|(n, _)| n);
        let all = self.lines.len() as u64;
        self.forget_from(TaskId(gap.unwrap_or(all).max(next)));
        Ok(())
    }

    /// Every task up to the last that is known has its line, and one only.
    fn check_complete(&self, has_list: bool) -> Result<()> {
        let way_out = if has_list {
            "the list has other lines than the one that this workdir was made from"
        } else {
            "give the list that this workdir was made from: pytf repair WORKDIR TASKLIST"
        };
        let last = self.lines.keys().chain(self.fates.keys()).max();
        let Some(last) = last else {
            let what =
                "no file holds a task: there is nothing to repair; run the list in a new one";
            return Err(Error::Refused(what.into()));
        };
        let is_known = |id: u64| self.lines.contains_key(&TaskId(id));
        let missing: Vec<u64> = (0..=last.0).filter(|&id| !is_known(id)).take(2).collect();
        if let Some(first) = missing.first() {
            let others = if missing.len() > 1 { " and others" } else { "" };
            return Err(Error::Refused(format!(
                "no file holds the line of task {first}{others}: {way_out}"
            )));
        }
        let Some(first) = self.disputed.keys().next() else {
            return Ok(());
        };
        Err(Error::Refused(format!(
            "the files differ in the line of task {first}: {way_out}"
        )))
    }

    /// Writes the files that follow from it, and the state last of all.
    fn write(
        &self,
        dir: &Arc<dyn Dir>,
        (lock, fallback): (&dyn File, Mechanism),
    ) -> Result<Repaired> {
        let new = |name: &str| NewFile::create(dir, &format!("{name}.repair.new"));
        let (mut tasks, mut requeued) = (new(TASKS)?, new(REQUEUED)?);
        let [mut finished, mut failed, mut left] = [new(FINISHED)?, new(FAILED)?, new(TOPROCESS)?];
        let mut dropped = 0;
        for (&id, line) in &self.lines {
            tasks.write_task(id, line).context("write", TASKS)?;
            let fate = self.fates.get(&id).copied();
            let is_over =
                |fate: Fate| fate.is(Destination::Finished) || fate.is(Destination::Failed);
            if self.dropped.contains(&id) && !fate.is_some_and(is_over) {
                let next = fate.map_or(1, |fate| fate.attempt + 1);
                let note = format!("{id} {next} {}\n", Why::Dropped.word());
                requeued.write(note.as_bytes()).context("write", REQUEUED)?;
                dropped += 1;
                continue;
            }
            let (file, next) = match fate {
                Some(fate) if fate.is(Destination::Finished) => (&mut finished, fate.attempt),
                Some(fate) if fate.is(Destination::Failed) => (&mut failed, fate.attempt),
                fate => (&mut left, fate.map_or(1, |fate| fate.attempt + 1)),
            };
            file.write_task(id, line).context("write", "a list")?;
            if next > 1 {
                let note = format!("{id} {next} repair\n");
                requeued.write(note.as_bytes()).context("write", REQUEUED)?;
            }
        }
        let mut state = self.state(lock, fallback);
        state.dropped = dropped;
        (state.tasks, state.requeued) = (tasks.known(), requeued.known());
        (state.finished, state.failed) = (finished.known(), failed.known());
        state.set_queue(left.queue(state.queue().generation + 1));
        for (name, file) in [
            (TASKS, tasks),
            (REQUEUED, requeued),
            (FINISHED, finished),
            (FAILED, failed),
            (TOPROCESS, left),
        ] {
            put(dir, &file.complete()?, name)?;
        }
        for farmer in farmers::unsealed(dir)? {
            farmers::mark(dir, &farmer, state.seq)?;
        }
        write_state(dir, &mut state)?;
        Ok(Repaired {
            finished: state.finished.lines,
            failed: state.failed.lines,
            left: state.left(),
            unusable: self.unusable,
            kept: String::new(),
        })
    }

    /// A state in which nobody is alive, later than all that is known.
    fn state(&self, lock: &dyn File, fallback: Mechanism) -> State {
        let old = state::read(lock).ok().flatten();
        let old = old.unwrap_or_else(|| State::new(fallback));
        let seq = old.seq.max(self.seq) + 1000;
        State {
            seq,
            log: Log {
                // There were never as many: who comes back knows that it is over.
                segment: seq,
                ..Log::default()
            },
            next_farmer: old.next_farmer,
            seals: old.seals,
            breaks: old.breaks + 1,
            renewed: old.breaks + 1,
            queues: old.queues,
            folder: old.folder,
            ..State::new(old.mechanism)
        }
    }
}

fn write_state(dir: &Arc<dyn Dir>, state: &mut State) -> Result<()> {
    let name = format!("{LOCK}.repair.new");
    dir.remove(&name).context("remove", &name)?;
    let file = dir.open(&name, Open::CreateNew).context("create", &name)?;
    state::write_new(&*file, state, (0, Act::Prepare))?;
    drop(file);
    for stale in dir.list("").context("list", "the workdir")? {
        if stale.starts_with("lock.held.") || stale.starts_with("lock.next.") {
            dir.remove(&stale).context("remove", &stale)?;
        }
    }
    put(dir, &name, LOCK)
}

/// Lets a file take its place.
fn put(dir: &Arc<dyn Dir>, from: &str, to: &str) -> Result<()> {
    move_away_if_no_file(dir, to)?;
    dir.rename(from, to).context("rename", from)?;
    dir.sync_names().context("sync", "the workdir")
}

/// What stands in a file's place, such as a folder, gets another name.
fn move_away_if_no_file(dir: &Arc<dyn Dir>, name: &str) -> Result<()> {
    match dir.open(name, Open::Read) {
        Err(error) if NoFile::of(&error).is_some() => move_away(dir, name),
        _ => Ok(()),
    }
}

/// Gives what bears this name another one, in the workdir itself.
fn move_away(dir: &Arc<dyn Dir>, name: &str) -> Result<()> {
    let taken = dir.list("").context("list", "the workdir")?;
    let base = name.rsplit('/').next().unwrap_or(name);
    let was = (1..).map(|n| format!("{base}.was-{n}"));
    let was = was.into_iter().find(|was| !taken.contains(was));
    let was = was.unwrap_or_default();
    dir.rename(name, &was).context("move away", name)
}

/// Makes a folder where there is none; what stands in its place gets another name.
fn make_folder(dir: &Arc<dyn Dir>, name: &str) -> Result<()> {
    match dir.list(name) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if is_no_folder(&error) => move_away(dir, name)?,
        Err(error) => return Err(error).context("list", name),
    }
    dir.make_dir(name).context("create", name)
}

/// Whether there is nothing of that name, or a folder, or the like.
fn is_no_file(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || NoFile::of(error).is_some()
}

/// Copies the files as they are into a new folder; returns its name.
fn keep(dir: &Arc<dyn Dir>) -> Result<String> {
    let taken = dir.list("").context("list", "the workdir")?;
    let last = taken
        .iter()
        .filter_map(|name| name.strip_prefix("damaged-")?.parse::<u32>().ok())
        .max();
    let folder = format!("damaged-{}", last.unwrap_or(0) + 1);
    dir.make_dir(&folder).context("create", &folder)?;
    for name in [LOCK, TASKS, TOPROCESS, FINISHED, FAILED, REQUEUED] {
        let Ok(old) = dir.open(name, Open::Read) else {
            // It is gone, or no file: there is nothing to keep, or it is moved.
            continue;
        };
        let bytes = read_from(&*old, 0).context("read", name)?;
        let copy = format!("{folder}/{name}");
        let file = dir.open(&copy, Open::CreateNew).context("create", &copy)?;
        file.write_at(&bytes, 0).context("write", &copy)?;
        file.sync().context("sync", &copy)?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(attempt: u32, end: Option<Destination>) -> Fate {
        Fate { attempt, end }
    }

    #[test]
    fn the_newest_attempt_counts_and_of_one_attempt_the_better_end() {
        use Destination::{Failed, Finished, ToProcess};
        for (records, outcome) in [
            (vec![(1, None)], (1, None)),
            (vec![(1, None), (1, Some(Failed))], (1, Some(Failed))),
            (
                vec![(1, Some(Finished)), (1, Some(Failed))],
                (1, Some(Finished)),
            ),
            (vec![(1, Some(Failed)), (2, None)], (2, None)),
            (
                vec![(2, Some(ToProcess)), (1, Some(Failed))],
                (2, Some(ToProcess)),
            ),
            (
                vec![(1, Some(Failed)), (2, Some(Finished))],
                (2, Some(Finished)),
            ),
        ] {
            let mut records = records.into_iter().map(|(attempt, end)| fate(attempt, end));
            let mut merged = records.next().unwrap();
            records.for_each(|record| merged.merge(record));
            assert_eq!(merged, fate(outcome.0, outcome.1));
        }
    }
}
