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
export PATH="$FARM_ROOT/bin-$host:$PATH"
mkdir -p "$HOME"
echo "noise of a start file"
exec /bin/sh -c "$*"
"#;

/// A farm whose ssh is the one above.
fn farm(list: impl AsRef<[u8]>) -> Farm {
    let farm = Farm::of(list);
    program(&farm, "bin/ssh", SSH);
    farm
}

fn program(farm: &Farm, name: &str, text: &str) {
    farm.write(name, text);
    std::fs::set_permissions(farm.path(name), PermissionsExt::from_mode(0o755)).unwrap();
}

/// `pytf tasks.txt --workdir w ARGS`
fn pytf<'f>(farm: &'f Farm, args: &str) -> Pytf<'f> {
    with_ssh(farm, &format!("tasks.txt --workdir w {args}"))
}

/// `pytf ARGS`, with the ssh of the farm.
fn with_ssh<'f>(farm: &'f Farm, args: &str) -> Pytf<'f> {
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", farm.path("bin").display());
    farm.pytf(args.split_whitespace())
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

/// The files by which hosts show that they share the workdir.
fn proofs(farm: &Farm) -> Vec<String> {
    let names = std::fs::read_dir(farm.path("w/logs")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("hosts_")).collect()
}

/// What a killed one has left behind is removed by the next one; what one has that lives is not.
#[test]
fn the_next_start_removes_what_a_killed_one_has_left() {
    for lock in ["flock", "fcntl"] {
        let farm = farm("");
        let gate = farm.gate("gate");
        farm.write("tasks.txt", format!("{}\n", gate.stand()).repeat(2));
        let start = |host: &str| {
            let args = format!("--hosts {host} --proc 1 --takeover 10 --lock {lock}");
            let run = pytf(&farm, &args).start();
            gate.comers(1);
            run
        };
        let killed = start("n1");
        let of_killed = proofs(&farm);
        assert_eq!(of_killed.len(), 1, "{of_killed:?}");
        killed.signal(Signal::SIGKILL);
        until("its farmer has left", || {
            with_word(&farm, "__hosted").is_empty()
        });
        drop(killed.wait());
        farm.pytf(["status", "w"]).run();
        assert_eq!(proofs(&farm), of_killed, "who only looks changes nothing");
        let next = start("n1");
        let of_next = proofs(&farm);
        assert_eq!(of_next.len(), 1, "{of_next:?}");
        assert_ne!(of_next, of_killed);
        let other = start("n2");
        let both = proofs(&farm);
        assert!(both.len() == 2 && both.contains(&of_next[0]), "{both:?}");
        gate.open(2);
        next.wait().exits(0);
        other.wait().exits(0);
        assert!(proofs(&farm).is_empty());
    }
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

/// Another kind of machine, or one on which a copy does not run, is named with the way out.
#[test]
fn a_host_that_cannot_run_a_copy_is_told() {
    let farm = farm("echo a\n");
    // Not at a path that the hosts have, too.
    farm.make_dir("own copy");
    std::fs::copy(env!("CARGO_BIN_EXE_pytf"), farm.path("own copy/pytf")).unwrap();
    program(&farm, "bin-other/uname", "#!/bin/sh\necho Linux sparc64\n");
    // As with a C library that is not there.
    let moves =
        "#!/bin/sh\nprintf '#!/no/such/loader\\n' > \"$3\" && rm \"$2\" && chmod 700 \"$3\"\n";
    program(&farm, "bin-old/mv", moves);
    let run = pytf(&farm, "--hosts other,old").by(farm.path("own copy/pytf"));
    let version = pytf::VERSION;
    let ours = format!("Linux {}", std::env::consts::ARCH);
    let install = format!("install pytf {version} there, and name it (pytf = PATH)");
    let other = format!("this one is for {ours}, not for Linux sparc64: {install}");
    let done = run.run().exits(69).says(&[
        "other: not used: it has no pytf",
        &other,
        &format!("old: not used: a copy of this pytf does not run there ({ours}; "),
        "not found): ",
        &install,
        "no host was used: other, old",
    ]);
    assert!(done.stderr.contains("start the static build of it here") || cfg!(target_env = "musl"));
    assert!(
        !farm.path("home-other/.cache").exists(),
        "nothing was copied"
    );
    // What was found the first time is found again.
    let old = pytf(&farm, "--hosts old").by(farm.path("own copy/pytf"));
    old.run()
        .exits(69)
        .says(&["old: not used: a copy of this pytf does not run there"]);
    // It is named.
    let there = format!(
        "[[host]]\nname = 'old'\npytf = '{}'\n",
        env!("CARGO_BIN_EXE_pytf")
    );
    farm.write("hosts.toml", there);
    let named = pytf(&farm, "--hosts hosts.toml").by(farm.path("own copy/pytf"));
    named.run().exits(0);
}

/// A workdir on another host, for `pytf tasks.txt`.
fn far(farm: &Farm) -> String {
    format!("ssh://me@n4:22{}", farm.path("w").display())
}

/// A farmer here works on a workdir there; another one without a list, too.
#[test]
fn a_workdir_may_be_on_another_host() {
    let farm = farm("echo $PYTF_TASK_ID\n".repeat(20) + "false\n");
    let far = far(&farm);
    let args = format!("tasks.txt -w {far} --logs packed --lock fcntl");
    let done = with_ssh(&farm, &args).run().exits(1);
    done.says(&["21 tasks; ", "1 of 21 tasks failed"]);
    farm.assert_exact(21, &(0..20).collect::<Vec<_>>(), &[20]);
    assert_eq!(farm.text("w/logs/log_7"), "7\n");
    assert!(
        farm.text("ssh.log")
            .contains("-p 22 -l me -- n4 exec sh -c ")
    );
    // Without a list, and with one that has grown.
    with_ssh(&farm, &format!("-w {far}")).run().exits(1);
    farm.write("tasks.txt", farm.text("tasks.txt") + "echo new\n");
    let done = with_ssh(&farm, &format!("tasks.txt -w {far}")).run();
    done.exits(1).says(&["1 line is new"]);
    assert_eq!(farm.ids("finished").len(), 21);
    let cache = farm.path("home/.cache/pytf");
    let left = std::fs::read_dir(&cache).map_or(0, std::iter::Iterator::count);
    assert_eq!(left, 0, "no folder is left in {}", cache.display());
}

/// What they print is where the message says that it is, also when the name is taken there.
#[test]
fn the_output_of_node_commands_is_brought() {
    let farm = farm("echo a\n");
    let far = far(&farm);
    let text_of = |message: &str| {
        let log = message
            .split_once('[')
            .and_then(|(_, rest)| rest.split_once(']'));
        farm.text(format!("w/{}", log.expect(message).0))
    };
    let run = |setup: &str| {
        let run = with_ssh(&farm, &format!("tasks.txt -w {far}"));
        let run = run.env("PYTF_NODE_SETUP", setup);
        run.env("PYTF_NODE_TEARDOWN", "echo down; exit 4").run()
    };
    let done = run("echo up; exit 3").exits(69);
    let (setup, teardown): (Vec<_>, Vec<_>) = done
        .stderr
        .lines()
        .filter(|line| line.contains("the command of --node-"))
        .partition(|line| line.contains("setup"));
    assert_eq!(text_of(setup[0]), "up\n");
    assert_eq!(text_of(teardown[0]), "down\n");
    let done = run("head -c 1500000 /dev/zero").exits(0);
    assert_eq!(text_of(&done.stderr), "down\n");
    let logs = std::fs::read_dir(farm.path("w/logs")).unwrap();
    let sizes: Vec<_> = logs
        .map(Result::unwrap)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("setup_"))
        .map(|entry| entry.metadata().unwrap().len())
        .collect();
    assert!(
        sizes.contains(&3) && sizes.contains(&1_500_000),
        "{sizes:?}"
    );
}

