//! How many tasks are where, and which have failed.
//!
//! The state in `lock` has the exact numbers. Where there is no state that can be read, as
//! in workdirs of `PyTaskFarmer` and in damaged ones, the lines of the files are counted.

use crate::workdir::files::Head;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::transactions;
use crate::history::cancellations::Cancellations;
use crate::history::given_up::GivenUp;
use crate::history::{lines, open, open_if_any};
use crate::model::task::parse_line;
use crate::workdir::files::Committed;
use crate::workdir::fs::{Dir, RealDir};
use crate::workdir::layout::{FAILED, FINISHED, LOCK, REQUEUED, TASKS, TOPROCESS};
use crate::workdir::state::{Act, Queue, State, parse_entries, peek};

/// How many tasks are where.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// All tasks of the workdir, without dropped ones.
    pub total: u64,
    /// In `finished`.
    pub finished: u64,
    /// In `failed`, without those that were cancelled.
    pub failed: u64,
    /// In `failed` since they were cancelled.
    pub cancelled: u64,
    /// No farmer has claimed them.
    pub waiting: u64,
    /// Tasks that wait for others.
    pub blocked: u64,
    /// A farmer has claimed them; they may have started.
    pub claimed: u64,
    /// Removed from the list before they ran.
    pub dropped: u64,
    /// Farmers that still read tasks from a stream.
    pub feeding: u64,
    /// The state in `lock`, when there is one.
    pub state: Option<State>,
    /// Why there is no state although there should be one; or why the run cannot be continued.
    pub problem: Option<String>,
}

impl Counts {
    /// Reads a workdir.
    pub(in crate::history) fn read(workdir: &Path) -> io::Result<Self> {
        let looked = RealDir::open(workdir)
            .map_err(|error| error.to_string())
            .and_then(|dir| {
                let dir: Arc<dyn Dir> = dir;
                if workdir.join(LOCK).exists() {
                    peek(&dir).map_err(|error| error.to_string())
                } else {
                    Ok(None)
                }
            });
        let (state, mut problem) = match looked {
            Ok(state) => (state, None),
            Err(problem) => (None, Some(problem)),
        };
        let Some(state) = state else {
            return Self::counted(workdir, problem);
        };
        if state.live == 0 {
            // A farmer may have started meanwhile.
            let is_same = |_: &String| {
                let dir = RealDir::open(workdir).ok();
                let again = dir.and_then(|dir| peek(&(dir as Arc<dyn Dir>)).ok()?);
                again.is_some_and(|again| again.seq == state.seq)
            };
            problem = doubt(workdir, &state).filter(is_same);
        }
        Ok(Self {
            total: state.tasks.lines.saturating_sub(state.dropped),
            finished: state.finished.lines,
            failed: state.failures(),
            cancelled: state.cancelled,
            waiting: state.left(),
            blocked: state.pending(),
            claimed: state.claimed(),
            dropped: state.dropped,
            feeding: u64::from(state.feeding),
            state: Some(state),
            problem,
        })
    }

    /// Counts the lines of the files.
    fn counted(workdir: &Path, problem: Option<String>) -> io::Result<Self> {
        let count = |name: &str| count_lines(&workdir.join(name));
        let (finished, failed) = (count(FINISHED)?, count(FAILED)?);
        let (waiting, tasks) = (count(TOPROCESS)?, count(TASKS)?);
        let total = tasks.max(finished + failed + waiting);
        Ok(Self {
            total,
            finished,
            failed,
            waiting,
            claimed: total - finished - failed - waiting,
            problem,
            ..Self::default()
        })
    }

    /// Tasks that have ended.
    pub fn done(&self) -> u64 {
        self.finished + self.failed + self.cancelled
    }

    /// Tasks that have not.
    pub fn left(&self) -> u64 {
        self.waiting + self.claimed + self.blocked
    }

    /// What changes whenever `failed` does.
    pub(super) fn failed_version(&self) -> Option<FailedVersion> {
        Some(FailedVersion::of(self.state.as_ref()?))
    }
}

/// What changes whenever `failed` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::history) struct FailedVersion(Committed, u64);

impl FailedVersion {
    pub(in crate::history) fn of(state: &State) -> Self {
        // A retry rewrites the file: it raises the number of requeued lines. A reset lowers it.
        Self(state.failed, state.requeued.lines)
    }
}

/// Why the next farmer will refuse the files of a run without farmers: they differ from
/// the state. While a farmer works, files are ahead of the state that was read.
fn doubt(workdir: &Path, state: &State) -> Option<String> {
    let known = [
        (TASKS, state.tasks.len),
        (FINISHED, state.finished.len),
        (FAILED, state.failed.len),
        (TOPROCESS, state.queue().len),
    ];
    let length = |name| Some(current(workdir, Some(state), name).metadata().ok()?.len());
    let short = known
        .into_iter()
        .find_map(|(name, len)| Some((name, length(name)?, len)).filter(|(_, is, len)| is < len));
    let what = if let Some((name, is, len)) = short {
        format!("{name} has {is} bytes where {len} were recorded")
    } else {
        let file = open(&current(workdir, Some(state), TOPROCESS)).ok()?;
        let mut bytes = [0; Head::MOST];
        let read = file.read_at(&mut bytes, state.queue().cursor).ok()?;
        if state.queue().head.fits(&bytes[..read]) {
            return None;
        }
        format!("{TOPROCESS} holds something else than was recorded")
    };
    Some(format!(
        "{what}: another program, or an older copy, has been at the workdir"
    ))
}

