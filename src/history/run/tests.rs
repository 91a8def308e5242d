//! A run that is read while it grows equals the run that is read at once; and the advice.

use std::fs::OpenOptions;
use std::io::Write as _;

use super::nodes::nodes;
use super::*;
use crate::history::failures::{causes, failures};
use crate::history::synthetic::{Workdir, end, header, start, workdir};
use crate::model::outcome::Outcome;
use crate::model::record::{End, Record, Used};
use crate::model::task::{TaskId, push_line};
use crate::ui::advice::advice;
use crate::workdir::mechanism::Mechanism;
use crate::workdir::state::{self, Act, Members, Queue, State};

/// A time as a farmer records it.
const T: u64 = 1_800_000_000_000_000;

/// One second.
const S: u64 = 1_000_000;

fn exit(id: u64, attempt: u32, slot: u32, at: u64, status: i32) -> Record {
    end(id, attempt, slot, T + at * S, S, Outcome::Exit(status))
}

fn lines(name: &str, dir: &Workdir, ids: impl IntoIterator<Item = u64>) {
    let mut bytes = Vec::new();
    for id in ids {
        push_line(&mut bytes, TaskId(id), b"x");
    }
    dir.file(name, &bytes);
}

/// Everything that the views take from a run, as far as no clock is in it.
fn figures(run: &Run) -> String {
    let farmers = run.farmers.iter().map(|farmer| {
        format!(
            "{} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}\n",
            farmer.header().host,
            farmer.slots.running,
            farmer.finished,
            farmer.failures,
            farmer.durations,
            farmer.series,
            farmer.longest,
            farmer.spent,
            farmer.damage,
        )
    });
    format!("{} {:?}", farmers.collect::<String>(), failures(run).len())
}

#[test]
fn a_run_read_in_pieces_is_the_same_as_read_at_once() {
    let dir = workdir(&["x"; 40]);
    let mut records = vec![header("n1", T, 2)];
    for id in 0..40 {
        let slot = u32::try_from(id % 2).unwrap();
        if id % 3 == 0 {
            records.push(start(id, 1, slot, T + id * S));
        }
        records.push(exit(id, 1, slot, id, i32::from(id % 7 == 6)));
    }
    records.push(start(3, 2, 1, T + 50 * S));
    let mut bytes = Vec::new();
    for record in &records {
        record.push_to(&mut bytes);
    }
    bytes.extend_from_slice(b"garbage\n{\"event\":\"no");
    lines("failed", &dir, [6, 13]);
    let path = dir.file("nodes/n1.0.1.1.jsonl", b"");
    let mut run = Run::open(dir.path()).unwrap();
    // Pieces that end anywhere, also in the middle of a line.
    for piece in bytes.chunks(77) {
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(piece).unwrap();
        run.refresh().unwrap();
    }
    let whole = Run::open(dir.path()).unwrap();
    assert_eq!(figures(&run), figures(&whole));
    let farmer = &whole.farmers[0];
    assert_eq!(
        (farmer.finished, farmer.failed(), farmer.slots.running.len()),
        (35, 5, 1)
    );
    assert_eq!((farmer.damage.lines, farmer.again.len()), (1, 1));
    let found = failures(&whole);
    let ids: Vec<u64> = found.iter().map(|failure| failure.id).collect();
    assert_eq!(ids, [6, 13], "what `failed` has, and nothing else");
    assert_eq!(causes(&found)[0].tasks, 2);
}

#[test]
fn the_last_failure_of_a_task_counts() {
    let dir = workdir(&["x"; 3]);
    dir.journal(
        "n1.0.1.1",
        &[header("n1", T, 1), exit(0, 1, 0, 0, 1), exit(1, 1, 0, 1, 4)],
    );
    dir.journal(
        "n2.0.1.2",
        &[header("n2", T, 1), exit(0, 2, 0, 5, 2), exit(2, 1, 0, 6, 2)],
    );
    lines("failed", &dir, [0, 2]);
    let run = Run::open(dir.path()).unwrap();
    let found = failures(&run);
    let words: Vec<_> = causes(&found)
        .iter()
        .map(|cause| (cause.words.clone(), cause.tasks))
        .collect();
    assert_eq!(words, [("exit status 2".to_owned(), 2)]);
}

