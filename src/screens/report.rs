//! `pytf report`: one page of HTML about a run, which needs nothing else.
//!
//! Figures, advice, nodes and failures are written as HTML here, so they can be
//! read without scripts; charts are drawn by the page's own script from data in
//! the page. Others rely on this: no byte of a task's line or output reaches the
//! page unescaped, and the page asks no server for anything.

mod data;
mod gantt;
mod page;

use std::io::{self, Write};
use std::path::Path;

use super::replace::replace;
use super::status::json::status;
use crate::history::run::{Run, RunError};

/// Its name in the workdir.
pub const NAME: &str = "report.html";

/// Writes the report into a file, which it replaces when it is whole.
pub fn write_file(workdir: &Path, path: &Path) -> Result<(), RunError> {
    let page = page(&Run::open(workdir)?)?;
    Ok(replace(path, |mut file| file.write_all(page.as_bytes()))?)
}

/// Writes the report into a stream.
pub fn write_stream(workdir: &Path, out: &mut dyn Write) -> Result<(), RunError> {
    let page = page(&Run::open(workdir)?)?;
    Ok(out.write_all(page.as_bytes()).and_then(|()| out.flush())?)
}

/// The whole page.
fn page(run: &Run) -> io::Result<String> {
    let status = status(run);
    let data = data::json(run, &status)?;
    page::page(run, &status, &data)
}

#[cfg(test)]
mod tests;
