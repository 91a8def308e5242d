//! The transaction: the one way in which shared files change.
//!
//! Take the lock, read the state, write behind the known ends or write new
//! files beside the old, and then write the state. Only that last write makes
//! it all true; a process that dies before it has done nothing. What it left
//! behind a known end is overwritten or cut off by the next one.
//!
//! The cost of a transaction depends on what it does, not on how many tasks
//! there are: a claim reads k lines at the cursor, a result appends a line.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use super::error::{Context, Error, Result};
use super::fs::{Dir, File, Open, read_full};
use super::layout::{FAILED, FINISHED, REQUEUED, TASKS, TOPROCESS};
use super::lines::Lines;
use super::lock::{self, Held, Mechanism, Waiting, acquire};
use super::new_file::{NEW, NewFile};
use super::state::{self, Act, Head, Known, LOCK, Queue, Rename, State};
use crate::model::task::{Task, TaskId, parse_line, push_line};

/// A log of this length may be begun anew; no line of a farmer that joins is
/// as long.
const LONG_LOG: u64 = 4 << 10;

/// How often it is looked whether a state is in force, ten times a second.
const UNSURE: u32 = 100;

/// How often tasks were started, as far as a process has read `requeued`.
#[derive(Default)]
pub struct Attempts {
    read: u64,
    next: HashMap<TaskId, u32>,
}

impl Attempts {
    /// The number of the attempt that a task starts next.
    pub fn of(&self, id: TaskId) -> u32 {
        self.next.get(&id).copied().unwrap_or(1)
    }
}

/// Why a task is back in `toprocess`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its farmer was told to stop while it ran.
    Interrupted,
    /// Its farmer died while it had it.
    Lost,
    /// It failed and somebody wants it tried again.
    Retry,
    /// It failed on a node that its farmer doubts.
    Doubted,
}

impl Why {
    /// The word in `requeued`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Interrupted => "interrupted",
            Self::Lost => "lost",
            Self::Retry => "retry",
            Self::Doubted => "doubted",
        }
    }
}

/// A transaction in the making; dropped without [`Txn::commit`], nothing happened.
pub struct Txn<'a> {
    dir: &'a Arc<dyn Dir>,
    waiting: &'a mut dyn Waiting,
    state: State,
    /// New files, and whose places they take when the transaction has come true.
    /// From then on the transaction reads and writes them instead. Dropped, they
    /// are removed: before the lock is given back, since the next one to hold it
    /// uses the same names.
    replacing: Vec<(&'static str, NewFile)>,
    held: Held,
    /// What was only read, to be closed when others have the lock already: so it
    /// comes after it. A file that is open for writing would make NFS take what
    /// others write for our own.
    done: Vec<Box<dyn File>>,
    /// How many new files were begun.
    n_new: std::cell::Cell<u32>,
}

impl<'a> Txn<'a> {
    /// Takes the lock and reads the state. A workdir that nobody has prepared
    /// has the state number 0.
    pub fn begin(
        dir: &'a Arc<dyn Dir>,
        mechanism: Mechanism,
        who: &str,
        waiting: &'a mut dyn Waiting,
    ) -> Result<Self> {
        let held = acquire(dir, mechanism, who, waiting)?;
        let state = state::read(&*held.file)?.unwrap_or_else(|| State::new(mechanism));
        if state.mechanism != mechanism {
            return Err(Error::Refused(format!(
                "this workdir is locked by {}, not by {mechanism}: leave --lock away",
                state.mechanism
            )));
        }
        let mut txn = Self {
            dir,
            held,
            waiting,
            state,
            replacing: Vec::new(),
            done: Vec::new(),
            n_new: std::cell::Cell::new(0),
        };
        // Should their process have died before it renamed them. The state in
        // force may name them long after: so a name is never used again.
        let left_over = std::mem::take(&mut txn.state.renames);
        txn.rename_all(&left_over)?;
        if txn.state.renewed != txn.state.breaks {
            txn.renew()?;
        }
        Ok(txn)
    }

