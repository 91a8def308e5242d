//! What the screen is about: which panel, which row, which filter, which log.
//!
//! Pure: keys and snapshots go in, the next thing to do comes out. A row that was
//! chosen stays chosen while others come and go around it.

use super::message::{Key, LogTail, Request};
use super::snapshot::Snapshot;

/// How far a page goes. The height of the screen is not known here.
const PAGE: usize = 10;

/// How far a step to the side goes.
const SIDE: usize = 16;

/// What is to be done after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Act {
    /// Nothing but drawing.
    Draw,
    Leave,
    Suspend,
    /// Draw everything, as if the terminal showed rubbish.
    Redraw,
    /// The reader is to look at something else.
    Request(Request),
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
    /// What the row was about, once the cursor has left the first one.
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
pub(super) struct State {
    pub(super) snapshot: Snapshot,
    /// Why the workdir could not be read the last time.
    pub(super) read_error: Option<String>,
    pub(super) panel: Panel,
    /// Whether the panel has the screen for itself.
    pub(super) is_zoomed: bool,
    pub(super) filter: String,
    /// Whether keys go into the filter.
    pub(super) is_typing: bool,
    pub(super) page: Option<Page>,
    /// Whether the keys are explained.
    pub(super) is_help: bool,
    cursors: [Cursor; 3],
}

impl State {
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

    /// The rows of a panel that the filter lets through, by their numbers.
    pub(super) fn rows(&self, panel: Panel) -> Vec<usize> {
        let filter = self.filter.to_lowercase();
        let count = match panel {
            Panel::Nodes => self.snapshot.nodes.len(),
            Panel::Running => self.snapshot.running_tasks.len(),
            Panel::Failures => self.snapshot.failures.len(),
        };
        let passes = |row: &usize| {
            filter.is_empty()
                || self.text(panel, *row).contains(&filter)
                || panel == Panel::Nodes && self.has_match(*row, &filter)
        };
        (0..count).filter(passes).collect()
    }

    /// Whether a task of a node, one that runs or has failed, passes the filter.
    fn has_match(&self, node: usize, filter: &str) -> bool {
        let host = &self.snapshot.nodes[node].host;
        let passes = |panel, row| self.text(panel, row).contains(filter);
        let running = self.snapshot.running_tasks.iter().enumerate();
        let failed = self.snapshot.failures.iter().enumerate();
        running
            .filter(|(_, task)| task.node == *host)
            .any(|(row, _)| passes(Panel::Running, row))
            || failed
                .filter(|(_, task)| task.node == *host)
                .any(|(row, _)| passes(Panel::Failures, row))
    }

    /// Where the cursor of a panel is, among the rows that are let through.
    pub(super) fn cursor(&self, panel: Panel) -> usize {
        self.cursors[panel as usize].at
    }

    /// A key was pressed.
    pub(super) fn key(&mut self, key: Key) -> Act {
        match key {
            Key::Interrupt => return Act::Leave,
            Key::Suspend => return Act::Suspend,
            Key::Redraw => return Act::Redraw,
            _ => {}
        }
        if self.is_typing {
            self.type_key(key);
            return Act::Draw;
        }
        // Any key takes the help away again.
        if std::mem::take(&mut self.is_help) {
            return Act::Draw;
        }
        if matches!(key, Key::Char('?' | 'h')) {
            self.is_help = true;
            return Act::Draw;
        }
        match (key, &mut self.page) {
            (Key::Char('q'), _) => Act::Leave,
            (Key::Char('/'), _) => {
                self.is_typing = true;
                Act::Draw
            }
            (Key::Escape, Some(page)) if !page.filter.is_empty() => {
                page.filter.clear();
                Act::Draw
            }
            (Key::Escape | Key::Backspace, Some(_)) => {
                self.page = None;
                Act::Request(Request::Close)
            }
            (key, Some(page)) => {
                page.key(key);
                Act::Draw
            }
            (Key::Escape, None) if !self.filter.is_empty() => {
                self.filter.clear();
                self.filtered();
                Act::Draw
            }
            (Key::Escape, None) => Act::Leave,
            (key, None) => self.overview_key(key),
        }
    }

    fn overview_key(&mut self, key: Key) -> Act {
        match key {
            Key::Next | Key::Right => self.panel = self.panel.step(1),
            Key::Previous | Key::Left => self.panel = self.panel.step(2),
            Key::Char('z') => self.is_zoomed = !self.is_zoomed,
            Key::Enter => return self.open(),
            _ => {
                let cursor = &self.cursors[self.panel as usize];
                let last = self.rows(self.panel).len().saturating_sub(1);
                let at = moved(cursor.at, key).min(last);
                self.choose(self.panel, at);
            }
        }
        Act::Draw
    }

