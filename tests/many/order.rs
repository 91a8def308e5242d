//! Storms over a list whose tasks wait for others, need CPUs and memory, and are tried again, while
//! its run is steered. The order is checked from what the tasks themselves write down, whatever was
//! killed meanwhile.
//!
//! `PYTF_TEST_ORDER=5000` has so many tasks; there are as many strikes as tasks for 25.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::crew::{Crew, Random, setting, wait};
use crate::harness::{Done, Farm, Running, guards, until};
use crate::marks::{self, Seen};
use crate::record::{assert_complete, good_ends};

const SIZE: usize = 8;
/// Slots of each process, which deals so many CPUs at least.
const SLOTS: usize = 4;
/// The tasks of the list that one name has, at most.
const SAME_NAME: u64 = 3;

/// What the tasks need that need most of a node.
struct Wide {
    cpus: usize,
    /// In KiB.
    mem: u64,
}

impl Wide {
    fn of_this_node() -> Self {
        let farm = Farm::of("true\n");
        farm.farm("").run().exits(0);
        let mem = farm.headers()[0]["memory"].as_u64().unwrap();
        Self {
            cpus: std::thread::available_parallelism().map_or(SLOTS, |n| SLOTS.max(n.get())),
            mem: mem * 6 / 10,
        }
    }
}

/// A command of this label that notes what it does, and fails so often.
fn command(label: &str, fails: u64, random: &mut Random) -> String {
    let note = |what: &str| format!("echo {what} {label} $$ $PYTF_FARMER >>marks");
    let mut text = format!(
        "echo s {label} $PYTF_ATTEMPT $PYTF_FARMER $$ >>marks; sleep 0.0{}; ",
        random.below(4)
    );
    for nth in 0..fails {
        text += &format!("if mkdir f/{label}.{nth}; then {}; exit 3; fi; ", note("f"));
    }
    text + &note("e")
}

/// A list in which tasks wait for names above them and for barriers, with the names.
fn list(n: u64, wide: &Wide, random: &mut Random) -> (String, Vec<String>) {
    let (mut text, mut names) = (String::new(), Vec::<String>::new());
    for id in 0..n {
        if random.below(n / 4) == 0 {
            text += ["#PYTF barrier\n", "#PYTF barrier ok\n"][random.index(2)];
        }
        let fails = if random.below(12) == 0 {
            1 + random.below(2)
        } else {
            0
        };
        text += &command(&format!("t{id}"), fails, random);
        text += &format!(
            " #PYTF priority={} retries={}",
            random.below(3),
            random.below(3)
        );
        match random.below(20) {
            0 => text += &format!(" cpus={}", wide.cpus),
            1 => text += &format!(" mem={}K", wide.mem),
            2 | 3 => text += " time=1h",
            _ => {}
        }
        for (key, one_in) in [("after", 3), ("after-any", 5)] {
            if !names.is_empty() && random.below(one_in) == 0 {
                let some = (0..=random.below(2)).map(|_| &*names[random.index(names.len())]);
                let some: BTreeSet<&str> = some.collect();
                text += &format!(" {key}={}", some.into_iter().collect::<Vec<_>>().join(","));
            }
        }
        if random.below(2) == 0 {
            let name = format!("n{}", id / SAME_NAME);
            text += &format!(" name={name}");
            // A name is complete when its last task is above.
            names.extend((id % SAME_NAME == SAME_NAME - 1).then_some(name));
        }
        text.push('\n');
    }
    (text, names)
}

/// The storm over one list.
struct Storm<'f> {
    farm: &'f Farm,
    n: u64,
    names: Vec<String>,
    random: Random,
    crew: Crew<'f>,
    frozen: Option<(Running<'f>, Vec<String>)>,
    /// Processes whose tasks may go on while others run them: they were frozen, or their
    /// guards were killed.
    unguarded: BTreeSet<i32>,
    /// What was added, as it was typed.
    added: Vec<String>,
}

