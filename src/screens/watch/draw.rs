//! From the state to the screen, whatever its size.
//!
//! Pure: the same state, size and look give the same cells. What does not fit is
//! left out, the least important first; the panel that is chosen stays.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use console::measure_text_width;

use super::heat;
use super::pen::Pen;
use super::sight::Sight;
use super::state::{Page, Panel, State};
use crate::model::durations;
use crate::model::figures::{grouped, micros, share};
use crate::ui::look::{Look, Paint};
use crate::ui::rate::show_rate;

/// From this width on, what runs and what failed stand side by side.
const WIDE: u16 = 120;

/// Below this height only the chosen panel is drawn.
const LOW: u16 = 9;

/// From this height on the curve is drawn.
const HIGH: u16 = 15;

/// Draws everything.
pub(super) fn draw(state: &State, look: &Look, area: Rect, buffer: &mut Buffer) {
    let mut pen = Pen { buffer, look };
    let foot = u16::from(area.height >= 3);
    let (body, below) = cut(area, area.height - foot);
    footer(&mut pen, below, state);
    match &state.page {
        _ if state.is_help => help(&mut pen, body),
        Some(page) => log(&mut pen, body, page),
        None => overview(&mut pen, body, state),
    }
}

/// The first lines of an area, and the rest.
fn cut(area: Rect, height: u16) -> (Rect, Rect) {
    let height = height.min(area.height);
    let above = Rect { height, ..area };
    let below = Rect {
        y: area.y + height,
        height: area.height - height,
        ..area
    };
    (above, below)
}

fn overview(pen: &mut Pen, area: Rect, state: &State) {
    let lines = match area.height {
        0..5 => 1,
        5..HIGH => 2,
        _ => 3,
    };
    let trouble = state.trouble.as_ref().or(state.sight.trouble.as_ref());
    let (top, mut body) = cut(area, lines);
    head(pen, top, &state.sight);
    if let Some(trouble) = trouble.filter(|_| area.height >= 5) {
        let (line, rest) = cut(body, 1);
        pen.line(line, 0, &format!(" {trouble}"), pen.style(Paint::Bad));
        body = rest;
    }
    if state.is_zoomed || body.height < LOW {
        let next = state.panel.step(1);
        let (above, below) = cut(body, height_of(state, state.panel));
        let is_room = !state.is_zoomed && below.height >= 2;
        panel(pen, if is_room { above } else { body }, state, state.panel);
        if is_room {
            panel(pen, below, state, next);
        }
        return;
    }
    let nodes = height_of(state, Panel::Nodes).min(body.height / 3);
    let (above, body) = cut(body, nodes);
    panel(pen, above, state, Panel::Nodes);
    let height = if body.height >= HIGH / 2 + 4 { 4 } else { 0 };
    let (above, body) = cut(body, if area.height >= HIGH { height } else { 0 });
    curve(pen, above, &state.sight);
    if body.width >= WIDE {
        let half = body.width / 2;
        let left = Rect {
            width: half - 1,
            ..body
        };
        let right = Rect {
            x: body.x + half,
            width: body.width - half,
            ..body
        };
        panel(pen, left, state, Panel::Running);
        panel(pen, right, state, Panel::Failures);
        return;
    }
    let failures = height_of(state, Panel::Failures).min(body.height / 2);
    let (above, below) = cut(body, body.height - failures);
    panel(pen, above, state, Panel::Running);
    panel(pen, below, state, Panel::Failures);
}

/// How many lines a panel would like to have.
fn height_of(state: &State, panel: Panel) -> u16 {
    let rows = state.rows(panel).len().max(1);
    u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(1)
}

