//! The options for GPUs and CPUs, for the farm and for `pytf devices`.

#![expect(
    clippy::doc_markdown,
    reason = "the comments of options are their help, shown as they are written"
)]

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use super::groups::RESOURCES;
use super::values::{fraction, gpus, slots, tasks_per_gpu};
use crate::model::attributes::values;
use crate::model::devices::Gpus;

/// The options for GPUs and CPUs.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = RESOURCES)]
pub struct DeviceArgs {
    /// How many CPUs each task gets
    ///
    /// Without --proc it determines the number of slots. Each slot is bound to its own
    /// CPUs where there are enough, and OMP_NUM_THREADS is set unless it is set
    /// already.
    #[arg(long, env = "PYTF_CPUS_PER_TASK", value_name = "N", value_parser = values::cpus)]
    pub cpus_per_task: Option<u32>,

    /// Bind tasks to CPUs: none, core, numa, gpu
    ///
    /// Default: core with --cpus-per-task, and in a step that has its own CPUs, if
    /// there are enough; none otherwise.
    #[arg(long, env = "PYTF_BIND", value_name = "HOW")]
    pub bind: Option<Bind>,

    /// GPUs of each task [default: 1, if GPUs are used]
    ///
    /// Without --proc it determines the number of slots. 0 hides all GPUs from the tasks.
    #[arg(long, env = "PYTF_GPUS_PER_TASK", value_name = "G", value_parser = values::gpus)]
    pub gpus_per_task: Option<u32>,

    /// How many tasks may share a GPU at a time
    ///
    /// Without --proc it determines the number of slots.
    #[arg(long, env = "PYTF_TASKS_PER_GPU", value_name = "K", value_parser = tasks_per_gpu)]
    pub tasks_per_gpu: Option<u32>,

    /// The GPUs to use: a list, all, or none
    ///
    /// Each task sees only its own GPUs. A list has indices, UUIDs or beginnings of
    /// UUIDs, or MIG UUIDs: 0,2,GPU-3fa1. It can only restrict what the scheduler
    /// allocated. With none, the variables of the tasks are left as they are.
    #[arg(long, env = "PYTF_GPUS", value_name = "LIST", value_parser = gpus)]
    pub gpus: Option<Gpus>,

    /// Use a GPU only at this load or less: 0.1 or 10%
    ///
    /// For machines that are shared with others. A task starts on a GPU that several
    /// measurements in a row have found free. The load of our own tasks does not count.
    /// A load that cannot be measured counts as 0.
    #[arg(long, env = "PYTF_GPU_MAX_LOAD", value_name = "LOAD", value_parser = fraction)]
    pub gpu_max_load: Option<f64>,

    /// Use a GPU only at this memory use or less: 10%
    ///
    /// As --gpu-max-load, for the part of the GPU's memory that is in use.
    #[arg(long, env = "PYTF_GPU_MAX_MEMORY", value_name = "PART", value_parser = fraction)]
    pub gpu_max_memory: Option<f64>,

    /// Run NVIDIA's MPS while the farm runs
    ///
    /// For tasks that share a GPU: nvidia-cuda-mps-control is started before the first
    /// task and stopped after the last. It needs one pytf process per node.
    #[arg(long, env = "PYTF_MPS", value_parser = BoolishValueParser::new())]
    pub mps: bool,
}

/// How tasks are bound to CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Bind {
    /// Not bound
    None,
    /// Each slot to its own CPUs, near its GPU
    Core,
    /// Each slot to a NUMA node, that of its GPU
    Numa,
    /// Each slot to all CPUs near its GPU
    Gpu,
}

/// Show the GPUs and CPUs of this node and the slots of a farm.
///
/// With options of a farm it shows the slots that a farm with these options would have.
#[derive(Clone, Debug, Args)]
pub struct Devices {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// How many tasks would run at a time
    #[arg(short = 'n', long, short_alias = 'j', alias = "jobs", env = "PYTF_PROC", value_name = "N", value_parser = slots)]
    pub proc: Option<u32>,
    /// The options for GPUs and CPUs.
    #[command(flatten)]
    pub options: DeviceArgs,
}

impl DeviceArgs {
    /// Whether tasks are to get GPUs of their own.
    pub fn wants_gpus(&self) -> bool {
        matches!(self.gpus, Some(Gpus::All | Gpus::List(_)))
            || self.gpus_per_task.is_some_and(|n| n > 0)
            || self.needs_gpus().is_some()
    }

