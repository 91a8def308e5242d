use std::sync::Arc;

use super::lock_file::place_of;
use super::place::{STEP, encode};
use super::*;
use crate::model::class::Class;
use crate::workdir::error::Error;
use crate::workdir::files::{Committed, Head, read_from};
use crate::workdir::fs::{Dir, File, RealDir};
use crate::workdir::layout::LOCK;
use crate::workdir::mechanism::Mechanism;

fn lock_file() -> std::fs::File {
    tempfile::tempfile().unwrap()
}

fn step(file: &std::fs::File, state: &mut State) {
    state.seq += 1;
    write(file, state, 0, Act::Prepare, None).unwrap();
}

#[test]
fn an_empty_file_is_unprepared_and_a_state_reads_back() {
    let file = lock_file();
    assert_eq!(read(&file).unwrap(), None);
    let mut state = State::new(Mechanism::Flock);
    for _ in 0..3 {
        step(&file, &mut state);
        assert_eq!(read(&file).unwrap(), Some(state.clone()));
    }
    assert_eq!(
        entries(&file, &state.log, &Log::default()).unwrap().len(),
        3
    );
}

#[test]
fn the_older_state_is_in_force_when_the_newer_one_is_torn() {
    let file = lock_file();
    let mut state = State::new(Mechanism::Flock);
    step(&file, &mut state);
    let before = state.clone();
    step(&file, &mut state);
    File::write_at(&file, b"torn", place_of(&state) + 30).unwrap();
    assert_eq!(read(&file).unwrap(), Some(before));
}

#[test]
fn a_state_whose_line_of_the_log_is_lost_is_not_in_force() {
    let file = lock_file();
    let mut state = State::new(Mechanism::Flock);
    step(&file, &mut state);
    let before = state.clone();
    step(&file, &mut state);
    File::write_at(&file, &[0; 10], LOG_AT + before.log.len + 2).unwrap();
    assert_eq!(read(&file).unwrap(), Some(before));
}

#[test]
fn a_torn_first_state_is_none() {
    let file = lock_file();
    let mut state = State::new(Mechanism::Flock);
    step(&file, &mut state);
    File::write_at(&file, b"torn", place_of(&state) + 30).unwrap();
    assert_eq!(read(&file).unwrap(), None);
}

#[test]
fn garbage_is_damage_and_a_newer_format_is_reported() {
    let file = lock_file();
    File::write_at(&file, b"what is this", 0).unwrap();
    assert!(matches!(read_locked(&file), Err(Error::Damaged { .. })));
    let json = r#"{"format":9,"seq":1,"something":"new"}"#;
    let text = format!("{:08x} {json}", crc32fast::hash(json.as_bytes()));
    File::write_at(&file, format!("{text:<1023}\n").as_bytes(), 0).unwrap();
    assert!(matches!(
        read(&file),
        Err(Error::Newer { found: 9, known: 3 })
    ));
}

/// Another process may be writing it at that moment.
#[test]
fn a_look_without_the_lock_gives_no_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let dir: Arc<dyn Dir> = RealDir::open(folder.path()).unwrap();
    assert_eq!(peek(&dir).unwrap(), None);
    std::fs::write(folder.path().join(LOCK), "what is this").unwrap();
    let error = peek(&dir).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(
        error.to_string().contains("at this moment, neither"),
        "{error}"
    );
}

/// When a broken lock is taken, all files are rewritten at once.
fn largest_state() -> State {
    let mut state = State::new(Mechanism::Flock);
    let known = Committed {
        len: u64::MAX,
        lines: u64::MAX,
        sum: u32::MAX,
    };
    state.set_queue(Queue {
        class: Class::default(),
        len: u64::MAX,
        cursor: u64::MAX,
        left: u64::MAX,
        generation: u64::MAX,
        head: Head(64, u32::MAX),
        sum: u32::MAX,
        taken: u32::MAX,
    });
    (state.finished, state.failed, state.requeued, state.tasks) = (known, known, known, known);
    (state.seals, state.interrupted, state.takeover) = (u64::MAX, u64::MAX, u64::MAX);
    (state.live, state.next_farmer, state.breaks) = (u32::MAX, u32::MAX, u32::MAX);
    state.folder = Some("\u{1}".repeat(1024));
    state.list = Some(ListIdentity {
        len: u64::MAX,
        mtime: i64::MIN,
        mtime_nsec: i64::MIN,
        inode: u64::MAX,
    });
    for to in ["toprocess", "failed", "tasks", "finished", "requeued"] {
        state.renames.push(Rename {
            from: format!("{to}.{}.{}.{}.new", u64::MAX, u32::MAX, u32::MAX),
            to: to.into(),
        });
    }
    state
}