/// Where the run stands.
fn head(pen: &mut Pen, area: Rect, sight: &Sight) {
    let (state, paint) = match sight.state {
        "complete" if sight.failed > 0 => ("complete, some tasks failed", Paint::Bad),
        "complete" => ("complete", Paint::Good),
        "running" => ("running", Paint::Good),
        _ => ("stopped, with work left", Paint::Warn),
    };
    let dot = if pen.look.unicode { " · " } else { ", " };
    let done = sight.finished + sight.failed;
    let part = share(done, sight.total).unwrap_or(0.0);
    let percent = format!(
        "{:.1} %  {} of {}",
        (part * 1000.0).floor() / 10.0,
        grouped(done),
        grouped(sight.total)
    );
    // The figures matter more than the name.
    let room = usize::from(area.width).saturating_sub(percent.len() + 3);
    let short = room.saturating_sub(state.len() + 3);
    let name = match pen.look.clip(&sight.workdir, short) {
        name if short >= 8 || name == sight.workdir => format!(" {name}: {state}"),
        _ => pen.look.clip(&format!(" {state}"), room),
    };
    let at = pen.put(area, (0, 0), &name, pen.style(paint));
    let start = area
        .width
        .saturating_sub(u16::try_from(percent.len() + 1).unwrap_or(u16::MAX));
    bar(pen, area, (at + 2, start.saturating_sub(2)), part);
    pen.put(area, (start, 0), &percent, pen.style(Paint::Strong));
    let mut at = 1;
    for (number, word, paint) in [
        (sight.finished, "finished", Paint::Good),
        (sight.failed, "failed", Paint::Bad),
        (sight.running, "running", Paint::Strong),
        (sight.claimed, "claimed", Paint::Faint),
        (sight.waiting, "waiting", Paint::Faint),
    ] {
        if number == 0 && word == "claimed" {
            continue;
        }
        if at > 1 {
            at = pen.put(area, (at, 1), dot, pen.style(Paint::Faint));
        }
        let paint = if number == 0 { Paint::Faint } else { paint };
        let text = format!("{} {word}", grouped(number));
        at = pen.put(area, (at, 1), &text, pen.style(paint));
    }
    times(pen, area, at, sight);
}

/// How fast it goes, and how long it may take: on a line of its own, or behind
/// the figures as far as there is room.
fn times(pen: &mut Pen, area: Rect, at: u16, sight: &Sight) {
    let mut parts = Vec::new();
    if !sight.rate.is_empty() {
        parts.push(format!("rate {}", sight.rate));
    }
    if !sight.left.is_empty() {
        parts.push(format!("left {}", sight.left));
    }
    if sight.is_open {
        parts.push("more may arrive".to_owned());
    }
    if let Some((many, most)) = sight.usual.filter(|_| area.height >= 3) {
        let (many, most) = (durations::show(micros(many)), durations::show(micros(most)));
        parts.push(format!("95 % take at most {many}, the longest took {most}"));
    }
    let dot = if pen.look.unicode { " · " } else { ", " };
    let (mut at, line) = if area.height >= 3 { (1, 2) } else { (at, 1) };
    for part in parts {
        let gap = if at > 1 { dot } else { "" };
        let length = measure_text_width(&part) + measure_text_width(gap);
        if usize::from(area.width.saturating_sub(at)) < length {
            break;
        }
        at = pen.put(area, (at, line), gap, pen.style(Paint::Faint));
        at = pen.put(area, (at, line), &part, Style::new());
    }
}

/// A bar between two columns, when there is room for one.
fn bar(pen: &mut Pen, area: Rect, (from, to): (u16, u16), part: f64) {
    let width = usize::from(to.saturating_sub(from)).min(50);
    if width < 8 {
        return;
    }
    let (full, empty) = if pen.look.unicode {
        ("█", "░")
    } else {
        ("#", "-")
    };
    let filled = (0..width)
        .filter(|cell| heat::fraction(*cell + 1, width) <= part)
        .count();
    let at = pen.put(
        area,
        (from, 0),
        &full.repeat(filled),
        pen.style(Paint::Good),
    );
    let empty = empty.repeat(width - filled);
    pen.put(area, (at, 0), &empty, pen.style(Paint::Faint));
}

/// How many attempts ended a second, over the whole run.
fn curve(pen: &mut Pen, area: Rect, sight: &Sight) {
    if area.height < 2 {
        return;
    }
    let columns = sight.curve.columns(usize::from(area.width));
    let peak = columns.iter().map(|(rate, _)| *rate).fold(0.0, f64::max);
    let title = if peak > 0.0 {
        format!(
            "tasks ended over {}, at most {}",
            durations::show(micros(sight.curve.span())),
            show_rate(peak)
        )
    } else {
        "tasks ended: none yet".to_owned()
    };
    pen.title(area, &title, false);
    let lines = area.height - 1;
    for (column, (rate, is_bad)) in (0..area.width).zip(columns) {
        let paint = if is_bad { Paint::Bad } else { Paint::Good };
        let height = heat::eighths(rate, peak, lines);
        for line in 0..lines {
            let cell = height.saturating_sub((lines - 1 - line) * 8).min(8);
            let text = heat::column(cell, pen.look.unicode);
            pen.put(area, (column, line + 1), text, pen.style(paint));
        }
    }
}

