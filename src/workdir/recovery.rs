//! Taking over from a dead farmer: its results are settled, its other tasks go back into
//! `toprocess`, its journal moves to `nodes/done/`.
//!
//! Everything is decided under the lock from two records: the log says what it had claimed and
//! up to where its journal was settled; the journal says what ended. One transaction does it
//! all, so if the process dies meanwhile, the work is left to the next one.

use crate::workdir::{journal, membership};
use std::collections::HashSet;

use crate::model::ids::Ids;
use crate::model::liveness::LockState;
use crate::model::outcome::{Destination, Outcome};
use crate::model::record::End;
use crate::model::retry::is_given_up;
use crate::model::task::{Task, TaskId, parse_line};
use crate::workdir::cancel::Cancels;
use crate::workdir::error::{Context, Result};
use crate::workdir::fencing::OwnMembership;
use crate::workdir::files::lines_of;
use crate::workdir::fs::{File, Open, Workdir};
use crate::workdir::layout::{self, FINISHED, LOCK};
use crate::workdir::liveness::{self, JournalView, Waiting};
use crate::workdir::state::{Act, Entry, Member, Members};
use crate::workdir::transaction::{Attempts, RequeueReason, Txn};

/// What was found of a dead farmer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Its name.
    pub farmer: String,
    /// Results that it had recorded and not yet settled.
    pub settled: u64,
    /// Tasks that it had claimed and that will run again.
    pub lost: u64,
    /// Tasks that it had claimed and that are in `failed` now: they have lost too many farmers.
    pub given_up: Ids,
}

/// Who takes over from a dead farmer.
#[derive(Clone, Copy)]
pub enum Fencer<'a> {
    /// A process that is not a member, such as one that starts. The text is written into the
    /// lock for diagnostics.
    Outsider(&'a str),
    /// A member of the run.
    Member(OwnMembership<'a>),
}

/// A farmer that was seen to be dead.
#[derive(Clone, Copy)]
pub struct Suspect<'a> {
    /// Its name.
    pub farmer: &'a str,
    /// What was seen of its journal; `None` when that was deleted.
    pub journal: Option<&'a JournalView>,
}

/// Fences a dead farmer: records its results, requeues its other tasks; `None` when it gave a sign of life
/// since its journal was seen.
pub fn fence(
    workdir: &Workdir,
    by: Fencer<'_>,
    waiting: &mut dyn Waiting,
    suspect: Suspect<'_>,
) -> Result<Option<Recovered>> {
    let Suspect {
        farmer,
        journal: looked_at,
    } = suspect;
    let (mut txn, by) = match by {
        Fencer::Outsider(who) => (Txn::begin(workdir, who, waiting)?, u32::MAX),
        Fencer::Member(us) => (us.begin(workdir, waiting)?, us.number),
    };
    let Some(journal) = DeadJournal::of(workdir, farmer, looked_at)? else {
        return Ok(None);
    };
    let entries = txn.entries()?;
    let mut seq = txn.state().seq;
    let mut found = Recovered {
        farmer: farmer.to_owned(),
        ..Recovered::default()
    };
    if let Some(member) = Members::after(&entries).named(farmer) {
        if looked_at.is_none()
            && membership::departed(&workdir.dir)?
                .iter()
                .any(|over| over.farmer == farmer)
        {
            let what = format!(
                "it lists farmer {farmer} as a member, but that farmer has left: it is older than \
                 the other files"
            );
            return Err(txn.damaged(LOCK, what));
        }
        let ends = journal.ends()?;
        // Before others may run them again; and not before it is certain that it will be
        // fenced, nor before its journal was read: a task that is killed here has no result.
        if looked_at.is_some_and(|seen| seen.is_here) {
            txn.end_tasks(farmer);
        }
        let (results, lost) = unsettled(member, &ends);
        let wanted = results
            .iter()
            .map(|end| end.id)
            .chain(lost.iter().copied())
            .collect();
        let lines = lines_of(&workdir.dir, txn.state().tasks, &wanted)?;
        let mut attempts = Attempts::default();
        txn.refresh(&mut attempts)?;
        txn.settle(results.iter().map(|end| (&lines[&end.id][..], *end)))?;
        let back = lost.iter().map(|id| {
            let task = attempts.task(*id, &lines[id]);
            let why = why_back(&task, &ends);
            (task, Some(why))
        });
        let (mut back, mut cancels) = (back.collect(), Cancels::default());
        let cancelled = cancels.take_cancelled(&mut txn, &mut back)?;
        cancels.settle(&mut txn, &cancelled, results.iter().copied())?;
        let given_up = take_given_up(&mut back, &attempts);
        txn.requeue(&back)?;
        txn.give_up(&given_up)?;
        txn.cut_tails()?;
        found.settled = (results.len() + cancelled.len()) as u64;
        found.lost = back.len() as u64;
        found.given_up = given_up.iter().map(|task| task.id).collect();
        let state = txn.state_mut();
        state.remove_member(member.feeds, member.quarantined);
        state.seals += 1;
        let of = member.by;
        seq = txn.commit(Act::Seal { of, by })?.seq;
    } else if !is_named(&entries, farmer) {
        journal.check_is_known(&mut txn)?;
    }
    membership::retire(&workdir.dir, farmer, seq)?;
    Ok(Some(found))
}

