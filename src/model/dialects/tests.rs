//! Lists as users of each tool write them, with their tasks or why they are refused, in
//! `tests/lists`; and what holds for all lists.
//!
//! `LISTS_WRITE=1 cargo test --lib dialects` writes what comes out into these files.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::text::lines;
use super::*;
use crate::model::tasklist::{Dialect, ListError, Parser, handlers};
use crate::model::tool::NodeCommands;

fn list<'a>(text: &'a [u8], path: &'a str) -> List<'a> {
    List {
        text,
        path,
        node: NodeCommands::default(),
        is_added: false,
    }
}

/// The tasks that a farm stores of a list that was made from another.
fn tasks(made: &Translation) -> std::result::Result<Vec<String>, ListError> {
    let (mut tasks, mut parser) = (Vec::new(), Parser::of(Dialect::of(false, [].into_iter())));
    let mut emit = |task: &[u8]| tasks.push(String::from_utf8_lossy(task).into_owned());
    parser.feed_made(&made.text, &made.lines, &mut emit)?;
    Ok(tasks)
}

/// The same where the made list is a file of its own.
fn converted(made: &Translation) -> std::result::Result<Vec<String>, ListError> {
    let (mut tasks, mut parser) = (Vec::new(), Parser::of(Dialect::of(false, [].into_iter())));
    let mut emit = |task: &[u8]| tasks.push(String::from_utf8_lossy(task).into_owned());
    parser.feed(&made.text, &mut emit)?;
    parser.finish(&mut emit)?;
    Ok(tasks)
}

/// Whose list this is, by its marks.
fn found(text: &[u8]) -> Option<Tool> {
    let mut parser = Parser::of(Dialect::of(false, [].into_iter()));
    let fed = parser.feed(text, &mut |_| ());
    match fed.and_then(|()| parser.finish(&mut |_| ())) {
        Err(ListError::ForeignSyntax { tool, .. }) => tool,
        _ => None,
    }
}

/// What is to be in a file of `tests/lists` below the list.
fn outcome(tool: Tool, text: &[u8]) -> String {
    let marks = match found(text) {
        Some(found) if found == tool => "found by its marks",
        Some(found) => panic!("found to be of {found}"),
        None => "named",
    };
    let mut out = format!("--- {marks}\n");
    let made = handlers::made(tool, &list(text, "tasks.txt"));
    let read = made.and_then(|made| {
        let read = tasks(&made)?;
        assert_eq!(converted(&made).unwrap(), read);
        Ok((read, made.notes))
    });
    match read {
        Ok((tasks, notes)) => {
            out += "--- tasks\n";
            for task in tasks {
                writeln!(out, "{task}").unwrap();
            }
            if !notes.is_empty() {
                out += "--- notes\n";
                for note in notes {
                    writeln!(out, "{note}").unwrap();
                }
            }
        }
        Err(error) => write!(out, "--- refused\n{error}\n").unwrap(),
    }
    out
}

/// The files of a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn lists_of_users_are_read_as_their_tools_read_them() {
    let lists = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lists");
    let mut seen = 0;
    for tool in Tool::ALL {
        for path in files(&lists.join(tool.name())) {
            let file = std::fs::read_to_string(&path).unwrap();
            let at = file
                .find("--- found by its marks\n")
                .or(file.find("--- named\n"));
            let (text, expected) = file.split_at(at.unwrap_or(file.len()));
            let outcome = outcome(tool, text.as_bytes());
            if std::env::var_os("LISTS_WRITE").is_some() {
                std::fs::write(&path, format!("{text}{outcome}")).unwrap();
            } else {
                assert_eq!(outcome, expected, "{}", path.display());
            }
            seen += 1;
        }
    }
    assert!(seen >= 40, "only {seen} lists");
}

