//! `pytf watch`: a run on a live screen.
//!
//! One thread reads the workdir, one the keys, one waits for signals; the thread that called
//! draws, and waits on one channel for all of them. `state` decides and `draw` paints, both
//! without a terminal. Guarantee: it only reads, and however it ends, the terminal is restored.
//!
//! The widgets are those of ratatui: `Table`, `LineGauge`, `Sparkline`, `Paragraph`. Our own is what
//! they do not have: a row that stays chosen while rows come and go around it (a `TableState` knows
//! only its number), filters over three panels at once, a log that is followed and scrolled, what
//! to omit on a small terminal, and the terminal during signals and Ctrl-Z (`ratatui::init`
//! restores neither the cursor after a panic that aborts nor the screen after SIGCONT).

mod draw;
mod message;
mod reader;
mod screen;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod theme;

use std::io;
use std::path::Path;

use crossbeam_channel::{Receiver, Sender, unbounded};
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use signal_hook::consts::{SIGCONT, SIGQUIT, SIGTSTP};
use signal_hook::low_level::emulate_default_handler;

use self::message::Message;
use self::screen::Screen;
use self::snapshot::{AttemptKey, CommandCache, Snapshot};
use self::state::{Action, ScreenState};
use crate::history::run::{Run, RunError};
use crate::host::signals::{STOPS, listen_to};
use crate::model::refusal::hint;
use crate::ui::style::OutputStyle;

/// Why the screen ended.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The workdir cannot be read.
    #[error("{0}")]
    Run(#[from] RunError),
    /// The system refused a thread or a signal handler.
    #[error("the run cannot be watched: {0}{hint}", hint = hint(.0))]
    System(#[source] io::Error),
    /// The terminal cannot be used.
    #[error("the terminal cannot be used: {0}")]
    Terminal(#[source] io::Error),
    /// The thread that reads the workdir is gone.
    #[error("the thread that reads the workdir ended")]
    Reader,
}

/// Reports to the loop when the reader ends, however it does.
struct ReportEnd(Sender<Message>);

impl Drop for ReportEnd {
    fn drop(&mut self) {
        let _ = self.0.send(Message::ReaderEnded);
    }
}

/// Shows a run until the user leaves. Returns the signal that ended it, if one
/// did: the terminal is given back by then.
pub fn watch(workdir: &Path, style: OutputStyle) -> Result<Option<i32>, WatchError> {
    // Errors of the workdir are reported before the terminal is taken.
    let run = Run::open(workdir)?;
    let snapshot = Snapshot::of(&run, &mut CommandCache::default()).map_err(RunError::Io)?;
    let (send, messages) = unbounded();
    let out = send.clone();
    let watched: Vec<i32> = [SIGQUIT, SIGTSTP, SIGCONT]
        .into_iter()
        .chain(STOPS)
        .collect();
    let signals = listen_to(&watched, move |signal| {
        let _ = out.send(Message::Signal(signal));
    });
    let _signals = signals.map_err(WatchError::System)?;
    let requests = start(run, &send).map_err(WatchError::System)?;
    let screen = Screen::enter().map_err(WatchError::Terminal)?;
    let mut watch = Watch {
        screen,
        state: ScreenState::new(snapshot),
        style,
        requests,
    };
    watch.run(&messages)
}

/// Starts the threads that read the workdir and the keys.
fn start(run: Run, send: &Sender<Message>) -> io::Result<Sender<Option<AttemptKey>>> {
    let (requests, received) = unbounded();
    let out = send.clone();
    std::thread::Builder::new()
        .name("reader".into())
        .spawn(move || {
            let report = ReportEnd(out);
            reader::read(run, &received, &report.0);
        })?;
    let out = send.clone();
    // This thread ends with the process, since a key may never come.
    std::thread::Builder::new()
        .name("keys".into())
        .spawn(move || {
            loop {
                let input = event::read();
                let is_closed = input.is_err();
                if out.send(Message::Input(input)).is_err() || is_closed {
                    return;
                }
            }
        })?;
    Ok(requests)
}

struct Watch {
    screen: Screen,
    state: ScreenState,
    style: OutputStyle,
    requests: Sender<Option<AttemptKey>>,
}

/// How the loop goes on.
enum Next {
    Draw,
    Leave(Option<i32>),
}

impl Watch {
    fn run(&mut self, messages: &Receiver<Message>) -> Result<Option<i32>, WatchError> {
        loop {
            self.draw().map_err(WatchError::Terminal)?;
            let Ok(first) = messages.recv() else {
                return Err(WatchError::Reader);
            };
            // On a slow terminal all that has come meanwhile is drawn at once.
            for message in std::iter::once(first).chain(messages.try_iter()) {
                if let Next::Leave(signal) = self.handle(message)? {
                    return Ok(signal);
                }
            }
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        let (state, style) = (&self.state, &self.style);
        self.screen
            .terminal
            .draw(|frame| draw::draw(state, style, frame.area(), frame.buffer_mut()))
            .map(drop)
    }

    fn handle(&mut self, message: Message) -> Result<Next, WatchError> {
        let act = match message {
            Message::Snapshot(snapshot) => {
                self.state.update(*snapshot);
                Action::Draw
            }
            Message::Log(log) => {
                self.state.update_log(log);
                Action::Draw
            }
            Message::ReadFailed(error) => {
                self.state.read_error = Some(error);
                Action::Draw
            }
            Message::Input(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                self.state.key(key)
            }
            Message::Input(Ok(_)) => Action::Draw,
            Message::Input(Err(error)) => return Err(WatchError::Terminal(error)),
            Message::Signal(SIGTSTP) => Action::Suspend,
            Message::Signal(SIGCONT) => Action::Redraw,
            Message::Signal(signal) => return Ok(Next::Leave(Some(signal))),
            Message::ReaderEnded => return Err(WatchError::Reader),
        };
        match act {
            Action::Draw => {}
            Action::Leave => return Ok(Next::Leave(None)),
            Action::Suspend => self.suspend().map_err(WatchError::Terminal)?,
            Action::Redraw => self.screen.take_again().map_err(WatchError::Terminal)?,
            Action::ShowLog(attempt) => {
                let _ = self.requests.send(attempt);
            }
        }
        Ok(Next::Draw)
    }

    /// Stops like any program at Ctrl-Z, and continues at SIGCONT.
    fn suspend(&mut self) -> io::Result<()> {
        screen::give_back();
        emulate_default_handler(SIGTSTP)?;
        self.screen.take_again()
    }
}
