//! The state of a workdir: what is true between two transactions.
//!
//! Guarantee: its fields are the JSON in the file `lock`, under these names.

use std::time::Duration;

use crate::model::class::Class;
use crate::model::record::is_zero;
use crate::workdir::files::{Committed, Head, checksum};
use crate::workdir::layout::{
    ALWAYS, BLOCKED, FAILED, FINISHED, ORDERS, RELEASED, REQUEUED, TASKS, class_of, queue,
};
use crate::workdir::mechanism::Mechanism;
use serde::{Deserialize, Serialize};

/// The newest format of a workdir that this program reads and writes: that of a run with
/// attributes. A program that knows only [`PLAIN`] would forget what it does not know.
pub const FORMAT: u32 = 3;

/// The format of a run without attributes.
pub const PLAIN: u32 = 2;

/// A queue of tasks of one class: its file from the cursor on. That of class 0 is
/// `toprocess`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// What the tasks in it need, and their priority; absent for class 0.
    #[serde(default, skip_serializing_if = "Class::is_plain")]
    pub class: Class,
    /// The length of the file in bytes.
    pub len: u64,
    /// Offset of the first unclaimed line.
    pub cursor: u64,
    /// Number of unclaimed lines.
    pub left: u64,
    /// Counts how often the file was rewritten.
    pub generation: u64,
    /// Its bytes at the cursor: an older `toprocess` that a user restored has other bytes
    /// there.
    #[serde(default)]
    pub head: Head,
    /// The checksum of the file.
    #[serde(default)]
    pub sum: u32,
    /// The checksum of what is before the cursor: what was claimed.
    #[serde(default)]
    pub taken: u32,
}

impl Queue {
    /// The queue of a file without claimed tasks; `head` is how it
    /// begins.
    pub fn unclaimed(file: Committed, head: Head, generation: u64) -> Self {
        Self {
            len: file.len,
            cursor: 0,
            left: file.lines,
            generation,
            head,
            sum: file.sum,
            taken: 0,
            class: Class::default(),
        }
    }

    /// What is known of its file; the lines are the unclaimed ones.
    pub fn committed(&self) -> Committed {
        Committed {
            len: self.len,
            lines: self.left,
            sum: self.sum,
        }
    }

    /// The checksum of the unclaimed part.
    pub fn rest(&self) -> u32 {
        checksum::rest(self.sum, self.taken, self.len.saturating_sub(self.cursor))
    }
}

/// A file that replaces another when its transaction is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rename {
    /// The complete new file.
    pub from: String,
    /// The name it gets.
    pub to: String,
}

/// The task list that the workdir was made from, by the values of stat(2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListIdentity {
    /// Length in bytes.
    pub len: u64,
    /// Last modification, seconds since 1970.
    pub mtime: i64,
    /// And the nanoseconds of it.
    pub mtime_nsec: i64,
    /// The number of the file.
    pub inode: u64,
}

/// The newest segment of the log: a part of the file `lock`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Its number, from 0.
    pub segment: u64,
    /// Where it begins, in bytes after [`LOG_AT`].
    pub at: u64,
    /// Its length in bytes.
    pub len: u64,
    /// The length of the checkpoint that it begins with.
    pub checkpoint: u64,
    /// Its checksum.
    pub sum: u32,
    /// The length of what the last transaction wrote into it, and its checksum.
    pub last: (u64, u32),
}

impl Log {
    /// Whether it is time for a new segment, by a limit in bytes: a checkpoint is
    /// written again only when at least as much has come after it.
    pub(super) fn is_long(&self, limit: u64) -> bool {
        self.len - self.checkpoint.min(self.len) >= limit.max(self.checkpoint)
    }

    /// The segment after this one, of which nothing is written yet, when it begins
    /// with that many bytes: they lie nowhere in this one.
    pub(super) fn next(&self, first: u64) -> Self {
        let at = if first <= self.at {
            0
        } else {
            self.at + self.len
        };
        Self {
            segment: self.segment + 1,
            at,
            ..Self::default()
        }
    }

    /// Whether it is still there, in whole, when the newest segment is `now`.
    pub fn is_intact(&self, now: &Self) -> bool {
        let (end, now_end) = (self.at + self.len, now.at + now.len);
        match now.segment.checked_sub(self.segment) {
            Some(0) => true,
            Some(1) => now_end <= self.at || end <= now.at,
            _ => false,
        }
    }

    /// Where its last write begins, in bytes after [`LOG_AT`].
    pub(super) fn last_at(&self) -> u64 {
        self.at + self.len.saturating_sub(self.last.0)
    }
}

