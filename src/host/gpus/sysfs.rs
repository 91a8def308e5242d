//! GPUs as the kernel shows them: those of AMD in full, what is available about those of
//! Intel, and the place of each PCI device on the node.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::source::{Key, Tick};
use crate::model::devices::Vendor;
use crate::model::devices::availability::Sample;
use crate::model::devices::cores::parse_list;
use crate::model::devices::pool::Gpu;

/// `PCI_VENDOR_ID_INTEL`
const INTEL: &str = "0x8086";
/// Classes of PCI devices: display, and processing accelerator.
const CLASSES: [&str; 2] = ["0x03", "0x12"];

pub(super) struct Source {
    root: PathBuf,
    gpus: Vec<Gpu>,
}

impl Source {
    pub(super) fn open(root: &Path) -> Self {
        let amd = amd(root);
        let gpus = if amd.is_empty() { intel(root) } else { amd };
        let root = root.to_owned();
        Self { root, gpus }
    }
}

impl super::source::Source for Source {
    fn gpus(&self) -> Vec<Gpu> {
        self.gpus.clone()
    }

    fn watch(&self, keys: &[Key], tick: Tick) {
        let sample = |key: &Key| {
            let Some(pci) = key else {
                return Sample::default();
            };
            let device = self.root.join("bus/pci/devices").join(pci);
            let number = |name| read(&device.join(name))?.parse::<f64>().ok();
            let (used, total) = (number("mem_info_vram_used"), number("mem_info_vram_total"));
            Sample {
                load: number("gpu_busy_percent").map(|percent| percent / 100.0),
                memory: used.zip(total).map(|(used, total)| used / total.max(1.0)),
                lost: (!device.exists()).then(|| "it is gone from the PCI bus".to_owned()),
            }
        };
        while tick(keys.iter().map(sample).collect()) {}
    }
}

fn read(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// A PCI device's file, such as `numa_node`.
fn of_pci(root: &Path, pci: &str, file: &str) -> Option<String> {
    read(&root.join("bus/pci/devices").join(pci).join(file))
}

/// The NUMA node that a PCI device is at; the kernel says -1 where there is none.
pub(super) fn numa_of_pci(root: &Path, pci: &str) -> Option<u32> {
    of_pci(root, pci, "numa_node")?.parse().ok()
}

/// The CPUs near a PCI device.
pub(super) fn near_pci(root: &Path, pci: &str) -> BTreeSet<usize> {
    of_pci(root, pci, "local_cpulist")
        .and_then(|text| parse_list(&text))
        .unwrap_or_default()
}

/// The entries of a folder, by the number in their names.
fn numbered(folder: &Path, prefix: &str) -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let number = |entry: fs::DirEntry| {
        let number = entry
            .file_name()
            .to_str()?
            .strip_prefix(prefix)?
            .parse()
            .ok()?;
        Some((number, entry.path()))
    };
    let mut found: Vec<_> = entries.filter_map(number).collect();
    found.sort_unstable();
    found
}

/// AMD's, in the order of `ROCm`: that of the nodes of its kernel driver which have
/// compute units. Cgroups hide GPUs that are not allocated to us.
fn amd(root: &Path) -> Vec<Gpu> {
    let nodes = numbered(&root.join("class/kfd/kfd/topology/nodes"), "");
    let properties = nodes.iter().filter_map(|(_, node)| {
        let text = read(&node.join("properties"))?;
        let number = |wanted: &str| {
            let mut fields = text.lines().filter_map(|line| line.split_once(' '));
            fields
                .find(|(name, _)| *name == wanted)?
                .1
                .trim()
                .parse::<u64>()
                .ok()
        };
        (number("simd_count")? > 0).then_some(())?;
        let (domain, id) = (number("domain").unwrap_or(0), number("location_id")?);
        let pci = format!(
            "{domain:04x}:{:02x}:{:02x}.{}",
            id >> 8,
            id >> 3 & 31,
            id & 7
        );
        Some((
            pci,
            number("unique_id").filter(|id| *id != 0),
            number("hive_id"),
        ))
    });
    (0..)
        .zip(properties)
        .map(|(index, (pci, id, hive))| Gpu {
            uuid: id.map(|id| format!("GPU-{id:016x}")),
            links: hive
                .filter(|hive| *hive != 0)
                .and_then(|hive| u32::try_from(hive & 0xffff_ffff).ok()),
            memory: of_pci(root, &pci, "mem_info_vram_total").and_then(|text| text.parse().ok()),
            ..placed(root, Gpu::new(Vendor::Amd, index), pci)
        })
        .collect()
}

/// Intel's, in the order of their addresses, as Level Zero has it.
fn intel(root: &Path) -> Vec<Gpu> {
    let cards = numbered(&root.join("class/drm"), "card");
    let mut addresses: Vec<String> = cards
        .iter()
        .filter_map(|(_, card)| {
            let device = card.join("device");
            let class = read(&device.join("class"))?;
            let is_gpu = CLASSES.iter().any(|known| class.starts_with(known));
            (read(&device.join("vendor"))? == INTEL && is_gpu).then_some(())?;
            Some(
                fs::canonicalize(&device)
                    .ok()?
                    .file_name()?
                    .to_str()?
                    .to_owned(),
            )
        })
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    (0..)
        .zip(addresses)
        .map(|(index, pci)| placed(root, Gpu::new(Vendor::Intel, index), pci))
        .collect()
}

