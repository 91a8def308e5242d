//! The waiting tasks of a run with attributes: dealt to one queue per class, and to `blocked`
//! if they wait for others; gathered again into `toprocess`.
//!
//! Guarantee: each waiting task is in one place, a queue or `blocked`, and dealing and gathering
//! change only the place; what a task waits for is decided when it is dealt, from the tasks that
//! have not finished at that moment. A run without attributes has one queue and no `blocked`,
//! and nothing here is called.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use memchr::memmem::find;

use super::requeued::Attempts;
use super::txn::Txn;
use crate::model::attributes::{Attributes, split};
use crate::model::class::Class;
use crate::model::ids::{IdSet, Ids};
use crate::model::task::{TaskId, parse_line, push_line};
use crate::workdir::error::{Context, Error, Result};
use crate::workdir::files::{Committed, NewFile};
use crate::workdir::layout::{self, BLOCKED, FAILED, RELEASED, TASKS, TOPROCESS};
use crate::workdir::state::{Members, Queue};

/// From so many classes on, a task joins a class with greater needs rather than a new one. The
/// commit record has room for some more.
const MANY: usize = 48;

/// More classes do not fit into the commit record.
const MOST: usize = 80;

/// Whether something is said of the task with this line.
pub(in crate::workdir) fn has_attributes(line: &[u8]) -> bool {
    split(line).1.is_some_and(|text| !text.is_empty())
}

/// Whether a task may have to wait for others.
pub(super) fn may_wait_for_others(line: &[u8]) -> bool {
    may_wait(said_of(line))
}

/// The text of what is said of the task with this line.
fn said_of(line: &[u8]) -> &[u8] {
    split(line).1.unwrap_or_default()
}

/// Whether a task of which this is said may have to wait for others.
fn may_wait(text: &[u8]) -> bool {
    [&b"after"[..], b"stage"]
        .iter()
        .any(|word| find(text, word).is_some())
}

/// What is said of the task with this line. What is stored was checked before.
fn attributes(line: &[u8]) -> Attributes {
    Attributes::parse(said_of(line)).unwrap_or_default()
}

/// The line of a task in `blocked`: its id, the tasks that have to finish before it, those that
/// have to end, its command.
#[derive(Clone, Copy, Debug)]
pub struct BlockedLine<'a> {
    /// The task.
    pub id: TaskId,
    /// The ids of those that have to finish; `-` for none.
    pub after: &'a str,
    /// The ids of those that have to end; `-` for none.
    pub any: &'a str,
    /// Its own line.
    pub line: &'a [u8],
}

/// The task in a line of `released`.
pub fn parse_released(line: &[u8]) -> Option<TaskId> {
    std::str::from_utf8(line).ok()?.parse().ok()
}

impl<'a> BlockedLine<'a> {
    /// The parts of a line; `None` when it is none.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let (id, rest) = parse_line(text)?;
        let mut words = rest.splitn(3, |&byte| byte == b' ');
        let mut word = || std::str::from_utf8(words.next()?).ok();
        let (after, any) = (word()?, word()?);
        let line = words.next()?;
        Some(Self {
            id,
            after,
            any,
            line,
        })
    }
}

/// The tasks that others may wait for: those that have not finished. Each of a million may have
/// a name, and wait for another.
#[derive(Default)]
struct Unfinished {
    named: HashMap<Box<str>, Named>,
    /// By stage: those that have not ended, and those that failed.
    staged: BTreeMap<u32, [Vec<TaskId>; 2]>,
    /// The texts of what many tasks were.
    known: HashMap<WaitsFor, Option<(String, String)>>,
}

/// The tasks of a name.
#[derive(Default)]
struct Named {
    /// Each with whether it has ended.
    tasks: Vec<(TaskId, bool)>,
    /// The last of their stages.
    stage: u32,
}

/// For what a task waits, by its attributes.
#[derive(Clone, PartialEq, Eq, Hash)]
struct WaitsFor {
    after: Vec<String>,
    any: Vec<String>,
    stage: (u32, bool),
}

