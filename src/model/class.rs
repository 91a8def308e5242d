//! A class of tasks: what a farmer has to know of a task before it claims it. Tasks of one
//! class share a queue.
//!
//! Guarantee: its text in the state of a workdir is as the attributes of a task are stored, so
//! that people can read it; tasks without attributes are of the plain class, whatever their
//! attempt.

use std::cmp::Reverse;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::attributes::Attributes;
use super::durations;
use super::escape::escape;
use super::figures::show_kib;
use super::needs::Needs;

/// What tasks need, where they may run, and their place in the order. What is not said is what
/// the options of the farmer say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Class {
    /// Number of CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Number of GPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
    /// Memory in KiB, of the attempt that is next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem: Option<u64>,
    /// Time limit in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<u64>,
    /// On which nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Larger comes first.
    #[serde(skip_serializing_if = "is_zero")]
    pub priority: i32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(priority: &i32) -> bool {
    *priority == 0
}

impl Class {
    /// The class of a task with these attributes, before its n-th attempt, counted from 1.
    pub fn of(attributes: &Attributes, attempt: u32) -> Self {
        let nth = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
        let mem = attributes.mem.get(nth).or(attributes.mem.last());
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            cpus: attributes.cpus,
            gpus: attributes.gpus,
            mem: mem.copied(),
            time: attributes.time.map(millis),
            node: attributes.node.clone(),
            priority: attributes.priority,
        }
    }

    /// What is said of its tasks, for people: `2 GPUs`, `time limit 8h`.
    pub fn words(&self) -> Vec<String> {
        let counted = |n: u32, what: &str| match n {
            1 => format!("1 {what}"),
            n => format!("{n} {what}s"),
        };
        let words = [
            self.cpus.map(|n| counted(n, "CPU")),
            self.gpus.map(|n| counted(n, "GPU")),
            self.mem.map(|kib| format!("{} of memory", show_kib(kib))),
            self.time()
                .map(|time| format!("time limit {}", durations::show(time))),
            (self.node.as_ref()).map(|node| format!("node {}", escape(node.as_bytes()))),
            (self.priority != 0).then(|| format!("priority {}", self.priority)),
        ];
        words.into_iter().flatten().collect()
    }

    /// Whether nothing is said of its tasks.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// What one of its tasks needs; what is not said is that of `defaults`.
    pub fn needs(&self, defaults: &Needs) -> Needs {
        Needs {
            cpus: self.cpus.unwrap_or(defaults.cpus).max(1),
            gpus: self.gpus.unwrap_or(defaults.gpus),
            mem_kib: self.mem.unwrap_or(defaults.mem_kib),
            time: self.time().or(defaults.time),
        }
    }

    /// The time limit of an attempt.
    pub fn time(&self) -> Option<Duration> {
        self.time.map(Duration::from_millis)
    }

    /// Sorts by priority, the first first.
    pub fn rank(&self) -> Reverse<i32> {
        Reverse(self.priority)
    }

    /// A class of which the needs are as great as those of both, for tasks of either. Where
    /// they may run on different nodes, or have different priorities, there is none.
    pub fn covering(&self, other: &Self) -> Option<Self> {
        // Nothing said is the options' need, which may be any.
        let said = |class: &Self| {
            let needs = [class.cpus.is_some(), class.gpus.is_some()];
            (needs, class.mem.is_some(), class.time.is_some())
        };
        let is_alike = (&self.node, self.priority) == (&other.node, other.priority);
        (is_alike && said(self) == said(other)).then(|| Self {
            cpus: self.cpus.max(other.cpus),
            gpus: self.gpus.max(other.gpus),
            mem: self.mem.max(other.mem),
            time: self.time.max(other.time),
            ..self.clone()
        })
    }
}
