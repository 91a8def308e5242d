//! `pytf status`: how a run stands, on one screen or as JSON.

pub(crate) mod failed;
pub mod json;
mod running;
mod task;
mod text;
pub(crate) use self::text::range;
use std::io::{self, Write};
use std::path::Path;

use crate::history::run::{Run, RunError};
use crate::model::escape::escape;
use crate::model::outcome::Outcome;
use crate::model::task::TaskId;
use crate::ui::look::Look;
use crate::ui::table;

/// What is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// The run.
    Whole,
    /// The failed tasks.
    Failed,
    /// What runs now.
    Running,
    /// One task.
    Task(TaskId),
}

/// How it is to be shown.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// For people.
    Text(Look),
    /// One JSON object.
    Json,
    /// A table with commas; failed and running tasks only.
    Csv,
    /// A table with tabs; failed and running tasks only.
    Tsv,
}

/// Why nothing can be shown.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The workdir cannot be read.
    #[error("{0}")]
    Run(#[from] RunError),
    /// No task has that id.
    #[error("there is no task {0}")]
    NoTask(TaskId),
    /// Something could not be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Shows a part of a run.
pub fn show(
    workdir: &Path,
    part: Section,
    form: Form,
    out: &mut dyn Write,
) -> Result<(), StatusError> {
    let run = Run::open(workdir)?;
    match (part, form) {
        (Section::Whole, Form::Text(look)) => {
            out.write_all(text::text(&run, &look)?.as_bytes())?;
        }
        (Section::Whole, _) => write_json(out, &json::status(&run))?,
        (Section::Failed, form) => failed::show(&run, form, out)?,
        (Section::Running, form) => running::show(&run, form, out)?,
        (Section::Task(id), form) => {
            let task = task::of(&run, id)?.ok_or(StatusError::NoTask(id))?;
            match form {
                Form::Text(look) => out.write_all(task.text(&look).as_bytes())?,
                _ => write_json(out, &task.json())?,
            }
        }
    }
    Ok(out.flush()?)
}

fn write_json(out: &mut dyn Write, value: &serde_json::Value) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    out.write_all(b"\n")
}

/// The number that goes with an outcome: an exit status or a signal.
pub(crate) fn numbers(outcome: Option<&Outcome>) -> (Option<i32>, Option<i32>) {
    match outcome {
        Some(Outcome::Exit(status) | Outcome::NotStarted(status)) => (Some(*status), None),
        Some(Outcome::Signal(signal)) => (None, Some(*signal)),
        _ => (None, None),
    }
}

/// A path or a name as it may be printed.
pub(super) fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes())
}
