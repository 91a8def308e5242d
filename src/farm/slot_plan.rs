//! The GPUs and CPUs of each slot of this process, and the environment variables by which tasks
//! find them.
//!
//! Guarantee: where no option requests GPUs, no library is loaded and no GPU is accessed.

use std::collections::BTreeSet;
use std::ffi::OsString;

use super::cpu_binding;
use super::node_share::NodeShare;
use super::options::DeviceOptions;
use crate::host::gpus::{self, Probe};
use crate::model::allocator::GpuPlace;
use crate::model::devices::assign::{Locality, Share, Wish, assign};
use crate::model::devices::cores::show_list;
use crate::model::devices::pool::{Pool, is_given, pool};
use crate::model::devices::{Gpus, Kind, VARIABLES, Vendor, kind};
use crate::model::record::SlotDevices;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum NoPlan {
    /// The request cannot be satisfied.
    #[error("{0}")]
    Cannot(String),
    /// The other processes of this node have all GPUs.
    #[error(
        "process {rank} of the {of} on this node, counted from 0, has no slot: their \
         GPUs take fewer tasks at a time than there are processes. Start fewer, or let tasks share with --tasks-per-gpu"
    )]
    NoShare {
        /// The number of this process, from 0.
        rank: u32,
        /// The number of processes.
        of: u32,
    },
}

/// How the variables of tasks are changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pinning {
    /// Not at all.
    Untouched,
    /// Tasks see no GPU of these vendors.
    Hidden(Vec<Vendor>),
    /// Each task sees the GPUs of its slot.
    Own(Vendor),
}

/// The plan of all slots of this process.
pub(super) struct Plan {
    /// One for each slot.
    pub slots: Vec<SlotPlan>,
    /// The GPUs that are assigned, when any are.
    pub pool: Option<Pool>,
    /// What measures the GPUs.
    pub probe: Option<Probe>,
    /// The CPUs that we may use.
    pub cpus: BTreeSet<usize>,
    /// Messages for the user.
    pub remarks: Vec<String>,
    /// The devices that this process may use, by their indices in the pool.
    pub ours: BTreeSet<usize>,
    /// How the variables of tasks are changed.
    pub pinning: Pinning,
    /// The number of OpenMP threads of a task.
    threads: Option<usize>,
}

/// What one slot has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SlotPlan {
    /// Its devices, by their indices in the pool.
    pub devices: Vec<usize>,
    /// Their tokens.
    pub gpus: Vec<String>,
    /// The CPUs that its tasks are bound to.
    pub cpus: Option<Vec<usize>>,
}

impl Plan {
    /// Makes the plan.
    pub(super) fn make(
        options: &DeviceOptions,
        proc: Option<u32>,
        share: &NodeShare,
    ) -> Result<Self, NoPlan> {
        let cpus = cpu_binding::ours(share);
        let mut plan = Self {
            slots: Vec::new(),
            pool: None,
            probe: None,
            cpus,
            remarks: Vec::new(),
            ours: BTreeSet::new(),
            pinning: Pinning::Untouched,
            threads: None,
        };
        if options.wants_gpus {
            plan.assign_gpus(options, proc, share)?;
        } else {
            plan.pinning = plan.without(options, share);
            let slots =
                proc.unwrap_or_else(|| default_slots(options, plan.cpus.len(), share.usable));
            plan.slots = vec![SlotPlan::default(); slots as usize];
        }
        plan.bind(options, share)?;
        Ok(plan)
    }

