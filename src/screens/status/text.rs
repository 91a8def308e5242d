//! `pytf status` as text, on one screen.

use std::fmt::Write as _;
use std::io;

use console::{Alignment, measure_text_width, pad_str};

use super::json::shown;
use crate::history::commands::Commands;
use crate::history::failures::{Details, FailedTask, FailureCause, cancelled, causes, failures};
use crate::history::run::attempt::Attempt;
use crate::history::run::gpus::{Gpu, Gpus, load_with_tasks};
use crate::history::run::nodes::{Node, nodes};
use crate::history::run::{FarmerState, Run};
use crate::history::waiting::{WaitingClass, waiting_classes};
use crate::model::dialects::as_written;
use crate::model::durations;
use crate::model::escape::escape;
use crate::model::figures::{grouped, micros, share, show_kib};
use crate::model::record::NodeHealth;
use crate::model::task::TaskId;
use crate::screens::words::{self, cancellation, node_paint, word};
use crate::ui::advice::advice;
use crate::ui::style::{OutputStyle, Paint};
use crate::ui::summary::{push_commands, push_wrapped, quoted};

/// How many nodes are shown.
const NODES: usize = 12;

/// How many running tasks are shown.
const RUNNING: usize = 5;

/// How many classes of waiting tasks are shown.
const CLASSES: usize = 8;

/// How many causes of failures are shown.
const CAUSES: usize = 6;

/// How wide the bar is, at most.
const BAR: usize = 50;

/// The screen.
pub(super) fn text(run: &Run, style: &OutputStyle) -> io::Result<String> {
    let mut screen = Screen {
        out: String::new(),
        style,
    };
    screen.head(run);
    screen.time(run);
    screen.nodes(run);
    let waiting = waiting_classes(run)?;
    screen.waiting(&waiting);
    screen.running(run)?;
    screen.causes(run)?;
    let found = advice(run);
    if !found.is_empty() {
        screen.title("advice");
        for advice in &found {
            screen.wrapped(&advice.text);
        }
    }
    screen.faults(run);
    screen.next(run, &waiting);
    Ok(screen.out)
}

struct Screen<'a> {
    out: String,
    style: &'a OutputStyle,
}

