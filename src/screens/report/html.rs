//! The parts of the page that are text: everything in them is escaped here.

use std::fmt::Write as _;
use std::io;

use crate::history::commands::Commands;
use crate::history::failures::{Details, Failure, causes as grouped_causes};
use crate::history::logs::{log_path, log_tail};
use crate::history::run::farmer::Top;
use crate::history::run::{Farmer, Life, Run};
use crate::model::durations;
use crate::model::escape::{clip, escape};
use crate::model::figures::{date, grouped, micros, share, show_kib};
use crate::model::forecast::Forecast;
use crate::model::record::NodeHealth;
use crate::model::task::TaskId;
use crate::screens::status::json::word;
use crate::screens::status::range;
use crate::ui::advice;
use crate::ui::rate::show_rate;

/// The part about GPUs.
const GPUS: &str = include_str!("gpus.html");

/// How many failed tasks are on the page.
const FAILURES: usize = 200;

/// How many of them are seen at once.
const SHOWN: usize = 20;

/// How many lines of the log of each.
const TAIL: usize = 12;

/// How many nodes are in the table.
const NODES: usize = 500;

/// How many of the longest and the largest tasks.
const TOP: usize = 8;

/// A text of anybody as HTML.
fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            _ => out.push(c),
        }
    }
    out
}

/// Bytes of anybody as HTML.
fn safe_bytes(bytes: &[u8]) -> String {
    safe(&escape(bytes))
}

fn workdir(run: &Run) -> String {
    let path = std::fs::canonicalize(&run.workdir).unwrap_or_else(|_| run.workdir.clone());
    safe_bytes(path.as_os_str().as_encoded_bytes())
}

fn name(run: &Run) -> String {
    let path = std::fs::canonicalize(&run.workdir).unwrap_or_else(|_| run.workdir.clone());
    safe_bytes(path.file_name().unwrap_or_default().as_encoded_bytes())
}

pub(super) fn title(run: &Run) -> String {
    format!("{} · pytf report", name(run))
}

/// The name, the state and the figures.
pub(super) fn head(run: &Run) -> String {
    let counts = &run.counts;
    let (class, state) = match word(run) {
        "complete" if counts.failed > 0 => ("bad", "complete, some tasks failed"),
        "complete" => ("good", "complete"),
        "running" => ("good", "running"),
        _ => ("warn", "stopped, with work left"),
    };
    let mut out = format!(
        "<h1>{}</h1><p class=\"state {class}\">{state}</p><p class=\"path\">{}</p>",
        name(run),
        workdir(run)
    );
    if let Some((first, last)) = run.span() {
        let _ = write!(
            out,
            "<p class=\"path\">from {} to {}</p>",
            date(first),
            date(last)
        );
    }
    let total = counts.total.max(1);
    let percent = |part: u64| share(part, total).unwrap_or(0.0) * 100.0;
    let _ = write!(
        out,
        "<div class=\"bar\" role=\"img\" aria-label=\"{} finished, {} failed, {} left\">\
         <i class=\"ok\" style=\"width:{:.3}%\"></i><i class=\"no\" style=\"width:{:.3}%\"></i>\
         <i class=\"run\" style=\"width:{:.3}%\"></i></div>",
        grouped(counts.finished),
        grouped(counts.failed),
        grouped(counts.left()),
        percent(counts.finished),
        percent(counts.failed),
        percent(counts.claimed),
    );
    out += "<dl class=\"figures\">";
    for (id, label, value) in figures(run) {
        let _ = write!(
            out,
            "<div><dt>{label}</dt><dd id=\"{id}\">{}</dd></div>",
            safe(&value)
        );
    }
    out + "</dl>"
}

fn figures(run: &Run) -> Vec<(&'static str, &'static str, String)> {
    let counts = &run.counts;
    let sum = |of: fn(&Farmer) -> u64| run.farmers.iter().map(of).sum::<u64>();
    let mut all = vec![
        ("f-total", "tasks", grouped(counts.total)),
        ("f-finished", "finished", grouped(counts.finished)),
        ("f-failed", "failed", grouped(counts.failed)),
        ("f-left", "left", grouped(counts.left())),
    ];
    if let Some((first, last)) = run.span() {
        all.push(("f-wall", "wall time", durations::show(micros(last - first))));
    }
    if let Some(busy) = run.busy(&run.farmers) {
        all.push(("f-busy", "slots busy", format!("{:.1} %", busy * 100.0)));
    }
    if let Some(rate) = run.rate() {
        all.push(("f-rate", "rate", show_rate(rate)));
    }
    match run.forecast() {
        Forecast::Range(low, high) => {
            all.push(("f-eta", "time left", range(low, high)));
        }
        Forecast::Unknown(why) if run.counts.left() > 0 => {
            all.push(("f-eta", "time left", format!("unknown: {why}")));
        }
        Forecast::Unknown(_) | Forecast::Over => {}
    }
    let (times, peaks) = (run.durations(), run.peaks());
    if let Some(median) = times.quantile(0.5) {
        all.push(("f-median", "median task", durations::show(micros(median))));
        all.push((
            "f-longest",
            "longest task",
            durations::show(micros(times.max)),
        ));
    }
    let cpu = sum(|farmer| farmer.spent.user.saturating_add(farmer.spent.sys));
    if peaks.count > 0 {
        all.push(("f-cpu", "CPU time", durations::show(micros(cpu))));
        all.push(("f-peak", "peak memory", show_kib(peaks.max)));
    }
    all
}

