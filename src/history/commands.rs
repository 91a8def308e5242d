//! The command of a task, and what is said of it, looked up in `tasks` by its id.
//!
//! The file may list many millions of tasks, and a view must not need more memory for them:
//! only the offset of a line every few kilobytes is kept, and the lines around those that were
//! looked up last. Ids must ascend in the file.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::open_if_any;
use crate::model::attributes::split;
use crate::model::dialects::as_written;
use crate::model::escape::{clip, escape};
use crate::model::task::{TaskId, parse_line};
use crate::workdir::layout::TASKS;

/// A block begins with the first line after this many bytes.
const BLOCK: u64 = 4 << 10;

/// How much of a block is read, at most: its last line may have any length, and its first
/// few kilobytes are enough to show it.
const READ: u64 = 2 * BLOCK;

/// How many blocks are held: enough for the lines near the claims of all farmers.
const HELD: usize = 256;

/// The commands of all tasks.
#[derive(Debug, Default)]
pub struct Commands {
    /// `None` when the workdir has no such file.
    file: Option<File>,
    /// The first id of every block, and where it begins; at the end an empty block.
    blocks: Vec<(TaskId, u64)>,
    /// Blocks that were read, each at its number modulo the length.
    held: Vec<Option<Block>>,
}

/// A few kilobytes of lines.
#[derive(Debug)]
struct Block {
    number: usize,
    bytes: Vec<u8>,
    /// The command of every task: its place in `bytes`.
    lines: Vec<(TaskId, std::ops::Range<usize>)>,
}

impl Commands {
    /// Looks through the file once. No such file: no command is known.
    pub fn open(workdir: &Path) -> io::Result<Self> {
        let Some(file) = open_if_any(&workdir.join(TASKS))? else {
            return Ok(Self::default());
        };
        let (starts, end) = block_starts(&file)?;
        let mut blocks = Vec::with_capacity(starts.len() + 1);
        for start in starts {
            let mut head = [0; 32];
            let length = file.read_at(&mut head, start)?;
            // A damaged line hides the tasks of its block only.
            let id = parse_line(&head[..length]).map(|(id, _)| id);
            blocks.extend(id.map(|id| (id, start)));
        }
        blocks.push((TaskId(u64::MAX), end));
        Ok(Self {
            file: Some(file),
            blocks,
            held: (0..HELD).map(|_| None).collect(),
        })
    }

    /// Whether there is a list of tasks at all.
    pub fn is_known(&self) -> bool {
        self.file.is_some()
    }

    /// The last task of the list.
    pub fn last(&mut self) -> io::Result<Option<TaskId>> {
        let Some(number) = self.blocks.len().checked_sub(2) else {
            return Ok(None);
        };
        // Reads the last block.
        self.get(self.blocks[number].0)?;
        let block = self.held[number % HELD].as_ref();
        Ok(block.and_then(|block| block.lines.last().map(|(id, _)| *id)))
    }

    /// The command of a task, or its first kilobytes when it is very long;
    /// `None` for a task that is not in the list.
    pub fn get(&mut self, id: TaskId) -> io::Result<Option<&[u8]>> {
        Ok(self.line(id)?.map(|line| split(line).0))
    }

    /// The text of the attributes of a task; `None` where nothing is said of it.
    pub fn attributes(&mut self, id: TaskId) -> io::Result<Option<&[u8]>> {
        Ok(self.line(id)?.and_then(|line| split(line).1))
    }

    /// The stored line of a task.
    fn line(&mut self, id: TaskId) -> io::Result<Option<&[u8]>> {
        let Some(file) = &self.file else {
            return Ok(None);
        };
        let behind = self.blocks.partition_point(|(first, _)| *first <= id);
        if behind == 0 || behind == self.blocks.len() {
            return Ok(None);
        }
        let number = behind - 1;
        let place = &mut self.held[number % HELD];
        if place.as_ref().is_none_or(|held| held.number != number) {
            let (start, end) = (self.blocks[number].1, self.blocks[behind].1);
            *place = Some(Block::read(file, number, start, end)?);
        }
        Ok(place.as_ref().and_then(|block| block.get(id)))
    }

