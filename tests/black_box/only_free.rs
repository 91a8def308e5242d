//! `--only-free`: tasks use what the programs of others leave of a node. What others do is said by
//! a double of /proc, so that the load of the machine of the tests does not matter.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::harness::{Farm, Pytf, tasks, until};

/// The clock ticks of a second, as Linux has them for programs.
const TICKS: f64 = 100.0;

/// A node on which others use so many hundredths of each CPU; more than 100, so that a moment in
/// which nothing is written does not matter.
struct Node {
    farm: Farm,
    used: mpsc::Sender<u32>,
}

impl Node {
    fn of(list: impl AsRef<[u8]>, used: u32) -> Self {
        let farm = Farm::of(list);
        let folder = farm.path("proc");
        std::fs::create_dir(&folder).unwrap();
        write_stat(&folder, 0.0);
        let (sender, change) = mpsc::channel();
        std::thread::spawn(move || keep_busy(&folder, used, &change));
        let node = Self { farm, used: sender };
        node.has_memory(16 << 20, 12 << 20);
        node
    }

    /// So many KiB, of which so many are available.
    fn has_memory(&self, all: u64, available: u64) {
        let text = format!("MemTotal: {all} kB\nMemFree: 1 kB\nMemAvailable: {available} kB\n");
        self.farm.write("proc/meminfo.new", text);
        let path = |name: &str| self.farm.path(format!("proc/{name}"));
        std::fs::rename(path("meminfo.new"), path("meminfo")).unwrap();
    }

    fn others_use(&self, hundredths: u32) {
        self.used.send(hundredths).unwrap();
    }

    /// Waits until a view says this of why a task waits.
    fn waits(&self, id: u64, why: &str) {
        until("a view says why it waits", || {
            let id = id.to_string();
            let status = self.farm.pytf(["status", "w", "--task", &id]).run();
            String::from_utf8(status.leaves(0).stdout)
                .unwrap()
                .contains(why)
        });
    }

    fn run(&self, args: &str) -> Pytf<'_> {
        let farm = self.farm.farm(&format!("--only-free {args}"));
        farm.env("PYTF_TEST_PROC", self.farm.path("proc"))
    }
}

/// Writes the counters of 1,024 CPUs.
fn write_stat(folder: &Path, busy: f64) {
    let mut text = String::from("cpu  0 0 0 0 0 0 0 0 0 0\n");
    for cpu in 0..1024 {
        text += &format!("cpu{cpu} {busy:.0} 0 0 0 0 0 0 0 0 0\n");
    }
    // The folder may go before this thread does.
    let _ = std::fs::write(folder.join("stat.new"), text);
    let _ = std::fs::rename(folder.join("stat.new"), folder.join("stat"));
}

/// Lets the counters grow until the node is gone.
fn keep_busy(folder: &Path, mut used: u32, change: &mpsc::Receiver<u32>) {
    let (mut busy, mut before) = (0.0, Instant::now());
    loop {
        match change.recv_timeout(Duration::from_millis(50)) {
            Ok(hundredths) => used = hundredths,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        busy += (now - before).as_secs_f64() * TICKS * f64::from(used) / 100.0;
        before = now;
        write_stat(folder, busy);
    }
}

/// Nothing starts while others use all CPUs; everything does when they have gone.
#[test]
fn tasks_wait_until_others_leave_them_cpus() {
    let node = Node::of(tasks(4, |n| format!("echo {n} >> ran")), 300);
    let pytf = node.run("").start();
    until("it says why", || pytf.stderr().contains("0 CPUs are left"));
    node.waits(
        0,
        "it needs 1 CPU, of which none are free beside what others use",
    );
    assert_eq!(node.farm.text("ran"), "");
    assert_eq!(node.farm.text("w/finished"), "");
    node.others_use(0);
    pytf.wait().exits(0);
    node.farm.assert_exact(4, &[0, 1, 2, 3], &[]);
}

/// A task that cannot start here is not kept from a node where it can.
#[test]
fn another_node_runs_what_waits_here_in_vain() {
    let node = Node::of(tasks(50, |n| format!("echo {n} >> ran")), 300);
    let busy = node.run("").start();
    until("it says why", || busy.stderr().contains("0 CPUs are left"));
    node.farm.farm("").run().leaves(0);
    busy.wait().exits(0);
    node.farm
        .assert_exact(50, &(0..50).collect::<Vec<_>>(), &[]);
    let first = &node.farm.farmers()[0];
    let journal = std::fs::read_to_string(node.farm.journal(first)).unwrap();
    assert!(!journal.contains(r#""event":"end""#), "{journal}");
}

/// What runs goes on when others come.
#[test]
fn tasks_that_run_are_left_alone() {
    let node = Node::of("", 0);
    let gate = node.farm.gate("gate");
    node.farm
        .write("tasks.txt", format!("{0}\n{0}\n", gate.stand()));
    let pytf = node.run("--proc 1").start();
    gate.comers(1);
    node.others_use(300);
    node.waits(1, "free beside what others use");
    gate.open(1);
    until("the first has ended", || {
        node.farm.ids("finished").len() == 1
    });
    node.others_use(0);
    gate.comers(1);
    gate.open(1);
    pytf.wait().exits(0);
}

/// Two of these tasks fit into the memory of the node, but not beside what others have.
#[test]
fn memory_that_others_have_is_not_dealt() {
    let other = Farm::of("true\n");
    other.farm("").run().exits(0);
    let quarter = other.headers()[0]["memory"].as_u64().unwrap() / 4;
    let node = Node::of("", 0);
    let gate = node.farm.gate("gate");
    let line = format!("{} #PYTF mem={quarter}K\n", gate.stand());
    node.farm.write("tasks.txt", line.repeat(2));
    node.has_memory(quarter * 6, quarter * 3 / 2);
    let pytf = node.run("--proc 2").start();
    gate.comers(1);
    node.waits(1, " free beside ");
    node.has_memory(quarter * 6, quarter * 3);
    gate.comers(1);
    gate.open(2);
    pytf.wait().exits(0);
}

#[test]
fn nothing_starts_while_hardly_any_memory_is_available() {
    let node = Node::of("echo ran > ran\n", 0);
    node.has_memory(16 << 20, 0);
    let pytf = node.run("").start();
    until("it says why", || {
        pytf.stderr().contains("hardly any memory")
    });
    assert_eq!(node.farm.text("ran"), "");
    node.has_memory(16 << 20, 12 << 20);
    pytf.wait().exits(0);
    assert_eq!(node.farm.text("ran"), "ran\n");
}
