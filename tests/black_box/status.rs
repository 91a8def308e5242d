//! `pytf status` and `pytf export`: what they say is what happened.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Farm, tasks, until};

fn json(farm: &Farm, args: &[&str]) -> Value {
    let args = ["status", "w", "--json"].iter().chain(args);
    serde_json::from_slice(&farm.pytf(args).run().leaves(0).stdout).expect("valid JSON")
}

fn text(farm: &Farm, args: &[&str]) -> String {
    let done = farm.pytf(args).run().exits(0);
    String::from_utf8(done.stdout).expect("UTF-8, whatever the task is")
}

/// The names of all members, `nodes[].life` and the like.
fn members(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        // Its words are those of the vocabulary, which is documented elsewhere.
        Value::Object(map) if at != "attributes" => {
            for (name, value) in map {
                let dot = if at.is_empty() { "" } else { "." };
                members(value, &format!("{at}{dot}{name}"), found);
            }
        }
        Value::Array(values) if !values.is_empty() => {
            for value in values {
                members(value, &format!("{at}[]"), found);
            }
        }
        _ => {
            found.insert(at.to_owned());
        }
    }
}

/// What docs/status-json.md names in one of its parts.
fn documented(kind: &str) -> BTreeSet<String> {
    let page = include_str!("../../docs/status-json.md");
    let part = page.split("\n## ").find(|part| {
        let head = part.lines().next().unwrap_or_default();
        head.contains(&format!("\"{kind}\""))
    });
    let rows = part.unwrap().lines().filter(|line| line.starts_with("| `"));
    let mut found = BTreeSet::new();
    for row in rows {
        let mut cells = row.split(" | ");
        let named = cells.next().unwrap().to_owned();
        let mut words: Vec<String> = named
            .split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect();
        // A member that is an object is told with its own members.
        if let Some(more) = cells.next() {
            let inner = more.split('`').skip(1).step_by(2);
            let prefix = format!("{}.", words[0]);
            let inner: Vec<_> = inner
                .filter(|word| word.starts_with(&prefix))
                .map(str::to_owned)
                .collect();
            if !inner.is_empty() {
                words = inner;
            }
        }
        found.extend(words);
    }
    found
}

/// A run of which every kind of member has something to tell.
fn eventful() -> Farm {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let mut list = tasks(30, |id| format!("exit {}", u64::from(id % 10 == 9)));
    list += "kill -9 $$\n\x1b]0;evil\x07 \"<b>\" \u{202e}\n";
    list += &format!("{} #PYTF name=last\n", gate.stand());
    farm.write("tasks.txt", list);
    let running = farm.farm("--proc 2 --logs packed").start();
    gate.comer();
    until("all others are settled", || {
        farm.lines("finished").len() + farm.lines("failed").len() == 32
    });
    running.signal(Signal::SIGTERM);
    running.wait().exits(75);
    let journal = farm.journal(&farm.farmers()[0]);
    farm.write(&journal, [&farm.bytes(&journal)[..], b"garbage\n"].concat());
    farm
}

#[test]
fn the_schema_is_as_documented_whole_and_nothing_else() {
    let farm = eventful();
    for (kind, args) in [
        ("status", &[][..]),
        ("failed", &["--failed"]),
        ("task", &["--task", "32"]),
        ("running", &["--running"]),
    ] {
        let value = json(&farm, args);
        assert_eq!(
            (&value["schema"], &value["kind"]),
            (&1.into(), &kind.into())
        );
        let mut found = BTreeSet::new();
        members(&value, "", &mut found);
        let told = documented(kind);
        let untold: Vec<_> = found
            .iter()
            .filter(|name| {
                // Null or empty here: what it would hold is told.
                !told.contains(*name)
                    && !told.iter().any(|other| {
                        other.starts_with(&format!("{name}."))
                            || other.starts_with(&format!("{name}[]"))
                    })
            })
            .collect();
        assert_eq!(untold, Vec::<&String>::new(), "{kind}: not in the document");
        let gone: Vec<_> = told
            .iter()
            .filter(|name| {
                !found.contains(*name) && !found.iter().any(|other| name.starts_with(&other[..]))
            })
            .collect();
        assert_eq!(gone, Vec::<&String>::new(), "{kind}: only in the document");
    }
}