/// Lists that no tool has marked: nothing changes.
#[test]
fn a_list_without_marks_is_nobodys() {
    for text in [
        "./a 1\n./b # two\n\n# c\n",
        "#PYTF cpus=2\n./a #PYTF name=a\n",
        "awk -F, '{print $1}' x\n",
        "#!/bin/bash\ncd x; ./a\n",
    ] {
        assert_eq!(found(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn commands_of_nodes_are_options() {
    let text = b"#DISBATCH PREFIX cd w ; \n#DISBATCH PERENGINE START cp a b\n./x\n";
    let refused = translate(Tool::DisBatch, &list(text, "l")).unwrap_err();
    assert_eq!(refused.line, 2);
    assert!(
        refused.what.contains("--node-setup 'cd w ; cp a b'"),
        "{}",
        refused.what
    );
    let node = NodeCommands {
        setup: true,
        teardown: false,
    };
    let with = List {
        node,
        ..list(text, "l")
    };
    let made = translate(Tool::DisBatch, &with).unwrap();
    assert_eq!(tasks(&made).unwrap().len(), 1);
    assert_eq!(made.notes.len(), 1);
    let text = b"make -j4 #!\n./x\n";
    assert!(translate(Tool::Runtask, &list(text, "l")).is_err());
    let with = List {
        node,
        ..list(text, "l")
    };
    assert_eq!(
        tasks(&translate(Tool::Runtask, &with).unwrap()).unwrap(),
        ["./x"]
    );
}

/// Names of lists that are added to one run are not to be taken for each other.
#[test]
fn names_of_added_lists_differ() {
    let name = |text: &str| {
        let added = List {
            is_added: true,
            ..list(text.as_bytes(), "l")
        };
        let made = translate(Tool::Greasy, &added).unwrap();
        let tasks = tasks(&made).unwrap();
        tasks[0].split_once("name=").unwrap().1.to_owned()
    };
    assert_ne!(name("a\n[#1#] b\n"), name("a\n[#1#] c\n"));
    assert_eq!(name("a\n[#1#] b\n"), name("a\n[#1#] b\n"));
}

/// Pieces of lists of all tools, without the blanks and line ends at their ends.
const PIECES: &str = r#"
\|#|'|"|(|)|;|{|}|a|./x 1|cd w|echo $A|# c|#DISBATCH |PREFIX |SUFFIX |REPEAT |3 |start 5 |step 2 |
step 0 |BARRIER| CHECK|PERENGINE START |$DISBATCH_TASKID|DISBATCH_STREAM_INDEX_ZP|#!|#@2|#:g|#+g|
#+h|$WORKERID|exit |[#|#]|1|-1|-|,|[@|@]|/w|5,|0,|PYL_ID|${PYL_ID}|__barrier__|#SWARM |-b 2 |
-g 1.5 |--time=1:00 |--module a,b |-t|--no-comment|$LAUNCHER_JID|LAUNCHER_TSK_ID|$PARALLEL_SEQ|
#PYTF | #PYTF cpus=2|name=a|18446744073709551615|é|{"a":1}|`|$("#;

fn lists() -> impl Strategy<Value = Vec<u8>> {
    let ends = ["\n", "\n", "\n", " ", "\t", "\r\n", " \\\n", "\u{feff}"];
    let pieces = PIECES.split('|').map(|piece| piece.trim_matches('\n'));
    let piece = proptest::sample::select(ends.into_iter().chain(pieces).collect::<Vec<_>>());
    proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn what_is_accepted_is_the_same_list_when_it_is_converted(
        text in lists(),
        at in 0..Tool::ALL.len(),
    ) {
        let tool = Tool::ALL[at];
        let Ok(made) = translate(tool, &list(&text, "some list")) else {
            return Ok(());
        };
        let ends = memchr::memchr_iter(b'\n', &made.text).count();
        prop_assert_eq!(made.lines.len(), ends);
        let last = lines(&text).last().map_or(0, |(number, _)| number);
        prop_assert!(made.lines.is_sorted());
        prop_assert!(made.lines.iter().all(|line| (1..=last).contains(line)));
        match (tasks(&made), converted(&made)) {
            (Ok(tasks), converted) => prop_assert_eq!(Ok(tasks), converted),
            (Err(_), converted) => prop_assert!(converted.is_err()),
        }
    }
}

#[test]
fn commands_are_shown_without_the_variables_of_their_tool() {
    for (command, shown) in [
        (
            "export DISBATCH_TASKID=1 A='x; y'\\''z; ' B=\"\\\"; \" C=$(a); b; c",
            "b; c",
        ),
        (
            "export SWARM_COMM_ID=1;  module load x; b",
            "module load x; b",
        ),
        ("export A=1; b", "export A=1; b"),
        ("export DISBATCH_TASKID=1", "export DISBATCH_TASKID=1"),
    ] {
        assert_eq!(
            as_written(command.as_bytes()),
            shown.as_bytes(),
            "{command}"
        );
    }
}
