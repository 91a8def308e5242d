//! How a list is read.

use std::collections::HashSet;
use std::ffi::OsString;
use std::sync::Arc;

use crate::model::attributes::Attributes;
use crate::model::tool::{List, NodeCommands};

/// Which names a task may wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameScope {
    /// Those of the list.
    #[default]
    List,
    /// Those of the tasks above it: the list is a stream, whose tasks start while it is read.
    /// A name that is waited for gets no more tasks.
    Above,
    /// Those that a workdir has, too, which are not known here.
    Workdir,
}

/// How a list is read.
#[derive(Clone, Debug)]
pub struct Dialect {
    /// As it is: no line is joined with the next, no directive is looked for (`--plain`).
    pub plain: bool,
    /// Which names a task may wait for.
    pub names: NameScope,
    /// Whether there may be barriers.
    pub has_barriers: bool,
    /// What is said of each task, unless the list says otherwise.
    pub attributes: Attributes,
    /// The names of the variables that tasks inherit. Without them nothing is said about
    /// variables.
    pub variables: Option<Arc<HashSet<String>>>,
    /// Which commands of a node are given as options.
    pub node: NodeCommands,
    /// Judges what is said of tasks, such as their runners; none: nothing is known of them here.
    pub tasks: Option<TaskCheck>,
}

/// Says why a task with these attributes cannot be run.
#[derive(Clone)]
pub struct TaskCheck(Arc<CheckTask>);

impl TaskCheck {
    /// Judges by this function, whose error is a sentence.
    pub fn new(check: impl Fn(&Attributes) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(check))
    }
}

type CheckTask = dyn Fn(&Attributes) -> Result<(), String> + Send + Sync;

impl std::fmt::Debug for TaskCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TaskCheck")
    }
}

impl Default for Dialect {
    fn default() -> Self {
        Self {
            plain: false,
            names: NameScope::default(),
            has_barriers: true,
            attributes: Attributes::default(),
            variables: None,
            tasks: None,
            node: NodeCommands::default(),
        }
    }
}

impl Dialect {
    /// The same for tasks that are added to a workdir.
    #[must_use]
    pub fn of_added(&self) -> Self {
        Self {
            names: NameScope::Workdir,
            has_barriers: false,
            ..self.clone()
        }
    }

    /// The same where this is said of each task, unless the list says otherwise.
    #[must_use]
    pub fn with(self, attributes: Attributes) -> Self {
        Self { attributes, ..self }
    }

    /// The same where these commands of a node are given as options.
    #[must_use]
    pub fn with_node(self, node: NodeCommands) -> Self {
        Self { node, ..self }
    }

    /// A list of another tool that is to be read so.
    pub fn list<'a>(&self, text: &'a [u8], path: &'a str) -> List<'a> {
        List {
            text,
            path,
            node: self.node,
            is_added: self.names == NameScope::Workdir,
        }
    }

    /// The same for a stream.
    #[must_use]
    pub fn of_stream(self) -> Self {
        let names = NameScope::Above;
        Self { names, ..self }
    }

    /// How lists are read where tasks have variables of these names.
    pub fn of(plain: bool, names: impl Iterator<Item = OsString>) -> Self {
        let names = names.filter_map(|name| name.into_string().ok());
        Self {
            plain,
            variables: Some(Arc::new(names.collect())),
            ..Self::default()
        }
    }

    /// Whether a task with these attributes can be run. The error is a sentence.
    pub(super) fn check_task(&self, attributes: &Attributes) -> Result<(), String> {
        match &self.tasks {
            Some(TaskCheck(check)) => check(attributes),
            None => Ok(()),
        }
    }

    /// Whether tasks will have a variable.
    pub(super) fn is_set(&self, name: &str) -> bool {
        /// What we, or a plan for devices, may set.
        const OURS: [&str; 4] = ["PYTF_", "CUDA_", "ROCR_", "HIP_"];
        const NAMES: [&str; 5] = [
            "PROC_NUMBER",
            "OMP_NUM_THREADS",
            "GPU_DEVICE_ORDINAL",
            "ZE_AFFINITY_MASK",
            "ONEAPI_DEVICE_SELECTOR",
        ];
        self.variables
            .as_ref()
            .is_none_or(|there| there.contains(name))
            || NAMES.contains(&name)
            || OURS.iter().any(|family| name.starts_with(family))
    }
}
