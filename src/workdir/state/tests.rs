use super::*;

fn lock_file() -> std::fs::File {
    tempfile::tempfile().unwrap()
}

fn step(file: &std::fs::File, state: &mut State) {
    state.seq += 1;
    write(file, state, (0, Act::Prepare)).unwrap();
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
    assert_eq!(entries(&file, 0, state.log).unwrap().len(), 3);
}

#[test]
fn the_older_state_is_in_force_when_the_newer_one_is_torn() {
    let file = lock_file();
    let mut state = State::new(Mechanism::Flock);
    step(&file, &mut state);
    let before = state.clone();
    step(&file, &mut state);
    File::write_at(&file, b"torn", (state.seq % 2) * PLACE as u64 + 30).unwrap();
    assert_eq!(read(&file).unwrap(), Some(before));
}

#[test]
fn a_state_whose_line_of_the_log_is_lost_is_not_in_force() {
    let file = lock_file();
    let mut state = State::new(Mechanism::Flock);
    step(&file, &mut state);
    let before = state.clone();
    step(&file, &mut state);
    File::write_at(&file, &[0; 10], LOG_AT + before.log + 2).unwrap();
    assert_eq!(read(&file).unwrap(), Some(before));
}

#[test]
fn a_torn_first_state_is_none() {
    let file = lock_file();
    let mut state = State::new(Mechanism::Flock);
    step(&file, &mut state);
    File::write_at(&file, b"torn", PLACE as u64 + 30).unwrap();
    assert_eq!(read(&file).unwrap(), None);
}

#[test]
fn garbage_is_damage_and_a_newer_format_is_told() {
    let file = lock_file();
    File::write_at(&file, b"what is this", 0).unwrap();
    assert!(matches!(read(&file), Err(Error::Damaged { .. })));
    let json = r#"{"format":9,"seq":1,"something":"new"}"#;
    let text = format!("{:08x} {json}", crc32fast::hash(json.as_bytes()));
    File::write_at(&file, format!("{text:<1023}\n").as_bytes(), 0).unwrap();
    assert!(matches!(
        read(&file),
        Err(Error::Newer { found: 9, known: 1 })
    ));
}

#[test]
fn the_largest_state_fits_its_place() {
    let mut state = State::new(Mechanism::Flock);
    let known = Known {
        len: u64::MAX,
        lines: u64::MAX,
    };
    state.queue = Queue {
        len: u64::MAX,
        cursor: u64::MAX,
        left: u64::MAX,
        generation: u64::MAX,
        head: Head(64, u32::MAX),
    };
    (state.finished, state.failed, state.requeued, state.tasks) = (known, known, known, known);
    state.list = Some(ListIdentity {
        len: u64::MAX,
        mtime: i64::MIN,
        mtime_nsec: i64::MIN,
        inode: u64::MAX,
    });
    for to in ["toprocess", "failed"] {
        state.renames.push(Rename {
            from: format!("{to}.new"),
            to: to.into(),
        });
    }
    assert_eq!(encode(&state).len(), PLACE);
}

/// When a broken lock is taken, all files are written anew at once.
#[test]
fn a_state_of_a_long_run_fits_its_place_with_five_new_files() {
    let mut state = State::new(Mechanism::Flock);
    let (tera, giga) = (10_u64.pow(12), 10_u64.pow(9));
    let known = Known {
        len: tera,
        lines: giga,
    };
    state.queue = Queue {
        len: tera,
        cursor: tera,
        left: giga,
        generation: giga,
        head: Head(64, u32::MAX),
    };
    (state.finished, state.failed, state.requeued, state.tasks) = (known, known, known, known);
    (state.seq, state.seals, state.interrupted) = (giga, giga, giga);
    (state.live, state.next_farmer, state.breaks) = (100_000, 10_000_000, 100_000);
    (state.log, state.last) = (tera, (giga, u32::MAX));
    state.list = Some(ListIdentity {
        len: tera,
        mtime: 10_000_000_000,
        mtime_nsec: 999_999_999,
        inode: u64::MAX,
    });
    for to in ["toprocess", "failed", "tasks", "finished", "requeued"] {
        state.renames.push(Rename {
            from: format!("{to}.{giga}.100000.1.new"),
            to: to.into(),
        });
    }
    assert_eq!(encode(&state).len(), PLACE);
}
