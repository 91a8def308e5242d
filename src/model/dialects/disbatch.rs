//! disBatch: `#DISBATCH` at the beginning of a line. The rules are those of its parser
//! (`_task_generator` of disBatch 3.0): prefix and suffix are joined with the text of a task
//! without a blank between them, a barrier takes an id, and `DISBATCH_TASKID` counts from 0.

use super::out::{Around, Out};
use super::text::{Result, difference, id_plus, lines, mentions, quoted, shown, trim};
use crate::model::attributes::Attributes;
use crate::model::shell_text::comment;
use crate::model::tool::{List, Refusal};

const WORD: &[u8] = b"#DISBATCH";
const CORES: &str = "DISBATCH_CORES_PER_TASK";
/// So many copies of a command are written out.
const MOST_COPIES: u64 = 100_000;

/// What holds at a place of the list.
struct Place<'a> {
    list: &'a List<'a>,
    prefix: Vec<u8>,
    suffix: Vec<u8>,
    /// Tasks above.
    tasks: u64,
    /// Barriers above.
    barriers: u64,
    /// No command of a node may follow.
    has_begun: bool,
    /// Whether the list reads variables that are set only then.
    reads_line: bool,
    reads_padded: bool,
}

pub(super) fn translate(list: &List<'_>, out: &mut Out) -> Result<()> {
    let mut place = Place {
        list,
        prefix: Vec::new(),
        suffix: Vec::new(),
        tasks: 0,
        barriers: 0,
        has_begun: false,
        reads_line: mentions(list.text, "DISBATCH_STREAM_INDEX"),
        reads_padded: mentions(list.text, "_ZP"),
    };
    if mentions(list.text, CORES) {
        out.note(format!(
            "{CORES} is PYTF_CPUS or OMP_NUM_THREADS, which --cpus-per-task sets, else 1"
        ));
    }
    for (number, line) in lines(list.text) {
        if line.starts_with(WORD) {
            place.directive(number, line, out)?;
        } else if trim(line).starts_with(WORD) {
            let what = "disBatch follows #DISBATCH only at the beginning of a line";
            return Err(Refusal::of(number, what));
        } else if matches!(trim(line).first(), None | Some(b'#')) {
            out.comment(number, line)?;
        } else {
            place.task(number, line, out)?;
        }
    }
    Ok(())
}

/// What follows these words at the beginning of a line, where the case of letters counts in the
/// first only.
fn after<'a>(line: &'a [u8], words: &str) -> Option<&'a [u8]> {
    let (begin, rest) = line.split_at_checked(words.len())?;
    begin.eq_ignore_ascii_case(words.as_bytes()).then_some(rest)
}

