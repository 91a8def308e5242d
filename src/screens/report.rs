//! `pytf report`: one page of HTML about a run, which needs nothing else.
//!
//! Figures, advice, nodes and failures are written as HTML here, so they can be
//! read without scripts; charts are drawn by the page's own script from data in
//! the page. Others rely on this: no byte of a task's line or output reaches the
//! page unescaped, and the page asks no server for anything.

mod data;
mod gantt;
mod html;

use std::io::{self, Write};
use std::path::Path;

use super::replace::replace;
use crate::history::failures::failures;
use crate::history::run::{Run, RunError};

/// Its name in the workdir.
pub const NAME: &str = "report.html";

const PAGE: &str = include_str!("report/page.html");
const STYLE: &str = include_str!("report/page.css");
const SCRIPT: &str = include_str!("report/page.js");

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
    let failures = failures(run);
    let parts = [
        ("title", html::title(run)),
        ("style", STYLE.to_owned()),
        ("head", html::head(run)),
        ("advice", html::advice(run)),
        ("nodes", html::nodes(run)),
        ("gpus", html::gpus(run)),
        ("causes", html::causes(&failures)),
        ("failures", html::failures(run, &failures)?),
        ("tasks", html::tops(run)?),
        ("foot", html::foot(run)),
        ("data", data::json(run)?),
        ("script", SCRIPT.to_owned()),
    ];
    // In one go from the front: what is put in is not looked at again.
    let mut page = String::new();
    let mut rest = PAGE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, behind) = after.split_once("}}").unwrap_or((after, ""));
        page += before;
        let part = parts.iter().find(|(other, _)| *other == name);
        page += part.map_or("", |(_, text)| text);
        rest = behind;
    }
    page += rest;
    Ok(page)
}

#[cfg(test)]
mod tests;