const OPEN: usize = 0;
const ENDED: usize = 1;

impl Unfinished {
    /// The text of so many tasks is made again rather than kept.
    const FEW: usize = 16;

    /// Takes in a task. Those that wait come in the order of their ids.
    fn add(&mut self, id: TaskId, line: &[u8], place: usize) {
        let text = said_of(line);
        if [&b"name"[..], b"stage", b"after"]
            .iter()
            .all(|word| find(text, word).is_none())
        {
            self.staged.entry(0).or_default()[place].push(id);
            return;
        }
        let said = attributes(line);
        // A task that was added has no stage. If it waits for one behind a barrier it is behind
        // that, too: else the two would wait for each other.
        let named = said.after.iter().chain(&said.after_any);
        let stages = named.filter_map(|name| Some(self.named.get(&**name)?.stage));
        let stage = stages.fold(said.stage.number, u32::max);
        if let Some(name) = said.name {
            let known = self.named.entry(name.into()).or_insert_with(|| Named {
                tasks: Vec::with_capacity(1),
                stage,
            });
            known.stage = stage.max(known.stage);
            known.tasks.push((id, place == ENDED));
        }
        self.staged.entry(stage).or_default()[place].push(id);
    }

    /// The tasks that have to finish before this one, and those that have to end; `None` when
    /// it waits for none.
    fn before(&mut self, attributes: Attributes) -> Option<(String, String)> {
        let key = WaitsFor {
            after: attributes.after,
            any: attributes.after_any,
            stage: (attributes.stage.number, attributes.stage.ok),
        };
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let of = |name: &String| {
            let named = self.named.get(&**name).into_iter();
            named.flat_map(|named| named.tasks.iter().copied())
        };
        let mut after: Vec<TaskId> = key.after.iter().flat_map(of).map(|(id, _)| id).collect();
        let open = key.any.iter().flat_map(of).filter(|(_, ended)| !ended);
        let mut any: Vec<TaskId> = open.map(|(id, _)| id).collect();
        let (number, ok) = key.stage;
        // Those of earlier stages come before these.
        let mut earlier = self.staged.range(..number).rev();
        if let Some((_, [open, _])) = earlier.find(|(_, [open, _])| !open.is_empty()) {
            any.extend(open);
        }
        if ok
            && let Some(tasks) = number
                .checked_sub(1)
                .and_then(|stage| self.staged.get(&stage))
        {
            after.extend(tasks.iter().flatten());
        }
        let all = after.len() + any.len();
        let text = |mut ids: Vec<TaskId>| {
            ids.sort_unstable();
            ids.dedup();
            let ids: Ids = ids.into_iter().collect();
            if ids.is_empty() {
                "-".to_owned()
            } else {
                ids.to_string()
            }
        };
        let found = (all > 0).then(|| (text(after), text(any)));
        if all > Self::FEW {
            self.known.insert(key, found.clone());
        }
        found
    }
}

/// The classes of tasks that were seen a moment ago and wait for none, by what is said of them:
/// most lists say the same few things of many tasks.
#[derive(Default)]
struct KnownClasses(HashMap<Vec<u8>, Vec<(u32, usize)>>);

impl KnownClasses {
    /// A list that says something else of each task must not fill the memory.
    const MOST: usize = 1024;

    /// The class of a task of which this is said, before this attempt.
    fn of(&self, text: &[u8], attempt: u32) -> Option<usize> {
        let mut known = self.0.get(text)?.iter();
        let (_, class) = known.find(|(of, _)| *of == attempt)?;
        Some(*class)
    }

    fn keep(&mut self, text: &[u8], attempt: u32, class: usize) {
        if self.0.len() >= Self::MOST {
            self.0.clear();
        }
        let known = self.0.entry(text.to_vec()).or_default();
        known.push((attempt, class));
    }
}