#[test]
fn slot_time_and_busy_time_are_summed_up() {
    let dir = workdir(&["x"; 2]);
    let leave = Record::Leave {
        at: T + 10 * S,
        why: "done".into(),
        longest_wait_us: 0,
    };
    dir.journal(
        "n1.0.1.1",
        &[
            header("n1", T, 2),
            exit(0, 1, 0, 0, 0),
            exit(1, 1, 1, 2, 0),
            leave,
        ],
    );
    let run = Run::open(dir.path()).unwrap();
    let sum = run
        .series()
        .iter()
        .fold((0, 0, 0), |(busy, slots, ended), (_, one)| {
            (busy + one.busy, slots + one.slots, ended + one.ended)
        });
    assert_eq!(sum, (2 * S, 20 * S, 2));
    assert_eq!(nodes(&run)[0].busy, Some(0.1));
    assert_eq!(run.state_of(&run.farmers[0]), FarmerState::Left);
    assert_eq!(run.forecast(), Forecast::Unknown("no farmer works on it"));
}

#[test]
fn stopped_attempts_do_not_count_as_durations() {
    let dir = workdir(&["x"; 2]);
    dir.journal(
        "n1.0.1.1",
        &[
            header("n1", T, 2),
            exit(0, 1, 0, 0, 0),
            end(1, 1, 1, T, 600 * S, Outcome::Interrupted),
        ],
    );
    let run = Run::open(dir.path()).unwrap();
    assert_eq!((run.durations().count, run.durations().max), (1, S));
    let ended: u64 = run.series().iter().map(|(_, one)| one.ended).sum();
    assert_eq!(ended, 1, "the other is left as before");
    let farmer = &run.farmers[0];
    assert_eq!((farmer.ended, farmer.longest.len()), (2, 1));
    assert_eq!(
        farmer.busy(farmer.last),
        601 * S,
        "its slot was busy all the same"
    );
}

#[test]
fn slots_of_a_silent_farmer_are_not_busy() {
    let dir = workdir(&["x"; 2]);
    let ended = end(0, 1, 0, T, 40 * S, Outcome::Exit(0));
    dir.journal("n1.0.1.1", &[header("n1", T, 1), ended]);
    let mut run = Run::open(dir.path()).unwrap();
    let silence = Duration::from_secs(60);
    run.farmers[0].modified = Some(run.now - silence);
    assert_eq!(run.state_of(&run.farmers[0]), FarmerState::Silent(silence));
    assert_eq!(run.busy(&run.farmers), Some(0.4));
}

#[test]
fn a_farmer_is_dead_after_the_takeover_time_of_its_run() {
    let dir = workdir(&["x"; 2]);
    dir.journal("n1.0.1.1", &[header("n1", T, 1)]);
    let mut run = Run::open(dir.path()).unwrap();
    for (takeover, silence, expected) in [
        (3600, 120, FarmerState::Silent(Duration::from_secs(2 * 60))),
        (3600, 3600, FarmerState::Dead),
        (6, 2, FarmerState::Alive),
        (6, 5, FarmerState::Silent(Duration::from_secs(5))),
        (6, 6, FarmerState::Dead),
    ] {
        let mut state = State::new(Mechanism::Flock);
        (state.live, state.takeover) = (1, takeover);
        run.counts.state = Some(state);
        run.farmers[0].modified = Some(run.now - Duration::from_secs(silence));
        assert_eq!(
            run.state_of(&run.farmers[0]),
            expected,
            "{silence} s of {takeover}"
        );
    }
}

#[test]
fn what_runs_is_not_ended_by_an_end_that_was_held_back() {
    let dir = workdir(&["x"; 2]);
    dir.journal(
        "n1.0.1.1",
        &[
            header("n1", T, 1),
            start(0, 1, 0, T),
            start(1, 1, 0, T + 2 * S),
            end(0, 1, 0, T, S, Outcome::Signal(15)),
        ],
    );
    let run = Run::open(dir.path()).unwrap();
    let running = &run.farmers[0].slots.running;
    assert_eq!((running.len(), running[&0].id), (1, 1));
}

/// What is advised about a run: its kinds.
fn kinds(dir: &Workdir) -> Vec<(&'static str, String)> {
    let run = Run::open(dir.path()).unwrap();
    let found = advice(&run);
    found
        .into_iter()
        .map(|advice| (advice.kind, advice.text))
        .collect()
}

