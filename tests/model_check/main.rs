//! The model check: the real protocol on a simulated file system.
//!
//! Each seed is a story: some farmers on some nodes share a workdir, processes
//! are killed, nodes lose power, farmers freeze for longer than the takeover
//! time, the file system refuses, answers of it are lost, and in the end a last farmer with nothing
//! against it completes the run. After every step the oracle looks whether the
//! promises hold, and a seed that breaks one is printed.
//!
//! `MODEL_CHECK_SEED=17 cargo test --test model_check` tells one story, every
//! operation in a line; `MODEL_CHECK_SEEDS=100000` tells more of them.

#![expect(
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test may print and unwrap, also outside of its #[test] functions"
)]

mod crashes;
mod farmer;
mod oracle;
mod pipe;
mod sim_fs;
mod world;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pytf::model::retry::{CRASH_LIMIT, RetryRule};
use pytf::model::task::TaskId;
use pytf::workdir::cancel::Wanted;
use pytf::workdir::mechanism::Mechanism;
use pytf::workdir::orders::Order;
use pytf::workdir::resume::ListFile;
use pytf::workdir::retry::Wanted as Retried;

use crashes::{Crashes, Point, Write};
use farmer::{ChangingList, Plan, Source};
use oracle::Oracle;
use pipe::Lost;
use sim_fs::{Kind, Server};
use world::{Broken, Faults, Odds, Random, Shared, TAKEOVER, World};

/// The most tasks of a story.
const MOST_TASKS: u64 = 24;
/// One story in so many is wide: more than a thousand slots, and twice as many tasks, of
/// which each second one fails once. When all have ended there is a retry, and one more
/// farmer joins alone with a claim of a thousand scattered ids: several KB in one line.
const WIDE: u64 = 800;

/// What the stories must have: a protocol is not checked by what never happens.
const ACTS: [&str; 17] = [
    "cancel",
    "edit",
    "edit-queue",
    "join",
    "order to add",
    "order to close",
    "order to drain",
    "order to pause",
    "order to resume",
    "order to stop",
    "prepare",
    "quarantine",
    "release",
    "reset",
    "retry",
    "seal",
    "turn",
];

/// The line of a task.
pub(crate) fn line(id: u64) -> Vec<u8> {
    format!("echo task {id}").into_bytes()
}

/// Which line this is.
pub(crate) fn number_of(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok()?;
    let number = text.strip_prefix("echo task ")?;
    number.split(' ').next()?.parse().ok()
}

/// Tasks for which one waits in a list in which tasks wait for others, by the numbers of their
/// lines.
pub(crate) struct Before {
    /// They have to finish.
    pub(crate) after: Vec<u64>,
    /// They have to end.
    pub(crate) any: Vec<u64>,
}

/// How many tasks are between two barriers of such a list; each second one is `barrier ok`.
const STAGE: u64 = 7;

/// Those of them that it names.
fn named(number: u64) -> Before {
    let other = |step: u64, back: u64| (number % step == back).then(|| number - back);
    Before {
        after: other(4, 1).into_iter().chain(other(5, 3)).collect(),
        any: other(6, 2).into_iter().collect(),
    }
}

/// For which tasks this one waits.
pub(crate) fn before(number: u64) -> Before {
    let stage = number / STAGE;
    let mut all = named(number);
    all.any.extend(0..stage * STAGE);
    if stage > 0 && stage.is_multiple_of(2) {
        all.after.extend((stage - 1) * STAGE..stage * STAGE);
    }
    all
}

/// The line of a task in such a list, with a barrier above it where there is one.
fn ordered_line(number: u64) -> Vec<u8> {
    let stage = number / STAGE;
    let mut text = match (number % STAGE, stage) {
        (0, 1..) if stage.is_multiple_of(2) => "#PYTF barrier ok\n".to_owned(),
        (0, 1..) => "#PYTF barrier\n".to_owned(),
        _ => String::new(),
    };
    text += &format!(
        "echo task {number} #PYTF name=n{number} priority={}",
        number % 3
    );
    let Before { after, any } = named(number);
    for (key, numbers) in [("after", after), ("after-any", any)] {
        let names: Vec<String> = numbers.iter().map(|other| format!("n{other}")).collect();
        if !names.is_empty() {
            text += &format!(" {key}={}", names.join(","));
        }
    }
    text.into_bytes()
}