    /// Opens the log of the chosen task; on a node, its tasks.
    fn open(&mut self) -> Act {
        let rows = self.rows(self.panel);
        let Some(&row) = rows.get(self.cursor(self.panel)) else {
            return Act::Draw;
        };
        let (id, attempt) = match self.panel {
            Panel::Nodes => {
                self.filter.clone_from(&self.snapshot.nodes[row].host);
                self.panel = Panel::Running;
                self.filtered();
                return Act::Draw;
            }
            Panel::Running => {
                let task = &self.snapshot.running_tasks[row];
                (task.id, task.attempt)
            }
            Panel::Failures => {
                let task = &self.snapshot.failures[row];
                (task.id, task.attempt)
            }
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
        Act::Request(Request::Open(id, attempt))
    }

    fn type_key(&mut self, key: Key) {
        let filter = match &mut self.page {
            Some(page) => &mut page.filter,
            None => &mut self.filter,
        };
        match key {
            Key::Enter => self.is_typing = false,
            Key::Escape => {
                filter.clear();
                self.is_typing = false;
            }
            Key::Backspace => {
                filter.pop();
            }
            Key::Clear => filter.clear(),
            Key::Char(c) if !c.is_control() => filter.push(c),
            _ => {}
        }
        match &mut self.page {
            Some(page) => page.below = 0,
            None => self.filtered(),
        }
    }

    /// The filter is another: all cursors go to the top.
    fn filtered(&mut self) {
        self.cursors = Default::default();
    }

    fn choose(&mut self, panel: Panel, at: usize) {
        let name = self.rows(panel).get(at).map(|row| self.name(panel, *row));
        self.cursors[panel as usize] = Cursor {
            at,
            // A cursor at the top stays at the top.
            name: name.filter(|_| at > 0),
        };
    }

    /// Finds the chosen row again.
    fn follow(&mut self, panel: Panel) {
        let (rows, cursor) = (self.rows(panel), &self.cursors[panel as usize]);
        let known = cursor.name.as_ref().and_then(|name| {
            let mut rows = rows.iter();
            rows.position(|row| self.name(panel, *row) == *name)
        });
        let at = known.unwrap_or(cursor.at.min(rows.len().saturating_sub(1)));
        self.cursors[panel as usize].at = at;
        if known.is_none() {
            self.choose(panel, at);
        }
    }

    /// What a row is about.
    fn name(&self, panel: Panel, row: usize) -> String {
        match panel {
            Panel::Nodes => self.snapshot.nodes[row].host.clone(),
            Panel::Running => {
                let task = &self.snapshot.running_tasks[row];
                format!("{}.{}", task.id, task.attempt)
            }
            Panel::Failures => self.snapshot.failures[row].id.to_string(),
        }
    }

    /// What a filter is looked for in.
    fn text(&self, panel: Panel, row: usize) -> String {
        let text = match panel {
            Panel::Nodes => {
                let node = &self.snapshot.nodes[row];
                format!("{} {}", node.host, node.word())
            }
            Panel::Running => {
                let task = &self.snapshot.running_tasks[row];
                format!("{} {} {}", task.id, task.node, task.command)
            }
            Panel::Failures => {
                let task = &self.snapshot.failures[row];
                let (id, node, outcome) = (task.id, &task.node, &task.outcome);
                format!("{id} {node} {outcome} {}", task.command)
            }
        };
        text.to_lowercase()
    }
}

impl Page {
    /// The lines that the filter lets through.
    pub(super) fn shown(&self) -> Vec<&str> {
        let filter = self.filter.to_lowercase();
        let lines = self.log.lines.iter().map(String::as_str);
        lines
            .filter(|line| filter.is_empty() || line.to_lowercase().contains(&filter))
            .collect()
    }

    fn key(&mut self, key: Key) {
        let most = self.shown().len().saturating_sub(1);
        // Down is towards the end, where nothing is below.
        let below = match key {
            Key::Up | Key::Char('k') => self.below + 1,
            Key::Down | Key::Char('j') => self.below.saturating_sub(1),
            Key::PageUp => self.below + PAGE,
            Key::PageDown | Key::Char(' ') => self.below.saturating_sub(PAGE),
            Key::Home | Key::Char('g') => most,
            Key::End | Key::Char('G') => 0,
            _ => self.below,
        };
        self.below = below.min(most);
        match key {
            Key::Right => self.aside += SIDE,
            Key::Left => self.aside = self.aside.saturating_sub(SIDE),
            _ => {}
        }
    }
}

/// Where a key takes a cursor in a list.
fn moved(at: usize, key: Key) -> usize {
    match key {
        Key::Up | Key::Char('k') => at.saturating_sub(1),
        Key::Down | Key::Char('j') => at + 1,
        Key::PageUp => at.saturating_sub(PAGE),
        Key::PageDown | Key::Char(' ') => at + PAGE,
        Key::Home | Key::Char('g') => 0,
        Key::End | Key::Char('G') => usize::MAX,
        _ => at,
    }
}
