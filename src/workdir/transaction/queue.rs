//! The queues of the waiting tasks in a transaction, one for each class: tasks are claimed at
//! their cursors and put back at their ends, and now and then one is rewritten without the
//! claimed tasks. `toprocess` is that of class 0, the only one of a run without attributes.
//!
//! Guarantee: what a claim costs depends on how many tasks it claims, not on how many there
//! are; a copy of a queue that was made without the lock is used only if the queue has not
//! been rewritten meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use crc32fast::Hasher;

use super::classes::{has_attributes, may_wait_for_others};
use super::requeued::{Attempts, RequeueReason};
use super::txn::Txn;
use crate::model::class::Class;
use crate::model::task::{Task, TaskId, parse_line};
use crate::workdir::error::{Context, Result};
use crate::workdir::files::{Committed, Head, Lines, NEW, NewFile, checksum, sum_of};
use crate::workdir::fs::{Dir, File, Open};
use crate::workdir::layout::{self, TASKS, TOPROCESS};
use crate::workdir::state::{Queue, State};

/// Whether one more task of a class is wanted.
type Fits<'a> = Box<dyn FnMut(&Class) -> bool + 'a>;

/// Which tasks a farmer claims.
pub struct Claim<'a> {
    /// At most so many.
    most: u64,
    /// Whether one more of this class is wanted; not asked about plain tasks where there are no
    /// others.
    fits: Option<Fits<'a>>,
}

impl From<u64> for Claim<'_> {
    fn from(most: u64) -> Self {
        Self { most, fits: None }
    }
}

impl<'a> Claim<'a> {
    /// At most so many, each of a class of which one more fits.
    pub fn fitting(most: u64, fits: impl FnMut(&Class) -> bool + 'a) -> Self {
        let fits = Some(Box::new(fits) as Box<_>);
        Self { most, fits }
    }
}

/// A queue from which tasks are being claimed.
struct Claimed<'f> {
    class: usize,
    lines: Lines<'f>,
    left: u64,
    taken: Hasher,
    /// None of its class is wanted any more.
    is_closed: bool,
}

impl Claimed<'_> {
    /// The id of its next task.
    fn next_id(&mut self) -> std::io::Result<Option<TaskId>> {
        let head = self.lines.head()?;
        let digits = head.split(|&byte| byte == b' ').next();
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        Ok(digits.and_then(|digits| digits.parse().ok()))
    }
}

/// A copy of the unclaimed part of a queue, made without the lock.
pub struct QueueCopy {
    class: usize,
    of: Queue,
    /// The file that it is a copy of.
    inode: u64,
    new: NewFile,
}

impl QueueCopy {
    /// Copies what is not claimed of a class in a recent state. `farmer` keeps two copiers
    /// apart.
    pub fn make(dir: &Arc<dyn Dir>, state: &State, class: usize, farmer: u32) -> Result<Self> {
        let name = layout::queue(class);
        let (seq, queue) = (state.seq, state.queue_named(&name));
        let mut new = NewFile::create(dir, &format!("{name}.{seq}.copy{farmer}{NEW}"))?;
        let old = dir.open(&name, Open::Read).context("open", &name)?;
        let inode = old.inode().context("look at", &name)?;
        new.copy(&*old, queue.cursor, queue.len)
            .context("copy", &name)?;
        // Most of the data becomes durable here, while no other process waits for us.
        new.sync().context("sync", &name)?;
        Ok(Self {
            class,
            of: queue,
            inode,
            new,
        })
    }
}

