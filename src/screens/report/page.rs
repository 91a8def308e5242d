//! The page as HTML: what can be read without scripts.
//!
//! It is made of a [`ReportData`] alone. Guarantee: maud escapes every value, and the only texts that
//! are inserted unescaped are our own style and script, and the data that [`super::data`] has
//! made safe for a script.

use std::path::Path;
use std::time::Duration;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::data::{FailedDetails, ReportData, TopAttempt};
use crate::model::durations;
use crate::model::escape::{clip, escape};
use crate::model::figures::{date, float, grouped, micros, show_kib};
use crate::screens::words::{WAITING, node_paint, range, run_state};
use crate::ui::rate::show_rate;
use crate::ui::style::Paint;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What the page may load: nothing but what is in it.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";

/// How many failed tasks are open at once.
const SHOWN: usize = 20;

/// How many nodes are in the table.
const NODES: usize = 500;

/// The whole page.
pub(super) fn page(report: &ReportData) -> String {
    let (path, status) = (&report.path, &report.status);
    let name = escape(path.file_name().unwrap_or_default().as_encoded_bytes());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                link rel="icon" href="data:,";
                title { (name) " · pytf report" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    header { (head(&name, path, status)) }
                    (advice(status))
                    (over_time())
                    (waiting(status))
                    (node_table(status))
                    (gpus(status))
                    (slots())
                    (tasks(report))
                    (failures(report))
                    footer { (foot(status)) }
                }
                div #tip hidden {}
                script type="application/json" id="data" { (PreEscaped(report.script_data())) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string() + "\n"
}

/// A number of things.
fn count(value: &Value) -> String {
    grouped(value.as_u64().unwrap_or(0))
}

/// A time in seconds.
fn time(value: &Value) -> String {
    durations::show(seconds(value))
}

fn seconds(value: &Value) -> Duration {
    Duration::try_from_secs_f64(value.as_f64().unwrap_or(0.0)).unwrap_or_default()
}

/// A size in KiB.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a size in KiB, whole"
)]
fn size(value: &Value) -> String {
    show_kib(value.as_f64().unwrap_or(0.0) as u64)
}

/// A part of something, 0 to 1; a dash where it is not known.
fn percent(value: &Value) -> String {
    let part = value.as_f64();
    part.map_or_else(|| "–".to_owned(), |part| format!("{:.0} %", part * 100.0))
}