impl Place<'_> {
    fn directive(&mut self, number: u64, line: &[u8], out: &mut Out) -> Result<()> {
        for (when, option, is_given) in [
            ("START", "--node-setup", self.list.node.setup),
            ("STOP", "--node-teardown", self.list.node.teardown),
        ] {
            if let Some(command) = after(line, &format!("#DISBATCH PERENGINE {when} ")) {
                return self.per_engine(number, command, option, is_given, out);
            }
        }
        if let Some(text) = after(line, "#DISBATCH PREFIX ") {
            self.prefix = text.to_vec();
            out.line(number, b"");
            return Ok(());
        }
        if let Some(text) = after(line, "#DISBATCH SUFFIX ") {
            self.suffix = text.to_vec();
            out.line(number, b"");
            return Ok(());
        }
        self.has_begun = true;
        if let Some(text) = after(line, "#DISBATCH REPEAT") {
            return self.repeat(number, text, out);
        }
        let after = line.strip_prefix(b"#DISBATCH BARRIER");
        let after = after.filter(|rest| matches!(rest.first(), None | Some(b' ')));
        let Some(text) = after.map(trim) else {
            return Err(Refusal::of(number, unknown(line)));
        };
        let (barrier, key): (&[u8], _) = match text.strip_prefix(b"CHECK") {
            Some(key) if matches!(key.first(), None | Some(b' ')) => {
                (b"#PYTF barrier ok", trim(key))
            }
            _ => (b"#PYTF barrier", text),
        };
        if !key.is_empty() {
            out.note(format!(
                "line {number}: the key '{}' of the barrier is for programs that ask the server of \
                 disBatch, and is posted nowhere",
                shown(key)
            ));
        }
        self.barriers += 1;
        out.line(number, barrier);
        Ok(())
    }

    /// A command that runs once on each node.
    fn per_engine(
        &self,
        number: u64,
        command: &[u8],
        option: &str,
        is_given: bool,
        out: &mut Out,
    ) -> Result<()> {
        if self.has_begun {
            let what = "disBatch refuses PERENGINE below tasks: write it above them";
            return Err(Refusal::of(number, what));
        }
        let command = [&self.prefix, command, &self.suffix].concat();
        let command = quoted(trim(&command));
        let command = String::from_utf8_lossy(&command);
        if !is_given {
            let what = format!(
                "a command of each node is an option of pytf: with {option} {command} this line is \
                 accepted"
            );
            return Err(Refusal::of(number, what));
        }
        out.note(format!(
            "line {number}: {option} runs in place of {command}"
        ));
        out.line(number, format!("# {option} {command}").as_bytes());
        Ok(())
    }

    /// The variables of tasks here. The index of a repetition is in the shell's word `repeat`.
    fn env(&self, number: u64, repeat: Option<&str>) -> String {
        let id = id_plus(i64::try_from(self.barriers).unwrap_or(i64::MAX));
        let index = repeat.unwrap_or("-1");
        let line = match repeat {
            None => id_plus(difference(number, self.tasks)),
            Some(_) => number.to_string(),
        };
        let name = self.list.path.rsplit('/').next().unwrap_or_default();
        let name = String::from_utf8_lossy(&quoted(name.as_bytes())).into_owned();
        let mut env = format!(
            "DISBATCH_TASKID={id} DISBATCH_REPEAT_INDEX={index} DISBATCH_NAMETASKS={name} \
             DISBATCH_JOBID=\"${{PYTF_WORKDIR##*/}}\" DISBATCH_CYLINDER_RANK=$PYTF_SLOT"
        );
        if mentions(self.list.text, CORES) {
            env += &format!(" {CORES}=${{PYTF_CPUS:-${{OMP_NUM_THREADS:-1}}}}");
        }
        if self.reads_line {
            env += &format!(" DISBATCH_STREAM_INDEX={line}");
        }
        let padded = [
            ("DISBATCH_TASKID_ZP", &*id),
            ("DISBATCH_REPEAT_INDEX_ZP", index),
            ("DISBATCH_STREAM_INDEX_ZP", &*line),
        ];
        for (name, value) in padded {
            if self.reads_padded && mentions(self.list.text, name) {
                env += &format!(" {name}=$(printf %06d {value})");
            }
        }
        env
    }

    fn task(&mut self, number: u64, line: &[u8], out: &mut Out) -> Result<()> {
        self.has_begun = true;
        let whole = [&self.prefix, line, &self.suffix].concat();
        check(number, &whole)?;
        let mut around = Around {
            env: self.env(number, None),
            ..Around::default()
        };
        let stands_apart = is_apart(&self.prefix, false)
            && is_apart(&self.suffix, true)
            && trim(line) == line
            && comment(line).is_none();
        let command = if stands_apart {
            around.prefix = trim(&self.prefix).to_vec();
            around.suffix = trim(&self.suffix).to_vec();
            line.to_vec()
        } else {
            whole
        };
        out.task(number, &around, &command, &Attributes::default())?;
        self.tasks += 1;
        Ok(())
    }

    /// `REPEAT 5 start 100 step 50 COMMAND`
    fn repeat(&mut self, number: u64, text: &[u8], out: &mut Out) -> Result<()> {
        let Some((repeat, command)) = Repeat::of(text) else {
            let what = "REPEAT COUNT [start N] [step N] [COMMAND] is expected";
            return Err(Refusal::of(number, what));
        };
        let whole = [&self.prefix, command, &self.suffix].concat();
        check(number, &whole)?;
        if repeat.count == 0 {
            out.line(number, b"");
            return Ok(());
        }
        let is_free = |name: &String| !mentions(&whole, &format!("{{{name}}}"));
        let mut names = ["i", "n", "index"].map(str::to_owned).into_iter();
        let name = names.find(is_free).ok_or_else(|| {
            Refusal::of(
                number,
                "the command has {i}, {n} and {index}: rename one of them",
            )
        })?;
        let values = repeat
            .values()
            .ok_or_else(|| Refusal::of(number, "the numbers of this REPEAT are too large"))?;
        let env = self.env(number, Some(&format!("{{{name}}}")));
        let mut line = format!("{name}={values} export {env}; ").into_bytes();
        line.extend_from_slice(trim(&whole));
        if trim(&whole).is_empty() {
            return Err(Refusal::of(number, "there is no command to repeat"));
        }
        out.repeat(number, &line)?;
        self.tasks += repeat.count;
        Ok(())
    }
}

