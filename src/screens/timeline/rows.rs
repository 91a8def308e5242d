//! The rows of the trace: their names, and how far each is drawn.

use std::collections::BTreeMap;
use std::io;

use serde_json::json;

use super::gpus;
use super::plan::Plan;
use super::trace::Trace;
use crate::model::escape::escape;

impl Trace<'_> {
    /// Names nodes and slots, and puts them in order.
    pub(super) fn name_rows(&mut self, plan: &Plan) -> io::Result<()> {
        let (mut nodes, mut rows) = (BTreeMap::new(), BTreeMap::new());
        for (farmer, lane) in plan.farmers() {
            let host = escape(farmer.header().host.as_bytes());
            nodes.entry(lane.pid).or_insert(host);
            for slot in &farmer.used_slots {
                let gpus = farmer.header().gpus(*slot);
                let row: &mut &[String] = rows.entry((lane.pid, lane.tid(*slot))).or_default();
                *row = if row.is_empty() { gpus } else { row };
            }
        }
        for (pid, name) in nodes {
            self.name_process(pid, &name, pid)?;
        }
        for ((pid, tid), gpus) in rows {
            // The first farmer on a node has its slots from the first row on.
            let name = format!("slot {}{}", tid - 1, gpus::suffix(gpus));
            self.metadata("thread", pid, tid, &name, tid)?;
        }
        Ok(())
    }

    /// Names a node, or what else has curves.
    pub(super) fn name_process(&mut self, pid: u64, name: &str, at: u64) -> io::Result<()> {
        self.metadata("process", pid, 0, name, at)
    }

    pub(super) fn metadata(
        &mut self,
        of: &str,
        pid: u64,
        tid: u64,
        name: &str,
        at: u64,
    ) -> io::Result<()> {
        for (what, args) in [
            ("name", json!({ "name": name })),
            ("sort_index", json!({ "sort_index": at })),
        ] {
            let name = format!("{of}_{what}");
            let event = json!({"name": name, "ph": "M", "pid": pid, "tid": tid, "args": args});
            self.event(event.to_string().as_bytes())?;
        }
        Ok(())
    }

    /// Where in its row a slice is drawn, and how long it is there. Where
    /// clocks or damage would make it overlap what is drawn there already, it
    /// begins where that ends.
    pub(super) fn place(&mut self, row: (u64, u64), from: u64, to: u64) -> (u64, u64) {
        let drawn = self.ends.entry(row).or_insert(0);
        let from = from.saturating_sub(self.origin).max(*drawn);
        let to = to.saturating_sub(self.origin).max(from.saturating_add(1));
        *drawn = to;
        self.slices += 1;
        (from, to - from)
    }
}