/// Lists of any length, as files.
fn list(n: u64) -> Arc<ListFile> {
    list_of(n, line)
}

/// Lists of such lines, as files.
fn list_of(n: u64, line: fn(u64) -> Vec<u8>) -> Arc<ListFile> {
    static LISTS: Mutex<Vec<(Vec<u8>, Arc<ListFile>)>> = Mutex::new(Vec::new());
    let text = (0..n)
        .flat_map(|id| [&line(id)[..], b"\n"].concat())
        .collect::<Vec<u8>>();
    let mut lists = LISTS.lock().unwrap();
    if let Some((_, list)) = lists.iter().find(|(there, _)| *there == text) {
        return list.clone();
    }
    // It is read through its descriptor: a static folder would stay when the test ends.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list");
    std::fs::write(&path, &text).unwrap();
    let made = Arc::new(ListFile::at(Path::new(&path)).unwrap().unwrap());
    lists.push((text, made.clone()));
    made
}

/// A list of `from` tasks that becomes one of `to` tasks before the `at`-th piece is read,
/// with `comment` more bytes before the first: who believes what it read of both sees lines
/// that are in neither.
fn changing(from: u64, to: u64, at: u64, comment: u64) -> Arc<ChangingList> {
    let text = |n: u64| {
        let lines = (0..n).map(|id| [&line(id)[..], b"\n"].concat());
        lines.collect::<Vec<_>>().concat()
    };
    let comment = "#".repeat(usize::try_from(comment).unwrap()) + "\n";
    Arc::new(ChangingList {
        before: text(from),
        after: [comment.into_bytes(), text(to)].concat(),
        at,
        read: AtomicU64::new(0),
    })
}

/// What happened in a story.
struct Told {
    /// Operations of the file system.
    ops: u64,
    /// How often there was each act.
    acts: BTreeMap<String, u64>,
    crashes: Crashes,
    lost: Lost,
    /// The promise that was broken.
    broken: Option<String>,
}

/// A story in the making.
#[expect(clippy::struct_excessive_bools, reason = "each is drawn by itself")]
struct Story {
    random: Random,
    kind: Kind,
    tasks: u64,
    plan: Plan,
    farmers: u64,
    nodes: usize,
    retries: bool,
    is_wide: bool,
    /// Whether it is paused, resumed, drained and stopped now and then, and tasks are cancelled
    /// and edited.
    is_steered: bool,
    /// It is reset once in so many rounds in which nobody works on it, and seldom in others; 0:
    /// never.
    resets_one_in: u64,
    /// Whether tasks wait for others.
    is_ordered: bool,
    /// Tasks are added once in so many rounds; 0: never.
    adds_one_in: u64,
    /// Some farmers are given a list that is this short.
    shorter: Option<u64>,
}

impl Story {
    fn of(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let kind = match random.below(4) {
            0 => Kind::Local,
            1 => Kind::Nfs { stale: true },
            _ => Kind::Nfs { stale: false },
        };
        let mechanism = match random.below(4) {
            0 => Mechanism::Link,
            1 => Mechanism::Fcntl,
            _ => Mechanism::Flock,
        };
        let is_wide = seed % WIDE == WIDE / 2;
        let tasks = if is_wide {
            random.between(2000, 2400)
        } else {
            random.between(3, MOST_TASKS)
        };
        let source = if random.one_in(4) {
            Source::Stream(tasks)
        } else {
            Source::List(list(tasks))
        };
        let slots = if is_wide {
            random.between(1000, 1200)
        } else {
            random.between(1, 3)
        };
        let slots = usize::try_from(slots).unwrap();
        let longest = [20_000, 300_000, 2_000_000][usize::try_from(random.below(3)).unwrap()];
        Self {
            kind,
            tasks,
            plan: Plan {
                source,
                mechanism,
                slots,
                longest,
                leaves_at: u64::MAX,
                retries: false,
                fails: if is_wide { 2 } else { 5 },
                follows: 0,
                fails_again: 0,
                doubts: random.one_in(3),
                again: RetryRule::default(),
                kills: 0,
            },
            farmers: random.between(1, 4),
            nodes: match kind {
                Kind::Local => 1,
                Kind::Nfs { .. } => usize::try_from(random.between(1, 3)).unwrap(),
            },
            retries: is_wide || random.one_in(3),
            is_wide,
            is_steered: random.one_in(3),
            is_ordered: false,
            resets_one_in: if !is_wide && random.one_in(3) { 2 } else { 0 },
            adds_one_in: if random.one_in(3) { 3 } else { 0 },
            shorter: random.one_in(4).then(|| random.between(1, tasks)),
            random,
        }
        .with_retries()
        .with_order(seed)
        .with_deadly_tasks(seed)
    }

