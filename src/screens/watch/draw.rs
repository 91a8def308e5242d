//! From the state to the screen, whatever its size, with ratatui's widgets.
//!
//! Pure: the same state, size and look give the same cells. What does not fit is
//! left out, the least important first; the panel that is chosen stays.

use console::measure_text_width;
use ratatui::buffer::Buffer;
use ratatui::layout::Constraint::{Fill, Length};
use ratatui::layout::{Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{
    LineGauge, Paragraph, Row, Sparkline, SparklineBar, StatefulWidget, Table, TableState,
    Widget as _,
};

use super::snapshot::{FailedRow, NodeRow, RunningRow, Snapshot};
use super::state::{Page, Panel, State};
use super::theme::Theme;
use crate::history::run::FarmerState;
use crate::model::durations;
use crate::model::figures::{grouped, micros, share};
use crate::model::record::NodeHealth;
use crate::ui::rate::show_rate;
use crate::ui::style::{OutputStyle, Paint};

/// From this width on, what runs and what failed stand side by side.
const WIDE: u16 = 120;

/// Below this width the table of nodes has its first columns only.
const NARROW: u16 = 60;

/// Below this height only the chosen panel is drawn.
const LOW: u16 = 9;

/// From this height on the rate over time is drawn.
const HIGH: u16 = 15;

/// How high it is, with its title.
const RATE: u16 = 4;

/// The greatest height of the rate over time, in parts.
const TOP: u64 = 1000;

/// Draws everything.
pub(super) fn draw(state: &State, style: &OutputStyle, area: Rect, buffer: &mut Buffer) {
    let theme = Theme { style };
    let foot = Length(u16::from(area.height >= 3));
    let [body, below] = Layout::vertical([Fill(1), foot]).areas(area);
    footer(&theme, state, below).render(below, buffer);
    match &state.page {
        _ if state.is_help => help(&theme, body, buffer),
        Some(page) => log(&theme, page, body, buffer),
        None => overview(&theme, state, body, buffer),
    }
}

fn overview(theme: &Theme, state: &State, area: Rect, buffer: &mut Buffer) {
    let lines = match area.height {
        0..5 => 1,
        5..HIGH => 2,
        _ => 3,
    };
    let problem = state
        .read_error
        .as_ref()
        .or(state.snapshot.problem.as_ref());
    let problem = problem.filter(|_| area.height >= 5);
    let trouble_lines = u16::from(problem.is_some());
    let [top, line, body] =
        Layout::vertical([Length(lines), Length(trouble_lines), Fill(1)]).areas(area);
    head(theme, &state.snapshot, top, buffer);
    if let Some(problem) = problem {
        let text = theme.style.clip(&format!(" {problem}"), line.width.into());
        Line::styled(text, theme.style(Paint::Bad)).render(line, buffer);
    }
    if state.is_zoomed || body.height < LOW {
        let wanted = height_of(state, state.panel);
        let [above, below] = Layout::vertical([Length(wanted), Fill(1)]).areas(body);
        let has_room = !state.is_zoomed && below.height >= 2;
        panel(
            theme,
            state,
            state.panel,
            if has_room { above } else { body },
            buffer,
        );
        if has_room {
            panel(theme, state, state.panel.step(1), below, buffer);
        }
        return;
    }
    let nodes = height_of(state, Panel::Nodes).min(body.height / 3);
    let has_rate = area.height >= HIGH && body.height - nodes >= LOW + 2;
    let rate_lines = if has_rate { RATE } else { 0 };
    let [above, middle, body] =
        Layout::vertical([Length(nodes), Length(rate_lines), Fill(1)]).areas(body);
    panel(theme, state, Panel::Nodes, above, buffer);
    rate(theme, &state.snapshot, middle, buffer);
    let [first, second] = if body.width >= WIDE {
        Layout::horizontal([Fill(1), Fill(1)])
            .spacing(1)
            .areas(body)
    } else {
        let failures = height_of(state, Panel::Failures).min(body.height / 2);
        Layout::vertical([Fill(1), Length(failures)]).areas(body)
    };
    panel(theme, state, Panel::Running, first, buffer);
    panel(theme, state, Panel::Failures, second, buffer);
}

/// How many lines a panel would like to have.
fn height_of(state: &State, panel: Panel) -> u16 {
    let rows = state.rows(panel).len().max(1);
    u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(1)
}

/// Where the run stands: its state and how much is done, how many tasks are where, and
/// how fast it goes.
fn head(theme: &Theme, snapshot: &Snapshot, area: Rect, buffer: &mut Buffer) {
    let (state, paint) = match snapshot.state {
        "complete" if snapshot.failed > 0 => ("complete, some tasks failed", Paint::Bad),
        "complete" => ("complete", Paint::Good),
        "running" => ("running", Paint::Good),
        _ => ("stopped, with work left", Paint::Warn),
    };
    let line = |number: u16| Rect {
        y: area.y + number,
        height: u16::from(number < area.height),
        ..area
    };
    let done = snapshot.finished + snapshot.failed;
    let part = share(done, snapshot.total).unwrap_or(0.0).min(1.0);
    let percent = format!(
        "{:.1} %  {} of {}",
        (part * 1000.0).floor() / 10.0,
        grouped(done),
        grouped(snapshot.total)
    );
    // The figures matter more than the name.
    let width = usize::from(area.width);
    let room = width.saturating_sub(percent.len() + 4);
    let name_room = room.saturating_sub(state.len() + 3);
    let name = match theme.style.clip(&snapshot.workdir, name_room) {
        name if name_room >= 8 || name == snapshot.workdir => format!(" {name}: {state}"),
        _ => theme.style.clip(&format!(" {state}"), room),
    };
    let used = u16::try_from(measure_text_width(&name) + 2).unwrap_or(u16::MAX);
    let [left, right] = Layout::horizontal([Length(used), Fill(1)]).areas(line(0));
    Line::styled(name, theme.style(paint)).render(left, buffer);
    LineGauge::default()
        .ratio(part)
        .label(Span::styled(percent, theme.style(Paint::Strong)))
        .filled_symbol(theme.choose("█", "#"))
        .unfilled_symbol(theme.choose("░", "-"))
        .filled_style(theme.style(Paint::Good))
        .unfilled_style(theme.style(Paint::Faint))
        .render(right, buffer);
    counts(theme, snapshot).render(line(1), buffer);
    speed(theme, snapshot, width).render(line(2), buffer);
}

fn counts(theme: &Theme, snapshot: &Snapshot) -> Line<'static> {
    let parts = [
        (snapshot.finished, "finished", Paint::Good),
        (snapshot.failed, "failed", Paint::Bad),
        (snapshot.running, "running", Paint::Strong),
        (snapshot.claimed, "claimed", Paint::Faint),
        (snapshot.waiting, "waiting", Paint::Faint),
    ];
    let parts = parts
        .into_iter()
        .filter(|(number, word, _)| *number > 0 || *word != "claimed");
    let parts = parts.map(|(number, word, paint)| {
        let paint = if number == 0 { Paint::Faint } else { paint };
        Span::styled(format!("{} {word}", grouped(number)), theme.style(paint))
    });
    theme.joined(parts.collect(), usize::MAX)
}

