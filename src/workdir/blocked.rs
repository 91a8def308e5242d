//! The tasks that wait for others, as a farmer keeps them in memory.
//!
//! `blocked` has them with what each waits for, and does not change until the tasks are dealt
//! again; `released` has those that wait no longer. A farmer reads what is new in `finished` and
//! `failed` in its turns, and releases what nothing stands before any more: it appends the tasks
//! to their queues and to `released`, in the same transaction. Guarantee: a task is released
//! once, since that is decided under the lock from `released`; none is released before all of its
//! predecessors have finished, or ended. A task is never stuck: what one farmer has not seen to
//! its end the next turn of any farmer releases.

use std::collections::HashMap;

use crate::model::ids::Ids;
use crate::model::task::{TaskId, parse_line};
use crate::workdir::error::{Context, Result};
use crate::workdir::files::{Committed, Lines, read_full};
use crate::workdir::layout::{BLOCKED, FAILED, FINISHED, RELEASED};
use crate::workdir::state::State;
use crate::workdir::transaction::{Attempts, BlockedLine, Txn, parse_released};

/// Texts of what a task waits for up to this length are not searched for among the others: that
/// would take more memory than to keep what they say again.
const SHORT: usize = 64;

/// What is known of the tasks that wait for others. A million may: each takes some dozen bytes.
#[derive(Default)]
pub(super) struct Blocked {
    /// When they were dealt.
    dealt: u64,
    /// How far the files were read.
    finished: u64,
    failed: Committed,
    released: u64,
    sets: Vec<Set>,
    /// The sets before which nothing stands any more, until they are released.
    ready: Vec<u32>,
    /// The waiting tasks, by their sets.
    waiters: Vec<Waiter>,
    /// The indices of `waiters`, by the ids.
    by_id: Vec<u32>,
    /// By the tasks that are waited for.
    edges: Vec<Edge>,
}

/// Tasks that wait for the same others.
struct Set {
    /// How many of these have not finished, or ended.
    left: u32,
    /// The index of its first waiter. The others follow.
    first: u32,
    is_released: bool,
}

/// Where the line of a task is in `blocked`.
#[derive(Clone, Copy)]
struct Waiter {
    id: TaskId,
    at: u64,
    len: u32,
    set: u32,
}

/// A set waits for a task.
struct Edge {
    before: TaskId,
    set: u32,
    /// It is enough that the task ends.
    any: bool,
    is_over: bool,
}

impl Blocked {
    /// Whether tasks may have to be released that a farmer with this state does not know.
    pub(super) fn is_behind(&self, state: &State) -> bool {
        let known = (self.dealt, self.finished, self.failed);
        state.pending() > 0 && known != (state.dealt, state.finished.len, state.failed)
    }

    /// Releases the tasks that need not wait any more. Returns whether there were any.
    pub(super) fn release(&mut self, txn: &mut Txn<'_>, attempts: &Attempts) -> Result<bool> {
        if txn.state().pending() == 0 {
            return Ok(false);
        }
        self.refresh(txn)?;
        let mut waiters = Vec::new();
        for set in std::mem::take(&mut self.ready) {
            if !std::mem::replace(&mut self.sets[set as usize].is_released, true) {
                waiters.extend_from_slice(self.waiters_of(set));
            }
        }
        if waiters.is_empty() {
            return Ok(false);
        }
        waiters.sort_unstable_by_key(|waiter| waiter.at);
        let file = txn.current(BLOCKED)?;
        let mut lines = Vec::with_capacity(waiters.len());
        for waiter in &waiters {
            let mut line = vec![0; waiter.len as usize];
            let read = read_full(&*file, &mut line, waiter.at).context("read", BLOCKED)?;
            match BlockedLine::parse(&line[..read]) {
                Some(task) if task.id == waiter.id => lines.push(task.line.to_vec()),
                _ => {
                    let what = format!("at byte {} task {} is missing", waiter.at, waiter.id);
                    return Err(txn.damaged(BLOCKED, what));
                }
            }
        }
        let tasks = waiters.iter().zip(&lines);
        let tasks = tasks.map(|(waiter, line)| (waiter.id, &line[..], attempts.of(waiter.id)));
        txn.distribute(&tasks.collect::<Vec<_>>())?;
        let ids = waiters.iter().map(|waiter| format!("{}\n", waiter.id));
        txn.append(
            RELEASED,
            &ids.flat_map(String::into_bytes).collect::<Vec<u8>>(),
        )?;
        self.released = txn.state().released.len;
        Ok(true)
    }

