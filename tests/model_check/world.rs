//! The world of one seed: its clock, its farmers, and who goes next.
//!
//! Every simulated process is a thread, and one of them runs at a time: it hands the baton on
//! at each operation of the file system and at each pause, to whoever's time comes first. All
//! chance comes from the seed, so a seed always tells the same story. Guarantee: a process that
//! was killed has no effect any more, whatever its destructors try.

use std::io;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use pytf::model::identity::Process;
use pytf::model::record::{Header, NodeId};
use pytf::workdir::liveness::Waiting;
use pytf::workdir::liveness::Watcher;
use pytf::workdir::liveness::own_node::Node;

use crate::crashes::{Crashes, Point, Progress, Write};
use crate::oracle::Oracle;
use crate::pipe::{self, Lost};
use crate::sim_fs::{Kind, Server};

/// The takeover time of the simulated farmers, in microseconds.
pub(crate) const TAKEOVER: u64 = 4_000_000;
/// How much more often than in an operation something happens on the way to the first task.
const FIRST: u64 = 50;
/// More operations than any story needs: it does not end.
const MOST_OPS: u64 = 400_000;

/// What a thread unwinds with when its process is killed.
pub(crate) struct Killed;

/// xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D);
        random.next();
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        if self.0 == 0 {
            self.0 = 1;
        }
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// From 0 to `n - 1`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        n > 0 && self.below(n) == 0
    }
}

/// How often what goes wrong: once in so many operations (0: never), and how
/// often at most.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Odds {
    pub(crate) one_in: u64,
    pub(crate) most: u32,
}

/// What goes wrong in this world.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) kill: Odds,
    pub(crate) power: Odds,
    pub(crate) freeze: Odds,
    pub(crate) refuse: Odds,
    /// A farmer loses the lock of its journal, and lives.
    pub(crate) unlock: Odds,
    /// The server stands still, and everybody with it.
    pub(crate) stall: Odds,
    /// The answer to an operation is lost, with the pipe to the workdir.
    pub(crate) cut: Odds,
    /// Who comes to this point is killed there, once.
    pub(crate) aim: Option<(Write, Point)>,
}

/// A way to break the file system, to show that the check finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Nothing.
    Not,
    /// sync does nothing.
    NoSync,
    /// A lock is given to everybody.
    NoLock,
    /// An open file is as stale as one that was never closed.
    StaleOpen,
    /// Two nodes may both create one name exclusively.
    NoExclusive,
    /// All nodes are taken for one, since they have one name.
    OneName,
}

/// A simulated process.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is something that happened, and any of them may have"
)]
pub(crate) struct Actor {
    pub(crate) name: String,
    pub(crate) node: usize,
    pub(crate) ready_at: u64,
    pub(crate) is_dead: bool,
    /// Changed by [`World::done`] only.
    pub(crate) is_done: bool,
    /// How long it was frozen, in all.
    pub(crate) frozen: u64,
    /// Whether an operation was refused to it.
    pub(crate) was_refused: bool,
    /// Whether it has lost the lock of its journal.
    pub(crate) was_unlocked: bool,
    /// Whether its pipe to the workdir has ended.
    pub(crate) is_cut: bool,
    /// For so long it does not get the answer to its last operation.
    pub(crate) unanswered: u64,
    /// Its transaction, for where crashes fall.
    pub(crate) progress: Progress,
    thread: Thread,
}

impl Actor {
    /// Whether others may rightly have taken it for dead.
    pub(crate) fn was_cut_off(&self) -> bool {
        self.is_cut
            || self.frozen > TAKEOVER / 2
            || self.was_unlocked && (self.frozen > 0 || self.was_refused)
    }

    /// It joins again: it is another farmer.
    pub(crate) fn renew(&mut self) {
        (self.frozen, self.was_refused, self.was_unlocked) = (0, false, false);
    }
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) random: Random,
    pub(crate) actors: Vec<Actor>,
    /// The actors that are not done, in their order.
    pub(crate) present: Vec<usize>,
    pub(crate) server: Server,
    pub(crate) oracle: Oracle,
    pub(crate) faults: Faults,
    pub(crate) broken: Broken,
    pub(crate) violation: Option<String>,
    pub(crate) ops: u64,
    pub(crate) is_traced: bool,
    /// Until then no operation is done.
    pub(crate) stalled_until: u64,
    /// Where crashes fell.
    pub(crate) crashes: Crashes,
    /// Which answers were lost.
    pub(crate) lost: Lost,
}

