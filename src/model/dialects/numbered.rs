//! Tools for which each line is a command, and which give it its number: launcher, dSQ and GNU
//! parallel.
//!
//! What counts differs: launcher counts all lines with a byte in them, also comments (it takes the
//! n-th line that `grep .` finds), from 1; dSQ counts all lines from 0; GNU parallel all from 1.

use super::out::{Around, Out};
use super::text::{Result, difference, id_plus, lines, mentions, trim};
use crate::model::attributes::Attributes;
use crate::model::tool::List;

/// The number of the process on this node, and of this node among those of the job.
const PROCESS: &str = "$((${SLURM_NODEID:-0}*${LAUNCHER_PPN:-${SLURM_CPUS_ON_NODE:-0}}+PYTF_SLOT))";

/// `LAUNCHER_JID` is the number of the line; `LAUNCHER_TSK_ID` that of the process.
pub(super) fn launcher(list: &List<'_>, out: &mut Out) -> Result<()> {
    // As `wc -l` counts.
    let jobs = memchr::memchr_iter(b'\n', list.text).count();
    let mut more = String::new();
    if mentions(list.text, "LAUNCHER_TSK_ID") {
        more += &format!(" LAUNCHER_TSK_ID={PROCESS}");
        out.note(
            "LAUNCHER_TSK_ID is the slot on this node; on several nodes it counts on with \
             SLURM_NODEID and LAUNCHER_PPN, and without them slots of other nodes have the same \
             number"
                .to_owned(),
        );
    }
    if mentions(list.text, "LAUNCHER_NJOBS") {
        more += &format!(" LAUNCHER_NJOBS={jobs}");
    }
    let mut counted = 0;
    let number = |line: &[u8], _| {
        counted += u64::from(!line.is_empty());
        counted
    };
    each(list, out, number, |difference| {
        format!("LAUNCHER_JID={}{more}", id_plus(difference))
    })
}

/// `SLURM_ARRAY_TASK_ID` is the number of the line, from 0.
pub(super) fn dsq(list: &List<'_>, out: &mut Out) -> Result<()> {
    let job = if mentions(list.text, "SLURM_ARRAY_JOB_ID") {
        " SLURM_ARRAY_JOB_ID=\"${SLURM_JOB_ID:-0}\""
    } else {
        ""
    };
    each(
        list,
        out,
        |_, number| number - 1,
        |difference| format!("SLURM_ARRAY_TASK_ID={}{job}", id_plus(difference)),
    )
}

/// `PARALLEL_SEQ` is the number of the line, `PARALLEL_JOBSLOT` that of the slot, from 1.
pub(super) fn parallel(list: &List<'_>, out: &mut Out) -> Result<()> {
    each(
        list,
        out,
        |_, number| number,
        |difference| {
            format!(
                "PARALLEL_SEQ={} PARALLEL_JOBSLOT=$((PYTF_SLOT+1))",
                id_plus(difference)
            )
        },
    )
}

/// Writes each line with variables that depend on the difference between its number and the id
/// of its task.
fn each(
    list: &List<'_>,
    out: &mut Out,
    mut number: impl FnMut(&[u8], u64) -> u64,
    env: impl Fn(i64) -> String,
) -> Result<()> {
    let mut task = 0;
    for (at, line) in lines(list.text) {
        let own = number(line, at);
        if matches!(trim(line).first(), None | Some(b'#')) {
            out.comment(at, line)?;
            continue;
        }
        let around = Around {
            env: env(difference(own, task)),
            ..Around::default()
        };
        out.task(at, &around, line, &Attributes::default())?;
        task += 1;
    }
    Ok(())
}