    /// In some, tasks kill their farmers, which are replaced until such tasks are given up.
    fn with_deadly_tasks(mut self, seed: u64) -> Self {
        if !self.is_wide && seed % 8 == 6 {
            self.plan.kills = self.random.between(3, self.tasks);
            self.plan.longest = 20_000;
            self.resets_one_in = 0;
        }
        self
    }

    /// In some, tasks wait for others.
    fn with_order(mut self, seed: u64) -> Self {
        let is_list = matches!(self.plan.source, Source::List(_));
        self.is_ordered = !self.is_wide && is_list && seed % 3 == 1;
        if self.is_ordered {
            self.plan.source = Source::List(list_of(self.tasks, ordered_line));
            self.shorter = None;
        }
        self
    }

    /// Some tasks are tried again by themselves.
    fn with_retries(mut self) -> Self {
        if !self.is_wide && self.random.one_in(2) {
            self.plan.fails = self.random.between(1, 3);
            self.plan.fails_again = 1;
            self.plan.again.retries = u32::try_from(self.random.between(1, 2)).unwrap();
            self.plan.again.delay = Duration::from_micros(self.random.below(TAKEOVER / 4));
        }
        self
    }

    /// The point at which somebody is killed: one that may come.
    fn aim(&mut self) -> Option<(Write, Point)> {
        let may_come = |write| match write {
            Write::GiveUp => self.plan.kills > 0,
            Write::Again => self.plan.again.retries > 0 && self.plan.kills == 0,
            _ => self.is_ordered && self.plan.kills == 0,
        };
        // Few transactions gather.
        let weight = |write| if write == Write::Gather { 3 } else { 1 };
        let points = crashes::must().filter(|(write, _)| may_come(*write));
        let points = points.flat_map(|point| std::iter::repeat_n(point, weight(point.0)));
        let points: Vec<_> = points.collect();
        let nth = usize::try_from(self.random.below(points.len() as u64 * 2)).unwrap();
        points.get(nth).copied()
    }

    /// What goes wrong in it.
    fn faults(&mut self) -> Faults {
        let random = &mut self.random;
        let mut odds = |one_in: u64, most: u64| {
            if random.one_in(2) {
                return Odds::default();
            }
            Odds {
                one_in: random.between(one_in / 4, one_in * 2),
                most: u32::try_from(random.between(1, most)).unwrap(),
            }
        };
        Faults {
            kill: odds(600, 5),
            power: odds(1200, 2),
            freeze: odds(800, 3),
            refuse: odds(500, 8),
            unlock: odds(400, 4),
            stall: odds(2000, 2),
            cut: odds(1000, 3),
            aim: None,
        }
    }

