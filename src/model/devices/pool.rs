//! Which devices we may assign, and what their tokens are.
//!
//! Devices that the scheduler gave take precedence over devices that are found here. A list
//! of the user only selects from them.

use std::collections::BTreeSet;

use serde::Serialize;

use super::assign::Locality;
use super::{Kind, Vendor, Visible, kind, rocr_and_hip, visible};

/// A GPU as it was found on this node.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Gpu {
    /// Its vendor.
    #[serde(skip)]
    pub vendor: Vendor,
    /// Its number in the order of the vendor's variable.
    pub index: u32,
    /// Its permanent name.
    pub uuid: Option<String>,
    /// The name of the model.
    pub name: Option<String>,
    /// Its address on the PCI bus, as sysfs has it.
    pub pci: Option<String>,
    /// The NUMA node that it is at.
    pub numa: Option<u32>,
    /// The CPUs near it.
    #[serde(skip)]
    pub cpus: BTreeSet<usize>,
    /// The group of GPUs that it has fast links with.
    pub links: Option<u32>,
    /// The size of its memory in bytes.
    pub memory: Option<u64>,
    /// Its parts' UUIDs, when it is divided (MIG).
    pub mig: Option<Vec<String>>,
}

impl Gpu {
    /// A GPU of which nothing is known but its place.
    pub fn new(vendor: Vendor, index: u32) -> Self {
        Self {
            vendor,
            index,
            ..Self::default()
        }
    }
}

/// A device of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What a program sees.
    pub token: String,
    /// Which of the GPUs that were found it is, or is a part of.
    pub gpu: Option<usize>,
}

/// The devices that we may assign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Whose variable is set.
    pub vendor: Vendor,
    /// The devices, in their order.
    pub devices: Vec<Device>,
    /// The variable that gave them; `None` when they were found on the node.
    pub given_by: Option<&'static str>,
    /// Messages for the user.
    pub remarks: Vec<String>,
}

impl Pool {
    /// Where its devices are.
    pub fn localities(&self, found: &[Gpu]) -> Vec<Locality> {
        let locality = |device: &Device| {
            device.gpu.map_or_else(Locality::default, |gpu| Locality {
                numa: found[gpu].numa,
                links: found[gpu].links,
            })
        };
        self.devices.iter().map(locality).collect()
    }
}

/// What the variables say; `None` when they say nothing of the vendor's devices.
fn given(
    vendor: Vendor,
    lookup: impl Fn(&str) -> Option<String>,
) -> Option<(&'static str, Visible)> {
    let read = |name: &'static str| lookup(name).map(|value| (name, visible(&value)));
    match vendor {
        Vendor::Amd => {
            // HIP takes CUDA's variable where its own is not set.
            let hip = read("HIP_VISIBLE_DEVICES");
            let rocr = read(vendor.variable());
            let name = rocr.as_ref().or(hip.as_ref()).map(|(name, _)| *name);
            let list = rocr_and_hip(rocr.map(|(_, list)| list), hip.map(|(_, list)| list));
            name.zip(list).or_else(|| read("CUDA_VISIBLE_DEVICES"))
        }
        _ => read(vendor.variable()),
    }
}

/// Whether any variable that gives devices is set.
pub fn is_given(lookup: impl Fn(&str) -> Option<String>) -> bool {
    let has_some =
        |vendor: Vendor| given(vendor, &lookup).is_some_and(|(_, list)| !list.tokens.is_empty());
    Vendor::ALL.into_iter().any(has_some)
}

/// The pool: the devices that variables give, else the devices that were found; of these
/// only those that the user lists, if there is a list.
pub fn pool(
    lookup: impl Fn(&str) -> Option<String>,
    found: &[Gpu],
    list: Option<&[String]>,
) -> Result<Pool, String> {
    let here = found.first().map(|gpu| gpu.vendor);
    let by_variables = || {
        let has_list = |vendor: &Vendor| given(*vendor, &lookup).is_some();
        Vendor::ALL.into_iter().find(has_list)
    };
    let vendor = here.or_else(by_variables).unwrap_or(Vendor::Nvidia);
    let given = given(vendor, &lookup);
    let mut pool = Pool {
        vendor,
        devices: Vec::new(),
        given_by: given.as_ref().map(|(name, _)| *name),
        remarks: Vec::new(),
    };
    match given {
        Some((name, given)) => {
            let remark = given.remark.map(|remark| format!("{name}: {remark}"));
            pool.remarks.extend(remark);
            pool.devices = given
                .tokens
                .into_iter()
                .map(|token| named(token, found))
                .collect();
        }
        None if here.is_some() => pool.devices = everything(found),
        None => {
            // Nothing is known here, so the list of the user cannot be checked.
            let listed = list.unwrap_or_default().iter().cloned();
            pool.devices = listed.map(|token| Device { token, gpu: None }).collect();
            if !pool.devices.is_empty() {
                pool.remarks.push(format!(
                    "cannot inspect GPUs here: --gpus is used unchecked and goes into {}",
                    vendor.variable()
                ));
            }
        }
    }
    if let Some(list) = list {
        pool.devices = chosen(&pool, list, found)?;
    }
    Ok(pool)
}

