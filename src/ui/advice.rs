//! Advice: what could be done better, computed from the records of a run.
//!
//! Each piece of advice gives a reason and says what to do. Where too little is known, none is
//! given.

mod gpus;

use crate::history::run::nodes::{Node, nodes};
use crate::history::run::{Farmer, Run};
use crate::model::durations;
use crate::model::figures::{Histogram, float, grouped, micros, share, show_kib};
use crate::model::outcome::Outcome;
use crate::model::record::NodeHealth;
use crate::model::series::Stretch;

/// One piece of advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// One word for machines.
    pub kind: &'static str,
    /// For people: the reason, and what to do.
    pub text: String,
}

/// All advice about a run.
pub fn advice(run: &Run) -> Vec<Advice> {
    let nodes = nodes(run);
    let durations = run.durations();
    let seen = gpus::seen(run);
    let found = [
        ("sick-node", sick(&nodes)),
        ("gpu-idle", gpus::idle(&seen)),
        ("gpu-share", gpus::share(&seen).into_iter().collect()),
        ("gpu-unused", gpus::none_needed(&seen).into_iter().collect()),
        ("out-of-memory", out_of_memory(run)),
        ("left-behind", left_behind(run)),
        (REST, rest(run, &durations).into_iter().collect()),
        ("short-tasks", short(run, &durations).into_iter().collect()),
        ("idle", idle(run, &durations).into_iter().collect()),
        ("memory", memory(run).into_iter().collect()),
        ("cpu", cpu(run, &durations).into_iter().collect()),
    ];
    let each = found
        .into_iter()
        .flat_map(|(kind, texts): (_, Vec<String>)| {
            texts.into_iter().map(move |text| Advice { kind, text })
        });
    each.collect()
}

/// The kind of the advice about the time that the remaining tasks need.
pub const REST: &str = "rest";

/// Nodes on which tasks fail that finish on others.
fn sick(nodes: &[Node]) -> Vec<String> {
    let all = |of: fn(&Node) -> u64| nodes.iter().map(of).sum::<u64>();
    let (ended, failed) = (all(|n| n.ended.0 + n.ended.1), all(|n| n.ended.1));
    let mut texts = Vec::new();
    for node in nodes {
        let (mine, bad) = (node.ended.0 + node.ended.1, node.ended.1);
        let others = share(failed - bad, ended - mine).unwrap_or(1.0);
        let part = share(bad, mine).unwrap_or(0.0);
        let is_bad = mine >= 5 && part >= 0.5;
        let is_worse = node.forgiven >= 3 || (ended - mine >= 20 && others * 5.0 <= part);
        let is_sick = node.health == NodeHealth::Unhealthy;
        if !(is_sick || is_bad && is_worse) {
            continue;
        }
        let then = match node.forgiven {
            0 => format!("the other nodes fail {:.0} %", others * 100.0),
            n => format!("{} of them finished elsewhere", grouped(n)),
        };
        let next = if is_sick {
            "it claims no more tasks; check the node, or exclude it (--exclude in Slurm)"
        } else {
            "exclude it (--exclude in Slurm), and retry the tasks that failed on it"
        };
        texts.push(format!(
            "node {} failed {:.0} % of its {} tasks, and {then}: {next}",
            crate::model::escape::escape(node.host.as_bytes()),
            part * 100.0,
            grouped(mine)
        ));
    }
    texts
}

/// Tasks whose background processes were ended with them, and kills for lack of memory
/// that ended no task: such tasks may have finished without all of their results.
fn left_behind(run: &Run) -> Vec<String> {
    let sum = |of: fn(&Farmer) -> u64| run.farmers.iter().map(of).sum::<u64>();
    let mut texts = Vec::new();
    match sum(|farmer| farmer.left_behind) {
        0 => {}
        1 => texts.push(
            "a task ended while processes that it had started still ran: they were ended with \
             it; 'wait' at the end of its line lets it wait for them"
                .to_owned(),
        ),
        n => texts.push(format!(
            "{} tasks ended while processes that they had started still ran: these were ended \
             with them; 'wait' at the end of a line lets it wait for them",
            grouped(n)
        )),
    }
    if sum(|farmer| farmer.memory_kills) > 0 {
        texts.push(
            "the kernel killed processes for lack of memory, but no task died of it: a task whose \
             child was killed may have finished without its result; the journals record when"
                .to_owned(),
        );
    }
    texts
}

/// Tasks that the kernel killed for lack of memory.
fn out_of_memory(run: &Run) -> Vec<String> {
    let failures = run.farmers.iter().flat_map(|farmer| &farmer.failures);
    let kills = failures
        .filter(|failed| failed.outcome == Outcome::OutOfMemory)
        .count() as u64;
    if kills == 0 {
        return Vec::new();
    }
    let (peak, fits) = (run.peaks().max, fitting(run));
    let then = match fits {
        Some((1, slots)) if slots > 1 => "1 slot per node would fit (--proc 1)".to_owned(),
        Some((fits, slots)) if fits < slots => {
            format!("{fits} slots per node would fit (--proc {fits})")
        }
        _ => "run fewer at a time (--proc), or ask for more memory".to_owned(),
    };
    let attempts = if kills == 1 {
        "attempt was"
    } else {
        "attempts were"
    };
    vec![format!(
        "{} {attempts} killed for lack of memory; the largest used {}: {then}",
        grouped(kills),
        show_kib(peak)
    )]
}

