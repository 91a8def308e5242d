//! Screens of a made-up run, and what keys do.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode as Key, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};

use super::draw::draw;
use super::message::LogTail;
use super::snapshot::{CommandCache, Snapshot};
use super::state::{Action, Panel, ScreenState};
use crate::history::run::Run;
use crate::history::synthetic::{Workdir, end, header, start, workdir};
use crate::model::figures::float;
use crate::model::outcome::Outcome;
use crate::model::record::Record;
use crate::model::task::{TaskId, push_line};
use crate::ui::style::OutputStyle;

/// A time as a farmer records it.
const T: u64 = 1_800_000_000_000_000;

/// One second.
const S: u64 = 1_000_000;

const FINE: OutputStyle = OutputStyle {
    width: 80,
    colour: true,
    unicode: true,
};

fn ran(id: u64, slot: u32, from: u64, seconds: u64, status: i32) -> Record {
    end(
        id,
        1,
        slot,
        T + from * S,
        seconds * S,
        Outcome::Exit(status),
    )
}

/// Three nodes: one at work, one silent, one lost; twelve tasks have ended, two
/// of them badly, and four run.
fn run() -> (Workdir, Run) {
    let commands: Vec<String> = (0..40)
        .map(|id| format!("./simulate --seed {id}"))
        .collect();
    let mut commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    commands[21] = "printf '\x1b[2J\u{202e}' 雪雪雪 # \x07";
    let dir = workdir(&commands);
    let mut one = vec![header("n1", T, 4)];
    one.extend((0..8).map(|id| ran(id, (id % 4) as u32, id * 10, 10, 0)));
    one.push(ran(8, 0, 80, 20, 3));
    one.push(start(20, 1, 0, T + 100 * S));
    one.push(start(21, 1, 1, T + 40 * S));
    one.push(Record::Beat { at: T + 120 * S });
    dir.journal("n1.0.1.1", &one);
    let mut two = vec![header("n2", T, 4)];
    two.extend((10..12).map(|id| ran(id, 1, 0, 30, 0)));
    two.push(start(22, 1, 0, T + 70 * S));
    two.push(start(23, 2, 3, T + 80 * S));
    dir.journal("n2.0.1.2", &two);
    dir.journal("n10.0.1.3", &[header("n10", T, 2), ran(12, 0, 0, 50, 1)]);
    dir.seal("n10.0.1.3");
    for (name, ids) in [
        ("finished", &[0, 1, 2, 3, 4, 5, 6, 7, 10, 11][..]),
        ("failed", &[8, 12]),
        ("toprocess", &[30, 31, 32, 33, 34, 35, 36, 37, 38, 39]),
    ] {
        let mut bytes = Vec::new();
        for id in ids {
            push_line(&mut bytes, TaskId(*id), b"x");
        }
        dir.file(name, &bytes);
    }
    let mut run = Run::open(dir.path()).unwrap();
    // No clock of this machine is in it any more.
    for farmer in &mut run.farmers {
        let age = Duration::from_secs(u64::from(farmer.header().host == "n2") * 40);
        farmer.modified = Some(run.now - age);
    }
    (dir, run)
}

fn snapshot() -> Snapshot {
    let (_dir, run) = run();
    let mut snapshot = Snapshot::of(&run, &mut CommandCache::default()).unwrap();
    snapshot.workdir = "tasks.txt_workdir".to_owned();
    snapshot
}

fn page(lines: usize) -> LogTail {
    LogTail {
        id: 21,
        attempt: 1,
        notes: vec!["task 21, attempt 1 of 1: runs now on n1".to_owned()],
        lines: (0..lines).map(|line| format!("line {line}")).collect(),
        ..LogTail::default()
    }
}

fn screen(state: &ScreenState, style: &OutputStyle, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(state, style, frame.area(), frame.buffer_mut()))
        .unwrap();
    terminal.backend().buffer().clone()
}