/// The elements of an array.
fn each(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The name, the state and the figures.
fn head(name: &str, path: &Path, status: &Value) -> Markup {
    let tasks = &status["tasks"];
    let failed = tasks["failed"].as_u64().unwrap_or(0);
    let cancelled = tasks["cancelled"].as_u64().unwrap_or(0);
    let word = match text(&status["state"]) {
        "complete" if status["followed"] == true => WAITING,
        word => word,
    };
    let (state, paint) = run_state(
        word,
        status["paused"] == true,
        status["tasks_stopped"] == true,
        (failed, cancelled),
    );
    let total = float(tasks["total"].as_u64().unwrap_or(0).max(1));
    let width = |part: &str| {
        let part = float(tasks[part].as_u64().unwrap_or(0));
        format!("width:{:.3}%", part / total * 100.0)
    };
    let were_cancelled = match cancelled {
        0 => String::new(),
        n => format!("{} cancelled, ", grouped(n)),
    };
    let label = format!(
        "{} finished, {} failed, {were_cancelled}{} left",
        count(&tasks["finished"]),
        count(&tasks["failed"]),
        count(&tasks["left"])
    );
    html! {
        h1 { (name) }
        p class={ "state " (class(paint)) } { (state) }
        p.path { (escape(path.as_os_str().as_encoded_bytes())) }
        @if let (Some(first), Some(last)) = (status["first"].as_f64(), status["last"].as_f64()) {
            p.path { "from " (date_of(first)) " to " (date_of(last)) }
        }
        div.bar role="img" aria-label=(label) {
            i.ok style=(width("finished")) {}
            i.no style=(width("failed")) {}
            i.run style=(width("claimed")) {}
        }
        dl.figures {
            @for (id, label, value) in figures(status) {
                div { dt { (label) } dd id=(id) { (value) } }
            }
        }
    }
}

/// A point in time of seconds since 1970.
fn date_of(at: f64) -> String {
    let at = Duration::try_from_secs_f64(at).unwrap_or_default();
    date(u64::try_from(at.as_micros()).unwrap_or(u64::MAX))
}

fn figures(status: &Value) -> Vec<(&'static str, &'static str, String)> {
    let tasks = &status["tasks"];
    let mut all = vec![
        ("f-total", "tasks", count(&tasks["total"])),
        ("f-finished", "finished", count(&tasks["finished"])),
        ("f-failed", "failed", count(&tasks["failed"])),
        ("f-left", "left", count(&tasks["left"])),
    ];
    if tasks["blocked"].as_u64() > Some(0) {
        all.push(("f-blocked", "of them blocked", count(&tasks["blocked"])));
    }
    if tasks["cancelled"].as_u64() > Some(0) {
        let cancelled = count(&tasks["cancelled"]);
        all.insert(3, ("f-cancelled", "cancelled", cancelled));
    }
    if let (Some(first), Some(last)) = (status["first"].as_f64(), status["last"].as_f64()) {
        all.push(("f-wall", "wall time", time(&(last - first).into())));
    }
    if let Some(busy) = status["busy"].as_f64() {
        all.push(("f-busy", "slots busy", format!("{:.1} %", busy * 100.0)));
    }
    if let Some(rate) = status["rate"].as_f64() {
        all.push(("f-rate", "rate", show_rate(rate)));
    }
    let (eta, is_over) = (&status["eta"], tasks["left"] == 0);
    if let Some(why) = eta["unknown"].as_str().filter(|_| !is_over) {
        all.push(("f-eta", "time left", format!("unknown: {why}")));
    } else if !is_over {
        let left = range(seconds(&eta["low"]), seconds(&eta["high"]));
        all.push(("f-eta", "time left", left));
    }
    let (times, memory, used) = (&status["durations"], &status["memory"], &status["used"]);
    if !times.is_null() {
        all.push(("f-median", "median task", time(&times["median"])));
        all.push(("f-longest", "longest task", time(&times["max"])));
    }
    if !memory.is_null() {
        let cpu = seconds(&used["user"]) + seconds(&used["sys"]);
        all.push(("f-cpu", "CPU time", durations::show(cpu)));
        all.push(("f-peak", "peak memory", size(&memory["max"])));
    }
    all
}

/// What could be better.
fn advice(status: &Value) -> Markup {
    let advice = each(&status["advice"]);
    html! {
        @if !advice.is_empty() {
            section #advice {
                h2 { "Advice" }
                ul { @for one in advice { li { (text(&one["text"])) } } }
            }
        }
    }
}

fn over_time() -> Markup {
    html! {
        section {
            h2 { "Over time" }
            figure {
                figcaption {
                    b { "Slots" } " " span.key.busy { "busy" } " " span.key.idle { "idle" } " "
                    span.key.cpu { "CPUs in use" }
                }
                div.chart #use {}
            }
            figure {
                figcaption {
                    b { "Ends" } " per second " span.key.ok { "finished" } " " span.key.no { "failed" }
                }
                div.chart.low #pace {}
            }
        }
    }
}

/// What the tasks that wait need; nothing where nothing is said of any.
fn waiting(status: &Value) -> Markup {
    const NEEDS: [&str; 6] = ["cpus", "gpus", "mem", "time", "node", "priority"];
    let classes = each(&status["waiting"]);
    let is_said = |one: &Value| {
        NEEDS
            .iter()
            .any(|need| !one[need].is_null() && one[need] != 0)
    };
    html! {
        @if classes.iter().any(is_said) {
            section {
                h2 { "Waiting tasks" }
                div.wide { table #waiting {
                    thead { tr { th.n { "tasks" } th { "what they need" } th {} } }
                    tbody {
                        @for one in classes {
                            tr {
                                td.n { (count(&one["tasks"])) }
                                td { (text(&one["words"])) }
                                td { (text(&one["nowhere"])) }
                            }
                        }
                    }
                } }
            }
        }
    }
}