impl Screen<'_> {
    fn line(&mut self, text: &str) {
        let text = self.style.clip(text, self.style.width);
        let _ = writeln!(self.out, "{text}");
    }

    fn painted(&mut self, paint: Paint, text: &str) {
        let text = self.style.clip(text, self.style.width);
        let _ = writeln!(self.out, "{}", self.style.paint(paint, &text));
    }

    fn title(&mut self, text: &str) {
        self.out.push('\n');
        self.painted(Paint::Strong, text);
    }

    fn wrapped(&mut self, text: &str) {
        push_wrapped(&mut self.out, self.style, text);
    }

    fn head(&mut self, run: &Run) {
        let counts = &run.counts;
        let (state, paint) = words::state(run);
        self.painted(paint, &format!("{}: {state}", shown(&run.workdir)));
        let done = share(counts.done(), counts.total).unwrap_or(0.0);
        let width = BAR.min(self.style.width.saturating_sub(40)).max(10);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "the width of a bar"
        )]
        let filled = (done * width as f64).floor() as usize;
        let marks = self.style.marks();
        self.line(&format!(
            "  {}{} {:.1} %  {} of {} tasks",
            marks.full.repeat(filled),
            marks.empty.repeat(width - filled),
            (done * 1000.0).floor() / 10.0,
            grouped(counts.done()),
            grouped(counts.total)
        ));
        let parts = words::counts(run).into_iter();
        let parts = parts.map(|(count, word, _)| format!("{} {word}", grouped(count)));
        let mut parts: Vec<String> = parts.collect();
        if counts.feeding > 0 {
            parts.push("more may arrive".to_owned());
        }
        self.facts(&parts);
    }

    /// Facts side by side, on as many lines as they need: none is cut.
    fn facts(&mut self, parts: &[String]) {
        for line in self.side_by_side(parts, self.style.width.saturating_sub(2)) {
            self.line(&format!("  {line}"));
        }
    }

    /// Lines of at most `width` characters, unless one part is longer.
    fn side_by_side(&self, parts: &[String], width: usize) -> Vec<String> {
        let (mut lines, dot) = (Vec::<String>::new(), self.style.marks().dot);
        for part in parts {
            match lines.last_mut() {
                Some(line)
                    if measure_text_width(line)
                        + measure_text_width(dot)
                        + measure_text_width(part)
                        <= width =>
                {
                    *line += dot;
                    *line += part;
                }
                _ => lines.push(part.clone()),
            }
        }
        lines
    }

    fn time(&mut self, run: &Run) {
        let mut parts = words::speed(run);
        if let Some(busy) = run.busy(&run.farmers) {
            parts.push(format!("slots {:.0} % busy", busy * 100.0));
        }
        if let Some((first, last)) = run.span() {
            let ago = durations::show(micros(last - first));
            parts.push(format!("{ago} from the first start"));
        }
        self.facts(&parts);
        let skipped: u64 = run.farmers.iter().map(|farmer| farmer.skipped).sum();
        if skipped > 0 {
            let skipped = grouped(skipped);
            self.facts(&[format!(
                "{skipped} finished without a start: their files were there"
            )]);
        }
        let (times, peaks) = (run.durations(), run.peaks());
        if let (Some(median), Some(most)) = (times.quantile(0.5), times.quantile(0.95)) {
            let show = |us| durations::show(micros(us));
            let mut parts = vec![
                format!("a task takes {} (median)", show(median)),
                format!("{} (95 %)", show(most)),
                format!("{} (longest)", show(times.max)),
            ];
            let sentence = parts.join(", ");
            if measure_text_width(&sentence) + 2 <= self.style.width {
                parts = vec![sentence];
            }
            if peaks.count > 0 {
                parts.push(format!("peak memory {}", show_kib(peaks.max)));
            }
            self.facts(&parts);
        }
        self.gpus(run);
    }

    /// The GPUs in one line, when there are any.
    fn gpus(&mut self, run: &Run) {
        let nodes = nodes(run);
        let all: Vec<Gpus> = nodes.iter().map(|node| node.gpus(run)).collect();
        let gpus: Vec<&Gpu> = all.iter().flat_map(Gpus::iter).collect();
        if gpus.is_empty() {
            return;
        }
        let mut parts = vec![match gpus.len() {
            1 => "1 GPU".to_owned(),
            count => format!("{count} GPUs"),
        }];
        if let Some(load) = load_with_tasks(&gpus) {
            parts.push(format!("{:.0} % busy while tasks ran", load * 100.0));
        }
        if let Some(memory) = gpus.iter().filter_map(|gpu| gpu.most_memory).max() {
            parts.push(format!("at most {memory} % of their memory in use"));
        }
        self.facts(&parts);
    }

    fn nodes(&mut self, run: &Run) {
        let mut nodes = nodes(run);
        if nodes.is_empty() {
            return;
        }
        let count =
            |is: fn(FarmerState) -> bool| nodes.iter().filter(|node| is(node.state)).count();
        let mut parts = Vec::new();
        for (count, word) in [
            (count(|state| state == FarmerState::Alive), "alive"),
            (
                count(|state| matches!(state, FarmerState::Silent(_))),
                "silent",
            ),
            (count(|state| matches!(state, FarmerState::Dead)), "dead"),
            (count(|state| matches!(state, FarmerState::Lost)), "lost"),
            (count(|state| matches!(state, FarmerState::Left)), "left"),
        ] {
            if count > 0 {
                parts.push(format!("{count} {word}"));
            }
        }
        let aside = |node: &&Node| node.state.is_live() && node.health != NodeHealth::Healthy;
        let aside = nodes.iter().filter(aside).count();
        if aside > 0 {
            parts.push(format!("{aside} in quarantine"));
        }
        self.title(&format!("nodes: {}", parts.join(", ")));
        // Nodes that are alive come first.
        nodes.sort_by_key(|node| !node.state.is_live());
        let width = nodes
            .iter()
            .map(|node| measure_text_width(node.host))
            .max()
            .unwrap_or(0);
        for node in nodes.iter().take(NODES) {
            self.node(node, width.min(30));
        }
        if nodes.len() > NODES {
            let more = format!("  and {} more: --json has all", nodes.len() - NODES);
            self.painted(Paint::Faint, &more);
        }
        if let Some(difference) = run.clock_difference() {
            self.wrapped(&difference.text());
        }
    }

    fn node(&mut self, node: &Node, width: usize) {
        let host = escape(node.host.as_bytes());
        let word = node.word();
        let state = match (word, node.state) {
            (_, FarmerState::Silent(time)) => format!("silent for {}", durations::show(time)),
            ("unsure", _) => "unsure: others try what fails there".to_owned(),
            ("sick", _) => "sick: what fails there succeeds elsewhere".to_owned(),
            ("dead", _) => "dead: the next farmer takes its tasks over".to_owned(),
            ("lost", _) => "lost: its tasks were given back".to_owned(),
            _ => word.to_owned(),
        };
        let mut parts = Vec::new();
        if node.state.is_live() {
            parts.push(format!(
                "{} of {} slots run",
                node.running.len(),
                node.slots
            ));
        }
        parts.push(format!("{} finished", grouped(node.ended.0)));
        if node.ended.1 > 0 {
            parts.push(format!("{} failed", grouped(node.ended.1)));
        }
        if node.ended.2 > 0 {
            parts.push(format!("{} interrupted", grouped(node.ended.2)));
        }
        if let Some(busy) = node.busy {
            parts.push(format!("{:.0} % busy", busy * 100.0));
        }
        if let Some(one) = node.reserved() {
            parts.push(format!("collects for task {}", one.id));
        }
        if let Some(one) = node.running.first() {
            let ran = durations::show(micros(one.ran));
            parts.push(format!("task {} for {ran}", one.attempt.id));
        }
        // What does not fit beside the name is below it.
        let taken = 2 + width + 2 + measure_text_width(&state) + 2;
        let state = self.style.paint(node_paint(word), &state);
        let mut lines = self.side_by_side(&parts, self.style.width.saturating_sub(taken));
        if lines.len() > 1 {
            let below = self.style.width.saturating_sub(width + 4);
            lines = self.side_by_side(&parts, below);
            lines.insert(0, String::new());
        }
        let mut lines = lines.into_iter();
        let first = lines.next().unwrap_or_default();
        let host = pad_str(&host, width, Alignment::Left, None);
        let first = format!("  {host}  {state}  {first}");
        let _ = writeln!(self.out, "{}", first.trim_end());
        for line in lines {
            self.line(&format!("  {:width$}  {line}", ""));
        }
    }

    /// What the tasks that wait need, unless nothing is said of any.
    fn waiting(&mut self, classes: &[WaitingClass]) {
        if classes.iter().all(|one| one.class.is_plain()) {
            return;
        }
        self.title("waiting, by what the tasks need");
        for one in classes.iter().take(CLASSES) {
            let mut line = format!("  {}: {}", grouped(one.waiting), one.words());
            if let Some(why) = &one.nowhere {
                line += &format!("; {why}");
            }
            self.wrapped(line.trim_start());
        }
        if classes.len() > CLASSES {
            let more = format!("  and {} more: --json has all", classes.len() - CLASSES);
            self.painted(Paint::Faint, &more);
        }
    }

    /// What has run longest.
    fn running(&mut self, run: &Run) -> io::Result<()> {
        let all = run.running_attempts();
        if all.is_empty() {
            return Ok(());
        }
        self.title("running, the longest first");
        let mut commands = Commands::open(&run.workdir)?;
        for one in all.iter().take(RUNNING) {
            let Attempt { id, slot, .. } = one.attempt;
            let mut line = format!(
                "  task {id} for {} on {}, slot {slot}",
                durations::show(micros(one.ran)),
                escape(one.farmer.host.as_bytes()),
            );
            if let Some(pid) = one.pid() {
                line += &format!(", pid {pid}");
            }
            if let Some(command) = commands.get(TaskId(*id))? {
                line += &format!(": {}", escape(as_written(command)));
            }
            self.line(&line);
        }
        if all.len() > RUNNING {
            let more = format!("  and {} more: --running has all", all.len() - RUNNING);
            self.painted(Paint::Faint, &more);
        }
        Ok(())
    }

    fn causes(&mut self, run: &Run) -> io::Result<()> {
        let failures = failures(run);
        self.cancelled(run, &failures);
        let causes = causes(&failures);
        if causes.is_empty() {
            return Ok(());
        }
        self.title("failed tasks by cause");
        let (mut commands, mut details) = (Commands::open(&run.workdir)?, Details::default());
        for cause in causes.iter().take(CAUSES) {
            self.cause(cause, &mut commands, &mut details)?;
        }
        if causes.len() > CAUSES {
            let more = format!("  and {} other causes", causes.len() - CAUSES);
            self.painted(Paint::Faint, &more);
        }
        Ok(())
    }

    /// By whom tasks were cancelled, when and why.
    fn cancelled(&mut self, run: &Run, failures: &[FailedTask]) {
        let all = cancelled(failures);
        if all.is_empty() {
            return;
        }
        self.title("cancelled tasks");
        for one in all.iter().take(CAUSES) {
            let tasks = match one.tasks {
                1 => format!("task {}", one.first),
                n => format!("{} tasks, the first is {}", grouped(n), one.first),
            };
            self.line(&format!("  {tasks}: {}", cancellation(one.of, run.now)));
        }
        if all.len() > CAUSES {
            let more = format!(
                "  and {} other cancellations: --json has all",
                all.len() - CAUSES
            );
            self.painted(Paint::Faint, &more);
        }
    }

    fn cause(
        &mut self,
        cause: &FailureCause,
        commands: &mut Commands,
        details: &mut Details,
    ) -> io::Result<()> {
        let times = self.style.marks().times;
        let mut head = format!("  {} {times} {}", grouped(cause.tasks), cause.words);
        if cause.nodes > 1 {
            head += &format!(" on {} nodes", cause.nodes);
        }
        self.painted(Paint::Bad, &head);
        let id = cause.first.id;
        let mut line = format!("    task {id}");
        if let Some((farmer, _)) = cause.first.last {
            line += &format!(" on {}", escape(farmer.header().host.as_bytes()));
        }
        if let Some(log) = details.of(&cause.first).and_then(|end| end.log) {
            let names = log.names().unwrap_or(log.file);
            line += &format!(" [{}]", escape(names.as_bytes()));
        }
        if let Some(command) = commands.get(TaskId(id))? {
            line += &format!(": {}", escape(as_written(command)));
        }
        self.line(&line);
        Ok(())
    }

    /// What could not be read.
    fn faults(&mut self, run: &Run) {
        let damaged: Vec<_> = run
            .farmers
            .iter()
            .filter(|farmer| farmer.damage.lines > 0)
            .collect();
        if damaged.is_empty() && run.counts.problem.is_none() {
            return;
        }
        self.title("damage");
        if let Some(problem) = &run.counts.problem {
            self.wrapped(&escape(problem.as_bytes()));
        }
        for farmer in damaged {
            let path = shown(&farmer.journal.path);
            let first = farmer.damage.first.unwrap_or(0);
            self.wrapped(&format!(
                "{path}: {} lines are not records, the first is line {first}; what they recorded \
                 is missing above",
                farmer.damage.lines
            ));
        }
    }

    fn next(&mut self, run: &Run, waiting: &[WaitingClass]) {
        let workdir = quoted(&shown(&run.workdir));
        let (mut next, state) = (Vec::new(), word(run));
        let mut add = |command: String, what: &str| next.push((command, what.to_owned()));
        if run.counts.problem.is_some() {
            if run.living().next().is_none() {
                let command = format!("pytf repair {workdir}");
                add(command, "restores it from its journals");
            }
        } else if state == "stopped"
            && run.counts.claimed == 0
            && !waiting.is_empty()
            && waiting.iter().all(|one| one.nowhere.is_some())
        {
            let command = "run the same command on other nodes".to_owned();
            add(command, "those of the run cannot run what waits");
        } else if state == "stopped" && run.counts.left() > run.counts.blocked {
            let command = "run the same command again".to_owned();
            add(command, "goes on where it ended");
        }
        if run.is_paused() {
            add(format!("pytf resume {workdir}"), "starts tasks again");
        }
        if run.counts.failed > 0 {
            let command = format!("pytf status {workdir} --failed");
            add(command, "all failed tasks");
            add(format!("pytf retry {workdir}"), "puts them back");
        }
        if run.counts.cancelled > 0 {
            let command = format!("pytf retry {workdir} --cancelled");
            add(command, "puts the cancelled ones back, too");
        }
        if state != "running" && !run.farmers.is_empty() {
            let command = format!("pytf report {workdir}");
            add(command, "a page with all figures");
        }
        if !next.is_empty() {
            self.title("next");
        }
        push_commands(&mut self.out, self.style, &next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::synthetic::{end, header, start, workdir};
    use crate::model::outcome::Outcome;
    use crate::model::record::Record;

    const T: u64 = 1_800_000_000_000_000;
    const S: u64 = 1_000_000;

    #[test]
    fn on_a_narrow_terminal_no_fact_is_cut() {
        let dir = workdir(&["x"; 9]);
        let mut records = vec![header("node-with-a-name", T, 12)];
        records.extend((0..4).map(|id| end(id, 1, 0, T + id * S, S, Outcome::Exit(0))));
        records.push(end(4, 1, 1, T, S, Outcome::Exit(1)));
        records.push(end(5, 1, 2, T, S, Outcome::Interrupted));
        records.push(start(6, 1, 3, T + S));
        records.push(Record::Beat { at: T + 9 * S });
        dir.journal("node-with-a-name.0.1.1", &records);
        let run = Run::open(dir.path()).unwrap();
        let seen = |width| {
            let style = OutputStyle {
                width,
                ..OutputStyle::PLAIN
            };
            let text = text(&run, &style).unwrap();
            let part = text.split("\nrunning, the").next().unwrap().to_owned();
            // The workdir is a path of the test, and may be cut.
            part.split_once('\n').unwrap().1.to_owned()
        };
        let (wide, narrow) = (seen(200), seen(50));
        assert!(
            narrow.lines().all(|line| measure_text_width(line) <= 50),
            "{narrow}"
        );
        let words = |text: &str| -> Vec<String> {
            let words = text.split(|c: char| c.is_whitespace() || c == ',');
            let mut words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
            words.retain(|word| !word.starts_with(['#', '-']));
            words.into_iter().map(str::to_owned).collect()
        };
        assert_eq!(words(&narrow), words(&wide), "{narrow}");
        assert!(narrow.contains("1 interrupted"), "{narrow}");
    }
}
