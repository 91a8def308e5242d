//! The environment of the tasks of one slot.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::host::guard;
use crate::model::task::Task;

/// Our environment, the variables that describe where a task runs, and at the end those that
/// change from task to task.
pub(super) struct TaskEnv {
    vars: Vec<CString>,
    /// How many of them, at the end, describe where a task runs.
    own: usize,
}

/// The variables that we set for a task.
const OURS: [&str; 7] = [
    "PYTF_NODE",
    "PYTF_SLOT",
    "PYTF_WORKDIR",
    guard::MARK,
    "PYTF_TASK_ID",
    "PYTF_ATTEMPT",
    "PROC_NUMBER",
];
/// The folder of an attempt (`--task-dir`).
const FOLDER: &str = "PYTF_TASK_DIR";
/// The folder in which the farm was started.
const START: &str = "PYTF_RUN_DIR";
/// How many of them change from task to task.
const CHANGING: usize = 3;

impl TaskEnv {
    /// The environment of the tasks of one slot.
    pub(super) fn new(
        ours: &[(OsString, OsString)],
        node: &str,
        slot: u32,
        workdir: &Path,
        farmer: &str,
    ) -> Self {
        let mut vars: Vec<CString> = ours
            .iter()
            .filter(|(name, _)| !OURS.iter().chain(&[FOLDER, START]).any(|own| name == own))
            .filter_map(|(name, value)| var(name.as_bytes(), value.as_bytes()))
            .collect();
        let slot = slot.to_string();
        let values = [
            node.as_bytes(),
            slot.as_bytes(),
            workdir.as_os_str().as_bytes(),
            farmer.as_bytes(),
        ];
        let fixed = OURS
            .iter()
            .zip(values)
            .filter_map(|(name, value)| var(name.as_bytes(), value));
        let of_node = vars.len();
        vars.extend(fixed);
        let start = std::env::current_dir().ok();
        vars.extend(start.and_then(|start| var(START.as_bytes(), start.as_os_str().as_bytes())));
        vars.extend([c"", c"", c""].map(CString::from));
        let own = vars.len() - of_node;
        Self { vars, own }
    }

    /// Adds variables, in front of those that change.
    pub(super) fn extend<'a>(&mut self, more: impl Iterator<Item = &'a (OsString, OsString)>) {
        let more = more.filter_map(|(name, value)| var(name.as_bytes(), value.as_bytes()));
        self.vars.splice(0..0, more);
    }

    /// Other variables of the node for the next program. What describes where a task runs stays.
    pub(super) fn replace(&mut self, node: &[(OsString, OsString)]) {
        let own = self.vars.split_off(self.vars.len() - self.own);
        self.vars = (node.iter())
            .filter(|(name, _)| !OURS.iter().chain(&[FOLDER, START]).any(|own| name == own))
            .filter_map(|(name, value)| var(name.as_bytes(), value.as_bytes()))
            .chain(own)
            .collect();
    }

    /// Sets what changes: the next program starts as this task.
    pub(super) fn set_task(&mut self, task: &Task) {
        let values = [
            task.id.to_string(),
            task.attempt.to_string(),
            task.id.to_string(),
        ];
        let first = self.vars.len() - CHANGING;
        let names = &OURS[OURS.len() - CHANGING..];
        for ((place, name), value) in self.vars[first..].iter_mut().zip(names).zip(values) {
            if let Some(var) = var(name.as_bytes(), value.as_bytes()) {
                *place = var;
            }
        }
    }

    /// The next program starts in this folder, which was made for it.
    pub(super) fn set_folder(&mut self, folder: &Path) {
        let Some(new) = var(FOLDER.as_bytes(), folder.as_os_str().as_bytes()) else {
            return;
        };
        let is_it = |var: &&mut CString| {
            let value = var.as_bytes().strip_prefix(FOLDER.as_bytes());
            value.is_some_and(|value| value.starts_with(b"="))
        };
        match self.vars.iter_mut().find(is_it) {
            Some(var) => *var = new,
            // What changes with each task is at the end.
            None => self.vars.insert(0, new),
        }
    }

    /// All variables.
    pub(super) fn all(&self) -> &[CString] {
        &self.vars
    }
}

/// `name=value`; none if it has a NUL byte, which an environment cannot hold.
pub(super) fn var(name: &[u8], value: &[u8]) -> Option<CString> {
    CString::new([name, b"=", value].concat()).ok()
}
