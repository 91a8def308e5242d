//! The allocation that we run in, by its environment variables: which scheduler, which job,
//! which of its processes we are. Pure functions from an environment.
//!
//! Correctness never depends on it: the workdir decides which process does what. It gives
//! display names, and says which scheduler to ask for the end of the job. Guarantee: if
//! several nested launchers have set their variables, the innermost one counts.

mod job;
mod launcher;
mod lsf_sge_flux;
mod pbs;
mod scrub;
mod slurm;
#[cfg(test)]
mod tests;

use job::Env;
pub use job::{Allocation, Launch, Scheduler};
pub use pbs::{home_of, lines_of, processes_of};
pub use scrub::is_launchers;

impl Allocation {
    /// Reads the variables that `lookup` finds.
    pub fn from(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let env = Env(&lookup);
        let mut found = slurm::job(&env)
            .or_else(|| pbs::job(&env))
            .or_else(|| lsf_sge_flux::lsf(&env))
            .or_else(|| lsf_sge_flux::flux(&env))
            .or_else(|| lsf_sge_flux::sge(&env))
            .unwrap_or_default();
        launcher::add_ranks(&env, &mut found);
        found
    }
}
