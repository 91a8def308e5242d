//! What the summary of a job takes from the record of its run: the figures of all its
//! farmers, and what failed on any node.

use std::collections::HashSet;
use std::time::Duration;

use super::{FAILURES, Failure, TAIL};
use crate::history::commands::Commands;
use crate::history::failures::{self, Details, causes, failures};
use crate::history::logs::log_tail;
use crate::history::run::{Farmer, Run};
use crate::model::figures::micros;
use crate::model::record::{Header, LogAt};
use crate::model::task::TaskId;

/// Several farmers as if they were one.
#[derive(Clone, Debug, Default)]
pub struct Combined {
    /// Their slots.
    pub slots: u64,
    /// How long tasks ran in them, all together.
    pub busy: Duration,
    /// The first tasks in `failed` that failed in the run, one for each cause.
    pub failures: Vec<Failure>,
}

impl Combined {
    /// The figures of the farmers that are `ours`, and the failures of all that were
    /// in the run: `joined` are their names.
    pub fn of(run: &Run, joined: &[String], ours: impl Fn(&Header) -> bool) -> Self {
        let joined: HashSet<&str> = joined.iter().map(String::as_str).collect();
        let is_joined = |farmer: &&Farmer| joined.contains(&*farmer.header().farmer);
        let members = run.farmers.iter().filter(is_joined);
        let members = members.filter(|farmer| ours(farmer.header()));
        let (mut slots, mut busy) = (0, 0);
        for farmer in members {
            slots += u64::from(farmer.header().slots);
            busy += farmer.busy(farmer.last);
        }
        let mut details = Details::default();
        // Without the list the failures are shown without their commands.
        let mut commands = Commands::open(&run.workdir).unwrap_or_default();
        let all = failures(run);
        let failed = all.iter().filter(|failure| {
            let last = failure
                .last
                .as_ref()
                .filter(|_| failure.cancelled.is_none());
            failure.given_up.is_some() || last.is_some_and(|(farmer, _)| is_joined(farmer))
        });
        let failed: Vec<failures::FailedTask> = failed.copied().collect();
        let causes = causes(&failed);
        let shown = causes.iter().take(FAILURES);
        let failures = shown.filter_map(|cause| {
            let failure = failure(run, &cause.first, &mut details, &mut commands)?;
            Some(Failure {
                more: cause.tasks - 1,
                ..failure
            })
        });
        Self {
            slots,
            busy: micros(busy),
            failures: failures.collect(),
        }
    }
}

fn failure(
    run: &Run,
    failure: &failures::FailedTask,
    details: &mut Details,
    commands: &mut Commands,
) -> Option<Failure> {
    let outcome = failure.outcome()?.clone();
    // Where a task lost its farmers, no journal says.
    let node = failure.last.filter(|_| failure.given_up.is_none());
    let node = node.map_or_else(String::new, |(farmer, _)| farmer.header().host.clone());
    let id = TaskId(failure.id);
    let command = commands.get(id).ok().flatten().unwrap_or_default();
    let log = details.of(failure).and_then(|end| end.log);
    let tail = log.as_ref().map(|log| log_tail(&run.workdir, log, TAIL));
    Some(Failure {
        id,
        command: command.to_vec(),
        outcome,
        more: 0,
        node,
        log: log.as_ref().and_then(LogAt::names),
        tail: tail.unwrap_or_default(),
    })
}