/// The journal of a dead farmer.
struct DeadJournal {
    name: String,
    /// None when it was deleted.
    journal: Option<Box<dyn File>>,
}

impl DeadJournal {
    /// `None` when the farmer has written more since its journal was seen or holds a lock
    /// again that was free, and when its journal was moved or has come back.
    fn of(
        workdir: &Workdir,
        farmer: &str,
        looked_at: Option<&JournalView>,
    ) -> Result<Option<Self>> {
        let name = layout::journal(farmer);
        // Another process of our node may test its lock, too, and be stopped meanwhile.
        let journal = workdir
            .dir
            .open(&name, Open::Fresh)
            .if_found("open", &name)?;
        let is_as_it_was = match (&journal, looked_at) {
            (Some(now), Some(seen)) => {
                let is_held = seen.lock == LockState::Free
                    && liveness::lock_of(&**now, workdir.mechanism, seen.is_here)
                        == LockState::Held;
                !is_held && now.len().context("look at", &name)? == seen.len
            }
            (None, None) => true,
            _ => false,
        };
        Ok(is_as_it_was.then_some(Self { name, journal }))
    }

    /// Of a farmer of which the log knows nothing, `finished` has what succeeded: the log was
    /// restarted since. Otherwise the farmer joined after the last transaction of a `lock` that
    /// is older than the other files.
    fn check_is_known(&self, txn: &mut Txn<'_>) -> Result<()> {
        let ends = self.ends()?;
        let ends = ends.iter().map(|(_, end)| end);
        let good = ends.filter(|end| end.destination() == Destination::Finished);
        let good: HashSet<TaskId> = good.map(|end| end.id).collect();
        let mut is_known = good.is_empty();
        if !is_known {
            txn.each_line(FINISHED, |line| {
                is_known |= parse_line(line).is_some_and(|(id, _)| good.contains(&id));
            })?;
        }
        if is_known {
            return Ok(());
        }
        let what = format!(
            "it does not know what {} holds: it is older than the other files",
            self.name
        );
        Err(txn.damaged(LOCK, what))
    }

    /// The ends in it.
    fn ends(&self) -> Result<Vec<(u64, End)>> {
        let ends = self.journal.as_deref().map(journal::ends);
        ends.unwrap_or(Ok(Vec::new())).context("read", &self.name)
    }
}

/// Whether the log says that it joined.
fn is_named(entries: &[Entry], farmer: &str) -> bool {
    let joins =
        |entry: &Entry| matches!(&entry.act, Act::Join { farmer: name, .. } if name == farmer);
    entries.iter().any(joins)
}

/// Of a farmer that is dead: the results that it had recorded and not settled, and
/// the tasks that it had claimed and that have no result. The log alone says which are
/// its to settle or to lose: whatever became of its journal, nothing is taken from
/// others.
fn unsettled<'e>(member: &Member, ends: &'e [(u64, End)]) -> (Vec<&'e End>, Vec<TaskId>) {
    let mut open = member.open.clone();
    let is_new = |(at, end): &&(u64, End)| {
        *at > member.settled && end.destination() != Destination::ToProcess
    };
    let results = ends.iter().filter(is_new).map(|(_, end)| end);
    // An end without a claim is not a result: it was never its to run.
    let results = results.filter(|end| open.take(end.id)).collect();
    (results, open.ids().iter().collect())
}

