//! `pytf report`: one page of HTML about a run, which needs nothing else.
//!
//! Figures, advice, nodes and failures are written as HTML here, so they can be read without
//! scripts; charts are drawn by the page's own script from data in the page. Guarantee: no byte
//! of a task's line or output reaches the page unescaped, and the page asks no server for
//! anything.

mod data;
mod gantt;
mod page;

use std::io;
use std::path::Path;

use super::output::replace;
use super::status::json::status;
use crate::history::run::{Run, RunError};

/// Its name in the workdir.
pub const NAME: &str = "report.html";

/// Writes the report into a file, which it replaces when it is whole, or to standard
/// output (`-`).
pub fn write_file(workdir: &Path, path: &Path) -> Result<(), RunError> {
    let page = page(&Run::open(workdir)?)?;
    Ok(replace(path, |out| out.write_all(page.as_bytes()))?)
}

/// The whole page.
fn page(run: &Run) -> io::Result<String> {
    let status = status(run);
    let data = data::json(run, &status)?;
    page::page(run, &status, &data)
}

#[cfg(test)]
mod tests;
