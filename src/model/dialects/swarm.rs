//! NIH swarm: options in lines `#SWARM …`, commands that go on in the next line after ` \`.
//!
//! `-b` puts several commands into one job; here each is a task, since a task costs nothing. What
//! the options say about the job belongs to the script that starts pytf, and is a note.

use std::time::Duration;

use super::out::{Around, Out};
use super::text::{Result, id_plus, lines, mentions, shown, trim};
use crate::model::attributes::Attributes;
use crate::model::shell_text::comment;
use crate::model::tool::{List, Refusal};

const WORD: &[u8] = b"#SWARM";

/// What is done with an option.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Memory,
    Threads,
    Processes,
    Bundle,
    Time,
    Gpus,
    Modules,
    KeepComments,
    /// It means nothing here, or is so anyway.
    Nothing,
    /// It is for the script that starts pytf.
    Job,
    /// It cannot be carried over: what to do.
    Refused(&'static str),
}
use Meaning::{
    Bundle, Gpus, Job, KeepComments, Memory, Modules, Nothing, Processes, Refused, Threads, Time,
};

const OUTPUT: &str = "what a task prints is in WORKDIR/logs; 'pytf --logs' says how";
const NODE: &str = "use --node-setup and --node-teardown of pytf";

/// The options of swarm: the letter, the word, whether a value follows, and what is done.
const OPTIONS: [(&str, &str, bool, Meaning); 39] = [
    ("g", "gb-per-process", true, Memory),
    ("t", "threads-per-process", true, Threads),
    ("p", "processes-per-subjob", true, Processes),
    ("", "parallel", true, Processes),
    ("b", "bundle", true, Bundle),
    ("", "time", true, Time),
    ("", "time-per-command", true, Time),
    ("", "gres", true, Gpus),
    ("m", "module", true, Modules),
    ("", "no-comment", false, KeepComments),
    ("", "merge-output", false, Nothing),
    ("", "silent", false, Nothing),
    ("v", "verbose", true, Nothing),
    ("", "devel", false, Nothing),
    ("", "no-run", false, Nothing),
    ("", "debug", false, Nothing),
    ("", "no-scripts", false, Nothing),
    ("", "oldpack", false, Nothing),
    ("", "joblog", false, Nothing),
    ("", "logdir", true, Job),
    ("J", "job-name", true, Job),
    ("", "partition", true, Job),
    ("", "qos", true, Job),
    ("", "reservation", true, Job),
    ("", "sbatch", true, Job),
    ("", "noht", false, Job),
    (
        "",
        "maxrunning",
        true,
        Refused("--proc of pytf says how many tasks run at a time"),
    ),
    (
        "",
        "dependency",
        true,
        Refused("the script that starts pytf waits: sbatch --dependency"),
    ),
    (
        "L",
        "licenses",
        true,
        Refused("the script that starts pytf asks for them: sbatch --licenses"),
    ),
    ("", "usecsh", false, Refused("run with --shell /bin/tcsh")),
    (
        "",
        "err-exit",
        false,
        Refused("begin the command with set -e;"),
    ),
    ("", "comment-char", true, Refused("write comments with #")),
    ("", "noout", false, Refused(OUTPUT)),
    ("", "noerr", false, Refused(OUTPUT)),
    (
        "",
        "time-per-subjob",
        true,
        Refused("write --time, the time of one command"),
    ),
    ("", "prolog", true, Refused(NODE)),
    ("", "prolog-source", true, Refused(NODE)),
    ("", "epilog", true, Refused(NODE)),
    ("f", "file", true, Refused("the list is what you name")),
];

/// What the options of a list say.
#[derive(Default)]
struct Options {
    attributes: Attributes,
    modules: Vec<String>,
    /// Commands per job: the larger of `-b` and `-p`.
    per_job: u64,
    keeps_comments: bool,
}

