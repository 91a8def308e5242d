//! How this process becomes a farmer of the run: its journal, the transaction by which it
//! joins with its first tasks, and the line that opens its output.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::ledger::RETRY_IDLE_FOR;
use super::prepare::StartContext;
use super::source::Source;
use super::start_error::StartError;
use crate::VERSION;
use crate::host::memory;
use crate::model::figures::{counted, grouped};
use crate::model::pace::Pace;
use crate::model::record::Header;
use crate::model::task::Task;
use crate::workdir::error::{Error, Result};
use crate::workdir::journal::Journal;
use crate::workdir::liveness::Waiting;
use crate::workdir::liveness::own_node::our_beginning;
use crate::workdir::session::Session;
use crate::workdir::state::State;

/// How often a start is tried, each time under another name.
const MOST_TRIES: u32 = 4;
/// Between two tries on files that fail.
const PAUSE: Duration = Duration::from_millis(500);

/// A farmer that has joined.
pub(super) struct Joined {
    pub(super) session: Session,
    /// Its first tasks.
    pub(super) tasks: Vec<Task>,
    /// When joining took the lock, since the boot: its lease begins there.
    pub(super) locked: Duration,
    /// Its pace, which knows how long joining took.
    pub(super) pace: Pace,
}

impl StartContext<'_> {
    /// Prepares the workdir and joins the run. Our journal exists before we take the lock
    /// for the first time. So of two farmers that start at once, at least one sees the
    /// other and can test whether the lock excludes it.
    pub(super) fn join(&mut self, source: &Source) -> std::result::Result<Joined, StartError> {
        let mut journal = self.create_journal()?;
        let node = &self.farm.node;
        for text in &node.warnings {
            self.say(text);
        }
        let mut prepared = self.prepare(&mut journal, source);
        for _ in 1..MOST_TRIES {
            if !matches!(&prepared, Err(error) if error.is_lock_held_too_long()) {
                break;
            }
            prepared = self.prepare(&mut journal, source);
        }
        let is_new = match prepared {
            Ok(is_new) => is_new,
            Err(error) => {
                let _ = journal.discard(&self.farm.workdir.dir);
                return Err(error);
            }
        };
        let (joined, before) = self.join_with(
            Some(journal),
            Vec::new(),
            source.is_stream(),
            Duration::ZERO,
        )?;
        let takeover = joined.session.takeover();
        if self.waiter.takeover() != takeover || self.farm.options.takeover != takeover {
            self.waiter.set_takeover(takeover);
            self.say(&format!(
                "the takeover time of this run is {}s, as its first farmer set it",
                takeover.as_secs()
            ));
        }
        let verbose = self.farm.options.verbose;
        if node.allocation.speaks_for_all() || verbose {
            let state = joined.session.state();
            let tasks = if !is_new || verbose {
                resumed(&before)
            } else if source.is_stream() {
                "tasks as they arrive".to_owned()
            } else {
                let tasks = state.tasks.lines.saturating_sub(state.dropped);
                counted(tasks, "task", "tasks")
            };
            let opening = self.farm.node.opening(self.farm.options, tasks);
            self.say(&opening.text());
        }
        Ok(joined)
    }

    /// Joins once more, under another name, after others declared us dead or may have. `before`
    /// was our name. A file system that could not be reached may still refuse for a moment, or
    /// report the errors of writes of that time.
    pub(super) fn join_again(&mut self, before: &str) -> Result<Joined> {
        let names = vec![before.to_owned()];
        let (joined, _) = self.join_with(None, names, false, RETRY_IDLE_FOR)?;
        let me = joined.session.farmer();
        self.say(&format!("joins again, as farmer {me}"));
        Ok(joined)
    }

    /// Joins; also returns the state before. A farmer that was frozen meanwhile may be
    /// taken over before it has joined, or must give the lock up: it tries again under
    /// another name. So does one whose files fail, for as long as `retry_for`. `names` are
    /// those that we had.
    fn join_with(
        &mut self,
        mut journal: Option<Journal>,
        mut names: Vec<String>,
        feeds: bool,
        retry_for: Duration,
    ) -> Result<(Joined, State)> {
        let give_up = self.waiter.now() + retry_for;
        let mut nth = 0;
        loop {
            nth += 1;
            let joined = self.try_join(journal.take(), &mut names, feeds);
            let tries_again = match &joined {
                Err(Error::Fenced | Error::HeldTooLong) => nth < MOST_TRIES,
                Err(Error::Io { .. }) => self.waiter.now() < give_up && self.waiter.pause(PAUSE),
                _ => false,
            };
            if !tries_again {
                return joined;
            }
        }
    }

    /// Joins with this journal or a new one. A transaction under one of `names`, to which
    /// ours is added, may have failed without an answer whether it was committed.
    fn try_join(
        &mut self,
        journal: Option<Journal>,
        names: &mut Vec<String>,
        feeds: bool,
    ) -> Result<(Joined, State)> {
        let journal = journal.map_or_else(|| self.create_journal(), Ok)?;
        let me = journal.farmer().to_owned();
        for before in &*names {
            self.takeover(&me).of_predecessor(before)?;
        }
        names.push(me);
        let slots = self.farm.node.slots.into();
        let mut pace = Pace::new(self.farm.node.allocation.launched());
        let placement = self.farm.placement(None);
        let claim = |state: &State| {
            let most = pace.claim(slots, 0, state.live, state.left());
            placement.claim(state, most, 0)
        };
        let (session, before, turn) =
            Session::join(&self.farm.workdir, journal, feeds, claim, &mut self.waiter)?;
        let held = self.waiter.now().saturating_sub(turn.locked);
        pace.joined(held, session.state().live);
        let joined = Joined {
            session,
            tasks: turn.tasks,
            locked: turn.locked,
            pace,
        };
        Ok((joined, before))
    }

    /// Creates a journal, under a name that no other farmer has.
    fn create_journal(&mut self) -> Result<Journal> {
        let started = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        let (node, pid) = (&self.farm.node, std::process::id());
        let (host, job) = (&node.name, node.job());
        let id = self
            .waiter
            .watcher()
            .and_then(|watcher| watcher.node().id().cloned());
        let began = our_beginning();
        let mut labels: Vec<String> = self.farm.options.labels.iter().cloned().collect();
        labels.sort_unstable();
        let header = |nth: u32| Header {
            version: 1,
            farmer: format!("{host}.{job}.{pid}.{}", started + u128::from(nth)),
            host: host.clone(),
            pid,
            began,
            node: id.clone(),
            job: node.allocation.job.clone(),
            rank: node.allocation.rank,
            step: node.allocation.step.clone(),
            restart: node.allocation.restarts,
            slots: node.slots,
            follows: self.farm.options.follow.is_some(),
            devices: node.plan.table(),
            runner: self.farm.options.runner.label().map(str::to_owned),
            at: self.farm.clock.micros(self.farm.clock.began()),
            pytf: VERSION.to_owned(),
            labels: labels.clone(),
            cpus: usable_cpus(),
            memory: memory::usable_kib(),
        };
        Session::journal_for(&self.farm.workdir, header)
    }
}

/// The CPUs that this process may use.
fn usable_cpus() -> Option<u32> {
    let cpus = std::thread::available_parallelism().ok()?;
    u32::try_from(cpus.get()).ok()
}

/// `412 finished, 3 failed, 7 were interrupted and will run again, 578 to go`
fn resumed(state: &State) -> String {
    let mut text = format!(
        "{} finished, {} failed",
        grouped(state.finished.lines),
        grouped(state.failed.lines)
    );
    if state.interrupted > 0 {
        let were = counted(state.interrupted, "was", "were");
        text += &format!(", {were} interrupted and will run again");
    }
    if state.live > 0 {
        let others = counted(u64::from(state.live), "other farmer", "other farmers");
        text += &format!(", {} claimed by {others}", grouped(state.claimed()));
    }
    text + &format!(", {} to go", grouped(state.left()))
}
