//! Under PBS, which no package registry has: doubles that behave as OpenPBS 23 was
//! seen to. It signals every process of a job's session, the youngest first, and
//! `pytf` up to 0.1 s after its tasks.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::harness::{Done, Farm, Gate, Pytf, Running, marked, pause, until};

/// Shell: answers each signal in its own way, tells that it is there, and stays.
fn answering(gate: &Gate, answer: &str) -> String {
    let tell = gate.tell("$PYTF_TASK_ID $$");
    format!("trap '{answer}' TERM USR1; {tell}; sleep 1000 & while :; do wait; done\n")
}

/// What tasks answer to a signal: a death of it, statuses of all kinds.
fn answers(gate: &Gate) -> String {
    let stand = gate.stand();
    let all = ["exit 143", "exit 1", "exit 85"].map(|answer| answering(gate, answer));
    format!("{stand}\n{}", all.concat())
}

/// Signals a job as PBS does: its tasks, and a moment later `pytf`.
fn signal_job(pytf: &Running<'_>, tasks: &[(u64, i32)], signal: Signal) {
    for &(_, pid) in tasks {
        killpg(Pid::from_raw(pid), signal).unwrap();
    }
    pause(Duration::from_millis(100));
    pytf.signal(signal);
}

/// All four were interrupted, whatever they said, and wait again.
fn all_were_interrupted(farm: &Farm) {
    farm.assert_exact(4, &[], &[]);
    for id in 0..4 {
        assert_eq!(farm.outcomes()[&id], "interrupted", "task {id}");
    }
}

#[test]
fn what_a_task_answers_to_qdel_is_no_failure_of_it() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", answers(&gate));
    let pytf = farm.farm("--proc 4").start();
    signal_job(&pytf, &gate.comers(4), Signal::SIGTERM);
    pytf.wait().exits(75);
    all_were_interrupted(&farm);
}

#[test]
fn what_a_task_answers_to_a_signal_of_the_whole_job_is_no_failure_of_it() {
    // With a known end SIGUSR1 only means that nothing more is started: the farm
    // goes on, but its tasks have got the signal as well.
    for known in ["--walltime 1h", ""] {
        let farm = Farm::new();
        let gate = farm.gate("gate");
        farm.write("tasks.txt", answers(&gate));
        let pytf = farm.farm(&format!("--proc 4 {known}")).start();
        signal_job(&pytf, &gate.comers(4), Signal::SIGUSR1);
        pytf.wait().exits(75);
        all_were_interrupted(&farm);
    }
}

#[test]
fn a_task_that_dies_of_our_signal_much_later_was_interrupted_and_other_failures_are_its_own() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let late = |then: &str| {
        let (tell, pass) = (gate.tell("$PYTF_TASK_ID $$"), gate.pass());
        format!("trap '{pass}; {then}' USR1; {tell}; sleep 1000 & while :; do wait; done\n")
    };
    let die = late("trap - USR1; kill -USR1 $$");
    farm.write("tasks.txt", format!("{die}{}", late("exit 3")));
    let pytf = farm.farm("--proc 2 --walltime 1h").start();
    signal_job(&pytf, &gate.comers(2), Signal::SIGUSR1);
    // It is time itself that makes the difference.
    pause(Duration::from_secs(4));
    gate.open(2);
    pytf.wait().exits(75);
    farm.assert_exact(2, &[], &[1]);
    assert_eq!(farm.outcomes()[&0], "interrupted");
    assert_eq!(farm.outcomes()[&1], "exit 3");
}

/// Stands in for pbsdsh, as it was recorded.
const PBSDSH: &str = include_str!("pbsdsh.py");

/// Three nodes, of which this machine is all.
const NODES: usize = 3;

/// A job of `slurm/pbs-pbsdsh.sh` on three nodes, two slots each.
struct Job<'f> {
    farm: &'f Farm,
}

impl<'f> Job<'f> {
    fn new(farm: &'f Farm) -> Self {
        farm.write("bin/pbsdsh", PBSDSH);
        let bin = farm.path("bin");
        set_permissions(bin.join("pbsdsh"), Permissions::from_mode(0o755)).unwrap();
        symlink(env!("CARGO_BIN_EXE_pytf"), bin.join("pytf")).unwrap();
        symlink("tasks.txt_workdir", farm.path("w")).unwrap();
        farm.write("spool/aux/9.pbs0", "node0\nnode1\nnode2\n");
        let home = farm.path("spool");
        farm.write("pbs.conf", format!("PBS_HOME={}\n", home.display()));
        farm.write("home/.profile", "");
        Self { farm }
    }

    /// The variable by which the processes of a node are known here. Each mom has its
    /// own, and the script must not pass the first one's on.
    fn of_node(&self, node: usize) -> String {
        format!("PBS_MOMPORT={}#{node}", self.farm.path("").display())
    }

