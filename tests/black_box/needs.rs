//! Tasks with needs of their own in one list: what real processes find of CPUs, GPUs, memory and
//! time, and in which order they start.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::devices::{Node, is_there, uuid};
use crate::harness::{Farm, skip, until};

/// The CPUs that `taskset -pc $$` printed into a log.
fn affinity(farm: &Farm, id: u64) -> BTreeSet<usize> {
    let log = farm.text(format!("w/logs/log_{id}"));
    let list = log
        .lines()
        .find_map(|line| line.split_once("affinity list: "));
    let list = list.unwrap_or_else(|| panic!("task {id} printed {log}")).1;
    let number = |text: &str| text.trim().parse::<usize>().unwrap();
    let range = |part: &str| match part.split_once('-') {
        Some((from, to)) => number(from)..=number(to),
        None => number(part)..=number(part),
    };
    list.split(',').flat_map(range).collect()
}

fn has_two_cpus() -> bool {
    let has = std::thread::available_parallelism().is_ok_and(|n| n.get() > 1);
    if !has {
        skip("there is one CPU");
    }
    has
}

fn seen(farm: &Farm, id: u64, name: &str) -> Option<String> {
    let log = farm.text(format!("w/logs/log_{id}"));
    let mut lines = log.lines().filter_map(|line| line.split_once('='));
    lines
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value.to_owned())
}

/// The memory that tasks may use together, as the journal of a farmer has it.
fn memory(farm: &Farm) -> u64 {
    farm.headers()[0]["memory"].as_u64().unwrap()
}

#[test]
fn a_task_has_the_cpus_that_it_needs_and_they_are_its_own() {
    if !has_two_cpus() {
        return;
    }
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write(
        "tasks.txt",
        format!(
            "taskset -pc $$; env #PYTF cpus=2\n\
             taskset -pc $$; env; {0} #PYTF cpus=1\n\
             taskset -pc $$; env; {0}\n",
            gate.stand()
        ),
    );
    let pytf = farm.farm("").start();
    gate.comers(2);
    gate.open(2);
    pytf.wait().exits(0);
    assert_eq!(affinity(&farm, 0).len(), 2);
    let status = farm.pytf(["status", "w", "--task", "0"]).run().exits(0);
    status.says(&["    2 CPUs ("]);
    let (one, other) = (affinity(&farm, 1), affinity(&farm, 2));
    assert_eq!((one.len(), other.len()), (1, 1));
    assert!(one.is_disjoint(&other), "{one:?} and {other:?}");
    for (id, cpus) in [(0, "2"), (1, "1"), (2, "1")] {
        assert_eq!(seen(&farm, id, "PYTF_CPUS").as_deref(), Some(cpus));
        assert_eq!(seen(&farm, id, "OMP_NUM_THREADS").as_deref(), Some(cpus));
    }
}

/// The second task needs the whole node: those behind it do not overtake it, unless they are
/// over before it could start.
#[test]
fn a_wide_task_is_not_overtaken_but_by_who_is_over_in_time() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write(
        "tasks.txt",
        format!(
            "{} #PYTF time=10h\n\
             echo wide >> order #PYTF cpus=2\n\
             echo long >> order\n\
             echo short >> order #PYTF time=1h\n\
             echo long >> order #PYTF time=20h\n",
            gate.stand()
        ),
    );
    let pytf = farm.farm("--proc 2").start();
    gate.comers(1);
    until("the short task has run", || farm.text("order") == "short\n");
    // Views know of it by the journal.
    let view = |args: &[&str]| {
        let all = [&["status", "w"], args].concat();
        String::from_utf8(farm.pytf(all).run().leaves(0).stdout).unwrap()
    };
    let task = || view(&["--task", "1"]);
    until("it is seen to wait", || task().contains("reserved on "));
    assert!(task().contains("it needs 2 CPUs, of which 1 is free"));
    let status = view(&[]);
    assert!(status.contains("collects for task 1"), "{status}");
    assert!(status.contains("1: time limit 20h"), "{status}");
    let json: Value = serde_json::from_str(&view(&["--json"])).unwrap();
    assert_eq!(json["nodes"][0]["reserved"], 1);
    assert_eq!(json["waiting"].as_array().unwrap().len(), 2, "{json}");
    gate.open(1);
    pytf.wait().exits(0);
    assert_eq!(farm.text("order"), "short\nwide\nlong\nlong\n");
}

#[test]
fn a_task_has_its_own_time_limit_whatever_that_of_all_is() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    // The first has longer than the limit of all: it ends after the second was stopped by it.
    farm.write(
        "tasks.txt",
        format!("{} #PYTF time=1h\nexec sleep 1000\n", gate.stand()),
    );
    let pytf = farm.farm("--task-timeout 300ms").start();
    gate.comers(1);
    until("the other is over its limit", || farm.ids("failed") == [1]);
    gate.open(1);
    pytf.wait().exits(1);
    assert_eq!(farm.ids("finished"), [0]);

    let farm = Farm::of("exec sleep 1000 #PYTF time=100ms\n");
    farm.farm("--task-timeout 1h").run().exits(1);
    assert_eq!(farm.outcomes()[&0], "time-limit");
}

#[test]
fn a_task_over_its_memory_is_killed_and_its_log_says_so() {
    // tail keeps the line, which has no end, until its reader takes it.
    let farm = Farm::of("head -c 200000000 /dev/zero | tail | sleep 1000 #PYTF mem=100M\ntrue\n");
    farm.farm("").run().exits(1);
    assert_eq!(farm.outcomes()[&0], "out-of-memory");
    let log = farm.text("w/logs/log_0");
    assert!(
        log.starts_with("pytf: killed: it had ") && log.contains("its limit is 100 MiB"),
        "{log}"
    );
    assert_eq!(farm.ids("finished"), [1]);
}

