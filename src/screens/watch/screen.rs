//! The terminal: put into the state that the view needs, and restored whatever happens.
//!
//! Guarantee: from [`Screen::enter`] on, leaving by return, by an error or by a panic restores
//! the terminal. The loop handles signals.

use std::io::{self, BufWriter, Stdout, Write as _, stdout};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::style::ResetColor;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

/// Whether the terminal is ours now.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// A frame is written in as few writes as possible, for slow lines.
const FRAME: usize = 1 << 16;

/// The terminal while it is ours.
pub(super) struct Screen {
    pub(super) terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl Screen {
    /// Takes the terminal over.
    pub(super) fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            // A panic ends the process: nothing is dropped then.
            let previous = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                give_back();
                previous(info);
            }));
        });
        let out = BufWriter::with_capacity(FRAME, stdout());
        let screen = Self {
            terminal: Terminal::new(CrosstermBackend::new(out))?,
        };
        take()?;
        Ok(screen)
    }

    /// Takes the terminal over again, after something else had it, and forgets
    /// what was on it.
    pub(super) fn take_again(&mut self) -> io::Result<()> {
        give_back();
        take()?;
        // `Terminal::clear` would ask the terminal where its cursor is, and wait
        // for an answer that the thread of the keys reads.
        execute!(stdout(), Clear(ClearType::All))?;
        self.terminal.swap_buffers();
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> io::Result<()> {
    TAKEN.store(true, Ordering::SeqCst);
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen, Hide)
}

/// Gives the terminal back, once. If it is gone, nothing can be done.
pub(super) fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = execute!(stdout(), ResetColor, LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
        let _ = stdout().flush();
    }
}
