//! Colours and symbols of the screen, as the terminal has them.

use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders};

use crate::ui::style::{OutputStyle, Paint};

/// Bars of a terminal without Unicode.
const ASCII_BARS: symbols::bar::Set = symbols::bar::Set {
    full: "#",
    seven_eighths: "*",
    three_quarters: "+",
    five_eighths: "=",
    half: "-",
    three_eighths: ":",
    one_quarter: ",",
    one_eighth: "_",
    empty: " ",
};

/// How the screen is drawn on a terminal.
pub(super) struct Theme<'a> {
    pub(super) output: &'a OutputStyle,
}

impl Theme<'_> {
    /// How something is painted; without colours its weight is left.
    pub(super) fn style(&self, paint: Paint) -> Style {
        match paint {
            Paint::Good => self.colour(Color::Green),
            Paint::Bad => self.colour(Color::Red).add_modifier(Modifier::BOLD),
            Paint::Warn => self.colour(Color::Yellow),
            Paint::Longest => self.colour(Color::Magenta),
            Paint::Strong => Style::new().add_modifier(Modifier::BOLD),
            Paint::Faint => Style::new().add_modifier(Modifier::DIM),
        }
    }

    /// How the chosen row is painted.
    pub(super) fn chosen() -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    fn colour(&self, colour: Color) -> Style {
        if self.output.colour {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    /// The first text, or the second where the terminal has no Unicode.
    pub(super) fn choose(&self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self.output.unicode { unicode } else { ascii }
    }

    pub(super) fn bars(&self) -> symbols::bar::Set<'static> {
        if self.output.unicode {
            symbols::bar::NINE_LEVELS
        } else {
            ASCII_BARS
        }
    }

    /// A panel: a rule with its title.
    pub(super) fn block(&self, title: &str, is_chosen: bool) -> Block<'static> {
        let rule = symbols::border::Set {
            horizontal_top: self.choose("─", "-"),
            ..symbols::border::PLAIN
        };
        let style = self.style(Paint::Strong);
        let (style, mark) = if is_chosen {
            (style.patch(Self::chosen()), self.choose("▸", ">"))
        } else {
            (style, " ")
        };
        Block::new()
            .borders(Borders::TOP)
            .border_set(rule)
            .border_style(self.style(Paint::Faint))
            .title(Span::styled(format!("{mark}{title} "), style))
    }

    /// Parts side by side, as many as fit.
    pub(super) fn joined(
        &self,
        parts: impl Iterator<Item = Span<'static>>,
        width: usize,
    ) -> Line<'static> {
        let dot = self.choose(" · ", ", ");
        let mut line = Line::raw(" ");
        for (number, part) in parts.enumerate() {
            let gap = if number == 0 { "" } else { dot };
            if Span::raw(gap).width() + part.width() + line.width() > width {
                break;
            }
            line.push_span(Span::styled(gap, self.style(Paint::Faint)));
            line.push_span(part);
        }
        line
    }
}
