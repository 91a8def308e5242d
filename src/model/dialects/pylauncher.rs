//! pylauncher: `5,command` says how many cores a command has, and `PYL_ID` anywhere in a line is
//! replaced by the number of the command, from 0.

use super::out::{Around, Out};
use super::text::{Result, lines, trim};
use crate::model::attributes::Attributes;
use crate::model::shell_text::{Quoting, quoting};
use crate::model::tool::{List, Refusal};

/// What is replaced, wherever it is.
const MACROS: [&str; 2] = ["PYL_ID", "PYLTID"];
/// A line of its own.
const BARRIER: &[u8] = b"__barrier__";

pub(super) fn translate(list: &List<'_>, out: &mut Out) -> Result<()> {
    let has_cores = lines(list.text).any(|(_, line)| cores(trim(line)).is_some());
    let mut task = 0;
    for (number, line) in lines(list.text) {
        let text = trim(line);
        if matches!(text.first(), None | Some(b'#')) {
            out.comment(number, line)?;
            continue;
        }
        if text == BARRIER {
            out.line(number, b"#PYTF barrier");
            continue;
        }
        let mut attributes = Attributes::default();
        let mut command = text;
        if has_cores {
            let Some((cores, rest)) = cores(text) else {
                let what = "other lines begin with a number of cores ('5,command'), so pylauncher \
                            refuses this one: write 1, before it";
                return Err(Refusal::of(number, what));
            };
            if cores == 0 {
                return Err(Refusal::of(number, "a command with 0 cores"));
            }
            attributes.cpus = Some(cores);
            command = rest;
        }
        if memchr::memmem::find(command, b"PYL_MPIEXEC").is_some() {
            let what = "PYL_MPIEXEC is replaced by a start of MPI processes in pylauncher only: \
                        write the srun or mpiexec of your site";
            return Err(Refusal::of(number, what));
        }
        let command = replaced(command, task);
        out.task(number, &Around::default(), &command, &attributes)?;
        task += 1;
    }
    Ok(())
}

/// The number of cores before a command.
fn cores(line: &[u8]) -> Option<(u32, &[u8])> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = line[digits..].strip_prefix(b",")?;
    let cores = std::str::from_utf8(&line[..digits]).ok()?;
    // Too many are a number of cores all the same, and no node has them.
    let cores = (!cores.is_empty()).then(|| cores.parse().unwrap_or(u32::MAX))?;
    Some((cores, rest))
}

/// A command with the number of its task: as a variable, so that the text does not depend on it,
/// and as it is where the shell would not replace that.
fn replaced(command: &[u8], task: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(command.len());
    let mut at = 0;
    while at < command.len() {
        let found = MACROS
            .iter()
            .find(|word| command[at..].starts_with(word.as_bytes()));
        let Some(word) = found else {
            out.push(command[at]);
            at += 1;
            continue;
        };
        let is_expanded = matches!(
            quoting(&command[..at]),
            Some(Quoting::Bare | Quoting::Double)
        );
        // In arithmetic and behind a $ it would be a part of a name.
        let is_name = at > 0 && matches!(command[at - 1], b'$' | b'{' | b'!' | b'#');
        if is_expanded && !is_name {
            out.extend_from_slice(b"${PYTF_TASK_ID}");
        } else {
            out.extend_from_slice(task.to_string().as_bytes());
        }
        at += word.len();
    }
    out
}
