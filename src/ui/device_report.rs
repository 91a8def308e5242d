//! `pytf devices`: the devices of this node and how they would be assigned to slots, for
//! people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

use crate::model::devices::pool::Gpu;
use crate::model::escape::escape;
use crate::model::record::SlotDevices;

/// Everything that is shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DeviceReport {
    /// The node.
    pub node: String,
    /// The GPUs that were found.
    pub gpus: Vec<ListedGpu>,
    /// The source of that: NVML, nvidia-smi, sysfs.
    pub seen_by: Option<&'static str>,
    /// The variables about GPUs, as they are.
    pub variables: Vec<(&'static str, String)>,
    /// The variable that names ours.
    pub given_by: Option<&'static str>,
    /// What may be assigned to slots.
    pub pool: Vec<String>,
    /// The CPUs that we may use: `0-7`.
    pub cpus: String,
    /// How many CPUs.
    pub cpu_count: usize,
    /// Which of the processes of this node we are, from 0, and of how many.
    pub process: (u32, u32),
    /// The slots of a farm with these options.
    pub slots: Vec<SlotDevices>,
    /// Remarks for people.
    pub remarks: Vec<String>,
}

/// A GPU, and how busy it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ListedGpu {
    /// What it is.
    #[serde(flatten)]
    pub gpu: Gpu,
    /// Its vendor.
    pub vendor: &'static str,
    /// The CPUs near it.
    pub near: String,
    /// How busy it is, 0 to 1.
    pub load: Option<f64>,
    /// How much of its memory is in use, 0 to 1.
    pub memory_used: Option<f64>,
}

impl DeviceReport {
    /// For programs.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!("node {}\n", escape(self.node.as_bytes()));
        self.push_gpus(&mut text);
        for (name, value) in &self.variables {
            let value = escape(value.as_bytes());
            let _ = writeln!(text, "  {name}={value}");
        }
        if let Some(name) = self.given_by {
            let _ = writeln!(text, "ours by {name}: {}", list(&self.pool));
        } else if !self.pool.is_empty() {
            let _ = writeln!(
                text,
                "no variable says which are ours, so all: {}",
                list(&self.pool)
            );
        }
        let (rank, of) = self.process;
        if of > 1 {
            let _ = writeln!(text, "process {rank} of {of} on this node");
        }
        let _ = writeln!(text, "{}: {}", counted(self.cpu_count, "CPU"), self.cpus);
        self.push_slots(&mut text);
        for remark in &self.remarks {
            let _ = writeln!(text, "note: {remark}");
        }
        text
    }

    fn push_gpus(&self, text: &mut String) {
        let by = self.seen_by.filter(|_| !self.gpus.is_empty());
        let by = by.map_or_else(String::new, |by| format!(", through {by}"));
        let _ = writeln!(text, "{}{by}", counted(self.gpus.len(), "GPU"));
        for seen in &self.gpus {
            let gpu = &seen.gpu;
            let mut parts = vec![format!("  {}", gpu.index)];
            parts.extend(gpu.uuid.clone());
            parts.push(gpu.name.clone().unwrap_or_else(|| seen.vendor.to_owned()));
            parts.extend(gpu.memory.map(|bytes| format!("{} MiB", bytes >> 20)));
            parts.extend(gpu.pci.as_ref().map(|pci| format!("PCI {pci}")));
            parts.extend(gpu.numa.map(|numa| format!("NUMA {numa}")));
            parts.extend(
                Some(&seen.near)
                    .filter(|near| !near.is_empty())
                    .map(|near| format!("near CPUs {near}")),
            );
            parts.extend(seen.load.map(|load| format!("load {:.0}%", load * 100.0)));
            parts.extend(
                seen.memory_used
                    .map(|used| format!("{:.0}% of memory in use", used * 100.0)),
            );
            let _ = writeln!(text, "{}", parts.join("  "));
            for part in gpu.mig.iter().flatten() {
                let _ = writeln!(text, "      {part}");
            }
        }
    }

    fn push_slots(&self, text: &mut String) {
        let _ = writeln!(text, "{}", counted(self.slots.len(), "slot"));
        let is_plain = |slot: &SlotDevices| slot.gpus.is_empty() && slot.cpus.is_none();
        if self.slots.iter().all(is_plain) {
            return;
        }
        for (n, slot) in self.slots.iter().enumerate() {
            let gpus = if slot.gpus.is_empty() {
                String::new()
            } else {
                format!("  GPU {}", list(&slot.gpus))
            };
            let cpus = slot.cpus.as_ref().map(|cpus| format!("  CPU {cpus}"));
            let _ = writeln!(text, "  slot {n}{gpus}{}", cpus.unwrap_or_default());
        }
    }
}

fn list(tokens: &[String]) -> String {
    if tokens.is_empty() {
        return "none".to_owned();
    }
    escape(tokens.join(",").as_bytes())
}

fn counted(n: usize, what: &str) -> String {
    match n {
        0 => format!("no {what}"),
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::devices::Vendor;

    #[test]
    fn the_report_is_text_or_json() {
        let gpu = Gpu {
            uuid: Some("GPU-a".into()),
            name: Some("A100".into()),
            pci: Some("0000:3b:00.0".into()),
            numa: Some(1),
            memory: Some(40 << 30),
            mig: Some(vec!["MIG-x".into()]),
            ..Gpu::new(Vendor::Nvidia, 0)
        };
        let slot = SlotDevices {
            gpus: vec!["MIG-x".into()],
            cpus: Some("0-3".into()),
        };
        let report = DeviceReport {
            node: "n1".into(),
            gpus: vec![ListedGpu {
                gpu,
                vendor: "NVIDIA",
                near: "0-3".into(),
                load: None,
                memory_used: Some(0.25),
            }],
            seen_by: Some("NVML"),
            pool: vec!["MIG-x".into()],
            cpus: "0-7".into(),
            cpu_count: 8,
            process: (0, 1),
            slots: vec![slot],
            remarks: vec!["so".into()],
            ..DeviceReport::default()
        };
        assert_eq!(
            report.text(),
            "node n1\n1 GPU, through NVML\n  0  GPU-a  A100  40960 MiB  PCI 0000:3b:00.0  NUMA 1  \
             near CPUs 0-3  25% of memory in use\n      MIG-x\n\
             no variable says which are ours, so all: MIG-x\n8 CPUs: 0-7\n1 slot\n  \
             slot 0  GPU MIG-x  CPU 0-3\nnote: so\n"
        );
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["gpus"][0]["uuid"], "GPU-a");
        assert_eq!(json["slots"][0]["cpus"], "0-3");
        let nothing = DeviceReport::default().text();
        assert!(nothing.starts_with("node \nno GPU\n"), "{nothing}");
    }
}