/// The state of a workdir between two transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The format of the workdir.
    pub format: u32,
    /// Counts transactions.
    pub seq: u64,
    /// How its lock is taken.
    pub mechanism: Mechanism,
    /// The queue of each class of tasks; there is at least that of class 0.
    pub queues: Vec<Queue>,
    /// `finished`.
    pub finished: Committed,
    /// `failed`.
    pub failed: Committed,
    /// How many of the lines of `failed` are those of cancelled tasks.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cancelled: u64,
    /// `requeued`.
    pub requeued: Committed,
    /// `tasks`; its number of lines is the next new task's id.
    pub tasks: Committed,
    /// `blocked`: tasks that wait for others, and for which.
    #[serde(default, skip_serializing_if = "Committed::is_empty")]
    pub blocked: Committed,
    /// `released`: which of them wait no longer.
    #[serde(default, skip_serializing_if = "Committed::is_empty")]
    pub released: Committed,
    /// The transaction that last distributed the waiting tasks to the queues of their classes
    /// and to `blocked`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dealt: u64,
    /// Whether something is said of tasks beside their commands.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attributes: bool,
    /// Tasks that vanished from the list before they ran.
    pub dropped: u64,
    /// Farmers that joined and have neither left nor been fenced.
    pub live: u32,
    /// Those of them that claim nothing, since they doubt their node.
    #[serde(default)]
    pub quarantined: u32,
    /// The number of the next farmer that joins.
    pub next_farmer: u32,
    /// Counts the farmers that others fenced: a farmer that sees it
    /// change checks whether it was fenced.
    pub seals: u64,
    /// The transaction with which the present run began: a farmer joined, and
    /// there was no other member.
    #[serde(default)]
    pub began: u64,
    /// How many of the tasks in `failed` had failed before the present run began.
    #[serde(default, skip_serializing_if = "crate::model::record::is_zero")]
    pub failed_before: u64,
    /// The transaction that put the waiting tasks in another order than that of the list.
    #[serde(default, skip_serializing_if = "crate::model::record::is_zero")]
    pub sorted: u64,
    /// Counts the times that the lock was broken.
    #[serde(default)]
    pub breaks: u32,
    /// The value of `breaks` when the shared files were last rewritten: an old holder of the
    /// lock that comes back may still have them open.
    #[serde(default)]
    pub renewed: u32,
    /// After how many seconds without a sign of life a farmer of this run is taken for
    /// dead: one value for all, set by the farmer that joins when there is no member.
    #[serde(default)]
    pub takeover: u64,
    /// Farmers that still read tasks from a stream.
    pub feeding: u32,
    /// Tasks that were taken from a farmer since the first one joined: stopped
    /// with it or lost with it.
    pub interrupted: u64,
    /// The newest segment of the log.
    pub log: Log,
    /// `orders`.
    #[serde(default, skip_serializing_if = "Committed::is_empty")]
    pub orders: Committed,
    /// Whether the last of the orders to pause and to resume is one to pause: no task is
    /// claimed meanwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Whether running tasks are stopped while it is paused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// The list it was made from; none for standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<ListIdentity>,
    /// The folder in which the run was first started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// The runner with which the run was first started (`--runner`), unless it was the default
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<String>,
    /// Files that still have to take their place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub renames: Vec<Rename>,
}

impl State {
    /// The state of a workdir that is not prepared.
    pub fn new(mechanism: Mechanism) -> Self {
        Self {
            format: PLAIN,
            mechanism,
            queues: vec![Queue::default()],
            ..Self::default()
        }
    }

    /// What is known of a shared file, by its name.
    pub fn committed(&self, name: &str) -> Committed {
        match name {
            FINISHED => self.finished,
            FAILED => self.failed,
            REQUEUED => self.requeued,
            TASKS => self.tasks,
            ORDERS => self.orders,
            BLOCKED => self.blocked,
            RELEASED => self.released,
            _ => self.queue_named(name).committed(),
        }
    }

    /// Changes what is known of a shared file; of the queue what [`Queue::committed`] has.
    pub(in crate::workdir) fn set_committed(&mut self, name: &str, known: Committed) {
        match name {
            FINISHED => self.finished = known,
            FAILED => self.failed = known,
            REQUEUED => self.requeued = known,
            TASKS => self.tasks = known,
            ORDERS => self.orders = known,
            BLOCKED => self.blocked = known,
            RELEASED => self.released = known,
            _ => {
                let queue = class_of(name).and_then(|class| self.queues.get_mut(class));
                if let Some(queue) = queue {
                    (queue.len, queue.left, queue.sum) = (known.len, known.lines, known.sum);
                }
            }
        }
    }