fn node_table(status: &Value) -> Markup {
    let nodes = each(&status["nodes"]);
    html! {
        section {
            h2 { "Nodes" }
            figure {
                figcaption { "Part of the slots that is busy " span.ramp {} " 0 to 100 %" }
                div.chart #heat {}
            }
            div.wide { table #nodes {
                thead { tr {
                    th { "node" } th {} th.n { "slots" } th.n { "finished" } th.n { "failed" }
                    th { "busy" } th.n { "CPU" } th.n { "peak" }
                } }
                tbody {
                    @for one in nodes.iter().take(NODES) {
                        tr {
                            td { (text(&one["node"])) }
                            td class=(class(node_paint(text(&one["words"])))) { (text(&one["words"])) }
                            td.n { (count(&one["slots"])) }
                            td.n { (count(&one["finished"])) }
                            td.n.bad[one["failed"] != 0] { (count(&one["failed"])) }
                            (load(&one["busy"], "0 %"))
                            td.n { (percent(&one["cpu"])) }
                            td.n { (size(&one["peak"])) }
                        }
                    }
                    @if nodes.len() > NODES {
                        tr { td colspan="8" { "and " (nodes.len() - NODES) " more" } }
                    }
                }
            } }
        }
    }
}

/// The class of what has a colour.
fn class(paint: Paint) -> &'static str {
    match paint {
        Paint::Good => "good",
        Paint::Bad => "bad",
        Paint::Warn => "warn",
        Paint::Strong | Paint::Longest | Paint::Faint => "faint",
    }
}

/// A cell with a bar behind it; `unknown` stands where the part is not known.
fn load(part: &Value, unknown: &str) -> Markup {
    let width = part.as_f64().unwrap_or(0.0) * 100.0;
    html! {
        td.load {
            span style=(format!("--v:{width:.1}%")) {
                @if part.is_null() { (unknown) } @else { (percent(part)) }
            }
        }
    }
}

/// The part about GPUs, when there are any.
fn gpus(status: &Value) -> Markup {
    let gpus = each(&status["gpus"]);
    html! {
        @if !gpus.is_empty() {
            section #gpus {
                h2 { "GPUs" }
                figure {
                    figcaption { b { "Load" } " " span.ramp {} " 0 to 100 %" }
                    div.chart #gpu-load {}
                }
                figure {
                    figcaption { b { "Memory" } " in use " span.ramp.memory {} " 0 to 100 %" }
                    div.chart #gpu-memory {}
                }
                div.wide { table {
                    thead { tr {
                        th { "node" } th { "GPU" } th.n { "slots" } th.n { "tasks" }
                        th { "load with tasks" } th.n { "load" } th.n { "memory" }
                        th.n { "most memory" }
                    } }
                    tbody {
                        @for gpu in gpus.iter().take(NODES) {
                            tr {
                                td { (text(&gpu["node"])) }
                                td { code { (text(&gpu["gpu"])) } }
                                td.n { (count(&gpu["slots"])) }
                                td.n { (count(&gpu["tasks"])) }
                                (load(&gpu["load_with_tasks"], "–"))
                                td.n { (percent(&gpu["load"])) }
                                td.n { (percent(&gpu["memory"])) }
                                td.n { (percent(&gpu["memory_max"])) }
                            }
                        }
                    }
                } }
            }
        }
    }
}

fn slots() -> Markup {
    html! {
        section {
            h2 { "Slots" }
            figure {
                figcaption {
                    span.key.ok { "finished" } " " span.key.no { "failed" } " "
                    span.key.cut { "interrupted or running" } " "
                    span #hint { "drag to zoom in, double click to zoom out" }
                }
                div.chart #gantt {}
                p.none #gantt-note {}
            }
        }
    }
}

