//! The documents say what the program does: its statuses, its options, the words
//! in its files, what its commands print; and who uses whom in the source.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod commands;
mod imports;
mod links;
mod pages;
mod reference;
mod spelling;

use std::process::Command;

use pytf::exit::TABLE;
use pytf::model::allocator::Withheld;
use pytf::model::ids::Ids;
use pytf::model::outcome::Outcome;
use pytf::model::record::{
    Deals, End, GpuLoad, Header, Leased, LogAt, Mark, NodeHealth, NodeId, Record, Reserved,
    SlotDevices, Start, Used,
};
use pytf::model::task::TaskId;
use pytf::workdir::files::Committed;
use pytf::workdir::mechanism::Mechanism;
use pytf::workdir::state::{Act, Entry, ListIdentity, Member, Rename, State};
use pytf::workdir::transaction::RequeueReason;
use serde_json::Value;

const README: &str = include_str!("../../README.md");
const STATUS: &str = include_str!("../../docs/exit-status.md");
const WORKDIR: &str = include_str!("../../docs/workdir.md");
const OPTIONS: &str = include_str!("../../docs/options.md");

/// Files move; who follows a document must find them.
#[test]
fn every_source_file_that_is_named_exists() {
    let mut named = 0;
    for page in pages::pages() {
        for word in page.text.split(['`', '(', ')', ' ', '\n']) {
            let is_file = [".rs", ".sh", ".py"].iter().any(|end| word.ends_with(end));
            let is_ours = ["src/", "tests/"].iter().any(|at| word.starts_with(at));
            if is_file && is_ours {
                named += 1;
                assert!(pages::root().join(word).exists(), "{}: {word}", page.name);
            }
        }
    }
    assert!(named > 10, "{named}");
}

#[test]
fn every_exit_status_is_told() {
    for (exit, name, sentence) in TABLE {
        let row = format!("| {} | {name} | ", exit.code());
        assert!(README.contains(&row), "README: no row '{row}'");
        let row = format!("{row}{sentence} |");
        assert!(STATUS.contains(&row), "exit-status.md: no row '{row}'");
        let paragraph = format!("\n**{}** ", exit.code());
        assert!(STATUS.contains(&paragraph), "exit-status.md: {name}");
    }
}

#[test]
fn every_option_and_its_variable_are_told() {
    let help = |arguments: &[&str]| {
        let pytf = Command::new(env!("CARGO_BIN_EXE_pytf"))
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8(pytf.stdout).unwrap()
    };
    let mut seen = 0;
    for text in [
        help(&["--help"]),
        help(&["log", "--help"]),
        help(&["retry", "--help"]),
        help(&["status", "--help"]),
        help(&["watch", "--help"]),
        help(&["export", "--help"]),
        help(&["timeline", "--help"]),
        help(&["report", "--help"]),
        help(&["devices", "--help"]),
    ] {
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let is_option = words.first().is_some_and(|word| word.starts_with('-'));
            for word in words {
                let word = word.split(['[', '=']).next().unwrap_or(word);
                if is_option && word.starts_with("--") && !["--help", "--version"].contains(&word) {
                    seen += 1;
                    let told = [README, OPTIONS].iter().any(|doc| doc.contains(word));
                    assert!(told, "{word} is in no document");
                }
                if word.starts_with("PYTF_") {
                    assert!(OPTIONS.contains(word), "options.md does not name {word}");
                }
            }
        }
    }
    assert!(seen > 15, "the help has {seen} options?");
}

/// The names of a JSON object's members, of those inside it too, and the texts
/// that are words of ours.
fn names(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                out.push(name.clone());
                names(value, out);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| names(value, out)),
        _ => {}
    }
}

fn assert_named(value: &Value) {
    let mut found = Vec::new();
    names(value, &mut found);
    for tag in ["did", "event", "outcome", "mechanism"] {
        found.extend(value.get(tag).and_then(Value::as_str).map(str::to_owned));
    }
    for word in found {
        let forms = [format!("`{word}`"), format!("\"{word}\"")];
        assert!(
            forms.iter().any(|form| WORKDIR.contains(form)),
            "workdir.md does not name {word}, of {value}"
        );
    }
}

#[test]
fn every_word_in_the_lock_file_is_told() {
    let ids: Ids = "0-3".parse().unwrap();
    let acts = [
        Act::Prepare,
        Act::Join {
            by: 1,
            farmer: "a".into(),
            feeds: true,
            claim: ids.clone(),
        },
        Act::Turn {
            by: 1,
            settled: 1,
            ended: ids.clone(),
            claim: ids.clone(),
            back: ids.clone(),
            fed: 1,
            fed_all: true,
            leave: true,
        },
        Act::Seal { of: 1, by: 2 },
        Act::Edit {
            forgotten: ids.clone(),
        },
        Act::Retry { ids: ids.clone() },
        Act::Quarantine {
            by: 1,
            ids: ids.clone(),
        },
        Act::Release { by: 1 },
        Act::Order {
            order: "add".into(),
            ids,
        },
        Act::Reset { from: TaskId(3) },
        Act::Cancel { waiting: 2 },
        Act::EditQueue {
            cancelled: 1,
            added: "7".parse().unwrap(),
        },
        Act::Checkpoint {
            members: vec![Member {
                by: 1,
                farmer: "a".into(),
                settled: 1,
                feeds: true,
                quarantined: true,
                open: "0-3".parse::<Ids>().unwrap().into(),
            }],
        },
    ];
    for act in acts {
        // A new variant must be added here, and then to the document.
        match act {
            Act::Prepare
            | Act::Join { .. }
            | Act::Turn { .. }
            | Act::Seal { .. }
            | Act::Retry { .. }
            | Act::Edit { .. }
            | Act::Quarantine { .. }
            | Act::Release { .. }
            | Act::Order { .. }
            | Act::Reset { .. }
            | Act::Cancel { .. }
            | Act::EditQueue { .. }
            | Act::Checkpoint { .. } => {}
        }
        assert_named(&serde_json::to_value(Entry { seq: 1, at: 0, act }).unwrap());
    }
}