#[test]
fn the_largest_state_fits_and_a_smaller_one_after_it_reads_back() {
    let file = lock_file();
    let mut state = largest_state();
    for _ in 0..2 {
        step(&file, &mut state);
        assert_eq!(read(&file).unwrap(), Some(state.clone()));
    }
    assert!(encode(&state).unwrap().len() > STEP, "it is a long one");
    let mut small = State::new(Mechanism::Flock);
    (small.seq, small.log) = (state.seq, state.log);
    for _ in 0..2 {
        step(&file, &mut small);
        assert_eq!(read(&file).unwrap(), Some(small.clone()));
    }
}

#[test]
fn a_state_that_does_not_fit_is_an_error_before_anything_is_written() {
    let file = lock_file();
    let mut state = State::new(Mechanism::Flock);
    step(&file, &mut state);
    let before = read_from(&file, 0).unwrap();
    state.renames = vec![largest_state().renames[0].clone(); 400];
    state.seq += 1;
    let refused = write(&file, &mut state, 0, Act::Prepare, None).unwrap_err();
    assert!(refused.to_string().contains("more than 16384"), "{refused}");
    assert_eq!(read_from(&file, 0).unwrap(), before);
    // Nor does a turn that could not be made true stand in the way of the next.
    assert_eq!(read(&file).unwrap().unwrap().seq, 1);
}

/// As programs of format 1 read it: 1 KiB for each of two states, without line ends
/// inside, and the numbers of newer formats are believed.
#[test]
fn a_program_of_format_1_finds_a_newer_format_in_the_first_kilobyte() {
    let file = lock_file();
    let mut state = State::new(Mechanism::Flock);
    for _ in 0..3 {
        step(&file, &mut state);
        let begin = read_from(&file, 0).unwrap();
        let text = std::str::from_utf8(&begin[..1024]).unwrap().trim_end();
        let (sum, json) = text.split_once(' ').unwrap();
        let sum = u32::from_str_radix(sum, 16).unwrap();
        assert_eq!(sum, crc32fast::hash(json.as_bytes()));
        assert_eq!(json, r#"{"format":2}"#);
        assert!(begin[1024..2048].iter().all(|&b| b == 0));
    }
}

/// Until the state that refers to it is written, a new segment is uncommitted.
#[test]
fn a_new_segment_leaves_all_that_the_state_before_speaks_of() {
    let file = lock_file();
    let mut state = State::new(Mechanism::Flock);
    let log_at = usize::try_from(LOG_AT).unwrap();
    File::write_at(&file, &[0], LOG_AT).unwrap();
    let bytes = || read_from(&file, 0).unwrap();
    // Long checkpoints and short ones, after long segments and short ones.
    for nth in 0_u32..60 {
        for _ in 0..nth % 7 {
            step(&file, &mut state);
        }
        let mut members = Members::default();
        for by in 0..nth * 5 % 11 {
            members.apply(&Act::Join {
                by,
                farmer: "a".repeat(40),
                feeds: false,
                claim: "3,5,7-9".parse().unwrap(),
            });
        }
        let (before, was) = (state.clone(), bytes());
        let lines = entries(&file, &before.log, &Log::default()).unwrap();
        state.seq += 1;
        write(&file, &mut state, 0, Act::Prepare, Some(members.clone())).unwrap();
        assert_eq!(state.log.segment, before.log.segment + 1);
        assert_eq!(read(&file).unwrap(), Some(state.clone()));
        let now = entries(&file, &state.log, &Log::default()).unwrap();
        assert_eq!((now.len(), Members::after(&now)), (2, members));
        // All that is written before the state is.
        let torn = lock_file();
        let crashed = [&was[..log_at], &bytes()[log_at..]].concat();
        File::write_at(&torn, &crashed, 0).unwrap();
        if before.seq > 0 {
            assert_eq!(read(&torn).unwrap(), Some(before.clone()));
            assert_eq!(entries(&torn, &before.log, &Log::default()).unwrap(), lines);
        }
        assert!(before.log.is_intact(&state.log));
        // A part of the first write is not a segment.
        File::write_at(&file, b"torn", LOG_AT + state.log.at + 3).unwrap();
        assert_eq!(read(&file).unwrap(), Some(before).filter(|was| was.seq > 0));
        File::write_at(&file, &crashed[log_at..], LOG_AT).unwrap();
    }
}
