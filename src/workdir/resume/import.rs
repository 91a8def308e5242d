//! Importing a workdir of PyTaskFarmer.
//!
//! Guarantee: nothing of it is imported unless every line of its files is that of the same task
//! in the list.

use std::collections::HashMap;

use super::list::{ListFailure, ListFile};
use crate::model::task::{TaskId, fingerprint, parse_line};
use crate::workdir::error::{Context, Error, Result};
use crate::workdir::files::{Committed, Lines, NewFile};
use crate::workdir::layout::{FAILED, FINISHED, TASKS, TOPROCESS};
use crate::workdir::transaction::Txn;

/// Takes over what PyTaskFarmer left: three files and no state. Its ids count
/// the lines that are not blank and do not begin with `#`.
pub(super) fn import(txn: &mut Txn<'_>, list: &ListFile) -> Result<bool, ListFailure> {
    let mut known: HashMap<u64, u64> = HashMap::new();
    let mut done = [Committed::default(); 2];
    let mut any = false;
    for (nth, name) in [FINISHED, FAILED, TOPROCESS].into_iter().enumerate() {
        let file = txn.current(name)?;
        let len = file.len().context("look at", name)?;
        any |= len > 0;
        let mut lines = Lines::new(&*file, 0, len);
        while let Some(line) = lines.next().context("read", name)? {
            let (id, text) = parse_line(line).ok_or_else(|| not_a_task_line(name, line))?;
            known.insert(id.0, fingerprint(text).0);
            if let Some(done) = done.get_mut(nth) {
                *done = done.with(&[line, b"\n"].concat());
            }
        }
        if lines.at() < len {
            let what = "its last line has no line feed: fix or remove that line".into();
            return Err(Error::Damaged {
                file: name.into(),
                what,
            }
            .into());
        }
    }
    if !any {
        return Ok(false);
    }
    let tasks = pytaskfarmer_tasks(txn, list, &known)?;
    txn.state_mut().tasks = tasks.committed();
    txn.replace(TASKS, tasks)?;
    [txn.state_mut().finished, txn.state_mut().failed] = done;
    Ok(true)
}

fn not_a_task_line(name: &str, line: &[u8]) -> Error {
    let shown = String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned();
    let what = format!("'{shown}' is not a task id and a command: fix or remove that line");
    Error::Damaged {
        file: name.into(),
        what,
    }
}

/// The list as PyTaskFarmer numbers it, which must agree with what its files say.
fn pytaskfarmer_tasks(
    txn: &Txn<'_>,
    list: &ListFile,
    known: &HashMap<u64, u64>,
) -> Result<NewFile, ListFailure> {
    let name = list.path.display().to_string();
    let text = list.contents()?;
    let mut tasks = txn.new_file(TASKS)?;
    let mut id = 0;
    for line in text.split(|&b| b == b'\n') {
        let stripped = line.trim_ascii();
        if line.starts_with(b"#") || stripped.is_empty() {
            continue;
        }
        if known
            .get(&id)
            .is_some_and(|&there| there != fingerprint(stripped).0)
        {
            return Err(ListFailure::Refused(format!(
                "the workdir was made by PyTaskFarmer from another list than {name}: task {id} \
                 differs; run it with the list it was made from"
            )));
        }
        tasks
            .write_task(TaskId(id), stripped)
            .context("write", TASKS)?;
        id += 1;
    }
    if known.keys().any(|&there| there >= id) {
        return Err(ListFailure::Refused(format!(
            "the workdir was made by PyTaskFarmer from a longer list than {name}"
        )));
    }
    Ok(tasks)
}
