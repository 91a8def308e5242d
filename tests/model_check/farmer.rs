//! A simulated farmer: it drives a `Session` as the ledger of the farm does,
//! with slots that only let time pass.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pytf::model::ids::{AttemptSet, Ids};
use pytf::model::liveness::{Verdict, good_for};
use pytf::model::outcome::{Destination, Outcome};
use pytf::model::record::{End, Header, Record};
use pytf::model::retry::RetryRule;
use pytf::model::task::{Task, TaskId};
use pytf::model::tasklist::Dialect;
use pytf::workdir::add::{NewTasks, add};
use pytf::workdir::cancel::{Author, Wanted, cancel};
use pytf::workdir::edit::{Line, edit, tasks, waiting_tasks};
use pytf::workdir::error::Error;
use pytf::workdir::files::Committed;
use pytf::workdir::liveness;
use pytf::workdir::liveness::own_node::Node as _;
use pytf::workdir::liveness::{JournalView, Waiting as _};
use pytf::workdir::mechanism::Mechanism;
use pytf::workdir::membership;
use pytf::workdir::open::Workdir;
use pytf::workdir::orders::{Cancel, Order, continue_from, give};
use pytf::workdir::quarantine::OutcomeCursor;
use pytf::workdir::recovery::{self, Fencer, Suspect};
use pytf::workdir::reset::reset;
use pytf::workdir::resume::{
    Bytes, EditPolicy, ListFailure, ListFile, ListSource, prepare, prepare_stream,
};
use pytf::workdir::retry::{Wanted as Retried, retry};
use pytf::workdir::session::Session;
use pytf::workdir::state::ListIdentity;
use pytf::workdir::transaction::RequeueReason;

use crate::pipe::PipedDir;
use crate::world::{Shared, SimNode, SimWaiting, TAKEOVER, die};

/// Where its tasks come from.
#[derive(Clone)]
pub(crate) enum Source {
    List(Arc<ListFile>),
    /// Somebody writes to it while it is read.
    Changing(Arc<ChangingList>),
    Stream(u64),
}

/// A list that becomes another one when some pieces of it have been read.
pub(crate) struct ChangingList {
    pub(crate) before: Vec<u8>,
    pub(crate) after: Vec<u8>,
    /// It changes before this piece.
    pub(crate) at: u64,
    pub(crate) read: AtomicU64,
}

/// An open file of it.
struct OpenList(Arc<ChangingList>);

impl ChangingList {
    fn list(self: &Arc<Self>) -> ListFile {
        ListFile::of(Path::new("list"), Box::new(OpenList(self.clone()))).unwrap()
    }

    fn now(&self) -> &[u8] {
        if self.read.load(Ordering::SeqCst) < self.at {
            &self.before
        } else {
            &self.after
        }
    }
}

impl Bytes for OpenList {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.0.read.fetch_add(1, Ordering::SeqCst);
        let rest = self.0.now().get(usize::try_from(offset).unwrap()..);
        let rest = rest.unwrap_or_default();
        let piece = &rest[..rest.len().min(buf.len()).min(40)];
        buf[..piece.len()].copy_from_slice(piece);
        Ok(piece.len())
    }

    fn identity(&self) -> std::io::Result<ListIdentity> {
        let is_after = self.0.read.load(Ordering::SeqCst) >= self.0.at;
        Ok(ListIdentity {
            len: self.0.now().len() as u64,
            mtime: i64::from(is_after),
            ..ListIdentity::default()
        })
    }
}

/// What kind of farmer it is.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) source: Source,
    pub(crate) mechanism: Mechanism,
    pub(crate) slots: usize,
    /// When it is told to leave, if the run is not complete before.
    pub(crate) leaves_at: u64,
    /// The longest that its tasks run.
    pub(crate) longest: u64,
    pub(crate) retries: bool,
    /// One task in so many fails at its first attempt.
    pub(crate) fails: u64,
    /// 1 when such tasks may fail more than once, after each time that they are put back.
    pub(crate) fails_again: u64,
    /// For how long it stays when the run is complete; 0: it does not.
    pub(crate) follows: u64,
    /// Whether it doubts its node now and then.
    pub(crate) doubts: bool,
    /// When it tries a task again by itself.
    pub(crate) again: RetryRule,
    /// Each task with such a number is the death of its farmer, one in so many; 0: none is.
    pub(crate) kills: u64,
}

/// A task that runs.
struct Run {
    task: Task,
    began: u64,
    ends: u64,
}