    /// Tells the story; what it says when a promise was broken.
    fn tell(mut self, broken: Broken, is_traced: bool) -> Told {
        let mut faults = self.faults();
        faults.aim = self.aim();
        let lease = match self.random.below(3) {
            0 => 0,
            1 => TAKEOVER * 2,
            _ => u64::MAX / 2,
        };
        let random = Random::new(self.random.next());
        // Locks by name must hold without them as well.
        let has_fresh_reads = self.plan.mechanism != Mechanism::Link || self.random.one_in(2);
        let (kind, tasks) = (self.kind, self.tasks);
        if is_traced {
            let Plan {
                mechanism, slots, ..
            } = self.plan;
            let (farmers, nodes) = (self.farmers, self.nodes);
            eprintln!(
                "{kind:?} {mechanism}, {tasks} tasks, {farmers} farmers of {slots} slots \
                 on {nodes} nodes, locks of dead nodes stay {lease}; {faults:?}"
            );
        }
        let shared = Shared::new(|director| World {
            now: 0,
            random,
            actors: vec![director],
            present: vec![0],
            server: Server::new(kind, lease, has_fresh_reads),
            oracle: Oracle::new(
                self.shorter.is_some(),
                self.plan.again.retries,
                self.is_ordered,
            ),
            faults,
            broken,
            violation: None,
            ops: 0,
            is_traced,
            stalled_until: 0,
            crashes: Crashes::new(),
            lost: Lost::new(),
        });
        shared.lock().server.has_local_locks = self.plan.mechanism == Mechanism::Link;
        self.direct(&shared);
        let mut world = shared.lock();
        if world.violation.is_none() {
            world.server.is_news = true;
            world.check();
            if let Err(what) = world.oracle.finish(&world.server, tasks) {
                world.violated(what);
            }
        }
        Told {
            ops: world.ops,
            acts: std::mem::take(&mut world.oracle.acts),
            crashes: std::mem::take(&mut world.crashes),
            lost: std::mem::take(&mut world.lost),
            broken: world.violation.take(),
        }
    }

    fn direct(&mut self, shared: &Arc<Shared>) {
        if self.random.one_in(self.adds_one_in) {
            // Before there is a run.
            self.add(shared);
            shared.sleep(0, self.random.between(1, 20_000));
        }
        for nth in 0..self.farmers {
            self.start(shared, nth);
            let pause = self.random.below(200_000);
            shared.sleep(
                0,
                [0, pause, pause * 10][usize::try_from(self.random.below(3)).unwrap()],
            );
        }
        let mut more = self.random.below(4);
        if self.plan.kills > 0 {
            more += u64::from(CRASH_LIMIT) + 2;
        }
        for round in 0..60 {
            shared.sleep(0, TAKEOVER / 4);
            self.steer(shared);
            let (alive, is_over) = {
                let world = shared.lock();
                let alive = world.actors[1..].iter().filter(|actor| !actor.is_done);
                (alive.count(), world.violation.is_some())
            };
            if is_over || alive == 0 && more == 0 {
                break;
            }
            let is_seldom = if alive == 0 { 1 } else { 5 };
            if self.random.one_in(self.resets_one_in * is_seldom) {
                self.reset(shared);
                // Others may start before it has ended.
                shared.sleep(0, self.random.below(TAKEOVER));
            }
            if more > 0 && (alive == 0 || self.random.one_in(6)) {
                more -= 1;
                self.start(shared, self.farmers + round);
            }
        }
        shared.lock().faults = Faults::default();
        self.wait_for_all(shared);
        // The last one, on a node of its own unless there is one only.
        self.plan.retries = false;
        self.plan.doubts = false;
        self.plan.kills = 0;
        self.plan.leaves_at = u64::MAX;
        let node = if self.kind == Kind::Local {
            0
        } else {
            self.nodes
        };
        // In a wide story it leaves each second task failed, and another one retries them.
        for retries in if self.is_wide {
            &[false, true][..]
        } else {
            &[false]
        } {
            let mut plan = self.plan.clone();
            plan.retries = *retries;
            shared.spawn("last", node, move |shared, me| {
                farmer::run(&shared, me, &plan);
            });
            self.wait_for_all(shared);
        }
    }

    /// What somebody asks of the run at this moment: mostly nothing.
    fn steer(&mut self, shared: &Arc<Shared>) {
        if self.retries && self.random.one_in(6) {
            let mechanism = self.plan.mechanism;
            let wanted = match self.random.below(2) {
                0 => Retried::Failed,
                _ => Retried::All,
            };
            shared.spawn("retry", self.node(), move |shared, me| {
                farmer::run_retry(&shared, me, mechanism, &wanted);
            });
        }
        if self.random.one_in(self.adds_one_in) {
            self.add(shared);
        }
        if self.is_steered && self.random.one_in(4) {
            self.cancel(shared);
        }
        if self.is_steered && !self.is_ordered && self.random.one_in(4) {
            let (numbers, mechanism) = (self.tasks + 1, self.plan.mechanism);
            shared.spawn("edit", self.node(), move |shared, me| {
                farmer::run_edit(&shared, me, mechanism, numbers);
            });
        }
        if self.is_steered && self.random.one_in(3) {
            let node = self.node();
            let orders = [
                Order::Pause { stop: false },
                Order::Pause { stop: true },
                Order::Resume,
                Order::Drain { node: None },
                Order::Stop,
                Order::Close,
            ];
            let nth = self.random.below(orders.len() as u64);
            let order = orders[usize::try_from(nth).unwrap()].clone();
            self.order(shared, node, order);
        }
    }

