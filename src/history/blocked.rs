//! The tasks of a run that wait for others, and for which.

use std::io;
use std::path::Path;

use super::run::counts::current;
use super::{lines, open_if_any};
use crate::model::ids::Ids;
use crate::model::task::TaskId;
use crate::workdir::layout::{BLOCKED, RELEASED};
use crate::workdir::state::State;
use crate::workdir::transaction::{BlockedLine, parse_released};

/// For what a task waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waits {
    /// The tasks that have to finish.
    pub after: Ids,
    /// Those that have to end.
    pub any: Ids,
}

/// For what this task waits; `None` when it waits for no task.
pub(crate) fn waits_for(workdir: &Path, state: &State, id: TaskId) -> io::Result<Option<Waits>> {
    if state.pending() == 0 {
        return Ok(None);
    }
    let (mut is_released, mut found) = (false, None);
    each_line(workdir, state, RELEASED, |line| {
        is_released |= parse_released(line) == Some(id);
    })?;
    if is_released {
        return Ok(None);
    }
    each_line(workdir, state, BLOCKED, |line| {
        if let Some(task) = BlockedLine::parse(line).filter(|task| task.id == id) {
            let [after, any] = [task.after, task.any].map(|ids| ids.parse().unwrap_or_default());
            found = Some(Waits { after, any });
        }
    })?;
    Ok(found)
}

/// Shows the lines of a file that are known in this state.
fn each_line(
    workdir: &Path,
    state: &State,
    name: &str,
    mut see: impl FnMut(&[u8]),
) -> io::Result<()> {
    let known = state.committed(name).len;
    let Some(file) = open_if_any(&current(workdir, Some(state), name))? else {
        return Ok(());
    };
    lines::each(&file, 0, |line, at| {
        if at < known {
            see(line);
        }
        Ok(())
    })?;
    Ok(())
}