pub(crate) struct Farmer {
    shared: Arc<Shared>,
    me: usize,
    plan: Plan,
    waiting: SimWaiting,
    session: Session,
    slots: Vec<Option<Run>>,
    queue: VecDeque<Task>,
    /// In the journal, not yet known to be synced.
    unsynced: Vec<(u64, Destination)>,
    looked: u64,
    watched: u64,
    turned: u64,
    beat: u64,
    life: u64,
    refused_since: Option<u64>,
    fed: u64,
    /// Failed here.
    failures: Vec<TaskId>,
    /// Failed here, and kept back until then.
    held: Vec<(u64, Task)>,
    /// While it claims nothing: what it knows to have ended.
    doubt: Option<OutcomeCursor>,
    /// It was ordered to finish what runs, and to leave.
    drains: bool,
    /// Since when the run is complete.
    over_since: Option<u64>,
    /// It has left: nothing was left to do.
    has_left: bool,
    /// What it knows to be cancelled.
    cancelled: AttemptSet,
}

fn workdir(shared: &Arc<Shared>, me: usize, mechanism: Mechanism) -> Workdir {
    Workdir {
        dir: Arc::new(PipedDir::new(shared.clone(), me)),
        path: "/workdir".into(),
        mechanism,
    }
}

/// Takes an error for what it is; a workdir that is damaged breaks a promise.
fn judge(shared: &Shared, me: usize, error: &Error) {
    let mut world = shared.lock();
    world.trace(me, || format!("ERROR: {error}"));
    let cut_off = world.actors[me].was_cut_off() || world.actors[me].was_refused;
    match error {
        // That others removed a file in the moment between is nobody's fault.
        Error::Io { source, .. }
            if source.raw_os_error() == Some(libc::ESTALE)
                && !world
                    .actors
                    .iter()
                    .any(|actor| actor.was_refused || actor.frozen > 0) =>
        {
            let name = world.actors[me].name.clone();
            world.violated(format!("{name} ended by a stale handle: {error}"));
        }
        Error::Io { .. } | Error::HeldTooLong => {}
        Error::Fenced if cut_off => {}
        error => {
            let name = world.actors[me].name.clone();
            world.violated(format!("{name}: {error}"));
        }
    }
}

/// `pytf retry`.
pub(crate) fn run_retry(shared: &Arc<Shared>, me: usize, mechanism: Mechanism, wanted: &Retried) {
    let workdir = workdir(shared, me, mechanism);
    let mut waiting = SimWaiting::new(shared, me);
    // As the program calls itself: with blanks, since it is no farmer and has no journal.
    let who = format!("pytf retry, process {me}");
    if let Err(error) = retry(&workdir, &who, &mut waiting, wanted) {
        judge(shared, me, &error);
    }
}

/// `pytf pause` and the others.
pub(crate) fn run_order(shared: &Arc<Shared>, me: usize, mechanism: Mechanism, order: &Order) {
    let workdir = workdir(shared, me, mechanism);
    let mut waiting = SimWaiting::new(shared, me);
    let who = format!("pytf {}, process {me}", order.word());
    match give(&workdir, &who, &mut waiting, order) {
        // There is no run yet.
        Ok(_) | Err(Error::Refused(_)) => {}
        Err(error) => judge(shared, me, &error),
    }
}

/// `pytf add`.
pub(crate) fn run_add(shared: &Arc<Shared>, me: usize, mechanism: Mechanism, lines: &[u64]) {
    let workdir = workdir(shared, me, mechanism);
    let mut waiting = SimWaiting::new(shared, me);
    let who = format!("pytf add, process {me}");
    let text: Vec<Vec<u8>> = lines.iter().map(|line| crate::line(*line)).collect();
    let tasks = NewTasks::of_stream(&text.join(&b'\n')[..], "lines", &Dialect::default());
    match add(&workdir, &who, &mut waiting, &tasks.unwrap(), None) {
        Ok((ids, _)) => shared.lock().oracle.answered(&ids, lines),
        Err(error) => judge(shared, me, &error),
    }
}

/// `pytf cancel`.
pub(crate) fn run_cancel(shared: &Arc<Shared>, me: usize, mechanism: Mechanism, wanted: &Wanted) {
    let workdir = workdir(shared, me, mechanism);
    let mut waiting = SimWaiting::new(shared, me);
    let who = format!("pytf cancel, process {me}");
    let author = Author::default();
    match cancel(&workdir, &who, &mut waiting, wanted, &author) {
        Ok(_) | Err(Error::Refused(_)) => {}
        Err(error) => judge(shared, me, &error),
    }
}