    /// The same as the user wrote it, fit to be printed and cut to `most` characters.
    pub fn text(&mut self, id: TaskId, most: usize) -> io::Result<Option<String>> {
        let command = self.get(id)?;
        Ok(command.map(|command| clip(&escape(as_written(command)), most)))
    }
}

/// Where blocks of the file begin, and where it ends.
fn block_starts(file: &File) -> io::Result<(Vec<u64>, u64)> {
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let (mut starts, mut offset, mut due) = (vec![0], 0, BLOCK);
    loop {
        let held = reader.fill_buf()?;
        if held.is_empty() {
            break;
        }
        for at in memchr::memchr_iter(b'\n', held) {
            let start = offset + at as u64 + 1;
            if start >= due {
                starts.push(start);
                due = start + BLOCK;
            }
        }
        let length = held.len();
        offset += length as u64;
        reader.consume(length);
    }
    starts.retain(|start| *start < offset);
    Ok((starts, offset))
}

impl Block {
    fn read(file: &File, number: usize, start: u64, end: u64) -> io::Result<Self> {
        let length = usize::try_from((end - start).min(READ)).unwrap_or(0);
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, start)?;
        let mut lines = Vec::new();
        let mut from = 0;
        for behind in memchr::memchr_iter(b'\n', &bytes).chain([bytes.len()]) {
            if let Some((id, command)) = parse_line(&bytes[from..behind]) {
                lines.push((id, behind - command.len()..behind));
            }
            from = (behind + 1).min(bytes.len());
        }
        Ok(Self {
            number,
            bytes,
            lines,
        })
    }

    fn get(&self, id: TaskId) -> Option<&[u8]> {
        let at = self.lines.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.bytes.get(self.lines[at].1.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::synthetic::workdir;
    use crate::model::task::push_line;

    /// The command made up for a task: some empty, some far longer than a block.
    fn command(id: u64) -> Vec<u8> {
        let length = match id % 100 {
            7 => 0,
            50 => 20_000,
            _ => id % 60,
        };
        let end = "x".repeat(usize::try_from(length).unwrap());
        format!("run {id} \u{fffd}{end}").into_bytes()
    }

    #[test]
    fn every_command_is_found_in_any_order() {
        let dir = workdir(&[]);
        let mut tasks = Vec::new();
        let ids: Vec<u64> = (0..3000).filter(|id| id % 7 != 3).collect();
        for &id in &ids {
            push_line(&mut tasks, TaskId(id), &command(id));
        }
        dir.file("tasks", &tasks);
        let mut commands = Commands::open(dir.path()).unwrap();
        for step in 0..ids.len() {
            // A stride that is prime to the length visits all, far apart.
            let id = ids[step * 1009 % ids.len()];
            let found = commands.get(TaskId(id)).unwrap().unwrap().to_vec();
            assert!(command(id).starts_with(&found), "{id}");
            assert!(found.len() >= command(id).len().min(4000), "{id}");
        }
        assert_eq!(commands.last().unwrap(), ids.last().copied().map(TaskId));
        for unknown in [3, 10, 3001, u64::MAX] {
            assert_eq!(commands.get(TaskId(unknown)).unwrap(), None);
        }
    }

    #[test]
    fn a_workdir_without_tasks_knows_no_command() {
        let dir = workdir(&[]);
        for bytes in [&b""[..], b"\n", b"no id\n", b"12 no line end"] {
            dir.file("tasks", bytes);
            let mut commands = Commands::open(dir.path()).unwrap();
            assert!(commands.is_known());
            assert_eq!(commands.get(TaskId(0)).unwrap(), None);
            let last = commands.last().unwrap();
            assert_eq!(last, bytes.starts_with(b"12").then_some(TaskId(12)));
        }
        std::fs::remove_file(dir.path().join("tasks")).unwrap();
        let mut commands = Commands::open(dir.path()).unwrap();
        assert!(!commands.is_known());
        assert_eq!(commands.get(TaskId(0)).unwrap(), None);
    }
}
