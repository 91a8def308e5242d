//! The heat map of nodes and slots: the height of a cell says for how long its
//! task has run, its colour whether that is usual.
//!
//! Without colours the characters still tell busy, idle and dead apart.

use ratatui::layout::Rect;
use ratatui::style::{Color, Style};

use console::measure_text_width;

use super::pen::{Pen, STRANGE};
use super::sight::{NodeSight, Sight, Slot};
use crate::history::run::Life;
use crate::model::record::NodeHealth;
use crate::ui::look::Paint;

/// From which time on, in seconds, a task is drawn one level higher.
const LEVELS: [(u64, &str); 7] = [
    (1, "1s"),
    (10, "10s"),
    (60, "1m"),
    (600, "10m"),
    (3600, "1h"),
    (6 * 3600, "6h"),
    (86400, "1d"),
];

const SECOND: u64 = 1_000_000;

/// The columns of the map.
pub(super) struct Shape {
    host: usize,
    /// Whether the state of a node has room to be a word.
    has_words: bool,
    /// How many slots are in a cell.
    group: usize,
    cells: usize,
}

impl Shape {
    /// For the nodes of a run and a width.
    pub(super) fn of(sight: &Sight, width: u16) -> Self {
        let width = usize::from(width);
        let names = sight
            .nodes
            .iter()
            .map(|node| measure_text_width(&node.host));
        let host = names.max().unwrap_or(0).min(24).min(width / 4);
        let has_words = width >= 60;
        let taken = host + if has_words { 7 } else { 2 } + 10;
        let cells = width.saturating_sub(taken).max(1);
        let most = sight.nodes.iter().map(|node| node.slots.len()).max();
        Self {
            host,
            has_words,
            group: most.unwrap_or(0).div_ceil(cells).max(1),
            cells,
        }
    }
}

/// What stands over the map.
pub(super) fn legend(sight: &Sight) -> String {
    let mut text = "nodes".to_owned();
    let mut parts = Vec::new();
    for word in ["alive", "unsure", "sick", "silent", "dead", "lost", "left"] {
        let with = sight.nodes.iter().filter(|node| node.word() == word);
        match with.count() {
            0 => {}
            count => parts.push(format!("{count} {word}")),
        }
    }
    if !parts.is_empty() {
        text += &format!(": {}", parts.join(", "));
    }
    text
}

/// What colours and heights mean, at the right end of a line that is free from a
/// column on: both, or the one that has room.
pub(super) fn key(pen: &mut Pen, area: Rect, from: u16) {
    let plain = pen.style(Paint::Faint);
    let mut colours = vec![
        ("usual".to_owned(), pen.style(Paint::Good)),
        ("above 95 %".to_owned(), pen.style(Paint::Warn)),
        ("above all".to_owned(), pen.colour(STRANGE)),
        ("some idle".to_owned(), pen.colour(Color::Cyan)),
    ];
    if !pen.look.colour {
        colours.clear();
    }
    let heights = (2..).zip(LEVELS).map(|(level, (_, from))| {
        let height = column(level, pen.look.unicode);
        (format!("{height}{from}"), plain)
    });
    let mut right = area.width;
    for words in [colours, heights.collect()] {
        let length = words
            .iter()
            .map(|(word, _)| measure_text_width(word) + 2)
            .sum::<usize>();
        let Some(left) = right.checked_sub(u16::try_from(length).unwrap_or(u16::MAX)) else {
            continue;
        };
        if words.is_empty() || left < from {
            continue;
        }
        let mut at = left;
        for (word, style) in words {
            at = pen.put(area, (at, 0), " ", plain);
            at = pen.put(area, (at, 0), &word, style);
            at = pen.put(area, (at, 0), " ", plain);
        }
        right = left;
    }
}