/// `pytf reset`.
pub(crate) fn run_reset(shared: &Arc<Shared>, me: usize, mechanism: Mechanism, from: u64) {
    let workdir = workdir(shared, me, mechanism);
    let mut waiting = SimWaiting::new(shared, me);
    let who = format!("pytf reset, process {me}");
    match reset(&workdir, &who, &mut waiting, TaskId(from)) {
        // Somebody works on the run, or there is none with such a task.
        Ok(_) | Err(Error::InUse { .. } | Error::Refused(_)) => {}
        Err(error) => judge(shared, me, &error),
    }
}

/// `pytf edit`, by a user who deletes, changes, moves and adds lines, one of `numbers`.
pub(crate) fn run_edit(shared: &Arc<Shared>, me: usize, mechanism: Mechanism, numbers: u64) {
    let workdir = workdir(shared, me, mechanism);
    let mut waiting = SimWaiting::new(shared, me);
    let who = format!("pytf edit, process {me}");
    let before = match waiting_tasks(&workdir, &who, &mut waiting) {
        Ok(before) => before,
        // There is no run yet.
        Err(Error::Refused(_)) => return,
        Err(error) => return judge(shared, me, &error),
    };
    let copy = tasks(&before).map(|(id, line)| (id.0, crate::number_of(line).unwrap()));
    let copy: BTreeMap<u64, u64> = copy.collect();
    // The editor is open.
    let time = shared.between(0, TAKEOVER / 2);
    shared.sleep(me, time);
    let text = edited_text(shared, &before, numbers);
    if text.is_empty() {
        // The program takes that for a mistake.
        return;
    }
    let lines: Vec<Vec<u8>> = text.iter().map(|(_, line)| crate::line(*line)).collect();
    let after = text.iter().zip(&lines).map(|((id, _), line)| match id {
        Some(id) => Line::Task(TaskId(*id), line),
        None => Line::New(line),
    });
    let after: Vec<Line<'_>> = after.collect();
    let author = Author::default();
    match edit(&workdir, &who, &mut waiting, (&before, &after), &author) {
        Ok(None) => {}
        Ok(Some((state, edited))) => {
            let mut world = shared.lock();
            let judged = world.oracle.edited(state.seq, &copy, &text, &edited);
            if let Err(what) = judged {
                world.violated(what);
            }
        }
        Err(error) => judge(shared, me, &error),
    }
}

/// What a user makes of the lines of tasks: each an id, or none, and which line it is.
fn edited_text(shared: &Shared, before: &[u8], numbers: u64) -> Vec<(Option<u64>, u64)> {
    let mut text = Vec::new();
    for (id, line) in tasks(before) {
        let old = (Some(id.0), crate::number_of(line).unwrap());
        match shared.between(0, 11) {
            0 => {}
            1 => text.push((old.0, shared.between(0, numbers))),
            2 => text.extend([old, (None, shared.between(0, numbers))]),
            _ => text.push(old),
        }
    }
    if shared.chance(2) && !text.is_empty() {
        let by = shared.between(0, text.len() as u64 - 1);
        text.rotate_left(usize::try_from(by).unwrap());
    }
    text
}

/// So often at most it joins again.
const LIVES: u32 = 4;

/// `pytf run`, from its start to its end. Others may take it for dead: then it joins
/// again, under another name.
pub(crate) fn run(shared: &Arc<Shared>, me: usize, plan: &Plan) {
    let mut before = None;
    let mut orders: Option<Committed> = None;
    for life in 0..LIVES {
        match Farmer::start(shared.clone(), me, plan.clone(), (life, before)) {
            Ok(mut farmer) => {
                let known = *orders.get_or_insert(farmer.session.known_orders());
                let dir = farmer.session.workdir().dir.clone();
                if continue_from(&dir, farmer.session.state(), known).unwrap_or(true) {
                    farmer.session.obey_since(known);
                }
                before = farmer.work_and_leave();
            }
            Err(error) => return judge(shared, me, &error),
        }
        let is_over = shared.now() > plan.leaves_at || matches!(plan.source, Source::Stream(_));
        if before.is_none() || is_over {
            return;
        }
        shared.lock().actors[me].renew();
    }
}