#[test]
fn the_figures_are_those_of_the_workdir() {
    let farm = eventful();
    let status = json(&farm, &[]);
    assert_eq!(status["state"], "stopped");
    for (name, count) in [
        ("total", 33),
        ("finished", 27),
        ("failed", 5),
        ("left", 1),
        ("waiting", 1),
        ("claimed", 0),
        ("running", 0),
    ] {
        assert_eq!(status["tasks"][name], count, "{name}");
    }
    assert_eq!(status["attempts"]["interrupted"], 1);
    assert_eq!(status["eta"]["unknown"], "no farmer works on it");
    assert_eq!(status["damage"][0]["lines"], 1);
    let node = &status["nodes"][0];
    assert_eq!(
        (&node["life"], &node["finished"]),
        (&"left".into(), &27.into())
    );
    let causes = status["causes"].as_array().unwrap();
    let counts: Vec<_> = causes
        .iter()
        .map(|cause| {
            (
                cause["words"].as_str().unwrap(),
                cause["tasks"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(counts[0], ("exit status 1", 3));
    assert!(counts.contains(&("killed by SIGKILL", 1)), "{counts:?}");
    let failed = json(&farm, &["--failed"]);
    let ids: Vec<_> = failed["failed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids, farm.ids("failed"));
    let task = json(&farm, &["--task", "32"]);
    assert_eq!(task["place"], "waiting");
    assert_eq!(task["requeued"][0]["why"], "interrupted");
    assert_eq!(task["attempts"][0]["outcome"], "interrupted");
    let refused = farm.pytf(["status", "w", "--task", "33"]).run();
    refused.exits(2).says(&["no task 33"]);
    let refused = farm.pytf(["status", "nowhere"]).run();
    refused.exits(74).says(&["nowhere", "is not a workdir"]);
}

/// A task that failed, and finished when it was tried again, is one line with its last attempt;
/// one that waits again is none.
#[test]
fn an_export_of_tasks_has_the_last_attempt_of_each_that_has_ended() {
    let farm = Farm::of("true\ntest -e there\nfalse\ntest -e there_either\n");
    farm.farm("--proc 1").run().exits(1);
    farm.write("there", "");
    farm.pytf(["retry", "w", "1,3"]).run().exits(0);
    let rows = |words: &[&str]| {
        let text = text(
            &farm,
            &[&["export", "w", "--jsonl", "--tasks"], words].concat(),
        );
        let row = |line| serde_json::from_str::<Value>(line).unwrap();
        let mut rows: Vec<Value> = text.lines().map(row).collect();
        rows.sort_by_key(|row| row["id"].as_u64());
        let fact = |row: &Value| {
            let numbers = [&row["id"], &row["attempt"], &row["status"]];
            let place = row["place"].as_str().unwrap();
            (
                numbers.map(|value| value.as_u64().unwrap()),
                place.to_owned(),
            )
        };
        rows.iter().map(fact).collect::<Vec<_>>()
    };
    let row = |numbers: [u64; 3], place: &str| (numbers, place.to_owned());
    assert_eq!(
        rows(&[]),
        [row([0, 1, 0], "finished"), row([2, 1, 1], "failed")]
    );
    farm.farm("--proc 1").run().exits(1);
    assert_eq!(
        rows(&["1-2", "3"]),
        [
            row([1, 2, 0], "finished"),
            row([2, 1, 1], "failed"),
            row([3, 2, 1], "failed")
        ]
    );
    let csv = text(&farm, &["export", "w", "--csv", "--tasks", "1"]);
    assert!(csv.starts_with("id,place,attempt,node,"), "{csv}");
    assert!(csv.contains("\n1,finished,2,"), "{csv}");
}

#[test]
fn what_tasks_are_called_and_print_reaches_no_terminal() {
    let farm = eventful();
    for args in [
        &["status", "w"][..],
        &["status", "w", "--failed"],
        &["status", "w", "--failed", "--format", "csv"],
        &["status", "w", "--failed", "--format", "tsv"],
        &["status", "w", "--task", "31"],
        &["export", "w", "--csv"],
        &["export", "w", "--jsonl"],
    ] {
        let text = text(&farm, args);
        let bad = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}';
        assert!(!text.contains(bad), "{args:?}: {text:?}");
        assert!(text.contains("^[]0;evil^G"), "{args:?}: {text:?}");
    }
}

#[test]
fn a_run_under_way_shows_what_runs_and_one_that_was_killed_that_it_is_dead() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write(
        "tasks.txt",
        format!("true\n{}\n{}\n", gate.stand(), "true\n".repeat(20)),
    );
    let running = farm.farm("--proc 1").start();
    gate.comer();
    until("the journal has the start", || {
        json(&farm, &[])["tasks"]["running"] == 1
    });
    let status = json(&farm, &[]);
    assert_eq!(status["state"], "running");
    assert_eq!(status["nodes"][0]["life"], "alive");
    assert_eq!(status["nodes"][0]["longest"]["id"], 1);
    let task = json(&farm, &["--task", "1"]);
    assert_eq!(task["place"], "running");
    assert_eq!(task["attempts"][0]["outcome"], "running");
    let waiting = json(&farm, &["--task", "20"]);
    assert!(
        waiting["why"].as_str().unwrap().contains("before it"),
        "{waiting}"
    );
    running.signal(Signal::SIGKILL);
    running.wait();
    let status = json(&farm, &[]);
    assert_eq!(
        (&status["state"], &status["nodes"][0]["life"]),
        (&"stopped".into(), &"dead".into())
    );
    assert_eq!(
        json(&farm, &["--task", "1"])["attempts"][0]["outcome"],
        "lost"
    );
}

#[test]
fn gnu_parallel_reads_the_joblog() {
    if !crate::harness::has("parallel") {
        return crate::harness::skip("GNU parallel is not installed");
    }
    let farm = Farm::of("true\nfalse\nkill -9 $$\ntrue\n");
    farm.farm("").run().exits(1);
    let joblog = text(&farm, &["export", "w", "--joblog"]);
    let head = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand";
    assert_eq!(joblog.lines().next(), Some(head));
    let failed: BTreeSet<_> = joblog
        .lines()
        .skip(1)
        .filter_map(|line| {
            let cells: Vec<_> = line.split('\t').collect();
            (cells[6..8] != ["0", "0"]).then(|| (cells[0], cells[6], cells[7]))
        })
        .collect();
    assert_eq!(failed, BTreeSet::from([("2", "1", "0"), ("3", "0", "9")]));
    farm.write("log", &joblog);
    let parallel = std::process::Command::new("parallel")
        .args([
            "--dry-run",
            "--resume-failed",
            "--joblog",
            "log",
            "-a",
            "tasks.txt",
        ])
        .current_dir(farm.path(""))
        .output()
        .unwrap();
    let again = String::from_utf8(parallel.stdout).unwrap();
    let again: BTreeSet<_> = again.lines().collect();
    assert_eq!(again, BTreeSet::from(["false", "kill -9 $$"]));
}

#[test]
fn a_workdir_of_pytaskfarmer_and_a_damaged_lock_are_counted_by_their_lines() {
    let farm = Farm::of(tasks(9, |_| "true".into()));
    farm.farm("").run().exits(0);
    farm.write("w/lock", "what is this");
    let status = json(&farm, &[]);
    assert_eq!(
        (&status["tasks"]["finished"], &status["tasks"]["total"]),
        (&9.into(), &9.into())
    );
    assert!(
        status["problem"]
            .as_str()
            .unwrap()
            .contains("damaged workdir"),
        "{status}"
    );
    let old = Farm::new();
    old.write("w/toprocess", "2 c\n");
    old.write("w/finished", "0 a\n");
    old.write("w/failed", "1 b\n");
    let status = json(&old, &[]);
    assert_eq!(
        (&status["tasks"]["total"], &status["causes"][0]["first"]),
        (&3.into(), &1.into())
    );
}

/// Every file of the workdir with its length and its times.
fn snapshot(farm: &Farm) -> String {
    let mut find = std::process::Command::new("find");
    find.arg(farm.path("w"))
        .args(["-printf", "%p %s %T@ %C@ %i\n"]);
    let mut lines: Vec<_> = String::from_utf8(find.output().unwrap().stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines.join("\n")
}

#[test]
fn a_view_changes_nothing_and_takes_no_lock() {
    let farm = eventful();
    let before = snapshot(&farm);
    // Somebody holds the lock and every journal's: no view waits for that.
    let held: Vec<_> = farm
        .farmers()
        .iter()
        .map(|farmer| farm.journal(farmer))
        .chain([farm.path("w/lock")])
        .map(|name| {
            let file = std::fs::File::open(farm.path(name)).unwrap();
            nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).unwrap()
        })
        .collect();
    for args in [
        &["status", "w"][..],
        &["status", "w", "--failed"],
        &["status", "w", "--task", "9"],
        &["export", "w", "--joblog"],
        &["timeline", "w", "-o", "timeline.json"],
        &["report", "w", "-o", "report.html"],
    ] {
        farm.pytf(args).run().exits(0);
        assert_eq!(snapshot(&farm), before, "{args:?}");
    }
    drop(held);
}

#[test]
fn a_terminal_gets_colours_and_a_pipe_none() {
    if !crate::harness::has("script") {
        return crate::harness::skip("script(1) is not installed");
    }
    let farm = eventful();
    let shown = |env: &str, width: u32| {
        let pytf = env!("CARGO_BIN_EXE_pytf");
        let line = format!("stty cols {width} rows 40; {env} {pytf} status w");
        let mut script = std::process::Command::new("script");
        script
            .args(["-qec", &line, "/dev/null"])
            .current_dir(farm.path(""));
        script
            .env("TERM", "xterm")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("NO_COLOR");
        String::from_utf8(script.output().unwrap().stdout).unwrap()
    };
    let colours = shown("", 80);
    assert!(colours.contains("\x1b[33m"), "{colours:?}");
    let plain = shown("NO_COLOR=1", 60);
    assert!(!plain.contains('\x1b') && plain.contains('█'), "{plain:?}");
    assert!(
        plain
            .lines()
            .all(|line| line.trim_end().chars().count() <= 60),
        "{plain}"
    );
    let pipe = text(&farm, &["status", "w"]);
    assert!(!pipe.contains('\x1b'), "{pipe:?}");
}

#[test]
fn what_runs_is_listed_with_its_node_slot_and_process() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let seen = |args: &[&str]| {
        let done = farm.pytf(args).run().leaves(0);
        String::from_utf8(done.stdout).unwrap()
    };
    farm.write("tasks.txt", gate.stand() + "\n");
    let pytf = farm.farm("--proc 1").start();
    let (id, pid) = gate.comer();
    assert_eq!(id, 0);
    until("it is on record", || {
        // Before it is: nobody may say that it was not started.
        let task = seen(&["status", "w", "--task", "0"]);
        assert!(!task.contains("not started"), "{task}");
        json(&farm, &["--running"])["running"] != Value::Array(Vec::new())
    });
    let found = json(&farm, &["--running"]);
    let row = &found["running"][0];
    assert_eq!(
        (&row["id"], &row["attempt"], &row["slot"]),
        (&0.into(), &1.into(), &0.into())
    );
    assert_eq!(row["pid"], pid);
    assert!(row["start"].as_f64().unwrap() > 1e9 && row["seconds"].is_f64());
    let node = row["node"].as_str().unwrap();
    let whole = seen(&["status", "w"]);
    assert!(
        whole.contains(&format!("on {node}, slot 0, pid {pid}: ")),
        "{whole}"
    );
    let task = seen(&["status", "w", "--task", "0"]);
    assert!(task.contains(&format!("slot 0, pid {pid}")), "{task}");
    let table = seen(&["status", "w", "--running", "--format", "csv"]);
    assert!(table.contains(&format!("0,1,{node},0,{pid},")), "{table}");
    gate.open(1);
    pytf.wait().exits(0);
    assert!(seen(&["status", "w", "--running"]).contains("no running task is recorded"));
}

#[test]
fn an_export_can_go_to_a_file_which_is_whole_or_not_there() {
    let farm = Farm::of("true\nexit 3\n");
    farm.farm("").run().exits(1);
    let out = farm.pytf(["export", "w", "--csv"]).run().exits(0).stdout;
    farm.pytf(["export", "w", "--csv", "-o", "all.csv"])
        .run()
        .exits(0);
    assert_eq!(farm.bytes("all.csv"), out);
    farm.pytf(["export", "nowhere", "--csv", "-o", "none.csv"])
        .run()
        .exits(74)
        .says(&["nowhere"]);
    assert!(!farm.path("none.csv").exists());
}

#[test]
fn an_attempt_that_was_interrupted_is_no_measure_of_how_long_tasks_take() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("true\n{}\n", gate.stand()));
    let pytf = farm.farm("--proc 2").start();
    gate.comer();
    until("the other is done", || farm.ids("finished") == [0]);
    pytf.signal(Signal::SIGTERM);
    pytf.wait().exits(75);
    let ends = farm.ends();
    let took: Vec<u64> = ends
        .iter()
        .filter(|end| end["id"] == 0)
        .map(|end| end["us"].as_u64().unwrap())
        .collect();
    let seen = json(&farm, &[]);
    assert_eq!(seen["attempts"]["interrupted"], 1);
    assert_eq!(seen["durations"]["count"], 1, "of the one that ended");
    let longest = seen["durations"]["max"].as_f64().unwrap();
    let longest = Duration::from_secs_f64(longest).as_micros();
    assert!(longest.abs_diff(took[0].into()) <= 1, "{longest} {took:?}");
    assert!(text(&farm, &["status", "w"]).contains("1 interrupted"));
    let page = text(&farm, &["report", "w", "-o", "-"]);
    let figure = |id: &str| {
        let (_, rest) = page.split_once(&format!("<dd id=\"{id}\">")).unwrap();
        rest.split_once('<').unwrap().0.to_owned()
    };
    assert_eq!(figure("f-median"), figure("f-longest"), "there is one task");
    // Of nothing but interrupted attempts nobody says how long tasks take.
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", gate.stand() + "\n");
    let pytf = farm.farm("").start();
    gate.comer();
    pytf.signal(Signal::SIGTERM);
    pytf.wait().exits(75);
    let told = text(&farm, &["status", "w"]);
    assert!(
        told.contains("1 interrupted") && !told.contains("a task takes"),
        "{told}"
    );
}