impl Txn<'_> {
    /// Claims tasks at the cursors: those with the highest priority first, in the order of the
    /// list; none while the run is paused.
    pub fn claim<'c>(
        &mut self,
        wanted: impl Into<Claim<'c>>,
        attempts: &Attempts,
    ) -> Result<Vec<Task>> {
        let mut wanted = wanted.into();
        let mut tasks = Vec::new();
        if self.state.paused {
            return Ok(tasks);
        }
        let queues = self.state.queues.iter().enumerate();
        let queues = queues.filter(|(_, queue)| queue.left > 0);
        let mut classes: Vec<_> = queues
            .map(|(class, queue)| (queue.class.rank(), class))
            .collect();
        classes.sort_unstable();
        for of_one_rank in classes.chunk_by(|one, other| one.0 == other.0) {
            if tasks.len() as u64 >= wanted.most {
                break;
            }
            let classes: Vec<usize> = of_one_rank.iter().map(|(_, class)| *class).collect();
            self.claim_of(&classes, &mut wanted, attempts, &mut tasks)?;
        }
        Ok(tasks)
    }

    /// Claims from these queues, in the order of ids at their heads.
    fn claim_of(
        &mut self,
        classes: &[usize],
        wanted: &mut Claim<'_>,
        attempts: &Attempts,
        tasks: &mut Vec<Task>,
    ) -> Result<()> {
        let mut files = Vec::with_capacity(classes.len());
        for &class in classes {
            files.push(self.current(&layout::queue(class))?);
        }
        let mut queues = Vec::with_capacity(classes.len());
        for (&class, file) in classes.iter().zip(&files) {
            queues.push(self.begin_claim(class, &**file, classes.len())?);
        }
        while (tasks.len() as u64) < wanted.most
            && let Some(nth) = next_of(&mut queues).context("read", TOPROCESS)?
        {
            let queue = &mut queues[nth];
            let class = &self.state.queues[queue.class].class;
            if wanted.fits.as_mut().is_some_and(|fits| !fits(class)) {
                queue.is_closed = true;
                continue;
            }
            tasks.push(self.claim_next(queue, attempts)?);
        }
        for queue in queues {
            self.end_claim(queue)?;
        }
        self.done.extend(files);
        Ok(())
    }

    /// Begins with one of so many queues, which together are read as much as one alone.
    fn begin_claim<'f>(&self, class: usize, file: &'f dyn File, of: usize) -> Result<Claimed<'f>> {
        let (name, queue) = (layout::queue(class), &self.state.queues[class]);
        let mut lines = Lines::new(file, queue.cursor, queue.len).in_parts(of);
        self.check_head(&name, lines.head().context("read", &name)?)?;
        Ok(Claimed {
            class,
            lines,
            left: queue.left,
            taken: Hasher::new_with_initial_len(queue.taken, queue.cursor),
            is_closed: false,
        })
    }

    fn claim_next(&self, queue: &mut Claimed<'_>, attempts: &Attempts) -> Result<Task> {
        let at = queue.lines.at();
        let line = queue.lines.next();
        let line = line.context("read", TOPROCESS)?;
        queue.taken.update(line.unwrap_or_default());
        queue.taken.update(b"\n");
        let Some((id, line)) = line.and_then(parse_line) else {
            let what = format!(
                "at byte {at} there is no task, but {} should follow",
                queue.left
            );
            return Err(self.damaged(&layout::queue(queue.class), what));
        };
        queue.left -= 1;
        Ok(attempts.task(id, line))
    }

    fn end_claim(&mut self, mut queue: Claimed<'_>) -> Result<()> {
        let (class, name) = (queue.class, layout::queue(queue.class));
        if queue.left == self.state.queues[class].left {
            return Ok(());
        }
        let head = Head::of(queue.lines.head().context("read", &name)?);
        let (cursor, taken) = (queue.lines.at(), queue.taken.finalize());
        let known = &mut self.state.queues[class];
        (known.cursor, known.left, known.head, known.taken) = (cursor, queue.left, head, taken);
        let (len, sum) = (known.len, known.sum);
        if cursor == len {
            self.check_sum(&name, taken, sum)?;
        }
        Ok(())
    }

    /// Appends new tasks to `tasks` and to their queues.
    pub fn add(&mut self, lines: &[u8]) -> Result<()> {
        self.append(TASKS, lines)?;
        let tasks = lines.split(|&byte| byte == b'\n').filter_map(parse_line);
        let tasks: Vec<_> = tasks.map(|(id, line)| (id, line, 1)).collect();
        self.state.attributes |= tasks.iter().any(|(_, line, _)| has_attributes(line));
        if self.is_gathered() {
            return self.enqueue(0, lines);
        }
        if tasks.iter().any(|(_, line, _)| may_wait_for_others(line)) {
            self.gather_all()?;
            self.enqueue(0, lines)?;
            return self.deal();
        }
        self.distribute(&tasks)
    }

    /// Whether all tasks are put into `toprocess`: nothing is said of any, or nobody works.
    fn is_gathered(&self) -> bool {
        !self.state.attributes || self.state.live == 0
    }

    /// Puts tasks back at the ends of their queues; those with a reason start
    /// their next attempt with a number one higher.
    pub fn requeue(&mut self, tasks: &[(Task, Option<RequeueReason>)]) -> Result<()> {
        let lines = self.note_requeued(tasks)?;
        if self.is_gathered() {
            return self.enqueue(0, &lines);
        }
        self.distribute(&with_attempts(tasks))
    }

    /// The same for tasks that may never have been claimed, such as cancelled ones: they may
    /// have to wait for others still.
    pub fn requeue_anew(&mut self, tasks: &[(Task, Option<RequeueReason>)]) -> Result<()> {
        let mut waits = tasks
            .iter()
            .map(|(task, _)| may_wait_for_others(&task.line));
        if self.is_gathered() || !waits.any(|waits| waits) {
            return self.requeue(tasks);
        }
        self.gather_all()?;
        let lines = self.note_requeued(tasks)?;
        self.enqueue(0, &lines)?;
        self.deal()
    }

    /// The same as [`Self::requeue`], but in front; afterwards the queues hold the unclaimed tasks and no others.
    pub fn requeue_in_front(&mut self, tasks: &[(Task, Option<RequeueReason>)]) -> Result<()> {
        let lines = self.note_requeued(tasks)?;
        let mut by_class = BTreeMap::from([(0, Vec::new())]);
        if self.state.attributes {
            by_class.extend(self.by_class(&with_attempts(tasks))?);
        } else {
            by_class.insert(0, lines);
        }
        for (class, lines) in by_class {
            if !lines.is_empty() || self.state.queues[class].cursor > 0 {
                self.rewrite_queue(class, &lines)?;
            }
        }
        Ok(())
    }

    /// Lets a new file, of which all tasks wait, be `toprocess`, the only queue.
    pub(in crate::workdir) fn replace_queue(&mut self, new: NewFile) -> Result<()> {
        self.replace_queue_of(0, new)
    }

    /// Lets a new file, of which all tasks wait, be the queue of a class.
    pub(super) fn replace_queue_of(&mut self, class: usize, new: NewFile) -> Result<()> {
        let (committed, head) = (new.committed(), new.head());
        self.replace(&layout::queue(class), new)?;
        let known = &mut self.state.queues[class];
        let queue = Queue::unclaimed(committed, head, known.generation + 1);
        *known = Queue {
            class: std::mem::take(&mut known.class),
            ..queue
        };
        Ok(())
    }

    /// Rewrites the queue of a class: `front` first, then the unclaimed tasks.
    fn rewrite_queue(&mut self, class: usize, front: &[u8]) -> Result<()> {
        let name = &*layout::queue(class);
        let queue = self.state.queue_named(name);
        let mut new = self.new_file(name)?;
        new.write(front).context("write", name)?;
        let front = new.committed();
        if queue.left > 0 {
            let old = self.current(name)?;
            self.check_queue(name, &*old)?;
            new.copy(&*old, queue.cursor, queue.len)
                .context("copy", name)?;
            let Committed { len, sum, .. } = new.committed();
            let rest = checksum::rest(sum, front.sum, len - front.len);
            self.check_sum(name, rest, queue.rest())?;
        }
        self.replace_queue_of(class, new)?;
        // Lines that are copied are not counted.
        self.state.queues[class].left = queue.left + front.lines;
        Ok(())
    }

    /// Takes the wanted tasks out of `toprocess`, the only queue, and shows each to `taken`. If
    /// there are none, nothing is written.
    pub fn take_waiting(
        &mut self,
        is_wanted: impl Fn(TaskId) -> bool,
        mut taken: impl FnMut(TaskId, &[u8]),
    ) -> Result<()> {
        let queue = self.state.queue();
        let mut stay = self.new_file(TOPROCESS)?;
        let (mut has_any, mut write) = (false, Ok(()));
        self.each_line_from(queue.cursor, TOPROCESS, |line| match parse_line(line) {
            Some((id, text)) if is_wanted(id) => {
                has_any = true;
                taken(id, text);
            }
            _ => {
                if write.is_ok() {
                    write = stay.write(line).and_then(|()| stay.write(b"\n"));
                }
            }
        })?;
        write.context("write", TOPROCESS)?;
        if has_any {
            self.replace_queue(stay)?;
        }
        Ok(())
    }

    /// Lets a copy of the unclaimed part of a queue, made without the lock, be that queue;
    /// `false` when another farmer has rewritten it meanwhile.
    pub fn adopt_queue(&mut self, copy: QueueCopy) -> Result<bool> {
        let (class, name) = (copy.class, layout::queue(copy.class));
        let queue = self.state.queue_named(&name);
        if queue.generation != copy.of.generation || queue.class != copy.of.class {
            return Ok(false);
        }
        // A state is committed before its files have their names: at that moment
        // the copy was made of the file before.
        let old = self.current(&name)?;
        if old.inode().context("look at", &name)? != copy.inode {
            return Ok(false);
        }
        self.check_queue(&name, &*old)?;
        let mut new = copy.new;
        if queue.len > copy.of.len {
            new.copy(&*old, copy.of.len, queue.len)
                .context("copy", &name)?;
        }
        let cut = copy.of;
        let (len, cursor) = (queue.len - cut.cursor, queue.cursor - cut.cursor);
        // Tasks that were claimed before the copy was made are not in it.
        let rest = |sum| checksum::rest(sum, cut.taken, len);
        if new.committed().sum != rest(queue.sum) {
            // It was made without the lock: only the file itself is called damaged.
            let sum = sum_of(&*old, queue.len).context("read", &name)?;
            self.check_sum(&name, sum, queue.sum)?;
            return Ok(false);
        }
        self.replace(&name, new)?;
        self.state.queues[class] = Queue {
            len,
            cursor,
            generation: queue.generation + 1,
            sum: rest(queue.sum),
            taken: checksum::rest(queue.taken, cut.taken, cursor),
            ..queue
        };
        Ok(true)
    }

    /// Appends lines to the queue of a class.
    pub(super) fn enqueue(&mut self, class: usize, lines: &[u8]) -> Result<()> {
        let queue = &self.state.queues[class];
        let was_empty = queue.cursor == queue.len;
        self.append(&layout::queue(class), lines)?;
        if was_empty {
            self.state.queues[class].head = Head::of(lines);
        }
        Ok(())
    }
}