#[test]
fn a_node_that_fails_what_others_can_do_is_named() {
    let dir = workdir(&["x"; 60]);
    let bad = (0..10).map(|id| exit(id, 1, 0, id, i32::from(id != 5)));
    let bad: Vec<_> = std::iter::once(header("n17", T, 1)).chain(bad).collect();
    let good = (0..10)
        .filter(|id| *id != 5)
        .map(|id| exit(id, 2, 0, 20 + id, 0));
    let more = (10..60).map(|id| exit(id, 1, 0, 20 + id, 0));
    let good: Vec<_> = std::iter::once(header("n1", T, 1))
        .chain(good)
        .chain(more)
        .collect();
    dir.journal("n17.0.1.1", &bad);
    dir.journal("n1.0.1.1", &good);
    lines("finished", &dir, 0..60);
    let found = kinds(&dir);
    let sick: Vec<_> = found
        .iter()
        .filter(|(kind, _)| *kind == "sick-node")
        .collect();
    assert_eq!(sick.len(), 1, "{found:?}");
    assert!(
        sick[0].1.contains("n17 failed 90 % of its 10 tasks"),
        "{sick:?}"
    );
    // Where all fail alike, the tasks are to blame.
    let all = workdir(&["x"; 60]);
    for host in ["a", "b"] {
        let ends = (0..30).map(|id| exit(id, 1, 0, id, 1));
        let records: Vec<_> = std::iter::once(header(host, T, 1)).chain(ends).collect();
        all.journal(&format!("{host}.0.1.1"), &records);
    }
    assert!(kinds(&all).iter().all(|(kind, _)| *kind != "sick-node"));
}

/// `count` attempts of a second, one after the other in each of `slots` slots.
fn attempts(count: u64, slots: u32, used: Used, outcome: &Outcome) -> Vec<Record> {
    let ends = (0..count).map(|id| {
        let slot = u32::try_from(id % u64::from(slots)).unwrap();
        let at = T + id / u64::from(slots) * S;
        let (outcome, used) = (outcome.clone(), Some(used));
        let end = End {
            id: TaskId(id),
            attempt: 1,
            slot,
            at,
            us: S,
            outcome,
            again: None,
            used,
            log: None,
            dir: None,
            skipped: None,
            lease: None,
        };
        Record::End(end)
    });
    ends.collect()
}

fn with_header(slots: u32, cpus: u32, memory: u64, records: Vec<Record>) -> Workdir {
    let dir = workdir(&["x"; 100]);
    let Record::Header(mut header) = header("n1", T, slots) else {
        unreachable!("it is a header");
    };
    (header.cpus, header.memory) = (Some(cpus), Some(memory));
    let all: Vec<_> = std::iter::once(Record::Header(header))
        .chain(records)
        .collect();
    dir.journal("n1.0.1.1", &all);
    dir.seal("n1.0.1.1");
    dir
}

#[test]
fn advice_follows_from_what_was_used() {
    let gib = 1 << 20;
    let used = |cpu: u64, peak: u64| Used {
        user: cpu,
        peak,
        ..Used::default()
    };
    let ok = Outcome::Exit(0);
    for (slots, cpus, used, outcome, kind, says) in [
        (
            8,
            64,
            used(S, 2 * gib),
            ok.clone(),
            "memory",
            "57 slots per node would fit",
        ),
        (
            32,
            32,
            used(S / 10, gib),
            ok.clone(),
            "cpu",
            "10 % of a CPU",
        ),
        (32, 32, used(4 * S, gib), ok.clone(), "cpu", "uses 4.0 CPUs"),
        (
            32,
            32,
            used(S, 8 * gib),
            Outcome::OutOfMemory,
            "out-of-memory",
            "14 slots per node",
        ),
    ] {
        let dir = with_header(slots, cpus, 128 * gib, attempts(96, slots, used, &outcome));
        lines(
            if outcome == ok { "finished" } else { "failed" },
            &dir,
            0..100,
        );
        let found = kinds(&dir);
        let text = found.iter().find(|(other, _)| *other == kind);
        assert!(
            text.is_some_and(|(_, text)| text.contains(says)),
            "{kind}: {found:?}"
        );
    }
    // All is well: nothing is said.
    let dir = with_header(32, 32, 128 * gib, attempts(96, 32, used(S, gib), &ok));
    lines("finished", &dir, 0..100);
    assert_eq!(kinds(&dir), []);
}

