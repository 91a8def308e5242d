//! NVIDIA's GPUs through the program nvidia-smi, for a statically linked pytf, which cannot
//! load a library.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::source::{Access, Key, Tick};
use super::sysfs::placed;
use crate::model::devices::Vendor;
use crate::model::devices::availability::Sample;
use crate::model::devices::pool::Gpu;

pub(super) struct Source {
    program: PathBuf,
    gpus: Vec<Gpu>,
}

impl Source {
    pub(super) fn open(access: &Access) -> Option<Self> {
        let places = std::env::split_paths(&access.path);
        let program = places
            .map(|place| place.join("nvidia-smi"))
            .find(|path| path.is_file())?;
        let rows = ask(
            &program,
            "index,uuid,pci.bus_id,name,memory.total,mig.mode.current",
        )?;
        let listed = text_of(Command::new(&program).arg("-L")).unwrap_or_default();
        let gpus = rows
            .lines()
            .filter_map(|row| gpu(row, &listed, &access.sysfs));
        let gpus = gpus.collect();
        Some(Self { program, gpus })
    }
}

impl super::source::Source for Source {
    fn gpus(&self) -> Vec<Gpu> {
        self.gpus.clone()
    }

    fn watch(&self, keys: &[Key], tick: Tick) {
        loop {
            let rows = ask(
                &self.program,
                "uuid,utilization.gpu,memory.used,memory.total",
            );
            let rows = rows.unwrap_or_default();
            let sample = |key: &Key| {
                key.as_deref()
                    .map_or_else(Sample::default, |key| sample(&rows, key))
            };
            if !tick(keys.iter().map(sample).collect()) {
                return;
            }
        }
    }
}

fn ask(program: &Path, what: &str) -> Option<String> {
    let mut command = Command::new(program);
    command.arg(format!("--query-gpu={what}"));
    text_of(command.arg("--format=csv,noheader,nounits"))
}

fn text_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}

/// `0, GPU-…, 00000000:3B:00.0, NVIDIA A100-SXM4-40GB, 40960, Disabled`
fn gpu(row: &str, listed: &str, sysfs: &Path) -> Option<Gpu> {
    let fields: Vec<&str> = row.split(',').map(str::trim).collect();
    let [index, uuid, pci, name, memory, mig] = fields[..] else {
        return None;
    };
    let pci = pci.to_ascii_lowercase();
    let pci = pci.strip_prefix("0000").unwrap_or(&pci).to_owned();
    Some(Gpu {
        uuid: Some(uuid.to_owned()),
        name: Some(name.to_owned()),
        memory: memory.parse::<u64>().ok().map(|mib| mib << 20),
        mig: (mig == "Enabled").then(|| parts(uuid, listed)),
        ..placed(sysfs, Gpu::new(Vendor::Nvidia, index.parse().ok()?), pci)
    })
}

/// The MIG devices of a GPU, which follow it in the list of `nvidia-smi -L`.
fn parts(uuid: &str, listed: &str) -> Vec<String> {
    let of = |line: &str| {
        let (_, rest) = line.split_once("UUID: ")?;
        Some(rest.trim_end_matches([')', ' ']).to_owned())
    };
    let uuids = listed.lines().filter_map(of);
    let after = uuids.skip_while(|found| found != uuid).skip(1);
    after
        .take_while(|found| found.starts_with("MIG-"))
        .collect()
}

/// `GPU-…, 35, 1024, 40960`; a value that cannot be measured is `[N/A]`.
fn sample(rows: &str, key: &str) -> Sample {
    let rows = rows
        .lines()
        .map(|row| row.split(',').map(str::trim).collect::<Vec<_>>());
    for row in rows {
        if let [uuid, load, used, total] = row[..]
            && uuid == key
        {
            let number = |text: &str| text.parse::<f64>().ok();
            let memory = number(used).zip(number(total));
            return Sample {
                load: number(load).map(|percent| percent / 100.0),
                memory: memory.map(|(used, total)| used / total.max(1.0)),
                lost: None,
            };
        }
    }
    Sample::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read() {
        let listed = "GPU 0: NVIDIA A100 (UUID: GPU-a)\n  MIG 3g.20gb Device 0: (UUID: MIG-x)\n  \
                      MIG 3g.20gb Device 1: (UUID: MIG-y)\nGPU 1: NVIDIA A100 (UUID: GPU-b)\n";
        let root = tempfile::tempdir().unwrap();
        let row = "0, GPU-a, 00000000:3B:00.0, NVIDIA A100, 40960, Enabled";
        let found = gpu(row, listed, root.path()).unwrap();
        assert_eq!(found.pci.as_deref(), Some("0000:3b:00.0"));
        assert_eq!(found.memory, Some(40 << 30));
        assert_eq!(
            found.mig,
            Some(vec!["MIG-x".to_owned(), "MIG-y".to_owned()])
        );
        let row = "1, GPU-b, 00000000:86:00.0, NVIDIA A100, 40960, [N/A]";
        assert_eq!(gpu(row, listed, root.path()).unwrap().mig, None);
        assert!(gpu("No devices were found", listed, root.path()).is_none());
        let rows = "GPU-a, [N/A], 1024, 4096\nGPU-b, 50, 0, 4096\n";
        assert_eq!(
            (sample(rows, "GPU-a").load, sample(rows, "GPU-a").memory),
            (None, Some(0.25))
        );
        assert_eq!(sample(rows, "GPU-b").load, Some(0.5));
        assert_eq!(sample(rows, "GPU-c"), Sample::default());
    }
}