    /// Assigns GPUs to slots.
    fn assign_gpus(
        &mut self,
        options: &DeviceOptions,
        proc: Option<u32>,
        share: &NodeShare,
    ) -> Result<(), NoPlan> {
        let probe = match Probe::start(&share.access) {
            Ok(probe) => Some(probe),
            Err(why) => {
                self.remarks.push(why);
                None
            }
        };
        let found = probe.as_ref().map_or(&[][..], |probe| &probe.gpus);
        let list = match &options.gpus {
            Some(Gpus::List(list)) => Some(&list[..]),
            _ => None,
        };
        let mut pool = pool(share.lookup, found, list).map_err(NoPlan::Cannot)?;
        if options.mps {
            if share.part().of > 1 {
                let why = "--mps needs one pytf process per node, and there are more here";
                return Err(NoPlan::Cannot(why.to_owned()));
            }
            // MPS renumbers its GPUs; UUIDs stay the same.
            for device in &mut pool.devices {
                let uuid = device.gpu.and_then(|gpu| found[gpu].uuid.clone());
                if let (Some(Kind::Index(..)), Some(uuid)) = (kind(&device.token), uuid) {
                    device.token = uuid;
                }
            }
        }
        let part = if is_bound(share.lookup, pool.devices.len()) {
            Share::WHOLE
        } else {
            share.part()
        };
        let wish = Wish {
            slots: proc,
            per_task: options.gpus_per_task,
            per_gpu: options.tasks_per_gpu,
        };
        let localities = pool.localities(found);
        let assigned =
            assign(&localities, wish, part).map_err(|error| NoPlan::Cannot(error.to_string()))?;
        self.ours = each(&localities, part);
        if assigned.is_empty() {
            let Share { rank, of } = part;
            return Err(NoPlan::NoShare { rank, of });
        }
        self.remarks.extend(pool.remarks.iter().cloned());
        self.slots = assigned
            .into_iter()
            .map(|devices| SlotPlan {
                gpus: devices
                    .iter()
                    .map(|&n| pool.devices[n].token.clone())
                    .collect(),
                devices,
                ..SlotPlan::default()
            })
            .collect();
        let used: BTreeSet<usize> = self
            .slots
            .iter()
            .flat_map(|slot| slot.devices.clone())
            .collect();
        let idle = pool.devices.len() - used.len();
        if idle > 0 && part == Share::WHOLE {
            self.remarks.push(format!(
                "{idle} of {} GPUs are not used",
                pool.devices.len()
            ));
        }
        self.pinning = Pinning::Own(pool.vendor);
        (self.pool, self.probe) = (Some(pool), probe);
        Ok(())
    }

    /// How the variables change when no option requests GPUs.
    fn without(&mut self, options: &DeviceOptions, share: &NodeShare) -> Pinning {
        if options.gpus == Some(Gpus::Untouched) {
            return Pinning::Untouched;
        }
        if options.gpus_per_task == Some(0) {
            return Pinning::Hidden(Vendor::ALL.to_vec());
        }
        let names_gpus = Vendor::ALL
            .iter()
            .any(|vendor| (share.lookup)(vendor.variable()).is_some());
        if names_gpus || share.allocation.job.is_none() {
            if is_given(share.lookup) && share.allocation.job.is_some() {
                self.remarks.push(
                    "this job has GPUs, which tasks without gpus= all see: --gpus-per-task 1 gives \
                     each its own"
                        .to_owned(),
                );
            }
            return Pinning::Untouched;
        }
        // The GPUs of this node are allocated to other jobs.
        let vendors = gpus::vendors(&share.access.sysfs);
        if vendors.is_empty() {
            return Pinning::Untouched;
        }
        self.remarks.push(
            "this job has no GPU, so the GPUs of this node are hidden from its tasks \
             (--gpus none leaves the variables as they are)"
                .to_owned(),
        );
        Pinning::Hidden(vendors)
    }

    /// Gives CPUs to slots.
    fn bind(&mut self, options: &DeviceOptions, share: &NodeShare) -> Result<(), NoPlan> {
        let near: Vec<_> = self.slots.iter().map(|slot| self.near(slot)).collect();
        let cores = cpu_binding::plan(options, &self.cpus, &near, share);
        let cores = cores.map_err(NoPlan::Cannot)?;
        self.remarks.extend(cores.remark);
        self.threads = cores.threads;
        for (slot, cpus) in self.slots.iter_mut().zip(cores.slots.into_iter().flatten()) {
            slot.cpus = Some(cpus);
        }
        Ok(())
    }

    /// The GPUs that are assigned, when all of them are known by their UUIDs.
    pub(super) fn uuids(&self) -> Vec<String> {
        let tokens = self.slots.iter().flat_map(|slot| &slot.gpus);
        let tokens: BTreeSet<&String> = tokens.collect();
        let are_all = tokens
            .iter()
            .all(|token| !matches!(kind(token), Some(Kind::Index(..))));
        tokens.into_iter().filter(|_| are_all).cloned().collect()
    }

    /// The CPUs near the devices of a slot.
    fn near(&self, slot: &SlotPlan) -> BTreeSet<usize> {
        self.near_devices(&slot.devices)
    }

    /// The CPUs near some devices; none where that is unknown.
    pub(super) fn near_devices(&self, devices: &[usize]) -> BTreeSet<usize> {
        let (Some(pool), Some(probe)) = (&self.pool, &self.probe) else {
            return BTreeSet::new();
        };
        let gpus = devices.iter().filter_map(|&n| pool.devices[n].gpu);
        gpus.flat_map(|gpu| probe.gpus[gpu].cpus.clone()).collect()
    }