    /// Writes all shared files anew: the old holder of a lock that was broken
    /// may still have them open, and come back.
    fn renew(&mut self) -> Result<()> {
        // The lock file itself, should whoever replaced it have died over it.
        self.dir.sync_names().context("sync", "the workdir")?;
        if self.state.seq > 0 {
            for (name, known) in self.ends() {
                self.copy(name, known)?;
            }
        }
        self.state.renewed = self.state.breaks;
        Ok(())
    }

    /// The state as it will be.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The state as it will be, to change it.
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// The time, by the clock of whoever waits.
    pub fn now(&self) -> Duration {
        self.waiting.now()
    }

    /// The directory.
    pub fn dir(&self) -> &'a Arc<dyn Dir> {
        self.dir
    }

    /// The entries of the log, from one of its lengths on; those of farmers
    /// that are all over are nobody's concern, and may be overwritten.
    pub fn entries_from(&self, from: u64) -> Result<Vec<state::Entry>> {
        if self.state.live == 0 {
            return Ok(Vec::new());
        }
        state::entries(&*self.held.file, from, self.state.log)
    }

    /// All entries of the log.
    pub fn entries(&self) -> Result<Vec<state::Entry>> {
        self.entries_from(0)
    }

    /// Begins the log anew, when it has become long: allowed when no farmer is
    /// alive.
    ///
    /// The first line of the new log overwrites the head of the old one before
    /// the new state is true. So the last line of the old one, which its state is
    /// known by, must lie far behind.
    pub fn clear_log(&mut self) {
        debug_assert_eq!(self.state.live, 0);
        if self.state.log.saturating_sub(self.state.last.0) >= LONG_LOG {
            self.state.log = 0;
            self.state.epoch += 1;
        }
    }

    /// Appends lines to `finished`.
    pub fn finish(&mut self, lines: &[u8], count: u64) -> Result<()> {
        self.state.finished = self.append(FINISHED, self.state.finished, lines, count)?;
        Ok(())
    }

    /// Appends lines to `failed`.
    pub fn fail(&mut self, lines: &[u8], count: u64) -> Result<()> {
        self.state.failed = self.append(FAILED, self.state.failed, lines, count)?;
        Ok(())
    }

    /// Appends new tasks to `tasks` and to `toprocess`.
    pub fn add(&mut self, lines: &[u8], count: u64) -> Result<()> {
        self.append_tasks(lines, count)?;
        self.enqueue(lines, count)
    }

    /// Appends new tasks to `tasks` only.
    pub fn append_tasks(&mut self, lines: &[u8], count: u64) -> Result<()> {
        self.state.tasks = self.append(TASKS, self.state.tasks, lines, count)?;
        Ok(())
    }

    /// Shows every line of a shared file, as far as it is known.
    pub fn each_line(&mut self, name: &str, see: impl FnMut(&[u8])) -> Result<()> {
        self.each_line_from(0, name, see)
    }

    /// Shows the lines of a shared file that begin at `from` or later.
    pub fn each_line_from(
        &mut self,
        from: u64,
        name: &str,
        mut see: impl FnMut(&[u8]),
    ) -> Result<()> {
        let known = match name {
            FINISHED => self.state.finished.len,
            FAILED => self.state.failed.len,
            REQUEUED => self.state.requeued.len,
            TASKS => self.state.tasks.len,
            _ => self.state.queue.len,
        };
        let file = self.current(name)?;
        let mut lines = Lines::new(&*file, from, known);
        while let Some(line) = lines.next().context("read", name)? {
            see(line);
        }
        Ok(())
    }

    /// Puts tasks back at the end of `toprocess`; those with a reason start
    /// their next attempt with a number one higher.
    pub fn requeue(&mut self, tasks: &[(Task, Option<Why>)]) -> Result<()> {
        let lines = self.note_requeued(tasks)?;
        self.enqueue(&lines, tasks.len() as u64)
    }

    /// The same, but in front, and `toprocess` is the exact truth afterwards.
    pub fn requeue_in_front(&mut self, tasks: &[(Task, Option<Why>)]) -> Result<()> {
        let lines = self.note_requeued(tasks)?;
        if lines.is_empty() && self.state.queue.cursor == 0 {
            return Ok(());
        }
        self.rewrite_queue(&lines, tasks.len() as u64)
    }

    /// Notes why tasks are put back; returns their lines.
    fn note_requeued(&mut self, tasks: &[(Task, Option<Why>)]) -> Result<Vec<u8>> {
        let (mut lines, mut notes, mut n_notes) = (Vec::new(), Vec::new(), 0);
        for (task, why) in tasks {
            push_line(&mut lines, task.id, &task.line);
            if let Some(why) = why {
                let note = format!("{} {} {}\n", task.id, task.attempt + 1, why.word());
                notes.extend_from_slice(note.as_bytes());
                n_notes += 1;
            }
        }
        self.state.requeued = self.append(REQUEUED, self.state.requeued, &notes, n_notes)?;
        Ok(lines)
    }

    /// Claims up to `n` tasks at the cursor.
    pub fn claim(&mut self, n: u64, attempts: &Attempts) -> Result<Vec<Task>> {
        let n = n.min(self.state.queue.left);
        if n == 0 {
            return Ok(Vec::new());
        }
        let file = self.current(TOPROCESS)?;
        let mut lines = Lines::new(&*file, self.state.queue.cursor, self.state.queue.len);
        self.check_head(lines.head().context("read", TOPROCESS)?)?;
        let mut tasks = Vec::with_capacity(usize::try_from(n).unwrap_or(0));
        while (tasks.len() as u64) < n {
            let at = lines.at();
            let line = lines.next().context("read", TOPROCESS)?;
            let Some((id, line)) = line.and_then(parse_line) else {
                let what = format!(
                    "at byte {at} there is no task, but {} should follow; see docs/workdir.md, \
                     \"A damaged workdir\"",
                    n - tasks.len() as u64
                );
                return Err(self.damaged(TOPROCESS, what));
            };
            tasks.push(Task {
                id,
                line: line.to_vec(),
                attempt: attempts.of(id),
            });
        }
        self.state.queue.cursor = lines.at();
        self.state.queue.left -= n;
        self.state.queue.head = Head::of(lines.head().context("read", TOPROCESS)?);
        self.done.push(file);
        Ok(tasks)
    }

    /// What is at the cursor is what was there when the state was written.
    fn check_head(&self, bytes: &[u8]) -> Result<()> {
        let Queue { cursor, head, .. } = self.state.queue;
        if head.fits(bytes) {
            return Ok(());
        }
        let what = format!(
            "at byte {cursor} it holds something else than was recorded: it is of another \
             time than the file lock; see docs/workdir.md, \"A damaged workdir\""
        );
        Err(self.damaged(TOPROCESS, what))
    }

    /// The same, of an open file.
    fn check_queue(&self, file: &dyn File) -> Result<()> {
        let mut bytes = [0; Head::MOST];
        let read = read_full(file, &mut bytes, self.state.queue.cursor);
        self.check_head(&bytes[..read.context("read", TOPROCESS)?])
    }

    /// Reads what is new in `requeued`.
    pub fn refresh(&mut self, attempts: &mut Attempts) -> Result<()> {
        if attempts.read == self.state.requeued.len {
            return Ok(());
        }
        let file = self.current(REQUEUED)?;
        let mut lines = Lines::new(&*file, attempts.read, self.state.requeued.len);
        while let Some(line) = lines.next().context("read", REQUEUED)? {
            let mut words = line
                .split(|&b| b == b' ')
                .map(|word| std::str::from_utf8(word).ok());
            let mut number = || {
                words
                    .next()
                    .flatten()
                    .and_then(|word| word.parse::<u64>().ok())
            };
            if let (Some(id), Some(attempt)) = (number(), number()) {
                attempts
                    .next
                    .insert(TaskId(id), u32::try_from(attempt).unwrap_or(u32::MAX));
            }
        }
        attempts.read = self.state.requeued.len;
        Ok(())
    }

    /// Cuts off what a dead or failed transaction left behind the known ends.
    pub fn cut_tails(&mut self) -> Result<()> {
        for (name, known) in self.ends() {
            let file = self.current(name)?;
            self.check_last_line(&*file, name, known)?;
            if self.length_of(&*file, name, known)? > known {
                self.copy(name, known)?;
            }
        }
        Ok(())
    }

    /// The shared files and their known ends.
    fn ends(&self) -> [(&'static str, u64); 5] {
        [
            (FINISHED, self.state.finished.len),
            (FAILED, self.state.failed.len),
            (REQUEUED, self.state.requeued.len),
            (TASKS, self.state.tasks.len),
            (TOPROCESS, self.state.queue.len),
        ]
    }

    /// Lets a copy of the known part of a file take its place.
    fn copy(&mut self, name: &'static str, known: u64) -> Result<()> {
        let file = self.current(name)?;
        self.length_of(&*file, name, known)?;
        let mut copy = self.new_file(name)?;
        copy.copy(&*file, 0, known).context("copy", name)?;
        self.replace(name, copy)
    }

    /// Removes what dead processes left half-written: allowed when no farmer is
    /// alive.
    pub fn sweep(&self) -> Result<()> {
        let names = self.dir.list("").context("list", "the workdir")?;
        // Only now: those of farmers that joined when the lock was no longer
        // ours are not among them.
        self.may_write()?;
        for name in names {
            let is_ours = self.replacing.iter().any(|(_, new)| new.name() == name);
            if name.ends_with(NEW) && !is_ours || lock::is_past(&name, self.state.seq) {
                self.dir.remove(&name).context("remove", &name)?;
            }
        }
        Ok(())
    }

    /// A new file, meant to take the place of `name`.
    pub fn new_file(&self, name: &str) -> Result<NewFile> {
        let State { seq, breaks, .. } = self.state;
        let (seq, nth) = (seq + 1, self.n_new.replace(self.n_new.get() + 1));
        NewFile::create(self.dir, &format!("{name}.{seq}.{breaks}.{nth}{NEW}"))
    }

    /// Lets a new file take the place of `name`; the caller sets what the state
    /// knows of it.
    pub fn replace(&mut self, name: &'static str, new: NewFile) -> Result<()> {
        self.may_write()?;
        if let Some(at) = self.replacing.iter().position(|(to, _)| *to == name) {
            self.replacing.remove(at);
        }
        self.replacing.push((name, new));
        Ok(())
    }

    /// Writes `toprocess` anew: `front` first, then what nobody has claimed.
    pub fn rewrite_queue(&mut self, front: &[u8], count: u64) -> Result<()> {
        let queue = self.state.queue;
        let mut new = self.new_file(TOPROCESS)?;
        new.write(front).context("write", TOPROCESS)?;
        if queue.left > 0 {
            let old = self.current(TOPROCESS)?;
            self.check_queue(&*old)?;
            new.copy(&*old, queue.cursor, queue.len)
                .context("copy", TOPROCESS)?;
        }
        let len = front.len() as u64 + queue.len - queue.cursor;
        let head = new.head();
        self.replace(TOPROCESS, new)?;
        let (left, generation) = (queue.left + count, queue.generation + 1);
        self.state.queue = Queue {
            len,
            cursor: 0,
            left,
            generation,
            head,
        };
        Ok(())
    }

    /// Takes a copy of the rest of the queue, made without the lock, as the new
    /// `toprocess`; `false` when somebody else was faster.
    pub fn adopt_queue(&mut self, copy: QueueCopy) -> Result<bool> {
        let queue = self.state.queue;
        if queue.generation != copy.of.generation {
            return Ok(false);
        }
        // A state comes true before its files have their names: at that moment
        // the copy was made of the file before.
        let old = self.current(TOPROCESS)?;
        if old.inode().context("look at", TOPROCESS)? != copy.inode {
            return Ok(false);
        }
        self.check_queue(&*old)?;
        let mut new = copy.new;
        if queue.len > copy.of.len {
            new.copy(&*old, copy.of.len, queue.len)
                .context("copy", TOPROCESS)?;
        }
        self.replace(TOPROCESS, new)?;
        let cut = copy.of.cursor;
        let (len, cursor) = (queue.len - cut, queue.cursor - cut);
        self.state.queue = Queue {
            len,
            cursor,
            generation: queue.generation + 1,
            ..queue
        };
        Ok(true)
    }

    /// Makes it all true.
    pub fn commit(mut self, act: Act) -> Result<State> {
        for (to, new) in std::mem::take(&mut self.replacing) {
            let rename = Rename {
                from: new.complete()?,
                to: to.to_owned(),
            };
            self.state.renames.push(rename);
        }
        self.may_write()?;
        self.state.seq += 1;
        let written = {
            let at = self.waiting.micros();
            state::write(&*self.held.file, &mut self.state, (at, act))
        };
        if written.is_err() || self.may_write().is_err() {
            self.is_in_force(written)?;
        }
        let renames = std::mem::take(&mut self.state.renames);
        if !renames.is_empty() {
            // An open file that is replaced would stay, under a name of NFS's own.
            self.done.clear();
        }
        // It is true now, whatever comes: what cannot be renamed here, the next
        // transaction renames first of all.
        let _ = self.rename_all(&renames);
        Ok(self.state.clone())
    }

    /// Whether the state that was written is in force, although the write was
    /// refused or took so long that the lock may have been broken: what others
    /// will read decides. Where that cannot be known we are as good as sealed:
    /// our journal and the log tell the others.
    fn is_in_force(&mut self, written: Result<()>) -> Result<()> {
        for _ in 0..UNSURE {
            let seen = self.dir.open(LOCK, Open::Read).context("open", LOCK);
            match seen.and_then(|file| state::read(&*file)) {
                Ok(Some(state)) if state == self.state => {
                    // Seen is not durable, and what follows rests on it.
                    let held = &*self.held.file;
                    if written.is_ok() || state::write_again(held, &state).is_ok() {
                        return Ok(());
                    }
                }
                Ok(Some(state)) if state.seq >= self.state.seq => return Err(Error::Sealed),
                Ok(_) => {
                    return written
                        .and_then(|()| self.may_write())
                        .and(Err(Error::Sealed));
                }
                Err(_) => {}
            }
            if !self.waiting.pause(Duration::from_millis(100)) {
                break;
            }
        }
        Err(Error::Sealed)
    }

    fn rename_all(&self, renames: &[Rename]) -> Result<()> {
        if renames.is_empty() {
            return Ok(());
        }
        for Rename { from, to } in renames {
            match self.dir.rename(from, to) {
                // Renamed already: by a process that died since, or, under locks
                // by name, by the one whose state we have just seen come true.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                done => done.context("rename", from)?,
            }
        }
        self.dir.sync_names().context("sync", "the workdir")
    }

    fn enqueue(&mut self, lines: &[u8], count: u64) -> Result<()> {
        let queue = self.state.queue;
        let known = Known {
            len: queue.len,
            lines: queue.left,
        };
        let Known { len, lines: left } = self.append(TOPROCESS, known, lines, count)?;
        let was_empty = queue.cursor == queue.len;
        let head = if was_empty {
            Head::of(lines)
        } else {
            queue.head
        };
        self.state.queue = Queue {
            len,
            left,
            head,
            ..queue
        };
        Ok(())
    }

    fn append(
        &mut self,
        name: &'static str,
        known: Known,
        lines: &[u8],
        count: u64,
    ) -> Result<Known> {
        if lines.is_empty() {
            return Ok(known);
        }
        let after = Known {
            len: known.len + lines.len() as u64,
            lines: known.lines + count,
        };
        if let Some((_, new)) = self.replacing.iter_mut().find(|(to, _)| *to == name) {
            new.write(lines).context("append to", name)?;
            return Ok(after);
        }
        let file = self.dir.open(name, Open::Create).context("open", name)?;
        let length = self.length_of(&*file, name, known.len)?;
        self.check_last_line(&*file, name, known.len)?;
        if length > after.len {
            // Longer garbage than what would cover it: begin a new file.
            let mut copy = self.new_file(name)?;
            copy.copy(&*file, 0, known.len).context("copy", name)?;
            copy.write(lines).context("append to", name)?;
            self.replace(name, copy)?;
            return Ok(after);
        }
        // After it was opened: others would have put another in its place.
        self.may_write()?;
        file.write_at(lines, known.len).context("append to", name)?;
        file.sync().context("sync", name)?;
        Ok(after)
    }

    /// The file that `name` is in this transaction, to be read.
    fn current(&mut self, name: &str) -> Result<Box<dyn File>> {
        let Some((_, new)) = self.replacing.iter_mut().find(|(to, _)| *to == name) else {
            let opened = match self.dir.open(name, Open::Read) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.dir.open(name, Open::Create)
                }
                opened => opened,
            };
            return opened.context("open", name);
        };
        new.flush().context("write", name)?;
        self.dir
            .open(new.name(), Open::Read)
            .context("open", new.name())
    }

    /// Nothing may be written once others might take the lock for abandoned:
    /// the transaction is given up, and may be tried again.
    fn may_write(&self) -> Result<()> {
        if self.held.is_stale(self.waiting) {
            // They must not do it behind the back of whoever comes next.
            let _ = lock::announce(self.dir, &*self.held.file, "nobody", self.waiting);
            let what = "it was held for so long that others may have taken it over";
            let error = std::io::Error::new(std::io::ErrorKind::TimedOut, what);
            return Err(error).context("keep", LOCK);
        }
        Ok(())
    }

    /// An error that speaks of what the workdir holds is a verdict only while
    /// the lock is ours.
    pub fn verdict<E: From<Error>>(&self, error: E) -> E {
        self.may_write().map_or_else(E::from, |()| error)
    }

    /// What is wrong with a file, as a verdict.
    pub fn damaged(&self, name: &str, what: String) -> Error {
        let file = name.to_owned();
        self.verdict(Error::Damaged { file, what })
    }

    /// What is known ends with a line's end, unless the file system lost it: it
    /// may leave zeros after a crash of the machine.
    fn check_last_line(&self, file: &dyn File, name: &str, known: u64) -> Result<()> {
        let mut last = [b'\n'];
        let read = read_full(file, &mut last, known.saturating_sub(1)).context("read", name)?;
        if known == 0 || read == 0 || last == [b'\n'] {
            return Ok(());
        }
        let what = format!(
            "its last line, before byte {known}, has no end; see docs/workdir.md, \
             \"A damaged workdir\""
        );
        Err(self.damaged(name, what))
    }

    fn length_of(&self, file: &dyn File, name: &str, known: u64) -> Result<u64> {
        let length = file.len().context("look at", name)?;
        if length < known {
            let what = format!(
                "it has {length} bytes where {known} were recorded; see docs/workdir.md, \
                 \"A damaged workdir\""
            );
            return Err(self.damaged(name, what));
        }
        Ok(length)
    }
}

