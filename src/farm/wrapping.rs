//! What a farm knows for runners that are not the default one: the runners, and the values of an
//! attempt.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use memchr::memmem;

use super::node_setup::Node;
use super::options::Options;
use crate::model::attributes::Attributes;
use crate::model::class::Class;
use crate::model::task::Task;
use crate::runner::chosen::Runners;
use crate::runner::wrapper::{Values, Wrapper};

/// What a farm knows for runners that are not the default one.
pub(super) struct Wrapping {
    runners: Arc<Runners>,
    node: String,
    workdir: PathBuf,
    run_dir: PathBuf,
    cpus: Option<u32>,
    gpus: Option<u32>,
    mem_kib: u64,
}

impl Wrapping {
    /// Of a farm with these options.
    pub(super) fn new(node: &Node, options: &Options, workdir: &Path) -> Self {
        Self {
            runners: node.runners.clone(),
            node: node.name.clone(),
            workdir: workdir.to_owned(),
            run_dir: std::env::current_dir().unwrap_or_default(),
            cpus: options.devices.cpus_per_task,
            gpus: options.devices.gpus_per_task,
            mem_kib: options.mem_kib.unwrap_or_default(),
        }
    }

    /// The runner of a task of which this is said; none is the default one. The error is a
    /// sentence.
    pub(super) fn runner(&self, said: Option<&[u8]>) -> Result<Option<Arc<Wrapper>>, String> {
        let Some(said) = said.filter(|said| names_runner(said)) else {
            return Ok(self.runners.of_farm().cloned());
        };
        // What cannot be read was said by a later pytf: then our options hold.
        let said = Attributes::parse(said).unwrap_or_default();
        self.runners.of_task(&said)
    }

    /// The values of an attempt.
    pub(super) fn values<'a>(
        &'a self,
        task: &'a Task,
        slot: u32,
        folder: Option<&'a Path>,
    ) -> Values<'a> {
        let said = Attributes::of_line(&task.line).unwrap_or_default();
        let class = Class::of(&said, task.attempt);
        Values {
            command: task.command(),
            id: task.id.0,
            attempt: task.attempt,
            slot,
            node: &self.node,
            workdir: &self.workdir,
            run_dir: &self.run_dir,
            task_dir: folder,
            cpus: class.cpus.or(self.cpus),
            gpus: class.gpus.or(self.gpus),
            mem_kib: class.mem.unwrap_or(self.mem_kib),
            nodes: said.nodes,
            ntasks: said.ntasks,
        }
    }
}

/// Whether a stored text says anything of the runner of a task.
fn names_runner(said: &[u8]) -> bool {
    let words = [&b"runner="[..], b"nodes=", b"ntasks="];
    words.iter().any(|word| memmem::find(said, word).is_some())
}
