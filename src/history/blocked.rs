//! The tasks of a run that wait for others, and for which.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use super::{lines, open_if_any};
use crate::model::ids::Ids;
use crate::model::task::TaskId;
use crate::workdir::layout::{BLOCKED, RELEASED};
use crate::workdir::state::State;

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
    if state.pending() == 0 || released(workdir)?.contains(&id) {
        return Ok(None);
    }
    let Some(file) = open_if_any(&workdir.join(BLOCKED))? else {
        return Ok(None);
    };
    let (begin, mut found) = (format!("{id} "), None);
    lines::each(&file, 0, |line, _| {
        if let Some(rest) = line.strip_prefix(begin.as_bytes()) {
            let mut words = rest.splitn(3, |&byte| byte == b' ').map(|word| {
                let word = str::from_utf8(word).ok();
                word.and_then(|ids| ids.parse().ok()).unwrap_or_default()
            });
            found = words
                .next()
                .zip(words.next())
                .map(|(after, any)| Waits { after, any });
        }
        Ok(())
    })?;
    Ok(found)
}

fn released(workdir: &Path) -> io::Result<HashSet<TaskId>> {
    let mut released = HashSet::new();
    if let Some(file) = open_if_any(&workdir.join(RELEASED))? {
        lines::each(&file, 0, |line, _| {
            released.extend(
                str::from_utf8(line)
                    .ok()
                    .and_then(|id| id.parse::<TaskId>().ok()),
            );
            Ok(())
        })?;
    }
    Ok(released)
}