/// The text on a screen, without blanks at the ends of lines.
fn text(buffer: &Buffer) -> String {
    let Rect { width, height, .. } = buffer.area;
    let mut text = String::new();
    for y in 0..height {
        let (mut line, mut skip) = (String::new(), 0);
        for x in 0..width {
            let symbol = buffer[(x, y)].symbol();
            // What is behind a wide character is not a blank.
            if skip == 0 {
                line += symbol;
                skip = unicode_width(symbol);
            }
            skip = usize::saturating_sub(skip, 1);
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn unicode_width(symbol: &str) -> usize {
    ratatui::text::Span::raw(symbol).width()
}

fn press(state: &mut ScreenState, keys: &[Key]) {
    for key in keys {
        let _ = state.key((*key).into());
    }
}

fn control(c: char) -> KeyEvent {
    KeyEvent::new(Key::Char(c), KeyModifiers::CONTROL)
}

fn names(state: &ScreenState, panel: Panel) -> Vec<&str> {
    let rows = state.rows(panel).into_iter();
    rows.map(|row| &row.name[..]).collect()
}

/// The cells of the rows of a panel, without blanks around them.
fn cells(snapshot: &Snapshot, panel: Panel) -> Vec<Vec<&str>> {
    let rows = snapshot.panels[panel as usize].iter();
    rows.map(|row| {
        let cells = row.cells.iter().map(|(text, _)| text.trim());
        cells.chain([&row.rest[..]]).collect()
    })
    .collect()
}

fn type_in(state: &mut ScreenState, word: &str) {
    press(state, &[Key::Char('/')]);
    word.chars().for_each(|c| press(state, &[Key::Char(c)]));
}

#[test]
fn a_snapshot_has_the_figures_of_the_run() {
    let (_dir, run) = run();
    let snapshot = Snapshot::of(&run, &mut CommandCache::default()).unwrap();
    assert_eq!((snapshot.total, snapshot.done), (40, 12));
    let counts = snapshot
        .counts
        .iter()
        .map(|(count, word, _)| (*count, *word));
    assert_eq!(
        counts.collect::<Vec<_>>(),
        [
            (10, "finished"),
            (2, "failed"),
            (4, "running"),
            (14, "claimed"),
            (10, "waiting")
        ]
    );
    assert_eq!(
        cells(&snapshot, Panel::Nodes),
        [
            [
                "n1",
                "alive",
                "2/4",
                "1 failed",
                "8 finished",
                "longest 1m20s"
            ],
            [
                "n2",
                "silent",
                "2/4",
                "0 failed",
                "2 finished",
                "longest 50.0s"
            ],
            ["n10", "lost", "0/2", "1 failed", "0 finished", ""],
        ]
    );
    let running = cells(&snapshot, Panel::Running);
    let slow: Vec<_> = running.iter().map(|row| (row[0], row[1])).collect();
    assert_eq!(
        slow,
        [
            ("21", "1m20s"),
            ("22", "50.0s"),
            ("23", "40.0s"),
            ("20", "20.0s")
        ]
    );
    let failed = cells(&snapshot, Panel::Failures);
    let failed: Vec<_> = failed.iter().map(|row| row[0]).collect();
    assert_eq!(failed, ["8", "12"], "the latest first");
    let usual = snapshot.speed.last().unwrap();
    assert!(usual.ends_with("the longest took 50.0s"), "{usual}");
    let ended: u64 = snapshot.curve.ended.iter().map(|(ended, _)| ended).sum();
    assert_eq!(ended, 12);
}

#[test]
fn the_curve_loses_no_end() {
    let curve = snapshot().curve;
    let seconds = float(curve.span()) / float(S);
    for columns in [1, 3, 40] {
        let rates = curve.columns(columns);
        assert_eq!(rates.len(), columns);
        let sum: f64 = rates.iter().map(|(rate, _)| rate).sum();
        let ended = sum / float(columns as u64) * seconds;
        assert!((ended - 12.0).abs() < 1.5, "{columns}: {ended}");
    }
    assert!(curve.columns(0).is_empty());
}

#[test]
fn the_screens_are_as_drawn() {
    let overview = ScreenState::new(snapshot());
    let mut log = ScreenState::new(snapshot());
    press(&mut log, &[Key::Tab, Key::Enter]);
    log.update_log(page(30));
    let mut wrong = String::new();
    for (name, state, width, height, expected) in [
        ("80x24", &overview, 80, 24, include_str!("screens/80x24")),
        ("40x10", &overview, 40, 10, include_str!("screens/40x10")),
        ("200x50", &overview, 200, 50, include_str!("screens/200x50")),
        ("log", &log, 60, 12, include_str!("screens/log")),
    ] {
        let found = text(&screen(state, &FINE, width, height));
        if found != expected {
            wrong += &format!("screens/{name} is now\n{found}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    let plain = text(&screen(
        &ScreenState::new(snapshot()),
        &OutputStyle::PLAIN,
        80,
        24,
    ));
    let is_foreign = |c: char| !c.is_ascii() && c != '雪';
    assert!(!plain.contains(is_foreign), "{plain}");
}

#[test]
fn whatever_the_size_and_the_state_it_can_be_drawn() {
    let mut failing = ScreenState::new(snapshot());
    failing.read_error = Some("x".repeat(300));
    let mut typing = ScreenState::new(snapshot());
    type_in(&mut typing, "n1 雪");
    let mut log = ScreenState::new(snapshot());
    press(&mut log, &[Key::Tab, Key::Enter]);
    let mut read = log.clone();
    read.update_log(page(500));
    press(&mut read, &[Key::Home, Key::Right]);
    let mut zoomed = ScreenState::new(snapshot());
    press(&mut zoomed, &[Key::Char('z'), Key::End]);
    let empty = ScreenState::new(Snapshot::default());
    for state in [failing, typing, log, read, zoomed, empty] {
        for width in (0..30).chain([79, 119, 120, 300]) {
            for height in (0..20).chain([60]) {
                let area = Rect::new(0, 0, width, height);
                let mut buffer = Buffer::empty(area);
                draw(&state, &FINE, area, &mut buffer);
                let text = text(&buffer).replace('\n', "");
                assert!(!text.chars().any(char::is_control), "{width}x{height}");
                assert!(!text.contains('\u{202e}'), "{width}x{height}");
            }
        }
    }
}

#[test]
fn without_colours_all_is_shown_by_characters() {
    let plain = OutputStyle {
        colour: false,
        ..FINE
    };
    let state = ScreenState::new(snapshot());
    let (grey, bright) = (
        screen(&state, &plain, 80, 24),
        screen(&state, &FINE, 80, 24),
    );
    assert!(grey.content.iter().all(|cell| cell.fg == Color::Reset));
    assert!(grey.content.iter().all(|cell| cell.bg == Color::Reset));
    assert_eq!(text(&grey), text(&bright));
    for colour in [Color::Green, Color::Yellow, Color::Red, Color::Magenta] {
        assert!(
            bright.content.iter().any(|cell| cell.fg == colour),
            "{colour}"
        );
    }
}

#[test]
fn a_chosen_row_stays_chosen_while_others_come() {
    let mut state = ScreenState::new(snapshot());
    press(&mut state, &[Key::Tab, Key::Down, Key::Down]);
    assert_eq!(
        (state.panel, state.cursor(Panel::Running)),
        (Panel::Running, 2)
    );
    let mut next = snapshot();
    next.panels[Panel::Running as usize].remove(0);
    state.update(next);
    assert_eq!(state.cursor(Panel::Running), 1, "still task 23");
    let mut next = snapshot();
    next.panels[Panel::Running as usize].truncate(1);
    state.update(next);
    assert_eq!(state.cursor(Panel::Running), 0, "there is no other");
    let chosen = screen(&ScreenState::new(snapshot()), &FINE, 80, 24);
    assert!(chosen[(20, 3)].modifier.contains(Modifier::REVERSED));
}

#[test]
fn enter_opens_the_log_of_what_is_chosen() {
    let mut state = ScreenState::new(snapshot());
    assert_eq!(
        state.key(Key::Enter.into()),
        Action::Draw,
        "a node: its tasks"
    );
    assert_eq!((state.panel, &state.filter[..]), (Panel::Running, "n1"));
    press(&mut state, &[Key::Esc, Key::Down, Key::Down]);
    assert_eq!(state.key(Key::Enter.into()), Action::ShowLog(Some((23, 2))));
    // What comes late of another log is not taken for this one.
    state.update_log(page(3));
    assert!(!state.page.as_ref().unwrap().is_read);
    assert_eq!(state.key(Key::Esc.into()), Action::ShowLog(None));
    press(&mut state, &[Key::Tab]);
    assert_eq!(state.key(Key::Enter.into()), Action::ShowLog(Some((8, 1))));
    assert_eq!(state.key(Key::Char('q').into()), Action::Leave);
}

#[test]
fn a_log_is_followed_until_a_key_scrolls_it() {
    let mut state = ScreenState::new(snapshot());
    press(&mut state, &[Key::Tab, Key::Enter]);
    state.update_log(page(30));
    let last = |state: &ScreenState| text(&screen(state, &FINE, 40, 12));
    assert!(last(&state).contains("line 29"));
    state.update_log(page(40));
    assert!(last(&state).contains("line 39"), "it follows");
    press(&mut state, &[Key::Up, Key::Up]);
    state.update_log(page(50));
    let seen = last(&state);
    assert!(
        seen.contains("line 37") && !seen.contains("line 38"),
        "{seen}"
    );
    type_in(&mut state, "LINE 4");
    press(&mut state, &[Key::Enter]);
    assert!(
        last(&state).contains("11 lines with 'LINE 4'"),
        "{}",
        last(&state)
    );
    press(&mut state, &[Key::Esc]);
    assert!(last(&state).contains("line 49"));
}

#[test]
fn a_filter_is_typed_and_taken_back() {
    let mut state = ScreenState::new(snapshot());
    // While it is typed, keys mean characters.
    type_in(&mut state, "qz");
    assert!(state.is_typing);
    let _ = state.key(control('u'));
    for c in "SEED 2".chars() {
        press(&mut state, &[Key::Char(c)]);
    }
    assert_eq!(
        names(&state, Panel::Running),
        ["22.1", "23.2", "20.1"],
        "not what prints snow"
    );
    let nodes = names(&state, Panel::Nodes);
    assert_eq!(nodes, ["n1", "n2"], "those whose tasks pass");
    press(&mut state, &[Key::Backspace, Key::Char('8'), Key::Enter]);
    assert_eq!(names(&state, Panel::Failures), ["8"]);
    assert!(text(&screen(&state, &FINE, 80, 24)).contains("[SEED 8]"));
    assert_eq!(state.key(Key::Esc.into()), Action::Draw);
    assert_eq!(state.rows(Panel::Failures).len(), 2);
    assert_eq!(state.key(Key::Esc.into()), Action::Leave);
    for (key, act) in [
        ('c', Action::Leave),
        ('z', Action::Suspend),
        ('l', Action::Redraw),
    ] {
        type_in(&mut state, "x");
        assert_eq!(state.key(control(key)), act, "also while typing");
    }
}

#[test]
fn the_keys_are_explained_until_another_is_pressed() {
    let mut state = ScreenState::new(snapshot());
    press(&mut state, &[Key::Char('?')]);
    let help = text(&screen(&state, &FINE, 80, 24));
    for word in [
        "keys and marks",
        "Enter",
        "filter rows",
        "left in good order",
    ] {
        assert!(help.contains(word), "{help}");
    }
    assert_eq!(
        state.key(Key::Char('q').into()),
        Action::Draw,
        "back, not out"
    );
    assert!(!state.is_help);
    type_in(&mut state, "?");
    assert!(!state.is_help && state.filter == "?");
}

#[test]
fn a_header_that_lies_about_its_slots_fills_no_memory() {
    let dir = workdir(&["x"]);
    dir.journal("n1.0.1.1", &[header("n1", T, u32::MAX)]);
    let run = Run::open(dir.path()).unwrap();
    let snapshot = Snapshot::of(&run, &mut CommandCache::default()).unwrap();
    assert_eq!(
        cells(&snapshot, Panel::Nodes),
        [["n1", "alive", "0/4294967295", "0 failed", "0 finished", ""]]
    );
    screen(&ScreenState::new(snapshot), &FINE, 80, 24);
}