/// The GPU with its place on the node.
pub(super) fn placed(root: &Path, gpu: Gpu, pci: String) -> Gpu {
    Gpu {
        numa: numa_of_pci(root, &pci),
        cpus: near_pci(root, &pci),
        pci: Some(pci),
        ..gpu
    }
}

/// The vendors of the compute GPUs of this node, no matter who may use these. Cheap: it loads no
/// library.
pub(crate) fn vendors(root: &Path) -> Vec<Vendor> {
    let entries = fs::read_dir(root.join("bus/pci/devices"));
    let drivers: BTreeSet<String> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let driver = fs::read_link(entry.path().join("driver")).ok()?;
            Some(driver.file_name()?.to_str()?.to_owned())
        })
        .collect();
    let has = |name: &str| drivers.contains(name);
    let mut vendors = Vec::new();
    vendors.extend(has("nvidia").then_some(Vendor::Nvidia));
    vendors.extend((!amd(root).is_empty()).then_some(Vendor::Amd));
    vendors
}

#[cfg(test)]
mod tests {
    use super::super::Source as _;
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const NODES: &str = "class/kfd/kfd/topology/nodes";

    #[test]
    fn amds_are_found_and_measured() {
        let gpu = "simd_count 440\nlocation_id 50432\ndomain 1\nunique_id 255\nhive_id 7\n";
        let root = tree(&[
            (
                &format!("{NODES}/0/properties"),
                "simd_count 0\ncpu_cores_count 64\n",
            ),
            (
                &format!("{NODES}/10/properties"),
                "simd_count 440\nlocation_id 256\n",
            ),
            (&format!("{NODES}/2/properties"), gpu),
            ("bus/pci/devices/0001:c5:00.0/numa_node", "3\n"),
            ("bus/pci/devices/0001:c5:00.0/local_cpulist", "4-5\n"),
            ("bus/pci/devices/0001:c5:00.0/gpu_busy_percent", "42\n"),
            ("bus/pci/devices/0001:c5:00.0/mem_info_vram_used", "10\n"),
            ("bus/pci/devices/0001:c5:00.0/mem_info_vram_total", "40\n"),
        ]);
        let source = Source::open(root.path());
        let gpus = source.gpus();
        assert_eq!(gpus.len(), 2);
        assert_eq!(gpus[0].pci.as_deref(), Some("0001:c5:00.0"));
        assert_eq!(gpus[0].uuid.as_deref(), Some("GPU-00000000000000ff"));
        assert_eq!((gpus[0].numa, gpus[0].links), (Some(3), Some(7)));
        assert_eq!(gpus[0].cpus, BTreeSet::from([4, 5]));
        assert_eq!((gpus[1].index, gpus[1].uuid.as_ref()), (1, None));
        assert_eq!(gpus[1].pci.as_deref(), Some("0000:01:00.0"));
        let keys: Vec<Key> = gpus.iter().map(|gpu| gpu.pci.clone()).collect();
        let mut seen = Vec::new();
        source.watch(&keys, &mut |samples| {
            seen = samples;
            false
        });
        assert_eq!((seen[0].load, seen[0].memory), (Some(0.42), Some(0.25)));
        assert!(seen[0].lost.is_none() && seen[1].lost.is_some());
        assert_eq!(vendors(root.path()), [Vendor::Amd]);
    }

    #[test]
    fn intels_are_found() {
        let root = tree(&[
            ("bus/pci/devices/0000:18:00.0/vendor", "0x8086\n"),
            ("bus/pci/devices/0000:18:00.0/class", "0x038000\n"),
            ("bus/pci/devices/0000:18:00.0/numa_node", "-1\n"),
            ("bus/pci/devices/0000:02:00.0/vendor", "0x1a03\n"),
            ("bus/pci/devices/0000:02:00.0/class", "0x030000\n"),
        ]);
        let drm = root.path().join("class/drm");
        for (card, pci) in [("card0", "0000:02:00.0"), ("card1", "0000:18:00.0")] {
            fs::create_dir_all(drm.join(card)).unwrap();
            let device = root.path().join("bus/pci/devices").join(pci);
            std::os::unix::fs::symlink(device, drm.join(card).join("device")).unwrap();
        }
        let gpus = Source::open(root.path()).gpus();
        assert_eq!(gpus.len(), 1);
        assert_eq!(gpus[0].vendor, Vendor::Intel);
        assert_eq!(gpus[0].pci.as_deref(), Some("0000:18:00.0"));
        assert_eq!(gpus[0].numa, None);
    }

    #[test]
    fn nothing_is_nothing() {
        let root = tree(&[]);
        assert!(Source::open(root.path()).gpus().is_empty());
        assert!(vendors(root.path()).is_empty());
    }
}