impl Farmer {
    /// `before` is its name, when it joins again.
    fn start(
        shared: Arc<Shared>,
        me: usize,
        plan: Plan,
        (life, before): (u32, Option<String>),
    ) -> Result<Self, Error> {
        let workdir = workdir(&shared, me, plan.mechanism);
        let mut waiting = SimWaiting::new(&shared, me);
        match before {
            Some(before) => seal_before(&workdir, &before, &mut waiting)?,
            None => prelude(&workdir, &plan, &mut waiting)?,
        }
        let name = shared.lock().actors[me].name.clone();
        let node = SimNode::of(&shared, me).id().cloned();
        let header = |nth: u32| {
            let farmer = format!("{name}.job.{me}.{}", life * 100 + nth);
            shared.lock().oracle.named(&farmer, me);
            Header {
                version: 1,
                farmer,
                host: "localhost".into(),
                pid: u32::try_from(me).unwrap_or(0),
                began: None,
                node: node.clone(),
                job: None,
                labels: Vec::new(),
                rank: None,
                step: None,
                restart: None,
                slots: 1,
                follows: false,
                devices: Vec::new(),
                at: 0,
                pytf: String::new(),
                cpus: None,
                memory: None,
                runner: None,
            }
        };
        let feeds = matches!(plan.source, Source::Stream(_));
        let journal = Session::journal_for(&workdir, header)?;
        // Others may find it silent, and not yet in the log.
        shared.lock().fate_of_first(me);
        let claim = |state: &pytf::workdir::state::State| (plan.slots as u64).min(state.left());
        let (session, _, turn) = Session::join(&workdir, journal, feeds, claim, &mut waiting)?;
        shared.lock().fate_of_first(me);
        shared.answered(me);
        let now = shared.now();
        // Frozen since, it may be sealed by now.
        let life = u64::try_from(turn.locked.as_micros()).unwrap_or(0);
        Ok(Self {
            slots: (0..plan.slots).map(|_| None).collect(),
            shared,
            me,
            plan,
            waiting,
            session,
            queue: turn.tasks.into(),
            unsynced: Vec::new(),
            looked: now,
            watched: now,
            turned: now,
            beat: now,
            life,
            refused_since: None,
            fed: 0,
            failures: Vec::new(),
            held: Vec::new(),
            doubt: None,
            drains: false,
            over_since: None,
            has_left: false,
            cancelled: AttemptSet::default(),
        })
    }

    /// Its name, when others have taken it for dead.
    fn work_and_leave(mut self) -> Option<String> {
        let name = self.session.farmer().to_owned();
        loop {
            self.run_slots();
            let worked = self.work();
            let now = self.shared.now();
            match worked {
                Ok(true) => break,
                Ok(false) => self.refused_since = None,
                Err(error) => {
                    judge(&self.shared, self.me, &error);
                    if matches!(error, Error::Fenced) {
                        self.stop();
                        return Some(name);
                    }
                    let since = *self.refused_since.get_or_insert(now);
                    self.check_verdict(&error, since);
                    if !matches!(error, Error::Io { .. } | Error::HeldTooLong)
                        || now.saturating_sub(since) > 2 * TAKEOVER
                    {
                        break;
                    }
                    self.shared.sleep(self.me, 200_000);
                }
            }
            if now > self.plan.leaves_at {
                break;
            }
            let pause = self.shared.between(5_000, 60_000);
            self.shared.sleep(self.me, pause);
        }
        matches!(self.leave(), Err(Error::Fenced)).then_some(name)
    }

    /// What cannot be read at one moment is read at the next, unless it is not there.
    fn check_verdict(&self, error: &Error, since: u64) {
        let mut world = self.shared.lock();
        let actor = &world.actors[self.me];
        let is_excused = actor.was_refused || actor.frozen > 0;
        let is_verdict = matches!(error, Error::Io { source, .. }
            if source.kind() == std::io::ErrorKind::InvalidData);
        if is_verdict && !is_excused && world.now > since + TAKEOVER {
            let name = self.session.farmer();
            world.violated(format!("{name} cannot go on since {since}: {error}"));
        }
    }

    /// What runs is another's: its end is not recorded.
    fn stop(&mut self) {
        let mut world = self.shared.lock();
        for run in self.slots.iter_mut().filter_map(Option::take) {
            world.oracle.ends(self.me, run.task.id.0);
        }
    }

