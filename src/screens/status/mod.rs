//! `pytf status`: the state of a run, as text or as JSON.

pub(crate) mod failed;
mod form;
pub mod json;
mod running;
mod task;
mod text;
pub use self::form::Form;
use std::io::{self, Write};
use std::path::Path;

use crate::history::run::{Run, RunError};
use crate::model::task::TaskId;

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