pub(super) fn translate(list: &List<'_>, out: &mut Out) -> Result<()> {
    let options = Options::of(list, out)?;
    let mut around = Around {
        attributes: options.attributes.to_string(),
        ..Around::default()
    };
    if !options.modules.is_empty() {
        around.prefix = format!("module load {};", options.modules.join(" ")).into_bytes();
    }
    around.env = options.env(list);
    let mut open: Option<(u64, Vec<u8>)> = None;
    for (number, line) in lines(list.text) {
        let is_directive = open.is_none() && line.starts_with(WORD);
        if is_directive {
            out.line(number, b"");
            continue;
        }
        let is_comment = open.is_none() && matches!(trim(line).first(), None | Some(b'#'));
        if is_comment {
            out.comment(number, line)?;
            continue;
        }
        let (begin, mut command) = open.take().unwrap_or((number, Vec::new()));
        if let Some(part) = line.strip_suffix(b" \\") {
            command.extend_from_slice(part);
            command.push(b' ');
            open = Some((begin, command));
            continue;
        }
        if line.trim_ascii_end().ends_with(b"\\") {
            let what =
                "swarm refuses this: a line goes on after a blank and a backslash at its end";
            return Err(Refusal::of(number, what));
        }
        command.extend_from_slice(line);
        let command = options.command(begin, &command)?;
        if command.is_empty() {
            out.line(number, b"");
            continue;
        }
        out.task(begin, &around, command, &Attributes::default())?;
    }
    if let Some((begin, _)) = open {
        let what = "swarm refuses this: nothing follows the backslash at the end of the list";
        return Err(Refusal::of(begin, what));
    }
    Ok(())
}

impl Options {
    /// Those of all lines `#SWARM`, wherever they are.
    fn of(list: &List<'_>, out: &mut Out) -> Result<Self> {
        let mut options = Self {
            per_job: 1,
            ..Self::default()
        };
        for (number, line) in lines(list.text) {
            let Some(text) = line.strip_prefix(WORD) else {
                continue;
            };
            if !matches!(text.first(), Some(b' ' | b'\t')) {
                let what = "swarm follows #SWARM only with a blank behind it";
                return Err(Refusal::of(number, what));
            }
            let text = String::from_utf8_lossy(text);
            let words = words(&text).ok_or_else(|| Refusal::of(number, "a quote is not closed"))?;
            let mut words = words.into_iter();
            while let Some(word) = words.next() {
                options.take(number, &word, &mut words, out)?;
            }
        }
        Ok(options)
    }