    /// Everything that is due; true when the run is over for us.
    fn work(&mut self) -> Result<bool, Error> {
        self.feed();
        let now = self.shared.now();
        let is_kept = self.claims();
        self.give_back_held(|until, _| !is_kept || until <= now);
        let is_idle = self.slots.iter().any(Option::is_none) && self.queue.is_empty();
        self.doubt()?;
        let may_claim = is_idle && self.claims() && self.session.state().left() > 0;
        if may_claim || self.session.has_pending() || !self.is_good() {
            self.turn()?;
        }
        if now.saturating_sub(self.beat) >= TAKEOVER / 6 {
            self.sync()?;
            let has_read = self.session.heartbeat(now)?;
            self.beat = self.shared.now();
            if !has_read {
                let _ = self.session.refresh_state();
            }
            if self.is_good() {
                self.life = now;
            }
        }
        if self.session.state().live > 1 && now.saturating_sub(self.watched) > TAKEOVER / 8 {
            self.watch(is_idle)?;
        }
        if self.is_over(now)? && self.leave_if_none_waits()? {
            return Ok(true);
        }
        self.obey()
    }

    /// Leaves, unless tasks were added meanwhile.
    fn leave_if_none_waits(&mut self) -> Result<bool, Error> {
        self.sync()?;
        let last = Record::Leave {
            at: self.shared.now(),
            why: String::new(),
            longest_wait_us: 0,
        };
        let number = self.session.number();
        self.shared.lock().oracle.is_idle(number, true);
        let left =
            self.session
                .leave_if_none_waits(&last, |state| state.left() > 0, &mut self.waiting);
        self.shared.lock().oracle.is_idle(number, false);
        self.has_left = left?.is_some();
        Ok(self.has_left)
    }

    /// Gives tasks back that are kept back.
    fn give_back_held(&mut self, is_due: impl Fn(u64, &Task) -> bool) {
        for (_, task) in self
            .held
            .extract_if(.., |(until, task)| is_due(*until, task))
        {
            self.session.give_back(task, Some(RequeueReason::Again));
        }
    }

    /// Whether it wants tasks.
    fn claims(&self) -> bool {
        self.doubt.is_none() && !self.drains && !self.session.state().paused
    }

    /// Does what was ordered; true when it is to leave now.
    fn obey(&mut self) -> Result<bool, Error> {
        let mut leaves = false;
        for order in self.session.new_orders()? {
            match order {
                Order::Stop => leaves = true,
                Order::Drain { .. } => self.drains = true,
                Order::Cancel(cancel) => self.cancel(&cancel),
                Order::Close => self.plan.follows = 0,
                _ => {}
            }
        }
        if !self.claims() {
            for task in std::mem::take(&mut self.queue) {
                self.session.give_back(task, None);
            }
        }
        let runs = self.slots.iter().any(Option::is_some);
        Ok(leaves || self.drains && !runs && !self.session.has_pending())
    }

    /// Ends what was cancelled. What ends by itself at that moment keeps its own end.
    fn cancel(&mut self, cancel: &Cancel) {
        self.cancelled.insert(cancel.attempt, &cancel.ids);
        let is_cancelled =
            |task: &Task| task.attempt == cancel.attempt && cancel.ids.contains(task.id);
        let queue = std::mem::take(&mut self.queue);
        let (out, stay) = queue.into_iter().partition::<VecDeque<_>, _>(is_cancelled);
        self.queue = stay;
        for task in out {
            self.session.give_back(task, None);
        }
        self.give_back_held(|_, task| is_cancelled(task));
        for slot in 0..self.slots.len() {
            let runs = self.slots[slot].take_if(|run| is_cancelled(&run.task));
            let Some(run) = runs else { continue };
            let outcome = match self.shared.between(0, 5) {
                0 => Outcome::Exit(0),
                1 => Outcome::Exit(1),
                _ => Outcome::Cancelled,
            };
            self.end(run, outcome);
        }
    }

    /// What it decides at a time so long after an order that it must know it is a fault, unless
    /// it was refused something or stood still meanwhile.
    fn is_late(&self, at: u64, what: &str, since: Option<u64>) {
        let mut world = self.shared.lock();
        let actor = &world.actors[self.me];
        let is_excused = actor.was_refused || actor.frozen > 0;
        let is_late = since.is_some_and(|since| at > since + TAKEOVER);
        if is_late && !is_excused {
            let name = self.session.farmer();
            world.violated(format!("{name} {what} since {since:?}"));
        }
    }

    /// Whether tasks may start.
    fn is_good(&self) -> bool {
        let good_for = good_for(Duration::from_micros(TAKEOVER));
        self.shared.answered(self.me);
        let age = Duration::from_micros(self.shared.now().saturating_sub(self.life));
        age < good_for
    }

    // ---- slots -----------------------------------------------------------

