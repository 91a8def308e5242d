//! One farmer: its slots, its queue, and its ledger as a state machine.
//!
//! It does what `farm::ledger`, `farm::queue` and `farm::neighbours` do, without
//! threads: what is decided is decided by `model::turn` and `model::pace`, what
//! is written is written by `Session`.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Result, ensure};
use pytf::model::outcome::Outcome;
use pytf::model::pace::{Ends, Pace, lock_pause};
use pytf::model::record::{End, Header, Record, Start, Used};
use pytf::model::task::Task;
use pytf::model::turn::View;
use pytf::workdir::farmers;
use pytf::workdir::lock::Waiting;
use pytf::workdir::open::Workdir;
use pytf::workdir::recovery;
use pytf::workdir::session::{Session, Turn};
use pytf::workdir::state::State;

use crate::files::Shared;
use crate::world::{Common, What};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
const TAKEOVER: u64 = 120 * SECOND;

/// The clock of whoever acts, as the workdir code asks for it.
pub(crate) struct SimWaiting {
    server: Shared,
    random: u64,
}

impl SimWaiting {
    pub(crate) fn new(server: &Shared, random: u64) -> Self {
        let server = server.clone();
        Self { server, random }
    }
}

impl Waiting for SimWaiting {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.server.lock().clock)
    }

    fn micros(&self) -> u64 {
        1_800_000_000_000_000 + self.server.lock().clock / 1000
    }

    fn pause(&mut self, time: Duration) -> bool {
        self.server.lock().clock += u64::try_from(time.as_nanos()).unwrap_or(0);
        true
    }

    fn jitter(&mut self) -> f64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005) + 1;
        crate::files::as_f64(self.random >> 33) / crate::files::as_f64(1 << 31)
    }

    fn tell(&mut self, _: String) {}

    fn takeover(&self) -> Duration {
        Duration::from_nanos(TAKEOVER)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Joining,
    Working,
    Turning,
    Leaving,
    Gone,
}

struct Run {
    task: Task,
    began: u64,
}

pub(crate) struct Farmer {
    number: u32,
    workdir: Workdir,
    waiting: Option<SimWaiting>,
    session: Option<Session>,
    journal: Option<pytf::workdir::journal::Journal>,
    phase: Phase,
    pace: Pace,
    slots: Vec<Option<Run>>,
    idle: Vec<u32>,
    queue: VecDeque<Task>,
    /// Ends in the journal that no turn has taken yet, and starts that are not in it.
    reports: Vec<(Task, End)>,
    unnoted: Vec<u32>,
    /// What the next turn tells the pace.
    ends: Ends,
    hungry: Option<u64>,
    cried: usize,
    /// The turn under way: since when, the end of the journal, failed tries.
    began: u64,
    upto: u64,
    tries: u32,
    first_try: u64,
    fastest: u64,
    looked_at_lock: u64,
    copy: Option<pytf::workdir::commit::QueueCopy>,
    done: Option<Turn>,
    had_tasks: bool,
    turned: u64,
    beat: u64,
    noted: u64,
    looked: u64,
    watched: u64,
    busy: u64,
    compacted: u64,
    wake_at: u64,
}

