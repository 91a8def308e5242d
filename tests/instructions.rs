//! What a task costs in instructions: the regression guard for what is pure and
//! hot, that no clock moves.
//!
//! Each piece of `benches/hot/work.rs` is done by this very program under
//! callgrind, for some tasks and for twice as many; the difference, a task, is
//! compared with the record. The record is that of a debug build by one compiler:
//! with another it says nothing. A deliberate change updates it in the same commit.

#[path = "../benches/scale/files.rs"]
#[expect(dead_code, reason = "the simulator's; only its files are of use here")]
mod files;
#[path = "../benches/hot/work.rs"]
mod work;

use std::hint::black_box;
use std::process::Command;

/// Instructions a task, and of which work, without optimisation of the crate.
const RECORD: [(&str, f64); 4] = [
    ("parse", 5151.0),
    ("encode", 37_059.0),
    ("decide", 15_217.0),
    ("turns", 59_617.0),
];
/// The compiler whose code was counted.
const COMPILER: &str = "rustc 1.95.";
/// By this part of itself a figure may be off: other versions of the C library
/// copy and allocate otherwise.
const MARGIN: f64 = 0.15;
/// Says which work this program is to do, and for how many tasks.
const WORK: &str = "PYTF_TEST_WORK";
/// For how many tasks it is done: five turns.
const TASKS: u64 = 320;

#[test]
fn a_task_costs_as_many_instructions_as_recorded() {
    let compiler = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let compiler = Command::new(compiler).arg("--version").output();
    let compiler = compiler.map_or(String::new(), |said| {
        String::from_utf8_lossy(&said.stdout).into_owned()
    });
    if !cfg!(debug_assertions) || !compiler.starts_with(COMPILER) {
        println!("SKIPPED: the record is for a debug build by {COMPILER}, this is {compiler}");
        return;
    }
    let mut wrong = Vec::new();
    for (work, recorded) in RECORD {
        let (Some(few), Some(many)) = (instructions(work, TASKS), instructions(work, 2 * TASKS))
        else {
            println!("SKIPPED: valgrind is not there, or cannot run this program");
            return;
        };
        let now = (many - few) / f64::from(u32::try_from(TASKS).expect("few tasks"));
        println!("{work}: {now:.0} instructions a task");
        if (now / recorded - 1.0).abs() > MARGIN {
            wrong.push(format!(
                "{work}: {now:.0} a task, recorded are {recorded:.0}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How many instructions this program takes for some work; `None` when it
/// cannot be counted here.
fn instructions(work: &str, tasks: u64) -> Option<f64> {
    let counted = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().expect("a program"))
        .args(["--exact", "the_work_itself", "--test-threads=1"])
        .env(WORK, format!("{work} {tasks}"))
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&counted.stderr);
    let count = said.lines().find_map(|line| line.split_once("Collected :"));
    let (_, count) = count.filter(|_| counted.status.success())?;
    count.trim().parse().ok()
}

/// No test: what is counted, when the one above asks for it.
#[test]
fn the_work_itself() {
    let asked = std::env::var(WORK).unwrap_or_else(|_| "turns 64".into());
    let (work, tasks) = asked.split_once(' ').expect("a work and a number");
    let tasks = tasks.parse().expect("a number");
    let done = match work {
        "parse" => work::parse(&work::list(tasks)) as u64,
        "encode" => work::encode(tasks) as u64,
        "decide" => work::decide(&mut work::runner(), tasks) as u64,
        "turns" => work::Farm::new(tasks).work(),
        _ => panic!("no work {work}"),
    };
    assert!(black_box(done) >= tasks);
}
