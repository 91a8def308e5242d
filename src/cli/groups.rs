//! The groups of options in the help.

pub(super) const COMMON: &str = "Common";
pub(super) const TIME: &str = "Time";
pub(super) const RESOURCES: &str = "Resources";
pub(super) const LOGS: &str = "Logs";
pub(super) const WORKDIR: &str = "Task list and workdir";
pub(super) const ADVANCED: &str = "Advanced";