/// Tasks that are being dealt: what is known of them, and the new files into which they go.
struct Deal {
    attempts: Attempts,
    classes: KnownClasses,
    /// Known from the first task on that may wait for others.
    unfinished: Option<Unfinished>,
    queues: BTreeMap<usize, NewFile>,
    blocked: Option<NewFile>,
}

impl Deal {
    /// Puts the task with this line of `toprocess` where it waits.
    fn task(&mut self, txn: &mut Txn<'_>, text: &[u8]) -> Result<()> {
        let Some((id, line)) = parse_line(text) else {
            return Ok(());
        };
        let (said, attempt) = (said_of(line), self.attempts.of(id));
        if let Some(class) = self.classes.of(said, attempt) {
            return self.enqueue(txn, class, text);
        }
        let attributes = attributes(line);
        let class = Class::of(&attributes, attempt);
        if may_wait(said) {
            let unfinished = match &mut self.unfinished {
                Some(known) => known,
                none => none.insert(txn.unfinished()?),
            };
            if let Some((after, any)) = unfinished.before(attributes) {
                let before = format!("{id} {after} {any} ");
                return self.block(txn, &[before.as_bytes(), line].concat());
            }
        }
        let class = txn.class(class)?;
        self.classes.keep(said, attempt, class);
        self.enqueue(txn, class, text)
    }

    fn enqueue(&mut self, txn: &Txn<'_>, class: usize, text: &[u8]) -> Result<()> {
        let file = match self.queues.entry(class) {
            Entry::Occupied(file) => file.into_mut(),
            Entry::Vacant(none) => none.insert(txn.new_file(&layout::queue(class))?),
        };
        file.write_line(text).context("write", "a queue")
    }

    fn block(&mut self, txn: &Txn<'_>, text: &[u8]) -> Result<()> {
        let file = match &mut self.blocked {
            Some(file) => file,
            none => none.insert(txn.new_file(BLOCKED)?),
        };
        file.write_line(text).context("write", BLOCKED)
    }
}

