//! `toprocess` in a transaction: tasks are claimed at its cursor and put back at its end, and
//! now and then it is rewritten without the claimed tasks.
//!
//! Guarantee: what a claim costs depends on how many tasks it claims, not on how many there
//! are; a copy of the queue that was made without the lock is used only if `toprocess` has not
//! been rewritten meanwhile.

use crate::workdir::files::{Committed, Head, Lines, NEW, NewFile, checksum, sum_of};
use std::sync::Arc;

use crc32fast::Hasher;

use super::requeued::{Attempts, RequeueReason};
use super::txn::Txn;
use crate::model::task::{Task, TaskId, parse_line};
use crate::workdir::error::{Context, Result};
use crate::workdir::fs::{Dir, Open};
use crate::workdir::layout::{TASKS, TOPROCESS};
use crate::workdir::state::{Queue, State};

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
        let (seq, queue) = (state.seq, state.queue());
        let mut new = NewFile::create(dir, &format!("{TOPROCESS}.{seq}.copy{farmer}{NEW}"))?;
        let old = dir.open(TOPROCESS, Open::Read).context("open", TOPROCESS)?;
        let inode = old.inode().context("look at", TOPROCESS)?;
        new.copy(&*old, queue.cursor, queue.len)
            .context("copy", TOPROCESS)?;
        // Most of the data becomes durable here, while no other process waits for us.
        new.sync().context("sync", TOPROCESS)?;
        Ok(Self {
            of: queue,
            inode,
            new,
        })
    }
}