    /// Takes in an option, and its value where it has one.
    fn take(
        &mut self,
        number: u64,
        word: &str,
        rest: &mut impl Iterator<Item = String>,
        out: &mut Out,
    ) -> Result<()> {
        let refused = |what: String| Err(Refusal::of(number, what));
        let bare = word.trim_start_matches('-');
        let first = bare.chars().next().map_or(0, char::len_utf8);
        let is_long = word.starts_with("--")
            || bare.len() > first
                && bare.starts_with(char::is_alphabetic)
                && !bare[first..].starts_with(|c: char| c.is_ascii_digit() || c == '=');
        let (name, joined) = match bare.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None if !is_long && bare.len() > first => {
                let (name, value) = bare.split_at(first);
                (name, Some(value.to_owned()))
            }
            None => (bare, None),
        };
        let is_it =
            |(letter, long, ..): &&(&str, &str, bool, Meaning)| *letter == name || *long == name;
        let known = OPTIONS.iter().find(is_it);
        let Some((_, _, has_value, meaning)) =
            known.filter(|_| word.starts_with('-') && !name.is_empty())
        else {
            return refused(format!(
                "'{}' is not an option of swarm",
                shown(word.as_bytes())
            ));
        };
        let value = match (has_value, joined) {
            (false, _) => String::new(),
            (true, Some(value)) => value,
            (true, None) => match rest.next() {
                Some(value) => value,
                None => return refused(format!("a value follows {word}")),
            },
        };
        match meaning {
            Refused(instead) => return refused(format!("{word} is not carried over: {instead}")),
            Nothing => {}
            Job => out.note(format!(
                "line {number}: {word} is for the script that starts pytf, not for its tasks"
            )),
            KeepComments => self.keeps_comments = true,
            Modules => self.modules.extend(value.split(',').map(str::to_owned)),
            _ => return self.set(number, *meaning, word, &value, out),
        }
        Ok(())
    }

    /// An option that is about each command.
    fn set(
        &mut self,
        number: u64,
        meaning: Meaning,
        word: &str,
        value: &str,
        out: &mut Out,
    ) -> Result<()> {
        let wrong = || {
            let what = format!(
                "'{}' is not a value of {word} that is understood",
                shown(value.as_bytes())
            );
            Refusal::of(number, what)
        };
        let whole = || {
            value
                .parse::<u32>()
                .ok()
                .filter(|count| *count > 0)
                .ok_or_else(wrong)
        };
        match meaning {
            Memory => {
                let size = value
                    .parse::<f64>()
                    .ok()
                    .filter(|size| *size > 0.0 && *size < 1e6);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "it is positive and small"
                )]
                let kib = (size.ok_or_else(wrong)? * 1_048_576.0).ceil() as u64;
                self.attributes.mem = vec![kib];
            }
            Threads => self.attributes.cpus = Some(whole()?),
            Processes | Bundle => {
                self.per_job = self.per_job.max(u64::from(whole()?));
                out.note(format!(
                    "line {number}: {word} {value} puts several commands into a job; each is a \
                     task of its own here"
                ));
            }
            Time => self.attributes.time = Some(time(value).ok_or_else(wrong)?),
            _ => {
                if value.matches(':').count() == 2 {
                    out.note(format!(
                        "line {number}: the kind of {word} {value} is for the script that starts \
                         pytf"
                    ));
                }
                self.attributes.gpus = Some(gpus(value).ok_or_else(|| {
                    let what = format!(
                        "'{}' is not carried over: only gpu:N is; a folder on the node's disk is \
                     --task-dir of pytf",
                        shown(value.as_bytes())
                    );
                    Refusal::of(number, what)
                })?);
            }
        }
        Ok(())
    }

    /// The variables of tasks.
    fn env(&self, list: &List<'_>) -> String {
        let mut env = format!("SWARM_COMM_ID={}", id_plus(1));
        let job = format!("$((PYTF_TASK_ID/{}%1000))", self.per_job);
        for name in ["SLURM_ARRAY_TASK_ID", "SWARM_ARRAY_TASK_ID"] {
            if mentions(list.text, name) {
                env += &format!(" {name}={job}");
            }
        }
        if mentions(list.text, "SLURM_ARRAY_JOB_ID") {
            env += " SLURM_ARRAY_JOB_ID=\"${SLURM_JOB_ID:-0}\"";
        }
        if mentions(list.text, "SWARM_PROC_ID") {
            env += " SWARM_PROC_ID=$PYTF_SLOT";
        }
        env
    }

    /// What is run of a line: swarm deletes all from a # on, also in quotes.
    fn command<'a>(&self, number: u64, line: &'a [u8]) -> Result<&'a [u8]> {
        let mut command = line;
        if !self.keeps_comments
            && let Some(at) = memchr::memchr(b'#', line)
        {
            if comment(line) != Some(at) {
                let what = "swarm deletes all from the # on, which is not a comment here: add the \
                            line '#SWARM --no-comment', with which swarm keeps it";
                return Err(Refusal {
                    line: number,
                    column: at as u64 + 1,
                    what: what.to_owned(),
                });
            }
            command = &line[..at];
        }
        let is_end = |byte: &u8| byte.is_ascii_whitespace() || *byte == b';';
        let end = command.iter().rposition(|byte| !is_end(byte));
        Ok(trim(&command[..end.map_or(0, |at| at + 1)]))
    }
}

/// The words of a text, as a shell divides them.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' => words.extend(word.take()),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        end if end == c => break,
                        inner => word.push(inner),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next()?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

/// A time as sbatch has it: `MIN`, `MIN:SEC`, `HOURS:MIN:SEC`, `DAYS-HOURS[:MIN[:SEC]]`.
fn time(text: &str) -> Option<Duration> {
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (Some(days.parse::<u64>().ok()?), clock),
        None => (None, text),
    };
    let parts: Option<Vec<u64>> = clock.split(':').map(|part| part.parse().ok()).collect();
    let seconds = match (days, &parts?[..]) {
        (None, [minutes]) => minutes.checked_mul(60)?,
        (None, [minutes, seconds]) => minutes.checked_mul(60)?.checked_add(*seconds)?,
        (_, [hours, minutes, seconds]) => hours
            .checked_mul(3600)?
            .checked_add(minutes.checked_mul(60)?)?
            .checked_add(*seconds)?,
        (Some(_), [hours, minutes]) => hours
            .checked_mul(3600)?
            .checked_add(minutes.checked_mul(60)?)?,
        (Some(_), [hours]) => hours.checked_mul(3600)?,
        _ => return None,
    };
    let seconds = days.unwrap_or(0).checked_mul(86400)?.checked_add(seconds)?;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// The number of `gpu:2`, `gpu:k80:2`.
fn gpus(text: &str) -> Option<u32> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        ["gpu"] => Some(1),
        ["gpu", count] | ["gpu", _, count] => count.parse().ok(),
        _ => None,
    }
}