/// The connection is there until the farmer has left, though it ends all other children before.
#[test]
fn a_signal_leaves_a_far_workdir_in_good_order() {
    let farm = farm("");
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("{}\n", gate.stand()).repeat(2));
    let run = with_ssh(&farm, &format!("tasks.txt -w {} --proc 1", far(&farm))).start();
    gate.comers(1);
    run.signal(Signal::SIGTERM);
    run.wait().exits(75);
    let leaves = farm.records("leave");
    assert_eq!(leaves.len(), 1, "{leaves:?}");
    farm.assert_exact(2, &[], &[]);
}

/// When the connection is lost, its tasks are stopped and it joins again, under another name.
#[test]
fn a_lost_connection_is_made_again() {
    let farm = farm("");
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("{}\n", gate.stand()).repeat(2));
    let args = format!("tasks.txt -w {} --proc 2 --takeover 10", far(&farm));
    let run = with_ssh(&farm, &args).start();
    let first = gate.comers(2);
    let server = with_word(&farm, "__host");
    kill(Pid::from_raw(server[0]), Signal::SIGKILL).unwrap();
    until("it is reported", || {
        run.stderr()
            .contains("n4: the connection was lost: joining again")
    });
    let again = gate.comers(2);
    assert!(
        first
            .iter()
            .all(|(_, pid)| !again.iter().any(|(_, other)| pid == other))
    );
    gate.open(2);
    run.wait().exits(0);
    farm.assert_exact(2, &[0, 1], &[]);
    assert_eq!(farm.farmers().len(), 2);
    assert!(with_word(&farm, "__host").is_empty(), "no server is left");
}

