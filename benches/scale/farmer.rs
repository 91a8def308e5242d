//! One farmer: its ledger as a state machine.
//!
//! It does what `farm::ledger` and `farm::neighbours` do, without threads: what is
//! decided is decided by `model::turn`, `model::pace` and `model::watch`, what is
//! written is written by `Session`.

use std::time::Duration;

use anyhow::{Result, ensure};
use pytf::model::class::Class;
use pytf::model::needs::Needs;
use pytf::model::pace::{Ends, Pace};
use pytf::model::polling::{first_watch, look_every, watch_every};
use pytf::model::record::{End, Header, Record};
use pytf::model::task::Task;
use pytf::model::turn::LedgerView;
use pytf::workdir::open::Workdir;
use pytf::workdir::session::{Session, Turn};
use pytf::workdir::state::State;
use pytf::workdir::transaction::Claim;

use crate::common::{Common, Plan, What};
use crate::slots::Slots;
use crate::waiting::{SimWaiting, TAKEOVER, Wait};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Joining,
    Working,
    Turning,
    Leaving,
    Gone,
}

pub(crate) struct Farmer {
    number: u32,
    workdir: Workdir,
    waiting: Option<SimWaiting>,
    session: Option<Session>,
    journal: Option<pytf::workdir::journal::Journal>,
    phase: Phase,
    pace: Pace,
    slots: Slots,
    /// Ends in the journal that no turn has taken yet.
    reports: Vec<(Task, End)>,
    /// What the next turn tells the pace.
    ends: Ends,
    /// The turn under way: since when, since when it has the lock, the end of the
    /// journal.
    began: u64,
    locked: u64,
    upto: u64,
    wait: Option<Wait>,
    copy: Option<pytf::workdir::transaction::QueueCopy>,
    done: Option<Turn>,
    had_tasks: bool,
    turned: u64,
    beat: u64,
    noted: u64,
    looked: u64,
    watch_at: u64,
    busy: u64,
    compacted: u64,
    wake_at: u64,
    /// For how many tasks the last turn asked.
    wanted: u64,
    /// None of the waiting tasks fitted, and how often something had become free by then.
    unfit: Option<u64>,
}

/// How a farmer claims, as in `farm::placement`.
fn claim(pace: &Pace, slots: &Slots, state: &State, wanted: &mut u64) -> Claim<'static> {
    let left = state.left();
    let most = pace.claim(slots.idle(), slots.queued(), state.live, left);
    *wanted = most.min(left);
    match slots.claimer(pace.lookahead(state.live, left)) {
        None => most.into(),
        Some(mut claimer) => Claim::fitting(*wanted, move |class: &Class| {
            claimer.one_more(&class.needs(&Needs::default()))
        }),
    }
}

impl Farmer {
    pub(crate) fn new(number: u32, plan: &Plan, workdir: Workdir) -> Self {
        Self {
            number,
            workdir,
            waiting: None,
            session: None,
            journal: None,
            phase: Phase::Joining,
            pace: Pace::new(plan.launched()),
            slots: Slots::new(number, plan.slots, plan.mix),
            reports: Vec::new(),
            ends: Ends::default(),
            began: 0,
            locked: 0,
            upto: 0,
            wait: None,
            copy: None,
            done: None,
            had_tasks: false,
            turned: 0,
            beat: 0,
            noted: 0,
            looked: 0,
            watch_at: 0,
            busy: 0,
            compacted: 0,
            wake_at: u64::MAX,
            wanted: 0,
            unfit: None,
        }
    }

    fn session(&mut self) -> &mut Session {
        self.session.as_mut().expect("a farmer that has joined")
    }

    pub(crate) fn happens(&mut self, common: &mut Common, what: What) -> Result<()> {
        match what {
            What::Begin => self.begin(common),
            What::Wake if common.now < self.wake_at => Ok(()),
            What::Wake => {
                self.wake_at = u64::MAX;
                self.ledger(common)
            }
            What::Try => self.try_lock(common),
            What::Done => self.done(common),
            What::End(slot) => self.end(common, slot),
        }
    }