/// How many tasks of the largest peak memory fit on the smallest node, and how many slots that
/// node has.
fn fitting(run: &Run) -> Option<(u64, u64)> {
    let peak = run.peaks().max;
    let known = run.farmers.iter().filter_map(|farmer| {
        let header = farmer.header();
        Some((header.memory?, u64::from(header.slots)))
    });
    let (memory, slots) = known.min()?;
    // A tenth is reserved for the system and for what all tasks share.
    (peak > 0).then(|| ((memory / 10 * 9 / peak).max(1), slots))
}

/// The time that the remaining tasks need.
fn rest(run: &Run, durations: &Histogram) -> Option<String> {
    let left = run.counts.left() - run.counts.blocked;
    if left == 0 || run.living().next().is_some() || durations.count < 5 {
        return None;
    }
    let mean = durations.mean()?;
    let slots = run
        .farmers
        .last()
        .map(|farmer| u64::from(farmer.header().slots))?
        .max(1);
    let need = |nodes: u64| {
        let at_once = float((nodes * slots).min(left));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a time"
        )]
        let us = (float(left) * mean / at_once) as u64 + durations.quantile(0.95).unwrap_or(0);
        durations::show(micros(us))
    };
    let mut text = format!(
        "the {} tasks that are left need about {} on 1 node with {slots} slots",
        grouped(left),
        need(1)
    );
    for nodes in [4, 16] {
        if left > slots * nodes {
            text += &format!(", {} on {nodes}", need(nodes));
        }
    }
    Some(text + ": run the same command again")
}

/// Tasks so short that starting them and writing their files takes most of the time.
fn short(run: &Run, durations: &Histogram) -> Option<String> {
    let median = durations.quantile(0.5)?;
    if durations.count < 1000 || median > 200_000 || is_packed(run) {
        return None;
    }
    Some(format!(
        "half of the tasks end within {}: use --logs packed (one log file per slot), or put \
         several into one line",
        durations::show(micros(median))
    ))
}

/// Whether logs are packed already.
fn is_packed(run: &Run) -> bool {
    let logs = std::fs::read_dir(run.workdir.join("logs"));
    let first = logs.ok().and_then(|mut logs| logs.next()?.ok());
    first.is_none_or(|entry| entry.file_name().to_string_lossy().starts_with("packed_"))
}

/// Slots without tasks.
fn idle(run: &Run, durations: &Histogram) -> Option<String> {
    let series = run.series();
    let stretches: Vec<Stretch> = series.iter().map(|(_, stretch)| *stretch).collect();
    let sum = |of: fn(&Stretch) -> u64| stretches.iter().map(of).sum::<u64>();
    let (busy, slots) = (sum(|one| one.busy), sum(|one| one.slots));
    let part = share(busy, slots)?;
    if part > 0.75 || durations.count < 20 || slots < 60_000_000 {
        return None;
    }
    let is_idle = |one: &&Stretch| one.slots == 0 || one.busy * 2 < one.slots;
    let tail = stretches.iter().rev().take_while(is_idle);
    let (count, lost) = tail.fold((0_u64, 0), |(count, lost), one| {
        (count + 1, lost + one.slots.saturating_sub(one.busy))
    });
    let text = format!("tasks ran in {:.0} % of the slots' time", part * 100.0);
    if lost * 2 > slots - busy && run.counts.left() == 0 {
        return Some(format!(
            "{text}; most of the rest is the last {}, when less than half of the slots had work: \
             put long tasks first, or request fewer nodes",
            durations::show(micros(count * series.width()))
        ));
    }
    let median = durations.quantile(0.5)?;
    Some(if median < 50_000 {
        format!("{text}: with tasks this short, starting them costs the most")
    } else {
        format!("{text}: there were more slots than tasks to fill them")
    })
}

/// Whether more slots would fit.
fn memory(run: &Run) -> Option<String> {
    let (fits, slots) = fitting(run)?;
    let cpus = run
        .farmers
        .iter()
        .filter_map(|farmer| farmer.header().cpus)
        .min()?;
    let useful = fits.min(u64::from(cpus));
    // A few tasks are not enough to judge by.
    (run.peaks().count >= 20 && useful > slots).then(|| {
        format!(
            "peak memory of a task {}: {useful} slots per node would fit (--proc {useful}), \
             there were {slots}",
            show_kib(run.peaks().max)
        )
    })
}

/// Tasks that use more or far less than a CPU.
fn cpu(run: &Run, durations: &Histogram) -> Option<String> {
    let measured: u64 = run.farmers.iter().map(|farmer| farmer.measured).sum();
    let used: u64 = run
        .farmers
        .iter()
        .map(|farmer| farmer.spent.user.saturating_add(farmer.spent.sys))
        .sum();
    if measured < 20 || durations.quantile(0.5)? < 1_000_000 {
        return None;
    }
    let ran: u64 = run.farmers.iter().map(|farmer| farmer.ran).sum();
    let each = float(used) / float(ran.max(1));
    let cpus = run
        .farmers
        .iter()
        .filter_map(|farmer| farmer.header().cpus)
        .min()?;
    let slots = run
        .farmers
        .iter()
        .map(|farmer| farmer.header().slots)
        .max()?;
    if each > 1.3 && float(slots.into()) * each > float(cpus.into()) * 1.2 {
        return Some(format!(
            "a task uses {each:.1} CPUs and a node has {cpus} for {slots} slots: \
             fewer slots, or fewer threads per task"
        ));
    }
    (each < 0.5 && slots >= cpus).then(|| {
        format!(
            "a task uses {:.0} % of a CPU: it waits for something; more slots than CPUs may \
             be faster (--proc)",
            each * 100.0
        )
    })
}