    /// The files of which a part is known; some only once they are needed.
    pub fn shared_files(&self) -> Vec<String> {
        let optional = [
            (ORDERS, self.orders),
            (BLOCKED, self.blocked),
            (RELEASED, self.released),
        ];
        let optional = optional.into_iter().filter(|(_, known)| !known.is_empty());
        let names = ALWAYS.into_iter().chain(optional.map(|(name, _)| name));
        let others = (1..self.queues.len()).map(queue);
        names.map(str::to_owned).chain(others).collect()
    }

    /// The queue of which this is the file; an empty one when there is none.
    pub fn queue_named(&self, name: &str) -> Queue {
        let class = class_of(name).and_then(|class| self.queues.get(class));
        class.cloned().unwrap_or_default()
    }

    /// The queue of class 0.
    pub fn queue(&self) -> Queue {
        self.queues.first().cloned().unwrap_or_default()
    }

    /// Changes the queue of class 0.
    pub fn set_queue(&mut self, queue: Queue) {
        match self.queues.first_mut() {
            Some(first) => *first = queue,
            None => self.queues.push(queue),
        }
    }

    /// The class of which the most has been claimed that is still in its file.
    pub fn most_claimed(&self) -> usize {
        let classes = 0..self.queues.len();
        classes
            .max_by_key(|&class| self.queues[class].cursor)
            .unwrap_or(0)
    }

    /// What changes when a task is put into a queue.
    pub fn arrivals(&self) -> (u64, u64) {
        let queues = self.queues.iter();
        queues.fold((0, 0), |(len, generations), queue| {
            (len + queue.len, generations + queue.generation)
        })
    }

    /// Number of tasks that failed, without those that were cancelled.
    pub fn failures(&self) -> u64 {
        self.failed.lines.saturating_sub(self.cancelled)
    }

    /// Number of tasks that wait for others.
    pub fn pending(&self) -> u64 {
        self.blocked.lines.saturating_sub(self.released.lines)
    }

    /// Number of tasks that have ended, wait, or were dropped: all but the claimed ones.
    fn unclaimed(&self) -> u64 {
        let ended = self.finished.lines + self.failed.lines;
        ended + self.dropped + self.left() + self.pending()
    }

    /// Number of unclaimed tasks, of all classes, that wait for no other task.
    pub fn left(&self) -> u64 {
        self.queues.iter().map(|queue| queue.left).sum()
    }

    /// The takeover time of the run, while it has members.
    pub fn takeover(&self) -> Option<Duration> {
        (self.live > 0 && self.takeover > 0).then(|| Duration::from_secs(self.takeover))
    }

    /// Farmers that are alive and claim tasks.
    pub fn claiming(&self) -> u32 {
        self.live.saturating_sub(self.quarantined)
    }

    /// A member has left or was fenced.
    pub(in crate::workdir) fn remove_member(&mut self, feeds: bool, quarantined: bool) {
        self.live = self.live.saturating_sub(1);
        self.feeding = self.feeding.saturating_sub(u32::from(feeds));
        self.quarantined = self.quarantined.saturating_sub(u32::from(quarantined));
    }

    /// Whether the log is so long that a new segment begins, by a limit in bytes.
    pub fn has_long_log(&self, limit: u64) -> bool {
        self.log.is_long(limit)
    }

    /// How many tasks have failed in the present run and have not been put back.
    pub fn failed_in_run(&self) -> u64 {
        self.failures().saturating_sub(self.failed_before)
    }

    /// Tasks that some farmer has claimed and not yet settled.
    pub fn claimed(&self) -> u64 {
        self.tasks.lines.saturating_sub(self.unclaimed())
    }

    /// A contradiction between its numbers: each task is in one place, and a claimed task
    /// needs a member. `None` when there is none.
    pub fn contradiction(&self) -> Option<String> {
        let known = self.tasks.lines;
        let elsewhere = self.unclaimed();
        if elsewhere > known {
            return Some(format!(
                "it counts {elsewhere} tasks that ended, wait or were dropped, of {known}"
            ));
        }
        let claimed = known - elsewhere;
        (self.live == 0 && claimed > 0)
            .then(|| format!("{claimed} tasks are claimed, but no farmer is alive"))
    }

    /// Whether nothing is left that can run, and no more can come: every task is in `finished`
    /// or `failed`, or waits for one that is in `failed`.
    pub fn is_complete(&self) -> bool {
        self.left() == 0 && self.claimed() == 0 && self.feeding == 0
    }
}