    /// Before joining: the journal; and the state is looked at.
    fn begin(&mut self, common: &mut Common) -> Result<()> {
        let random = u64::from(self.number) + 7;
        self.waiting = Some(SimWaiting::new(&common.server, random));
        common.server.lock().clock = common.now;
        let number = self.number;
        let slots = common.plan.slots;
        let header = |nth: u32| Header {
            version: 1,
            farmer: format!("node{number:05}.job.{number}.{nth}"),
            host: format!("node{number:05}"),
            pid: 1,
            began: None,
            node: None,
            job: None,
            labels: Vec::new(),
            runner: None,
            rank: None,
            step: None,
            restart: None,
            slots,
            follows: false,
            devices: Vec::new(),
            cpus: None,
            memory: None,
            at: 0,
            pytf: String::new(),
        };
        pytf::workdir::state::peek(&self.workdir.dir)?;
        self.journal = Some(Session::journal_for(&self.workdir, header)?);
        self.want_lock(common);
        Ok(())
    }

    /// From the clock of the server on, the lock is tried.
    fn want_lock(&mut self, common: &mut Common) {
        let at = common.server.lock().clock;
        let live = self
            .session
            .as_ref()
            .map_or(1, |session| session.state().live);
        let contenders = match self.phase {
            Phase::Joining => common.plan.launched(),
            _ => live,
        };
        self.wait = Some(Wait::new(at, contenders));
        common.at(at, self.number, What::Try);
    }

    /// The two requests of a try are under way from now on.
    fn try_lock(&mut self, common: &mut Common) -> Result<()> {
        let arrives = common.now + 2 * common.plan.profile.trip;
        let wait = self.wait.as_mut().expect("a wait that has begun");
        common.sums.tries += 1;
        common.server.lock().clock = common.now;
        if arrives < common.locked_until {
            let closes = common.plan.profile.closes;
            let pause = wait.fail(&common.server, closes, common.alive);
            let pause = pause.mul_f64(0.5 + common.chance());
            let next = common.server.lock().clock + nanos(pause);
            common.at(next, self.number, What::Try);
            return Ok(());
        }
        common.sums.waits.push(common.now - wait.since);
        self.locked = arrives;
        match self.phase {
            Phase::Joining => self.join(common)?,
            Phase::Turning => self.transact(common)?,
            Phase::Leaving => self.leave()?,
            Phase::Working | Phase::Gone => {}
        }
        let (ended, unlocked) = {
            let server = common.server.lock();
            (server.clock, server.unlocked)
        };
        common.sums.turns += 1;
        common.sums.locked += unlocked - arrives;
        common.locked_until = unlocked;
        common.at(ended, self.number, What::Done);
        Ok(())
    }

    /// Joins, and claims the first tasks.
    fn join(&mut self, common: &mut Common) -> Result<()> {
        let journal = self.journal.take().expect("made before the lock is wanted");
        let waiting = self.waiting.as_mut().expect("it has begun");
        let (slots, pace, wanted) = (&self.slots, &self.pace, &mut self.wanted);
        let claim = |state: &State| claim(pace, slots, state, wanted);
        let (session, _, turn) = Session::join(&self.workdir, journal, false, claim, waiting)?;
        common.alive = session.state().live;
        self.session = Some(session);
        self.slots.put(turn.tasks, common.now);
        Ok(())
    }

    fn view(&self, now: u64) -> LedgerView {
        let (slots, number) = (&self.slots, self.number);
        let session = self.session.as_ref().expect("a farmer that has joined");
        let state = session.state();
        let (queue, live) = (&state.queues[state.most_claimed()], state.live);
        let is_unfit = self.unfit == Some(slots.returned);
        let left = if is_unfit { 0 } else { state.left() };
        let has_pending = !self.reports.is_empty() || session.has_pending();
        LedgerView {
            slots: slots.all() as u64,
            idle: slots.idle(),
            queued: slots.queued(),
            barred: 0,
            is_paused: false,
            live,
            farmer: number,
            generation: queue.generation,
            left,
            cursor: queue.cursor,
            rest: queue.len - queue.cursor,
            has_pending,
            since_turn: Duration::from_nanos(now - self.turned),
            since_compaction: Duration::from_nanos(now - self.compacted),
        }
    }