/// What could be better.
pub(super) fn advice(run: &Run) -> String {
    let found = advice::advice(run);
    if found.is_empty() {
        return String::new();
    }
    let items = found
        .iter()
        .map(|advice| format!("<li>{}</li>", safe(&advice.text)));
    format!(
        "<section id=\"advice\"><h2>Advice</h2><ul>{}</ul></section>",
        items.collect::<String>()
    )
}

/// The table of nodes.
pub(super) fn nodes(run: &Run) -> String {
    let nodes = run.nodes();
    let mut out = String::new();
    for node in nodes.iter().take(NODES) {
        let class = match node.life {
            Life::Alive if node.health != NodeHealth::Healthy => "bad",
            Life::Alive => "good",
            Life::Silent(_) | Life::Lost => "warn",
            Life::Dead => "bad",
            Life::Left => "faint",
        };
        let sum = |of: fn(&Farmer) -> u64| node.farmers.iter().map(|f| of(f)).sum::<u64>();
        let cpu = share(
            sum(|f| f.spent.user.saturating_add(f.spent.sys)),
            sum(|f| f.ran),
        );
        let peak = node.farmers.iter().map(|f| f.spent.peak).max().unwrap_or(0);
        let busy = node.busy.unwrap_or(0.0) * 100.0;
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"{class}\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n{}\">{}</td>\
             <td class=\"load\"><span style=\"--v:{busy:.1}%\">{busy:.0} %</span></td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            safe_bytes(node.host.as_bytes()),
            node.word(),
            grouped(node.slots),
            grouped(node.ended.0),
            if node.ended.1 > 0 { " bad" } else { "" },
            grouped(node.ended.1),
            cpu.map_or_else(|| "–".to_owned(), |cpu| format!("{:.0} %", cpu * 100.0)),
            show_kib(peak),
        );
    }
    if nodes.len() > NODES {
        let more = nodes.len() - NODES;
        let _ = write!(out, "<tr><td colspan=\"8\">and {more} more</td></tr>");
    }
    out
}

/// The part about GPUs, when there are any.
pub(super) fn gpus(run: &Run) -> String {
    let mut rows = String::new();
    let percent = |part: Option<f64>| match part {
        Some(part) => format!("{:.0} %", part * 100.0),
        None => "–".to_owned(),
    };
    let nodes = run.nodes();
    let all = nodes
        .iter()
        .map(|node| (safe_bytes(node.host.as_bytes()), run.gpus(node)));
    for (host, gpus) in all.filter(|(_, gpus)| !gpus.is_empty()).take(NODES) {
        for gpu in gpus.iter() {
            let load = gpu.load_with_tasks();
            let most = gpu.most_memory.map(|most| f64::from(most) / 100.0);
            let _ = write!(
                rows,
                "<tr><td>{host}</td><td><code>{}</code></td><td class=\"n\">{}</td>\
                 <td class=\"n\">{}</td><td class=\"load\"><span style=\"--v:{:.1}%\">{}</span></td>\
                 <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                safe_bytes(gpu.name.as_bytes()),
                grouped(gpu.slots),
                grouped(gpu.tasks),
                load.unwrap_or(0.0) * 100.0,
                percent(load),
                percent(gpu.load()),
                percent(gpu.memory()),
                percent(most),
            );
        }
    }
    if rows.is_empty() {
        return rows;
    }
    GPUS.replace("{{rows}}", &rows)
}

/// Failed tasks by cause.
pub(super) fn causes(failures: &[Failure]) -> String {
    let mut out = String::new();
    for cause in grouped_causes(failures) {
        let nodes = match cause.nodes {
            0 | 1 => String::new(),
            n => format!(" on {n} nodes"),
        };
        let _ = write!(
            out,
            "<li><b>{}</b> {}{nodes}</li>",
            grouped(cause.tasks),
            safe(&cause.words)
        );
    }
    out
}

