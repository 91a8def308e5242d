//! The line at the start of a farm: how many tasks, how many slots and why, which workdir,
//! and when it ends.
//!
//! Pure: computed from what is known before the first task.

use std::fmt::Write as _;
use std::time::Duration;

use crate::model::durations;
use crate::model::escape::escape;
use crate::model::figures::grouped;

/// Why there is this number of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// The user requested it.
    Asked,
    /// The GPUs give it.
    Gpus,
    /// Each has this number of CPUs.
    Cpus(u32),
    /// One for each CPU that we may use.
    EachCpu,
}

/// A farm that begins.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The tasks to run, in words.
    pub tasks: String,
    /// How many tasks run at a time in this process.
    pub slots: u32,
    /// Why so many.
    pub because: Because,
    /// How many processes a launcher started, this one included.
    pub processes: u32,
    /// The workdir as the user names it.
    pub workdir: String,
    /// The time until the end of the allocation, if known.
    pub left: Option<Duration>,
    /// The time after which the farm stops, if one is set.
    pub timeout: Option<Duration>,
}

impl Opening {
    /// In one line.
    pub fn text(&self) -> String {
        let slots = match self.slots {
            1 => "1 slot".to_owned(),
            n => format!("{} slots", grouped(n.into())),
        };
        let mut text = format!("{}; {slots}", self.tasks);
        text += &match self.because {
            Because::Asked => ", as requested".to_owned(),
            Because::Gpus => " for its GPUs".to_owned(),
            Because::Cpus(cpus) => format!(" of {cpus} CPUs"),
            Because::EachCpu => ", one per usable CPU".to_owned(),
        };
        if self.processes > 1 {
            let _ = write!(text, ", in the first of {} processes", self.processes);
        }
        let _ = write!(text, "; workdir {}", escape(self.workdir.as_bytes()));
        if let Some(left) = self.left {
            let _ = write!(text, "; the allocation ends in {}", durations::show(left));
        }
        if let Some(timeout) = self.timeout {
            let _ = write!(text, "; stops after {}", durations::show(timeout));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_what_where_how_many_and_until_when() {
        let plain = Opening {
            tasks: "1,200 tasks".into(),
            slots: 8,
            because: Because::EachCpu,
            processes: 1,
            workdir: "tasks.txt_workdir".into(),
            left: None,
            timeout: None,
        };
        assert_eq!(
            plain.text(),
            "1,200 tasks; 8 slots, one per usable CPU; workdir tasks.txt_workdir"
        );
        let job = Opening {
            slots: 1,
            because: Because::Gpus,
            processes: 4,
            workdir: "a\u{1b}b".into(),
            left: Some(Duration::from_secs(200 * 60)),
            timeout: Some(Duration::from_secs(2 * 3600)),
            ..plain
        };
        assert_eq!(
            job.text(),
            "1,200 tasks; 1 slot for its GPUs, in the first of 4 processes; workdir a^[b; \
             the allocation ends in 3h20m; stops after 2h00m"
        );
    }
}