/// How fast it goes, and how long it may take, as far as there is room.
fn speed(theme: &Theme, snapshot: &Snapshot, width: usize) -> Line<'static> {
    let mut parts = Vec::new();
    if !snapshot.rate.is_empty() {
        parts.push(format!("rate {}", snapshot.rate));
    }
    if !snapshot.left.is_empty() {
        parts.push(format!("left {}", snapshot.left));
    }
    if snapshot.is_open {
        parts.push("more may arrive".to_owned());
    }
    if let Some((many, most)) = snapshot.usual {
        let (many, most) = (durations::show(micros(many)), durations::show(micros(most)));
        parts.push(format!("95 % take at most {many}, the longest took {most}"));
    }
    theme.joined(parts.into_iter().map(Span::raw).collect(), width)
}

/// How many attempts ended per second, over the whole run.
fn rate(theme: &Theme, snapshot: &Snapshot, area: Rect, buffer: &mut Buffer) {
    if area.height < 2 {
        return;
    }
    let columns = snapshot.curve.columns(usize::from(area.width));
    let peak = columns.iter().map(|(rate, _)| *rate).fold(0.0, f64::max);
    let title = if peak > 0.0 {
        let span = durations::show(micros(snapshot.curve.span()));
        format!("tasks ended over {span}, at most {}", show_rate(peak))
    } else {
        "tasks ended: none yet".to_owned()
    };
    let bar = |(rate, has_failed): (f64, bool)| {
        let paint = if has_failed { Paint::Bad } else { Paint::Good };
        SparklineBar::from(height(rate, peak)).style(theme.style(paint))
    };
    Sparkline::default()
        .block(theme.block(&title, false))
        .data(columns.into_iter().map(bar).collect::<Vec<_>>())
        .max(TOP)
        .bar_set(theme.bars())
        .render(area, buffer);
}

