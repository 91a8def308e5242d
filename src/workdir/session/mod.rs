//! What a farmer does in a workdir, from joining to leaving: the whole protocol, without a
//! thread and without a clock.
//!
//! The ledger of the farm drives it; so do the model check and the simulator. Guarantee: what a
//! turn settles, gives back and claims is committed as a whole or not at all; after an error
//! the turn can be taken again; once fenced, a session writes nothing any more.

mod heartbeat;

use crate::workdir::fencing::{OwnMembership, check_fence_unlocked};
use crate::workdir::state::{Act, State, peek};
use std::time::Duration;

use crate::model::ids::Ids;
use crate::model::outcome::Destination;
use crate::model::record::{End, Header, Record};
use crate::model::task::{Task, TaskId};
use crate::workdir::blocked::Blocked;
use crate::workdir::cancel::Cancels;
use crate::workdir::error::{Error, Result};
use crate::workdir::feed::Feed;
use crate::workdir::files::Committed;
use crate::workdir::journal::{Journal, SharedJournal};
use crate::workdir::layout;
use crate::workdir::liveness::{JournalView, Waiting};
use crate::workdir::membership;
use crate::workdir::open::Workdir;
use crate::workdir::orders::{self, Order};
use crate::workdir::quarantine::{self, OutcomeCursor};
use crate::workdir::recovery::{self, Fencer, Recovered, Suspect};
use crate::workdir::transaction::{Attempts, Claim, QueueCopy, RequeueReason, Txn};
use heartbeat::WithHeartbeats;

/// One heartbeat of this number reads the log.
const LOOK_AT_LOG: u32 = 6;

/// Of this number of farmers not all are dead.
const MANY: u32 = 32;

/// A farmer in a workdir.
pub struct Session {
    workdir: Workdir,
    journal: SharedJournal,
    farmer: String,
    number: u32,
    /// The state after our last transaction.
    state: State,
    attempts: Attempts,
    /// In the journal, not yet in `finished` or `failed`.
    unsettled: Vec<(Task, End)>,
    /// To be given back.
    back: Vec<(Task, Option<RequeueReason>)>,
    /// The tasks that come from a stream, while it is not over.
    feed: Option<Feed>,
    /// Whether the others know that we claim nothing.
    is_quarantined: bool,
    /// Others have fenced us, or may have.
    is_over: bool,
    /// How many heartbeats there were.
    heartbeats: u32,
    /// The orders that we know: those before we joined do not concern us.
    orders: Committed,
    /// The attempts that were cancelled.
    cancels: Cancels,
    /// Cancelled tasks that were to be given back: the next turn puts them into `failed`.
    cancelled: Vec<Task>,
    /// The tasks that wait for others.
    blocked: Blocked,
}

/// What a turn gave.
pub struct Turn {
    /// The claimed tasks.
    pub tasks: Vec<Task>,
    /// When the lock was taken, by the clock of `Waiting`.
    pub locked: Duration,
    /// How long we waited for it.
    pub waited: Duration,
}

impl Session {
    /// Makes the journal of a farmer that has yet to join. Names are tried until
    /// one is free.
    pub fn journal_for(workdir: &Workdir, header: impl Fn(u32) -> Header) -> Result<Journal> {
        let create = |nth| Journal::create(workdir, header(nth)).transpose();
        (0..10).find_map(create).transpose()?.ok_or_else(|| {
            let name = header(0).farmer;
            Error::NamesTaken { name }
        })
    }

    /// Joins: enters the log, and claims as many tasks as `claim` says from the
    /// state it is shown, in which it is alive. Returns the state before as well.
    pub fn join<'c, C: Into<Claim<'c>>>(
        workdir: &Workdir,
        journal: Journal,
        feeds: bool,
        claim: impl FnOnce(&State) -> C,
        waiting: &mut dyn Waiting,
    ) -> Result<(Self, State, Turn)> {
        let journal = SharedJournal::new(journal);
        let waiting = &mut WithHeartbeats::new(&workdir.dir, &journal, 1, waiting);
        let joined = Self::try_join(workdir, journal, feeds, claim, waiting);
        waiting.ended(joined)
    }