impl Storm<'_> {
    /// The names of the farmers that a process was.
    fn farmers(&self, one: &Running<'_>) -> Vec<String> {
        let pid = format!(".{}.", one.pid());
        let mut all = self.farm.farmers();
        all.retain(|farmer| farmer.contains(&pid));
        all
    }

    fn strike(&mut self) {
        self.wake(false);
        // Those that saw nothing left to do but what waits for a failed task have left.
        while let Some(at) = self.ended() {
            let one = wait(self.crew.take(at));
            self.crew.left.push(one);
        }
        while self.crew.members.len() < SIZE {
            self.crew.refill();
        }
        match self.random.below(20) {
            0..8 => drop(self.crew.strike(&mut self.random, Signal::SIGKILL)),
            8..10 => drop(self.crew.strike(&mut self.random, Signal::SIGTERM)),
            10 | 11 => self.kill_a_guard(),
            12 | 13 => self.freeze(),
            14 => self.add(),
            15 => self.cancel(),
            16 | 17 => self.steer(&["retry", "w"]),
            _ => {
                self.steer(&["pause", "w"]);
                self.random.moment(Duration::from_millis(500));
                self.steer(&["resume", "w"]);
            }
        }
    }

    fn ended(&mut self) -> Option<usize> {
        let mut members = self.crew.members.iter_mut();
        members.position(|one| one.child.try_wait().unwrap().is_some())
    }

    /// Runs a command, which is killed now and then.
    fn steer(&mut self, words: &[&str]) {
        let mut command = self.farm.pytf(words).start();
        if self.random.below(5) == 0 {
            self.random.moment(Duration::from_millis(50));
            if command.child.try_wait().unwrap().is_none() {
                command.signal(Signal::SIGKILL);
            }
        }
        let done = wait(command);
        let code = done.status.code();
        // A machine that is busy keeps the lock for longer than half the takeover time.
        let is_late = code == Some(74) && done.stderr.contains("held for so long");
        assert!(
            is_late || matches!(code, None | Some(0 | 2)),
            "{words:?}: {code:?}, {}",
            done.stderr
        );
    }

    /// A name of three tasks of the list is added to.
    fn add(&mut self) {
        let label = format!("a{}", self.added.len());
        let command = command(&label, self.random.below(2), &mut self.random);
        let name = self.names[self.random.index(self.names.len())].clone();
        let key = ["after", "after-any"][self.random.index(2)];
        self.steer(&["add", "w", &command, &format!("--{key}"), &name]);
        self.added.push(format!("{command} #PYTF {key}={name}"));
    }

    fn cancel(&mut self) {
        let first = self.random.below(self.n);
        let last = (first + self.random.below(20)).min(self.n - 1);
        let marks: Vec<String> = (first..=last).map(|id| format!("c t{id}\n")).collect();
        let to = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.farm.path("marks"));
        to.unwrap().write_all(marks.concat().as_bytes()).unwrap();
        self.steer(&["cancel", "w", &format!("{first}-{last}")]);
    }

    /// Kills a guard, mostly with its process.
    fn kill_a_guard(&mut self) {
        let mut one = self.crew.take(self.random.index(self.crew.members.len()));
        self.unguarded.insert(one.pid());
        for guard in guards(&self.farmers(&one)) {
            let _ = kill(Pid::from_raw(guard), Signal::SIGKILL);
        }
        if self.random.below(3) == 0 || one.child.try_wait().unwrap().is_some() {
            self.crew.members.push(one);
        } else {
            one.signal(Signal::SIGKILL);
            self.crew.left.push(wait(one));
            self.crew.refill();
        }
    }

    /// Stops one until others have taken it over.
    fn freeze(&mut self) {
        let mut one = self.crew.take(self.random.index(self.crew.members.len()));
        let its = self.farmers(&one);
        if self.frozen.is_some() || its.is_empty() || one.child.try_wait().unwrap().is_some() {
            self.crew.members.push(one);
            return;
        }
        one.signal(Signal::SIGSTOP);
        self.unguarded.insert(one.pid());
        self.frozen = Some((one, its));
        self.crew.refill();
    }

    /// The frozen one goes on, once it has been taken over, or now.
    fn wake(&mut self, now: bool) {
        let is_over = |(_, its): &mut (Running<'_>, Vec<String>)| {
            now || its.iter().all(|farmer| self.farm.is_over(farmer))
        };
        if let Some((one, _)) = self.frozen.take_if(is_over) {
            one.signal(Signal::SIGCONT);
            self.crew.members.push(one);
        }
    }

    /// What is left of the run is done, and failed tasks are tried until none fails.
    fn complete(&self) {
        self.farm.pytf(["resume", "w"]).run().leaves(0);
        for _ in 0..=self.n {
            let done = wait(
                self.farm
                    .farm("--proc 4 --quiet --logs none --retry-delay 0.1")
                    .start(),
            );
            if done.status.success() {
                return;
            }
            assert_eq!(done.status.code(), Some(1), "{}", done.stderr);
            self.farm.pytf(["retry", "w", "--cancelled"]).run().exits(0);
        }
        panic!("the run is never complete");
    }
}

