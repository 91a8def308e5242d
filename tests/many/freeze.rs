//! Processes that are cut off and come back: frozen for longer than the
//! takeover time, while others take their tasks for those of a dead one.

use std::fs::{self, File};
use std::process::Command;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::crew::{Crew, Random, setting, wait};
use crate::harness::{Farm, Gate, Running, each_nth, has, is_alive, pause, skip, tasks, until};
use crate::record::{assert_complete, farm, good_ends, journals, log, told};

const ARGS: &str = "--proc 2 --takeover 2s --no-timeline";

/// Two tasks whose first attempts stand at the gate.
fn standing(farm: &Farm, gate: &Gate) -> String {
    let first = format!("[ $PYTF_ATTEMPT -gt 1 ] || {{ {}; }}", gate.stand());
    let line = tasks(2, |_| first.clone());
    farm.write("tasks.txt", &line);
    line
}

/// Freezes a farmer with two tasks until another has taken them over and done
/// them; returns the frozen one, its name, its tasks.
fn frozen<'f>(farm: &'f Farm, gate: &Gate) -> (Running<'f>, String, Vec<(u64, i32)>) {
    let one = farm.farm(ARGS).start();
    let its = gate.comers(2);
    let name = farm.farmers().remove(0);
    let other = farm.farm(ARGS).start();
    until("the other has joined", || farm.farmers().len() == 2);
    one.signal(Signal::SIGSTOP);
    wait(other).leaves(0).says(&["missed its heartbeats"]);
    assert!(farm.is_over(&name));
    assert_complete(farm, 2);
    (one, name, its)
}

/// No result of the frozen farmer is on record.
fn nothing_recorded(farm: &Farm, name: &str) {
    for (farmer, records) in journals(farm) {
        let ends = records
            .iter()
            .filter(|record| record["event"] == "end" && record["outcome"] != "interrupted");
        assert!(farmer != name || ends.count() == 0, "{records:?}");
    }
    assert!(good_ends(farm).values().all(|&ends| ends == 1));
    assert_complete(farm, 2);
}

#[test]
fn a_frozen_process_stops_its_tasks_and_joins_again_when_it_wakes() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    standing(&farm, &gate);
    let (one, name, its) = frozen(&farm, &gate);
    // Whoever takes over on the same node ends them before their re-runs.
    until("its tasks have been ended", || {
        its.iter().all(|(_, pid)| !is_alive(*pid))
    });
    one.signal(Signal::SIGCONT);
    wait(one).leaves(0).says(&["lost contact", "joins again"]);
    nothing_recorded(&farm, &name);
}

#[test]
fn a_frozen_process_records_nothing_of_what_ended_meanwhile() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    standing(&farm, &gate);
    let (one, name, its) = frozen(&farm, &gate);
    gate.open(2);
    until("its tasks have ended", || {
        its.iter().all(|(_, pid)| !is_alive(*pid))
    });
    one.signal(Signal::SIGCONT);
    wait(one).leaves(0).says(&["joins again"]);
    nothing_recorded(&farm, &name);
}

/// Whoever takes a process for dead kills its tasks, and may die before it has fenced it. The
/// process that wakes then must not take that for a failure of the tasks.
#[test]
fn tasks_that_were_killed_while_their_process_was_frozen_run_again() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    standing(&farm, &gate);
    let one = farm.farm(ARGS).start();
    let its = gate.comers(2);
    let journal = farm.path(farm.journal(&farm.farmers().remove(0)));
    one.signal(Signal::SIGSTOP);
    for (_, pid) in &its {
        kill(Pid::from_raw(-pid), Signal::SIGKILL).unwrap();
    }
    until("its lease is over", || {
        let written = fs::metadata(&journal).unwrap().modified().unwrap();
        written.elapsed().is_ok_and(|age| age.as_secs() >= 2)
    });
    one.signal(Signal::SIGCONT);
    wait(one).exits(0);
    assert_complete(&farm, 2);
    let mut notes: Vec<String> = farm.text("w/requeued").lines().map(str::to_owned).collect();
    notes.sort();
    assert_eq!(notes, ["0 2 interrupted", "1 2 interrupted"]);
}

/// A run that was reset while the process was frozen is another one: orders of before do not
/// concern the process, and those that are there now are not what it knows the rest of.
#[test]
fn a_frozen_process_joins_the_run_that_was_reset_meanwhile() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.pytf(["add", "w", "true"]).run().leaves(0);
    let pause_and_resume = || {
        for word in ["pause", "resume"] {
            farm.pytf([word, "w"]).run().leaves(0);
        }
    };
    pause_and_resume();
    standing(&farm, &gate);
    let one = farm.farm(ARGS).start();
    gate.comers(2);
    let other = farm.farm(ARGS).start();
    until("the other has joined", || farm.farmers().len() == 2);
    one.signal(Signal::SIGSTOP);
    wait(other).leaves(0).says(&["missed its heartbeats"]);
    farm.pytf(["reset", "w", "--yes"]).run().leaves(0);
    pause_and_resume();
    pause_and_resume();
    one.signal(Signal::SIGCONT);
    gate.comers(2);
    gate.open(2);
    let done = wait(one).exits(0);
    let said = &done.stderr;
    assert!(said.contains("joins again"), "{said}");
    assert!(!said.contains("orders"), "{said}");
    assert_complete(&farm, 3);
    assert!(good_ends(&farm).values().all(|&ends| ends == 1));
}

