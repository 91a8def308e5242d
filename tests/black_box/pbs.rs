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

/// Stand in for the programs that start processes on the nodes of a job, as they were
/// recorded.
const PBSDSH: &str = include_str!("pbsdsh.py");
const MPIEXEC: &str = include_str!("mpiexec.py");

/// Lets the scripts wait less for what they look at again and again.
const SLEEP: &str = "#!/bin/sh\n[ \"$1\" = 5 ] && set -- 0.2\nexec /bin/sleep \"$@\"\n";

/// Three nodes, of which this machine is all.
const NODES: usize = 3;

/// A job of a script in `slurm/`, on three nodes with two CPUs each, or others.
struct Job<'f> {
    farm: &'f Farm,
}

impl<'f> Job<'f> {
    fn new(farm: &'f Farm) -> Self {
        for (name, double) in [("pbsdsh", PBSDSH), ("mpiexec", MPIEXEC), ("sleep", SLEEP)] {
            program(farm, name, double);
        }
        symlink(env!("CARGO_BIN_EXE_pytf"), farm.path("bin/pytf")).unwrap();
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

    /// `qsub SCRIPT`
    fn submit(&self, script: &str) -> Pytf<'f> {
        let path = std::env::var("PATH").unwrap();
        let file = |name: &str| self.farm.path(name).display().to_string();
        let (name, value) = (self.of_node(0), file(""));
        let (name, mom) = name.split_once('=').unwrap();
        let none: [&str; 0] = [];
        let pytf = self.farm.pytf(none).under(["bash", &script_path(script)]);
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

/// Puts a program into the folder that is first in the PATH of a job.
fn program(farm: &Farm, name: &str, text: &str) {
    let path = format!("bin/{name}");
    farm.write(&path, text);
    set_permissions(farm.path(&path), Permissions::from_mode(0o755)).unwrap();
}

fn script_path(name: &str) -> String {
    format!("{}/slurm/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The ranks of those that have joined, sorted.
fn ranks(farm: &Farm) -> Vec<u64> {
    let headers = farm.headers();
    let ranks = headers.iter().filter_map(|one| one["rank"].as_u64());
    let mut ranks: Vec<u64> = ranks.collect();
    ranks.sort_unstable();
    ranks
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
    let script = job.submit("pbs-pbsdsh.sh").start();
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
    program(&farm, "own", "#!/bin/sh\npwd; echo $PBS_JOBID\n");
    let script = Job::new(&farm).submit("pbs-pbsdsh.sh").start();
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
    assert_eq!((headers.len(), ranks(&farm)), (3, vec![0, 1, 2]));
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
    let script = job.submit("pbs-pbsdsh.sh").start();
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

#[test]
fn ranks_that_mpiexec_starts_over_ssh_know_their_job_and_ask_when_it_ends() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let show = "printf %s \"$USERS_OWN\" > seen.$PYTF_TASK_ID";
    farm.write("tasks.txt", format!("{show}; {}\n", gate.stand()).repeat(6));
    let job = Job::new(&farm);
    let answer = r#"{"Jobs":{"9.pbs0":{"stime":"%s","Resource_List":{"walltime":"12:00:00"}}}}"#;
    program(
        &farm,
        "qstat",
        &format!(
            "#!/bin/sh\necho $OMPI_COMM_WORLD_RANK >> asked\n\
             printf '{answer}' \"$(LC_ALL=C date -u '+%a %b %e %T %Y')\"\n"
        ),
    );
    let script = job.submit("pbs-mpiexec.sh").env("PYTF_NO_WALLTIME", "no");
    let script = script.start();
    gate.comers(6);
    let headers = farm.headers();
    assert_eq!((headers.len(), ranks(&farm)), (3, vec![0, 1, 2]));
    let jobs: Vec<_> = headers.iter().map(|one| one["job"].as_str()).collect();
    assert_eq!(jobs, [Some("9.pbs0"); 3], "the job of each");
    for rank in ["0\n", "1\n", "2\n"] {
        until("each rank has asked", || farm.text("asked").contains(rank));
    }
    gate.open(6);
    let done = script.wait().exits(0);
    farm.assert_exact(6, &[0, 1, 2, 3, 4, 5], &[]);
    assert_eq!(count(&done, "all 6 tasks finished"), 1, "one summary");
    for id in 0..6 {
        assert_eq!(farm.text(format!("seen.{id}")), "a b'c\"\nd", "task {id}");
    }
}

/// Chunks of a job: how many, and the CPUs of each.
struct Chunks {
    count: usize,
    cpus: usize,
    is_scattered: bool,
}

impl Chunks {
    /// What a script asks for.
    fn of(script: &str) -> Self {
        let text = std::fs::read_to_string(script_path(script)).unwrap();
        let asked = |word: &str| {
            let directives = text
                .lines()
                .filter_map(|line| line.strip_prefix("#PBS -l "));
            let mut values =
                directives.filter_map(|line| line.strip_prefix(word)?.strip_prefix('='));
            values.next_back().unwrap_or_default().to_owned()
        };
        let select = asked("select");
        let (count, rest) = select.split_once(':').unwrap();
        let cpus = rest.split(':').find_map(|part| part.strip_prefix("ncpus="));
        Self {
            count: count.parse().unwrap(),
            cpus: cpus.unwrap().parse().unwrap(),
            is_scattered: asked("place") == "scatter",
        }
    }

    /// The node of each, as PBS places them on nodes that have room for two: without a
    /// word it fills the first ones.
    fn nodes(&self) -> Vec<String> {
        let on = |chunk| if self.is_scattered { chunk } else { chunk / 2 };
        (0..self.count)
            .map(|chunk| format!("node{}", on(chunk)))
            .collect()
    }
}

#[test]
fn a_job_of_each_script_has_one_pytf_on_each_node_and_slots_for_all_its_cpus() {
    for script in ["pbs-mpiexec.sh", "pbs-pbsdsh.sh"] {
        let farm = Farm::new();
        let gate = farm.gate("gate");
        let chunks = Chunks::of(script);
        let mut nodes = chunks.nodes();
        let all = chunks.count * chunks.cpus;
        farm.write("tasks.txt", format!("{}\n", gate.stand()).repeat(all));
        let job = Job::new(&farm);
        farm.write("spool/aux/9.pbs0", nodes.join("\n") + "\n");
        let ncpus = chunks.cpus.to_string();
        let running = job.submit(script).env("NCPUS", ncpus).start();
        nodes.dedup();
        gate.comers(nodes.len() * chunks.cpus);
        gate.open(all);
        running.wait().exits(0);
        let headers = farm.headers();
        let slots = headers.iter().map(|one| one["slots"].as_u64().unwrap());
        assert_eq!(
            slots.sum::<u64>(),
            all as u64,
            "{script}: slots for all CPUs"
        );
        assert_eq!(headers.len(), nodes.len(), "{script}: one on each node");
    }
}