    /// An option that makes sense only with GPUs.
    fn needs_gpus(&self) -> Option<&'static str> {
        [
            (self.tasks_per_gpu.is_some(), "--tasks-per-gpu"),
            (self.gpu_max_load.is_some(), "--gpu-max-load"),
            (self.gpu_max_memory.is_some(), "--gpu-max-memory"),
            (self.mps, "--mps"),
        ]
        .into_iter()
        .find_map(|(is_given, name)| is_given.then_some(name))
    }

    /// Refuses what contradicts itself.
    pub(super) fn check(&self) -> Result<(), String> {
        let wants = self
            .needs_gpus()
            .or((self.bind == Some(Bind::Gpu)).then_some("--bind gpu"));
        if self.gpus == Some(Gpus::Untouched) {
            let per_task = self.gpus_per_task.map(|_| "--gpus-per-task");
            if let Some(wants) = per_task.or(wants) {
                return Err(format!(
                    "--gpus none and {wants} contradict each other: omit one of them"
                ));
            }
        }
        if self.gpus_per_task == Some(0) {
            let list = self.gpus.as_ref().map(|_| "--gpus");
            if let Some(wants) = list.or(wants) {
                return Err(format!(
                    "--gpus-per-task 0 hides all GPUs from the tasks, which contradicts {wants}"
                ));
            }
        }
        if self.bind == Some(Bind::Gpu) && !self.wants_gpus() {
            return Err("--bind gpu needs tasks with GPUs: add --gpus-per-task 1".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: DeviceArgs,
    }

    fn read(line: &str) -> Result<DeviceArgs, String> {
        let argv = std::iter::once("x").chain(line.split_whitespace());
        let options = Line::try_parse_from(argv)
            .map_err(|error| error.to_string())?
            .options;
        options.check()?;
        Ok(options)
    }

    #[test]
    fn options_are_read() {
        let list = |tokens: &[&str]| Gpus::List(tokens.iter().map(|&t| t.into()).collect());
        for (line, gpus) in [
            ("--gpus all", Gpus::All),
            ("--gpus none", Gpus::Untouched),
            ("--gpus 0,2,GPU-3fa1", list(&["0", "2", "GPU-3fa1"])),
            ("--gpus 0.1", list(&["0.1"])),
        ] {
            assert_eq!(read(line).unwrap().gpus, Some(gpus), "{line}");
        }
        let options = read(
            "--gpus-per-task 2 --gpu-max-load 10% --gpu-max-memory 0.2 --cpus-per-task 4 --bind gpu",
        )
        .unwrap();
        assert_eq!(options.gpus_per_task, Some(2));
        assert_eq!(options.gpu_max_load, Some(0.1));
        assert_eq!(options.gpu_max_memory, Some(0.2));
        assert_eq!(
            (options.cpus_per_task, options.bind),
            (Some(4), Some(Bind::Gpu))
        );
        assert!(options.wants_gpus() && read("--mps").unwrap().wants_gpus());
        assert!(!read("--gpus none").unwrap().wants_gpus());
        assert!(!read("--gpus-per-task 0").unwrap().wants_gpus());
        assert!(!read("").unwrap().wants_gpus());
    }

    #[test]
    fn wrong_ones_name_the_cure() {
        for (line, said) in [
            ("--gpus-per-task 0.5", "--tasks-per-gpu 2"),
            ("--gpus-per-task 1/4", "--tasks-per-gpu 4"),
            ("--gpus-per-task 1.5", "whole number from 0"),
            ("--gpus-per-task many", "whole number"),
            ("--tasks-per-gpu 0", "whole number from 1"),
            ("--tasks-per-gpu 0.5", "--gpus-per-task 2"),
            ("--cpus-per-task 0.5", "--proc"),
            ("--cpus-per-task 0", "whole number from 1"),
            ("--gpu-max-load 2", "0% to 100%"),
            ("--gpu-max-load x", "0% to 100%"),
            ("--gpus first", "'first' is not a GPU"),
            ("--gpus 0,0", "--tasks-per-gpu"),
            ("--gpus none --gpus-per-task 1", "contradict"),
            ("--gpus none --mps", "--mps"),
            ("--gpus-per-task 0 --tasks-per-gpu 2", "hides all GPUs"),
            ("--gpus-per-task 0 --gpus all", "contradicts --gpus"),
            ("--bind gpu", "--gpus-per-task 1"),
            ("--bind socket", "core"),
        ] {
            let error = read(line).map(|options| panic!("'{line}': {options:?}"));
            let error = error.unwrap_err();
            assert!(error.contains(said), "'{line}': {error}");
        }
    }
}