/// A panel with its title, and its rows around the chosen one.
fn panel(pen: &mut Pen, area: Rect, state: &State, panel: Panel) {
    if area.height == 0 {
        return;
    }
    let rows = state.rows(panel);
    let is_chosen = state.panel == panel;
    let title = title(state, panel, rows.len());
    pen.title(area, &title, is_chosen);
    if panel == Panel::Nodes {
        let end = u16::try_from(measure_text_width(&title) + 3).unwrap_or(u16::MAX);
        heat::key(pen, area, end);
    }
    let (_, body) = cut(area, 1);
    if rows.is_empty() {
        let text = match panel {
            _ if !state.filter.is_empty() => "nothing matches the filter",
            Panel::Nodes => "no node yet",
            Panel::Running => "no running task is recorded yet",
            Panel::Failures => "none",
        };
        pen.put(body, (1, 0), text, pen.style(Paint::Faint));
        return;
    }
    let height = usize::from(body.height);
    let cursor = state.cursor(panel).min(rows.len() - 1);
    let top = cursor
        .saturating_sub(height / 2)
        .min(rows.len().saturating_sub(height));
    let shape = heat::Shape::of(&state.sight, body.width);
    for (line, (number, row)) in (0..body.height).zip(rows.iter().enumerate().skip(top)) {
        match panel {
            Panel::Nodes => {
                let sight = &state.sight;
                heat::node(pen, body, line, &sight.nodes[*row], &shape, sight.usual);
            }
            Panel::Running => running(pen, body, line, &state.sight, *row),
            Panel::Failures => failure(pen, body, line, &state.sight, *row),
        }
        if is_chosen && number == cursor {
            pen.choose(body, line);
        }
    }
}

fn title(state: &State, panel: Panel, rows: usize) -> String {
    let sight = &state.sight;
    let (name, all) = match panel {
        Panel::Nodes => (heat::legend(sight), sight.nodes.len() as u64),
        Panel::Running => ("running, the longest first".to_owned(), sight.running),
        Panel::Failures => ("failed, the latest first".to_owned(), sight.failed),
    };
    if rows as u64 == all {
        format!("{} {name}", grouped(all))
    } else {
        format!("{} of {} {name}", grouped(rows as u64), grouped(all))
    }
}

/// A task that runs.
fn running(pen: &mut Pen, area: Rect, line: u16, sight: &Sight, row: usize) {
    let task = &sight.slowest[row];
    let ran = durations::show(micros(task.ran));
    let style = heat::pace(pen, task.ran, sight.usual);
    let cells = [
        (format!("{:>8} ", task.id), pen.style(Paint::Strong)),
        (format!("{ran:>7} "), style),
        (cell(pen, &task.node, 12), pen.style(Paint::Faint)),
    ];
    columns(pen, area, line, &cells, &task.command);
}

/// A task that failed.
fn failure(pen: &mut Pen, area: Rect, line: u16, sight: &Sight, row: usize) {
    let task = &sight.failures[row];
    let ago = durations::show(micros(task.ago));
    let cells = [
        (format!("{:>8} ", task.id), pen.style(Paint::Strong)),
        (cell(pen, &task.outcome, 14), pen.style(Paint::Bad)),
        (format!("{ago:>7} ago "), pen.style(Paint::Faint)),
        (cell(pen, &task.node, 12), pen.style(Paint::Faint)),
    ];
    columns(pen, area, line, &cells, &task.command);
}

/// A column of a list: cut or filled up to its width.
fn cell(pen: &Pen, text: &str, width: usize) -> String {
    format!("{:<width$} ", pen.look.clip(text, width))
}

/// A line of a list: its columns, and the command in what is left of the line.
fn columns(pen: &mut Pen, area: Rect, line: u16, cells: &[(String, Style)], command: &str) {
    let mut at = 0;
    for (text, style) in cells {
        at = pen.put(area, (at, line), text, *style);
    }
    let room = usize::from(area.width.saturating_sub(at));
    let text = pen.look.clip(command, room);
    pen.put(area, (at, line), &text, Style::new());
}