#[test]
fn two_farmers_on_one_node_are_one_row_with_the_slots_of_both() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", tasks(10, |_| gate.stand()));
    let both = ["--proc 6", "--proc 4"].map(|args| farm.farm(args).start());
    gate.comers(10);
    let row = |page: &str| {
        let (_, row) = page
            .split_once("<tbody>")
            .unwrap()
            .1
            .split_once("<tr>")
            .unwrap();
        let cells = row
            .split("</td>")
            .map(|cell| cell.rsplit('>').next().unwrap());
        cells.map(str::to_owned).collect::<Vec<_>>()
    };
    let check = |is_over: bool| {
        let seen = json(&farm, &[]);
        assert_eq!(seen["nodes"].as_array().unwrap().len(), 1);
        assert_eq!(seen["nodes"][0]["slots"], 10, "over: {is_over}");
        let done = farm.pytf(["report", "w", "-o", "-"]).run().leaves(0);
        let page = String::from_utf8(done.stdout).unwrap();
        assert_eq!(row(&page)[2], "10", "over: {is_over}: {:?}", row(&page));
        assert_eq!(drawn_slots(&page), 10, "over: {is_over}");
    };
    // While they run, and afterwards: what is drawn is what is said.
    check(false);
    gate.open(10);
    for pytf in both {
        pytf.wait().leaves(0);
    }
    check(true);
}