impl Drop for Txn<'_> {
    fn drop(&mut self) {
        // Others may be about to break the lock: they must see it given back.
        let _ = self.may_write();
    }
}

/// A copy of the unclaimed part of `toprocess`, made without the lock.
pub struct QueueCopy {
    of: Queue,
    /// The file that it is a copy of.
    inode: u64,
    new: NewFile,
}

impl QueueCopy {
    /// Copies what is not claimed in a recent state. `farmer` keeps two copiers
    /// apart.
    pub fn make(dir: &Arc<dyn Dir>, state: &State, farmer: u32) -> Result<Self> {
        let State { seq, queue, .. } = *state;
        let mut new = NewFile::create(dir, &format!("{TOPROCESS}.{seq}.copy{farmer}{NEW}"))?;
        let old = dir.open(TOPROCESS, Open::Read).context("open", TOPROCESS)?;
        let inode = old.inode().context("look at", TOPROCESS)?;
        new.copy(&*old, queue.cursor, queue.len)
            .context("copy", TOPROCESS)?;
        // Most of the work of making it durable, while nobody waits for us.
        new.sync().context("sync", TOPROCESS)?;
        Ok(Self {
            of: queue,
            inode,
            new,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fs::RealDir;
    use super::*;

    struct Now;
    impl Waiting for Now {
        fn micros(&self) -> u64 {
            0
        }

        fn now(&self) -> Duration {
            Duration::ZERO
        }
        fn pause(&mut self, _: Duration) -> bool {
            false
        }
        fn jitter(&mut self) -> f64 {
            0.0
        }
        fn tell(&mut self, _: String) {}
        fn takeover(&self) -> Duration {
            Duration::from_mins(2)
        }
    }

    /// Copies are made without the lock: they must not meet the files of a
    /// transaction that somebody else has under way.
    #[test]
    fn a_copy_of_the_queue_never_meets_the_files_of_a_transaction() {
        let folder = tempfile::tempdir().unwrap();
        let dir: Arc<dyn Dir> = RealDir::open(folder.path()).unwrap();
        let change = |lines: &[u8], copy: Option<(State, u32)>| {
            let mut now = Now;
            let mut txn = Txn::begin(&dir, Mechanism::Flock, "test", &mut now).unwrap();
            txn.rewrite_queue(lines, 1).unwrap();
            let copy = copy.map(|(state, farmer)| QueueCopy::make(&dir, &state, farmer).unwrap());
            let state = txn.commit(Act::Prepare).unwrap();
            drop(copy);
            state
        };
        let mut state = change(b"0 a\n", None);
        let mut expected = "0 a\n".to_owned();
        for farmer in 0..3 {
            let line = format!("{} b\n", farmer + 1);
            state = change(line.as_bytes(), Some((state, farmer)));
            expected.insert_str(0, &line);
            let now = std::fs::read_to_string(folder.path().join(TOPROCESS)).unwrap();
            assert_eq!(now, expected, "farmer {farmer}");
        }
    }

    #[test]
    fn a_copy_of_a_file_that_was_about_to_be_replaced_is_not_adopted() {
        let folder = tempfile::tempdir().unwrap();
        let dir: Arc<dyn Dir> = RealDir::open(folder.path()).unwrap();
        let change = |act: &mut dyn FnMut(&mut Txn<'_>)| {
            let mut now = Now;
            let mut txn = Txn::begin(&dir, Mechanism::Flock, "test", &mut now).unwrap();
            act(&mut txn);
            txn.commit(Act::Prepare).unwrap()
        };
        change(&mut |txn| txn.add(b"0 a\n1 b\n2 c\n", 3).unwrap());
        let [name, aside, old] = [TOPROCESS, "aside", "old"].map(|name| folder.path().join(name));
        std::fs::copy(&name, &old).unwrap();
        let state = change(&mut |txn| {
            txn.claim(1, &Attempts::default()).unwrap();
            txn.rewrite_queue(b"", 0).unwrap();
        });
        // As a look sees it between the state and the renames.
        std::fs::rename(&name, &aside).unwrap();
        std::fs::rename(&old, &name).unwrap();
        let mut copy = Some(QueueCopy::make(&dir, &state, 0).unwrap());
        std::fs::rename(&aside, &name).unwrap();
        change(&mut |txn| {
            assert!(!txn.adopt_queue(copy.take().unwrap()).unwrap());
            let mut lines = Vec::new();
            txn.each_line(TOPROCESS, |line| lines.push(line.to_vec()))
                .unwrap();
            assert_eq!(lines, [b"1 b".to_vec(), b"2 c".to_vec()]);
        });
    }
}