    fn run_slots(&mut self) {
        self.shared.answered(self.me);
        let now = self.shared.now();
        for slot in 0..self.slots.len() {
            if self.slots[slot].as_ref().is_some_and(|run| run.ends <= now)
                && let Some(run) = self.slots[slot].take()
            {
                if self.plan.kills > 0 && run.task.id.0 % self.plan.kills == 1 {
                    self.shared.lock().kill(self.me);
                    die();
                }
                let is_due = run.task.id.0 % self.plan.fails == self.plan.fails / 2;
                let most = self.plan.fails_again * run.task.id.0 % 4;
                let is_failure =
                    is_due && (run.task.attempt == 1 || u64::from(run.task.failures) < most);
                self.end(run, Outcome::Exit(i32::from(is_failure)));
            }
            if self.slots[slot].is_none()
                && self.is_good()
                && let Some(task) = self.queue.pop_front()
            {
                self.begin(slot, task, now);
            }
        }
    }

    fn begin(&mut self, slot: usize, task: Task, now: u64) {
        let paused = self.shared.lock().oracle.paused_since();
        self.is_late(now, "starts a task of a run that is paused", paused);
        let (id, attempt) = (task.id, task.attempt);
        let cancelled = self.shared.lock().oracle.cancelled_since(id.0, attempt);
        self.is_late(now, "starts a task that is cancelled", cancelled);
        if self.cancelled.contains(id, attempt) {
            let name = self.session.farmer();
            let what = format!("{name} starts task {id}, and knows that it is cancelled");
            self.shared.lock().violated(what);
        }
        let mut world = self.shared.lock();
        if world.actors[self.me].is_dead {
            // Since it gave the lock back, which tells nobody of an error.
            return;
        }
        world.trace(self.me, || format!("starts task {}", task.id));
        if !world.oracle.owns(self.session.number(), task.id.0) {
            let name = self.session.farmer();
            world.violated(format!(
                "{name} starts task {}, which is not its own",
                task.id
            ));
        }
        if let Err(what) = world.oracle.check_order(task.id.0) {
            world.violated(what);
        }
        // Whoever was cut off may run on for a while, but starts nothing that is another's.
        for other in world.oracle.starts(self.me, task.id.0) {
            if other == self.me || !world.actors[other].was_cut_off() {
                let what = format!("task {} runs twice at the same time", task.id);
                world.violated(what);
                break;
            }
        }
        let ends = now + world.random.between(1_000, self.plan.longest);
        drop(world);
        let began = now;
        self.slots[slot] = Some(Run { task, began, ends });
    }

    /// An end goes into the journal from the slot, as in the farm.
    fn end(&mut self, Run { task, began, .. }: Run, outcome: Outcome) {
        let now = self.shared.now();
        let mut world = self.shared.lock();
        world.trace(self.me, || format!("task {} ends: {outcome}", task.id));
        world.oracle.ends(self.me, task.id.0);
        drop(world);
        let again = self.plan.again.again(&outcome, task.failures);
        let end = End {
            id: task.id,
            attempt: task.attempt,
            slot: 0,
            at: began,
            us: now.saturating_sub(began),
            outcome,
            again: again.map(|delay| u64::try_from(delay.as_micros()).unwrap()),
            used: None,
            log: None,
            dir: None,
            skipped: None,
            lease: None,
        };
        let to = end.destination();
        let journal = self.session.journal();
        let mut journal = journal.lock();
        journal.push(&Record::End(end.clone()));
        let is_written = journal.write().is_ok();
        drop(journal);
        if to == Destination::ToProcess && again.is_none() {
            self.session
                .give_back(task, Some(RequeueReason::Interrupted));
            return;
        }
        if end.outcome.is_failure() {
            self.failures.push(task.id);
        }
        self.unsynced.push((task.id.0, to));
        if is_written {
            self.recorded(task.id.0, to, false);
        }
        match end.again {
            Some(delay) => self.held.push((now + delay, task)),
            None => self.session.settle(task, end),
        }
    }

    /// A result is recorded; one of a farmer that was frozen may come too late.
    fn recorded(&self, id: u64, to: Destination, is_synced: bool) {
        let mut world = self.shared.lock();
        let actor = &world.actors[self.me];
        if !actor.was_cut_off() && (is_synced || !actor.was_refused) {
            let number = self.session.number();
            world.oracle.record(number, id, to, is_synced);
        }
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.session.sync_journal()?;
        for (id, to) in std::mem::take(&mut self.unsynced) {
            self.recorded(id, to, true);
        }
        Ok(())
    }

