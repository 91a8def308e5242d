//! The state of the screen: which panel, which row, which filter, which log.
//!
//! Pure: keys and snapshots go in, the next thing to do comes out. A row that was
//! chosen stays chosen while others come and go around it.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::message::LogTail;
use super::snapshot::{AttemptKey, Row, Snapshot};

/// How far a page goes. The height of the screen is not known here.
const PAGE: usize = 10;

/// How far a step to the side goes.
const SIDE: usize = 16;

/// What to do after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Action {
    /// Nothing but drawing.
    Draw,
    Leave,
    Suspend,
    /// Draw everything again, whatever the terminal shows.
    Redraw,
    /// The log that the reader is to read from now on, or none.
    ShowLog(Option<AttemptKey>),
}

/// A part of the screen with rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Panel {
    Nodes,
    Running,
    Failures,
}

impl Panel {
    const ALL: [Self; 3] = [Self::Nodes, Self::Running, Self::Failures];

    /// The panel so many steps on.
    pub(super) fn step(self, by: usize) -> Self {
        Self::ALL[(self as usize + by) % Self::ALL.len()]
    }
}

/// Which row of a panel is chosen.
#[derive(Clone, Debug, Default)]
struct Cursor {
    at: usize,
    /// The name of the row, once the cursor has left the first one.
    name: Option<String>,
}

/// A log on the screen.
#[derive(Clone, Debug, Default)]
pub(super) struct Page {
    pub(super) log: LogTail,
    /// Whether it has been read at all.
    pub(super) is_read: bool,
    /// Lines below the last one that is shown; 0 follows the log.
    pub(super) below: usize,
    /// Columns to the left of the first one that is shown.
    pub(super) aside: usize,
    pub(super) filter: String,
}

/// All that is drawn.
#[derive(Clone, Debug)]
pub(super) struct ScreenState {
    pub(super) snapshot: Snapshot,
    /// Why the workdir could not be read the last time.
    pub(super) read_error: Option<String>,
    pub(super) panel: Panel,
    /// Whether the chosen panel is shown alone.
    pub(super) is_zoomed: bool,
    pub(super) filter: String,
    /// Whether keys go into the filter.
    pub(super) is_typing: bool,
    pub(super) page: Option<Page>,
    /// Whether the keys are explained.
    pub(super) is_help: bool,
    cursors: [Cursor; 3],
}

impl ScreenState {
    /// Nothing chosen yet.
    pub(super) fn new(snapshot: Snapshot) -> Self {
        Self {
            snapshot,
            read_error: None,
            panel: Panel::Nodes,
            is_zoomed: false,
            filter: String::new(),
            is_typing: false,
            page: None,
            is_help: false,
            cursors: Default::default(),
        }
    }

    /// There is a new snapshot of the run.
    pub(super) fn update(&mut self, snapshot: Snapshot) {
        self.snapshot = snapshot;
        self.read_error = None;
        for panel in Panel::ALL {
            self.follow(panel);
        }
    }

    /// The log was read again. A log that is no longer open is ignored.
    pub(super) fn update_log(&mut self, log: LogTail) {
        let Some(page) = &mut self.page else { return };
        if (page.log.id, page.log.attempt) != (log.id, log.attempt) {
            return;
        }
        if page.below > 0 {
            // What is shown stays where it is.
            page.below += log.lines.len().saturating_sub(page.log.lines.len());
        }
        page.log = log;
        page.is_read = true;
    }

    /// The rows of a panel that pass the filter; a node passes also where one of its tasks
    /// does.
    pub(super) fn rows(&self, panel: Panel) -> Vec<&Row> {
        let filter = self.filter.to_lowercase();
        let [_, running, failures] = &self.snapshot.panels;
        let passes = |row: &&Row| {
            let mut tasks = running.iter().chain(failures);
            row.text.contains(&filter)
                || panel == Panel::Nodes
                    && tasks.any(|task| task.node == row.name && task.text.contains(&filter))
        };
        let rows = self.snapshot.panels[panel as usize].iter();
        rows.filter(passes).collect()
    }

    /// Where the cursor of a panel is, among the rows that pass the filter.
    pub(super) fn cursor(&self, panel: Panel) -> usize {
        self.cursors[panel as usize].at
    }

    /// The filter of what is shown: of the log, or of all panels.
    pub(super) fn filter(&self) -> &str {
        self.page.as_ref().map_or(&self.filter, |page| &page.filter)
    }

    fn set_filter(&mut self, filter: String) {
        if let Some(page) = &mut self.page {
            page.filter = filter;
            page.below = 0;
        } else {
            self.filter = filter;
            self.cursors = Default::default();
        }
    }

