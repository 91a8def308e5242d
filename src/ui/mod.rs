//! The messages of a farm: start, progress, stop, summary and advice; and the tables, colours
//! and widths that views use, too.
//!
//! Most of it is pure: a text from figures and an [`style::OutputStyle`]. `advice`,
//! `summary::process` and `summary::combined` take their figures from [`crate::history`].
//! Nothing here depends on a view.

pub mod advice;
pub mod device_report;
pub mod host_report;
pub mod opening;
pub mod progress;
pub(crate) mod rate;
pub mod stopping;
pub mod style;
pub mod summary;
pub mod table;
pub mod task_log;