/// What needs the files of the workdir is refused with what to do, before anything is made.
#[test]
fn what_needs_the_files_is_refused_for_a_far_workdir() {
    let farm = farm("echo a\n");
    let far = far(&farm);
    let path = farm.path("w").display().to_string();
    for (args, words) in [
        (
            format!("tasks.txt -w {far} --on-end true"),
            "--on-end: give it to a pytf there",
        ),
        (
            format!("tasks.txt -w {far} --order longest-first"),
            "--order longest-first=DIR",
        ),
        (
            format!("tasks.txt -w {far} --hosts n1"),
            "start it there, or leave --hosts out",
        ),
        (format!("- -w {far}"), "tasks from a stream"),
        (
            format!("status {far}"),
            &*format!("ssh -p 22 me@n4 pytf status {path}"),
        ),
        (
            "tasks.txt -w ssh://n4".to_owned(),
            "ssh://[USER@]HOST[:PORT]/PATH",
        ),
        ("none.txt -w ssh://n4/w".to_owned(), "none.txt"),
    ] {
        with_ssh(&farm, &args).run().exits(2).says(&[words]);
    }
    assert!(!farm.path("w").exists(), "nothing was made");
    assert!(!farm.path("ssh.log").exists(), "nothing was started");
    let down = with_ssh(&farm, "tasks.txt -w ssh://down/w").run().exits(69);
    down.says(&[
        "down: cannot be reached: ssh: connect to host down",
        "try: ssh down true",
    ]);
    farm.write("file", "");
    let file = format!("tasks.txt -w ssh://n4{}", farm.path("file").display());
    with_ssh(&farm, &file).run().exits(74).says(&["n4: "]);
}

/// Inputs are those of the machine that joins: what is not there is refused before anything starts.
#[test]
fn a_far_workdir_needs_inputs_here() {
    let farm = farm("cat data/in #PYTF in=data/in out=made\n");
    farm.write(
        "tasks.txt",
        "cat data/in | tee made; chmod +x made #PYTF in=data/in out=made\n",
    );
    let far = far(&farm);
    let args = format!("tasks.txt -w {far}");
    let done = with_ssh(&farm, &args).run().exits(2);
    done.says(&[
        "line 1",
        "its input data/in is not a file in the current folder",
        "copy it here",
    ]);
    assert!(!farm.path("ssh.log").exists(), "nothing was started");
    farm.make_dir("data");
    farm.write("data/in", "input\n");
    with_ssh(&farm, &args).run().exits(0);
    assert_eq!(farm.text("w/results/0/made"), "input\n");
    assert!(farm.is_program("w/results/0/made"));
    // What another task makes is looked for when it is needed; and the list may be left out.
    farm.write(
        "tasks.txt",
        "cat data/in | tee made; chmod +x made #PYTF in=data/in out=made\n\
         echo more > more #PYTF name=more\ncat more #PYTF in=more after=more\n",
    );
    with_ssh(&farm, &args).run().exits(0);
    farm.write(
        "tasks.txt",
        farm.text("tasks.txt") + "cat none #PYTF in=none\n",
    );
    with_ssh(&farm, &args).run().exits(2);
    with_ssh(&farm, &format!("-w {far}")).run().exits(0);
}

