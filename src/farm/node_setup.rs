//! The node as one farmer uses it: its name, the allocation, the environment and the
//! slots of its tasks.

use std::ffi::OsString;
use std::sync::Arc;

use super::node_share::NodeShare;
use super::options::{AllocationEnd, Options};
use super::reserved_threads::ReservedThreads;
use super::slot_plan::{NoPlan, Plan};
use super::start_error::StartError;
use crate::host::allocation::{here, host_name};
use crate::host::cpus;
use crate::host::scheduler::left_until;
use crate::model::allocation::{Allocation, is_launchers};
use crate::model::cpus::warnings;
use crate::model::figures::show_kib;
use crate::model::others::Others;
use crate::model::refusal::hint;
use crate::runner::Runner;
use crate::runner::chosen::Runners;
use crate::runner::shell::Shell;
use crate::ui::opening::{Because, Opening};

/// The node as one farmer uses it.
pub(super) struct Node {
    /// Its name, from the kernel.
    pub(super) name: String,
    /// The job, the step and the rank of this process.
    pub(super) allocation: Allocation,
    /// The environment of all tasks.
    pub(super) env: Vec<(OsString, OsString)>,
    /// How lines become programs.
    pub(super) runner: Runner,
    /// The runners that are not the default one.
    pub(super) runners: Arc<Runners>,
    /// How many tasks run at a time.
    pub(super) slots: u32,
    /// What users should know about this node.
    pub(super) warnings: Vec<String>,
    /// The GPUs and CPUs of each slot.
    pub(super) plan: Plan,
    /// What others use of it, where only that is used which they leave free; unknown at first.
    pub(super) others: Option<Others>,
}

impl Node {
    /// Reads the variables and the node, and plans the slots.
    pub(super) fn read(
        options: &Options,
        env: Vec<(OsString, OsString)>,
        runners: Arc<Runners>,
    ) -> Result<Self, StartError> {
        let shell = Shell::find(options.shell.as_deref(), |name| std::env::var_os(name))?;
        let name = host_name();
        let (counts, mut allocation) = (cpus::usable(), here(&name));
        let share = NodeShare::read(&allocation, counts);
        let plan = Plan::make(&options.devices, options.slots, &share)?;
        check_memory(options.mem_kib, &share)?;
        let warnings = warnings(options.slots, counts, &allocation, &name);
        if let Some(hosted) = &options.hosted {
            // After all that concerns this node alone.
            allocation.begin_launch(&hosted.job, hosted.rank, hosted.size);
        }
        Ok(Self {
            slots: u32::try_from(plan.slots.len()).unwrap_or(u32::MAX),
            warnings,
            name,
            allocation,
            runner: Runner::new(shell, env.iter().cloned()),
            runners,
            env,
            plan,
            others: None,
        })
    }

    /// Starts the threads of this farmer, and reduces the slots where the system refuses
    /// so many.
    pub(super) fn reserve_threads(&mut self, feeds: bool) -> Result<ReservedThreads, StartError> {
        let refused = |error| StartError::System("start a thread", error);
        let threads = ReservedThreads::reserve(self.slots, feeds).map_err(refused)?;
        let slots = u32::try_from(threads.slots.len()).unwrap_or(self.slots);
        if slots < self.slots {
            let hint = hint(&nix::Error::EAGAIN.into());
            self.warnings.push(format!(
                "{slots} slots instead of {}: no more threads can be started{hint}",
                self.slots
            ));
            self.plan.slots.truncate(threads.slots.len());
            self.slots = slots;
        }
        Ok(threads)
    }

    /// The line at the start of a farm that has these tasks to run.
    pub(super) fn opening(&self, options: &Options, tasks: String) -> Opening {
        let because = match (options.slots, options.devices.cpus_per_task) {
            (Some(_), _) => Because::Asked,
            (None, _) if options.devices.wants_gpus => Because::Gpus,
            (None, Some(cpus)) => Because::Cpus(cpus),
            (None, None) => Because::EachCpu,
        };
        let left = match options.end {
            AllocationEnd::Ignored => None,
            AllocationEnd::After(span) => Some(span),
            AllocationEnd::Asked => self.allocation.ends_at.map(left_until),
        };
        Opening {
            tasks,
            slots: self.slots,
            because,
            processes: self.allocation.launched(),
            workdir: options.shown_workdir().display().to_string(),
            left,
            timeout: options.timeout,
        }
    }

    /// The job's id as a part of a farmer's name; `0` outside of a job.
    pub(super) fn job(&self) -> String {
        let job = self.allocation.job.as_deref().unwrap_or("0");
        job.chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect()
    }
}

/// Refuses a limit of memory that no task could have here.
fn check_memory(wanted: Option<u64>, share: &NodeShare) -> Result<(), NoPlan> {
    let there = share.memory_kib();
    match (wanted, there) {
        (Some(wanted), Some(there)) if wanted > there => Err(NoPlan::Cannot(format!(
            "--mem {}: this process has only {} of memory",
            show_kib(wanted),
            show_kib(there)
        ))),
        _ => Ok(()),
    }
}

/// The environment of all tasks.
pub(super) fn task_variables(options: &Options) -> Vec<(OsString, OsString)> {
    let is_hidden =
        |name: &OsString| options.hides_launcher && name.to_str().is_some_and(is_launchers);
    std::env::vars_os()
        .filter(|(name, _)| !is_hidden(name))
        .collect()
}