/// Two tasks that need more than half of the memory each never run at the same time.
#[test]
fn memory_is_dealt() {
    let farm = Farm::of("true\n");
    farm.farm("").run().exits(0);
    let mem = memory(&farm) * 6 / 10;
    let alone = "mkdir there && env && rmdir there\n".repeat(6);
    for (args, list) in [
        (format!("--mem {mem}K"), alone.clone()),
        (
            String::new(),
            alone.replace('\n', &format!(" #PYTF mem={mem}K\n")),
        ),
    ] {
        let farm = Farm::of(list);
        farm.farm(&args).run().exits(0);
        assert_eq!(seen(&farm, 5, "PYTF_MEM"), Some(format!("{mem}K")));
    }
}

/// A task that would be stopped with the allocation is left to another one, and holds up nobody.
#[test]
fn a_task_with_a_longer_limit_than_what_is_left_is_not_started() {
    let farm = Farm::of("echo a #PYTF time=10h\necho b #PYTF time=1m\necho c\n");
    let done = farm.farm("--walltime 1h --grace 0").run().exits(1);
    done.says(&["1 task is not started here: its time limit is 10h00m, and 59m"]);
    assert_eq!(
        (farm.ids("finished"), farm.ids("toprocess")),
        (vec![1, 2], vec![0])
    );
    farm.farm("--walltime 11h").run().exits(0);
}

#[test]
fn what_this_node_can_never_hold_is_given_back_and_blocks_nobody() {
    let farm = Farm::of("echo a #PYTF cpus=5000\necho b #PYTF mem=900T\necho c\n");
    farm.farm("").run().exits(1).says(&[
        "1 task can never run on this node: each needs 5000 CPUs of 2; others may run",
        "1 task can never run on this node: each needs 900 TiB of memory of ",
    ]);
    assert_eq!(
        (farm.ids("finished"), farm.ids("toprocess")),
        (vec![2], vec![0, 1])
    );
    // To run the same again would do nothing more.
    let status = farm.pytf(["status", "w"]).run().exits(0);
    let status = status.says(&["1: 5000 CPUs; it needs 5000 CPUs", "on other nodes"]);
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(!status.contains("same command again"), "{status}");
    for (task, need) in [("0", "5000 CPUs"), ("1", "900 TiB of memory")] {
        let status = farm.pytf(["status", "w", "--task", task]).run().exits(0);
        status.says(&[&format!(
            "it needs {need}, and no node of the run has so much"
        )]);
    }
    farm.pytf(["report", "w"]).run().exits(0);
    let page = farm.text("w/report.html");
    assert!(page.contains("<td>5000 CPUs</td>"), "{page}");
}

/// A task that only another node may run takes no room on this one.
#[test]
fn a_task_of_another_node_reserves_nothing() {
    let farm =
        Farm::of("echo a #PYTF node=elsewhere cpus=2\necho b\necho c #PYTF cpus=2\necho d\n");
    farm.farm("").run().exits(1);
    assert_eq!(
        (farm.ids("finished"), farm.ids("toprocess")),
        (vec![1, 2, 3], vec![0])
    );
    let status = farm.pytf(["status", "w", "--task", "0"]).run().exits(0);
    status.says(&["no node of the run is 'elsewhere', which it needs"]);
    farm.pytf(["timeline", "w"]).run().exits(0);
    let timeline = farm.text("w/timeline.json");
    assert!(timeline.contains("\"cpus\":2"), "{timeline}");
}

#[test]
fn a_task_sees_as_many_gpus_as_it_needs_and_none_otherwise() {
    if !is_there() {
        return;
    }
    let node = Node::of(2, "");
    let gate = node.farm.gate("gate");
    node.farm.write(
        "tasks.txt",
        format!(
            "env; {0} #PYTF gpus=1\nenv; {0} #PYTF gpus=1\nenv #PYTF gpus=2\nenv\n",
            gate.stand()
        ),
    );
    let pytf = node.run("--proc 2").start();
    gate.comers(2);
    gate.open(2);
    pytf.wait().exits(0);
    let gpus = node.seen("CUDA_VISIBLE_DEVICES", 4);
    let gpus: Vec<String> = gpus.into_iter().flatten().collect();
    let both: BTreeSet<&String> = gpus[..2].iter().collect();
    assert_eq!(both, [&uuid(0), &uuid(1)].into());
    assert_eq!(
        gpus[2..],
        [format!("{},{}", uuid(0), uuid(1)), String::new()]
    );
    assert_eq!(node.seen("PYTF_GPUS", 4)[2].as_ref(), Some(&gpus[2]));
    let ends = node.farm.ends();
    let of_both = ends.iter().find(|end| end["id"] == 2).unwrap();
    assert_eq!(
        of_both["lease"]["gpus"],
        serde_json::json!([uuid(0), uuid(1)])
    );
}

/// As for slots with a GPU: a task starts on a GPU when others do not use it.
#[test]
fn a_lease_has_no_gpu_that_others_use() {
    if !is_there() {
        return;
    }
    let node = Node::of(2, "env #PYTF gpus=1\nenv\n");
    node.say("load0", 90);
    node.run("--proc 1 --gpu-max-load 0.5").run().exits(0);
    assert_eq!(node.seen("CUDA_VISIBLE_DEVICES", 1), [Some(uuid(1))]);
}
