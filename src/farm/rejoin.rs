//! A farmer that others declared dead joins again under another name, so that its node does not
//! stay idle.

use std::time::{Duration, Instant};

use super::clock::since_boot;
use super::finish::Finish;
use super::join::Joined;
use super::lock_wait::{LockWaiter, cancellation};
use super::node_commands;
use super::prepare::StartContext;
use super::reserved_threads::ReservedThreads;
use super::shared::Farm;
use super::source::Source;
use super::start_error::StartError;
use super::supervisor::FarmerEnd;
use super::threads::Member;
use crate::exit::RunExit;
use crate::model::record::Record;
use crate::ui::progress::warn;
use crate::workdir::orders::continue_from;

/// After this many farmers in a row that were taken over within the takeover time of
/// their joining, the process gives up on this node.
const SHORT_LIVES: u32 = 3;

/// Runs the farm until it is complete or is stopped.
pub(super) fn run(
    farm: &mut Farm,
    member: Member,
    source: Source,
    threads: ReservedThreads,
) -> Result<RunExit, StartError> {
    let ended = run_farmers(farm, member, source, threads);
    node_commands::teardown(farm, ended.as_ref().ok().map(|(_, ended)| ended));
    let (farmer, ended) = ended?;
    Ok(Finish {
        farm,
        farmer: &farmer,
        ended: &ended,
    }
    .exit())
}

/// Runs one farmer after the other. It does not join again when its tasks come from a stream,
/// which the first farmer has read, nor while tasks run that cannot be ended. Returns the name
/// of the last one, and how it ended.
fn run_farmers(
    farm: &mut Farm,
    mut member: Member,
    source: Source,
    mut threads: ReservedThreads,
) -> Result<(String, FarmerEnd), StartError> {
    let is_stream = source.is_stream();
    let mut fed = source.feed(threads.feeder.take());
    let mut short_lives = 0;
    // What was ordered before the process joined for the first time does not concern it.
    let orders = member.joined.session.known_orders();
    loop {
        let farmer = member.joined.session.farmer().to_owned();
        let takeover = member.joined.session.takeover();
        let since = since_boot();
        let protection = match farm.protect(&member.joined.session) {
            Ok(protection) => protection,
            Err(error) => {
                leave_at_once(farm, member.joined, &error);
                return Err(error);
            }
        };
        let mut ended = farm.run(member, protection, fed.take(), threads);
        let is_short = since_boot().saturating_sub(since) < takeover;
        short_lives = if is_short { short_lives + 1 } else { 0 };
        let is_last = is_stream || ended.slots > 0 || short_lives == SHORT_LIVES;
        if is_last || !ended.farmer.joins_again() {
            ended.progress.finish();
            return Ok((farmer, ended));
        }
        threads = farm.node.reserve_threads(false)?;
        member = join_again(farm, ended, &farmer, takeover)?;
        let session = &mut member.joined.session;
        // What cannot be read now, the ledger reads later.
        if continue_from(&session.workdir().dir, session.state(), orders).unwrap_or(true) {
            session.obey_since(orders);
        }
    }
}

fn join_again(
    farm: &Farm,
    ended: FarmerEnd,
    before: &str,
    takeover: Duration,
) -> Result<Member, StartError> {
    let events = Some(farm.events.clone());
    let mut start = StartContext {
        farm,
        waiter: LockWaiter::new(farm.cancel.clone(), events, takeover),
        progress: ended.progress,
    };
    let joined = start.join_again(before)?;
    Ok(Member {
        frozen: ended.frozen,
        failures: ended.failures,
        ..Member::new(joined, start)
    })
}

/// Leaves a run in which no task can be started: what was claimed is given back.
fn leave_at_once(farm: &Farm, joined: Joined, why: &StartError) {
    let mut session = joined.session;
    for task in joined.tasks {
        session.give_back(task, None);
    }
    let journal = session.journal();
    journal.lock().push(&Record::Leave {
        at: farm.clock.micros(Instant::now()),
        why: why.to_string(),
        longest_wait_us: 0,
    });
    let upto = journal.lock().end();
    let (_keep, cancel) = cancellation();
    let mut waiter = LockWaiter::new(cancel, None, session.takeover());
    if let Err(error) = session.leave(upto, &mut waiter) {
        warn(&format!(
            "could not leave the workdir in good order: {error}"
        ));
    }
}