/// Every GPU that was found, by its most reliable name: the order of CUDA's indices may
/// differ from the order in which they were found. A divided GPU stands for its parts.
fn everything(found: &[Gpu]) -> Vec<Device> {
    let mut all = Vec::new();
    for (n, gpu) in found.iter().enumerate() {
        let index = gpu.index.to_string();
        let tokens = match (&gpu.mig, &gpu.uuid) {
            (Some(parts), _) => parts.clone(),
            (None, Some(uuid)) if gpu.vendor == Vendor::Nvidia => vec![uuid.clone()],
            _ => vec![index],
        };
        all.extend(tokens.into_iter().map(|token| Device {
            token,
            gpu: Some(n),
        }));
    }
    all
}

/// A token with the GPU that it names.
fn named(token: String, found: &[Gpu]) -> Device {
    let is_it = |gpu: &Gpu| match kind(&token) {
        Some(Kind::Index(index, _)) => gpu.index == index,
        Some(Kind::Uuid) => has_prefix(gpu.uuid.as_ref(), &token),
        Some(Kind::Mig) => gpu.mig.iter().flatten().any(|part| *part == token),
        None => false,
    };
    let gpu = found.iter().position(is_it);
    Device { token, gpu }
}

fn has_prefix(text: Option<&String>, prefix: &str) -> bool {
    text.is_some_and(|text| text.starts_with(prefix))
}

/// The devices of the pool that the user lists, in the user's order.
fn chosen(pool: &Pool, list: &[String], found: &[Gpu]) -> Result<Vec<Device>, String> {
    let mut chosen: Vec<Device> = Vec::new();
    for wanted in list {
        let matching = matching(pool, wanted, found);
        let gpus: BTreeSet<_> = matching.iter().map(|device| device.gpu).collect();
        if matching.is_empty() {
            let all: Vec<&str> = pool.devices.iter().map(|device| &*device.token).collect();
            return Err(match (pool.given_by, all.is_empty()) {
                (Some(name), _) => format!(
                    "--gpus: {wanted} is not among the GPUs that this process was given ({name}={})",
                    all.join(",")
                ),
                (None, true) => format!("--gpus: {wanted}: there is no GPU here"),
                (None, false) => format!(
                    "--gpus: {wanted} is not among the GPUs here (0 to {}; see 'pytf devices')",
                    found.len().saturating_sub(1)
                ),
            });
        }
        let is_part = kind(wanted) == Some(Kind::Mig);
        if matching.len() > 1 && (gpus.len() > 1 || is_part) {
            return Err(format!(
                "--gpus: {wanted} is the beginning of {} UUIDs: write more of it",
                matching.len()
            ));
        }
        for device in matching {
            if chosen.contains(device) {
                return Err(format!(
                    "--gpus: {wanted} is in the list already, by another name"
                ));
            }
            chosen.push(device.clone());
        }
    }
    Ok(chosen)
}