/// Tasks that are put back, each with the number of its next attempt.
fn with_attempts(tasks: &[(Task, Option<RequeueReason>)]) -> Vec<(TaskId, &[u8], u32)> {
    let attempt = |(task, why): &(Task, Option<_>)| task.attempt + u32::from(why.is_some());
    let tasks = tasks
        .iter()
        .map(|one| (one.0.id, &one.0.line[..], attempt(one)));
    tasks.collect()
}

/// Which of these queues has the task that comes first in the list; `None` when none is left
/// that is wanted.
fn next_of(queues: &mut [Claimed<'_>]) -> std::io::Result<Option<usize>> {
    let is_open = |queue: &Claimed<'_>| queue.left > 0 && !queue.is_closed;
    let mut open: Vec<_> = queues
        .iter_mut()
        .enumerate()
        .filter(|(_, queue)| is_open(queue))
        .collect();
    if let [(nth, _)] = open[..] {
        return Ok(Some(nth));
    }
    let mut first = None;
    for (nth, queue) in &mut open {
        let id = queue.next_id()?;
        if first.is_none_or(|(known, _)| id < known) {
            first = Some((id, *nth));
        }
    }
    Ok(first.map(|(_, nth)| nth))
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::workdir::fs::{RealDir, Workdir};
    use crate::workdir::liveness::samples::Now;
    use crate::workdir::state::Act;

    /// Copies are made without the lock: they must not meet the files of a
    /// transaction that another farmer has under way.
    #[test]
    fn a_copy_of_the_queue_never_meets_the_files_of_a_transaction() {
        let folder = tempfile::tempdir().unwrap();
        let dir: Arc<dyn Dir> = RealDir::open(folder.path()).unwrap();
        let change = |lines: &[u8], copy: Option<(State, u32)>| {
            let mut now = Now;
            let workdir = Workdir::from(&dir);
            let mut txn = Txn::begin(&workdir, "test", &mut now).unwrap();
            txn.rewrite_queue(0, lines).unwrap();
            txn.state_mut().tasks.lines += 1;
            let copy =
                copy.map(|(state, farmer)| QueueCopy::make(&dir, &state, 0, farmer).unwrap());
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
            let workdir = Workdir::from(&dir);
            let mut txn = Txn::begin(&workdir, "test", &mut now).unwrap();
            act(&mut txn);
            txn.commit(Act::Prepare).unwrap()
        };
        change(&mut |txn| txn.add(b"0 a\n1 b\n2 c\n").unwrap());
        let [name, aside, old] = [TOPROCESS, "aside", "old"].map(|name| folder.path().join(name));
        std::fs::copy(&name, &old).unwrap();
        let state = change(&mut |txn| {
            txn.claim(1, &Attempts::default()).unwrap();
            txn.state_mut().live = 1;
            txn.rewrite_queue(0, b"").unwrap();
        });
        // As a reader finds it between the state and the renames.
        std::fs::rename(&name, &aside).unwrap();
        std::fs::rename(&old, &name).unwrap();
        let mut copy = Some(QueueCopy::make(&dir, &state, 0, 0).unwrap());
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
