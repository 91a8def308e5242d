//! Which of the processes of this node we are, as the launcher's variables tell.

use crate::model::devices::deal::Part;

/// The number of our step that is salloc's shell.
const INTERACTIVE: &str = "4294967290";

/// Our place among the processes that a launcher started on this node; all of
/// it where none says otherwise.
pub fn part(lookup: impl Fn(&str) -> Option<String>) -> Part {
    let number = |name: &str| lookup(name)?.trim().parse::<u32>().ok();
    let is_step = lookup("SLURM_STEP_ID").is_some_and(|step| step != INTERACTIVE);
    let slurm = || {
        let node = number("SLURM_NODEID").unwrap_or(0);
        let counts = lookup("SLURM_STEP_TASKS_PER_NODE")?;
        Some((number("SLURM_LOCALID")?, nth_count(&counts, node)?))
    };
    let both = |rank: &str, size: &str| Some((number(rank)?, number(size)?));
    let found = if is_step {
        slurm()
    } else {
        both("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE")
            .or_else(|| both("MPI_LOCALRANKID", "MPI_LOCALNRANKS"))
            .or_else(|| both("PALS_LOCAL_RANKID", "PALS_LOCAL_SIZE"))
    };
    match found {
        Some((rank, of)) if rank < of => Part { rank, of },
        _ => Part::WHOLE,
    }
}

/// The count of the node with this number in Slurm's form: `2(x3),1`.
fn nth_count(text: &str, node: u32) -> Option<u32> {
    let mut first = 0;
    for run in text.split(',') {
        let (count, times) = match run.split_once("(x") {
            Some((count, times)) => (count, times.strip_suffix(')')?.parse().ok()?),
            None => (run, 1_u32),
        };
        first += times;
        if node < first {
            return count.trim().parse().ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_tell_which_we_are() {
        for (vars, rank, of) in [
            (&[][..], 0, 1),
            (
                &[
                    ("SLURM_STEP_ID", "0"),
                    ("SLURM_LOCALID", "1"),
                    ("SLURM_NODEID", "3"),
                    ("SLURM_STEP_TASKS_PER_NODE", "4(x3),2"),
                ],
                1,
                2,
            ),
            // The batch script has this too, and is one.
            (
                &[("SLURM_LOCALID", "0"), ("SLURM_TASKS_PER_NODE", "4")],
                0,
                1,
            ),
            (
                &[
                    ("OMPI_COMM_WORLD_LOCAL_RANK", "2"),
                    ("OMPI_COMM_WORLD_LOCAL_SIZE", "4"),
                ],
                2,
                4,
            ),
            (&[("MPI_LOCALRANKID", "1"), ("MPI_LOCALNRANKS", "2")], 1, 2),
            (
                &[("PALS_LOCAL_RANKID", "1"), ("PALS_LOCAL_SIZE", "6")],
                1,
                6,
            ),
            (&[("MPI_LOCALRANKID", "5"), ("MPI_LOCALNRANKS", "2")], 0, 1),
        ] {
            let found = part(|name| {
                let var = vars.iter().find(|(known, _)| *known == name);
                var.map(|(_, value)| (*value).to_owned())
            });
            assert_eq!(found, Part { rank, of }, "{vars:?}");
        }
    }
}
