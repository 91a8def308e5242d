//! NVIDIA's management library, found at run time.

use std::collections::BTreeSet;

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, EventSet, Nvml};

use super::source::{Access, Key, Tick};
use crate::host::gpus::sysfs::{near_pci, numa_of_pci};
use crate::model::devices::Vendor;
use crate::model::devices::availability::Sample;
use crate::model::devices::pool::Gpu;

/// Errors from which a GPU does not recover by itself: of memory, links, the bus, its
/// firmware. All others are caused by programs.
const FATAL_XIDS: [u64; 8] = [48, 62, 64, 74, 79, 95, 119, 120];
/// The most links a GPU has.
const LINKS: u32 = 18;

pub(super) struct Source {
    nvml: Nvml,
    sysfs: std::path::PathBuf,
}

pub(super) enum Opened {
    Yes(Box<Source>),
    /// The library exists, but finds no GPU or driver.
    Nothing,
    /// There is no library, or this program cannot load it.
    NoLibrary,
}

impl Source {
    pub(super) fn open(access: &Access) -> Opened {
        let mut builder = Nvml::builder();
        if let Some(path) = &access.nvml {
            builder.lib_path(path);
        }
        match builder.init() {
            Ok(nvml) => Opened::Yes(Box::new(Self {
                nvml,
                sysfs: access.sysfs.clone(),
            })),
            Err(NvmlError::LibloadingError(_) | NvmlError::FailedToLoadSymbol(_)) => {
                Opened::NoLibrary
            }
            Err(_) => Opened::Nothing,
        }
    }

    fn gpu(&self, index: u32, device: &Device) -> Gpu {
        let pci = device.pci_info().ok().map(|pci| short(&pci.bus_id));
        let near = |_| pci.as_deref().map(|pci| near_pci(&self.sysfs, pci));
        let words = device.cpu_affinity(16);
        let cpus = words.map_or_else(
            |error| near(error).unwrap_or_default(),
            |words| bits(&words),
        );
        let numa = pci.as_deref().and_then(|pci| numa_of_pci(&self.sysfs, pci));
        Gpu {
            uuid: device.uuid().ok(),
            name: device.name().ok(),
            numa: numa.or_else(|| device.numa_node_id().ok()),
            memory: device.memory_info().ok().map(|memory| memory.total),
            mig: parts(device),
            pci,
            cpus,
            ..Gpu::new(Vendor::Nvidia, index)
        }
    }

    /// Groups GPUs that are connected by direct links, over any number of steps.
    fn groups(&self, gpus: &mut [Gpu]) {
        let mut group: Vec<usize> = (0..gpus.len()).collect();
        let mut is_linked = vec![false; gpus.len()];
        for at in 0..gpus.len() {
            let Ok(device) = self.nvml.device_by_index(gpus[at].index) else {
                continue;
            };
            for link in 0..LINKS {
                let link = device.link_wrapper_for(link);
                let Ok(remote) = link.remote_pci_info() else {
                    continue;
                };
                let remote = short(&remote.bus_id);
                let other = gpus
                    .iter()
                    .position(|gpu| gpu.pci.as_ref() == Some(&remote));
                if let Some(other) = other {
                    let (old, new) = (group[at].max(group[other]), group[at].min(group[other]));
                    group
                        .iter_mut()
                        .filter(|group| **group == old)
                        .for_each(|group| *group = new);
                    (is_linked[at], is_linked[other]) = (true, true);
                }
            }
        }
        for (at, gpu) in gpus.iter_mut().enumerate() {
            gpu.links = is_linked[at].then(|| u32::try_from(group[at]).unwrap_or(0));
        }
    }

