//! `pytf edit`: the tasks that wait, in the user's editor.
//!
//! Guarantee: nothing is changed before the whole text is understood; an editor that fails, a text
//! that was not changed and a text without a task change nothing.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use pytf::cli::Edit;
use pytf::exit::RunExit;
use pytf::farm::start_error::StartError;
use pytf::model::attributes::{Attributes, Stage};
use pytf::model::escape::escape;
use pytf::model::figures::grouped;
use pytf::model::task::{TaskId, parse_line};
use pytf::model::tasklist::{Dialect, Parser};
use pytf::ui::progress::warn;
use pytf::ui::summary::quoted;
use pytf::workdir::cancel::Author;
use pytf::workdir::edit::{Edited, Line, edit as edit_waiting, tasks, waiting_tasks};
use pytf::workdir::error::Error;
use pytf::workdir::state::State;

use crate::defined::UnknownRunner;
use crate::steer::{Outside, this_user};
use crate::{say, sorted};

/// Lets the user edit; applies it.
pub(crate) fn edit(args: &Edit) -> Result<RunExit, StartError> {
    let mut outside = Outside::open(&args.workdir, "edit")?;
    let before = waiting_tasks(&outside.workdir, &outside.who, &mut outside.waiter)?;
    if before.is_empty() {
        return Ok(say("no task waits: nothing to edit\n"));
    }
    let file = TextFile::new(&before, &args.workdir).map_err(|error| {
        let what = format!("cannot write a file for the editor: {error}");
        StartError::Workdir(Error::Refused(what))
    })?;
    let dialect = Dialect::of(args.plain, std::env::vars_os().map(|(name, _)| name));
    loop {
        let unknown = UnknownRunner::default();
        let dialect = unknown.looked_for(dialect.clone());
        let text = file.edited().map_err(refused)?;
        if text == file.text {
            return Ok(say("not edited: nothing was changed\n"));
        }
        match parse(&text, &before, &dialect) {
            Ok(after) => {
                unknown.warn();
                let after: Vec<_> = after.iter().map(NewLine::as_line).collect();
                return apply(&mut outside, &before, &after);
            }
            Err(why) if asks_again(&why) => {}
            Err(why) => {
                let path = file.keep();
                let path = quoted(&escape(path.as_os_str().as_bytes()));
                return Err(refused(format!(
                    "{why}; nothing was changed, and the text is in {path}"
                )));
            }
        }
    }
}

/// Applies an edit; says what it has done.
fn apply(outside: &mut Outside, before: &[u8], after: &[Line<'_>]) -> Result<RunExit, StartError> {
    let author = Author {
        by: this_user(),
        reason: Some("edited".into()),
    };
    let Outside {
        workdir,
        who,
        waiter,
        ..
    } = outside;
    let done = edit_waiting(workdir, who, waiter, (before, after), &author)?;
    let Some((state, edited)) = done else {
        return Ok(say("nothing was changed\n"));
    };
    let exit = say(&said(&state, &edited));
    if edited.left_alone.is_empty() {
        return Ok(exit);
    }
    warn(&format!(
        "claimed meanwhile, and not changed: {}",
        sorted(&edited.left_alone)
    ));
    Ok(RunExit::Usage)
}

fn refused(why: String) -> StartError {
    Error::Refused(why).into()
}

/// The file that the editor opens. It is removed in the end.
struct TextFile {
    path: PathBuf,
    text: Vec<u8>,
}

impl TextFile {
    fn new(lines: &[u8], workdir: &Path) -> io::Result<Self> {
        let workdir = escape(workdir.as_os_str().as_bytes());
        let head = format!(
            "# The tasks that wait in {workdir}, in the order in which they will run.\n\
             #   Move lines to change the order.\n\
             #   Delete a line to cancel its task.\n\
             #   Change a command: it is a new task. Change what follows #PYTF: the task stays.\n\
             #   A line that begins with + and a blank is a new task: + ./simulate --seed 7\n\
             # Tasks that are claimed meanwhile are not changed. Leave the editor without a\n\
             # change, or delete all tasks, and nothing happens.\n"
        );
        let text = [head.as_bytes(), lines].concat();
        let name = format!("pytf-edit-{}.txt", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut options = fs::File::options();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let new = Self { path, text };
        file.write_all(&new.text)?;
        Ok(new)
    }

    /// What the user leaves in it.
    fn edited(&self) -> Result<Vec<u8>, String> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let editor = variable("VISUAL").or_else(|| variable("EDITOR"));
        let editor = editor.unwrap_or_else(|| "vi".into());
        let shown = editor.display();
        // The variable may have options, as for git.
        let mut script = editor.clone();
        script.push(" \"$@\"");
        let mut command = Command::new("/bin/sh");
        let status = command
            .arg("-c")
            .arg(&script)
            .arg(&editor)
            .arg(&self.path)
            .status();
        match status {
            Err(error) => return Err(format!("cannot start the editor {shown}: {error}")),
            Ok(status) if !status.success() => {
                return Err(format!(
                    "the editor {shown} ended with {status}: nothing was changed"
                ));
            }
            Ok(_) => {}
        }
        let read = fs::read(&self.path);
        read.map_err(|error| format!("cannot read what was edited: {error}; nothing was changed"))
    }

    /// Leaves it where it is; returns where.
    fn keep(self) -> PathBuf {
        let mut file = std::mem::ManuallyDrop::new(self);
        std::mem::take(&mut file.path)
    }
}

impl Drop for TextFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether the user wants to correct the text.
fn asks_again(why: &str) -> bool {
    let mut stderr = io::stderr();
    if !io::stdin().is_terminal() || !stderr.is_terminal() {
        return false;
    }
    let mut answer = String::new();
    let asked = write!(stderr, "pytf: {why}. Edit again? [Y/n] ").and_then(|()| stderr.flush());
    asked.is_ok()
        && io::stdin()
            .read_line(&mut answer)
            .is_ok_and(|read| read > 0)
        && !matches!(&*answer.trim().to_lowercase(), "n" | "no")
}

/// A line of an edited text, as it is stored.
struct NewLine {
    /// The task that it was.
    id: Option<TaskId>,
    text: Vec<u8>,
}

impl NewLine {
    fn as_line(&self) -> Line<'_> {
        match self.id {
            Some(id) => Line::Task(id, &self.text),
            None => Line::New(&self.text),
        }
    }
}