/// Refuses what tasks cannot be told.
fn check(number: u64, command: &[u8]) -> Result<()> {
    if mentions(command, "DISBATCH_ENGINE_RANK") {
        let what = "DISBATCH_ENGINE_RANK is a number of each node, which pytf does not give: write \
                    $PYTF_NODE, the name of the node";
        return Err(Refusal::of(number, what));
    }
    Ok(())
}

/// Whether a text is divided from the command by one blank, so that a blank between them means
/// the same; no text is.
fn is_apart(text: &[u8], is_behind: bool) -> bool {
    let inner = if is_behind {
        text.strip_prefix(b" ")
    } else {
        text.strip_suffix(b" ")
    };
    text.is_empty() || inner.is_some_and(|inner| !inner.is_empty() && trim(inner) == inner)
}

fn unknown(line: &[u8]) -> String {
    let line = line.trim_ascii_end();
    format!(
        "'{}' is not a directive of disBatch, which knows PREFIX, SUFFIX, REPEAT, BARRIER, PERENGINE \
         START and PERENGINE STOP",
        shown(line)
    )
}

/// How often a command runs, and with which index.
struct Repeat {
    count: u64,
    start: u64,
    step: u64,
}

impl Repeat {
    /// What follows the word, and the command.
    fn of(text: &[u8]) -> Option<(Self, &[u8])> {
        let (count, mut rest) = number(text)?;
        let mut repeat = Self {
            count,
            start: 0,
            step: 1,
        };
        for (word, value) in [("start", &mut repeat.start), ("step", &mut repeat.step)] {
            let blanks = rest.len() - rest.trim_ascii_start().len();
            let after = after(rest.trim_ascii_start(), word).filter(|_| blanks > 0);
            if let Some((number, after)) = after.and_then(number) {
                (*value, rest) = (number, after);
            }
        }
        let command = rest.strip_prefix(b" ").unwrap_or(b"");
        let is_whole = rest.trim_ascii().is_empty() || rest.starts_with(b" ");
        is_whole.then_some((repeat, command.trim_ascii_end()))
    }

    /// The values of `#PYTF repeat`.
    fn values(&self) -> Option<String> {
        let Self { count, start, step } = *self;
        let last = start.checked_add(step.checked_mul(count - 1)?)?;
        match step {
            0 if count > MOST_COPIES => None,
            0 => Some(vec![start.to_string(); usize::try_from(count).ok()?].join(",")),
            1 => Some(format!("{start}-{last}")),
            _ => Some(format!("{start}-{last}:{step}")),
        }
    }
}

/// A number after blanks, and what follows.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let rest = text.trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    (rest.len() < text.len()).then_some((number, &rest[digits..]))
}
