//! Adding tasks to a run from outside, while farmers work on it or not.
//!
//! Guarantee: what is added is checked as a list is, and all of it is added or nothing; the ids
//! are consecutive; that the tasks are of no list is in `orders`, so no list that is read later
//! takes them for its own, or for lines that were removed.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;

use crate::model::ids::Ids;
use crate::model::task::{TaskId, push_line};
use crate::model::tasklist::{Dialect, ListError, Parser, Remarks, check_added};
use crate::model::tool::Translation;
use crate::workdir::error::{Error, Result};
use crate::workdir::fs::Workdir;
use crate::workdir::layout::ORDERS;
use crate::workdir::liveness::Waiting;
use crate::workdir::names::check_names;
use crate::workdir::orders::Order;
use crate::workdir::resume::{ListFailure, ListFile, prepare_stream};
use crate::workdir::state::{Act, State};
use crate::workdir::transaction::Txn;

/// Tasks to be added: lines that were checked.
#[derive(Debug, Default)]
pub struct NewTasks {
    /// Each ends in a line feed.
    lines: Vec<u8>,
    /// What people should know about them.
    pub remarks: Remarks,
}

impl NewTasks {
    /// Commands of a command line: each is one task.
    pub fn of_commands(commands: &[OsString], dialect: &Dialect) -> Result<Self, ListFailure> {
        let mut tasks = Self::default();
        for (nth, command) in (1..).zip(commands) {
            let (name, before) = (format!("command {nth}"), tasks.lines.len());
            if command.as_bytes().contains(&b'\n') {
                let what = "has several lines: give each as a command, or use --from";
                return Err(ListFailure::Refused(format!("{name} {what}")));
            }
            tasks.read(command.as_bytes(), &name, dialect)?;
            if tasks.lines.len() == before {
                let what = "is empty or a comment, so it is not a task";
                return Err(ListFailure::Refused(format!("{name} {what}")));
            }
        }
        check_added(tasks.each()).map_err(|error| match error {
            ListError::Directive { line, what, .. } => {
                ListFailure::Refused(format!("command {line}: {what}"))
            }
            other => ListFailure::Refused(other.to_string()),
        })?;
        // That they have no final line feed is no news.
        tasks.remarks = Remarks::default();
        Ok(tasks)
    }

    /// The tasks of a list in a regular file.
    pub fn of_list(list: &ListFile) -> Result<Self, ListFailure> {
        list.reading(|| {
            let mut lines = Vec::new();
            let remarks = list.each(|line| {
                put(&mut lines, line);
                Ok(())
            })?;
            Ok(Self { lines, remarks })
        })
    }

    /// The tasks of a stream, which is read to its end; `name` is for messages.
    pub fn of_stream(
        stream: impl Read,
        name: &str,
        dialect: &Dialect,
    ) -> Result<Self, ListFailure> {
        let mut tasks = Self::default();
        tasks.read(stream, name, dialect)?;
        Ok(tasks)
    }

    /// The tasks of a list that was made from another; `name` is for messages.
    pub fn of_made(list: &Translation, name: &str, dialect: &Dialect) -> Result<Self, ListFailure> {
        let (mut tasks, mut parser) = (Self::default(), Parser::of(dialect.of_added()));
        let mut emit = |line: &[u8]| put(&mut tasks.lines, line);
        let fed = parser.feed_made(&list.text, &list.lines, &mut emit);
        fed.map_err(|source| ListFailure::Wrong {
            list: name.to_owned(),
            source,
        })?;
        tasks.remarks = parser.remarks();
        tasks.remarks.notes.clone_from(&list.notes);
        Ok(tasks)
    }

    fn read(
        &mut self,
        mut stream: impl Read,
        name: &str,
        dialect: &Dialect,
    ) -> Result<(), ListFailure> {
        let mut parser = Parser::of(dialect.of_added());
        let mut emit = |line: &[u8]| put(&mut self.lines, line);
        let mut chunk = vec![0; 1 << 16];
        let list = || name.to_owned();
        loop {
            let (parsed, is_end) = match stream.read(&mut chunk) {
                Ok(0) => (parser.finish(&mut emit), true),
                Ok(read) => (parser.feed(&chunk[..read], &mut emit), false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    let list = list();
                    return Err(ListFailure::Unreadable { list, source });
                }
            };
            parsed.map_err(|source| ListFailure::Wrong {
                list: list(),
                source,
            })?;
            if is_end {
                self.remarks = parser.remarks();
                return Ok(());
            }
        }
    }

    fn each(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.lines.split_inclusive(|&byte| byte == b'\n');
        lines.map(|line| &line[..line.len() - 1])
    }
}

fn put(lines: &mut Vec<u8>, line: &[u8]) {
    lines.extend_from_slice(line);
    lines.push(b'\n');
}

/// Adds tasks at the end of `toprocess`, in one transaction; begins a run where there is none:
/// then `folder` is where it was first started. Returns the ids, in the order of the tasks, and
/// the state after it.
pub fn add(
    workdir: &Workdir,
    who: &str,
    waiting: &mut dyn Waiting,
    tasks: &NewTasks,
    folder: Option<&str>,
) -> Result<(Ids, State)> {
    let mut txn = Txn::begin(workdir, who, waiting)?;
    if txn.state().seq == 0 {
        // Its own transaction: what a process that dies has written before there is a state
        // would be taken for another tool's.
        drop(txn);
        prepare_stream(workdir, who, waiting, folder, None)?;
        txn = Txn::begin(workdir, who, waiting)?;
    }
    let (mut lines, mut ids) = (Vec::with_capacity(tasks.lines.len() * 2), Ids::default());
    for (id, line) in (txn.state().tasks.lines..).zip(tasks.each()) {
        push_line(&mut lines, TaskId(id), line);
        ids.push(TaskId(id));
    }
    if ids.is_empty() {
        return Err(Error::Refused("there is no task to add".into()));
    }
    txn.add(&lines)?;
    check_names(&mut txn, &lines)?;
    let order = Order::Add { ids: ids.clone() };
    txn.append(ORDERS, &order.line(txn.micros()))?;
    let (order, ids) = (order.word().to_owned(), ids);
    let added = ids.clone();
    let state = txn.commit(Act::Order { order, ids })?;
    Ok((added, state))
}