/// What a task printed.
fn log(pen: &mut Pen, area: Rect, page: &Page) {
    let notes = &page.log.notes;
    let count = if area.height >= 8 {
        notes.len().max(1)
    } else {
        1
    };
    let (top, body) = cut(area, u16::try_from(count).unwrap_or(1));
    let name = format!(" task {}", page.log.id);
    pen.line(top, 0, &name, pen.style(Paint::Strong));
    for (line, note) in (0..top.height).zip(notes) {
        let paint = if line == 0 {
            Paint::Strong
        } else {
            Paint::Faint
        };
        pen.line(top, line, &format!(" {note}"), pen.style(paint));
    }
    let lines = page.shown();
    let (last, more) = (lines.len().saturating_sub(page.below), page.below);
    let mut title = match (lines.len(), page.log.is_cut) {
        (count, false) => format!("{} lines", grouped(count as u64)),
        (count, true) => format!("the last {} lines", grouped(count as u64)),
    };
    if more > 0 {
        title += &format!(", {} below", grouped(more as u64));
    }
    if !page.filter.is_empty() {
        title += &format!(" with '{}'", page.filter);
    }
    pen.title(body, &title, true);
    let (_, body) = cut(body, 1);
    let say = match &page.log.trouble {
        Some(trouble) => trouble,
        None if !page.is_read => "reading",
        None if page.log.lines.is_empty() => "it has printed nothing",
        None => "",
    };
    pen.line(body, 0, say, pen.style(Paint::Faint));
    let first = last.saturating_sub(usize::from(body.height));
    // A log that is shorter than the screen never scrolls off it.
    let shown = lines.iter().skip(first);
    for (line, text) in (0..body.height).zip(shown) {
        let text: String = text.chars().skip(page.aside).collect();
        pen.line(body, line, &text, Style::new());
    }
}

/// All keys and marks, explained.
fn help(pen: &mut Pen, area: Rect) {
    const LINES: [(&str, &str); 17] = [
        (
            "Tab, Left, Right",
            "the next panel, the one before: nodes, running, failed",
        ),
        ("Up, Down, k, j", "move; in a log: scroll"),
        ("PgUp, PgDn, Space", "ten lines at a time"),
        (
            "Home, End, g, G",
            "to the top, to the end; End follows a log that grows",
        ),
        ("Enter", "the log of the task; on a node: its tasks"),
        (
            "Esc, Backspace",
            "back from a log; Esc takes a filter away, else leaves",
        ),
        (
            "/",
            "filter rows by id, node, outcome, command; in a log: lines",
        ),
        ("z", "the panel alone on the screen"),
        ("Ctrl-L, Ctrl-Z", "draw anew, suspend"),
        ("q, Ctrl-C", "leave: the run goes on"),
        ("", ""),
        (
            "a slot",
            "its height is how long its task has run, its colour whether that is usual",
        ),
        (
            ". or a dot",
            "it has no task, or one too short to be recorded",
        ),
        ("-", "its farmer has left in good order"),
        ("x", "its farmer is dead"),
        ("", ""),
        ("any key", "back"),
    ];
    pen.title(area, "keys and marks", true);
    let (_, body) = cut(area, 1);
    for (line, (key, what)) in (0..body.height).zip(LINES) {
        let at = pen.put(
            body,
            (1, line),
            &format!("{key:<18}"),
            pen.style(Paint::Strong),
        );
        let room = usize::from(body.width.saturating_sub(at));
        let what = pen.look.clip(what, room);
        pen.put(body, (at, line), &what, Style::new());
    }
}

/// The keys, or the filter that is being typed.
fn footer(pen: &mut Pen, area: Rect, state: &State) {
    let filter = match &state.page {
        Some(page) => &page.filter,
        None => &state.filter,
    };
    if state.is_typing {
        let text = format!(" filter: {filter}_   Enter keep  Esc clear");
        pen.line(area, 0, &text, pen.style(Paint::Strong));
        return;
    }
    let arrows = if pen.look.unicode {
        "↑↓"
    } else {
        "Up/Down"
    };
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
    let mut at = 1;
    for (key, what) in keys {
        let room = area.width.saturating_sub(at);
        let length = measure_text_width(key) + what.len() + 1;
        if usize::from(room) < length {
            break;
        }
        at = pen.put(area, (at, 0), key, pen.style(Paint::Strong));
        at = pen.put(area, (at + 1, 0), what, pen.style(Paint::Faint)) + 2;
    }
    if !filter.is_empty() {
        let text = format!("[{filter}]");
        pen.put(area, (at, 0), &text, pen.style(Paint::Warn));
    }
}