fn matching<'a>(pool: &'a Pool, wanted: &str, found: &[Gpu]) -> Vec<&'a Device> {
    if let Some(exact) = pool.devices.iter().find(|device| device.token == wanted) {
        return vec![exact];
    }
    let is_it = |device: &&Device| {
        let gpu = device.gpu.map(|gpu| &found[gpu]);
        match kind(wanted) {
            // If the pool has indices, an index means the device of that name only.
            Some(Kind::Index(index, None)) => {
                !matches!(kind(&device.token), Some(Kind::Index(..)))
                    && gpu.is_some_and(|gpu| gpu.index == index)
            }
            Some(Kind::Uuid) => {
                device.token.starts_with(wanted)
                    || gpu.is_some_and(|gpu| has_prefix(gpu.uuid.as_ref(), wanted))
            }
            Some(Kind::Mig) => device.token.starts_with(wanted),
            _ => false,
        }
    };
    pool.devices.iter().filter(is_it).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(vendor: Vendor, index: u32) -> Gpu {
        Gpu {
            uuid: (vendor == Vendor::Nvidia).then(|| format!("GPU-f{index}")),
            ..Gpu::new(vendor, index)
        }
    }

    fn divided() -> Gpu {
        Gpu {
            mig: Some(vec!["MIG-z1".into(), "MIG-z2".into()]),
            ..gpu(Vendor::Nvidia, 0)
        }
    }

    fn tokens(
        vars: &[(&str, &str)],
        found: &[Gpu],
        list: &str,
    ) -> Result<(Vendor, Vec<String>), String> {
        let lookup = |name: &str| {
            let var = vars.iter().find(|(known, _)| *known == name);
            var.map(|(_, value)| (*value).to_owned())
        };
        let list: Vec<String> = list.split_whitespace().map(str::to_owned).collect();
        let list = (!list.is_empty()).then_some(&list[..]);
        let pool = pool(lookup, found, list)?;
        let tokens = pool.devices.into_iter().map(|device| device.token);
        Ok((pool.vendor, tokens.collect()))
    }

    const ALL: [(&str, &str); 4] = [
        ("CUDA_VISIBLE_DEVICES", "0,1"),
        ("GPU_DEVICE_ORDINAL", "0,1"),
        ("ROCR_VISIBLE_DEVICES", "0,1"),
        ("ZE_AFFINITY_MASK", "0,1"),
    ];

    #[test]
    fn what_was_given_is_the_pool_and_else_what_was_found() {
        use Vendor::{Amd, Intel, Nvidia};
        let nvidia = [gpu(Nvidia, 0), gpu(Nvidia, 1), gpu(Nvidia, 2)];
        let amd = [gpu(Amd, 0), gpu(Amd, 1)];
        let divided = [divided(), gpu(Nvidia, 1)];
        for (name, vars, found, list, vendor, expected) in [
            ("nothing", &[][..], &[][..], "", Nvidia, &[][..]),
            (
                "found",
                &[],
                &nvidia,
                "",
                Nvidia,
                &["GPU-f0", "GPU-f1", "GPU-f2"],
            ),
            ("found AMD", &[], &amd, "", Amd, &["0", "1"]),
            ("Slurm sets all", &ALL, &nvidia, "", Nvidia, &["0", "1"]),
            ("and AMD's counts", &ALL, &amd, "", Amd, &["0", "1"]),
            ("nobody looked", &ALL, &[], "", Nvidia, &["0", "1"]),
            ("one only", &ALL[3..], &[], "", Intel, &["0", "1"]),
            (
                "CUDA's, for HIP",
                &[("CUDA_VISIBLE_DEVICES", "1")],
                &amd,
                "",
                Amd,
                &["1"],
            ),
            (
                "none given",
                &[("CUDA_VISIBLE_DEVICES", "")],
                &nvidia,
                "",
                Nvidia,
                &[],
            ),
            (
                "divided",
                &[],
                &divided,
                "",
                Nvidia,
                &["MIG-z1", "MIG-z2", "GPU-f1"],
            ),
            (
                "listed",
                &[],
                &nvidia,
                "2 GPU-f0",
                Nvidia,
                &["GPU-f2", "GPU-f0"],
            ),
            ("listed of given", &ALL, &nvidia, "1", Nvidia, &["1"]),
            ("given by index", &ALL, &nvidia, "GPU-f1", Nvidia, &["1"]),
            (
                "all its parts",
                &[],
                &divided,
                "0",
                Nvidia,
                &["MIG-z1", "MIG-z2"],
            ),
            ("one part", &[], &divided, "MIG-z2", Nvidia, &["MIG-z2"]),
            ("believed", &[], &[], "0 1", Nvidia, &["0", "1"]),
        ] {
            let expected = expected.iter().map(|&token| token.to_owned()).collect();
            assert_eq!(tokens(vars, found, list), Ok((vendor, expected)), "{name}");
        }
    }

    #[test]
    fn what_is_not_ours_cannot_be_listed() {
        let nvidia = [0, 1, 2].map(|index| gpu(Vendor::Nvidia, index));
        let divided = [divided()];
        for (vars, found, list, said) in [
            (&ALL[..], &nvidia[..], "2", "CUDA_VISIBLE_DEVICES=0,1"),
            (&[], &nvidia, "7", "0 to 2"),
            (&[], &nvidia, "GPU-f", "beginning of 3"),
            (&[], &divided, "MIG-z", "beginning of 2"),
            (&[], &nvidia, "0 GPU-f0", "already"),
        ] {
            let error = tokens(vars, found, list).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