impl Farmer {
    pub(crate) fn new(number: u32, slots: u32, workdir: Workdir) -> Self {
        Self {
            number,
            workdir,
            waiting: None,
            session: None,
            journal: None,
            phase: Phase::Joining,
            pace: Pace::new(),
            slots: (0..slots).map(|_| None).collect(),
            idle: (0..slots).rev().collect(),
            queue: VecDeque::new(),
            reports: Vec::new(),
            unnoted: Vec::new(),
            ends: Ends::default(),
            hungry: None,
            cried: 0,
            began: 0,
            upto: 0,
            tries: 0,
            first_try: 0,
            fastest: 0,
            looked_at_lock: 0,
            copy: None,
            done: None,
            had_tasks: false,
            turned: 0,
            beat: 0,
            noted: 0,
            looked: 0,
            watched: 0,
            busy: 0,
            compacted: 0,
            wake_at: u64::MAX,
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
        self.waiting = Some(SimWaiting::new(&common.server, u64::from(self.number) + 7));
        common.server.lock().clock = common.now;
        let number = self.number;
        let slots = common.plan.slots;
        let header = |nth: u32| Header {
            version: 1,
            farmer: format!("node{number:05}.job.{number}.{nth}"),
            host: format!("node{number:05}"),
            pid: 1,
            job: None,
            rank: None,
            step: None,
            restart: None,
            slots,
            devices: Vec::new(),
            cpus: None,
            memory: None,
            at: 0,
            pytf: String::new(),
        };
        pytf::workdir::resume::look(&self.workdir.dir)?;
        self.journal = Some(Session::journal_for(&self.workdir, header)?);
        self.want_lock(common);
        Ok(())
    }

    /// From the clock of the server on, the lock is tried.
    fn want_lock(&mut self, common: &mut Common) {
        let at = common.server.lock().clock;
        self.tries = 0;
        self.first_try = at;
        self.fastest = u64::MAX;
        self.looked_at_lock = at;
        common.at(at, self.number, What::Try);
    }

    /// The two requests of a try are under way from now on.
    fn try_lock(&mut self, common: &mut Common) -> Result<()> {
        let arrives = common.now + 2 * common.plan.profile.trip;
        common.sums.tries += 1;
        if arrives < common.locked_until {
            self.tries += 1;
            let mut server = common.server.lock();
            server.clock = common.now;
            // Open, lock, close; and after seconds now and then a look at the holder.
            let began = server.clock;
            server.ask(2 + u64::from(common.plan.profile.closes));
            self.fastest = self.fastest.min(server.clock - began);
            let is_look = server.clock - self.looked_at_lock > 2500 * MS;
            if is_look || self.tries == 14 {
                server.ask(4);
            }
            if is_look {
                self.looked_at_lock = server.clock;
            }
            let free = server.clock;
            drop(server);
            let nanos = Duration::from_nanos;
            let (waited, fastest) = (nanos(free - self.first_try), nanos(self.fastest));
            let pause = lock_pause(self.tries, waited, fastest, common.alive);
            let pause = pause.mul_f64(0.5 + common.chance());
            let pause = u64::try_from(pause.as_nanos()).unwrap_or(0);
            common.at(free + pause, self.number, What::Try);
            return Ok(());
        }
        common.sums.waits.push(common.now - self.first_try);
        common.server.lock().clock = common.now;
        match self.phase {
            Phase::Joining => self.join(common)?,
            Phase::Turning => self.transact(common)?,
            Phase::Leaving => self.leave(common)?,
            Phase::Working | Phase::Gone => {}
        }
        let ended = common.server.lock().clock;
        common.sums.turns += 1;
        common.sums.locked += ended - arrives;
        common.locked_until = ended;
        common.at(ended, self.number, What::Done);
        Ok(())
    }

    /// Joins, and claims the first tasks.
    fn join(&mut self, common: &mut Common) -> Result<()> {
        let journal = self.journal.take().expect("made before the lock is wanted");
        let waiting = self.waiting.as_mut().expect("it has begun");
        let (idle, pace) = (self.idle.len() as u64, Pace::new());
        let claim = |state: &State| pace.claim(idle, 0, state.live, state.queue.left);
        let (session, _, tasks) = Session::join(&self.workdir, journal, false, claim, waiting)?;
        common.alive = session.state().live;
        self.session = Some(session);
        self.queue.extend(tasks);
        Ok(())
    }

    fn view(&mut self, now: u64) -> View {
        let (has_news, number) = (!self.reports.is_empty(), self.number);
        let session = self.session();
        let state = session.state();
        let (queue, live) = (state.queue, state.live);
        let has_news = has_news || session.has_news();
        View {
            slots: self.slots.len() as u64,
            idle: self.idle.len() as u64,
            queued: self.queue.len() as u64,
            barred: 0,
            is_held: false,
            live,
            farmer: number,
            generation: queue.generation,
            left: queue.left,
            cursor: queue.cursor,
            rest: queue.len - queue.cursor,
            has_news,
            since_turn: Duration::from_nanos(now - self.turned),
            since_compaction: Duration::from_nanos(now - self.compacted),
        }
    }

    // ---- slots -----------------------------------------------------------

    fn end(&mut self, common: &mut Common, slot: u32) -> Result<()> {
        let now = common.now;
        let run = self.slots[slot as usize].take().expect("a task that runs");
        self.unnoted.retain(|other| *other != slot);
        let end = End {
            id: run.task.id,
            attempt: run.task.attempt,
            slot,
            at: 1_800_000_000_000_000 + run.began / 1000,
            us: (now - run.began) / 1000,
            outcome: Outcome::Exit(0),
            used: Some(Used {
                user: 1000,
                sys: 1000,
                peak: 4096,
                read: 0,
                written: 0,
            }),
            log: None,
        };
        let journal = self.session().journal();
        let mut journal = journal.lock();
        journal.push(&Record::End(end.clone()));
        journal.write()?;
        drop(journal);
        let sums = &mut common.sums;
        sums.ends += 1;
        sums.busy += now - run.began;
        sums.last_end = now;
        let (from, to) = (run.began.max(sums.full), sums.dry.unwrap_or(now));
        if sums.full > 0 {
            sums.steady += to.saturating_sub(from);
        }
        self.reports.push((run.task, end));
        self.idle.push(slot);
        self.feed_slots(common);
        let live = self.session().state().live;
        let gap = self.pace.gap(live);
        let has_rested = Duration::from_nanos(now - self.turned) >= gap;
        if has_rested || self.hungry.is_some() || self.idle.len() == self.slots.len() {
            self.ledger(common)?;
        } else {
            self.sleep(common);
        }
        Ok(())
    }

    /// Idle slots take what is in the queue; the first and the last that find
    /// nothing say so.
    fn feed_slots(&mut self, common: &mut Common) {
        let now = common.now;
        while let Some(task) = (!self.idle.is_empty())
            .then(|| self.queue.pop_front())
            .flatten()
        {
            let Some(slot) = self.idle.pop() else { break };
            let length = common.length();
            common.sums.starts += 1;
            common.at(now + length, self.number, What::End(slot));
            self.slots[slot as usize] = Some(Run { task, began: now });
            self.unnoted.push(slot);
        }
        let (idle, slots) = (self.idle.len(), self.slots.len());
        if idle > 0 && (self.cried == 0 || idle == slots && self.cried < slots) {
            self.cried = idle;
            self.hungry.get_or_insert(now);
        }
    }

    // ---- the ledger ------------------------------------------------------

    fn ledger(&mut self, common: &mut Common) -> Result<()> {
        if self.phase != Phase::Working {
            return Ok(());
        }
        let now = common.now;
        if self
            .view(now)
            .is_turn_due(&self.pace, self.hungry.is_some())
        {
            return self.turn(common);
        }
        common.server.lock().clock = now;
        self.keep_journal(now)?;
        self.watch(now)?;
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
            self.copy = self.session().copy_queue()?;
        }
        self.take_reports(now);
        for _ in 0..view.surplus(&self.pace) {
            if let Some(task) = self.queue.pop_back() {
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
        let mut journal = journal.lock();
        for slot in std::mem::take(&mut self.unnoted) {
            if let Some(run) = &self.slots[slot as usize] {
                journal.push(&Record::Start(Start {
                    id: run.task.id,
                    attempt: run.task.attempt,
                    slot,
                    pid: 4_000_000,
                    at: 1_800_000_000_000_000 + run.began / 1000,
                }));
            }
        }
        self.noted = now;
    }

    /// Under the lock: the real transaction.
    fn transact(&mut self, common: &mut Common) -> Result<()> {
        let (idle, queued) = (self.idle.len() as u64, self.queue.len() as u64);
        let generation = self.session().state().queue.generation;
        let (upto, copy, pace) = (self.upto, self.copy.take(), self.pace.clone());
        let waiting = self.waiting.as_mut().expect("it has begun");
        let session = self.session.as_mut().expect("it has joined");
        let turn = session.turn(
            upto,
            copy,
            |state| pace.claim(idle, queued, state.live, state.queue.left),
            waiting,
        )?;
        if session.state().queue.generation != generation {
            self.compacted = common.now;
        }
        if session.state().queue.left == 0 {
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
                [self.watched, self.busy, self.compacted] = [now; 3];
                self.has_first_tasks(common);
                self.feed_slots(common);
            }
            Phase::Turning => self.turned(common),
            Phase::Leaving => {
                self.phase = Phase::Gone;
                common.sums.gone += 1;
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
        let locked = u64::try_from(turn.locked.as_nanos()).unwrap_or(0);
        let idle = self.hungry.take().map_or(0, |since| now - since);
        let span = (now - std::mem::replace(&mut self.turned, now)).saturating_sub(idle);
        let ends = std::mem::take(&mut self.ends);
        let nanos = Duration::from_nanos;
        let (took, held) = (nanos(now - self.began), nanos(now.saturating_sub(locked)));
        self.pace
            .measured(took, held, ends, nanos(span), self.slots.len());
        self.looked = now;
        self.cried = 0;
        self.queue.extend(turn.tasks);
        self.has_first_tasks(common);
        self.feed_slots(common);
    }

    fn has_first_tasks(&mut self, common: &mut Common) {
        if !self.queue.is_empty() && !self.had_tasks {
            self.had_tasks = true;
            common.sums.full = common.sums.full.max(common.now);
            // Only from here on is the farm as full as it can be.
            common.sums.steady = 0;
        }
    }

    fn keep_journal(&mut self, now: u64) -> Result<()> {
        if !self.unnoted.is_empty() && now - self.noted >= SECOND {
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

    fn watch_every(&mut self) -> u64 {
        let live = u64::from(self.session().state().live);
        (50 * MS * live)
            .max(TAKEOVER / 60)
            .clamp(500 * MS, 30 * SECOND)
    }

    /// As `farm::neighbours`: two in the ring, an idle one many.
    fn watch(&mut self, now: u64) -> Result<()> {
        if self.session().state().live < 2 || now - self.watched < self.watch_every() {
            return Ok(());
        }
        self.watched = now;
        let view = self.view(now);
        let most = if view.left == 0 && view.idle > 0 {
            64
        } else {
            2
        };
        let all = farmers::unsealed(&self.workdir.dir)?;
        let me = self.session().farmer().to_owned();
        let after = all.partition_point(|name| *name <= me);
        let ring = all[after..].iter().chain(&all[..after]);
        for farmer in ring.filter(|name| **name != me).take(most) {
            recovery::look_at(&self.workdir.dir, self.workdir.mechanism, farmer, "")?;
        }
        Ok(())
    }

    fn look_every(&self, now: u64) -> u64 {
        ((now - self.busy) / 4).clamp(50 * MS, 700 * MS)
    }

    /// With nothing to claim: is the run over?
    fn look(&mut self, common: &mut Common) -> Result<()> {
        let now = common.now;
        let view = self.view(now);
        if !view.is_idle() || view.left > 0 {
            self.busy = now;
            return Ok(());
        }
        if now - self.looked >= self.look_every(now) {
            self.looked = now;
            self.session().look()?;
        }
        if !view.has_news && self.session().state().is_complete() {
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

    fn leave(&mut self, _: &mut Common) -> Result<()> {
        let upto = self.upto;
        let waiting = self.waiting.as_mut().expect("it has begun");
        self.session
            .as_mut()
            .expect("it has joined")
            .leave(upto, waiting)?;
        Ok(())
    }

    /// Sleeps until something is due.
    fn sleep(&mut self, common: &mut Common) {
        if self.phase != Phase::Working {
            return;
        }
        let now = common.now;
        let view = self.view(now);
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let rested = self.turned + nanos(self.pace.gap(view.live));
        let mut next = self.beat + 10 * SECOND;
        if view.live > 1 {
            next = next.min(self.watched + self.watch_every());
        }
        if !self.unnoted.is_empty() {
            next = next.min(self.noted + SECOND);
        }
        if view.is_idle() && view.left == 0 {
            next = next.min(self.looked + self.look_every(now));
        }
        if view.wants_turn(&self.pace) {
            next = next.min(rested);
            if self.hungry.is_some() && view.left > 0 {
                next = next.min(self.turned + nanos(self.pace.hungry_gap(view.live)));
            }
        } else if rested > now {
            next = next.min(rested);
        }
        let next = next.max(now + MS / 10);
        if next < self.wake_at {
            self.wake_at = next;
            common.at(next, self.number, What::Wake);
        }
    }
}