/// `pytf hosts` and `pytf on`: all hosts are asked, and those that cannot be reached are named.
#[test]
fn hosts_are_asked_what_they_are_and_run_a_command() {
    let farm = farm("");
    let smi = "#!/bin/sh\ncase \"$1\" in\n--query-compute-apps=*) echo \"GPU-a, $PPID\";;\n\
               --query-gpu=index*) echo '0, GPU-a, 00000000:3B:00.0, A100, 40960, Disabled';;\n\
               --query-gpu=*) echo 'GPU-a, 50, 1024, 4096';;\nesac\n";
    program(&farm, "bin/nvidia-smi", smi);
    let ask = |args: &str| with_ssh(&farm, args).env("PYTF_TEST_NVML", "/no/library");
    let done = ask("hosts --hosts n1,:,down --json").run().exits(69);
    let asked: Vec<serde_json::Value> = serde_json::from_slice(&done.stdout).unwrap();
    for host in &asked[..2] {
        assert_eq!(host["shares_folder"], true, "{host}");
        assert_eq!(host["gpus"][0]["load"], 0.5, "{host}");
        assert_eq!(
            host["gpus"][0]["users"].as_array().unwrap().len(),
            1,
            "{host}"
        );
        assert!(
            host["clock"]["ahead"].as_f64().unwrap().abs() < 1.0,
            "{host}"
        );
    }
    assert_eq!(asked[1]["host"], "here");
    let problem = asked[2]["problem"].as_str().unwrap();
    assert!(
        problem.ends_with("Connection refused; try: ssh down true"),
        "{problem}"
    );
    let done = ask("hosts --hosts n1,down").run().exits(69);
    done.says(&[
        "free memory",
        "A100",
        "25 % of 40 GiB",
        "down: cannot be reached",
    ]);
    ask("hosts --hosts n1,n1").run().exits(2);
    let on = |words: &[&str], code: i32| {
        let args = [&["on", "--hosts", "n1,n2,:", "--"], words].concat();
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", farm.path("bin").display());
        let done = farm
            .pytf(args)
            .env("PATH", path)
            .env("FARM_ROOT", farm.path(""))
            .run()
            .leaves(code);
        // What listens there for signals ends with the connection, a moment later.
        until("no descendant survives", || farm.survivors().is_empty());
        done
    };
    let done = on(&["echo", "a;", "pwd", "&&", "basename $HOME >&2"], 0);
    let folder = farm.path("").canonicalize().unwrap();
    let there = format!(
        "n1: a\nn1: {}\n",
        folder.display().to_string().trim_end_matches('/')
    );
    done.says(&[&there, "n2: home-n2", "pytf: 3 of 3 hosts: exit status 0"]);
    on(&["test $(basename $HOME) != home-n2"], 1)
        .says(&["2 of 3 hosts: exit status 0; n2: exit status 1"]);
}

/// A handler makes the list where the run is started: hosts need no definition of it. A runner they
/// need.
#[test]
fn a_handler_is_needed_where_the_run_is_started() {
    let farm = farm("a\nb\n");
    farm.make_dir("elsewhere");
    farm.write(
        "own.ini",
        "[made]\nTaskList = program\ncommand = sed 's/^/echo made /' {list}\n",
    );
    let folder = farm.path("elsewhere").display().to_string();
    farm.write(
        "hosts.toml",
        format!("[[host]]\nname = 'n1'\nfolder = '{folder}'\n"),
    );
    pytf(&farm, "--hosts hosts.toml --tasklist made --config own.ini")
        .run()
        .exits(0);
    assert_eq!(farm.text("w/logs/log_1"), "made b\n");
}
