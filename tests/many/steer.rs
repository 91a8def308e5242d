//! Orders in a storm: the run is paused, resumed, drained and stopped, and tasks are added, at
//! random moments, while processes are killed and others come in their place.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::crew::{Crew, Random, setting};
use crate::harness::{Farm, until};
use crate::record::{added_task, assert_complete, farm, good_ends, told};

const SIZE: usize = 4;

/// No order loses a task or records one twice, whatever dies with it. (That a paused run claims
/// nothing, the model check sees.)
#[test]
fn orders_during_a_storm_of_kills_lose_and_double_nothing() {
    let strikes = setting("PYTF_TEST_KILLS", 8);
    let n = strikes * 50;
    let mut random = Random::new();
    let farm = farm(n, 200, &mut random);
    let args = "--no-linger --grace 1 --lock flock --takeover 6 --proc 4";
    let mut crew = Crew::of(&farm, SIZE, args);
    let mut ended = 0;
    until("the run has begun", || farm.ids("tasks").len() as u64 == n);
    let commands = [
        "pause w",
        "pause w --stop",
        "resume w",
        "drain w",
        "stop w",
        "resume w",
        "add w",
    ];
    for _ in 0..strikes {
        let command = commands[random.index(commands.len())];
        let words = command.split(' ').map(str::to_owned);
        let added = command.starts_with("add");
        let task = added.then(|| added_task(random.below(200)));
        let mut order = farm.pytf(words.chain(task)).start();
        random.moment(Duration::from_millis(500));
        if random.below(3) == 0 && order.child.try_wait().unwrap().is_none() {
            order.signal(Signal::SIGKILL);
        }
        let code = crate::crew::wait(order).status.code();
        assert!(matches!(code, None | Some(0)), "{command}: {code:?}");
        while crew.members.len() < SIZE {
            crew.refill();
        }
        let at = random.index(crew.members.len());
        let mut one = crew.take(at);
        if one.child.try_wait().unwrap().is_none() && random.below(2) == 0 {
            one.signal(Signal::SIGKILL);
            crew.left.push(crate::crew::wait(one));
            ended += 1;
        } else {
            crew.members.push(one);
        }
    }
    // Nobody lifts the pause of those that are left but we.
    farm.pytf(["resume", "w"]).run().leaves(0);
    let left = crew.end();
    farm.pytf(["resume", "w"]).run().exits(0);
    farm.farm("--proc 4 --quiet").run().exits(0);
    // A command that was killed has added its task or has not.
    let all = farm.ids("tasks").len() as u64;
    assert_complete(&farm, all);
    let told = told(&farm, all);
    let killed = format!("{ended} killed of {}", left.len());
    println!("{killed}: {n} tasks, {} added, {told:?}", all - n);
    assert_eq!(told.overlapping, [""; 0]);
    let ends = good_ends(&farm);
    let twice: Vec<_> = ends.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "recorded twice: {twice:?}");
    for done in &left {
        let code = done.status.code();
        assert!(
            matches!(code, None | Some(0 | 75)),
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