fn tasks(report: &ReportData) -> Markup {
    let time = |us| durations::show(micros(us));
    html! {
        section {
            h2 { "Tasks" }
            div.pair {
                figure { figcaption { b { "Time" } " of an attempt" } div.chart.low #times {} }
                figure { figcaption { b { "Peak memory" } " of an attempt" } div.chart.low #peaks {} }
            }
            figure {
                figcaption {
                    b { "Memory against time" } " " span.key.ok { "finished" } " "
                    span.key.no { "failed" } " " span #scatter-note {}
                }
                div.chart #scatter {}
            }
            div.pair.tops {
                (table("The longest", &report.longest, time))
                (table("The most memory", &report.largest, show_kib))
            }
        }
    }
}

fn table(title: &str, top: &[TopAttempt], show: fn(u64) -> String) -> Markup {
    html! {
        div {
            h3 { (title) }
            table {
                @for one in top {
                    tr {
                        td.n { (show(one.value)) }
                        td.n { (one.id) }
                        td { (one.node) }
                        td.c { code { (one.command) } }
                    }
                }
            }
        }
    }
}

/// Failed tasks by cause, then the first of them, each with the end of its log.
fn failures(report: &ReportData) -> Markup {
    let (failed, status) = (&report.failed, &report.status);
    let (first, more) = failed.split_at(failed.len().min(SHOWN));
    let all = status["tasks"]["failed"].as_u64().unwrap_or(0);
    let hidden = all.saturating_sub(failed.len() as u64);
    html! {
        section #failures {
            h2 { "Failed tasks" }
            ul.causes {
                @for cause in each(&status["causes"]) {
                    li {
                        b { (count(&cause["tasks"])) } " " (text(&cause["words"]))
                        @if cause["nodes"].as_u64() > Some(1) { " on " (cause["nodes"]) " nodes" }
                    }
                }
            }
            @if failed.is_empty() { p.none { "No task has failed." } }
            ul.causes {
                @for one in each(&status["cancellations"]) {
                    li {
                        b { (count(&one["tasks"])) } " cancelled by " (text(&one["by"])) " at "
                        (date_of(one["at"].as_f64().unwrap_or(0.0)))
                        @if let Some(reason) = one["reason"].as_str() { ": " (reason) }
                    }
                }
            }
            @for (number, task) in first.iter().enumerate() { (failure(task, number == 0)) }
            @if !more.is_empty() {
                details.more {
                    summary { (more.len()) " more" }
                    @for task in more { (failure(task, false)) }
                }
            }
            @if hidden > 0 {
                p.none { "and " (grouped(hidden)) " more: " code { "pytf status --failed" } " lists all" }
            }
        }
    }
}

fn failure(task: &FailedDetails, is_open: bool) -> Markup {
    let (one, tail) = (&task.entry, &task.tail);
    let mut facts = Vec::new();
    if let Some(attempts) = one["attempts"].as_u64() {
        facts.push(format!("on {}", text(&one["node"])));
        facts.push(format!("after {}", time(&one["seconds"])));
        if attempts > 1 {
            facts.push(format!("attempt {attempts}"));
        }
    }
    if !one["peak_kib"].is_null() {
        facts.push(size(&one["peak_kib"]));
    }
    html! {
        details data-id=(one["id"]) open[is_open] {
            summary {
                b { "task " (one["id"]) } " " span.bad { (text(&one["words"])) } " "
                code { (clip(text(&one["command"]), 300)) }
            }
            p {
                (facts.join(" · "))
                @for log in ["log", "stderr"] {
                        @if let Some(log) = one[log].as_str() { " · " code { (log) } }
                    }
            }
            @if tail.is_empty() {
                p.none { "It printed nothing, or no log was kept." }
            } @else {
                pre {
                    @for (number, line) in tail.iter().enumerate() {
                        @if number > 0 { "\n" }
                        (clip(line, 1000))
                    }
                }
            }
        }
    }
}

/// When it was written, by which program, and what could not be read.
fn foot(status: &Value) -> Markup {
    html! {
        p {
            "Written by pytf " (text(&status["pytf"])) " " time #at {}
            " from the journals of the workdir."
        }
        @if let Some(difference) = status["clocks"].as_str() { p { (difference) "." } }
        @if let Some(problem) = status["problem"].as_str() { p.bad { (problem) } }
        @for damage in each(&status["damage"]) {
            p.bad {
                (text(&damage["journal"])) ": " (count(&damage["lines"]))
                " lines are not records; what they recorded is missing."
            }
        }
    }
}