    // ---- the turn --------------------------------------------------------

    fn turn(&mut self) -> Result<(), Error> {
        let copy = if self.shared.chance(4) {
            self.session
                .copy_queue(self.session.state().most_claimed())?
        } else {
            None
        };
        if self.shared.chance(12)
            && let Some(task) = self.queue.pop_back()
        {
            self.session.give_back(task, None);
        }
        let journal = self.session.journal();
        let (begun, is_doubtful) = (self.shared.now(), !self.is_good());
        if is_doubtful {
            journal.lock().push(&Record::Beat { at: begun });
        }
        let upto = journal.lock().end();
        self.sync()?;
        let idle = self.slots.iter().filter(|slot| slot.is_none()).count() as u64;
        let queued = self.queue.len() as u64;
        let ahead = self.shared.between(0, 2);
        let is_trusted = self.claims();
        let claim = |_: &_| {
            if is_trusted {
                (idle + ahead).saturating_sub(queued)
            } else {
                0
            }
        };
        let turn = self.session.turn(upto, copy, claim, &mut self.waiting)?;
        // Without heartbeats it knows nothing of orders, and asks for the lock to know more.
        if !turn.tasks.is_empty() && !is_doubtful {
            let leaving = self
                .shared
                .lock()
                .oracle
                .leaving_since(self.session.number());
            // Before it waited for the lock.
            self.is_late(begun, "claims, though it is to leave", leaving);
        }
        self.queue.extend(turn.tasks);
        self.turned = self.shared.now();
        if is_doubtful {
            self.life = begun;
        }
        Ok(())
    }

    /// Gives what failed here to others, listens to them, and claims again.
    fn doubt(&mut self) -> Result<(), Error> {
        if !self.plan.doubts || self.session.has_pending() || !self.held.is_empty() {
            return Ok(());
        }
        if self.doubt.is_none() {
            if self.failures.is_empty() || !self.shared.chance(3) {
                return Ok(());
            }
            let failures: Ids = std::mem::take(&mut self.failures).into_iter().collect();
            let asked = self.session.quarantine(&failures, &mut self.waiting)?;
            if asked.is_some_and(|ids| !ids.is_empty()) {
                self.doubt = Some(OutcomeCursor::all(self.session.state()));
                for task in std::mem::take(&mut self.queue) {
                    self.session.give_back(task, None);
                }
            }
            return Ok(());
        }
        self.session.refresh_state()?;
        if self.session.state().claiming() == 0 || self.shared.chance(40) {
            self.session.release(&mut self.waiting)?;
            self.doubt = None;
        } else if let Some(seen) = &mut self.doubt {
            let news = self.session.new_outcomes(seen, &mut self.waiting)?;
            let mut world = self.shared.lock();
            let is_so = |(id, to): &(TaskId, Destination)| {
                *to != Destination::Finished || world.oracle.is_finished(id.0)
            };
            if let Some((id, _)) = news.iter().find(|one| !is_so(one)) {
                let what = format!("task {id} is said to be finished");
                world.violated(what);
            }
        }
        Ok(())
    }

    fn feed(&mut self) {
        let Source::Stream(n) = self.plan.source else {
            return;
        };
        let some = self.shared.between(0, 4);
        let Some(feed) = self.session.feed() else {
            return;
        };
        if !feed.is_open() {
            return;
        }
        let upto = n.min(self.fed + some);
        feed.arrive((self.fed..upto).map(crate::line).collect());
        self.fed = upto;
        if upto == n {
            feed.end(true);
        }
    }

    // ---- the others ------------------------------------------------------

    fn watch(&mut self, is_idle: bool) -> Result<(), Error> {
        self.watched = self.shared.now();
        let workdir = self.session.workdir().clone();
        let all = membership::present(&workdir.dir)?;
        let me = self.session.farmer().to_owned();
        let after = all.partition_point(|name| *name <= me);
        let ring = all[after..].iter().chain(&all[..after]);
        let ring = ring.filter(|name| **name != me);
        let waiting = &mut self.waiting;
        for farmer in ring.take(if is_idle { 64 } else { 2 }) {
            let judged = liveness::judge(&workdir, farmer, waiting)?;
            if let Some((seen, Verdict::Dead(_))) = judged {
                self.session.fence(farmer, Some(&seen), waiting)?;
            }
        }
        if is_idle {
            for farmer in membership::without_journal(&workdir.dir, &all)? {
                if matches!(liveness::judge_missing(&farmer, waiting), Verdict::Dead(_)) {
                    self.session.fence(&farmer, None, waiting)?;
                }
            }
        }
        let now = self.waiting.now();
        if let Some(watcher) = self.waiting.watcher() {
            let next = now + Duration::from_micros(TAKEOVER / 8);
            watcher.observer.rests(now, next);
        }
        Ok(())
    }