    /// Adds some tasks: their lines are in the list, too.
    fn add(&mut self, shared: &Arc<Shared>) {
        let n = self.random.between(1, 4);
        let lines: Vec<u64> = (0..n).map(|_| self.random.below(self.tasks + 2)).collect();
        let (node, mechanism) = (self.node(), self.plan.mechanism);
        shared.spawn("add", node, move |shared, me| {
            farmer::run_add(&shared, me, mechanism, &lines);
        });
    }

    /// Cancels some tasks, or all.
    fn cancel(&mut self, shared: &Arc<Shared>) {
        let wanted = match self.random.below(6) {
            0 => Wanted::All,
            1 => Wanted::Waiting,
            _ => {
                let first = self.random.below(self.tasks);
                let last = first + self.random.below(self.tasks / 4 + 1);
                Wanted::Ids((first..=last).map(TaskId).collect())
            }
        };
        let mechanism = self.plan.mechanism;
        shared.spawn("cancel", self.node(), move |shared, me| {
            farmer::run_cancel(&shared, me, mechanism, &wanted);
        });
    }

    /// Resets the run, mostly all of it.
    fn reset(&mut self, shared: &Arc<Shared>) {
        let from = match self.random.below(3) {
            0 => self.random.below(self.tasks),
            _ => 0,
        };
        let (node, mechanism) = (self.node(), self.plan.mechanism);
        shared.spawn("reset", node, move |shared, me| {
            farmer::run_reset(&shared, me, mechanism, from);
        });
    }

    fn order(&self, shared: &Arc<Shared>, node: usize, order: Order) {
        let name = order.word().to_owned();
        let mechanism = self.plan.mechanism;
        shared.spawn(&name, node, move |shared, me| {
            farmer::run_order(&shared, me, mechanism, &order);
        });
    }

    fn node(&mut self) -> usize {
        usize::try_from(self.random.below(self.nodes as u64)).unwrap()
    }

    fn start(&mut self, shared: &Arc<Shared>, nth: u64) {
        let mut plan = self.plan.clone();
        plan.retries = self.retries && self.random.one_in(3);
        if let (Source::List(_), Some(n)) = (&plan.source, self.shorter)
            && self.random.one_in(2)
        {
            plan.source = Source::List(list(n));
        }
        let is_list = matches!(plan.source, Source::List(_)) && !self.is_ordered;
        if is_list && self.random.one_in(4) {
            let from = self.shorter.unwrap_or(self.tasks);
            let (at, comment) = (self.random.below(10), self.random.below(40));
            plan.source = Source::Changing(changing(from, self.tasks, at, comment));
        }
        if self.adds_one_in > 0 && self.random.one_in(2) {
            plan.follows = [TAKEOVER, u64::MAX][usize::try_from(self.random.below(2)).unwrap()];
        }
        if self.random.one_in(3) {
            let now = shared.now();
            plan.leaves_at = now + self.random.between(10_000, TAKEOVER * 2);
        }
        let node = self.node();
        let name = format!("f{nth}@{node}");
        shared.spawn(&name, node, move |shared, me| {
            farmer::run(&shared, me, &plan);
        });
    }

    /// Until all are done: a run that is paused is resumed.
    fn wait_for_all(&self, shared: &Arc<Shared>) {
        loop {
            shared.sleep(0, TAKEOVER);
            let (is_over, is_paused) = {
                let mut world = shared.lock();
                world.check();
                let is_over = world.actors[1..].iter().all(|actor| actor.is_done);
                let is_paused = world.oracle.paused_since().is_some();
                (is_over, is_paused && world.violation.is_none())
            };
            if is_paused {
                self.order(shared, 0, Order::Resume);
            } else if is_over {
                return;
            } else if self.adds_one_in > 0 {
                self.order(shared, 0, Order::Close);
            }
        }
    }
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Keeps a story and its threads on one core: handing the baton on is cheap there.
fn pin(core: usize) {
    let mut cores = nix::sched::CpuSet::new();
    if cores.set(core).is_ok() {
        let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &cores);
    }
}

