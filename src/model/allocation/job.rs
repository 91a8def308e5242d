//! The job that we run in, as far as environment variables tell, and these variables.

use std::time::Duration;

/// A batch system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// Slurm.
    Slurm,
    /// OpenPBS, PBS Professional, TORQUE.
    Pbs,
    /// IBM Spectrum LSF.
    Lsf,
    /// Grid Engine and its children.
    Sge,
    /// Flux.
    Flux,
}

/// How this process came into the allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Launch {
    /// There is no allocation, or none that shows.
    #[default]
    Plain,
    /// It runs in the batch script itself.
    Script,
    /// It runs in the shell that salloc opened, mostly not on a node of the job.
    Shell,
    /// A launcher started it on its node: srun, mpiexec, pbsdsh, flux, jsrun.
    Launched,
}

impl Launch {
    /// Launched, or in the batch script.
    pub(super) fn of(is_launched: bool) -> Self {
        if is_launched {
            Self::Launched
        } else {
            Self::Script
        }
    }
}

/// Our place in an allocation, by the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// The batch system.
    pub scheduler: Option<Scheduler>,
    /// The job as people know it: `17`, `17_3` for an element of an array,
    /// `9.pbs0`, `9[3].pbs0`.
    pub job: Option<String>,
    /// The job as the scheduler's programs take it.
    pub asks_for: Option<String>,
    /// The step of the job.
    pub step: Option<String>,
    /// How this process was started.
    pub launch: Launch,
    /// The nodes of the job, or of the step.
    pub nodes: Option<u32>,
    /// Our rank among the processes that were launched with us.
    pub rank: Option<u32>,
    /// How many they are.
    pub size: Option<u32>,
    /// Our rank among those on this node.
    pub local_rank: Option<u32>,
    /// How many they are.
    pub local_size: Option<u32>,
    /// How often the job was started again.
    pub restarts: Option<u32>,
    /// The CPUs that the scheduler gave to the job or the step on this node.
    pub cpus: Option<u32>,
    /// The CPUs that it gave to this process alone.
    pub own_cpus: Option<u32>,
    /// Whether every node has as many CPUs and processes as this one: then its
    /// oddities are those of all.
    pub is_uniform: bool,
    /// When the job ends, since 1970, as it was known when we were launched.
    pub ends_at: Option<Duration>,
    /// Whether srun started us: its standard streams are pipes even where they
    /// look like a terminal. The shell that salloc opens is no such step.
    pub is_step: bool,
}

/// Variables; an empty one counts as unset.
pub(super) struct Env<'a>(pub(super) &'a dyn Fn(&str) -> Option<String>);

impl Env<'_> {
    pub(super) fn text(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.trim().is_empty())
    }

    pub(super) fn number<N: std::str::FromStr>(&self, name: &str) -> Option<N> {
        self.text(name).and_then(|text| text.trim().parse().ok())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    pub(super) fn first(&self, names: &[&str]) -> Option<u32> {
        names.iter().find_map(|name| self.number(name))
    }
}

impl Allocation {
    /// How many processes a launcher started together: this one alone, if none
    /// did or it does not say.
    pub fn launched(&self) -> u32 {
        match self.launch {
            Launch::Launched => self.size.unwrap_or(1),
            Launch::Plain | Launch::Script | Launch::Shell => 1,
        }
    }

    /// From now on it is one of `size` processes that were launched together as this job,
    /// unless a scheduler has given it one.
    pub fn begin_launch(&mut self, job: &str, rank: u32, size: u32) {
        self.job.get_or_insert_with(|| job.to_owned());
        self.launch = Launch::Launched;
        (self.rank, self.size) = (Some(rank), Some(size));
    }

    /// Whether a launcher started others with this process, mostly on other nodes.
    pub fn has_companions(&self) -> bool {
        self.launch == Launch::Launched && self.size.or(self.nodes).unwrap_or(1) > 1
    }

    /// Whether this process prints messages that concern all of them.
    pub fn speaks_for_all(&self) -> bool {
        self.rank.unwrap_or(0) == 0
    }

    /// Whether this process prints messages that concern this node.
    pub fn speaks_for_node(&self) -> bool {
        self.speaks_for_all() || (self.local_rank == Some(0) && !self.is_uniform)
    }

    /// How many processes share this node, as far as that is known.
    pub fn neighbours(&self) -> u32 {
        self.local_size.unwrap_or(1).max(1)
    }
}
