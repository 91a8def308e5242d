//! The GPUs and CPUs of this node, for `pytf devices`.

use std::time::Duration;

use crossbeam_channel::bounded;

use super::node_share::NodeShare;
use super::options::DeviceOptions;
use super::slot_plan::{NoPlan, Plan};
use crate::VERSION;
use crate::host::allocation::{here, host_name};
use crate::host::gpus::{Access, Key, Probe, users};
use crate::host::{cpus, memory};
use crate::model::devices::availability::Sample;
use crate::model::devices::cores::show_list;
use crate::model::devices::pool::{Gpu, pool};
use crate::model::devices::{Gpus, VARIABLES};
use crate::model::host_facts::{GpuFacts, HostFacts};
use crate::ui::device_report::{DeviceReport, ListedGpu};

/// How long a measurement may take.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// A static program has no dynamic loader.
const STATIC: &str = "this pytf is linked statically and cannot load NVML; it asks nvidia-smi";

/// Reads GPUs and CPUs, and plans the slots of a farm with these options.
pub fn inventory(options: &DeviceOptions, slots: Option<u32>) -> Result<DeviceReport, NoPlan> {
    let lookup = |name: &str| std::env::var(name).ok();
    let node = host_name();
    let allocation = here(&node);
    let share = NodeShare::read(&allocation, cpus::usable());
    let plan = Plan::make(options, slots, &share)?;
    let slots = plan.rows();
    let mut remarks = plan.remarks.clone();
    let probe = match plan.probe {
        Some(probe) => Some(probe),
        None => match Probe::start(&share.access) {
            Ok(probe) => Some(probe),
            Err(why) => {
                remarks.push(why);
                None
            }
        },
    };
    if cfg!(target_env = "musl") {
        remarks.push(STATIC.to_owned());
    }
    let found = probe.as_ref().map_or(&[][..], |probe| &probe.gpus);
    let pool = match (plan.pool, &options.gpus) {
        (Some(pool), _) => Some(pool),
        (None, Some(Gpus::Untouched)) => None,
        (None, _) => pool(lookup, found, None).ok(),
    };
    let own: Vec<usize> = plan.cpus.iter().copied().collect();
    let variables = VARIABLES
        .into_iter()
        .filter_map(|name| Some((name, lookup(name)?)));
    let part = share.part();
    Ok(DeviceReport {
        node,
        gpus: probe.as_ref().map(seen).unwrap_or_default(),
        seen_by: probe.as_ref().map(|probe| probe.by),
        variables: variables.collect(),
        given_by: pool.as_ref().and_then(|pool| pool.given_by),
        pool: pool
            .map(|pool| {
                pool.devices
                    .into_iter()
                    .map(|device| device.token)
                    .collect()
            })
            .unwrap_or_default(),
        cpus: show_list(&own),
        cpu_count: own.len(),
        process: (part.rank, part.of),
        slots,
        remarks,
    })
}

/// What this host is, and what of it is free.
pub fn host_facts() -> HostFacts {
    let access = Access::from(|name| std::env::var_os(name));
    let (probe, remark) = match Probe::start(&access) {
        Ok(probe) => (Some(probe), None),
        Err(why) => (None, Some(why)),
    };
    let listed = probe.as_ref().map(seen).unwrap_or_default();
    let users = if listed.is_empty() {
        Vec::new()
    } else {
        users(&access.path)
    };
    let gpus = listed.into_iter().map(
        |ListedGpu {
             gpu,
             load,
             memory_used,
             ..
         }| GpuFacts {
            users: users
                .iter()
                .filter(|(uuid, _)| Some(uuid) == gpu.uuid.as_ref())
                .map(|(_, user)| user.clone())
                .collect(),
            index: gpu.index,
            name: gpu.name,
            uuid: gpu.uuid,
            memory: gpu.memory,
            load,
            memory_used,
        },
    );
    let program = std::env::current_exe().unwrap_or_default();
    HostFacts {
        node: host_name(),
        cpus: Some(cpus::usable().quota),
        load: cpus::load(),
        memory_kib: memory::usable_kib(),
        free_kib: memory::free_kib(),
        gpus: gpus.collect(),
        remarks: remark.into_iter().collect(),
        program: format!("{VERSION}, {}", program.display()),
    }
}

/// The GPUs with what can be measured of them now.
fn seen(probe: &Probe) -> Vec<ListedGpu> {
    let (send, samples) = bounded(1);
    let keys = probe.gpus.iter().map(key).collect();
    probe.watch(keys, move |samples| {
        let _ = send.send(samples);
        false
    });
    let samples: Vec<Sample> = samples.recv_timeout(TIME_LIMIT).unwrap_or_default();
    let mut samples = samples.into_iter();
    let seen = |gpu: &Gpu| {
        let sample = samples.next().unwrap_or_default();
        let near: Vec<usize> = gpu.cpus.iter().copied().collect();
        ListedGpu {
            gpu: gpu.clone(),
            vendor: gpu.vendor.name(),
            near: show_list(&near),
            load: sample.load,
            memory_used: sample.memory,
        }
    };
    probe.gpus.iter().map(seen).collect()
}

/// What a GPU is measured by.
pub(super) fn key(gpu: &Gpu) -> Key {
    match gpu.vendor {
        crate::model::devices::Vendor::Nvidia => gpu.uuid.clone(),
        _ => gpu.pci.clone(),
    }
}
