//! GPUs on the timeline: their names beside slots, and how busy they were.

use std::io;

use serde_json::json;

use super::trace::Trace;
use crate::history::farmer_rows::FarmerRows;
use crate::history::run::gpus::short;
use crate::model::escape::escape;
use crate::model::record::GpuLoad;

/// ` (GPU 0,1)`; empty without GPUs.
pub(super) fn suffix(gpus: &[String]) -> String {
    if gpus.is_empty() {
        return String::new();
    }
    let short: Vec<String> = gpus.iter().map(|gpu| short(gpu)).collect();
    let short = short.join(",");
    if short.starts_with(|c: char| c.is_ascii_digit()) {
        format!(" (GPU {short})")
    } else {
        format!(" ({short})")
    }
}

impl Trace<'_> {
    /// Writes what was measured: a counter track for each GPU of the node.
    pub(super) fn gpus(&mut self, rows: FarmerRows, at: u64, gpus: &[GpuLoad]) -> io::Result<()> {
        for gpu in gpus {
            let token = escape(gpu.gpu.as_bytes());
            for (what, value) in [("load", gpu.load), ("memory", gpu.memory)] {
                let Some(value) = value else { continue };
                let event = json!({
                    "name": format!("GPU {token} {what}"),
                    "cat": "gpu",
                    "ph": "C",
                    "ts": self.ts(at),
                    "pid": rows.pid,
                    "tid": rows.tid(0),
                    "args": { "percent": value },
                });
                self.event(event.to_string().as_bytes())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short() {
        let of =
            |gpus: &[&str]| suffix(&gpus.iter().map(|&gpu| gpu.to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[]), "");
        assert_eq!(of(&["0", "1"]), " (GPU 0,1)");
        assert!(of(&["GPU-3fa1b2c4-5678-9abc"]).starts_with(" (GPU-3fa1b2c4"));
    }
}