    /// The devices with their neighbours, as the allocator deals them.
    pub(super) fn places(&self) -> Vec<GpuPlace> {
        let Some(pool) = &self.pool else {
            return Vec::new();
        };
        let found = self.probe.as_ref().map_or(&[][..], |probe| &probe.gpus);
        let localities = pool.localities(found).into_iter().enumerate();
        localities
            .map(|(device, locality)| GpuPlace {
                locality,
                near: self.near_devices(&[device]),
            })
            .collect()
    }

    /// The environment of the tasks of a slot.
    pub(super) fn environment(
        &self,
        slot: usize,
        ours: &[(OsString, OsString)],
    ) -> Vec<(OsString, OsString)> {
        self.pinning
            .environment(&self.slots[slot].gpus, self.threads, ours)
    }
}

impl Pinning {
    /// The environment of a task with these GPUs and so many threads.
    pub(super) fn environment(
        &self,
        gpus: &[String],
        threads: Option<usize>,
        ours: &[(OsString, OsString)],
    ) -> Vec<(OsString, OsString)> {
        let mut env = ours.to_vec();
        let mut set = |name: &str, value: String| {
            env.retain(|(known, _)| known != name);
            env.push((name.into(), value.into()));
        };
        let is_unset = !ours.iter().any(|(name, _)| name == "OMP_NUM_THREADS");
        if let (Some(threads), true) = (threads, is_unset) {
            set("OMP_NUM_THREADS", threads.to_string());
        }
        match self {
            Self::Untouched => {}
            Self::Hidden(vendors) => {
                for vendor in vendors {
                    set(vendor.variable(), String::new());
                }
                set("PYTF_GPUS", String::new());
            }
            Self::Own(vendor) => {
                let gpus = gpus.join(",");
                if *vendor == Vendor::Nvidia {
                    // So that indices mean the same as for NVML and nvidia-smi.
                    set("CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned());
                }
                set("PYTF_GPUS", gpus.clone());
                set(vendor.variable(), gpus);
                env.retain(|(name, _)| {
                    name == vendor.variable() || !VARIABLES.iter().any(|other| name == other)
                });
            }
        }
        env
    }
}

impl Plan {
    /// The devices of the slots, for the journal; empty when no slot has any.
    pub(super) fn table(&self) -> Vec<SlotDevices> {
        let is_plain = |slot: &SlotPlan| slot.gpus.is_empty() && slot.cpus.is_none();
        if self.slots.iter().all(is_plain) {
            return Vec::new();
        }
        self.rows()
    }

    /// The devices of each slot.
    pub(super) fn rows(&self) -> Vec<SlotDevices> {
        let row = |slot: &SlotPlan| SlotDevices {
            gpus: slot.gpus.clone(),
            cpus: slot.cpus.as_deref().map(show_list),
        };
        self.slots.iter().map(row).collect()
    }
}

/// The devices of one process, whatever its slots.
fn each(localities: &[Locality], part: Share) -> BTreeSet<usize> {
    let wish = Wish {
        per_task: Some(1),
        ..Wish::default()
    };
    let ours = assign(localities, wish, part).unwrap_or_default();
    ours.into_iter().flatten().collect()
}

/// As many slots as there are CPUs for. The quota of a cgroup may allow fewer CPUs than
/// those that we may run on.
fn default_slots(options: &DeviceOptions, cpus: usize, usable: u32) -> u32 {
    let usable = usable as usize;
    let each = options.cpus_per_task.unwrap_or(1) as usize;
    let slots = match options.cpus_per_task {
        None => usable,
        Some(_) => usable.min(cpus.max(1)) / each,
    };
    u32::try_from(slots.max(1)).unwrap_or(u32::MAX)
}

/// Whether Slurm has bound each process of this node to its own GPUs, so that they are not
/// shared: a variable says so, or the step has more GPUs on this node than we were given.
/// (`SLURM_STEP_GPUS` does not help: in a bound process it lists only its own GPUs.)
fn is_bound(lookup: &dyn Fn(&str) -> Option<String>, given: usize) -> bool {
    let binds_gpus = |bind: String| {
        let mut parts = bind
            .split('+')
            .filter_map(|part| part.trim().strip_prefix("gpu:"));
        parts.any(|how| !how.ends_with("none"))
    };
    let of_step = lookup("SLURM_GPUS_ON_NODE").and_then(|all| all.parse::<usize>().ok());
    lookup("SLURM_GPUS_PER_TASK").is_some()
        || lookup("SLURMD_TRES_BIND").is_some_and(binds_gpus)
        || of_step.is_some_and(|all| all > given)
}

#[cfg(test)]
mod tests;