/// Tasks that went into `failed` since their farmers died too often.
fn lost(farm: &Farm) -> BTreeSet<String> {
    let notes = farm.text("w/requeued");
    let lost = notes
        .lines()
        .filter_map(|note| note.strip_suffix(" lost-limit"));
    lost.map(|note| format!("t{}", note.split(' ').next().unwrap()))
        .collect()
}

fn assert_in_order(farm: &Farm, added: &[String], unguarded: &BTreeSet<i32>) -> Seen {
    let tasks = farm.lines("tasks");
    let is_there = |line: &&String| {
        let command = line.split(" #PYTF ").next().unwrap().as_bytes();
        tasks.iter().any(|(_, task)| task.starts_with(command))
    };
    let added: Vec<String> = added.iter().filter(is_there).cloned().collect();
    let seen = marks::check(
        &farm.text("tasks.txt"),
        &added,
        &farm.text("marks"),
        &lost(farm),
    )
    .unwrap();
    let is_excused = |farmer: &String| {
        let mut pids = unguarded.iter();
        pids.any(|pid| farmer.contains(&format!(".{pid}.")))
    };
    let unexcused: Vec<_> = seen
        .overlapping
        .iter()
        .filter(|farmer| !is_excused(farmer))
        .collect();
    assert!(
        unexcused.is_empty(),
        "two attempts at a time: {unexcused:?}"
    );
    seen
}

fn all_ended_well(left: &[Done<'_>]) {
    for done in left {
        let code = done.status.code();
        assert!(
            matches!(code, None | Some(0 | 1 | 75 | 76)),
            "{code:?}: {}",
            done.stderr
        );
    }
}

/// Exact, and in order, whatever is killed, frozen, cancelled, added and paused meanwhile.
#[test]
fn tasks_that_wait_for_others_start_once_these_have_ended_whatever_is_killed() {
    let strikes = setting("PYTF_TEST_KILLS", 4).max(2);
    let n = setting("PYTF_TEST_ORDER", strikes * 25);
    let mut random = Random::new();
    let (text, names) = list(n, &Wide::of_this_node(), &mut random);
    let farm = Farm::of(text);
    farm.make_dir("f");
    let args = "--takeover 20s --grace 1 --retry-delay 0.2 --lock flock";
    let mut storm = Storm {
        farm: &farm,
        n,
        names,
        random,
        crew: Crew::of(&farm, SIZE, args),
        frozen: None,
        unguarded: BTreeSet::new(),
        added: Vec::new(),
    };
    until("the run has begun", || farm.ids("tasks").len() as u64 == n);
    let mut struck = 0;
    while struck < n / 25 && farm.ids("finished").len() as u64 <= n * 9 / 10 {
        storm.random.moment(Duration::from_millis(400));
        storm.strike();
        struck += 1;
    }
    storm.wake(true);
    storm.farm.pytf(["resume", "w"]).run().leaves(0);
    let Storm {
        crew,
        unguarded,
        added,
        ..
    } = &mut storm;
    let crew = std::mem::replace(crew, Crew::of(&farm, 0, args));
    let (unguarded, added) = (std::mem::take(unguarded), std::mem::take(added));
    let left = crew.end();
    storm.complete();

    assert_complete(&farm, farm.ids("tasks").len() as u64);
    let seen = assert_in_order(&farm, &added, &unguarded);
    let twice = good_ends(&farm).into_iter().filter(|(_, count)| *count > 1);
    assert_eq!(twice.collect::<Vec<_>>(), [], "recorded twice");
    all_ended_well(&left);
    println!(
        "{struck} strikes, {n} tasks, {} added, {seen:?}",
        added.len()
    );
}
