//! `pytf report`: one page of HTML about a run, which needs nothing else.
//!
//! `data` collects what a page shows: the document that `pytf status --json` prints, and what
//! that does not have. `page` makes HTML of it alone. Figures, advice, nodes and failures can be
//! read without scripts; charts are drawn by the page's own script from data in the page, of
//! which that document is a part, as it is. Guarantee: no byte
//! of a task's line or output reaches the page unescaped, and the page asks no server for
//! anything.

mod data;
mod gantt;
mod page;

use std::io;
use std::path::Path;

use self::data::ReportData;
use super::output::replace;
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
    Ok(page::page(&ReportData::of(run)?))
}

#[cfg(test)]
mod tests;
