//! The names for which tasks wait that are added to a workdir.

use std::collections::BTreeMap;

use crate::model::attributes::{Attributes, command};
use crate::model::escape::{clip, escape};
use crate::model::task::parse_line;
use crate::workdir::error::{Error, Result};
use crate::workdir::layout::TASKS;
use crate::workdir::transaction::Txn;

/// Refuses new tasks that wait for a name that no task has: they would never start. `lines` are
/// theirs, and are in `tasks` already.
pub(super) fn check_names(txn: &mut Txn<'_>, lines: &[u8]) -> Result<()> {
    let mut wanted: BTreeMap<String, &[u8]> = BTreeMap::new();
    for line in lines.split(|&byte| byte == b'\n') {
        if let Some((_, line)) = parse_line(line)
            && let Ok(attributes) = Attributes::of_line(line)
        {
            let names = attributes.after.into_iter().chain(attributes.after_any);
            wanted.extend(names.map(|name| (name, line)));
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    txn.each_line(TASKS, |line| {
        if let Some((_, line)) = parse_line(line)
            && let Ok(attributes) = Attributes::of_line(line)
            && let Some(name) = attributes.name
        {
            wanted.remove(&name);
        }
    })?;
    let Some((name, line)) = wanted.pop_first() else {
        return Ok(());
    };
    let shown = clip(&escape(command(line)), 60);
    let name = escape(name.as_bytes());
    Err(Error::Refused(format!(
        "'{shown}' would wait for '{name}', but no task of the run has this name"
    )))
}
