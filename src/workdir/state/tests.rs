use super::*;
use crate::workdir::fs::read_from;

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
    File::write_at(&file, &[0; 10], LOG_AT + before.log + 2).unwrap();
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
fn garbage_is_damage_and_a_newer_format_is_told() {
    let file = lock_file();
    File::write_at(&file, b"what is this", 0).unwrap();
    assert!(matches!(read(&file), Err(Error::Damaged { .. })));
    let json = r#"{"format":9,"seq":1,"something":"new"}"#;
    let text = format!("{:08x} {json}", crc32fast::hash(json.as_bytes()));
    File::write_at(&file, format!("{text:<1023}\n").as_bytes(), 0).unwrap();
    assert!(matches!(
        read(&file),
        Err(Error::Newer { found: 9, known: 2 })
    ));
}

/// When a broken lock is taken, all files are written anew at once.
fn largest_state() -> State {
    let mut state = State::new(Mechanism::Flock);
    let known = Known {
        len: u64::MAX,
        lines: u64::MAX,
    };
    state.set_queue(Queue {
        len: u64::MAX,
        cursor: u64::MAX,
        left: u64::MAX,
        generation: u64::MAX,
        head: Head(64, u32::MAX),
    });
    (state.finished, state.failed, state.requeued, state.tasks) = (known, known, known, known);
    (state.seals, state.interrupted, state.takeover) = (u64::MAX, u64::MAX, u64::MAX);
    (state.live, state.next_farmer, state.breaks) = (u32::MAX, u32::MAX, u32::MAX);
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
    let refused = write(&file, &mut state, (0, Act::Prepare)).unwrap_err();
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