/// How high a rate is drawn; a tenth at least where it is not 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and TOP"
)]
fn height(rate: f64, peak: f64) -> u64 {
    if rate <= 0.0 || peak <= 0.0 {
        return 0;
    }
    (rate / peak * crate::model::figures::float(TOP)).max(100.0) as u64
}

/// A panel with its title, and its rows around the chosen one.
fn panel(theme: &Theme, state: &State, panel: Panel, area: Rect, buffer: &mut Buffer) {
    let rows = state.rows(panel);
    let is_chosen = state.panel == panel;
    let block = theme.block(&title(state, panel, rows.len()), is_chosen);
    if rows.is_empty() {
        let text = match panel {
            _ if !state.filter.is_empty() => " nothing matches the filter",
            Panel::Nodes => " no node yet",
            Panel::Running => " no running task is recorded yet",
            Panel::Failures => " none",
        };
        return Paragraph::new(Span::styled(text, theme.style(Paint::Faint)))
            .block(block)
            .render(area, buffer);
    }
    let snapshot = &state.snapshot;
    let widths = match panel {
        Panel::Nodes => {
            let names = snapshot.nodes.iter();
            let name = names.map(|node| measure_text_width(&node.host)).max();
            let name = u16::try_from(name.unwrap_or(0).min(24)).unwrap_or(24);
            if area.width < NARROW {
                vec![Length(name), Length(6), Length(9), Fill(1)]
            } else {
                vec![
                    Length(name),
                    Length(6),
                    Length(9),
                    Length(13),
                    Length(15),
                    Fill(1),
                ]
            }
        }
        Panel::Running => vec![Length(8), Length(7), Length(12), Fill(1)],
        Panel::Failures => vec![Length(8), Length(14), Length(11), Length(12), Fill(1)],
    };
    let taken: u16 = widths
        .iter()
        .map(|width| {
            if let Length(width) = width {
                width + 1
            } else {
                0
            }
        })
        .sum();
    let room = usize::from(area.width.saturating_sub(taken));
    let shown = rows.iter().map(|&row| match panel {
        Panel::Nodes => node(theme, &snapshot.nodes[row]),
        Panel::Running => running(theme, snapshot, &snapshot.running_tasks[row], room),
        Panel::Failures => failure(theme, &snapshot.failures[row], room),
    });
    let height = usize::from(area.height.saturating_sub(1));
    let cursor = state.cursor(panel).min(rows.len() - 1);
    let top = cursor
        .saturating_sub(height / 2)
        .min(rows.len().saturating_sub(height));
    let table = Table::new(shown.collect::<Vec<_>>(), widths)
        .block(block)
        .row_highlight_style(Theme::chosen());
    let mut table_state = TableState::new()
        .with_offset(top)
        .with_selected(is_chosen.then_some(cursor));
    StatefulWidget::render(table, area, buffer, &mut table_state);
}

fn title(state: &State, panel: Panel, rows: usize) -> String {
    let snapshot = &state.snapshot;
    let (name, all) = match panel {
        Panel::Nodes => (states(snapshot), snapshot.nodes.len() as u64),
        Panel::Running => ("running, the longest first".to_owned(), snapshot.running),
        Panel::Failures => ("failed, the latest first".to_owned(), snapshot.failed),
    };
    if rows as u64 == all {
        format!("{} {name}", grouped(all))
    } else {
        format!("{} of {} {name}", grouped(rows as u64), grouped(all))
    }
}

/// How many nodes are in which state.
fn states(snapshot: &Snapshot) -> String {
    let words = ["alive", "unsure", "sick", "silent", "dead", "lost", "left"];
    let count = |word: &&str| {
        snapshot
            .nodes
            .iter()
            .filter(|node| node.word() == *word)
            .count()
    };
    let parts = words.iter().map(|word| (count(word), word));
    let parts: Vec<String> = parts
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    if parts.is_empty() {
        "nodes".to_owned()
    } else {
        format!("nodes: {}", parts.join(", "))
    }
}

