//! The commands that show a run: `status`, `watch`, `wait`, `log`, `report`, `timeline`,
//! `export`.
//!
//! These commands (views) only read. They take what they show from [`crate::history`]; what
//! they write, `timeline.json` and `report.html`, is not read by any farmer.

mod attempt_json;
pub mod export;
pub mod log;
mod output;
pub mod report;
pub mod status;
pub mod timeline;
pub mod wait;
pub mod watch;
mod words;