#[test]
fn what_is_left_shows_what_it_needs() {
    let dir = with_header(
        4,
        4,
        1 << 26,
        attempts(
            40,
            4,
            Used {
                user: S,
                peak: 1,
                ..Used::default()
            },
            &Outcome::Exit(0),
        ),
    );
    lines("finished", &dir, 0..40);
    lines("toprocess", &dir, 40..100);
    let found = kinds(&dir);
    // 60 tasks of a second in 4 slots, and one more at the end.
    let says = "the 60 tasks that are left need about 16.0s on 1 node with 4 slots, 4.8s on 4";
    assert!(
        found
            .iter()
            .any(|(kind, text)| *kind == "rest" && text.contains(says)),
        "{found:?}"
    );
}

/// A transaction at a time, by which so many tasks wait; with a checkpoint when a new
/// segment of the log begins with it.
fn commit(file: &std::fs::File, state: &mut State, (at, act, left): (u64, Act, u64), new: bool) {
    let bytes = state::bytes(file, &state.log, 0).unwrap();
    let before = Members::after(&state::parse_entries(&bytes).unwrap());
    state.seq += 1;
    state.set_queue(Queue {
        left,
        ..Queue::default()
    });
    state::write(file, state, at, act, new.then_some(before)).unwrap();
}

fn join(by: u32, farmer: &str, claim: &str) -> Act {
    Act::Join {
        by,
        farmer: farmer.into(),
        feeds: false,
        claim: claim.parse().unwrap(),
    }
}

fn claims(by: u32, claim: &str) -> Act {
    Act::Turn {
        by,
        settled: 0,
        ended: "".parse().unwrap(),
        claim: claim.parse().unwrap(),
        back: "".parse().unwrap(),
        fed: 0,
        fed_all: false,
        leave: false,
    }
}

#[test]
fn the_queue_is_known_as_far_back_as_the_log_is_kept() {
    let dir = workdir(&["true"; 4]);
    let path = dir.file("lock", b"");
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.unwrap();
    let mut state = State::new(Mechanism::Flock);
    state.tasks.lines = 4;
    commit(&file, &mut state, (1, Act::Prepare, 4), false);
    commit(&file, &mut state, (2, join(0, "n1.0.1.1", "0-1"), 2), false);
    commit(&file, &mut state, (3, claims(0, "2"), 1), false);
    let old = state::bytes(&file, &state.log, 0).unwrap();
    commit(&file, &mut state, (4, claims(0, "3"), 0), true);
    let known = || {
        let run = Run::open(dir.path()).unwrap();
        counts::queue_history(dir.path(), &run.counts).unwrap()
    };
    assert_eq!(known(), [(4, 0)]);
    dir.file("log.0", &old);
    assert_eq!(known(), [(1, 4), (2, 2), (3, 1), (4, 0)]);
}

/// Farmers that joined before the log was cut are known by its checkpoint.
#[test]
fn clocks_that_differ_are_found_by_the_order_of_transactions() {
    let dir = workdir(&["true"; 4]);
    for host in ["n1", "n2"] {
        let header = header(host, 1, 1);
        dir.journal(&format!("{host}.0.1.1"), &[header, start(0, 1, 0, T)]);
    }
    let path = dir.file("lock", b"");
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.unwrap();
    let mut state = State::new(Mechanism::Flock);
    let found = || Run::open(dir.path()).unwrap().clock_difference();
    commit(&file, &mut state, (T, join(0, "n1.0.1.1", ""), 4), false);
    commit(
        &file,
        &mut state,
        (T + 10 * S, join(1, "n2.0.1.1", ""), 4),
        false,
    );
    assert_eq!(found(), None, "ten seconds may have passed");
    commit(
        &file,
        &mut state,
        (T + 10 * S - 10, claims(0, "0"), 4),
        false,
    );
    assert_eq!(found(), None, "too small to matter");
    let difference = |us| ClockDifference {
        ahead: "n2".into(),
        behind: "n1".into(),
        us,
    };
    commit(&file, &mut state, (T + 12 * S, claims(1, "1"), 4), false);
    commit(&file, &mut state, (T + 3 * S, claims(0, "2"), 4), false);
    let found_now = found().unwrap();
    assert_eq!(found_now, difference(9 * S));
    assert_eq!(found_now.of("n2"), Some(9 * S.cast_signed()));
    assert_eq!(found_now.of("n1"), Some(-9 * S.cast_signed()));
    assert_eq!(found_now.of("n3"), None);
    commit(&file, &mut state, (T + 20 * S, claims(1, "3"), 4), true);
    commit(&file, &mut state, (T + 15 * S, claims(0, ""), 4), false);
    assert_eq!(found(), Some(difference(5 * S)), "after the log was cut");
}
