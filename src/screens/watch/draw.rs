//! Draws the state on a terminal of any size, with ratatui's widgets.
//!
//! Pure: the same state, size and style give the same cells. What does not fit is left out, the
//! least important first; the chosen panel is always drawn.

use console::measure_text_width;
use ratatui::buffer::Buffer;
use ratatui::layout::Constraint::{Fill, Length};
use ratatui::layout::{Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{
    LineGauge, Paragraph, Row, Sparkline, SparklineBar, StatefulWidget, Table, TableState,
    Widget as _,
};

use super::snapshot::Snapshot;
use super::state::{Page, Panel, ScreenState};
use super::theme::Theme;
use crate::model::durations;
use crate::model::figures::{float, grouped, micros, share};
use crate::ui::rate::show_rate;
use crate::ui::style::{OutputStyle, Paint};

/// From this width on, the panels of running and of failed tasks are side by side.
const WIDE: u16 = 120;

/// Below this width the table of nodes has only its first columns.
const NARROW: u16 = 60;

/// Below this height only the chosen panel is drawn.
const LOW: u16 = 9;

/// From this height on, the rate over time is drawn.
const HIGH: u16 = 15;

/// The height of that chart, with its title.
const RATE: u16 = 4;

/// The value of the tallest bar in that chart.
const TOP: u64 = 1000;

/// Draws everything.
pub(super) fn draw(state: &ScreenState, output: &OutputStyle, area: Rect, buffer: &mut Buffer) {
    let theme = Theme { output };
    let foot = Length(u16::from(area.height >= 3));
    let [body, below] = Layout::vertical([Fill(1), foot]).areas(area);
    footer(&theme, state, below).render(below, buffer);
    match &state.page {
        _ if state.is_help => help(&theme, body, buffer),
        Some(page) => log(&theme, page, body, buffer),
        None => overview(&theme, state, body, buffer),
    }
}

fn overview(theme: &Theme, state: &ScreenState, area: Rect, buffer: &mut Buffer) {
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
    let problem_lines = u16::from(problem.is_some());
    let [top, line, body] =
        Layout::vertical([Length(lines), Length(problem_lines), Fill(1)]).areas(area);
    head(theme, &state.snapshot, top, buffer);
    if let Some(problem) = problem {
        let text = theme.output.clip(&format!(" {problem}"), line.width.into());
        Line::styled(text, theme.style(Paint::Bad)).render(line, buffer);
    }
    if state.is_zoomed || body.height < LOW {
        let wanted = height_of(state, state.panel);
        let [above, below] = Layout::vertical([Length(wanted), Fill(1)]).areas(body);
        let has_room = !state.is_zoomed && below.height >= 2;
        let area = if has_room { above } else { body };
        panel(theme, state, state.panel, area, buffer);
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
fn height_of(state: &ScreenState, panel: Panel) -> u16 {
    let rows = state.rows(panel).len().max(1);
    u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(1)
}

/// The head: the state of the run and its progress, the numbers of tasks, and the speed.
fn head(theme: &Theme, snapshot: &Snapshot, area: Rect, buffer: &mut Buffer) {
    let (state, paint) = snapshot.state;
    let line = |number: u16| Rect {
        y: area.y + number,
        height: u16::from(number < area.height),
        ..area
    };
    let part = share(snapshot.done, snapshot.total).unwrap_or(0.0).min(1.0);
    let percent = format!(
        "{:.1} %  {} of {}",
        (part * 1000.0).floor() / 10.0,
        grouped(snapshot.done),
        grouped(snapshot.total)
    );
    // The figures have precedence over the name.
    let width = usize::from(area.width);
    let room = width.saturating_sub(percent.len() + 4);
    let name_room = room.saturating_sub(state.len() + 3);
    let name = match theme.output.clip(&snapshot.workdir, name_room) {
        name if name_room >= 8 || name == snapshot.workdir => format!(" {name}: {state}"),
        _ => theme.output.clip(&format!(" {state}"), room),
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
    let counts = snapshot.counts.iter().map(|(number, word, paint)| {
        let paint = if *number == 0 { Paint::Faint } else { *paint };
        Span::styled(format!("{} {word}", grouped(*number)), theme.style(paint))
    });
    theme.joined(counts, usize::MAX).render(line(1), buffer);
    let speed = snapshot.speed.iter().map(|part| Span::raw(part.clone()));
    theme.joined(speed, width).render(line(2), buffer);
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

/// The height of a bar: at least a tenth of the tallest where the rate is not 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and TOP"
)]
fn height(rate: f64, peak: f64) -> u64 {
    if rate <= 0.0 || peak <= 0.0 {
        return 0;
    }
    (rate / peak * float(TOP)).max(100.0) as u64
}

/// A panel with its title, and its rows around the chosen one.
fn panel(theme: &Theme, state: &ScreenState, panel: Panel, area: Rect, buffer: &mut Buffer) {
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
    let widths: &[u16] = match panel {
        Panel::Nodes => {
            let name = rows.iter().map(|row| measure_text_width(&row.name)).max();
            let name = u16::try_from(name.unwrap_or(0).min(24)).unwrap_or(24);
            let columns = if area.width < NARROW { 3 } else { 5 };
            &[name, 6, 9, 13, 15][..columns]
        }
        Panel::Running => &[8, 7, 12],
        Panel::Failures => &[8, 14, 11, 12],
    };
    let taken: u16 = widths.iter().map(|width| width + 1).sum();
    let room = usize::from(area.width.saturating_sub(taken));
    let shown = rows.iter().map(|row| {
        let cells = row.cells.iter().enumerate().map(|(column, (text, paint))| {
            let width = widths.get(column).map_or(room, |width| usize::from(*width));
            Span::styled(theme.output.clip(text, width), theme.style(*paint))
        });
        cells
            .chain([Span::raw(theme.output.clip(&row.rest, room))])
            .collect::<Row>()
    });
    let height = usize::from(area.height.saturating_sub(1));
    let cursor = state.cursor(panel).min(rows.len() - 1);
    let top = cursor
        .saturating_sub(height / 2)
        .min(rows.len().saturating_sub(height));
    let widths = widths.iter().map(|width| Length(*width)).chain([Fill(1)]);
    let table = Table::new(shown, widths)
        .block(block)
        .row_highlight_style(Theme::chosen());
    let mut table_state = TableState::new()
        .with_offset(top)
        .with_selected(is_chosen.then_some(cursor));
    StatefulWidget::render(table, area, buffer, &mut table_state);
}

fn title(state: &ScreenState, panel: Panel, rows: usize) -> String {
    let (name, all) = &state.snapshot.titles[panel as usize];
    let all = grouped(*all);
    match grouped(rows as u64) {
        rows if rows == all => format!("{all} {name}"),
        rows => format!("{rows} of {all} {name}"),
    }
}

/// What a task printed.
fn log(theme: &Theme, page: &Page, area: Rect, buffer: &mut Buffer) {
    let name = format!("task {}", page.log.id);
    let notes: Vec<&str> = match &page.log.notes[..] {
        [] => vec![&name],
        notes => notes.iter().map(String::as_str).collect(),
    };
    let count = if area.height >= 8 { notes.len() } else { 1 };
    let count = u16::try_from(count).unwrap_or(1);
    let [top, body] = Layout::vertical([Length(count), Fill(1)]).areas(area);
    let notes = notes.iter().enumerate().map(|(line, note)| {
        let paint = if line == 0 {
            Paint::Strong
        } else {
            Paint::Faint
        };
        let text = theme.output.clip(&format!(" {note}"), top.width.into());
        Line::styled(text, theme.style(paint))
    });
    Paragraph::new(notes.collect::<Vec<_>>()).render(top, buffer);
    let lines = page.shown();
    let mut title = match (lines.len(), page.log.is_cut) {
        (1, false) => "1 line".to_owned(),
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
    // A log that is shorter than the screen cannot be scrolled off it.
    let first = lines
        .len()
        .saturating_sub(page.below)
        .saturating_sub(body_lines);
    let shown = lines.iter().skip(first).take(body_lines).map(|text| {
        let text: String = text.chars().skip(page.aside).collect();
        Line::raw(theme.output.clip(&text, body.width.into()))
    });
    let mut shown: Vec<Line> = shown.collect();
    if shown.is_empty() {
        shown.push(Line::styled(say, theme.style(Paint::Faint)));
    }
    Paragraph::new(shown).block(block).render(body, buffer);
}

/// All keys and marks, explained.
fn help(theme: &Theme, area: Rect, buffer: &mut Buffer) {
    const LINES: &str = "\
Tab, Left, Right: next or previous panel: nodes, running, failed
Up, Down, k, j: move; in a log: scroll
PgUp, PgDn, Space: ten lines at a time
Home, End, g, G: to the top, to the end; End follows a growing log
Enter: the log of the task; on a node: its tasks
Esc, Backspace: back from a log; Esc removes a filter, else leaves
/: filter rows by id, node, outcome, command; in a log: lines
z: show the chosen panel alone
Ctrl-L, Ctrl-Z: draw again, suspend
q, Ctrl-C: leave: the run goes on

silent: its farmer sent no heartbeat for 30 s
dead: its farmer is dead: no process, or no heartbeat for 2 minutes
lost: its farmer is dead, and its tasks were requeued
left: its farmers have left in good order
draining: it finishes its running tasks, and starts no more
unsure, sick: its failures are tried on other nodes

any key: back";
    let room = usize::from(area.width.saturating_sub(20));
    let rows = LINES.lines().map(|line| {
        let (key, what) = line.split_once(": ").unwrap_or_default();
        let key = Span::styled(format!(" {key}"), theme.style(Paint::Strong));
        Row::new([key, Span::raw(theme.output.clip(what, room))])
    });
    let table = Table::new(rows, [Length(19), Fill(1)]);
    let table = table.block(theme.block("keys and marks", true));
    ratatui::widgets::Widget::render(table, area, buffer);
}

/// The keys, or the filter that is being typed.
fn footer<'a>(theme: &Theme, state: &ScreenState, area: Rect) -> Line<'a> {
    let filter = state.filter();
    if state.is_typing {
        let text = format!(" filter: {filter}_   Enter keep  Esc clear");
        let text = theme.output.clip(&text, area.width.into());
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