    fn try_join<'c, C: Into<Claim<'c>>>(
        workdir: &Workdir,
        journal: SharedJournal,
        feeds: bool,
        claim: impl FnOnce(&State) -> C,
        waiting: &mut WithHeartbeats<'_>,
    ) -> Result<(Self, State, Turn)> {
        let farmer = journal.lock().farmer().to_owned();
        let asked = waiting.now();
        let takeover = waiting.takeover();
        let mut txn = Txn::begin(workdir, &farmer, waiting)?;
        let locked = txn.now();
        if membership::has_departed_by_name(&workdir.dir, &farmer)? {
            return Err(Error::Fenced);
        }
        if txn.state().live == 0 {
            txn.clear_log();
            if txn.state().next_farmer > 0 {
                // What was there before this run began.
                txn.check_sums()?;
            }
            txn.cut_tails()?;
            txn.sweep()?;
            txn.gather_all()?;
            txn.deal()?;
        }
        let before = txn.state().clone();
        let state = txn.state_mut();
        let number = state.next_farmer;
        state.next_farmer += 1;
        state.live += 1;
        state.feeding += u32::from(feeds);
        if before.live == 0 {
            (state.interrupted, state.quarantined) = (0, 0);
            state.takeover = seconds(takeover);
            state.began = state.seq + 1;
            state.failed_before = state.failures();
        }
        let mut attempts = Attempts::default();
        txn.refresh(&mut attempts)?;
        let tasks = txn.claim(claim(txn.state()), &attempts)?;
        let state = txn.commit(Act::Join {
            by: number,
            farmer: farmer.clone(),
            feeds,
            claim: tasks.iter().map(|task| task.id).collect(),
        })?;
        let session = Self {
            workdir: workdir.clone(),
            journal,
            farmer,
            number,
            state,
            attempts,
            unsettled: Vec::new(),
            back: Vec::new(),
            feed: feeds.then(Feed::default),
            is_quarantined: false,
            is_over: false,
            heartbeats: 0,
            orders: before.orders,
            cancels: Cancels::default(),
            cancelled: Vec::new(),
            blocked: Blocked::default(),
        };
        let waited = locked.saturating_sub(asked);
        let turn = Turn {
            tasks,
            locked,
            waited,
        };
        Ok((session, before, turn))
    }

    /// The farmer's name.
    pub fn farmer(&self) -> &str {
        &self.farmer
    }

    /// The farmer's number in the log.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The workdir.
    pub fn workdir(&self) -> &Workdir {
        &self.workdir
    }

    /// The journal.
    pub fn journal(&self) -> SharedJournal {
        self.journal.clone()
    }

    /// The state of the run, as far as we know.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The takeover time of the run.
    pub fn takeover(&self) -> Duration {
        Duration::from_secs(self.state.takeover)
    }

    /// The stream of tasks; `None` without one, or when it is settled.
    pub fn feed(&mut self) -> Option<&mut Feed> {
        self.feed.as_mut()
    }

    /// Adds a result that is in the journal: the next turn settles it.
    pub fn settle(&mut self, task: Task, end: End) {
        self.unsettled.push((task, end));
    }

    /// Adds a task for the next turn to give back, with a reason if it had started.
    pub fn give_back(&mut self, task: Task, why: Option<RequeueReason>) {
        self.back.push((task, why));
    }

    /// Whether the next turn has anything to settle, to give back, or perhaps to release.
    pub fn has_pending(&self) -> bool {
        let fed = self.feed.as_ref().is_some_and(Feed::has_pending);
        let has_back = !self.back.is_empty() || !self.cancelled.is_empty();
        let may_release = self.blocked.is_behind(&self.state);
        fed || has_back || may_release || !self.unsettled.is_empty()
    }

    /// Takes a turn: commits all results and all tasks to give back, and claims as many tasks
    /// as `claim` says for the state that it is given.
    /// `upto` is the end of the journal when the last of the results was put
    /// into it.
    pub fn turn<'c, C: Into<Claim<'c>>>(
        &mut self,
        upto: u64,
        copy: Option<QueueCopy>,
        claim: impl FnOnce(&State) -> C,
        waiting: &mut dyn Waiting,
    ) -> Result<Turn> {
        self.guarded(waiting, |session, waiting| {
            session.try_turn(upto, copy, claim, waiting)
        })
    }

    /// Does what may wait for the lock, with heartbeats meanwhile, unless others have
    /// fenced us.
    fn guarded<T>(
        &mut self,
        waiting: &mut dyn Waiting,
        act: impl FnOnce(&mut Self, &mut dyn Waiting) -> Result<T>,
    ) -> Result<T> {
        self.must_not_be_fenced()?;
        let mut waiting =
            WithHeartbeats::new(&self.workdir.dir, &self.journal, self.state.live, waiting);
        let done = act(self, &mut waiting);
        self.noted(waiting.ended(done))
    }

