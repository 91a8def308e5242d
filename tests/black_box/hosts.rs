//! `--hosts`: farmers that one process starts by ssh. The ssh of these tests runs what it is
//! given on this machine; tests/hosts has real ones.

use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Done, Farm, Pytf, marked, until};

/// As ssh: `down` cannot be reached, anything else is this machine with a home of its own.
const SSH: &str = r#"#!/bin/sh
echo "$@" >> "$FARM_ROOT/ssh.log"
while [ "$1" != -- ]; do shift; done
host=$2
shift 2
if [ "$host" = down ]; then
    echo "ssh: connect to host down port 22: Connection refused" >&2
    exit 255
fi
export HOME="$FARM_ROOT/home-$host"
mkdir -p "$HOME"
echo "noise of a start file"
exec /bin/sh -c "$*"
"#;

/// A farm whose ssh is the one above.
fn farm(list: impl AsRef<[u8]>) -> Farm {
    let farm = Farm::of(list);
    farm.write("bin/ssh", SSH);
    std::fs::set_permissions(farm.path("bin/ssh"), PermissionsExt::from_mode(0o755)).unwrap();
    farm
}

/// `pytf tasks.txt --workdir w ARGS`
fn pytf<'f>(farm: &'f Farm, args: &str) -> Pytf<'f> {
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", farm.path("bin").display());
    let line = format!("tasks.txt --workdir w {args}");
    farm.pytf(line.split_whitespace())
        .env("PATH", path)
        .env("FARM_ROOT", farm.path(""))
}

/// The processes of the test with this word in their command line.
fn with_word(farm: &Farm, word: &str) -> Vec<i32> {
    let mark = format!("FARM_TEST_MARK={}", farm.path("").display());
    let mut found = marked(mark.trim_end_matches('/'));
    found.retain(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(word.len()).any(|part| part == word.as_bytes())
    });
    found
}

/// Each task runs once, with the options of the command line, of variables and of its host; what
/// cannot be reached is reported, and one process sums up.
#[test]
fn hosts_share_a_run() {
    let farm = farm("echo $PYTF_NODE; echo $HOME >> homes\n".repeat(40) + "false #PYTF node=fat\n");
    farm.write(
        "hosts.toml",
        "hosts = ['n1', 'down', ':']\n[defaults]\nslots = 2\n[[host]]\nname = 'n2'\nuser = 'me'\nport = 22\n\
         labels = ['fat']\n",
    );
    let run = pytf(&farm, "--hosts hosts.toml --ssh-option A=b").env("PYTF_LOGS", "none");
    let done: Done = run.run().exits(1);
    done.says(&[
        "down: cannot be reached: ssh: connect to host down port 22: Connection refused; try: ssh down true",
        "of 4 hosts these were not used: down",
        "1 of 41 tasks failed",
    ]);
    farm.assert_exact(41, &(0..40).collect::<Vec<_>>(), &[40]);
    assert_eq!(farm.text("homes").lines().count(), 40);
    let headers = farm.headers();
    assert_eq!(headers.len(), 3, "{headers:?}");
    assert!(
        headers.iter().all(|header| header["slots"] == 2),
        "{headers:?}"
    );
    assert!(
        !farm.path("w/logs/log_0").exists(),
        "the option of a variable"
    );
    let log = farm.text("ssh.log");
    assert!(
        log.lines()
            .any(|line| line.contains("-o A=b") && line.contains("-p 22 -l me -- n2 exec sh -c ")),
        "{log}"
    );
    let left = std::fs::read_dir(farm.path("w/logs")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().starts_with("hosts_")),
        "{left:?}"
    );
}

/// A farmer that is killed is started again; when the process that starts them is killed, all
/// leave in good order.
#[test]
fn nothing_is_lost_when_anything_is_killed() {
    let gate_farm = farm("");
    let gate = gate_farm.gate("gate");
    let farm = gate_farm;
    farm.write("tasks.txt", format!("{}\n", gate.stand()).repeat(4));
    let run = pytf(&farm, "--hosts n1,n2 --proc 1 --takeover 10").start();
    let hears = || -> i32 {
        gate.hear()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap()
    };
    let first = [hears(), hears()];
    let farmers = with_word(&farm, "__hosted");
    kill(Pid::from_raw(farmers[0]), Signal::SIGKILL).unwrap();
    // Another one comes, and a third task begins.
    let third = hears();
    assert!(!first.contains(&third));
    until("it is reported", || {
        run.stderr()
            .contains("the connection was lost, or the farmer was killed")
    });
    run.signal(Signal::SIGKILL);
    until("all have left", || with_word(&farm, "__hosted").is_empty());
    let leaves = farm.records("leave");
    assert_eq!(leaves.len(), 2, "{leaves:?}");
    assert!(farm.farmers().iter().all(|farmer| farm.is_over(farmer)));
    farm.assert_exact(4, &[], &[]);
    drop(run.wait());
}

/// What is wrong with hosts is reported before anything is made, and so is a wrong list.
#[test]
fn what_is_wrong_is_reported_before_anything_starts() {
    let farm = farm("echo a\n");
    farm.write("hosts.toml", "[[host]]\nname = 'n1'\nslot = 3\n");
    farm.write("logins", "n1\nn2:2222\n");
    for (args, words) in [
        ("--hosts n1,n1", "n1 is there twice"),
        ("--hosts hosts.toml", "hosts.toml, line 3: "),
        (
            "--hosts logins",
            "logins, line 2: 'n2:2222': 2222 looks like a port",
        ),
        ("--hosts none.toml", "cannot read the hosts in none.toml"),
    ] {
        pytf(&farm, args).run().exits(2).says(&[words]);
    }
    let list = farm.pytf(["-", "--workdir", "w", "--hosts", "n1"]).run();
    list.exits(2)
        .says(&["tasks from a stream cannot be run with --hosts"]);
    assert!(!farm.path("w").exists(), "nothing was made");
    assert!(!farm.path("ssh.log").exists(), "nothing was started");
    pytf(&farm, "--hosts down").run().exits(69);
}