    /// A key was pressed.
    pub(super) fn key(&mut self, event: KeyEvent) -> Action {
        let key = match event.code {
            KeyCode::Char(c) if event.modifiers.contains(KeyModifiers::CONTROL) => match c {
                'c' => return Action::Leave,
                'z' => return Action::Suspend,
                'l' => return Action::Redraw,
                'u' => KeyCode::Delete,
                'h' => KeyCode::Backspace,
                'f' => KeyCode::PageDown,
                'b' => KeyCode::PageUp,
                _ => return Action::Draw,
            },
            code => code,
        };
        if self.is_typing {
            self.type_key(key);
            return Action::Draw;
        }
        // Any key takes the help away again.
        if std::mem::take(&mut self.is_help) {
            return Action::Draw;
        }
        match key {
            KeyCode::Char('?' | 'h') => self.is_help = true,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Esc if !self.filter().is_empty() => self.set_filter(String::new()),
            KeyCode::Esc | KeyCode::Backspace if self.page.is_some() => {
                self.page = None;
                return Action::ShowLog(None);
            }
            KeyCode::Esc | KeyCode::Char('q') => return Action::Leave,
            _ => {
                if let Some(page) = &mut self.page {
                    page.key(key);
                } else {
                    return self.overview_key(key);
                }
            }
        }
        Action::Draw
    }

    fn overview_key(&mut self, key: KeyCode) -> Action {
        match key {
            KeyCode::Tab | KeyCode::Right => self.panel = self.panel.step(1),
            KeyCode::BackTab | KeyCode::Left => self.panel = self.panel.step(2),
            KeyCode::Char('z') => self.is_zoomed = !self.is_zoomed,
            KeyCode::Enter => return self.open(),
            _ => {
                let last = self.rows(self.panel).len().saturating_sub(1);
                self.choose(self.panel, moved(self.cursor(self.panel), key, last));
            }
        }
        Action::Draw
    }

    /// Opens the log of the chosen task; on a node, its tasks.
    fn open(&mut self) -> Action {
        let rows = self.rows(self.panel);
        let Some(row) = rows.get(self.cursor(self.panel)) else {
            return Action::Draw;
        };
        let Some((id, attempt)) = row.attempt else {
            let node = row.name.clone();
            self.panel = Panel::Running;
            self.set_filter(node);
            return Action::Draw;
        };
        let log = LogTail {
            id,
            attempt,
            ..LogTail::default()
        };
        self.page = Some(Page {
            log,
            ..Page::default()
        });
        Action::ShowLog(Some((id, attempt)))
    }

    fn type_key(&mut self, key: KeyCode) {
        let mut filter = self.filter().to_owned();
        match key {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                filter.clear();
                self.is_typing = false;
            }
            KeyCode::Backspace => drop(filter.pop()),
            KeyCode::Delete => filter.clear(),
            KeyCode::Char(c) if !c.is_control() => filter.push(c),
            _ => {}
        }
        self.set_filter(filter);
    }

    fn choose(&mut self, panel: Panel, at: usize) {
        let rows = self.rows(panel);
        // A cursor at the top stays at the top.
        let row = rows.get(at).filter(|_| at > 0);
        let name = row.map(|row| row.name.clone());
        self.cursors[panel as usize] = Cursor { at, name };
    }

    /// Finds the chosen row again.
    fn follow(&mut self, panel: Panel) {
        let (rows, cursor) = (self.rows(panel), &self.cursors[panel as usize]);
        let name = cursor.name.as_ref();
        let known = name.and_then(|name| rows.iter().position(|row| row.name == *name));
        if let Some(at) = known {
            self.cursors[panel as usize].at = at;
        } else {
            let at = cursor.at.min(rows.len().saturating_sub(1));
            self.choose(panel, at);
        }
    }
}

impl Page {
    /// The lines that pass the filter.
    pub(super) fn shown(&self) -> Vec<&str> {
        let filter = self.filter.to_lowercase();
        let lines = self.log.lines.iter().map(String::as_str);
        lines
            .filter(|line| line.to_lowercase().contains(&filter))
            .collect()
    }

    fn key(&mut self, key: KeyCode) {
        let last = self.shown().len().saturating_sub(1);
        self.below = last - moved(last.saturating_sub(self.below), key, last);
        match key {
            KeyCode::Right => self.aside += SIDE,
            KeyCode::Left => self.aside = self.aside.saturating_sub(SIDE),
            _ => {}
        }
    }
}

/// Where a key takes a cursor in a list with this last row.
fn moved(at: usize, key: KeyCode, last: usize) -> usize {
    let at = match key {
        KeyCode::Up | KeyCode::Char('k') => at.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => at + 1,
        KeyCode::PageUp => at.saturating_sub(PAGE),
        KeyCode::PageDown | KeyCode::Char(' ') => at + PAGE,
        KeyCode::Home | KeyCode::Char('g') => 0,
        KeyCode::End | KeyCode::Char('G') => last,
        _ => at,
    };
    at.min(last)
}
