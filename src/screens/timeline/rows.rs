//! The names of the rows of the trace.

use std::collections::BTreeMap;
use std::io;

use super::gpus;
use super::plan::Plan;
use super::trace::Trace;
use crate::model::escape::escape;

impl Trace<'_> {
    /// Names nodes and slots, and puts them in order.
    pub(super) fn name_rows(&mut self, plan: &Plan) -> io::Result<()> {
        let (mut nodes, mut named) = (BTreeMap::new(), BTreeMap::new());
        for (farmer, rows) in plan.farmers() {
            let host = escape(farmer.header().host.as_bytes());
            nodes.entry(rows.pid).or_insert(host);
            for slot in &farmer.used_slots {
                let gpus = farmer.header().gpus(*slot);
                let row: &mut &[String] = named.entry((rows.pid, rows.tid(*slot))).or_default();
                *row = if row.is_empty() { gpus } else { row };
            }
        }
        for (pid, name) in nodes {
            self.name_process(pid, &name, pid)?;
        }
        for ((pid, tid), gpus) in named {
            // The first farmer on a node has its slots from the first row on.
            let name = format!("slot {}{}", tid - 1, gpus::suffix(gpus));
            self.metadata("thread", pid, tid, &name, tid)?;
        }
        Ok(())
    }
}
