//! What a farm says: how it begins, goes on, stops and ends, and what it advises;
//! with the tables, colours and widths that screens use too.
//!
//! Most of it is pure: a text from figures, and how the stream may be printed on
//! ([`look::Look`]). `advice`, `summary::part` and `summary::together` take their
//! figures from [`crate::history`]. Nothing here knows a screen.

pub mod advice;
pub mod devices;
pub mod look;
pub mod opening;
pub mod progress;
pub(crate) mod rate;
pub mod stopping;
pub mod summary;
pub mod table;
