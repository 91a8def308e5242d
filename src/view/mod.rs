//! What people see of a workdir: while it runs, at its end, afterwards.
//!
//! Views only read. None takes the workdir's lock, none changes a file that the
//! farm relies on, so looking at a run can never disturb it; the one file that
//! is written here, `timeline.json`, is nobody's input. What they read may be
//! half-written, by a farmer that is at work or by one that died: a view shows
//! what is whole and says what is not.

pub mod escape;