/// What happened in many stories.
#[derive(Default)]
struct AllTold {
    ops: u64,
    acts: BTreeMap<String, u64>,
    crashes: Crashes,
    lost: Lost,
    /// The seeds that break a promise, with what they say.
    found: Vec<(u64, String)>,
}

/// Tells many stories.
fn tell_all(from: u64, to: u64, broken: Broken, enough: usize) -> AllTold {
    let next = AtomicU64::new(from);
    let all = Mutex::new(AllTold::default());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for core in 0..cores {
            let (next, all) = (&next, &all);
            scope.spawn(move || {
                pin(core);
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= to || all.lock().unwrap().found.len() >= enough {
                        return;
                    }
                    let told = Story::of(seed).tell(broken, false);
                    let mut all = all.lock().unwrap();
                    all.ops += told.ops;
                    for (act, times) in told.acts {
                        *all.acts.entry(act).or_default() += times;
                    }
                    for (point, times) in told.crashes {
                        *all.crashes.entry(point).or_default() += times;
                    }
                    for (operation, times) in told.lost {
                        *all.lost.entry(operation).or_default() += times;
                    }
                    all.found.extend(told.broken.map(|what| (seed, what)));
                }
            });
        }
    });
    all.into_inner().unwrap()
}

#[test]
fn the_promises_hold_in_every_story() {
    if let Some(seed) = number("MODEL_CHECK_SEED") {
        pin(0);
        let told = Story::of(seed).tell(Broken::Not, true);
        assert_eq!(told.broken, None, "seed {seed}, {} operations", told.ops);
        return;
    }
    let seeds = number("MODEL_CHECK_SEEDS").unwrap_or(100);
    let from = number("MODEL_CHECK_FROM").unwrap_or(0);
    let began = std::time::Instant::now();
    let AllTold {
        ops,
        acts,
        crashes,
        lost,
        found,
    } = tell_all(from, from + seeds, Broken::Not, 10);
    let time = began.elapsed();
    let rate = u128::from(seeds) * 1000 / time.as_millis().max(1);
    println!("{seeds} seeds, {ops} operations in {time:.1?}: {rate} seeds a second");
    for (seed, what) in &found {
        println!("MODEL_CHECK_SEED={seed}: {what}");
    }
    println!("{acts:?}");
    println!("{crashes:?}");
    println!("answers lost: {lost:?}");
    assert!(found.is_empty(), "{} seeds break a promise", found.len());
    let seen: Vec<&str> = acts.keys().map(String::as_str).collect();
    assert!(
        seeds < 1_500 || seen == ACTS,
        "never there, or not known: {seen:?}"
    );
    let never: Vec<_> = crashes::must()
        .filter(|point| !crashes.contains_key(point))
        .collect();
    assert!(seeds < 1_500 || never.is_empty(), "no crash at {never:?}");
    let never: Vec<_> = pipe::MUST
        .iter()
        .filter(|operation| !lost.contains_key(*operation))
        .collect();
    assert!(
        seeds < 1_500 || never.is_empty(),
        "no answer is lost to {never:?}"
    );
}

/// `from`: the seed that found it last, so that it is found soon.
fn is_found(broken: Broken, from: u64) {
    let AllTold { found, .. } = tell_all(from, from + 3000, broken, 1);
    assert!(!found.is_empty(), "{broken:?} is not found in 3000 seeds");
}

#[test]
fn the_check_finds_locks_that_do_not_exclude() {
    is_found(Broken::NoLock, 1);
}

#[test]
fn the_check_finds_a_sync_that_does_nothing() {
    is_found(Broken::NoSync, 2);
}

#[test]
fn the_check_finds_stale_files() {
    is_found(Broken::StaleOpen, 17);
}

#[test]
fn the_check_finds_nodes_of_one_name_that_are_taken_for_one() {
    is_found(Broken::OneName, 23);
}

#[test]
fn the_check_finds_names_that_are_not_exclusive() {
    is_found(Broken::NoExclusive, 3);
}