    /// The task in a slot ends.
    fn end(&mut self, common: &mut Common, slot: u32) -> Result<()> {
        let (task, end) = self.slots.end(common, slot);
        let journal = self.session().journal();
        let mut journal = journal.lock();
        journal.push(&Record::End(end.clone()));
        journal.write()?;
        drop(journal);
        self.reports.push((task, end));
        self.slots.feed(common);
        if self.phase != Phase::Working {
            return Ok(());
        }
        // Until the next turn may come, ends of tasks wake nobody.
        if self.rest(common.now).is_zero() {
            self.ledger(common)?;
        } else {
            self.sleep(common);
        }
        Ok(())
    }

    // ---- the ledger ------------------------------------------------------

    fn ledger(&mut self, common: &mut Common) -> Result<()> {
        if self.phase != Phase::Working {
            return Ok(());
        }
        let now = common.now;
        let is_starved = self.slots.starved_since.is_some();
        if self.view(now).is_turn_due(&self.pace, is_starved) {
            return self.turn(common);
        }
        common.server.lock().clock = now;
        self.keep_journal(now)?;
        self.watch(common);
        self.look(common)?;
        self.sleep(common);
        Ok(())
    }

    fn turn(&mut self, common: &mut Common) -> Result<()> {
        let now = common.now;
        self.phase = Phase::Turning;
        self.began = now;
        common.server.lock().clock = now;
        let view = self.view(now);
        if view.is_compaction_due(&self.pace) {
            self.compacted = now;
            self.copy = self.session().copy_queue(0)?;
        }
        self.take_reports(now);
        for _ in 0..view.surplus(&self.pace) {
            if let Some(task) = self.slots.retract() {
                self.session().give_back(task, None);
            }
        }
        self.session().sync_journal()?;
        self.want_lock(common);
        Ok(())
    }

    fn take_reports(&mut self, now: u64) {
        for (task, end) in std::mem::take(&mut self.reports) {
            self.ends.count += 1;
            self.ends.ran += Duration::from_micros(end.us);
            self.session().settle(task, end);
        }
        self.note_starts(now);
        self.upto = self.session().journal().lock().end();
    }

    fn note_starts(&mut self, now: u64) {
        let journal = self.session().journal();
        self.slots.note_starts(&mut journal.lock());
        self.noted = now;
    }

    /// Under the lock: the real transaction.
    fn transact(&mut self, common: &mut Common) -> Result<()> {
        let generation = self.session().state().queue().generation;
        let (upto, copy, pace) = (self.upto, self.copy.take(), &self.pace);
        let (slots, wanted) = (&self.slots, &mut self.wanted);
        let waiting = self.waiting.as_mut().expect("it has begun");
        let session = self.session.as_mut().expect("it has joined");
        let turn = session.turn(
            upto,
            copy,
            |state| claim(pace, slots, state, wanted),
            waiting,
        )?;
        if session.state().queue().generation != generation {
            self.compacted = common.now;
        }
        if session.state().left() == 0 {
            let dry = common.server.lock().clock;
            common.sums.dry.get_or_insert(dry);
        }
        self.done = Some(turn);
        Ok(())
    }

    fn done(&mut self, common: &mut Common) -> Result<()> {
        let now = common.now;
        match self.phase {
            Phase::Joining => {
                [self.turned, self.beat, self.noted, self.looked] = [now; 4];
                [self.busy, self.compacted] = [now; 2];
                let live = self.session().state().live;
                self.watch_at = now + nanos(first_watch(self.number, live, TAKEOVER));
                let held = Duration::from_nanos(now - self.locked);
                self.pace.joined(held, live);
                self.has_first_tasks(common);
                self.slots.feed(common);
            }
            Phase::Turning => self.turned(common),
            Phase::Leaving => {
                self.phase = Phase::Gone;
                common.sums.gone += 1;
                common.sums.last_left = now;
                let all = common.sums.gone == common.plan.nodes;
                ensure!(
                    !all || common.sums.starts == common.sums.ends,
                    "a task is lost"
                );
                return Ok(());
            }
            Phase::Working | Phase::Gone => {}
        }
        self.phase = Phase::Working;
        self.ledger(common)
    }

