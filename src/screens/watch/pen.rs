//! Writes text into a part of the screen's buffer, never beside it.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use crate::ui::look::{Look, Paint};

/// A colour for what has none among [`Paint`]'s: longer than anything before.
pub(super) const STRANGE: Color = Color::Magenta;

/// Writes into a buffer.
pub(super) struct Pen<'a> {
    pub(super) buffer: &'a mut Buffer,
    pub(super) look: &'a Look,
}

impl Pen<'_> {
    /// How something is painted; without colours its weight is left.
    pub(super) fn style(&self, paint: Paint) -> Style {
        let style = Style::new();
        match paint {
            Paint::Good => self.colour(Color::Green),
            Paint::Bad => self.colour(Color::Red).add_modifier(Modifier::BOLD),
            Paint::Warn => self.colour(Color::Yellow),
            Paint::Strong => style.add_modifier(Modifier::BOLD),
            Paint::Faint => style.add_modifier(Modifier::DIM),
        }
    }

    /// A colour, where there are any.
    pub(super) fn colour(&self, colour: Color) -> Style {
        if self.look.colour {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    /// Writes text from a column of an area's line on; the column behind it.
    pub(super) fn put(&mut self, area: Rect, at: (u16, u16), text: &str, style: Style) -> u16 {
        let (column, line) = at;
        if line >= area.height || column >= area.width {
            return column;
        }
        let (x, y) = (area.x + column, area.y + line);
        let room = usize::from(area.width - column);
        let (end, _) = self.buffer.set_stringn(x, y, text, room, style);
        end - area.x
    }

    /// Writes a line, cut where it does not fit so that one sees it.
    pub(super) fn line(&mut self, area: Rect, line: u16, text: &str, style: Style) {
        let text = self.look.clip(text, usize::from(area.width));
        self.put(area, (0, line), &text, style);
    }

    /// Writes the title of a panel over a rule.
    pub(super) fn title(&mut self, area: Rect, text: &str, is_chosen: bool) {
        let rule = if self.look.unicode { "─" } else { "-" };
        let rule = rule.repeat(usize::from(area.width));
        self.put(area, (0, 0), &rule, self.style(Paint::Faint));
        let style = self.style(Paint::Strong);
        let (style, mark) = match (is_chosen, self.look.unicode) {
            (false, _) => (style, " "),
            (true, true) => (style.add_modifier(Modifier::REVERSED), "▸"),
            (true, false) => (style.add_modifier(Modifier::REVERSED), ">"),
        };
        let text = format!("{mark}{text} ");
        self.line(area, 0, &text, style);
    }

    /// Makes a line the chosen one.
    pub(super) fn choose(&mut self, area: Rect, line: u16) {
        if line < area.height {
            let line = Rect {
                y: area.y + line,
                height: 1,
                ..area
            };
            self.buffer
                .set_style(line, Style::new().add_modifier(Modifier::REVERSED));
        }
    }
}