impl World {
    pub(crate) fn trace(&self, me: usize, text: impl FnOnce() -> String) {
        if self.is_traced {
            let (now, name) = (self.now, &self.actors[me].name);
            eprintln!("{:>10}.{:03} {name:<8} {}", now / 1000, now % 1000, text());
        }
    }

    /// The promise is broken: everybody stops.
    pub(crate) fn violated(&mut self, what: String) {
        if self.violation.is_none() {
            if self.is_traced {
                eprintln!("VIOLATION: {what}");
            }
            self.violation = Some(what);
        }
        for actor in &mut self.actors[1..] {
            actor.is_dead = true;
            actor.ready_at = self.now;
        }
    }

    /// Whose turn it is.
    fn pick(&self) -> usize {
        let of = self.present.iter().copied();
        of.min_by_key(|at| self.actors[*at].ready_at).unwrap_or(0)
    }

    /// It does nothing any more.
    fn done(&mut self, me: usize) {
        self.actors[me].is_done = true;
        self.present.retain(|at| *at != me);
    }

    /// The process is no more; the kernel closes its files.
    pub(crate) fn kill(&mut self, me: usize) {
        self.trace(me, || "KILLED".into());
        self.actors[me].is_dead = true;
        self.oracle.stopped(me);
        self.close_all(me);
        if self.server.kind != Kind::Local {
            self.oracle.reached_server(me);
        }
    }

    /// Whether the answer to an operation that was carried out is lost: then the other end has
    /// closed all files.
    pub(crate) fn loses_answer(&mut self, me: usize, operation: &'static str) -> bool {
        let weight = if pipe::SELDOM.contains(&operation) {
            20
        } else {
            1
        };
        if self.actors[me].is_dead || !self.draws(|faults| &mut faults.cut, weight) {
            return false;
        }
        self.trace(me, || format!("CUT OFF before the answer to {operation}"));
        *self.lost.entry(operation).or_default() += 1;
        let actor = &mut self.actors[me];
        (actor.is_cut, actor.was_refused) = (true, true);
        self.close_all(me);
        if self.server.kind != Kind::Local {
            self.oracle.reached_server(me);
        }
        true
    }

    /// A node loses power, with everything on it.
    pub(crate) fn power_off(&mut self, node: usize) {
        for at in 1..self.actors.len() {
            let actor = &mut self.actors[at];
            if actor.node == node {
                self.oracle.lost_power(at);
            }
            if actor.node == node && !actor.is_dead && !actor.is_done {
                (actor.is_dead, actor.ready_at) = (true, self.now);
                actor.progress.killed("", &mut self.crashes);
                self.trace(at, || "POWER OFF".into());
                self.oracle.stopped(at);
            }
        }
        self.lose_power(node);
    }
}

/// The world, for all its threads.
pub(crate) struct Shared {
    world: Mutex<World>,
    current: AtomicUsize,
}

impl Shared {
    /// A world with nobody but its director, who is this thread.
    pub(crate) fn new(world: impl FnOnce(Actor) -> World) -> Arc<Self> {
        let director = Self::actor("director", 0, std::thread::current());
        Arc::new(Self {
            world: Mutex::new(world(director)),
            current: AtomicUsize::new(0),
        })
    }

