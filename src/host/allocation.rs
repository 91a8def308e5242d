//! The allocation that we run in, as its variables tell. Pure functions from an
//! environment.
//!
//! Correctness never depends on any of this: the workdir decides who does what.
//! It names things for people.

/// The number of the step that is salloc's shell: `SLURM_INTERACTIVE_STEP`.
const INTERACTIVE: &str = "4294967290";

/// What the environment says about where we are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// The scheduler's id of the job.
    pub job: Option<String>,
    /// Our rank in the step, when a launcher started us.
    pub rank: Option<u32>,
    /// Whether srun started us: its standard streams are pipes even where they
    /// look like a terminal. The shell that salloc opens is no such step.
    pub is_step: bool,
}

impl Allocation {
    /// Reads the variables that `lookup` finds.
    pub fn from(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| lookup(name).filter(|value| !value.is_empty()))
        };
        // The batch script has SLURM_PROCID too; only a step has its number.
        let is_step = lookup("SLURM_STEP_ID").is_some_and(|step| step != INTERACTIVE);
        let rank = if is_step {
            first(&["SLURM_PROCID"])
        } else {
            first(&[
                "OMPI_COMM_WORLD_RANK",
                "PMI_RANK",
                "PALS_RANKID",
                "PMIX_RANK",
            ])
        };
        Self {
            job: first(&["SLURM_JOB_ID", "PBS_JOBID", "FLUX_JOB_ID", "LSB_JOBID"]),
            rank: rank.and_then(|rank| rank.parse().ok()),
            is_step,
        }
    }
}

/// The node's name, from the kernel: HOSTNAME is the batch host's on every node.
pub fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let name = name.to_string_lossy();
    let name: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    if name.is_empty() {
        "localhost".into()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(vars: &[(&str, &str)]) -> Allocation {
        Allocation::from(|name| {
            vars.iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_step_has_a_rank_and_a_batch_script_has_none() {
        let step = seen(&[
            ("SLURM_JOB_ID", "7"),
            ("SLURM_STEP_ID", "0"),
            ("SLURM_PROCID", "3"),
        ]);
        assert_eq!(
            step,
            Allocation {
                job: Some("7".into()),
                rank: Some(3),
                is_step: true
            }
        );
        let script = seen(&[("SLURM_JOB_ID", "7"), ("SLURM_PROCID", "0")]);
        assert_eq!(
            script,
            Allocation {
                job: Some("7".into()),
                rank: None,
                is_step: false
            }
        );
        let shell = seen(&[("SLURM_STEP_ID", INTERACTIVE), ("SLURM_PROCID", "0")]);
        assert_eq!(shell, Allocation::default());
        assert_eq!(seen(&[]), Allocation::default());
    }
}
