//! Commands in a storm: the run is paused, resumed, drained, stopped and closed, and tasks are
//! added, cancelled, retried and edited, at random moments, while processes are killed, frozen
//! and fenced, and others come in their place.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::crew::{Crew, Random, setting};
use crate::harness::{Farm, Running, until};
use crate::record::{added_task, assert_complete, farm, good_ends, told};

const SIZE: usize = 4;

/// The statuses with which a command may end: some tasks may have gone on meanwhile, so that
/// nothing was left to do for them.
const CODES: [Option<i32>; 3] = [None, Some(0), Some(2)];

/// An editor that takes a task out, changes another one and appends a new one, or reverses the
/// order.
fn editor(n: u64, random: &mut Random) -> String {
    if random.below(3) == 0 {
        return r#"sh -c 'tac "$1" > "$1.new" && mv "$1.new" "$1"' editor"#.into();
    }
    let [out, changed] = [random.below(n), random.below(n)];
    let [changed_to, new] = [added_task(random.below(200)), added_task(random.below(200))];
    format!("sed -i -e '/^{out} /d' -e 's|^{changed} .*|{changed} {changed_to}|' -e '$a + {new}'")
}

/// Starts a random command that steers a run of `n` tasks.
fn command<'f>(farm: &'f Farm, n: u64, random: &mut Random) -> (String, Running<'f>) {
    let first = random.below(n);
    let ids = format!("{first}-{}", first + random.below(10));
    let commands = [
        "pause w",
        "pause w --stop",
        "resume w",
        "drain w",
        "stop w",
        "resume w",
        "close w",
        "add w",
        "cancel w",
        "cancel w",
        "retry w",
        "edit w",
        "edit w",
    ];
    let command = commands[random.index(commands.len())];
    let last = match &command[..command.len() - 2] {
        "add" => Some(added_task(random.below(200))),
        "cancel" | "retry" => Some(ids),
        _ => None,
    };
    let words = command.split(' ').map(str::to_owned);
    let pytf = farm.pytf(words.chain(last)).env("TMPDIR", farm.path("tmp"));
    let pytf = pytf.env("VISUAL", editor(n, random));
    (command.to_owned(), pytf.start())
}

/// Kills or freezes one of the processes now and then, and wakes the frozen one. Returns how many
/// were killed.
fn strike<'f>(crew: &mut Crew<'f>, frozen: &mut Option<Running<'f>>, random: &mut Random) -> u64 {
    if random.below(4) == 0
        && let Some(one) = frozen.take()
    {
        one.signal(Signal::SIGCONT);
        crew.members.push(one);
    }
    while crew.members.len() < SIZE {
        crew.refill();
    }
    let mut one = crew.take(random.index(SIZE));
    let runs = one.child.try_wait().unwrap().is_none();
    match random.below(4) {
        0 | 1 if runs => {
            one.signal(Signal::SIGKILL);
            crew.left.push(crate::crew::wait(one));
            return 1;
        }
        2 if runs && frozen.is_none() => {
            one.signal(Signal::SIGSTOP);
            *frozen = Some(one);
        }
        _ => crew.members.push(one),
    }
    0
}

/// No command loses a task or records one twice, whatever dies with it, stands still or is fenced.
/// (That a paused run claims nothing, and that an edit does what it says, the model check sees.)
#[test]
fn commands_during_a_storm_of_kills_lose_and_double_nothing() {
    let strikes = setting("PYTF_TEST_KILLS", 4);
    let n = strikes * 40;
    let mut random = Random::new();
    let farm = farm(n, 400, &mut random);
    farm.make_dir("tmp");
    let args = "--no-linger --grace 1 --lock flock --takeover 3 --proc 4";
    let mut crew = Crew::of(&farm, SIZE, args);
    until("the run has begun", || farm.ids("tasks").len() as u64 == n);
    let (mut killed, mut frozen, mut were_frozen) = (0, None, Vec::new());
    for _ in 0..strikes {
        let (command, mut running) = command(&farm, n, &mut random);
        random.moment(Duration::from_millis(400));
        if random.below(3) == 0 && running.child.try_wait().unwrap().is_none() {
            running.signal(Signal::SIGKILL);
        }
        killed += strike(&mut crew, &mut frozen, &mut random);
        were_frozen.extend(frozen.as_ref().map(Running::pid));
        let done = crate::crew::wait(running);
        let code = done.status.code();
        assert!(
            CODES.contains(&code),
            "{command}: {code:?}, {}",
            done.stderr
        );
    }
    if let Some(one) = frozen {
        one.signal(Signal::SIGCONT);
        crew.members.push(one);
    }
    // Nobody lifts the pause of those that are left but we.
    farm.pytf(["resume", "w"]).run().leaves(0);
    let left = crew.end();
    farm.pytf(["resume", "w"]).run().exits(0);
    let code = farm.farm("--proc 16 --quiet").run().status.code();
    assert!(matches!(code, Some(0 | 1)), "{code:?}");
    // A command that was killed has added its tasks or has not.
    let all = farm.ids("tasks").len() as u64;
    let cancelled = crate::cancel::assert_cancelled(&farm, all).len();
    farm.pytf(["retry", "w", "--cancelled"]).run().exits(0);
    farm.farm("--proc 16 --quiet").run().exits(0);
    assert_complete(&farm, all);
    let told = told(&farm, all);
    let fenced = left
        .iter()
        .filter(|done| done.stderr.contains("lost contact"));
    println!(
        "{killed} killed of {}, {} fenced: {n} tasks, {} added, {cancelled} cancelled, {told:?}",
        left.len(),
        fenced.count(),
        all - n
    );
    let is_excused = |farmer: &String| {
        let mut pids = were_frozen.iter();
        pids.any(|pid| farmer.contains(&format!(".{pid}.")))
    };
    assert!(told.overlapping.iter().all(is_excused), "{told:?}");
    let ends = good_ends(&farm);
    let twice: Vec<_> = ends.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "recorded twice: {twice:?}");
    for done in &left {
        let code = done.status.code();
        assert!(
            matches!(code, None | Some(0 | 1 | 75 | 76)),
            "{code:?}: {}",
            done.stderr
        );
    }
}

/// A process that was frozen when all were ordered to stop, and taken over meanwhile, joins
/// again under another name: the order concerns it all the same.
#[test]
fn a_process_that_was_frozen_during_the_order_obeys_when_it_wakes() {
    let farm = Farm::new();
    let (first, always) = (farm.gate("first"), farm.gate("always"));
    let line = format!("[ $PYTF_ATTEMPT -gt 1 ] || {{ {}; }}", first.stand());
    farm.write("tasks.txt", format!("{line}\n{line}\n{}\n", always.stand()));
    let args = "--proc 2 --takeover 2s --grace 1 --no-timeline";
    let one = farm.farm(args).start();
    first.comers(2);
    let name = farm.farmers().remove(0);
    let other = farm.farm(args).start();
    always.comer();
    one.signal(Signal::SIGSTOP);
    until("the other has its tasks", || farm.is_over(&name));
    until("and has done them", || farm.ids("finished").len() == 2);
    farm.pytf(["stop", "w"])
        .run()
        .leaves(0)
        .says(&["1 process"]);
    crate::crew::wait(other).leaves(75).says(&["pytf stop"]);
    one.signal(Signal::SIGCONT);
    let woken = crate::crew::wait(one).exits(75);
    woken.says(&["joins again", "pytf stop"]);
    farm.assert_exact(3, &[0, 1], &[]);
}