    fn is_over(&mut self, now: u64) -> Result<bool, Error> {
        let is_idle = self.slots.iter().all(Option::is_none) && self.queue.is_empty();
        let is_idle = is_idle && self.held.is_empty();
        let is_feeding = self.session.feed().is_some_and(|feed| feed.is_open());
        let has_more = self.session.has_pending() || self.session.state().left() > 0;
        if !is_idle || is_feeding || has_more {
            return Ok(false);
        }
        if now.saturating_sub(self.looked) < TAKEOVER / 10 {
            return Ok(false);
        }
        self.looked = now;
        self.session.refresh_state()?;
        let state = self.session.state();
        if !state.is_complete() {
            self.over_since = None;
            return Ok(state.live < 2 && state.left() == 0);
        }
        if state.pending() > 0 && state.claimed() > 0 {
            return Ok(false);
        }
        let since = *self.over_since.get_or_insert(now);
        Ok(now - since >= self.plan.follows)
    }

    fn leave(mut self) -> Result<(), Error> {
        if self.has_left {
            return Ok(());
        }
        for slot in 0..self.slots.len() {
            if let Some(run) = self.slots[slot].take() {
                self.end(run, Outcome::Interrupted);
            }
        }
        for task in std::mem::take(&mut self.queue) {
            self.session.give_back(task, None);
        }
        self.give_back_held(|_, _| true);
        let (at, why) = (self.shared.now(), String::new());
        let journal = self.session.journal();
        journal.lock().push(&Record::Leave {
            at,
            why,
            longest_wait_us: 0,
        });
        let upto = journal.lock().end();
        let left = self.sync();
        let left = left.and_then(|()| self.session.leave(upto, &mut self.waiting));
        if let Err(error) = &left {
            judge(&self.shared, self.me, error);
        }
        left.map(drop)
    }
}

/// Lines may come and go.
const EDITS: EditPolicy = EditPolicy {
    strict: false,
    drop: true,
};

/// What it had claimed under another name goes back where nobody has seen to that.
fn seal_before(workdir: &Workdir, before: &str, waiting: &mut SimWaiting) -> Result<(), Error> {
    let Some(watcher) = waiting.watcher() else {
        return Ok(());
    };
    if let Some(seen) = liveness::look_at(workdir, before, watcher)? {
        fence(workdir, before, &seen, waiting)?;
    }
    Ok(())
}

fn fence(
    workdir: &Workdir,
    farmer: &str,
    seen: &JournalView,
    waiting: &mut SimWaiting,
) -> Result<(), Error> {
    let (by, journal) = (Fencer::Outsider("a start"), Some(seen));
    recovery::fence(workdir, by, waiting, Suspect { farmer, journal }).map(drop)
}

fn source(list: &ListFile) -> ListSource<'_> {
    ListSource {
        list,
        folder: None,
        runner: None,
        edits: EDITS,
    }
}

/// What comes before joining.
fn prelude(workdir: &Workdir, plan: &Plan, waiting: &mut SimWaiting) -> Result<(), Error> {
    membership::check_age(&workdir.dir)?;
    match &plan.source {
        Source::List(list) => match prepare(workdir, "a start", waiting, source(list)) {
            Ok(_) => {}
            Err(ListFailure::Workdir(error)) => return Err(error),
            Err(error) => panic!("{error}"),
        },
        Source::Changing(bytes) => loop {
            let list = bytes.list();
            match prepare(workdir, "a start", waiting, source(&list)) {
                Ok(_) => break,
                Err(ListFailure::Changing { .. }) => {}
                Err(ListFailure::Workdir(error)) => return Err(error),
                Err(error) => panic!("{error}"),
            }
        },
        Source::Stream(_) => {
            prepare_stream(workdir, "a start", waiting, None, None)?;
        }
    }
    for farmer in membership::present(&workdir.dir)? {
        if let Some((seen, Verdict::Dead(_))) = liveness::judge(workdir, &farmer, waiting)? {
            fence(workdir, &farmer, &seen, waiting)?;
        }
    }
    if plan.retries {
        retry(workdir, "a start", waiting, &Retried::All)?;
    }
    Ok(())
}
