//! Lists of other tools: the text of such a list → the lines of a list with `#PYTF` that means the
//! same.
//!
//! | part | its lists |
//! |---|---|
//! | `disbatch` | disBatch: `#DISBATCH PREFIX`, `SUFFIX`, `REPEAT`, `BARRIER`, `PERENGINE` |
//! | `runtask` | DistributedTaskQueue: tags after a command, `#!`, `#@2`, `#:group`, `#+group` |
//! | `greasy` | GREASY: `[# 3, -1, 5-7 #]`, `[@ folder @]` |
//! | `numbered` | launcher, dSQ and GNU parallel: a command per line, and variables with its number |
//! | `pylauncher` | pylauncher: `5,command`, `PYL_ID` |
//! | `swarm` | NIH swarm: `#SWARM` |
//!
//! The farm knows nothing of them: it reads what comes out. Guarantee: each line that comes out
//! has the number of the line from which it was made, so that errors name the user's own line.
//! What cannot be carried over is refused with its line, or is a note; nothing is dropped in
//! silence. A variable that such a tool sets for its tasks has the value that it has there; where
//! it follows from the id of a task, its text is the same for all tasks, so that a list to which
//! lines are added still has the same tasks.

mod disbatch;
mod greasy;
mod numbered;
mod out;
mod pylauncher;
mod runtask;
mod swarm;
#[cfg(test)]
mod tests;
mod text;

use self::out::Out;
use self::text::Result;
use super::tool::{List, Tool, Translation};

/// Translates a list.
pub fn translate(tool: Tool, list: &List<'_>) -> Result<Translation> {
    let mut out = Out::of(tool);
    match tool {
        Tool::DisBatch => disbatch::translate(list, &mut out)?,
        Tool::Runtask => runtask::translate(list, &mut out)?,
        Tool::Greasy => greasy::translate(list, &mut out)?,
        Tool::Launcher => numbered::launcher(list, &mut out)?,
        Tool::Dsq => numbered::dsq(list, &mut out)?,
        Tool::Parallel => numbered::parallel(list, &mut out)?,
        Tool::Pylauncher => pylauncher::translate(list, &mut out)?,
        Tool::Swarm => swarm::translate(list, &mut out)?,
    }
    Ok(out.done())
}

/// The command as the user wrote it, without the variables of its tool that a translation put
/// before it.
pub fn as_written(command: &[u8]) -> &[u8] {
    const BEGINNINGS: [&[u8]; 2] = [b"export DISBATCH_TASKID=", b"export SWARM_COMM_ID="];
    if !BEGINNINGS.iter().any(|begin| command.starts_with(begin)) {
        return command;
    }
    let mut quote = None;
    let mut bytes = command.iter().enumerate();
    while let Some((at, &byte)) = bytes.next() {
        match (quote, byte) {
            (None, b';') => return command[at + 1..].trim_ascii_start(),
            (None, b'\'' | b'"') => quote = Some(byte),
            (Some(open), byte) if byte == open => quote = None,
            (None | Some(b'"'), b'\\') => drop(bytes.next()),
            _ => {}
        }
    }
    command
}