    fn turned(&mut self, common: &mut Common) {
        let now = common.now;
        let turn = self.done.take().expect("a transaction that is over");
        let idle = self
            .slots
            .starved_since
            .take()
            .map_or(0, |since| now - since);
        let span = (now - std::mem::replace(&mut self.turned, now)).saturating_sub(idle);
        let ends = std::mem::take(&mut self.ends);
        let [took, held, span] =
            [now - self.began, now - self.locked, span].map(Duration::from_nanos);
        self.pace.measured(took, held, ends, span, self.slots.all());
        self.looked = now;
        let is_unfit = self.wanted > 0 && turn.tasks.is_empty();
        self.unfit = is_unfit.then_some(self.slots.returned);
        self.slots.put(turn.tasks, now);
        self.has_first_tasks(common);
        self.slots.feed(common);
    }

    fn has_first_tasks(&mut self, common: &mut Common) {
        if self.slots.queued() > 0 && !self.had_tasks {
            self.had_tasks = true;
            common.sums.full = common.sums.full.max(common.now);
            // Only from here on is the farm as full as it can be.
            common.sums.steady = 0;
        }
    }

    fn keep_journal(&mut self, now: u64) -> Result<()> {
        if self.slots.has_unnoted() && now - self.noted >= SECOND {
            self.note_starts(now);
            self.session().journal().lock().write()?;
        }
        if now - self.beat >= 10 * SECOND {
            let at = now / 1000;
            self.session().journal().lock().push(&Record::Beat { at });
            self.session().sync_journal()?;
            self.beat = now;
        }
        Ok(())
    }

    /// As `farm::neighbours`: two in the ring, an idle one many. Nobody dies here, so
    /// only the requests are modelled: the list of names, and for each journal an
    /// open, a try of its lock, a close.
    fn watch(&mut self, common: &Common) {
        let now = common.now;
        let view = self.view(now);
        if view.live < 2 || now < self.watch_at {
            return;
        }
        self.watch_at = now + nanos(watch_every(view.live, TAKEOVER));
        let most = if view.left == 0 && view.idle > 0 {
            64
        } else {
            2
        };
        let live = u64::from(view.live);
        let of_one = 2 + u64::from(common.plan.profile.closes);
        let mut server = common.server.lock();
        server.ask(1 + live / 100 + most.min(live - 1) * of_one);
    }

    fn look_at(&self, now: u64, live: u32) -> u64 {
        let idle = Duration::from_nanos(now - self.busy);
        self.looked + nanos(look_every(idle, live))
    }

    /// With nothing to do: is the run over?
    fn look(&mut self, common: &mut Common) -> Result<()> {
        let now = common.now;
        let view = self.view(now);
        if !view.wants_look() {
            self.busy = now;
            return Ok(());
        }
        if now >= self.look_at(now, view.live) {
            self.looked = now;
            self.session().refresh_state()?;
        }
        if !view.has_pending && self.session().state().is_complete() {
            self.phase = Phase::Leaving;
            let at = now / 1000;
            let leave = Record::Leave {
                at,
                why: "complete".into(),
                longest_wait_us: 0,
            };
            self.session().journal().lock().push(&leave);
            self.upto = self.session().journal().lock().end();
            self.session().sync_journal()?;
            self.want_lock(common);
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        let upto = self.upto;
        let waiting = self.waiting.as_mut().expect("it has begun");
        self.session
            .as_mut()
            .expect("it has joined")
            .leave(upto, waiting)?;
        Ok(())
    }

    /// How long no turn may come.
    fn rest(&self, now: u64) -> Duration {
        let is_starved = self.slots.starved_since.is_some();
        self.view(now).rest(&self.pace, is_starved)
    }

    /// Sleeps until something is due.
    fn sleep(&mut self, common: &mut Common) {
        if self.phase != Phase::Working {
            return;
        }
        let now = common.now;
        let view = self.view(now);
        let rested = now + nanos(self.rest(now));
        let mut next = self.beat + 10 * SECOND;
        if view.live > 1 {
            next = next.min(self.watch_at);
        }
        if self.slots.has_unnoted() {
            next = next.min(self.noted + SECOND);
        }
        if view.wants_look() {
            next = next.min(self.look_at(now, view.live));
        }
        if view.wants_turn(&self.pace) || rested > now {
            next = next.min(rested);
        }
        let next = next.max(now + MS / 10);
        if next < self.wake_at {
            self.wake_at = next;
            common.at(next, self.number, What::Wake);
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