fn node(theme: &Theme, node: &NodeRow) -> Row<'static> {
    let paint = match node.state {
        FarmerState::Alive if node.health != NodeHealth::Healthy => Paint::Bad,
        FarmerState::Alive => Paint::Good,
        FarmerState::Silent(_) | FarmerState::Lost => Paint::Warn,
        FarmerState::Dead => Paint::Bad,
        FarmerState::Left => Paint::Faint,
    };
    let busy = format!("{}/{}", node.busy, node.slots);
    let failed = if node.failed > 0 {
        Paint::Bad
    } else {
        Paint::Faint
    };
    let longest = node.longest.map_or_else(String::new, |ran| {
        format!("longest {}", durations::show(micros(ran)))
    });
    Row::new([
        Span::styled(node.host.clone(), theme.style(Paint::Strong)),
        Span::styled(node.word(), theme.style(paint)),
        Span::styled(format!("{busy:>9}"), theme.style(Paint::Faint)),
        Span::styled(
            format!("{:>6} failed", grouped(node.failed)),
            theme.style(failed),
        ),
        Span::styled(
            format!("{:>6} finished", grouped(node.finished)),
            theme.style(Paint::Faint),
        ),
        Span::raw(longest),
    ])
}

fn running(theme: &Theme, snapshot: &Snapshot, task: &RunningRow, room: usize) -> Row<'static> {
    let ran = durations::show(micros(task.ran));
    let style = match snapshot.usual {
        Some((_, most)) if task.ran > most => theme.longest(),
        Some((many, _)) if task.ran > many => theme.style(Paint::Warn),
        _ => theme.style(Paint::Good),
    };
    Row::new([
        Span::styled(format!("{:>8}", task.id), theme.style(Paint::Strong)),
        Span::styled(format!("{ran:>7}"), style),
        Span::styled(theme.style.clip(&task.node, 12), theme.style(Paint::Faint)),
        Span::raw(theme.style.clip(&task.command, room)),
    ])
}

fn failure(theme: &Theme, task: &FailedRow, room: usize) -> Row<'static> {
    let ago = durations::show(micros(task.ago));
    Row::new([
        Span::styled(format!("{:>8}", task.id), theme.style(Paint::Strong)),
        Span::styled(theme.style.clip(&task.outcome, 14), theme.style(Paint::Bad)),
        Span::styled(format!("{ago:>7} ago"), theme.style(Paint::Faint)),
        Span::styled(theme.style.clip(&task.node, 12), theme.style(Paint::Faint)),
        Span::raw(theme.style.clip(&task.command, room)),
    ])
}

/// What a task printed.
fn log(theme: &Theme, page: &Page, area: Rect, buffer: &mut Buffer) {
    let notes = &page.log.notes;
    let count = if area.height >= 8 {
        notes.len().max(1)
    } else {
        1
    };
    let count = u16::try_from(count).unwrap_or(1);
    let [top, body] = Layout::vertical([Length(count), Fill(1)]).areas(area);
    let name = format!("task {}", page.log.id);
    let notes = notes.iter().map(String::as_str);
    let notes = notes.chain((page.log.notes.is_empty()).then_some(&*name));
    let notes = notes.enumerate().map(|(line, note)| {
        let paint = if line == 0 {
            Paint::Strong
        } else {
            Paint::Faint
        };
        let text = theme.style.clip(&format!(" {note}"), top.width.into());
        Line::styled(text, theme.style(paint))
    });
    Paragraph::new(notes.collect::<Vec<_>>()).render(top, buffer);
    let lines = page.shown();
    let mut title = match (lines.len(), page.log.is_cut) {
        (count, false) => format!("{} lines", grouped(count as u64)),
        (count, true) => format!("the last {} lines", grouped(count as u64)),
    };
    if page.below > 0 {
        title += &format!(", {} below", grouped(page.below as u64));
    }
    if !page.filter.is_empty() {
        title += &format!(" with '{}'", page.filter);
    }
    let block = theme.block(&title, true);
    let body_lines = usize::from(block.inner(body).height);
    let say = match &page.log.error {
        Some(error) => error,
        None if !page.is_read => "reading",
        None if page.log.lines.is_empty() => "it has printed nothing",
        None => "",
    };
    // A log that is shorter than the screen never scrolls off it.
    let first = lines
        .len()
        .saturating_sub(page.below)
        .saturating_sub(body_lines);
    let shown = lines.iter().skip(first).take(body_lines).map(|text| {
        let text: String = text.chars().skip(page.aside).collect();
        Line::raw(theme.style.clip(&text, body.width.into()))
    });
    let mut shown: Vec<Line> = shown.collect();
    if shown.is_empty() {
        shown.push(Line::styled(say, theme.style(Paint::Faint)));
    }
    Paragraph::new(shown).block(block).render(body, buffer);
}

