//! The forms of a status, and what all of them show alike.

use std::path::Path;

use crate::model::escape::escape;
use crate::model::outcome::Outcome;
use crate::ui::style::OutputStyle;

/// How it is to be shown.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// For people.
    Text(OutputStyle),
    /// One JSON object.
    Json,
    /// A table with commas; failed and running tasks only.
    Csv,
    /// A table with tabs; failed and running tasks only.
    Tsv,
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