#[test]
fn every_field_of_the_state_is_told() {
    for mechanism in [Mechanism::Flock, Mechanism::Fcntl, Mechanism::Link] {
        let state = State {
            list: Some(ListIdentity::default()),
            folder: Some("/".into()),
            orders: Committed {
                len: 1,
                ..Committed::default()
            },
            paused: true,
            stopped: true,
            renames: vec![Rename {
                from: "a".into(),
                to: "b".into(),
            }],
            ..State::new(mechanism)
        };
        assert_named(&serde_json::to_value(state).unwrap());
    }
    for why in [
        RequeueReason::Interrupted,
        RequeueReason::Lost,
        RequeueReason::Again,
        RequeueReason::LostLimit,
        RequeueReason::Retry,
        RequeueReason::Doubted,
    ] {
        assert!(WORKDIR.contains(&format!("`{}`: ", why.word())));
    }
}

/// The end of an attempt, with all that can be in it.
fn end(outcome: Outcome) -> Record {
    Record::End(End {
        id: TaskId(1),
        attempt: 1,
        slot: 0,
        at: 1,
        us: 1,
        outcome,
        again: Some(1),
        used: Some(Used {
            user: 1,
            sys: 1,
            peak: 1,
            read: 1,
            written: 1,
        }),
        log: Some(LogAt {
            file: "logs/log_1".into(),
            stderr: Some("logs/log_1.err".into()),
            part: Some((0, 1)),
        }),
        dir: Some("/tmp/pytf-n1.0.42.7-1.2".into()),
        skipped: Some("out/1".into()),
        lease: Some(Box::new(leased())),
    })
}

/// A lease with all that can be in it.
fn leased() -> Leased {
    Leased {
        cpus: 1,
        bound: Some("0".into()),
        gpus: vec!["0".into()],
        mem: 1,
        time: 1,
    }
}

fn deals() -> Deals {
    let (id, since) = (TaskId(1), 1);
    Deals {
        cpus: 8,
        gpus: Some(1),
        mem: Some(1),
        withheld: Withheld {
            cpus: 1,
            mem_kib: 1,
        },
        reserved: Some(Reserved { id, since }),
    }
}

fn load() -> GpuLoad {
    GpuLoad {
        gpu: "0".into(),
        load: Some(50),
        memory: Some(10),
    }
}

/// A header with all that can be in it.
fn header() -> Header {
    Header {
        version: 1,
        farmer: "a".into(),
        host: "a".into(),
        pid: 1,
        began: Some(1),
        node: Some(NodeId {
            boot: "a".into(),
            pids: 1,
        }),
        job: Some("7".into()),
        rank: Some(0),
        step: Some("0".into()),
        restart: Some(1),
        slots: 1,
        follows: true,
        devices: vec![SlotDevices {
            gpus: vec!["0".into()],
            cpus: Some("0-3".into()),
        }],
        runner: Some("apptainer".into()),
        at: 1,
        pytf: "0".into(),
        labels: vec!["a".into()],
        cpus: Some(1),
        memory: Some(1),
    }
}

fn note(mark: Mark) -> Record {
    Record::Note {
        at: 1,
        text: "SIGUSR1".to_owned(),
        mark: Some(mark),
    }
}

/// One of each kind.
fn outcomes() -> [Outcome; 10] {
    [
        Outcome::Exit(0),
        Outcome::Signal(9),
        Outcome::TimeLimit,
        Outcome::OutOfMemory,
        Outcome::NotStarted(127),
        Outcome::NoResult,
        Outcome::Unknown,
        Outcome::Cancelled,
        Outcome::Interrupted,
        Outcome::Lost,
    ]
}

#[test]
fn every_word_in_a_journal_is_told() {
    let header = header();
    let start = Start {
        id: TaskId(1),
        attempt: 1,
        slot: 0,
        pid: 1,
        at: 1,
        lease: Some(Box::new(leased())),
    };
    let (text, why) = ("SIGTERM".to_owned(), "SIGTERM".to_owned());
    let others = [
        Record::Header(header),
        Record::Start(start),
        Record::Beat { at: 1 },
        Record::Gpus {
            at: 1,
            gpus: vec![load()],
        },
        Record::Deals {
            at: 1,
            deals: deals(),
        },
        note(Mark::Drained),
        note(Mark::Resumed),
        Record::Health {
            at: 1,
            health: NodeHealth::Unhealthy,
            text,
        },
        Record::Leave {
            at: 1,
            why,
            longest_wait_us: 1,
        },
    ];
    for record in outcomes().into_iter().map(end).chain(others) {
        // New variants must be added here, and then to the document.
        match &record {
            Record::Header(_)
            | Record::Start(_)
            | Record::Beat { .. }
            | Record::Note { .. }
            | Record::Health { .. }
            | Record::Gpus { .. }
            | Record::Deals { .. }
            | Record::Leave { .. } => {}
            Record::End(end) => match end.outcome {
                Outcome::Exit(_)
                | Outcome::Signal(_)
                | Outcome::TimeLimit
                | Outcome::OutOfMemory
                | Outcome::NotStarted(_)
                | Outcome::NoResult
                | Outcome::Unknown
                | Outcome::Cancelled
                | Outcome::Interrupted
                | Outcome::Lost => {}
            },
        }
        assert_named(&serde_json::to_value(record).unwrap());
    }
}
