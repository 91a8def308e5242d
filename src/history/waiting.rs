//! The tasks that wait, by what they need.
//!
//! While farmers work each class has a queue, and the state knows how many wait in it. When the
//! last one has left, all are in `toprocess`, which is then read: once, and only in a run whose
//! tasks have attributes.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use super::run::Run;
use super::run::counts::current;
use super::{lines, open_if_any};
use crate::model::attributes::{Attributes, split};
use crate::model::class::Class;
use crate::model::task::parse_line;
use crate::workdir::layout::TOPROCESS;

/// Of more different texts the rest counts as saying nothing.
const MOST: usize = 10_000;

/// Tasks of one class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WaitingClass {
    /// What they need, where they may run, their priority.
    pub class: Class,
    /// How many of them no farmer has claimed.
    pub waiting: u64,
    /// Why none of them can ever run on the nodes of the run.
    pub nowhere: Option<String>,
}

/// The classes of the tasks that wait for a farmer, those of the highest priority first. Without
/// attributes there is one at most.
pub fn waiting_classes(run: &Run) -> io::Result<Vec<WaitingClass>> {
    let Some(state) = &run.counts.state else {
        return Ok(Vec::new());
    };
    let mut counts: Vec<(Class, u64)> = Vec::new();
    let mut add = |class: Class, n: u64| match counts.iter_mut().find(|(of, _)| *of == class) {
        Some((_, count)) => *count += n,
        None => counts.push((class, n)),
    };
    if state.attributes && state.queues.len() == 1 && state.left() > 0 {
        let path = current(&run.workdir, Some(state), TOPROCESS);
        for (text, n) in said_in(&path, state.queue().cursor)? {
            let said = Attributes::parse(&text).unwrap_or_default();
            add(Class::of(&said, 1), n);
        }
    } else {
        let queues = state.queues.iter().filter(|queue| queue.left > 0);
        queues.for_each(|queue| add(queue.class.clone(), queue.left));
    }
    counts.sort_by_key(|(class, n)| (class.rank(), std::cmp::Reverse(*n)));
    let of = |(class, waiting)| WaitingClass {
        nowhere: run.why_nowhere(&class),
        class,
        waiting,
    };
    Ok(counts.into_iter().map(of).collect())
}

/// What is said of the tasks in a file from this place on, and of how many.
fn said_in(path: &Path, from: u64) -> io::Result<HashMap<Vec<u8>, u64>> {
    let mut said: HashMap<Vec<u8>, u64> = HashMap::new();
    let Some(file) = open_if_any(path)? else {
        return Ok(said);
    };
    lines::each(&file, from, |line, _| {
        let text = parse_line(line).and_then(|(_, line)| split(line).1);
        let text = text.unwrap_or_default();
        if let Some(count) = said.get_mut(text) {
            *count += 1;
        } else {
            let is_one_more = said.len() < MOST;
            let text = if is_one_more { text } else { b"" };
            *said.entry(text.to_vec()).or_default() += 1;
        }
        Ok(())
    })?;
    Ok(said)
}

impl WaitingClass {
    /// `2 GPUs, 8 GiB of memory`; for people.
    pub fn words(&self) -> String {
        let words = self.class.words();
        if words.is_empty() {
            return "nothing is said of what they need".to_owned();
        }
        words.join(", ")
    }
}