    /// Us, as others find us in the log.
    fn membership(&self) -> OwnMembership<'_> {
        OwnMembership {
            number: self.number,
            farmer: &self.farmer,
            seen: &self.state,
        }
    }

    fn must_not_be_fenced(&self) -> Result<()> {
        if self.is_over {
            Err(Error::Fenced)
        } else {
            Ok(())
        }
    }

    fn noted<T>(&mut self, done: Result<T>) -> Result<T> {
        self.is_over |= matches!(done, Err(Error::Fenced));
        done
    }

    fn try_turn<'c, C: Into<Claim<'c>>>(
        &mut self,
        upto: u64,
        copy: Option<QueueCopy>,
        claim: impl FnOnce(&State) -> C,
        waiting: &mut dyn Waiting,
    ) -> Result<Turn> {
        self.sync_journal()?;
        let asked = waiting.now();
        let mut txn = self.membership().begin(&self.workdir, waiting)?;
        let locked = txn.now();
        let cancelled = self.cancels.take_cancelled(&mut txn, &mut self.back)?;
        self.cancelled.extend(cancelled);
        settle(&mut txn, &self.unsettled, (&self.cancels, &self.cancelled))?;
        let (fed, fed_all) = match &mut self.feed {
            Some(feed) => feed.add(&mut txn)?,
            None => (0, false),
        };
        txn.requeue(&self.back)?;
        // If this turn fails, what it read may never be committed.
        let mut attempts = std::mem::take(&mut self.attempts);
        let mut blocked = std::mem::take(&mut self.blocked);
        txn.refresh(&mut attempts)?;
        blocked.release(&mut txn, &attempts)?;
        let tasks = txn.claim(claim(txn.state()), &attempts)?;
        if let Some(copy) = copy {
            txn.adopt_queue(copy)?;
        }
        let act = Act::Turn {
            by: self.number,
            settled: upto,
            ended: self.ended(),
            claim: tasks.iter().map(|task| task.id).collect(),
            back: self.back.iter().map(|(task, _)| task.id).collect(),
            fed,
            fed_all,
            leave: false,
        };
        self.state = txn.commit(act)?;
        (self.attempts, self.blocked) = (attempts, blocked);
        self.unsettled.clear();
        self.cancelled.clear();
        self.back.clear();
        if let Some(feed) = &mut self.feed {
            feed.added();
        }
        if fed_all {
            self.feed = None;
        }
        let waited = locked.saturating_sub(asked);
        Ok(Turn {
            tasks,
            locked,
            waited,
        })
    }

    /// What the next turn puts into `finished` or `failed`.
    fn ended(&self) -> Ids {
        let is_over = |end: &End| end.destination() != Destination::ToProcess;
        let over = self.unsettled.iter().filter(|(_, end)| is_over(end));
        let over = over.map(|(task, _)| task.id);
        let mut ids: Vec<TaskId> = over
            .chain(self.cancelled.iter().map(|task| task.id))
            .collect();
        ids.sort_unstable();
        ids.into_iter().collect()
    }

    /// A copy of the queue of a class for the next turn to adopt, made without the lock;
    /// none when another farmer rewrote it at the same moment.
    pub fn copy_queue(&mut self, class: usize) -> Result<Option<QueueCopy>> {
        let Some(state) = peek(&self.workdir.dir)? else {
            return Ok(None);
        };
        let name = layout::queue(class);
        if class >= state.queues.len() || state.renames.iter().any(|rename| rename.to == name) {
            // What bears the name now may still be the file before.
            return Ok(None);
        }
        match QueueCopy::make(&self.workdir.dir, &state, class, self.number) {
            Ok(copy) => Ok(Some(copy)),
            // Rewritten meanwhile, or a full disk: the old file remains the queue.
            Err(Error::Io { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the journal durable; slots may write into it meanwhile.
    pub fn sync_journal(&self) -> Result<()> {
        self.journal.sync()
    }

    /// Renews our lease: the journal grows, which all can see. Then it checks whether others
    /// have fenced us meanwhile. `at` is the time as records have it.
    ///
    /// Mostly the check is one open of our journal's name. Now and then it reads the log: a
    /// farmer that fences us may die before it has moved the journal. Returns whether that has
    /// renewed the state of the run, as [`Self::refresh_state`] does.
    pub fn heartbeat(&mut self, at: u64) -> Result<bool> {
        self.must_not_be_fenced()?;
        self.journal.lock().push(&Record::Beat { at });
        self.sync_journal()?;
        self.journal.lock().relock();
        self.heartbeats += 1;
        let is_moved = membership::has_departed_by_name(&self.workdir.dir, &self.farmer)?;
        if !is_moved && !self.heartbeats.is_multiple_of(LOOK_AT_LOG) {
            return Ok(false);
        }
        let state = peek(&self.workdir.dir)?;
        if membership::has_departed_at(&self.workdir.dir, &self.farmer, state.as_ref())? {
            return self.noted(Err(Error::Fenced));
        }
        self.refresh_to(state);
        Ok(true)
    }

    /// Whether others have fenced us, as far as is known without the lock. A turn is
    /// certain; this writes nothing.
    pub fn check_fence_unlocked(&self) -> Result<()> {
        check_fence_unlocked(&self.workdir.dir, &self.farmer)
    }

    /// Reads the state of the run, without the lock.
    pub fn refresh_state(&mut self) -> Result<()> {
        let state = peek(&self.workdir.dir)?;
        self.refresh_to(state);
        Ok(())
    }

    fn refresh_to(&mut self, state: Option<State>) {
        if let Some(state) = state {
            // Fences that we have not read stay unread.
            let State { seals, log, .. } = self.state;
            self.state = State {
                seals,
                log,
                ..state
            };
        }
    }

    /// The orders that we know.
    pub fn known_orders(&self) -> Committed {
        self.orders
    }

    /// Also obeys the orders that were given after these were known: to the farmer that this
    /// process was before.
    pub fn obey_since(&mut self, orders: Committed) {
        if orders.len < self.orders.len {
            self.orders = orders;
        }
    }

    /// The orders that are new in the state as we read it last. Each comes once.
    pub fn new_orders(&mut self) -> Result<Vec<Order>> {
        // What the node remembers of the state may be older.
        if self.state.orders.len <= self.orders.len {
            return Ok(Vec::new());
        }
        let new = orders::since(&self.workdir.dir, &self.state, self.orders)?;
        self.orders = self.state.orders;
        Ok(new)
    }

    /// Fences another farmer, which is dead; `None` when it is alive
    /// after all. `journal` is `None` when the journal was deleted.
    pub fn fence(
        &mut self,
        farmer: &str,
        journal: Option<&JournalView>,
        waiting: &mut dyn Waiting,
    ) -> Result<Option<Recovered>> {
        let found = self.guarded(waiting, |session, waiting| {
            let by = Fencer::Member(session.membership());
            recovery::fence(&session.workdir, by, waiting, Suspect { farmer, journal })
        })?;
        self.refresh_state()?;
        Ok(found)
    }

    /// Records that we claim nothing more, and gives tasks that failed here to the others; in
    /// quarantine already, it gives them more. Returns those that were in `failed`; if none
    /// was, nothing happens. `None` when no other farmer would be left that claims.
    pub fn quarantine(&mut self, wanted: &Ids, waiting: &mut dyn Waiting) -> Result<Option<Ids>> {
        let (by, is_in_it) = (self.number, self.is_quarantined);
        let enter = |txn: Txn<'_>| quarantine::enter(txn, by, is_in_it, wanted);
        let entered = self.with_lock(waiting, enter)?;
        let Some((ids, state)) = entered else {
            return Ok(None);
        };
        self.is_quarantined |= !ids.is_empty();
        self.state = state;
        Ok(Some(ids))
    }

    /// Records that we claim again.
    pub fn release(&mut self, waiting: &mut dyn Waiting) -> Result<()> {
        if !self.is_quarantined {
            return Ok(());
        }
        let by = self.number;
        self.state = self.with_lock(waiting, |mut txn| {
            let state = txn.state_mut();
            state.quarantined = state.quarantined.saturating_sub(1);
            txn.commit(Act::Release { by })
        })?;
        self.is_quarantined = false;
        Ok(())
    }

    /// The tasks that have ended since `seen`, on any node, and where they went.
    pub fn new_outcomes(
        &mut self,
        seen: &mut OutcomeCursor,
        waiting: &mut dyn Waiting,
    ) -> Result<Vec<(TaskId, Destination)>> {
        self.with_lock(waiting, |mut txn| seen.new_outcomes(&mut txn))
    }

    /// Does something under the lock, unless others have fenced us.
    fn with_lock<T>(
        &mut self,
        waiting: &mut dyn Waiting,
        act: impl FnOnce(Txn<'_>) -> Result<T>,
    ) -> Result<T> {
        self.guarded(waiting, |session, waiting| {
            act(session.membership().begin(&session.workdir, waiting)?)
        })
    }

    /// Leaves: settles, gives back, and makes `toprocess` exact when no other member is left or
    /// it is about to be empty. In the result `state.feeding` counts our stream if it was not
    /// read to its end.
    pub fn leave(&mut self, upto: u64, waiting: &mut dyn Waiting) -> Result<State> {
        self.guarded(waiting, |session, waiting| {
            session.sync_journal()?;
            let workdir = session.workdir.clone();
            let txn = session.membership().begin(&workdir, waiting)?;
            session.commit_leave(txn, upto)
        })
    }

    /// Leaves as [`Self::leave`], with this record as the last of the journal, unless tasks
    /// wait that can run here, which `has_work` decides: they may have been added since we looked. `None` when we stay; then we know them.
    ///
    /// So who adds tasks to a run with members knows that one of them takes the tasks, or ends
    /// for another reason than that nothing is left to do.
    pub fn leave_if_none_waits(
        &mut self,
        last: &Record,
        has_work: impl FnOnce(&State) -> bool,
        waiting: &mut dyn Waiting,
    ) -> Result<Option<State>> {
        self.guarded(waiting, |session, waiting| {
            session.sync_journal()?;
            let workdir = session.workdir.clone();
            let mut txn = session.membership().begin(&workdir, waiting)?;
            let known = txn.state().clone();
            session.blocked.release(&mut txn, &session.attempts)?;
            if has_work(txn.state()) {
                // What would be released is left to the next turn.
                (session.state, session.blocked) = (known, Blocked::default());
                return Ok(None);
            }
            // Others that see that we have left see why, too.
            session.journal.lock().push(last);
            session.sync_journal()?;
            let upto = session.journal.lock().end();
            session.commit_leave(txn, upto).map(Some)
        })
    }

    fn commit_leave(&mut self, mut txn: Txn<'_>, upto: u64) -> Result<State> {
        self.back.sort_by_key(|(task, _)| task.id);
        let cancelled = self.cancels.take_cancelled(&mut txn, &mut self.back)?;
        self.cancelled.extend(cancelled);
        settle(&mut txn, &self.unsettled, (&self.cancels, &self.cancelled))?;
        if txn.state().live > 1 && txn.state().left() > 0 {
            txn.requeue(&self.back)?;
        } else {
            txn.requeue_in_front(&self.back)?;
        }
        // The other members may be dead, so this may be the last farmer of all. Of many
        // farmers it is not the last, and a thousand may wait for the lock to leave.
        let live = txn.state().live;
        if live <= 1 || live <= MANY && txn.state().is_complete() {
            txn.cut_tails()?;
        }
        if live <= 1 {
            txn.gather()?;
        }
        let state = txn.state_mut();
        state.remove_member(self.feed.is_some(), self.is_quarantined);
        let back: Ids = self.back.iter().map(|(task, _)| task.id).collect();
        let mut state = txn.commit(Act::Turn {
            by: self.number,
            settled: upto,
            ended: self.ended(),
            claim: Ids::default(),
            back,
            fed: 0,
            fed_all: self.feed.is_some(),
            leave: true,
        })?;
        // If the journal stays in `nodes/`, the others find by the log that we have left.
        let _ = membership::retire(&self.workdir.dir, &self.farmer, state.seq);
        state.feeding += u32::from(self.feed.as_ref().is_some_and(|feed| !feed.is_whole()));
        Ok(state)
    }
}

/// Whole seconds, and no fewer than there are.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Records results, and cancelled tasks that have none.
fn settle(
    txn: &mut Txn<'_>,
    ends: &[(Task, End)],
    (cancels, cancelled): (&Cancels, &[Task]),
) -> Result<()> {
    txn.settle(ends.iter().map(as_result))?;
    cancels.settle(txn, cancelled, ends.iter().map(|(_, end)| end))
}

fn as_result((task, end): &(Task, End)) -> (&[u8], &End) {
    (&task.line, end)
}