/// All keys and marks, explained.
fn help(theme: &Theme, area: Rect, buffer: &mut Buffer) {
    const LINES: [(&str, &str); 18] = [
        (
            "Tab, Left, Right",
            "next or previous panel: nodes, running, failed",
        ),
        ("Up, Down, k, j", "move; in a log: scroll"),
        ("PgUp, PgDn, Space", "ten lines at a time"),
        (
            "Home, End, g, G",
            "to the top, to the end; End follows a growing log",
        ),
        ("Enter", "the log of the task; on a node: its tasks"),
        (
            "Esc, Backspace",
            "back from a log; Esc removes a filter, else leaves",
        ),
        (
            "/",
            "filter rows by id, node, outcome, command; in a log: lines",
        ),
        ("z", "show the chosen panel alone"),
        ("Ctrl-L, Ctrl-Z", "draw again, suspend"),
        ("q, Ctrl-C", "leave: the run goes on"),
        ("", ""),
        ("silent", "its farmer sent no heartbeat for 30 s"),
        (
            "dead",
            "its farmer is dead: no process, or no heartbeat for 2 minutes",
        ),
        ("lost", "its farmer is dead, and its tasks were requeued"),
        ("left", "its farmers have left in good order"),
        ("unsure, sick", "its failures are tried on other nodes"),
        ("", ""),
        ("any key", "back"),
    ];
    let rows = LINES.iter().map(|(key, what)| {
        Row::new([
            Span::styled(format!(" {key}"), theme.style(Paint::Strong)),
            Span::raw(
                theme
                    .style
                    .clip(what, usize::from(area.width.saturating_sub(20))),
            ),
        ])
    });
    let table = Table::new(rows.collect::<Vec<_>>(), [Length(19), Fill(1)]);
    let table = table.block(theme.block("keys and marks", true));
    ratatui::widgets::Widget::render(table, area, buffer);
}

/// The keys, or the filter that is being typed.
fn footer<'a>(theme: &Theme, state: &State, area: Rect) -> Line<'a> {
    let filter = match &state.page {
        Some(page) => &page.filter,
        None => &state.filter,
    };
    if state.is_typing {
        let text = format!(" filter: {filter}_   Enter keep  Esc clear");
        let text = theme.style.clip(&text, area.width.into());
        return Line::styled(text, theme.style(Paint::Strong));
    }
    let arrows = theme.choose("↑↓", "Up/Down");
    let keys: &[(&str, &str)] = match &state.page {
        Some(_) => &[
            ("q", "leave"),
            ("Esc", "back"),
            (arrows, "scroll"),
            ("End", "follow"),
            ("/", "filter"),
            ("?", "help"),
        ],
        None => &[
            ("q", "leave"),
            ("Tab", "panel"),
            (arrows, "move"),
            ("Enter", "log"),
            ("/", "filter"),
            ("z", "zoom"),
            ("?", "help"),
        ],
    };
    let mut line = Line::raw(" ");
    for (key, what) in keys {
        if line.width() + measure_text_width(key) + what.len() + 1 > usize::from(area.width) {
            break;
        }
        line.push_span(Span::styled(key.to_string(), theme.style(Paint::Strong)));
        line.push_span(Span::styled(
            format!(" {what}  "),
            theme.style(Paint::Faint),
        ));
    }
    if !filter.is_empty() {
        line.push_span(Span::styled(
            format!("[{filter}]"),
            theme.style(Paint::Warn),
        ));
    }
    line
}