    /// Takes in what has ended, and what others have released.
    fn refresh(&mut self, txn: &mut Txn<'_>) -> Result<()> {
        if self.dealt != txn.state().dealt {
            *self = Self::read(txn)?;
        }
        let from = self.released;
        txn.each_line_from(from, RELEASED, |line| {
            if let Some(set) = parse_released(line).and_then(|id| self.set_of(id)) {
                self.sets[set as usize].is_released = true;
            }
        })?;
        self.released = txn.state().released.len;
        let from = self.finished;
        txn.each_line_from(from, FINISHED, |line| {
            if let Some((id, _)) = parse_line(line) {
                self.ended(id, true);
            }
        })?;
        self.finished = txn.state().finished.len;
        if self.failed != txn.state().failed {
            txn.each_line(FAILED, |line| {
                if let Some((id, _)) = parse_line(line) {
                    self.ended(id, false);
                }
            })?;
            self.failed = txn.state().failed;
        }
        Ok(())
    }

    fn ended(&mut self, id: TaskId, has_finished: bool) {
        let from = self.edges.partition_point(|edge| edge.before < id);
        for edge in self.edges[from..]
            .iter_mut()
            .take_while(|edge| edge.before == id)
        {
            if !edge.is_over && (edge.any || has_finished) {
                edge.is_over = true;
                let left = &mut self.sets[edge.set as usize].left;
                *left -= 1;
                if *left == 0 {
                    self.ready.push(edge.set);
                }
            }
        }
    }

    fn waiters_of(&self, set: u32) -> &[Waiter] {
        let first = |set: usize| self.sets.get(set).map(|set| set.first as usize);
        let end = first(set as usize + 1).unwrap_or(self.waiters.len());
        &self.waiters[first(set as usize).unwrap_or(end)..end]
    }

    fn set_of(&self, id: TaskId) -> Option<u32> {
        let waiter = |&index: &u32| &self.waiters[index as usize];
        let index = self
            .by_id
            .binary_search_by_key(&id, |index| waiter(index).id);
        Some(waiter(&self.by_id[index.ok()?]).set)
    }

    fn read(txn: &mut Txn<'_>) -> Result<Self> {
        let mut blocked = Self {
            dealt: txn.state().dealt,
            ..Self::default()
        };
        let mut by_text: HashMap<String, u32> = HashMap::new();
        let mut last = (String::new(), None);
        let file = txn.current(BLOCKED)?;
        let mut lines = Lines::new(&*file, 0, txn.state().blocked.len);
        loop {
            let at = lines.at();
            let Some(line) = lines.next().context("read", BLOCKED)? else {
                break;
            };
            let (len, task) = (u32::try_from(line.len()), BlockedLine::parse(line));
            let (Ok(len), Some(BlockedLine { id, after, any, .. })) = (len, task) else {
                let what = format!("at byte {at} there is no task");
                return Err(txn.damaged(BLOCKED, what));
            };
            let text = format!("{after} {any}");
            let set = match last {
                (ref known, Some(set)) if *known == text => set,
                _ if text.len() <= SHORT => blocked.new_set(after, any),
                _ => *by_text
                    .entry(text.clone())
                    .or_insert_with(|| blocked.new_set(after, any)),
            };
            last = (text, Some(set));
            blocked.waiters.push(Waiter { id, at, len, set });
        }
        blocked.arrange();
        Ok(blocked)
    }

