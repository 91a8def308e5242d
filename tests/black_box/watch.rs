//! `pytf watch`, on a terminal that tmux has.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::{Farm, is_alive, tasks, until};
use crate::tmux::Tmux;

/// The shell in the terminal.
const SHELL: &str = "env -u NO_COLOR LC_ALL=C.UTF-8 PS1='ready> ' sh";

/// `pytf watch` in a terminal.
impl Tmux {
    /// Starts to watch; the process that does.
    fn watch(&self) -> i32 {
        let pytf = env!("CARGO_BIN_EXE_pytf");
        self.keys(&[&format!("{pytf} watch w; echo left with $?"), "Enter"]);
        self.shows("q leave");
        let children = format!("/proc/{0}/task/{0}/children", self.shell);
        std::fs::read_to_string(children)
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    /// The terminal is a shell's again, with what was on it before.
    fn is_as_before(&self) {
        let screen = self.screen();
        assert!(screen.contains("ready> "), "{screen}");
        assert!(!screen.contains("q leave"), "{screen}");
        assert_eq!(self.ask("#{alternate_on} #{cursor_flag}"), "0 1");
        // In raw mode Enter would not end a line, and nothing would be echoed.
        self.keys(&["echo so$((40+2))ne", "Enter"]);
        self.shows("so42ne");
        assert!(
            self.screen().contains("echo so$((40+2))ne"),
            "{}",
            self.screen()
        );
        self.keys(&["clear", "Enter"]);
        self.hides("so42ne");
    }
}

fn status(farm: &Farm) -> Value {
    let done = farm.pytf(["status", "w", "--json"]).run().leaves(0);
    serde_json::from_slice(&done.stdout).unwrap()
}

/// A terminal, unless there is no tmux.
fn tmux(farm: &Farm) -> Option<Tmux> {
    Tmux::start(farm, SHELL)
}

#[test]
fn the_screen_agrees_with_the_status_and_goes_on_with_the_run() {
    let farm = Farm::new();
    let Some(tmux) = tmux(&farm) else { return };
    let gate = farm.gate("gate");
    let mut list = tasks(30, |id| format!("exit {}", u64::from(id % 10 == 9)));
    list += &format!("{0}\n{0}\n", gate.stand());
    list += &tasks(5, |_| "true".to_owned());
    farm.write("tasks.txt", list);
    let running = farm.farm("--proc 2").start();
    gate.comers(2);
    until(
        "all others are settled, and the journal tells what runs",
        || {
            let status = status(&farm);
            status["tasks"]["failed"] == 3 && status["tasks"]["running"] == 2
        },
    );
    let status = status(&farm);
    let number = |name: &str| status["tasks"][name].as_u64().unwrap();
    tmux.watch();
    for text in [
        format!("w: {}", status["state"].as_str().unwrap()),
        format!(
            "{} of {}",
            number("finished") + number("failed"),
            number("total")
        ),
        format!("{} finished", number("finished")),
        format!("{} failed", number("failed")),
        format!("{} running", number("running")),
        format!("{} waiting", number("waiting")),
        "1 nodes: 1 alive".to_owned(),
        "2/2".to_owned(),
        "exit status 1".to_owned(),
    ] {
        tmux.shows(&text);
    }
    assert_eq!(tmux.ask("#{alternate_on} #{cursor_flag}"), "1 0");
    gate.open(2);
    running.wait().exits(1);
    tmux.shows("w: complete, some tasks failed");
    tmux.shows("34 finished");
    tmux.keys(&["q"]);
    tmux.shows("left with 0");
    tmux.is_as_before();
}

#[test]
fn sizes_filters_and_logs() {
    let farm = Farm::new();
    let Some(tmux) = tmux(&farm) else { return };
    let list = tasks(30, |id| {
        format!("echo output of {id}; exit {}", u64::from(id % 10 == 9))
    });
    farm.write("tasks.txt", list + "printf '\\033[2Jevil\\n'; false\n");
    farm.farm("--proc 2").run().exits(1);
    tmux.watch();
    tmux.run(&["resize-window", "-x", "8", "-y", "2"]);
    tmux.hides("finished");
    tmux.run(&["resize-window", "-x", "130", "-y", "40"]);
    tmux.shows("4 failed, the latest first");
    tmux.keys(&["/"]);
    tmux.shows("filter: ");
    tmux.keys(&["of 19", "Enter"]);
    tmux.shows("1 of 4 failed, the latest first");
    tmux.keys(&["Tab", "Tab", "Enter"]);
    tmux.shows("task 19, attempt 1 of 1: exit status 1");
    tmux.shows("\noutput of 19");
    tmux.keys(&["Escape"]);
    tmux.shows("1 of 4 failed, the latest first");
    // What a task prints does nothing to the screen.
    tmux.keys(&["Escape"]);
    tmux.shows("▸4 failed, the latest first");
    tmux.keys(&["/"]);
    tmux.shows("filter: ");
    tmux.keys(&["evil", "Enter"]);
    tmux.shows("1 of 4 failed, the latest first");
    tmux.keys(&["Enter"]);
    tmux.shows("\n^[[2Jevil");
    tmux.keys(&["q"]);
    tmux.shows("left with 0");
    tmux.is_as_before();
}

/// A run that is over, with a failed task, and what watches it.
fn over(farm: &Farm) -> Option<Tmux> {
    let tmux = tmux(farm)?;
    farm.write("tasks.txt", "echo one; false\ntrue\n");
    farm.farm("--proc 2").run().exits(1);
    tmux.watch();
    tmux.shows("failed, the latest first");
    Some(tmux)
}

#[test]
fn a_node_whose_run_is_over_is_not_one_that_crashed() {
    let farm = Farm::new();
    let Some(tmux) = over(&farm) else { return };
    let screen = tmux.screen();
    assert!(
        screen.contains("nodes: 1 left") && !screen.contains("dead") && !screen.contains("lost"),
        "{screen}"
    );
    tmux.keys(&["q"]);
    tmux.shows("left with 0");
}

#[test]
fn a_filter_on_a_command_keeps_the_nodes_that_have_it() {
    let farm = Farm::new();
    let Some(tmux) = over(&farm) else { return };
    for (filter, is_there) in [("echo one", true), ("no such command", false)] {
        tmux.keys(&["/"]);
        tmux.shows("filter: ");
        tmux.keys(&[filter]);
        tmux.shows(filter);
        tmux.keys(&["Enter"]);
        let failed = if is_there {
            "1 failed, "
        } else {
            "0 of 1 failed, "
        };
        tmux.shows(failed);
        let screen = tmux.screen();
        assert_eq!(screen.contains(" 0/2 "), is_there, "{filter}: {screen}");
        tmux.keys(&["Escape"]);
        tmux.shows("1 failed, ");
    }
    tmux.keys(&["q"]);
    tmux.shows("left with 0");
}

#[test]
fn a_key_explains_the_others() {
    let farm = Farm::new();
    let Some(tmux) = over(&farm) else { return };
    assert!(tmux.screen().contains("? help"), "{}", tmux.screen());
    tmux.keys(&["?"]);
    tmux.shows("keys and marks");
    let help = tmux.screen();
    for word in ["Enter", "filter rows", "left in good order", "is dead"] {
        assert!(help.contains(word), "{word}: {help}");
    }
    // The next key takes it away, whatever it does otherwise.
    tmux.keys(&["q"]);
    tmux.shows("failed, the latest first");
    tmux.keys(&["q"]);
    tmux.shows("left with 0");
}

#[test]
fn whatever_ends_it_the_terminal_is_given_back() {
    let farm = Farm::of("true\n");
    let Some(tmux) = tmux(&farm) else { return };
    farm.farm("--proc 1").run().exits(0);
    // Stopped like any program, and let go again.
    let watch = tmux.watch();
    tmux.keys(&["C-z"]);
    tmux.hides("q leave");
    tmux.shows("ready> ");
    tmux.keys(&["fg", "Enter"]);
    tmux.shows("q leave");
    assert_eq!(tmux.ask("#{alternate_on} #{cursor_flag}"), "1 0");
    tmux.keys(&["q"]);
    tmux.hides("q leave");
    until("it is gone", || !is_alive(watch));
    tmux.is_as_before();
    for (signal, code) in [
        (Signal::SIGTERM, 143),
        (Signal::SIGHUP, 129),
        (Signal::SIGINT, 130),
    ] {
        let watch = tmux.watch();
        kill(Pid::from_raw(watch), signal).unwrap();
        tmux.hides("q leave");
        // A shell that sees its command die of Ctrl-C drops the rest of the line.
        if signal != Signal::SIGINT {
            tmux.shows(&format!("left with {code}"));
        }
        until("it is gone", || !is_alive(watch));
        tmux.shows("ready> ");
        tmux.is_as_before();
    }
    tmux.watch();
    tmux.keys(&["C-c"]);
    tmux.shows("left with 0");
    tmux.is_as_before();
}

#[test]
fn without_a_terminal_or_a_run_it_says_so() {
    let farm = Farm::of("true\n");
    farm.farm("--proc 1").run().exits(0);
    farm.pytf(["watch", "w"])
        .run()
        .exits(2)
        .says(&["needs a terminal", "pytf status w"]);
    // What a name holds is harmless here, too.
    let name = OsStr::from_bytes(b"a\x1b[2J");
    let done = farm.pytf([OsStr::new("watch"), name]).run().exits(2);
    assert!(!done.stderr.contains('\x1b'), "{}", done.stderr);
}