impl Txn<'_> {
    /// Claims up to `n` tasks at the cursor; none while the run is paused.
    pub fn claim(&mut self, n: u64, attempts: &Attempts) -> Result<Vec<Task>> {
        let queue = self.state.queue();
        let n = n.min(queue.left);
        if n == 0 || self.state.paused {
            return Ok(Vec::new());
        }
        let file = self.current(TOPROCESS)?;
        let mut lines = Lines::new(&*file, queue.cursor, queue.len);
        self.check_head(lines.head().context("read", TOPROCESS)?)?;
        let mut tasks = Vec::with_capacity(usize::try_from(n).unwrap_or(0));
        let mut taken = Hasher::new_with_initial_len(queue.taken, queue.cursor);
        while (tasks.len() as u64) < n {
            let at = lines.at();
            let line = lines.next().context("read", TOPROCESS)?;
            taken.update(line.unwrap_or_default());
            taken.update(b"\n");
            let Some((id, line)) = line.and_then(parse_line) else {
                let what = format!(
                    "at byte {at} there is no task, but {} should follow",
                    n - tasks.len() as u64
                );
                return Err(self.damaged(TOPROCESS, what));
            };
            tasks.push(attempts.task(id, line));
        }
        let head = Head::of(lines.head().context("read", TOPROCESS)?);
        let claimed = Queue {
            cursor: lines.at(),
            left: queue.left - n,
            head,
            taken: taken.finalize(),
            ..queue
        };
        if claimed.cursor == claimed.len {
            self.check_sum(TOPROCESS, claimed.taken, claimed.sum)?;
        }
        self.state.set_queue(claimed);
        self.done.push(file);
        Ok(tasks)
    }

    /// Appends new tasks to `tasks` and to `toprocess`.
    pub fn add(&mut self, lines: &[u8]) -> Result<()> {
        self.append(TASKS, lines)?;
        self.enqueue(lines)
    }

    /// Puts tasks back at the end of `toprocess`; those with a reason start
    /// their next attempt with a number one higher.
    pub fn requeue(&mut self, tasks: &[(Task, Option<RequeueReason>)]) -> Result<()> {
        let lines = self.note_requeued(tasks)?;
        self.enqueue(&lines)
    }

    /// The same, but in front; afterwards `toprocess` holds the unclaimed tasks and no others.
    pub fn requeue_in_front(&mut self, tasks: &[(Task, Option<RequeueReason>)]) -> Result<()> {
        let lines = self.note_requeued(tasks)?;
        if lines.is_empty() && self.state.queue().cursor == 0 {
            return Ok(());
        }
        self.rewrite_queue(&lines)
    }

    /// Lets these lines be `toprocess`.
    pub fn set_waiting(&mut self, lines: &[u8]) -> Result<()> {
        let mut new = self.new_file(TOPROCESS)?;
        new.write(lines).context("write", TOPROCESS)?;
        self.replace_queue(new)
    }

    /// Lets a new file, of which all tasks wait, be `toprocess`.
    pub(in crate::workdir) fn replace_queue(&mut self, new: NewFile) -> Result<()> {
        let generation = self.state.queue().generation + 1;
        let queue = Queue::unclaimed(new.committed(), new.head(), generation);
        self.replace(TOPROCESS, new)?;
        self.state.set_queue(queue);
        Ok(())
    }

    /// Rewrites `toprocess`: `front` first, then the unclaimed tasks.
    fn rewrite_queue(&mut self, front: &[u8]) -> Result<()> {
        let queue = self.state.queue();
        let mut new = self.new_file(TOPROCESS)?;
        new.write(front).context("write", TOPROCESS)?;
        let front = new.committed();
        if queue.left > 0 {
            let old = self.current(TOPROCESS)?;
            self.check_queue(&*old)?;
            new.copy(&*old, queue.cursor, queue.len)
                .context("copy", TOPROCESS)?;
            let Committed { len, sum, .. } = new.committed();
            let rest = checksum::rest(sum, front.sum, len - front.len);
            self.check_sum(TOPROCESS, rest, queue.rest())?;
        }
        self.replace_queue(new)?;
        // Lines that are copied are not counted.
        let left = queue.left + front.lines;
        let queue = self.state.queue();
        self.state.set_queue(Queue { left, ..queue });
        Ok(())
    }

    /// Takes the wanted tasks out of `toprocess`, and shows each to `taken`. If there are none,
    /// nothing is written.
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

    /// Lets a copy of the unclaimed part, made without the lock, be the new `toprocess`;
    /// `false` when another farmer has rewritten the queue meanwhile.
    pub fn adopt_queue(&mut self, copy: QueueCopy) -> Result<bool> {
        let queue = self.state.queue();
        if queue.generation != copy.of.generation {
            return Ok(false);
        }
        // A state is committed before its files have their names: at that moment
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
        let cut = copy.of;
        let (len, cursor) = (queue.len - cut.cursor, queue.cursor - cut.cursor);
        // Tasks that were claimed before the copy was made are not in it.
        let rest = |sum| checksum::rest(sum, cut.taken, len);
        if new.committed().sum != rest(queue.sum) {
            // It was made without the lock: only the file itself is called damaged.
            let sum = sum_of(&*old, queue.len).context("read", TOPROCESS)?;
            self.check_sum(TOPROCESS, sum, queue.sum)?;
            return Ok(false);
        }
        self.replace(TOPROCESS, new)?;
        self.state.set_queue(Queue {
            len,
            cursor,
            generation: queue.generation + 1,
            sum: rest(queue.sum),
            taken: checksum::rest(queue.taken, cut.taken, cursor),
            ..queue
        });
        Ok(true)
    }

    /// Appends lines to `toprocess`.
    fn enqueue(&mut self, lines: &[u8]) -> Result<()> {
        let was_empty = self.state.queue().cursor == self.state.queue().len;
        self.append(TOPROCESS, lines)?;
        if was_empty {
            let (queue, head) = (self.state.queue(), Head::of(lines));
            self.state.set_queue(Queue { head, ..queue });
        }
        Ok(())
    }
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
            txn.rewrite_queue(lines).unwrap();
            txn.state_mut().tasks.lines += 1;
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
            txn.rewrite_queue(b"").unwrap();
        });
        // As a reader finds it between the state and the renames.
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