    fn new_set(&mut self, after: &str, any: &str) -> u32 {
        let set = index(self.sets.len());
        let mut left = 0;
        for (ids, any) in [(after, false), (any, true)] {
            let ids: Ids = ids.parse().unwrap_or_default();
            for before in ids.iter() {
                self.edges.push(Edge {
                    before,
                    set,
                    any,
                    is_over: false,
                });
                left += 1;
            }
        }
        if left == 0 {
            self.ready.push(set);
        }
        self.sets.push(Set {
            left,
            first: 0,
            is_released: false,
        });
        set
    }

    /// All have been read.
    fn arrange(&mut self) {
        self.edges.sort_unstable_by_key(|edge| edge.before);
        self.edges.shrink_to_fit();
        self.waiters
            .sort_unstable_by_key(|waiter| (waiter.set, waiter.at));
        self.waiters.shrink_to_fit();
        for (nth, waiter) in self.waiters.iter().enumerate().rev() {
            self.sets[waiter.set as usize].first = index(nth);
        }
        self.by_id = (0..index(self.waiters.len())).collect();
        let waiters = &self.waiters;
        self.by_id
            .sort_unstable_by_key(|&index| waiters[index as usize].id);
    }
}

/// A number of tasks or of sets.
fn index(number: usize) -> u32 {
    u32::try_from(number).expect("fewer than four billion")
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::sync::Arc;

    use super::*;
    use crate::model::attributes::Attributes;
    use crate::model::task::Task;
    use crate::workdir::fs::{Dir, RealDir, Workdir};
    use crate::workdir::liveness::samples::Now;
    use crate::workdir::state::Act;
    use crate::workdir::transaction::RequeueReason;

    /// Random tasks: each may have a name, wait for earlier names, and be behind barriers.
    fn random_list(random: &mut fastrand::Rng) -> Vec<String> {
        let mut names = vec!["none".to_owned()];
        let mut stage = 0;
        let list = (0..random.u32(5..40)).map(|nth| {
            let mut said = vec![format!("priority={}", random.i32(-1..2))];
            if random.u8(..) < 30 {
                stage += 1;
            }
            if stage > 0 {
                let ok = if random.bool() { "stage-ok" } else { "stage" };
                said.push(format!("{ok}={stage}"));
            }
            for key in ["after", "after-any"] {
                if random.u8(..) < 60 {
                    said.push(format!("{key}={}", names[random.usize(..names.len())]));
                }
            }
            if random.bool() {
                // A name that others have already has no one that waits for it.
                names.push(format!("n{nth}"));
                said.push(format!("name=n{nth}"));
            }
            let attributes = Attributes::parse(said.join(" ").as_bytes()).unwrap();
            format!("task {nth} #PYTF {attributes}")
        });
        list.collect()
    }

    /// How each task ended last, and which run.
    #[derive(Default)]
    struct Seen {
        ended: HashMap<u64, bool>,
        ever_ended: HashSet<u64>,
        running: Vec<Task>,
        started: HashMap<u64, u32>,
    }

    impl Seen {
        fn start(&mut self, tasks: Vec<Task>, all: &[Attributes]) {
            for task in tasks {
                let (id, said) = (task.id.0, &all[usize::try_from(task.id.0).unwrap()]);
                *self.started.entry(id).or_default() += 1;
                for (other, before) in (0..).zip(all) {
                    let is_in =
                        |names: &[String]| before.name.iter().any(|name| names.contains(name));
                    let is_before = before.stage.number < said.stage.number;
                    let is_next_before = before.stage.number + 1 == said.stage.number;
                    if is_in(&said.after) || said.stage.ok && is_next_before {
                        assert_eq!(self.ended.get(&other), Some(&true), "{id} before {other}");
                    }
                    if is_in(&said.after_any) || is_before {
                        assert!(self.ever_ended.contains(&other), "{id} before {other}");
                    }
                }
                self.running.push(task);
            }
        }

        /// It finishes, fails, or is put back.
        fn end(&mut self, task: Task, txn: &mut Txn<'_>, random: &mut fastrand::Rng) {
            let id = task.id.0;
            if random.u8(..) < 20 {
                *self.started.get_mut(&id).unwrap() -= 1;
                let back = (task, Some(RequeueReason::Interrupted));
                return txn.requeue(&[back]).unwrap();
            }
            let good = random.u8(..) < 200;
            let name = if good { FINISHED } else { FAILED };
            let line = [format!("{id} ").as_bytes(), &task.line, b"\n"].concat();
            txn.append(name, &line).unwrap();
            self.ended.insert(id, good);
            self.ever_ended.insert(id);
        }
    }

    #[test]
    fn every_task_runs_once_and_never_before_those_that_it_waits_for() {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let list = random_list(&mut random);
            let all = list
                .iter()
                .map(|line| Attributes::of_line(line.as_bytes()).unwrap());
            let all: Vec<_> = all.collect();
            let folder = tempfile::tempdir().unwrap();
            let dir: Arc<dyn Dir> = RealDir::open(folder.path()).unwrap();
            let workdir = Workdir::from(&dir);
            let mut now = Now;
            let mut txn = Txn::begin(&workdir, "test", &mut now).unwrap();
            let lines = (0..).zip(&list).map(|(id, line)| format!("{id} {line}\n"));
            txn.state_mut().live = 2;
            txn.add(lines.collect::<String>().as_bytes()).unwrap();
            txn.commit(Act::Prepare).unwrap();
            let mut farmers = [Blocked::default(), Blocked::default()];
            let (mut seen, mut idle, mut retries) = (Seen::default(), 0, 0);
            while idle < 4 {
                let blocked = &mut farmers[random.usize(..2)];
                let mut txn = Txn::begin(&workdir, "test", &mut now).unwrap();
                let mut attempts = Attempts::default();
                txn.refresh(&mut attempts).unwrap();
                random.shuffle(&mut seen.running);
                let n = random.usize(..=seen.running.len());
                for task in seen.running.drain(..n).collect::<Vec<_>>() {
                    seen.end(task, &mut txn, &mut random);
                }
                // As an edit does. It knows the claimed tasks by the log, which this test does
                // not write.
                if random.u8(..) < 20 && seen.running.is_empty() {
                    txn.gather_all().unwrap();
                    assert_eq!(txn.state().queues.len(), 1);
                    txn.deal().unwrap();
                }
                blocked.release(&mut txn, &attempts).unwrap();
                let tasks = txn.claim(random.u64(..4), &attempts).unwrap();
                seen.start(tasks, &all);
                let state = txn.commit(Act::Prepare).unwrap();
                assert_eq!(state.contradiction(), None);
                assert_eq!(state.claimed(), seen.running.len() as u64);
                let is_idle = seen.running.is_empty() && state.left() == 0;
                idle = if is_idle { idle + 1 } else { 0 };
                if idle == 3 && retries < 3 && state.failed.lines > 0 {
                    (idle, retries) = (0, retries + 1);
                    let wanted = crate::workdir::retry::Wanted::Failed;
                    let back = crate::workdir::retry::retry(&workdir, "test", &mut now, &wanted);
                    for id in back.unwrap().back.iter() {
                        *seen.started.get_mut(&id.0).unwrap() -= 1;
                        seen.ended.remove(&id.0);
                    }
                }
            }
            assert!(
                seen.started.values().all(|&n| n == 1),
                "seed {seed}: {:?}",
                seen.started
            );
            let has_failures = seen.ended.values().any(|good| !good);
            if !has_failures {
                assert_eq!(seen.ended.len(), all.len(), "seed {seed}: nothing is stuck");
            }
        }
    }
}
