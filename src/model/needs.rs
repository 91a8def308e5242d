//! What one attempt of a task needs of a node.
//!
//! Several tasks with equal needs are one class for the workdir, so [`Needs`] is small, hashable
//! and says everything that an allocator asks for.

use std::time::Duration;

use super::attributes::Attributes;

/// What one attempt needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Needs {
    /// Number of CPUs, at least 1.
    pub cpus: u32,
    /// Number of GPUs.
    pub gpus: u32,
    /// Memory in KiB; 0 is unlimited, and not counted.
    pub mem_kib: u64,
    /// Its time limit.
    pub time: Option<Duration>,
}

impl Default for Needs {
    fn default() -> Self {
        Self {
            cpus: 1,
            gpus: 0,
            mem_kib: 0,
            time: None,
        }
    }
}

impl Needs {
    /// What this attempt of a task needs, counted from 1; what its attributes do not say is
    /// that of `defaults`. Of several values for the memory the last one holds for all later
    /// attempts.
    pub fn of(attributes: &Attributes, attempt: u32, defaults: &Self) -> Self {
        let nth = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
        let mem = &attributes.mem;
        let mem = mem.get(nth).or(mem.last()).copied();
        Self {
            cpus: attributes.cpus.unwrap_or(defaults.cpus).max(1),
            gpus: attributes.gpus.unwrap_or(defaults.gpus),
            mem_kib: mem.unwrap_or(defaults.mem_kib),
            time: attributes.time.or(defaults.time),
        }
    }

    /// Whether the attributes of a task say anything about its needs.
    pub fn are_said(attributes: &Attributes) -> bool {
        let Attributes {
            cpus,
            gpus,
            mem,
            time,
            ..
        } = attributes;
        cpus.is_some() || gpus.is_some() || !mem.is_empty() || time.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_task_does_not_say_is_the_default_and_memory_grows_by_attempt() {
        let defaults = Needs {
            cpus: 2,
            gpus: 1,
            mem_kib: 7,
            time: Some(Duration::from_secs(60)),
        };
        let plain = Attributes::default();
        assert!(!Needs::are_said(&plain));
        assert_eq!(Needs::of(&plain, 1, &defaults), defaults);
        let said = Attributes {
            gpus: Some(0),
            mem: vec![4, 16],
            ..Attributes::default()
        };
        assert!(Needs::are_said(&said));
        let mem = |attempt| Needs::of(&said, attempt, &defaults).mem_kib;
        assert_eq!([0, 1, 2, 3, u32::MAX].map(mem), [4, 4, 16, 16, 16]);
        let needs = Needs::of(&said, 1, &defaults);
        assert_eq!((needs.cpus, needs.gpus, needs.time), (2, 0, defaults.time));
    }
}
