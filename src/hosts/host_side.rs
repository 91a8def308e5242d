//! The host's end: answers what it is asked on its standard input, then becomes the farmer.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam_channel::{RecvTimeoutError, bounded, tick};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::control::{ALIVE, ALIVE_EVERY, ANSWER, ORDER, SILENCE_OF_WORKDIR};
use super::greeting::{
    Answer, FarmQuestion, LONGEST, LookAnswer, LookQuestion, MARK, Question, Served, Start, Wanted,
};
use super::receive::receive;
use crate::exit::RunExit;
use crate::model::host_facts::HostFacts;
use crate::workdir::fs::{PipeServer, read_frame, write_frame};
use crate::workdir::layout::LOGS;
use crate::workdir::open::{OpenOptions, Ownership, Workdir, open_dir};

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

/// Answers, and does what is asked: that may be to become a farmer.
/// `facts` looks at this host.
pub fn answer(facts: fn() -> HostFacts) -> io::Result<()> {
    // Not through a buffer: what follows is for the farmer.
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    match read_line(&mut input)? {
        Question::Farm(question) => Err(become_farmer(&question, &mut input)?),
        Question::Look(question) => look(&question, &facts(), &mut input),
        Question::Serve(wanted) => serve(&wanted, input),
    }
}

fn become_farmer(question: &FarmQuestion, input: &mut File) -> io::Result<io::Error> {
    let named = question.folder.as_deref();
    let folder = folder(named, &question.here, question.has_copies);
    let (proof, problem) = match &folder {
        Ok(folder) => (
            proof(&folder.join(&question.workdir).join(LOGS), &question.proof),
            None,
        ),
        Err(problem) => (None, Some(problem.clone())),
    };
    say(&Answer { proof, problem })?;
    let start: Start = read_line(input)?;
    let folder = folder.map_err(io::Error::other)?;
    if start.has_copies {
        receive(&folder, input, say)?;
    }
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

/// Says what this host is, and what its clock says as often as that is asked.
fn look(question: &LookQuestion, facts: &HostFacts, input: &mut File) -> io::Result<()> {
    let folder = folder(question.folder.as_deref(), &question.here, false);
    say(&LookAnswer {
        facts: facts.clone(),
        // The folder from which it is asked, also where tasks run in another one.
        proof: proof(Path::new(&question.here), &question.proof),
        problem: folder.err(),
    })?;
    while read_line::<()>(input).is_ok() {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        say(&since.unwrap_or_default().as_secs_f64())?;
    }
    Ok(())
}

/// Carries out operations on the files of a workdir, until the connection ends or falls silent.
fn serve(wanted: &Wanted, mut input: File) -> io::Result<()> {
    let ownership = if wanted.is_shared {
        Ownership::Shared
    } else {
        Ownership::Ours
    };
    let options = OpenOptions {
        create: wanted.create,
        ownership,
        lock: wanted.lock,
    };
    let path = std::path::absolute(in_home(&wanted.path))?;
    let opened = Workdir::open(&path, options).and_then(|workdir| {
        let dir = open_dir(&path, ownership)?;
        Ok((workdir.mechanism, dir))
    });
    let (mechanism, dir) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let exit = if error.is_wrong_usage() {
                RunExit::Usage
            } else {
                RunExit::WorkdirUnusable
            };
            say(&Served::Refused(error.to_string(), exit.code()))?;
            return Ok(());
        }
    };
    say(&Served::Here(path.display().to_string(), mechanism))?;
    let output = Arc::new(Mutex::new(io::stdout()));
    let send = |output: &Mutex<io::Stdout>, frame: &[u8]| {
        let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
        write_frame(&mut *output, frame).and_then(|()| output.flush())
    };
    let (frame, frames) = bounded(4);
    std::thread::Builder::new().spawn(move || {
        // An error is the end, too.
        while let Ok(Some(read)) = read_frame(&mut input) {
            if frame.send(read).is_err() {
                return;
            }
        }
    })?;
    let to = output.clone();
    std::thread::Builder::new().spawn(move || {
        for _ in tick(ALIVE_EVERY) {
            if send(&to, &[ORDER, ALIVE]).is_err() {
                return;
            }
        }
    })?;
    PipeServer::new(dir, Arc::default()).serve_frames(
        || match frames.recv_timeout(SILENCE_OF_WORKDIR) {
            Ok(frame) => Ok(Some(frame)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(ErrorKind::TimedOut.into()),
        },
        |answer| send(&output, &[&[ANSWER][..], answer].concat()),
    )
}

/// A path, which may be in the home folder.
fn in_home(path: &str) -> PathBuf {
    match path.strip_prefix("~/") {
        Some(rest) => std::env::home_dir().unwrap_or_default().join(rest),
        None => PathBuf::from(path),
    }
}

/// Where tasks run, or why they cannot. Where files are copied there, it is made.
fn folder(named: Option<&str>, here: &str, is_made: bool) -> Result<PathBuf, String> {
    let Some(named) = named else {
        let here = PathBuf::from(here);
        let home = || std::env::home_dir().unwrap_or_default();
        return Ok(if here.is_dir() { here } else { home() });
    };
    let path = in_home(named);
    if is_made {
        // What prevents it is said by what follows.
        let _ = std::fs::create_dir_all(&path);
    }
    match std::fs::metadata(&path) {
        Ok(stat) if stat.is_dir() => Ok(path),
        Ok(_) => Err(format!("{named} is not a folder there")),
        Err(error) => Err(format!("the folder {named} there: {error}")),
    }
}

/// What the file has that only somebody who shares the folder can know.
fn proof(folder: &Path, name: &str) -> Option<String> {
    if name.contains('/') {
        return None;
    }
    let mut text = String::new();
    let file = File::open(folder.join(name)).ok()?;
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
