//! The bar on a terminal, and the text before and after it.
//!
//! Guarantee: all of it is written at once; where there is little room, the number of failed
//! tasks is the last part after the bar to be left out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use console::measure_text_width;

use super::counts::{ProgressCounts, eta};
use crate::model::figures::grouped;
use crate::ui::rate::{RecentRate, show_rate};
use crate::ui::style::OutputStyle;

/// The bar, and the text before and after it: all is written at once.
pub(super) struct Bar {
    pub(super) drawn: ProgressBar,
    pub(super) style: OutputStyle,
    beside: Arc<Mutex<(String, String)>>,
}

impl Bar {
    pub(super) fn new(style: OutputStyle) -> Self {
        let template = if style.colour {
            "{before} {wide_bar:.green/dim} {behind}"
        } else {
            "{before} {wide_bar} {behind}"
        };
        let characters = if style.unicode { "━╸─" } else { "=>-" };
        let beside = Arc::new(Mutex::new((String::new(), String::new())));
        let part = |part: fn(&(String, String)) -> &String| {
            let beside = beside.clone();
            move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
                let beside = beside.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = out.write_str(part(&beside));
            }
        };
        let template = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .with_key("before", part(|beside| &beside.0))
            .with_key("behind", part(|beside| &beside.1))
            .progress_chars(characters);
        // `with_style` draws nothing: there is nothing to show yet.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let bar = bar.with_style(template);
        Self {
            drawn: bar,
            style,
            beside,
        }
    }

    pub(super) fn show(&self, counts: &ProgressCounts, beside: (String, String)) {
        *self.beside.lock().unwrap_or_else(PoisonError::into_inner) = beside;
        self.drawn.update(|state| {
            if let Some(total) = counts.total {
                state.set_len(total);
            }
            state.set_pos(counts.ended());
        });
    }
}

/// The text before and after the bar: the most important parts, as far as they fit.
pub(super) fn beside_bar(
    counts: &ProgressCounts,
    rate: &RecentRate,
    now: Duration,
    columns: usize,
) -> (String, String) {
    let before = format!("{}/{}", grouped(counts.ended()), counts.known());
    let mut parts = vec![];
    if counts.failed > 0 {
        parts.push(format!("{} failed", grouped(counts.failed)));
    }
    if counts.cancelled > 0 {
        parts.push(format!("{} cancelled", grouped(counts.cancelled)));
    }
    if counts.is_waiting() {
        parts.push("waiting for tasks".to_owned());
    } else {
        parts.push(format!("{} running", grouped(counts.running)));
        parts.push(format!("eta {}", eta(counts, rate, now)));
        parts.push(format!("{} left", grouped(counts.left)));
        parts.extend(rate.rate(now).map(show_rate));
    }
    // The bar keeps a quarter of the line, if there is no need for it.
    let room = (columns * 3 / 4).saturating_sub(measure_text_width(&before) + 2);
    let mut behind = String::new();
    for part in parts {
        if measure_text_width(&behind) + measure_text_width(&part) + 2 > room {
            break;
        }
        let comma = if behind.is_empty() { "" } else { ", " };
        behind.push_str(comma);
        behind.push_str(&part);
    }
    (before, behind)
}
