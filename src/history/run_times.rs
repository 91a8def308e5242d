//! How long tasks ran in an earlier run, by their commands.
//!
//! Guarantee: a task is known by its command, whatever is said of it and whatever its id is. Of
//! a million tasks it keeps some tens of bytes each.

use std::fs;
use std::io;
use std::path::Path;

use super::journals::journals;
use super::lines;
use super::run::scan;
use super::{is_workdir, open_if_any};
use crate::model::outcome::Outcome;
use crate::model::task::{fingerprint, parse_line};
use crate::workdir::layout::{RESET, TASKS};

/// What is known of how long tasks run.
#[derive(Clone, Debug, Default)]
pub struct RunTimes {
    /// By the fingerprints of their commands, in ascending order; microseconds.
    times: Vec<((u64, u64), u64)>,
    /// The mean of all of them: what a task is taken to need of which nothing is known.
    mean: u64,
}

impl RunTimes {
    /// Reads the records of a workdir, those from before a reset included: of each task the last
    /// attempt that finished or reached its time limit.
    pub fn read(workdir: &Path) -> io::Result<Self> {
        if !is_workdir(workdir) {
            let what = format!("{} is not a workdir", workdir.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        }
        let mut by_id: Vec<u64> = Vec::new();
        for folder in resets(workdir)? {
            read_into(&folder, &mut by_id)?;
        }
        read_into(workdir, &mut by_id)?;
        Self::of_commands(workdir, &by_id)
    }

    fn of_commands(workdir: &Path, by_id: &[u64]) -> io::Result<Self> {
        let mut times = Vec::new();
        if let Some(file) = open_if_any(&workdir.join(TASKS))? {
            lines::each(&file, 0, |line, _| {
                let known = parse_line(line).and_then(|(id, text)| {
                    let at = usize::try_from(id.0).ok()?;
                    let us = by_id.get(at).copied().filter(|us| *us > 0)?;
                    Some((fingerprint(text), us))
                });
                times.extend(known);
                Ok(())
            })?;
        }
        // Of the same command several times, the longest.
        times.sort_unstable();
        times.reverse();
        times.dedup_by_key(|(command, _)| *command);
        times.reverse();
        let sum: u128 = times.iter().map(|(_, us)| u128::from(*us)).sum();
        let mean = sum / (times.len().max(1) as u128);
        let mean = u64::try_from(mean).unwrap_or(u64::MAX);
        Ok(Self { times, mean })
    }

    /// Of how many different commands something is known.
    pub fn count(&self) -> usize {
        self.times.len()
    }

    /// How long the task of this stored line takes, in microseconds.
    pub fn of(&self, line: &[u8]) -> u64 {
        let found = (self.times).binary_search_by_key(&fingerprint(line), |(command, _)| *command);
        found.map_or(self.mean, |at| self.times[at].1)
    }
}

/// The folders with what there was before a reset, the oldest first.
fn resets(workdir: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(workdir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(RESET));
        let number = number.and_then(|number| number.parse::<u64>().ok());
        found.extend(number.map(|number| (number, entry.path())));
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Takes in how long the tasks ran of which these journals have the ends.
fn read_into(folder: &Path, by_id: &mut Vec<u64>) -> io::Result<()> {
    for journal in journals(folder)? {
        let file = journal.file()?;
        lines::each(&file, 0, |line, _| {
            let ended = scan::parse(line).filter(|attempt| {
                let outcome = attempt.outcome.as_ref();
                let counts = [Outcome::Exit(0), Outcome::TimeLimit];
                !attempt.is_skipped && outcome.is_some_and(|outcome| counts.contains(outcome))
            });
            if let Some(attempt) = ended
                && let Ok(at) = usize::try_from(attempt.id)
                && at < MOST
            {
                if at >= by_id.len() {
                    by_id.resize(at + 1, 0);
                }
                by_id[at] = attempt.us.max(1);
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// No list has more tasks; a greater id is damage.
const MOST: usize = 1 << 28;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::synthetic::{end, header, workdir};

    const T: u64 = 1_800_000_000_000_000;

    #[test]
    fn a_task_is_known_by_its_command_and_an_unknown_one_takes_the_mean() {
        let dir = workdir(&["a #PYTF cpus=2", "b", "c", "b", "d"]);
        let records = [
            header("n1", T, 1),
            end(0, 1, 0, T, 100, Outcome::Exit(0)),
            end(1, 1, 0, T, 40, Outcome::Exit(0)),
            end(2, 1, 0, T, 9000, Outcome::Exit(1)),
            end(2, 2, 0, T, 500, Outcome::TimeLimit),
            end(3, 1, 0, T, 60, Outcome::Exit(0)),
            end(4, 1, 0, T, 70, Outcome::Interrupted),
        ];
        dir.journal("n1.0.1.1", &records);
        let times = RunTimes::read(dir.path()).unwrap();
        assert_eq!(times.count(), 3);
        let of = |line: &str| times.of(line.as_bytes());
        assert_eq!((of("a"), of("b #PYTF mem=1G"), of("c")), (100, 60, 500));
        assert_eq!((of("d"), of("e")), (220, 220));
    }
}
