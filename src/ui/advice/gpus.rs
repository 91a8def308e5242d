//! Advice about GPUs: one that idles, tasks that would fit beside others, tasks
//! that need none.

use crate::history::run::Run;
use crate::history::run::gpus::{Gpu, Gpus};
use crate::history::run::nodes::nodes;
use crate::model::escape::escape;
use crate::model::figures::{float, share as part_of};

/// A GPU is not judged if its load with tasks is known for less time than this, in
/// microseconds.
const KNOWN: u64 = 120_000_000;

/// How many GPUs are named.
const NAMED: usize = 3;

/// How much of a GPU, and of its memory, tasks may use together.
const FULL: f64 = 0.9;

/// The GPUs of all nodes.
pub(super) fn seen(run: &Run) -> Vec<(String, Gpus)> {
    let nodes = nodes(run);
    let seen = nodes
        .iter()
        .map(|node| (escape(node.host.as_bytes()), node.gpus(run)));
    seen.filter(|(_, gpus)| !gpus.is_empty()).collect()
}

/// The GPUs that can be judged, each with its load while tasks ran on it.
fn judged(seen: &[(String, Gpus)]) -> Vec<(&str, &Gpu, f64)> {
    let all = seen
        .iter()
        .flat_map(|(host, gpus)| gpus.iter().map(move |gpu| (&host[..], gpu)));
    all.filter(|(_, gpu)| gpu.known_with_tasks() >= KNOWN)
        .filter_map(|(host, gpu)| Some((host, gpu, gpu.load_with_tasks()?)))
        .collect()
}

/// GPUs that idle while tasks run on them, and others do not.
pub(super) fn idle(seen: &[(String, Gpus)]) -> Vec<String> {
    let all = judged(seen);
    let mut loads: Vec<f64> = all.iter().map(|(.., load)| *load).collect();
    loads.sort_by(f64::total_cmp);
    let Some(&middle) = loads.get(loads.len() / 2).filter(|_| loads.len() > 1) else {
        return Vec::new();
    };
    let is_idle = |load: f64| load <= 0.1 && load * 4.0 <= middle;
    let mut idle: Vec<_> = all.iter().filter(|(.., load)| is_idle(*load)).collect();
    idle.sort_by(|a, b| a.2.total_cmp(&b.2));
    let mut texts: Vec<String> = idle
        .iter()
        .take(NAMED)
        .map(|(host, gpu, load)| {
            format!(
                "{} of {host} was {} busy while tasks ran on it, others {}: look at it with \
                 nvidia-smi, and at whether its tasks use the GPU that they are given ($PYTF_GPUS)",
                gpu.title(),
                percent(*load),
                percent(middle)
            )
        })
        .collect();
    if idle.len() > NAMED {
        texts.push(format!(
            "{} more GPUs idled while tasks ran on them: pytf report shows all",
            idle.len() - NAMED
        ));
    }
    texts
}

/// Whether more tasks would fit on a GPU at a time.
pub(super) fn share(seen: &[(String, Gpus)]) -> Option<String> {
    let mut all = judged(seen);
    all.retain(|(_, gpu, _)| gpu.leased == 0);
    let slots = all.iter().map(|(_, gpu, _)| gpu.slots).max()?;
    if all.is_empty() || slots == 0 || none_needed(seen).is_some() {
        return None;
    }
    let mean = all.iter().map(|(.., load)| load).sum::<f64>() / float(all.len() as u64);
    let each = mean / float(slots);
    let by_load = fitting(each.max(0.01));
    let most = all.iter().filter_map(|(_, gpu, _)| gpu.most_memory).max();
    let by_memory = most
        .filter(|most| *most > 0)
        .map(|most| fitting(f64::from(most) / 100.0 / float(slots)));
    let fits = by_memory.map_or(by_load, |by_memory| by_memory.min(by_load));
    if mean > 0.5 || fits < slots * 2 {
        return None;
    }
    let memory = match by_memory {
        Some(by_memory) => format!("their memory allows {by_memory}"),
        None => "how much memory they need is not known".to_owned(),
    };
    let tasks = match slots {
        1 => "a task".to_owned(),
        slots => format!("{slots} tasks"),
    };
    Some(format!(
        "with {tasks} on each, GPUs are {} busy on average: {fits} at a time would fit \
         (--tasks-per-gpu {fits}), {memory}",
        percent(mean)
    ))
}

