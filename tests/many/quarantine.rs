//! A node whose tasks fail quickly, one after the other: others try them, and
//! what they say decides.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::crew::wait;
use crate::harness::{Farm, Gate, Running, is_root, skip, until};
use crate::record::assert_complete;

const TASKS: u64 = 60;

/// Tasks that fail at once where SICK is set. The first stands at the gate, in the
/// hands of the well process, and so does the last; then the sick one comes.
fn two<'f>(farm: &'f Farm, gate: &Gate, rest: &str, args: &str) -> (Running<'f>, Running<'f>) {
    let last = TASKS - 1;
    let line = format!(
        "[ -z \"$SICK\" ] || exit 3; case $PYTF_TASK_ID in 0|{last}) {};; esac; {rest}\n",
        gate.stand()
    );
    farm.write("tasks.txt", line.repeat(usize::try_from(TASKS).unwrap()));
    let well = farm.farm("--proc 1 --takeover 2s").start();
    gate.comer();
    let sick = farm.farm(&format!("--proc 2 --takeover 2s {args}"));
    (well, other_node(sick).env("SICK", "1").start())
}

/// On another node than ours, as far as names go and we may give them.
fn other_node(pytf: crate::harness::Pytf<'_>) -> crate::harness::Pytf<'_> {
    if !is_root() {
        return pytf;
    }
    let rename = "echo sicknode > /proc/sys/kernel/hostname; exec \"$@\"";
    pytf.under(["unshare", "--uts", "sh", "-c", rename, "--"])
}

/// What farmers have thought of their nodes, in order.
fn healths(farm: &Farm) -> Vec<String> {
    let records = farm.records("health");
    let health = |record: &Value| record["opinion"].as_str().unwrap().to_owned();
    records.iter().map(health).collect()
}

fn judges(farm: &Farm, health: &str) {
    until("the farmer has made up its mind", || {
        healths(farm).last().is_some_and(|last| last == health)
    });
}

fn json(farm: &Farm, args: &[&str]) -> Value {
    let done = farm
        .pytf(["status", "w", "--json"].iter().chain(args))
        .run();
    serde_json::from_slice(&done.leaves(0).stdout).unwrap()
}

#[test]
fn what_a_sick_node_fails_is_done_by_the_others() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let (well, sick) = two(&farm, &gate, "true", "");
    judges(&farm, "doubtful");
    gate.open(1);
    judges(&farm, "sick");
    // The last task is at the gate: both are there.
    gate.comer();
    until("all that failed was put back", || {
        json(&farm, &[])["tasks"]["failed"] == 0
    });
    let status = json(&farm, &[]);
    let nodes = status["nodes"].as_array().unwrap();
    assert!(
        nodes.iter().any(|node| node["health"] == "sick"),
        "{status}"
    );
    let text = farm.pytf(["status", "w"]).run().leaves(0);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("in quarantine"), "{text}");
    gate.open(1);
    wait(well).leaves(0);
    wait(sick).exits(0).says(&["this node is sick"]);
    assert_complete(&farm, TASKS);
    assert_eq!(healths(&farm), ["doubtful", "sick"]);
    let bad: Vec<u64> = farm
        .ends()
        .iter()
        .filter(|end| end["outcome"]["exit"] == 3)
        .map(|end| end["id"].as_u64().unwrap())
        .collect();
    assert!(bad.len() >= 8, "{bad:?}");
    if !is_root() {
        skip("whose fault it was: another name for a node needs root");
        return;
    }
    let node = json(&farm, &["--task", &bad[0].to_string()]);
    assert_eq!(node["attempts"][0]["fault"], "node", "{node}");
    assert_eq!(node["attempts"][1]["fault"], Value::Null, "{node}");
    let nodes = json(&farm, &[]);
    let sick = nodes["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|node| node["node"] == "sicknode");
    assert_eq!(sick.unwrap()["forgiven"], bad.len(), "{nodes}");
    let faults = farm
        .text("w/timeline.json")
        .matches("\"fault\":\"node\"")
        .count();
    assert_eq!(faults, bad.len());
}

/// What is tried again by itself is not in `failed`, from which others would take it: it is at
/// the end of the queue, and comes first as well.
#[test]
fn what_a_sick_node_fails_and_tries_again_is_done_by_the_others() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let (well, sick) = two(&farm, &gate, "true", "--retries 2 --retry-delay 1h");
    judges(&farm, "doubtful");
    gate.open(1);
    judges(&farm, "sick");
    gate.comer();
    gate.open(1);
    wait(well).leaves(0);
    wait(sick).exits(0).says(&["this node is sick"]);
    assert_complete(&farm, TASKS);
    assert_eq!(healths(&farm), ["doubtful", "sick"]);
    let notes = farm.text("w/requeued");
    let again = notes.lines().filter(|line| line.ends_with(" 2 again"));
    assert!(again.count() >= 8, "{notes}");
    assert!(!notes.contains("doubted"), "{notes}");
}

#[test]
fn a_node_is_not_sick_when_tasks_fail_everywhere() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let (well, suspect) = two(&farm, &gate, "exit 4", "");
    judges(&farm, "doubtful");
    gate.open(1);
    judges(&farm, "well");
    // Whoever has the last one, it fails.
    gate.open(1);
    wait(well).leaves(1);
    wait(suspect).exits(1).says(&["fail elsewhere, too"]);
    farm.assert_exact(TASKS, &[], &(0..TASKS).collect::<Vec<_>>());
}

#[test]
fn the_last_process_that_claims_is_never_in_quarantine() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let (well, sick) = two(&farm, &gate, "true", "");
    judges(&farm, "doubtful");
    well.signal(Signal::SIGTERM);
    wait(well).leaves(0);
    wait(sick).exits(1).says(&["no other farmer claims"]);
    assert_eq!(healths(&farm), ["doubtful", "well"]);
    farm.assert_exact(TASKS, &[], &(0..TASKS).collect::<Vec<_>>());
}

#[test]
fn a_process_that_dies_in_quarantine_leaves_nothing_behind() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let (well, sick) = two(&farm, &gate, "true", "");
    judges(&farm, "doubtful");
    sick.signal(Signal::SIGKILL);
    wait(sick);
    // What it had failed before the last eight stays failed: nobody has said that
    // it was the node.
    gate.open(2);
    wait(well);
    let failed = farm.ids("failed");
    let finished: Vec<u64> = (0..TASKS).filter(|id| !failed.contains(id)).collect();
    farm.assert_exact(TASKS, &finished, &failed);
    assert!(finished.len() >= 9, "{finished:?}");
    farm.farm("--retry-failed --takeover 2s").run().exits(0);
    assert_complete(&farm, TASKS);
    // In neither of the two states that the file holds.
    assert!(!farm.text("w/lock").contains("\"quarantined\":1"));
}

#[test]
fn without_quarantine_it_goes_on_failing() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let (well, sick) = two(&farm, &gate, "true", "--no-quarantine");
    until("it has failed everything that there was", || {
        farm.ids("failed").len() as u64 == TASKS - 1
    });
    gate.open(1);
    wait(well).leaves(1);
    wait(sick).exits(1);
    assert_eq!(healths(&farm), [""; 0]);
}