/// The file that has this name now, or will have it when the renames of the last
/// transaction are done.
pub(in crate::history) fn current(workdir: &Path, state: Option<&State>, name: &str) -> PathBuf {
    let renames = state.map_or(&[][..], |state| &state.renames);
    let new = renames.iter().find(|rename| rename.to == name);
    new.map(|rename| workdir.join(&rename.from))
        .filter(|path| path.exists())
        .unwrap_or_else(|| workdir.join(name))
}

/// The queues of the waiting tasks, that of class 0 first.
pub fn queues(workdir: &Path) -> io::Result<Vec<Queue>> {
    let state = Counts::read(workdir)?.state;
    Ok(state.map_or_else(|| vec![Queue::default()], |state| state.queues))
}

/// The tasks in `failed` now, in the order of their ids.
pub fn failed_now(workdir: &Path) -> io::Result<Vec<u64>> {
    failed_ids(workdir, Counts::read(workdir)?.state.as_ref())
}

/// The tasks in `finished` in this state, in the order of their ids.
pub(crate) fn finished_ids(workdir: &Path, state: &State) -> io::Result<Vec<u64>> {
    task_ids(workdir, Some(state), FINISHED)
}

/// What was cancelled up to this state.
pub fn cancellations_until(workdir: &Path, state: Option<&State>) -> io::Result<Cancellations> {
    let mut all = Cancellations::default();
    if let Some(state) = state {
        all.refresh(workdir, state)?;
    }
    Ok(all)
}

/// What was given up up to this state.
pub fn given_up_until(workdir: &Path, state: Option<&State>) -> io::Result<GivenUp> {
    let mut all = GivenUp::default();
    if let Some(state) = state {
        all.refresh(&current(workdir, Some(state), REQUEUED), state)?;
    }
    Ok(all)
}

/// The tasks in `failed`, in the order of their ids.
pub(in crate::history) fn failed_ids(
    workdir: &Path,
    state: Option<&State>,
) -> io::Result<Vec<u64>> {
    task_ids(workdir, state, FAILED)
}

/// The tasks in a file, in the order of their ids.
fn task_ids(workdir: &Path, state: Option<&State>, name: &str) -> io::Result<Vec<u64>> {
    let mut ids = Vec::new();
    // Lines past the length that is committed are ignored.
    let end = state.map_or(u64::MAX, |state| state.committed(name).len);
    if end == 0 {
        return Ok(ids);
    }
    let Some(file) = open_if_any(&current(workdir, state, name))? else {
        return Ok(ids);
    };
    lines::each(&file, 0, |line, at| {
        if at < end {
            ids.extend(parse_line(line).map(|(id, _)| id.0));
        }
        Ok(())
    })?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// How many tasks waited after each transaction, with its time: computed backwards from now. It
/// ends at a fence, since the number of tasks that a fence requeues is not recorded, and where
/// the log is no longer kept.
pub(super) fn queue_history(workdir: &Path, counts: &Counts) -> Option<Vec<(u64, u64)>> {
    let state = counts.state.as_ref()?;
    // Also those that wait for others: when they are released is not recorded either.
    let (mut left, mut points) = (state.left() + state.pending(), Vec::new());
    let kept = transactions::all_kept(workdir).ok()?;
    'segments: for segment in (0..=state.log.segment).rev() {
        let bytes = if segment == state.log.segment {
            transactions::of_newest(workdir, &state.log, 0)
        } else if kept.binary_search(&segment).is_ok() {
            transactions::of_kept(workdir, segment, 0)
        } else {
            break;
        };
        let Ok(entries) = parse_entries(&bytes.ok()?) else {
            break;
        };
        for entry in entries.iter().rev() {
            if matches!(entry.act, Act::Checkpoint { .. }) {
                continue;
            }
            points.push((entry.at, left));
            let Some(before) = before(&entry.act, left) else {
                break 'segments;
            };
            left = before;
        }
    }
    points.reverse();
    Some(points)
}

/// How many waited before a transaction when `left` did after it; `None` where that does
/// not follow.
fn before(act: &Act, left: u64) -> Option<u64> {
    match act {
        Act::Turn {
            claim, back, fed, ..
        } => (left + claim.count()).checked_sub(back.count() + fed),
        Act::Retry { ids } | Act::Quarantine { ids, .. } => left.checked_sub(ids.count()),
        Act::Cancel { waiting } => Some(left + waiting),
        Act::EditQueue { cancelled, added } => (left + cancelled).checked_sub(added.count()),
        Act::Join { claim, .. } => Some(left + claim.count()),
        Act::Order { order, ids } if order == "add" => left.checked_sub(ids.count()),
        Act::Release { .. } | Act::Order { .. } => Some(left),
        Act::Seal { .. }
        | Act::Prepare
        | Act::Edit { .. }
        | Act::Reset { .. }
        | Act::Checkpoint { .. } => None,
    }
}

fn count_lines(path: &Path) -> io::Result<u64> {
    let mut count = 0;
    if let Some(file) = open_if_any(path)? {
        lines::each(&file, 0, |_, _| {
            count += 1;
            Ok(())
        })?;
    }
    Ok(count)
}
