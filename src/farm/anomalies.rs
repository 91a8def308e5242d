//! What the supervisor observes of tasks apart from their ends: tasks that a signal has
//! stopped, processes that tasks have left behind, OOM kills.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::Pid;

use super::message::Stopped;
use super::shared::Shared;
use crate::host::process::{is_stopped, reap_orphans};
use crate::model::escape::clip;
use crate::model::ids::Ids;
use crate::model::task::TaskId;

/// How many tasks that left processes behind are shown, and how many are recorded.
const LEFT_SHOWN: u32 = 5;
const LEFT_RECORDED: u32 = 100;
/// How long a task has been stopped before it is reported: a scheduler that suspends a job
/// stops tasks and farmer one after the other.
const STOPPED_FOR: Duration = Duration::from_secs(1);

/// What was observed so far, and is not reported yet.
pub(super) struct Anomalies {
    shared: Arc<Shared>,
    /// Tasks that a signal has stopped.
    stopped: Vec<Stopped>,
    /// How many tasks have left processes behind.
    left_behind: u32,
}

/// A task that has left processes behind.
pub(super) struct LeftBehind {
    /// A message.
    pub(super) text: String,
    /// Whether it is shown, and not only recorded.
    pub(super) is_shown: bool,
}

impl Anomalies {
    /// Nothing yet.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            stopped: Vec::new(),
            left_behind: 0,
        }
    }

    /// A signal has stopped a task.
    pub(super) fn add_stopped(&mut self, one: Stopped) {
        self.stopped.push(one);
    }

    /// All tasks are continued.
    pub(super) fn forget_stopped(&mut self) {
        self.stopped.clear();
    }

    /// Messages about tasks that have been stopped for a while.
    pub(super) fn stopped(&mut self) -> Vec<String> {
        let due = |one: &Stopped| one.at.elapsed() >= STOPPED_FOR;
        let all = std::mem::take(&mut self.stopped);
        let (due, rest): (Vec<_>, _) = all.into_iter().partition(due);
        self.stopped = rest;
        let is_still_stopped = |one: &Stopped| {
            let running = self.shared.processes[one.slot as usize].running();
            running.is_some_and(|running| running.pid == one.pid) && is_stopped(one.pid)
        };
        let text = |one: Stopped| {
            format!(
                "task {} is stopped by {}: it goes on after 'kill -CONT {}' on this node, and \
                 ends at its time limit (--task-timeout) or with the farm",
                one.id,
                one.signal.as_str(),
                one.pid
            )
        };
        due.into_iter().filter(is_still_stopped).map(text).collect()
    }

    /// Reaps orphans; returns the tasks that have left processes behind. `own` are children
    /// of ours that are no orphans.
    pub(super) fn left_behind(&mut self, own: &[Pid]) -> Vec<LeftBehind> {
        let mut counts: BTreeMap<TaskId, u32> = BTreeMap::new();
        for group in reap_orphans(own) {
            let mut processes = self.shared.processes.iter();
            if let Some(id) = processes.find_map(|process| process.task_of_group(group)) {
                *counts.entry(id).or_default() += 1;
            }
        }
        let mut all = Vec::new();
        for (id, count) in counts {
            self.left_behind += 1;
            if self.left_behind > LEFT_RECORDED {
                break;
            }
            let them = if count == 1 { "a process" } else { "processes" };
            all.push(LeftBehind {
                text: format!("task {id} ended and left {them} behind, ended with it"),
                is_shown: self.left_behind <= LEFT_SHOWN,
            });
        }
        all
    }

    /// A message about kills for lack of memory that no end of a task explains.
    pub(super) fn memory_kills(&self, is_last: bool) -> Option<String> {
        let kills = self.shared.oom.unexplained(is_last);
        if kills == 0 {
            return None;
        }
        let ids: Ids = self.shared.running().map(|running| running.id).collect();
        let ran = if ids.is_empty() {
            String::new()
        } else {
            format!("; running now: {}", clip(&ids.to_string(), 60))
        };
        Some(format!(
            "the kernel killed for lack of memory ({kills} times, counted for {}), and no task \
             ended by it: a task whose child was killed may finish without its result{ran}",
            self.shared.oom.scope()
        ))
    }
}