/// The most slots at a time in the chart of the first node of a report.
fn drawn_slots(page: &str) -> u64 {
    let (_, data) = page.split_once("id=\"data\">").unwrap();
    let data: Value = serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap();
    let series = &data["charts"]["nodes"][0]["series"];
    let width = series["width"].as_u64().unwrap();
    let points = series["points"].as_array().unwrap();
    let slots = points.iter().map(|point| point[2].as_u64().unwrap());
    slots.max().unwrap().div_ceil(width)
}

#[test]
fn a_report_says_from_when_to_when_its_run_was() {
    let farm = Farm::of("true\n");
    farm.farm("").run().exits(0);
    let page = text(&farm, &["report", "w", "-o", "-"]);
    let (_, dates) = page
        .split_once("<p class=\"path\">from ")
        .expect("the dates");
    let (from, to) = dates.split_once('<').unwrap().0.split_once(" to ").unwrap();
    let seconds = |date: &str| -> u64 {
        let mut command = std::process::Command::new("date");
        let done = command.args(["-d", date, "+%s"]).output().unwrap();
        let said = String::from_utf8(done.stdout).unwrap();
        let number = said.trim().parse();
        number.unwrap_or_else(|_| panic!("no date: {date}"))
    };
    for date in [from, to] {
        let is_iso = date.len() == 23 && &date[4..5] == "-" && date.ends_with(" UTC");
        assert!(is_iso, "{date}");
    }
    let at = farm.headers()[0]["at"].as_u64().unwrap() / 1_000_000;
    assert!(at.abs_diff(seconds(from)) <= 1, "{at} {from}");
    assert!(
        seconds(from) <= seconds(to) && seconds(to) <= seconds("now"),
        "{to}"
    );
}

