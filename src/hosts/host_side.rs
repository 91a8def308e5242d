//! The host's end: answers what it is asked on its standard input, then becomes the farmer.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::greeting::{Answer, FarmQuestion, LONGEST, MARK, Question, Start};
use crate::workdir::layout::LOGS;

/// The word by which a host is asked.
pub const ASK: &str = "__host";
/// The word by which the farmer is started: the workdir, the place of the farmer in the launch,
/// and the options of the farm follow.
pub const FARM: &str = "__hosted";

/// The same, where the workdir is at the other end of standard input and output: how it is locked
/// comes before it.
pub const PIPED: &str = "__piped";

/// No proof is longer.
const LONGEST_PROOF: u64 = 1024;

/// Answers, and becomes the farmer; returns only with an error.
pub fn answer() -> io::Error {
    answer_and_start().unwrap_or_else(|error| error)
}

fn answer_and_start() -> io::Result<io::Error> {
    // Not through a buffer: what follows is for the farmer.
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    match read_line(&mut input)? {
        Question::Farm(question) => become_farmer(&question, &mut input),
    }
}

fn become_farmer(question: &FarmQuestion, input: &mut File) -> io::Result<io::Error> {
    let folder = folder(question);
    let (proof, problem) = match &folder {
        Ok(folder) => (
            proof(&folder.join(&question.workdir), &question.proof),
            None,
        ),
        Err(problem) => (None, Some(problem.clone())),
    };
    say(&Answer { proof, problem })?;
    let start: Start = read_line(input)?;
    let folder = folder.map_err(io::Error::other)?;
    let program = std::env::current_exe()?;
    let (word, place) = match &start.pipe {
        None => (FARM, &question.workdir),
        Some(mechanism) => (PIPED, mechanism),
    };
    Ok(Command::new(program)
        .arg(word)
        .args([place, &start.job])
        .args([start.rank.to_string(), start.size.to_string()])
        .args(&start.args)
        .envs(start.variables)
        .current_dir(folder)
        .exec())
}

/// Where tasks run, or why they cannot.
fn folder(question: &FarmQuestion) -> Result<PathBuf, String> {
    let Some(named) = question.folder.as_deref() else {
        let here = PathBuf::from(&question.here);
        let home = || std::env::home_dir().unwrap_or_default();
        return Ok(if here.is_dir() { here } else { home() });
    };
    let path = match named.strip_prefix("~/") {
        Some(rest) => std::env::home_dir().unwrap_or_default().join(rest),
        None => PathBuf::from(named),
    };
    match std::fs::metadata(&path) {
        Ok(stat) if stat.is_dir() => Ok(path),
        Ok(_) => Err(format!("{named} is not a folder there")),
        Err(error) => Err(format!("the folder {named} there: {error}")),
    }
}

/// What the file has that only somebody who shares the workdir can know.
fn proof(workdir: &Path, name: &str) -> Option<String> {
    if name.contains('/') {
        return None;
    }
    let mut text = String::new();
    let file = File::open(workdir.join(LOGS).join(name)).ok()?;
    file.take(LONGEST_PROOF).read_to_string(&mut text).ok()?;
    Some(text)
}

fn say(what: &impl Serialize) -> io::Result<()> {
    let line = format!("{MARK}{}\n", serde_json::to_string(what)?);
    let mut stdout = io::stdout();
    stdout.write_all(line.as_bytes())?;
    stdout.flush()
}

/// One line, and no byte of what follows it.
fn read_line<T: DeserializeOwned>(input: &mut impl Read) -> io::Result<T> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match input.read(&mut byte) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) if byte[0] == b'\n' => return Ok(serde_json::from_slice(&line)?),
            Ok(_) if line.len() == LONGEST => return Err(ErrorKind::InvalidData.into()),
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
