//! What a farm says: how it begins, goes on, stops and ends, and what it advises;
//! with the tables, colours and widths that screens use too.
//!
//! Most of it is pure: a text from figures, and how the stream may be printed on
//! ([`style::OutputStyle`]). `advice`, `summary::part` and `summary::together` take their
//! figures from [`crate::history`]. Nothing here knows a screen.

pub mod advice;
pub mod device_report;
pub mod opening;
pub mod progress;
pub(crate) mod rate;
pub mod stopping;
pub mod style;
pub mod summary;
pub mod table;