/// The lines of an edited text, each checked.
fn parse(text: &[u8], before: &[u8], dialect: &Dialect) -> Result<Vec<NewLine>, String> {
    let known: HashMap<TaskId, &[u8]> = tasks(before).collect();
    let mut seen = HashSet::new();
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
        let wrong = |what: String| format!("line {number}: {what}");
        if line.trim_ascii_end().is_empty() || line[0] == b'#' {
            continue;
        }
        let (id, text) = if let Some(command) = line.strip_prefix(b"+ ") {
            (None, command)
        } else if let Some((id, command)) = parse_line(line) {
            match known.get(&id) {
                None => {
                    return Err(wrong(format!(
                        "no task {id} waits; a new task begins with +"
                    )));
                }
                Some(_) if !seen.insert(id) => {
                    return Err(wrong(format!("task {id} is there twice")));
                }
                Some(_) => (Some(id), command),
            }
        } else {
            let what =
                "neither a task with its number nor a new one, which begins with + and a blank";
            return Err(wrong(what.into()));
        };
        let is_known = id.and_then(|id| known.get(&id)) == Some(&text);
        let text = if is_known {
            text.to_vec()
        } else {
            let stage = id.and_then(|id| known.get(&id)).map(|line| stage(line));
            stored(text.trim_ascii(), stage.unwrap_or_default(), dialect).map_err(wrong)?
        };
        lines.push(NewLine { id, text });
    }
    if lines.is_empty() {
        return Err(
            "no task is left in the text ('pytf cancel WORKDIR --waiting' cancels all)".into(),
        );
    }
    Ok(lines)
}

/// The stage of a task by its stored line.
fn stage(line: &[u8]) -> Stage {
    Attributes::of_line(line).unwrap_or_default().stage
}

/// The line of one task, as it is stored. A task of a list keeps its stage, which stands in its
/// line.
fn stored(line: &[u8], stage: Stage, dialect: &Dialect) -> Result<Vec<u8>, String> {
    let said = Attributes {
        stage,
        ..Attributes::default()
    };
    let word = format!(" {said}");
    let line = match line
        .windows(word.len())
        .rposition(|part| part == word.as_bytes())
    {
        Some(at) if !said.is_empty() => [&line[..at], &line[at + word.len()..]].concat(),
        _ => line.to_vec(),
    };
    let line = &line[..];
    let mut parser = Parser::of(dialect.of_added().with(said));
    let mut lines = Vec::new();
    let mut emit = |task: &[u8]| lines.push(task.to_vec());
    let parsed = parser
        .feed(line, &mut emit)
        .and_then(|()| parser.finish(&mut emit));
    parsed.map_err(|error| error.to_string())?;
    match &mut lines[..] {
        [stored] if !line.starts_with(b"#") => Ok(std::mem::take(stored)),
        _ => Err("it is empty, a comment or a directive, and no task".into()),
    }
}

fn said(state: &State, edited: &Edited) -> String {
    let mut text = String::new();
    for (ids, what) in [
        (&edited.cancelled, "cancelled"),
        (&edited.added, "added"),
        (&edited.changed, "changed"),
    ] {
        if !ids.is_empty() {
            text += &format!("{what}: {}\n", sorted(ids));
        }
    }
    let waiting = grouped(state.left());
    text += &format!("{waiting} tasks wait in the order of the text");
    if state.live == 0 {
        text += "; no process works on the run: run the same command again";
    }
    text + "\n"
}