#[test]
fn a_report_says_that_its_run_is_paused() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", gate.stand() + "\n");
    let pytf = farm.farm("").start();
    gate.comer();
    let shown = || {
        let done = farm.pytf(["report", "w", "-o", "-"]).run().leaves(0);
        String::from_utf8(done.stdout).unwrap()
    };
    farm.pytf(["pause", "w"]).run().leaves(0);
    let page = shown();
    let state = ">paused (pytf resume lifts it)</p>";
    assert!(page.contains(state), "{page}");
    farm.pytf(["resume", "w"]).run().leaves(0);
    let page = shown();
    assert!(!page.contains(state) && page.contains(">running</p>"));
    gate.open(1);
    pytf.wait().exits(0);
}

#[test]
fn the_script_of_a_report_has_dates_in_no_form_of_one_country() {
    let farm = Farm::of("true\n");
    farm.farm("").run().exits(0);
    let page = text(&farm, &["report", "w", "-o", "-"]);
    for local in [
        "toLocaleString()",
        "toLocaleDateString",
        "toLocaleTimeString",
    ] {
        assert!(!page.contains(local), "{local}");
    }
}

/// What `pytf status w` shows on a terminal of so many columns.
fn on_columns(farm: &Farm, width: u32) -> String {
    let pytf = env!("CARGO_BIN_EXE_pytf");
    let line = format!("stty cols {width} rows 40; {pytf} status w");
    let mut script = std::process::Command::new("script");
    script
        .args(["-qec", &line, "/dev/null"])
        .current_dir(farm.path(""));
    script
        .env("TERM", "xterm")
        .env("NO_COLOR", "1")
        .env("LC_ALL", "C.UTF-8");
    String::from_utf8(script.output().unwrap().stdout).unwrap()
}