    fn actor(name: &str, node: usize, thread: Thread) -> Actor {
        Actor {
            name: name.into(),
            node,
            ready_at: 0,
            is_dead: false,
            is_done: false,
            frozen: 0,
            was_refused: false,
            was_unlocked: false,
            is_cut: false,
            unanswered: 0,
            progress: Progress::default(),
            thread,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a process; it gets the baton when its time comes.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        name: &str,
        node: usize,
        life: impl FnOnce(Arc<Self>, usize) + Send + 'static,
    ) -> usize {
        let shared = self.clone();
        let mut world = self.lock();
        let me = world.actors.len();
        let now = world.now;
        let thread = std::thread::spawn(move || {
            shared.wait_for(me);
            let run = std::panic::AssertUnwindSafe(|| life(shared.clone(), me));
            let ended = std::panic::catch_unwind(run);
            let mut world = shared.lock();
            if let Err(why) = ended
                && why.downcast_ref::<Killed>().is_none()
            {
                let text = why.downcast_ref::<String>().cloned();
                let text = text.or_else(|| why.downcast_ref::<&str>().map(|&s| s.to_owned()));
                world.violated(format!("panic: {}", text.unwrap_or_default()));
            }
            if !world.actors[me].is_dead {
                world.kill(me);
            }
            world.done(me);
            let next = world.pick();
            shared.pass(world, next);
        });
        let mut actor = Self::actor(name, node, thread.thread().clone());
        actor.ready_at = now;
        world.actors.push(actor);
        world.present.push(me);
        me
    }

    fn wait_for(&self, me: usize) {
        while self.current.load(Ordering::Acquire) != me {
            std::thread::park();
        }
    }

    fn pass(&self, world: MutexGuard<'_, World>, next: usize) {
        let thread = world.actors[next].thread.clone();
        drop(world);
        self.current.store(next, Ordering::Release);
        thread.unpark();
    }

    /// Lets the others go until our time has come.
    pub(crate) fn switch<'a>(
        &'a self,
        mut world: MutexGuard<'a, World>,
        me: usize,
    ) -> MutexGuard<'a, World> {
        world.ops += 1;
        if world.ops == MOST_OPS {
            world.violated("the story does not end".into());
        }
        let next = world.pick();
        if next != me {
            self.pass(world, next);
            self.wait_for(me);
            world = self.lock();
        }
        world.now = world.now.max(world.actors[me].ready_at);
        world
    }

    /// Waits for the answer to the last operation.
    pub(crate) fn answered(&self, me: usize) {
        let time = std::mem::take(&mut self.lock().actors[me].unanswered);
        if time > 0 {
            self.sleep(me, time);
        }
    }

    /// Waits for so long.
    pub(crate) fn sleep(&self, me: usize, micros: u64) {
        let mut world = self.lock();
        let now = world.now;
        world.actors[me].ready_at = now + micros.max(1);
        let world = self.switch(world, me);
        let is_dead = world.actors[me].is_dead;
        drop(world);
        if is_dead {
            die();
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.lock().now
    }

    pub(crate) fn chance(&self, one_in: u64) -> bool {
        self.lock().random.one_in(one_in)
    }

    pub(crate) fn between(&self, from: u64, to: u64) -> u64 {
        self.lock().random.between(from, to)
    }
}

/// Unwinds the thread of a killed process, once.
pub(crate) fn die() {
    if !std::thread::panicking() {
        resume_unwind(Box::new(Killed));
    }
}

/// What happens to a process at an operation.
pub(crate) enum Fate {
    Goes,
    /// It is killed over it.
    Dies,
    /// It is refused.
    Refused(io::Error),
}

impl World {
    fn draws(&mut self, odds: impl Fn(&mut Faults) -> &mut Odds, weight: u64) -> bool {
        let Odds { one_in, most } = *odds(&mut self.faults);
        let hit = most > 0 && one_in > 0 && self.random.one_in((one_in / weight).max(1));
        if hit {
            odds(&mut self.faults).most -= 1;
        }
        hit
    }

    /// At which of its points a write is aimed at.
    pub(crate) fn aims_at_write(&self, write: Option<Write>) -> Option<Point> {
        let (of, point) = self.faults.aim?;
        let is_own = [Point::Before, Point::Torn, Point::Written].contains(&point);
        (is_own && write == Some(of)).then_some(point)
    }

    /// Whether a process has come to the point that is aimed at.
    pub(crate) fn is_aimed_at(&mut self, me: usize, operation: &str) -> bool {
        let aim = self.faults.aim;
        aim.is_some_and(|aim| self.actors[me].progress.is_at(aim, operation))
            && self.random.one_in(2)
    }

    /// It is killed there, or its node loses power.
    pub(crate) fn hit(&mut self, me: usize) -> Fate {
        let aim = self.faults.aim.take();
        let is_own = aim.is_some_and(|(_, point)| point < Point::Prepared);
        if is_own || self.random.below(3) > 0 {
            return Fate::Dies;
        }
        let node = self.actors[me].node;
        self.power_off(node);
        Fate::Goes
    }

    fn freeze(&mut self, me: usize) {
        let time = match self.random.below(6) {
            // Too short for others to take it for dead.
            0 | 1 => self.random.between(TAKEOVER / 8, TAKEOVER / 2),
            2 => self.random.between(TAKEOVER / 2, TAKEOVER),
            _ => self.random.between(TAKEOVER, TAKEOVER * 5),
        };
        // Before the server does what it asks for, or after, so that the answer is old.
        let is_done_before = self.random.one_in(2);
        let when = if is_done_before { "after" } else { "before" };
        self.trace(me, || format!("FROZEN for {} ms {when} it", time / 1000));
        let actor = &mut self.actors[me];
        if is_done_before {
            actor.unanswered = time;
        } else {
            actor.ready_at += time;
        }
        actor.frozen += time;
        // What it had only written may come too late.
        self.oracle.lost_power(me);
        // As for a node that is cut off for longer than the server waits for it.
        if self.random.one_in(3) && self.unlock_journal(me) {
            self.trace(me, || "LOST THE LOCK of its journal meanwhile".into());
            self.actors[me].was_unlocked = true;
        }
    }