    fn script(&self) -> Pytf<'f> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/slurm/pbs-pbsdsh.sh");
        let path = std::env::var("PATH").unwrap();
        let file = |name: &str| self.farm.path(name).display().to_string();
        let (name, value) = (self.of_node(0), file(""));
        let (name, mom) = name.split_once('=').unwrap();
        let none: [&str; 0] = [];
        let pytf = self.farm.pytf(none).under(["bash", script]);
        [
            ("PATH", &*format!("{}:{path}", file("bin"))),
            ("HOME", &file("home")),
            (name, mom),
            ("PBS_O_WORKDIR", &value),
            ("PBS_ENVIRONMENT", "PBS_BATCH"),
            ("PBS_JOBID", "9.pbs0"),
            ("PBS_NODEFILE", &file("spool/aux/9.pbs0")),
            ("PBS_CONF_FILE", &file("pbs.conf")),
            ("PBS_NODENUM", "0"),
            ("PBS_TASKNUM", "1"),
            ("NCPUS", "2"),
            ("USERS_OWN", "a b'c\"\nd"),
            ("PYTF_TAKEOVER", "2s"),
            ("PYTF_NO_WALLTIME", "true"),
        ]
        .into_iter()
        .fold(pytf, |pytf, (name, value)| pytf.env(name, value))
    }

    fn processes(&self, node: usize) -> Vec<i32> {
        marked(&self.of_node(node))
    }

    /// `qdel`: SIGTERM to all, the youngest first. As soon as the processes of the first
    /// node are gone, those of the others are killed.
    fn delete(&self) {
        let mut all: Vec<i32> = (0..NODES).flat_map(|node| self.processes(node)).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        for pid in all {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            pause(Duration::from_millis(3));
        }
        until("the first node has none left", || {
            self.processes(0).is_empty()
        });
        for pid in (1..NODES).flat_map(|node| self.processes(node)) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// How often a text is in what a job printed.
fn count(done: &Done<'_>, text: &str) -> usize {
    String::from_utf8_lossy(&done.stdout).matches(text).count()
}

#[test]
fn a_job_that_is_deleted_saves_what_ran_on_all_nodes() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    // Some nodes need longer than the first.
    let slow = answering(&gate, "sleep 1; exit 143");
    farm.write("tasks.txt", slow.repeat(6));
    let job = Job::new(&farm);
    let script = job.script().start();
    gate.comers(6);
    job.delete();
    let done = script.wait().exits(75);
    assert_eq!(count(&done, "6 of 6 tasks are left"), 1, "one summary");
    farm.assert_exact(6, &[], &[]);
    assert!(
        farm.outcomes()
            .values()
            .all(|outcome| outcome == "interrupted")
    );
    let left = farm.records("leave");
    assert_eq!(left.len(), 3, "all left in good order");
}

#[test]
fn tasks_of_a_pbs_job_have_the_users_environment_and_the_job_has_the_farms_status() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let seen = "own > seen.$PYTF_TASK_ID; printf %s \"$USERS_OWN\" >> seen.$PYTF_TASK_ID";
    farm.write(
        "tasks.txt",
        format!("{}\n", gate.stand()).repeat(6) + &format!("{seen}\n").repeat(5) + "exit 3\n",
    );
    farm.write("bin/own", "#!/bin/sh\npwd; echo $PBS_JOBID\n");
    set_permissions(farm.path("bin/own"), Permissions::from_mode(0o755)).unwrap();
    let script = Job::new(&farm).script().start();
    gate.comers(6);
    gate.open(6);
    let done = script.wait().exits(1);
    farm.assert_exact(12, &(0..11).collect::<Vec<_>>(), &[11]);
    for id in 6..11 {
        let folder = farm.path("").canonicalize().unwrap();
        let expected = format!("{}\n9.pbs0\na b'c\"\nd", folder.display());
        assert_eq!(farm.text(format!("seen.{id}")), expected, "task {id}");
    }
    // Three ranks of one job, which speak with one voice.
    let headers = farm.headers();
    let mut ranks: Vec<_> = headers.iter().map(|one| one["rank"].as_u64()).collect();
    ranks.sort_unstable();
    assert_eq!(ranks, [Some(0), Some(1), Some(2)]);
    assert!(headers.iter().all(|one| one["job"] == "9.pbs0"));
    assert_eq!(count(&done, "1 of 12 tasks failed"), 1, "one summary");
    assert!(!done.stderr.contains("alone"), "{}", done.stderr);
}

#[test]
fn a_job_ends_although_one_of_its_nodes_has_died() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("{}\n", gate.stand()).repeat(6));
    let job = Job::new(&farm);
    let script = job.script().start();
    gate.comers(6);
    for pid in job.processes(2) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    // Or a dying task would take the word for another.
    until("the node is dead", || job.processes(2).is_empty());
    // Its two tasks come once more.
    gate.open(4);
    gate.comers(2);
    gate.open(2);
    script.wait().exits(0);
    farm.assert_exact(6, &[0, 1, 2, 3, 4, 5], &[]);
}