#[test]
fn fifty_columns_have_room_for_every_figure() {
    if !crate::harness::has("script") {
        return crate::harness::skip("script(1) is not installed");
    }
    let farm = eventful();
    let figures = |width| {
        let screen = on_columns(&farm, width);
        let (figures, _) = screen.split_once("failed tasks by cause").expect(&screen);
        figures.to_owned()
    };
    let (wide, narrow) = (figures(200), figures(50));
    let is_narrow = narrow
        .lines()
        .all(|line| line.trim_end().chars().count() <= 50);
    assert!(is_narrow, "{narrow}");
    let words = |text: &str| -> Vec<String> {
        let words = text.split([' ', '·', ',', '\r', '\n', '█', '░']);
        let words = words.filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    };
    assert_eq!(words(&narrow), words(&wide), "{narrow}");
}

#[test]
fn where_another_program_has_been_repair_is_advised() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("true\n{}\nfalse\n", gate.stand()));
    let pytf = farm.farm("--proc 1").start();
    gate.comer();
    pytf.signal(Signal::SIGTERM);
    pytf.wait().exits(75);
    assert!(text(&farm, &["status", "w"]).contains("run the same command again"));
    // PyTaskFarmer takes a line out of the file.
    farm.write("w/toprocess", "2 false\n");
    let status = text(&farm, &["status", "w"]);
    assert!(status.contains("pytf repair w"), "{status}");
    assert!(!status.contains("run the same command again"), "{status}");
    let told = json(&farm, &[])["problem"].to_string();
    assert!(told.contains("toprocess"), "{told}");
    farm.farm("").run().exits(74);
    farm.pytf(["repair", "w", "tasks.txt"]).run().exits(0);
    gate.open(1);
    farm.farm("").run().exits(1);
    farm.assert_exact(3, &[0, 1], &[2]);
}
