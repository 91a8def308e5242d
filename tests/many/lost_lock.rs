//! Locks that are lost while their holders live, and namespaces in which process
//! numbers mean something else.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::crew::wait;
use crate::harness::{Farm, Gate, Pytf, Running, has, is_root, skip, tasks, until};
use crate::record::{assert_complete, good_ends, journals, log};

/// Runs `pytf` where it sees no process of ours, as on another node.
fn elsewhere(pytf: Pytf<'_>) -> Pytf<'_> {
    pytf.under(["unshare", "--pid", "--fork", "--mount-proc"])
}

fn may_go_elsewhere() -> bool {
    let may = is_root() && has("unshare") && {
        let tried = Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc", "true"])
            .status();
        tried.is_ok_and(|status| status.success())
    };
    if !may {
        skip("namespaces of process numbers are not permitted here");
    }
    may
}

/// Heartbeats of a second.
const TAKEOVER: &str = "--proc 1 --takeover 6s --no-timeline --logs none";

/// Takes a lock from whoever holds it, by its own descriptor, as a server does that has
/// heard nothing of a client for long.
const DROP: &str = r"
import ctypes, fcntl, glob, os, sys
libc = ctypes.CDLL(None, use_errno=True)
journal = os.stat(sys.argv[1])
for fd in glob.glob('/proc/[0-9]*/fd/*'):
    try:
        found = os.stat(fd)
        info = open(fd.replace('/fd/', '/fdinfo/')).read()
    except OSError:
        continue
    flags = [line.split()[1] for line in info.splitlines() if line.startswith('flags:')]
    is_writer = int(flags[0], 8) & 3 == 2
    if not is_writer or (found.st_dev, found.st_ino) != (journal.st_dev, journal.st_ino):
        continue
    _, _, pid, _, number = fd.split('/')
    mine = libc.syscall(438, os.pidfd_open(int(pid)), int(number), 0)
    if mine < 0:
        sys.exit(3)
    fcntl.flock(mine, fcntl.LOCK_UN)
    sys.exit(0)
sys.exit(4)
";

/// Whether that could be done.
fn drop_lock(journal: &Path) -> bool {
    let done = Command::new("python3")
        .args(["-c", DROP])
        .arg(journal)
        .status();
    let Ok(status) = done else {
        skip("there is no python3 to take a lock away with");
        return false;
    };
    if status.code() == Some(3) {
        skip("descriptors of others may not be had here");
        return false;
    }
    assert!(status.success(), "{status}");
    true
}

/// How a farmer is put together.
type How = fn(Pytf<'_>) -> Pytf<'_>;

/// Two farmers, each of which has one of the two tasks and waits with it: the second has
/// judged the first when it started.
fn side_by_side<'f>(farm: &'f Farm, gate: &Gate, args: &str, how: [How; 2]) -> [Running<'f>; 2] {
    farm.write("tasks.txt", format!("{}\n", gate.stand()).repeat(2));
    how.map(|how| {
        let one = how(farm.farm(args)).start();
        gate.comer();
        one
    })
}

/// Both lived, so each task had one attempt.
fn nobody_was_sealed(farm: &Farm, gate: &Gate, both: [Running<'_>; 2]) {
    gate.open(2);
    for one in both {
        wait(one).leaves(0);
    }
    assert_eq!(farm.text("w/requeued"), "");
    assert!(good_ends(farm).values().all(|&ends| ends == 1));
    assert_complete(farm, 2);
}

/// Under locks by name nothing but the process tells of a death at once: and only who is
/// on its node can see it. A name of a node is no node.
#[test]
fn nodes_of_one_name_are_not_taken_for_one() {
    if !may_go_elsewhere() {
        return;
    }
    if !has("strace") {
        return skip("there is no strace");
    }
    for (lock, second) in [("link", far as How), ("flock", elsewhere as How)] {
        let farm = Farm::new();
        let gate = farm.gate("gate");
        let args = format!("--proc 1 --takeover 30s --no-timeline --lock {lock}");
        let both = side_by_side(&farm, &gate, &args, [plain, second]);
        nobody_was_sealed(&farm, &gate, both);
    }
}

/// As [`elsewhere`], and no lock reaches it.
fn far(pytf: Pytf<'_>) -> Pytf<'_> {
    elsewhere(pytf.injected("inject=flock:retval=0", None))
}

/// Its system has no locks to give.
fn refused(pytf: Pytf<'_>) -> Pytf<'_> {
    pytf.injected("inject=flock:error=ENOLCK", None)
}

fn plain(pytf: Pytf<'_>) -> Pytf<'_> {
    pytf
}

/// A system that refuses locks of journals says neither that they are held nor that they
/// are free: not of ours, which others find without one, nor of theirs.
#[test]
fn a_lock_that_is_refused_tells_of_no_death() {
    if !has("strace") {
        return skip("there is no strace");
    }
    let (refused, plain): (How, How) = (refused, plain);
    for how in [[refused, plain], [plain, refused]] {
        let farm = Farm::new();
        let gate = farm.gate("gate");
        let args = "--proc 1 --takeover 30s --no-timeline --lock link";
        let both = side_by_side(&farm, &gate, args, how);
        nobody_was_sealed(&farm, &gate, both);
    }
}

fn is_locked(journal: &Path) -> bool {
    let file = File::open(journal).unwrap();
    Flock::lock(file, FlockArg::LockSharedNonblock).is_err()
}

fn seals(farm: &Farm) -> usize {
    let log = log(farm);
    log.iter().filter(|line| line["did"] == "seal").count()
}

#[test]
fn a_farmer_that_loses_the_lock_of_its_journal_lives_on() {
    if !may_go_elsewhere() {
        return;
    }
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("{}\n", gate.stand()).repeat(2));
    let args = "--proc 1 --takeover 30s --no-timeline";
    let one = elsewhere(farm.farm(args)).start();
    gate.comer();
    let name = farm.farmers().remove(0);
    let other = elsewhere(farm.farm(args)).start();
    gate.comer();
    let journal = farm.path(format!("w/nodes/{name}.jsonl"));
    assert!(is_locked(&journal));
    if !drop_lock(&journal) {
        return;
    }
    // The other looks many times before the next heartbeat.
    until("the lock is held again", || is_locked(&journal));
    gate.open(2);
    wait(one).leaves(0);
    wait(other).leaves(0);
    assert_eq!(seals(&farm), 0, "{:?}", log(&farm));
    assert!(good_ends(&farm).values().all(|&ends| ends == 1));
    assert_complete(&farm, 2);
}

/// A node is cut off for longer than the server waits for it, and its lock is gone: others
/// take its tasks over long before the takeover time. When it is back, nothing may start
/// before it has asked whether that is so.
#[test]
fn a_farmer_that_was_sealed_behind_its_back_starts_nothing_more() {
    if !may_go_elsewhere() {
        return;
    }
    let farm = Farm::new();
    let gate = farm.gate("gate");
    // Short ones, so that it claims ahead; then one that stands, and those behind it.
    let line = |id: u64| match id {
        0..40 => "true".to_owned(),
        40 => format!("[ $PYTF_ATTEMPT -gt 1 ] || {{ {}; }}", gate.stand()),
        _ => "echo $PYTF_FARMER >>ran".to_owned(),
    };
    farm.write("tasks.txt", tasks(60, line));
    let args = "--proc 1 --takeover 20s --no-timeline --logs none";
    let one = farm.farm(args).start();
    gate.comer();
    until("it has claimed ahead", || {
        log(&farm).iter().any(|line| {
            let claim = line["claim"].as_str().unwrap_or_default();
            let last = claim
                .rsplit([',', '-'])
                .next()
                .and_then(|id| id.parse().ok());
            last.is_some_and(|last: u64| last > 40)
        })
    });
    one.signal(Signal::SIGSTOP);
    let name = farm.farmers().remove(0);
    let other = elsewhere(farm.farm(args)).start();
    until("the other has joined", || {
        log(&farm)
            .iter()
            .filter(|line| line["did"] == "join")
            .count()
            == 2
    });
    if !drop_lock(&farm.path(format!("w/nodes/{name}.jsonl"))) {
        one.signal(Signal::SIGCONT);
        gate.open(1);
        return;
    }
    until("it is sealed", || seals(&farm) == 1);
    let lost = farm.text("w/requeued").lines().count();
    assert!(lost > 1, "it had claimed nothing ahead");
    // Its task ends, and its slot is free.
    gate.open(1);
    one.signal(Signal::SIGCONT);
    wait(one).leaves(0).says(&["lost contact", "joins again"]);
    wait(other).leaves(0);
    let ran = farm.text("ran");
    assert!(!ran.lines().any(|farmer| farmer == name), "{ran}");
    assert_eq!(ran.lines().count(), 19, "{ran}");
    assert!(good_ends(&farm).values().all(|&ends| ends == 1));
    assert_complete(&farm, 60);
}

#[test]
fn a_run_in_another_namespace_of_processes_is_not_called_dead() {
    if !may_go_elsewhere() {
        return;
    }
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("{}\n", gate.stand()));
    let one = farm.farm("--proc 1 --no-timeline").start();
    gate.comer();
    let status = elsewhere(farm.pytf(["status", "w", "--json"])).run();
    let status: Value = serde_json::from_slice(&status.leaves(0).stdout).unwrap();
    assert_eq!(status["nodes"][0]["life"], "alive", "{status}");
    gate.open(1);
    wait(one).leaves(0);
}

/// The journal of a farmer on another node, as this one sees it: nobody holds its lock.
struct Far {
    path: PathBuf,
    name: &'static str,
}

impl Far {
    /// Beside a run that is complete.
    fn beside(farm: &Farm) -> Self {
        let name = "far.0.1.1";
        let (_, records) = journals(farm).remove(0);
        let mut header = records[0].clone();
        header["farmer"] = name.into();
        header["host"] = "far".into();
        header["node"]["boot"] = "00000000-0000-4000-8000-000000000000".into();
        let path = farm.path(format!("w/nodes/{name}.jsonl"));
        farm.write(&path, format!("{header}\n"));
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&path, mode).unwrap();
        Self { path, name }
    }

    fn grows(&self) {
        let mut file = File::options().append(true).open(&self.path).unwrap();
        file.write_all(b"{\"event\":\"beat\",\"at\":1}\n").unwrap();
    }

    /// How often the farmer that starts has looked at it.
    fn looks(&self, farm: &Farm) -> usize {
        let starting = farm
            .farmers()
            .into_iter()
            .find(|farmer| farmer != self.name && !farm.is_over(farmer));
        starting.map_or(0, |farmer| {
            let text = fs::read_to_string(farm.journal(&farmer)).unwrap_or_default();
            text.matches("\"beat\"").count()
        })
    }
}

/// The node of a farmer that was killed may write its last lines after its lock is gone.
#[test]
fn a_journal_that_grows_once_under_a_free_lock_proves_no_life() {
    let farm = Farm::of("true\n");
    farm.farm(TAKEOVER).run().exits(0);
    farm.write("tasks.txt", "true\ntrue 2\n");
    let far = Far::beside(&farm);
    let one = farm.farm(TAKEOVER).start();
    until("it waits for a sign of life", || far.looks(&farm) > 0);
    far.grows();
    wait(one).leaves(0);
    assert_complete(&farm, 2);
}

#[test]
fn a_journal_that_grows_and_grows_under_a_free_lock_shows_that_locks_do_not_exclude() {
    let farm = Farm::of("true\n");
    farm.farm(TAKEOVER).run().exits(0);
    farm.write("tasks.txt", "true\ntrue 2\n");
    let far = Far::beside(&farm);
    let mut one = farm.farm(TAKEOVER).start();
    let mut seen = 0;
    until("it ends", || {
        let looks = far.looks(&farm);
        if looks > seen {
            seen = looks;
            far.grows();
        }
        one.child.try_wait().unwrap().is_some()
    });
    wait(one)
        .leaves(74)
        .says(&["do not exclude other nodes", far.name, "--lock link"]);
}
