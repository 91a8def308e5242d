//! New whole lines of a file that grows.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// The longest line that can be a record; a longer one is damage and is not
/// held in memory.
pub(super) const LONGEST: usize = 1 << 20;

/// How much is read at a time.
const PIECE: usize = 1 << 18;

/// Calls `each` with every whole line from `offset` on and where it begins, until it
/// fails; returns where the next line will begin. A line that is too long is given
/// empty. A last line without line end is not there yet.
pub(crate) fn each(
    file: &File,
    mut offset: u64,
    mut each: impl FnMut(&[u8], u64) -> io::Result<()>,
) -> io::Result<u64> {
    // What is held, and room to read. Zeroed once: a file is often far smaller.
    let mut buffer = vec![0; 2 * PIECE];
    let mut held = 0;
    let mut skipping = false;
    // Where the buffer begins in the file; `offset` is where the line begins.
    let mut begin = offset;
    loop {
        let room = held + PIECE;
        if buffer.len() < room {
            buffer.resize(room, 0);
        }
        let read = read(file, &mut buffer[held..room], begin + held as u64)?;
        if read == 0 {
            return Ok(offset);
        }
        let whole = held + read;
        let mut from = 0;
        for at in memchr::memchr_iter(b'\n', &buffer[held..whole]) {
            let end = held + at;
            if std::mem::take(&mut skipping) {
                each(&[], offset)?;
            } else {
                each(&buffer[from..end], offset)?;
            }
            from = end + 1;
            offset = begin + from as u64;
        }
        buffer.copy_within(from..whole, 0);
        begin += from as u64;
        held = whole - from;
        if held > LONGEST {
            skipping = true;
            begin += held as u64;
            held = 0;
        }
    }
}

fn read(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn every_line_comes_once_and_a_torn_one_when_it_is_whole() {
        let mut file = tempfile::tempfile().unwrap();
        let long = vec![b'x'; LONGEST + PIECE];
        let mut seen = Vec::new();
        let mut offset = 0;
        let pieces: [&[u8]; 6] = [b"one\ntw", b"", b"o\n\nthr", b"ee\n", &long, b"end\nfour\n"];
        for piece in pieces {
            file.write_all(piece).unwrap();
            offset = each(&file, offset, |line, _| {
                seen.push(String::from_utf8_lossy(line).into_owned());
                Ok(())
            })
            .unwrap();
        }
        assert_eq!(seen, ["one", "two", "", "three", "", "four"]);
    }

    #[test]
    fn offsets_are_where_lines_begin() {
        let mut file = tempfile::tempfile().unwrap();
        let mut text = Vec::new();
        for n in 0..200_000 {
            text.extend_from_slice(format!("line {n}\n").as_bytes());
        }
        file.write_all(&text).unwrap();
        let mut count = 0;
        let end = each(&file, 0, |line, at| {
            let at = usize::try_from(at).unwrap();
            assert_eq!(&text[at..at + line.len()], line);
            assert_eq!(line, format!("line {count}").as_bytes());
            count += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!((count, end), (200_000, text.len() as u64));
    }
}