/// Tasks that have a GPU and do not use it.
pub(super) fn none_needed(seen: &[(String, Gpus)]) -> Option<String> {
    let (long, idle) = seen.iter().fold((0, 0), |(long, idle), (_, gpus)| {
        (long + gpus.long.0, idle + gpus.long.1)
    });
    let part = part_of(idle, long)?;
    let mut all = seen.iter().flat_map(|(_, gpus)| gpus.iter());
    let how = if all.any(|gpu| gpu.leased > 0) {
        "keep it from others; say gpus=0 of them"
    } else {
        "occupy its slots; put them into a list of their own and run it with --gpus-per-task 0"
    };
    (idle >= 5 && part >= 0.2).then(|| {
        format!(
            "{} of the tasks that ran for more than a minute left their GPU idle: tasks that \
             compute on CPUs {how}",
            percent(part)
        )
    })
}

/// How many parts of this size fit into what tasks may use.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at most a hundred or so"
)]
fn fitting(part: f64) -> u64 {
    (FULL / part) as u64
}

fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

#[cfg(test)]
mod tests {
    use crate::history::run::Run;
    use crate::history::synthetic::{Workdir, end, gpus, header_with, start, workdir};
    use crate::model::outcome::Outcome;
    use crate::model::record::{End, Leased, Record, Start};
    use crate::ui::advice::advice;

    const T: u64 = 1_800_000_000_000_000;
    const S: u64 = 1_000_000;

    /// The record of an attempt that was given this GPU itself.
    fn leased(record: Record, gpu: &str) -> Record {
        let lease = Some(Box::new(Leased {
            cpus: 1,
            gpus: vec![gpu.to_owned()],
            ..Leased::default()
        }));
        match record {
            Record::Start(start) => Record::Start(Start { lease, ..start }),
            Record::End(end) => Record::End(End { lease, ..end }),
            other => other,
        }
    }

    #[test]
    fn tasks_with_gpus_of_their_own_are_judged_by_those() {
        // They run on GPU 1, whatever their slot has; GPU 0 has no task and idles.
        let dir = workdir(&["x"; 9]);
        let mut records = vec![
            header_with("n", T, &["0", "1"]),
            gpus(T, &[("0", 0, 0), ("1", 20, 10)]),
        ];
        for n in 0..6 {
            let at = T + n * 120 * S;
            records.push(leased(start(n, 1, 0, at), "1"));
            let end = end(n, 1, 0, at, 120 * S, Outcome::Exit(0));
            records.push(leased(end, "1"));
        }
        dir.journal("n.0.1.1", &records);
        assert!(texts(&dir, "gpu-share").is_empty());
        assert!(texts(&dir, "gpu-unused").is_empty());
        // They leave it idle.
        let dir = workdir(&["x"; 9]);
        records[1] = gpus(T, &[("0", 90, 9), ("1", 1, 1)]);
        dir.journal("n.0.1.1", &records);
        let found = texts(&dir, "gpu-unused");
        assert!(found[0].ends_with("say gpus=0 of them"), "{found:?}");
    }