    fn sample(&self, key: &Key, events: &Events) -> Sample {
        let Some(uuid) = key else {
            return Sample::default();
        };
        let device = match self.nvml.device_by_uuid(uuid.as_str()) {
            Ok(device) => device,
            Err(error) => return failed(&error),
        };
        let whole = if uuid.starts_with("MIG-") {
            let parent = device.mig_parent_device();
            parent.and_then(|gpu| gpu.uuid()).unwrap_or_default()
        } else {
            uuid.clone()
        };
        if let Some((_, xid)) = events.iter().find(|(lost, _)| *lost == whole) {
            return Sample {
                lost: Some(format!("it has reported the error Xid {xid}")),
                ..Sample::default()
            };
        }
        let load = device.utilization_rates();
        if let Err(error) = &load
            && is_lost(error)
        {
            return failed(error);
        }
        // The part that the driver reserves for itself is not in use.
        let memory = device.memory_info().ok().filter(|memory| memory.total > 0);
        Sample {
            load: load.ok().map(|load| f64::from(load.gpu) / 100.0),
            memory: memory.map(|memory| ratio(memory.used, memory.total)),
            lost: None,
        }
    }
}

/// Fatal errors by the UUID of the GPU that reported them.
type Events = Vec<(String, u64)>;

impl super::source::Source for Source {
    fn gpus(&self) -> Vec<Gpu> {
        let count = self.nvml.device_count().unwrap_or(0);
        let mut gpus: Vec<Gpu> = (0..count)
            .filter_map(|index| Some(self.gpu(index, &self.nvml.device_by_index(index).ok()?)))
            .collect();
        self.groups(&mut gpus);
        gpus
    }

    fn watch(&self, keys: &[Key], tick: Tick) {
        let set = self.events();
        let mut seen = Events::new();
        loop {
            seen.extend(set.iter().flat_map(fatal));
            let samples = keys.iter().map(|key| self.sample(key, &seen)).collect();
            if !tick(samples) {
                return;
            }
        }
    }
}

impl Source {
    /// The errors of all GPUs from now on, where the driver reports errors.
    fn events(&self) -> Option<EventSet<'_>> {
        let mut set = self.nvml.create_event_set().ok()?;
        for index in 0..self.nvml.device_count().ok()? {
            let device = self.nvml.device_by_index(index).ok()?;
            set = device
                .register_events(EventTypes::CRITICAL_XID_ERROR, set)
                .ok()?;
        }
        Some(set)
    }
}

/// The fatal errors since the last call.
fn fatal(set: &EventSet) -> Events {
    let mut found = Events::new();
    while let Ok(event) = set.wait(0) {
        let Some(XidError::Value(xid)) = event.event_data else {
            continue;
        };
        if FATAL_XIDS.contains(&xid)
            && let Ok(uuid) = event.device.uuid()
        {
            found.push((uuid, xid));
        }
    }
    found
}

fn is_lost(error: &NvmlError) -> bool {
    matches!(error, NvmlError::GpuLost | NvmlError::ResetRequired)
}

fn failed(error: &NvmlError) -> Sample {
    Sample {
        lost: is_lost(error).then(|| error.to_string()),
        ..Sample::default()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a part of the whole for people")]
fn ratio(used: u64, total: u64) -> f64 {
    used as f64 / total as f64
}

/// The UUIDs of the MIG devices of a divided GPU.
fn parts(device: &Device) -> Option<Vec<String>> {
    // NVML_DEVICE_MIG_ENABLE
    if device.mig_mode().ok()?.current != 1 {
        return None;
    }
    let most = device.mig_device_count().unwrap_or(0);
    let part = |index| device.mig_device_by_index(index).ok()?.uuid().ok();
    Some((0..most).filter_map(part).collect())
}

/// `00000000:3B:00.0`, as NVML has it, is `0000:3b:00.0` in sysfs.
fn short(bus_id: &str) -> String {
    let id = bus_id.to_ascii_lowercase();
    match id.split_once(':') {
        Some((domain, rest)) if domain.len() == 8 => format!("{}:{rest}", &domain[4..]),
        _ => id,
    }
}

fn bits(words: &[std::ffi::c_ulong]) -> BTreeSet<usize> {
    let width = usize::try_from(std::ffi::c_ulong::BITS).unwrap_or(64);
    let all = words.iter().enumerate();
    all.flat_map(|(at, word)| {
        let set = (0..width).filter(move |bit| word >> bit & 1 == 1);
        set.map(move |bit| at * width + bit)
    })
    .collect()
}