impl Txn<'_> {
    /// Distributes what waits in `toprocess` to the queues of the classes, and to `blocked`.
    pub fn deal(&mut self) -> Result<()> {
        if !self.state.attributes {
            return Ok(());
        }
        let mut attempts = Attempts::default();
        self.refresh(&mut attempts)?;
        let mut deal = Deal {
            attempts,
            classes: KnownClasses::default(),
            unfinished: None,
            queues: BTreeMap::from([(0, self.new_file(TOPROCESS)?)]),
            blocked: None,
        };
        let cursor = self.state.queue().cursor;
        self.each_line_with(cursor, TOPROCESS, |txn, text| deal.task(txn, text))?;
        for (class, file) in deal.queues {
            self.replace_queue_of(class, file)?;
        }
        if let Some(file) = deal.blocked {
            self.state.blocked = file.committed();
            self.replace(BLOCKED, file)?;
        }
        self.state.dealt = self.state.seq + 1;
        Ok(())
    }

    /// The tasks that those in `toprocess` may wait for.
    fn unfinished(&mut self) -> Result<Unfinished> {
        let mut unfinished = Unfinished::default();
        self.each_line(FAILED, |line| {
            if let Some((id, line)) = parse_line(line) {
                unfinished.add(id, line, ENDED);
            }
        })?;
        let claimed = IdSet::from(self.outstanding()?);
        if !claimed.is_empty() {
            // This transaction may have replaced the file.
            self.each_line(TASKS, |line| {
                if let Some((id, line)) = parse_line(line).filter(|(id, _)| claimed.contains(*id)) {
                    unfinished.add(id, line, OPEN);
                }
            })?;
        }
        let cursor = self.state.queue().cursor;
        self.each_line_from(cursor, TOPROCESS, |line| {
            if let Some((id, line)) = parse_line(line) {
                unfinished.add(id, line, OPEN);
            }
        })?;
        Ok(unfinished)
    }

    /// Puts all waiting tasks into `toprocess`, in the order of their ids, also those that wait
    /// for others.
    pub fn gather_all(&mut self) -> Result<()> {
        if self.state.blocked.is_empty() {
            return self.gather();
        }
        let mut released = IdSet::default();
        self.each_line(RELEASED, |line| {
            released.insert(&parse_released(line).into_iter().collect());
        })?;
        let mut lines = Vec::new();
        self.each_line(BLOCKED, |line| {
            if let Some(task) = BlockedLine::parse(line).filter(|task| !released.contains(task.id))
            {
                push_line(&mut lines, task.id, task.line);
            }
        })?;
        for name in [BLOCKED, RELEASED] {
            let empty = self.new_file(name)?;
            self.replace(name, empty)?;
            self.state.set_committed(name, Committed::default());
        }
        self.gather_with(lines)
    }

    /// Puts the tasks of all queues into `toprocess`, in the order of their ids.
    pub fn gather(&mut self) -> Result<()> {
        if self.state.queues.len() == 1 {
            return Ok(());
        }
        self.gather_with(Vec::new())
    }

    /// The same, with these lines.
    fn gather_with(&mut self, mut lines: Vec<u8>) -> Result<()> {
        for class in 0..self.state.queues.len() {
            let name = layout::queue(class);
            let cursor = self.state.queues[class].cursor;
            self.each_line_from(cursor, &name, |line| {
                lines.extend_from_slice(line);
                lines.push(b'\n');
            })?;
            if class > 0 {
                let empty = self.new_file(&name)?;
                self.replace(&name, empty)?;
            }
        }
        let mut tasks: Vec<_> = lines
            .split(|&byte| byte == b'\n')
            .filter_map(parse_line)
            .collect();
        tasks.sort_by_key(|(id, _)| *id);
        let mut file = self.new_file(TOPROCESS)?;
        for (id, line) in tasks {
            file.write_task(id, line).context("write", TOPROCESS)?;
        }
        self.state.queues.truncate(1);
        self.replace_queue(file)
    }

    /// Appends tasks, which wait for none, to the queues of their classes. Each is an id, a line,
    /// and the number of the attempt that comes next.
    pub(in crate::workdir) fn distribute(&mut self, tasks: &[(TaskId, &[u8], u32)]) -> Result<()> {
        for (class, lines) in self.by_class(tasks)? {
            self.enqueue(class, &lines)?;
        }
        Ok(())
    }

    /// The lines of such tasks for each class.
    pub(super) fn by_class(
        &mut self,
        tasks: &[(TaskId, &[u8], u32)],
    ) -> Result<BTreeMap<usize, Vec<u8>>> {
        let mut by_class: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        for (id, line, attempt) in tasks {
            let class = self.class(Class::of(&attributes(line), *attempt))?;
            push_line(by_class.entry(class).or_default(), *id, line);
        }
        Ok(by_class)
    }

    /// The number of a class; a new one when there is none.
    fn class(&mut self, class: Class) -> Result<usize> {
        let queues = &mut self.state.queues;
        if let Some(known) = queues.iter().position(|queue| queue.class == class) {
            return Ok(known);
        }
        if queues.len() >= MANY {
            for (nth, queue) in queues.iter_mut().enumerate().skip(1) {
                if let Some(greater) = queue.class.covering(&class) {
                    queue.class = greater;
                    return Ok(nth);
                }
            }
        }
        if queues.len() >= MOST {
            let what = format!(
                "the tasks have more than {MOST} different priorities and patterns of nodes, of \
                 which a workdir cannot keep track: use fewer"
            );
            return Err(Error::Refused(what));
        }
        queues.push(Queue {
            class,
            generation: self.state.seq + 1,
            ..Queue::default()
        });
        Ok(queues.len() - 1)
    }

    /// The tasks that farmers have claimed and not settled.
    pub(in crate::workdir) fn outstanding(&self) -> Result<Ids> {
        let members = Members::after(&self.entries()?);
        let mut open = IdSet::default();
        members
            .iter()
            .for_each(|member| open.insert(&member.open.ids()));
        Ok(open.ids())
    }
}
