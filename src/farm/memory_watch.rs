//! Stops tasks that have more memory than their limit.
//!
//! About once per second a thread of its own adds up the memory of each task that has a limit:
//! of its process group and all descendants. It is started with the first such task.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::shared::Shared;
use crate::host::memory::{of_groups, sum_of};
use crate::host::process::{SlotProcess, StopReason};

/// How often the memory is measured.
const EVERY: Duration = Duration::from_secs(1);

/// Watches until the queue is closed: then all tasks are about to end.
pub(super) fn start(shared: &Arc<Shared>) {
    let watched = shared.clone();
    let watch = move || {
        while !watched.queue.is_closed_within(EVERY) {
            stop_over_limit(&watched.processes);
        }
    };
    let thread = std::thread::Builder::new().name("memory".to_owned());
    if let Err(error) = thread.spawn(watch) {
        shared.warn(format!(
            "the memory of tasks is not limited: no thread can be started: {error}"
        ));
    }
}

fn stop_over_limit(processes: &[SlotProcess]) {
    let limited: Vec<_> = (processes.iter())
        .filter_map(|process| Some((process, process.running()?)))
        .filter(|(_, running)| running.mem_kib > 0 && running.stop_reason.is_none())
        .collect();
    if limited.is_empty() {
        return;
    }
    let groups: Vec<i32> = limited
        .iter()
        .map(|(_, running)| running.pid.as_raw())
        .collect();
    let members = of_groups(&groups);
    for (process, running) in limited {
        let members = &members[&running.pid.as_raw()];
        let resident: u64 = members.iter().map(|(_, kib)| kib).sum();
        if resident <= running.mem_kib {
            continue;
        }
        let used = sum_of(members);
        if used > running.mem_kib {
            process.stop_task(&running, StopReason::Memory(used), &[Signal::SIGKILL]);
        }
    }
}