    /// A node whose slots have these GPUs, on each of which `tasks` tasks of two
    /// minutes run one after the other, while so many percent of each GPU and of
    /// its memory are in use.
    fn node(dir: &Workdir, host: &str, slots: &[&str], tasks: u64, used: &[(&str, u8, u8)]) {
        let mut records = vec![header_with(host, T, slots), gpus(T, used)];
        for n in 0..tasks {
            let at = T + n * 120 * S;
            for slot in 0..u32::try_from(slots.len()).unwrap() {
                records.push(start(n, 1, slot, at));
            }
            for slot in 0..u32::try_from(slots.len()).unwrap() {
                records.push(end(n, 1, slot, at, 120 * S, Outcome::Exit(0)));
            }
        }
        records.push(Record::Leave {
            at: T + tasks * 120 * S,
            why: "nothing left to do".into(),
            longest_wait_us: 0,
        });
        dir.journal(&format!("{host}.0.1.1"), &records);
    }

    fn texts(dir: &Workdir, kind: &str) -> Vec<String> {
        let run = Run::open(dir.path()).unwrap();
        let found = advice(&run).into_iter();
        found
            .filter(|advice| advice.kind == kind)
            .map(|advice| advice.text)
            .collect()
    }

    #[test]
    fn a_gpu_that_idles_under_its_tasks_is_named() {
        let dir = workdir(&["x"; 9]);
        node(&dir, "n6", &["2", "3"], 3, &[("2", 91, 9), ("3", 88, 9)]);
        node(&dir, "n7", &["2", "3"], 3, &[("2", 85, 9), ("3", 4, 9)]);
        let found = texts(&dir, "gpu-idle");
        assert_eq!(found.len(), 1, "{found:?}");
        let begin = "GPU 3 of n7 was 4 % busy while tasks ran on it, others 88 %: ";
        assert!(found[0].starts_with(begin), "{found:?}");
        // Where all idle, it is the tasks.
        let dir = workdir(&["x"; 9]);
        node(&dir, "n6", &["2", "3"], 3, &[("2", 4, 9), ("3", 4, 9)]);
        assert!(texts(&dir, "gpu-idle").is_empty());
    }

    #[test]
    fn tasks_that_fit_beside_others_are_reported_by_load_and_memory() {
        for (slots, load, memory, says) in [
            (
                &["0", "1"][..],
                20,
                10,
                Some(
                    "GPUs are 20 % busy on average: 4 at a time would fit (--tasks-per-gpu 4), their memory allows 9",
                ),
            ),
            (
                &["0", "1"],
                20,
                30,
                Some("3 at a time would fit (--tasks-per-gpu 3), their memory allows 3"),
            ),
            (
                &["0", "0", "1", "1"],
                20,
                10,
                Some("with 2 tasks on each, GPUs are 20 % busy on average: 9 at a time"),
            ),
            (&["0", "1"], 20, 60, None),
            (&["0", "1"], 70, 10, None),
        ] {
            let dir = workdir(&["x"; 9]);
            node(
                &dir,
                "n",
                slots,
                3,
                &[("0", load, memory), ("1", load, memory)],
            );
            let found = texts(&dir, "gpu-share");
            match says {
                Some(says) => assert!(found[0].contains(says), "{found:?}"),
                None => assert!(found.is_empty(), "{found:?}"),
            }
        }
        // Too short a time to judge by.
        let dir = workdir(&["x"; 9]);
        node(&dir, "n", &["0"], 0, &[("0", 20, 10)]);
        assert!(texts(&dir, "gpu-share").is_empty());
    }

    #[test]
    fn tasks_that_leave_their_gpus_idle_are_counted() {
        let dir = workdir(&["x"; 9]);
        node(&dir, "n", &["0", "1"], 4, &[("0", 1, 2), ("1", 90, 60)]);
        assert!(texts(&dir, "gpu-unused").is_empty(), "four may be chance");
        let dir = workdir(&["x"; 9]);
        node(&dir, "n", &["0", "1"], 6, &[("0", 1, 2), ("1", 90, 60)]);
        let found = texts(&dir, "gpu-unused");
        assert!(
            found[0].starts_with("50 % of the tasks that ran"),
            "{found:?}"
        );
        assert!(found[0].contains("--gpus-per-task 0"), "{found:?}");
    }
}