/// A row of the map.
pub(super) fn node(
    pen: &mut Pen,
    area: Rect,
    line: u16,
    node: &NodeSight,
    shape: &Shape,
    usual: Option<(u64, u64)>,
) {
    let host = pen.look.clip(&node.host, shape.host);
    let width = shape.host;
    let at = pen.put(
        area,
        (0, line),
        &format!("{host:<width$} "),
        pen.style(Paint::Strong),
    );
    let (mark, paint) = match node.life {
        Life::Alive if node.health != NodeHealth::Healthy => ("#", Paint::Bad),
        Life::Alive => ("+", Paint::Good),
        Life::Silent(_) => ("?", Paint::Warn),
        Life::Dead => ("!", Paint::Bad),
        Life::Lost => ("x", Paint::Warn),
        Life::Left => ("-", Paint::Faint),
    };
    let word = if shape.has_words {
        format!("{:<6} ", node.word())
    } else {
        format!("{mark} ")
    };
    let at = pen.put(area, (at, line), &word, pen.style(paint));
    let count = format!("{:>9} ", format!("{}/{}", node.busy, node.count));
    let mut at = pen.put(area, (at, line), &count, pen.style(Paint::Faint));
    for slots in node.slots.chunks(shape.group).take(shape.cells) {
        let (text, style) = glyph(pen, slots, usual);
        at = pen.put(area, (at, line), text, style);
    }
}

/// What a cell shows: the longest task of its slots.
fn glyph(pen: &Pen, slots: &[Slot], usual: Option<(u64, u64)>) -> (&'static str, Style) {
    let longest = slots.iter().filter_map(|slot| match slot {
        Slot::Busy(ran) => Some(*ran),
        _ => None,
    });
    let unicode = pen.look.unicode;
    if let Some(ran) = longest.max() {
        let level = LEVELS.iter().filter(|(from, _)| ran >= from * SECOND);
        let level = level.count();
        let level = u16::try_from(level + 1).unwrap_or(8);
        let is_partly = slots.iter().any(|slot| !matches!(slot, Slot::Busy(_)));
        let style = match pace(pen, ran, usual) {
            style if style == pen.style(Paint::Good) && is_partly => pen.colour(Color::Cyan),
            style => style,
        };
        return (column(level, unicode), style);
    }
    if slots.iter().all(|slot| *slot == Slot::Gone) {
        return ("x", pen.style(Paint::Bad));
    }
    if slots.iter().all(|slot| *slot == Slot::Left) {
        return ("-", pen.style(Paint::Faint));
    }
    let idle = slots.iter().filter_map(|slot| match slot {
        Slot::Idle(time) => Some(*time),
        _ => None,
    });
    // Short tasks are in no record while they run: a slot between two of them is
    // not idle in the eyes of people.
    let style = match idle.min() {
        Some(time) if time < 10 * SECOND => pen.style(Paint::Good),
        _ => pen.style(Paint::Faint),
    };
    (if unicode { "·" } else { "." }, style)
}

/// How unusual it is that a task runs for so long.
pub(super) fn pace(pen: &Pen, ran: u64, usual: Option<(u64, u64)>) -> Style {
    match usual {
        Some((_, most)) if ran > most => pen.colour(STRANGE),
        Some((many, _)) if ran > many => pen.style(Paint::Warn),
        _ => pen.style(Paint::Good),
    }
}

/// A column that fills so many eighths of a cell.
pub(super) fn column(eighths: u16, unicode: bool) -> &'static str {
    let cells = if unicode {
        [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"]
    } else {
        [" ", "_", ",", ":", "-", "=", "+", "*", "#"]
    };
    cells[usize::from(eighths).min(8)]
}

/// A part of a whole.
pub(super) fn fraction(part: usize, whole: usize) -> f64 {
    crate::model::figures::share(part as u64, whole as u64).unwrap_or(0.0)
}

/// How high a rate is in a curve of so many lines, in eighths of a line. What is
/// not nothing is never drawn as nothing.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between nothing and the height of a screen"
)]
pub(super) fn eighths(rate: f64, peak: f64, lines: u16) -> u16 {
    if rate <= 0.0 || peak <= 0.0 {
        return 0;
    }
    let most = f64::from(lines) * 8.0;
    (rate / peak * most).ceil().clamp(1.0, most) as u16
}