/// Why a task without a result goes back: its attempt may have ended, and its farmer have decided
/// that the task is to run again.
fn why_back(task: &Task, ends: &[(u64, End)]) -> RequeueReason {
    let is_of = |end: &&End| (end.id, end.attempt) == (task.id, task.attempt);
    let end = ends.iter().rev().map(|(_, end)| end).find(is_of);
    match end {
        Some(end) if end.again.is_some() => RequeueReason::Again,
        Some(end) if end.outcome == Outcome::Interrupted => RequeueReason::Interrupted,
        _ => RequeueReason::Lost,
    }
}

/// Takes those out of the tasks that go back that have lost too many farmers.
fn take_given_up(back: &mut Vec<(Task, Option<RequeueReason>)>, attempts: &Attempts) -> Vec<Task> {
    let is_over = |(task, why): &mut (Task, Option<RequeueReason>)| {
        *why == Some(RequeueReason::Lost) && is_given_up(attempts.losses(task.id) + 1)
    };
    back.extract_if(.., is_over).map(|(task, _)| task).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workdir::state::samples::{entry, join, leave};

    fn turn(settled: u64, ended: &str, claim: &str, back: &str) -> Entry {
        let [ended, claim, back] = [ended, claim, back].map(|ids| ids.parse().unwrap());
        entry(Act::Turn {
            by: 1,
            settled,
            ended,
            claim,
            back,
            fed: 0,
            fed_all: false,
            leave: false,
        })
    }

    fn end(at: u64, id: u64, outcome: Outcome) -> (u64, End) {
        let id = TaskId(id);
        (
            at,
            End {
                id,
                attempt: 1,
                slot: 0,
                at: 0,
                us: 0,
                outcome,
                again: None,
                used: None,
                log: None,
                dir: None,
                skipped: None,
                lease: None,
            },
        )
    }

    fn over(log: &[Entry], ends: &[(u64, End)]) -> (Vec<u64>, Vec<u64>) {
        let members = Members::after(log);
        let (results, lost) = unsettled(members.named("a").unwrap(), ends);
        let results = results.iter().map(|end| end.id.0).collect();
        (results, lost.iter().map(|id| id.0).collect())
    }

    #[test]
    fn results_behind_the_settled_end_count_and_the_rest_is_lost() {
        let log = [
            join(1, "a"),
            turn(0, "", "0-4", ""),
            turn(100, "0", "5", "4"),
        ];
        let ends = [
            end(100, 0, Outcome::Exit(0)),
            end(200, 1, Outcome::Exit(1)),
            end(300, 2, Outcome::Interrupted),
        ];
        assert_eq!(over(&log, &ends), (vec![1], vec![2, 3, 5]));
    }

    #[test]
    fn a_task_claimed_twice_is_lost_once() {
        let log = [join(1, "a"), turn(0, "", "0", ""), turn(50, "0", "0", "")];
        let ends = [end(50, 0, Outcome::Exit(1))];
        assert_eq!(over(&log, &ends), (vec![], vec![0]));
    }

    /// Others have it: it was put back by a retry after it was settled.
    #[test]
    fn what_was_settled_is_not_lost_though_the_journal_is() {
        let retry = Act::Retry {
            ids: "0".parse().unwrap(),
        };
        let log = [
            join(1, "a"),
            turn(0, "", "0-1", ""),
            turn(50, "0", "", ""),
            entry(retry),
        ];
        assert_eq!(over(&log, &[]), (vec![], vec![1]));
    }

    #[test]
    fn who_left_was_sealed_or_never_joined_is_no_member() {
        let join = join(1, "a");
        let seal = entry(Act::Seal { of: 1, by: 2 });
        assert!(Members::after(&[join.clone(), leave(1)]).is_empty());
        assert!(Members::after(&[join.clone(), seal]).is_empty());
        assert!(Members::after(&[join]).named("b").is_none());
    }
}