/// The first failed tasks, each with the end of its log.
pub(super) fn failures(run: &Run, failures: &[Failure]) -> io::Result<String> {
    if failures.is_empty() {
        return Ok("<p class=\"none\">No task has failed.</p>".to_owned());
    }
    let (mut commands, mut details) = (Commands::open(&run.workdir)?, Details::default());
    let mut out = String::new();
    for (number, failure) in failures.iter().take(FAILURES).enumerate() {
        if number == SHOWN {
            let more = failures.len().min(FAILURES) - SHOWN;
            let _ = write!(
                out,
                "<details class=\"more\"><summary>{more} more</summary>"
            );
        }
        let end = details.of(failure);
        let command = commands.get(TaskId(failure.id))?.unwrap_or_default();
        let mut facts = Vec::new();
        if let Some((farmer, failed)) = failure.last {
            facts.push(format!(
                "on {}",
                safe_bytes(farmer.header().host.as_bytes())
            ));
            facts.push(format!("after {}", durations::show(micros(failed.us))));
            if failed.attempt > 1 {
                facts.push(format!("attempt {}", failed.attempt));
            }
        }
        if let Some(used) = end.as_ref().and_then(|end| end.used) {
            facts.push(show_kib(used.peak));
        }
        let log = end.as_ref().and_then(|end| end.log.as_ref());
        let tail = log.and_then(|log| {
            let path = log_path(&run.workdir, log)?;
            Some(log_tail(&path, log.part, TAIL))
        });
        if let Some(log) = log {
            facts.push(format!("<code>{}</code>", safe_bytes(log.file.as_bytes())));
        }
        let _ = write!(
            out,
            "<details data-id=\"{}\"{}><summary><b>task {}</b> <span class=\"bad\">{}</span> \
             <code>{}</code></summary><p>{}</p>",
            failure.id,
            if number == 0 { " open" } else { "" },
            failure.id,
            safe(&failure.words()),
            safe(&clip(&escape(command), 300)),
            facts.join(" · ")
        );
        match tail {
            Some(tail) if !tail.is_empty() => {
                let lines: Vec<String> = tail.iter().map(|line| safe(&clip(line, 1000))).collect();
                let _ = write!(out, "<pre>{}</pre>", lines.join("\n"));
            }
            _ => out += "<p class=\"none\">It printed nothing, or no log was kept.</p>",
        }
        out += "</details>";
    }
    if failures.len() > SHOWN {
        out += "</details>";
    }
    if failures.len() > FAILURES {
        let _ = write!(
            out,
            "<p class=\"none\">and {} more: <code>pytf status --failed</code> lists all</p>",
            grouped((failures.len() - FAILURES) as u64)
        );
    }
    Ok(out)
}

/// The longest tasks and those with the most memory.
pub(super) fn tops(run: &Run) -> io::Result<String> {
    let mut commands = Commands::open(&run.workdir)?;
    let mut table = |title: &str, of: fn(&Farmer) -> &Vec<Top>, show: fn(u64) -> String| {
        let mut all: Vec<(&Top, &str)> = run
            .farmers
            .iter()
            .flat_map(|farmer| {
                of(farmer)
                    .iter()
                    .map(|top| (top, &farmer.header().host[..]))
            })
            .collect();
        all.sort_unstable_by_key(|(top, _)| std::cmp::Reverse((top.value, top.id)));
        let mut out = format!("<div><h3>{title}</h3><table>");
        for (top, host) in all.into_iter().take(TOP) {
            let command = commands.get(TaskId(top.id))?.unwrap_or_default();
            let _ = write!(
                out,
                "<tr><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td>\
                 <td class=\"c\"><code>{}</code></td></tr>",
                show(top.value),
                top.id,
                safe_bytes(host.as_bytes()),
                safe(&clip(&escape(command), 120))
            );
        }
        Ok::<_, io::Error>(out + "</table></div>")
    };
    let longest = table(
        "The longest",
        |farmer| &farmer.longest,
        |us| durations::show(micros(us)),
    )?;
    let largest = table("The most memory", |farmer| &farmer.largest, show_kib)?;
    Ok(longest + &largest)
}

/// When, by what, and what could not be read.
pub(super) fn foot(run: &Run) -> String {
    let mut out = format!("<p>Written by pytf {}", env!("CARGO_PKG_VERSION"));
    out += " <time id=\"at\"></time> from the journals of the workdir.</p>";
    if let Some(difference) = run.clock_difference() {
        let _ = write!(out, "<p>{}.</p>", safe(&difference.text()));
    }
    if let Some(trouble) = &run.counts.trouble {
        let _ = write!(
            out,
            "<p class=\"bad\">{}</p>",
            safe_bytes(trouble.as_bytes())
        );
    }
    for farmer in run.farmers.iter().filter(|farmer| farmer.damage.lines > 0) {
        let _ = write!(
            out,
            "<p class=\"bad\">{}: {} lines are no records; what they told is missing.</p>",
            safe_bytes(farmer.journal.path.as_os_str().as_encoded_bytes()),
            farmer.damage.lines
        );
    }
    out
}