/// As a client of NFS that could not be reached: its first writes afterwards fail.
#[test]
#[expect(clippy::disallowed_methods, reason = "strace is no task")]
fn a_process_whose_files_fail_when_it_wakes_joins_again() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    standing(&farm, &gate);
    let (one, name, _) = frozen(&farm, &gate);
    let injected = farm.path("injected");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-e", "inject=fdatasync:error=EIO:when=1..2", "-P"])
        .arg(farm.path("w/lock"))
        .args(["-p", &one.pid().to_string(), "-o"])
        .arg(&injected)
        .stderr(File::create(farm.path("attached")).unwrap());
    if !has("strace") {
        skip("there is no strace to make writes fail");
        one.signal(Signal::SIGCONT);
        return;
    }
    let mut strace = strace.spawn().unwrap();
    until("strace is attached", || {
        farm.text("attached").contains("attached") || strace.try_wait().unwrap().is_some()
    });
    one.signal(Signal::SIGCONT);
    wait(one).leaves(0).says(&["joins again"]);
    strace.wait().unwrap();
    let injected = fs::read_to_string(injected).unwrap_or_default();
    if injected.is_empty() {
        skip("strace may not attach to a process here");
    } else {
        assert!(injected.contains("EIO"), "{injected}");
    }
    nothing_recorded(&farm, &name);
}

/// Whoever joins has a journal before it is in the log. When that is silent for too long it
/// is moved to those of farmers that are over, and nobody may join with it any more.
#[test]
fn who_is_frozen_before_it_has_joined_joins_under_another_name() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("{}\n", gate.stand()).repeat(2));
    // A process that is stopped cannot get such a lock.
    let args = "--proc 1 --takeover 2s --no-timeline --lock fcntl";
    let others = [farm.farm(args).start(), farm.farm(args).start()];
    gate.comers(2);
    let lock = File::options()
        .read(true)
        .write(true)
        .open(farm.path("w/lock"))
        .unwrap();
    let whole = libc::flock {
        l_type: libc::F_WRLCK.try_into().unwrap(),
        l_whence: libc::SEEK_SET.try_into().unwrap(),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    until("the lock is ours", || {
        fcntl(&lock, FcntlArg::F_OFD_SETLK(&whole)).is_ok()
    });
    let joining = farm.farm(args).start();
    until("it has a journal", || farm.farmers().len() == 3);
    joining.signal(Signal::SIGSTOP);
    let name = farm.farmers().remove(2);
    drop(lock);
    until("its journal is put away", || farm.is_over(&name));
    joining.signal(Signal::SIGCONT);
    until("it has joined", || {
        log(&farm)
            .iter()
            .filter(|line| line["did"] == "join")
            .count()
            == 3
    });
    gate.open(2);
    for one in others.into_iter().chain([joining]) {
        wait(one).leaves(0);
    }
    let joined = log(&farm);
    assert!(joined.iter().all(|line| line["farmer"] != *name));
    farm.pytf(["repair", "--check", "w"]).run().exits(0);
    assert_complete(&farm, 2);
}

/// Random processes are frozen for up to three takeover times, and replaced
/// when they were cut off.
fn storm(args: &str) {
    let freezes = (setting("PYTF_TEST_KILLS", 4) / 10).max(2);
    let n = freezes * 350;
    let mut random = Random::new();
    let farm = farm(n, 200, &mut random);
    let mut crew = Crew::of(&farm, 4, args);
    let (mut frozen, mut cut_off) = (Vec::new(), 0);
    for _ in 0..freezes {
        random.moment(Duration::from_millis(300));
        let at = random.index(crew.members.len());
        let mut one = crew.take(at);
        if one.child.try_wait().unwrap().is_none() {
            one.signal(Signal::SIGSTOP);
            frozen.push(one.pid());
            pause(Duration::from_millis(1500 + random.below(4500)));
            one.signal(Signal::SIGCONT);
        }
        crew.members.push(one);
        crew.refill();
    }
    for done in crew.end() {
        let code = done.status.code();
        assert!(matches!(code, Some(0 | 76)), "{code:?}: {}", done.stderr);
        cut_off += u64::from(done.stderr.contains("lost contact"));
    }
    farm.farm("--proc 4 --quiet").run().exits(0);

    assert_complete(&farm, n);
    let told = told(&farm, n);
    println!("{freezes} frozen, {cut_off} cut off, {n} tasks, {told:?}");
    let was_frozen = |farmer: &String| {
        frozen
            .iter()
            .any(|pid| farmer.contains(&format!(".{pid}.")))
    };
    assert!(told.overlapping.iter().all(was_frozen), "{told:?}");
    let twice: Vec<_> = good_ends(&farm)
        .into_iter()
        .filter(|end| end.1 > 1)
        .collect();
    assert!(twice.is_empty(), "recorded twice: {twice:?}");
}

#[test]
fn a_storm_of_frost_by_any_lock() {
    for args in each_nth(2, ["--takeover 2s", "--takeover 2s --lock link"]) {
        println!("{args}");
        storm(args);
    }
}