    /// A process that is about to join, or to start its first task, may be frozen, too.
    pub(crate) fn fate_of_first(&mut self, me: usize) {
        if self.draws(|faults| &mut faults.freeze, FIRST) {
            self.freeze(me);
        }
    }

    /// Draws the fate of an operation; heavier ones are hit more often. A freeze
    /// is only entered into the process's time.
    pub(crate) fn fate(&mut self, me: usize, weight: u64) -> Fate {
        if self.draws(|faults| &mut faults.kill, weight) {
            return Fate::Dies;
        }
        if self.draws(|faults| &mut faults.power, weight) {
            let node = self.actors[me].node;
            self.power_off(node);
            return Fate::Goes;
        }
        if self.draws(|faults| &mut faults.freeze, weight) {
            self.freeze(me);
        }
        if self.draws(|faults| &mut faults.unlock, weight) && self.unlock_journal(me) {
            self.trace(me, || "LOST THE LOCK of its journal".into());
            self.actors[me].was_unlocked = true;
        }
        if self.draws(|faults| &mut faults.stall, weight) {
            let time = self.random.between(TAKEOVER / 8, TAKEOVER * 2);
            self.trace(me, || format!("ALL STAND STILL for {} ms", time / 1000));
            self.stalled_until = self.stalled_until.max(self.now + time);
        }
        if self.stalled_until > self.now {
            // Some nodes ask a server again that was away only after a while.
            let late = if self.random.one_in(3) {
                TAKEOVER / 8
            } else {
                400
            };
            let ready_at = self.stalled_until + self.random.between(50, late);
            self.actors[me].ready_at = self.actors[me].ready_at.max(ready_at);
        }
        if self.draws(|faults| &mut faults.refuse, weight) {
            let codes = [libc::EIO, libc::ENOSPC, libc::ESTALE, libc::EDQUOT];
            let at = usize::try_from(self.random.below(4)).unwrap_or(0);
            self.actors[me].was_refused = true;
            // What it had only written may be dropped.
            self.oracle.lost_power(me);
            return Fate::Refused(io::Error::from_raw_os_error(codes[at]));
        }
        Fate::Goes
    }
}

/// Time and waits of a simulated process.
pub(crate) struct SimWaiting {
    shared: Arc<Shared>,
    me: usize,
    watcher: Watcher,
}

impl SimWaiting {
    pub(crate) fn new(shared: &Arc<Shared>, me: usize) -> Self {
        let takeover = Duration::from_micros(TAKEOVER);
        let node = Box::new(SimNode::of(shared, me));
        Self {
            shared: shared.clone(),
            me,
            watcher: Watcher::new(node, takeover),
        }
    }
}

/// The node of a simulated process. All have one name.
pub(crate) struct SimNode {
    shared: Arc<Shared>,
    node: usize,
    id: NodeId,
}

impl SimNode {
    pub(crate) fn of(shared: &Arc<Shared>, me: usize) -> Self {
        let world = shared.lock();
        let node = world.actors[me].node;
        let boot = match world.broken {
            Broken::OneName => "localhost".into(),
            _ => format!("boot {node}"),
        };
        Self {
            shared: shared.clone(),
            node,
            id: NodeId { boot, pids: 1 },
        }
    }
}

impl Node for SimNode {
    fn id(&self) -> Option<&NodeId> {
        Some(&self.id)
    }

    fn process(&self, farmer: &Header) -> Process {
        if !farmer.is_on(self.id()) {
            return Process::Unknown;
        }
        let world = self.shared.lock();
        let process = world.actors.get(farmer.pid as usize);
        match process.filter(|process| process.node == self.node && !process.is_dead) {
            Some(_) => Process::Runs,
            None => Process::Gone,
        }
    }
}

impl Waiting for SimWaiting {
    fn now(&self) -> Duration {
        self.shared.answered(self.me);
        Duration::from_micros(self.shared.now())
    }

    fn micros(&self) -> u64 {
        self.shared.now()
    }

    fn pause(&mut self, time: Duration) -> bool {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.shared.sleep(self.me, micros);
        true
    }

    fn jitter(&mut self) -> f64 {
        f64::from(u32::try_from(self.shared.between(0, 1000)).unwrap_or(0)) / 1000.0
    }

    fn notify(&mut self, message: String) {
        self.shared
            .lock()
            .trace(self.me, || format!("says: {message}"));
    }

    fn takeover(&self) -> Duration {
        Duration::from_micros(TAKEOVER)
    }

    fn watcher(&mut self) -> Option<&mut Watcher> {
        Some(&mut self.watcher)
    }
}
