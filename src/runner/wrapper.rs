//! A runner that puts a line into the arguments of another program: a container, `srun`, a
//! template of the user.
//!
//! Guarantee: a value is one argument or a part of one, whatever it holds: no shell reads it,
//! unless the runner itself starts one.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The longest line that fits into one argument: the kernel's `MAX_ARG_STRLEN`
/// is 128 KiB, its NUL byte included, and a blank may be put in front.
pub const LONGEST_ARGUMENT: usize = 128 * 1024 - 2;

/// A runner that puts a line into the arguments of another program.
#[derive(Clone, Debug, Default)]
pub struct Wrapper {
    /// Its name, as users choose it.
    pub name: String,
    /// The arguments; the first is the program.
    pub words: Vec<Word>,
    /// Variables that it sets for the program.
    pub set: Vec<(String, String)>,
    /// Whether it hides a variable from the program.
    pub hides: Option<fn(&str) -> bool>,
    /// Whether each attempt needs a folder of its own.
    pub needs_folder: bool,
    /// Whether it makes steps: `nodes=` and `ntasks=` of a task mean something.
    pub has_steps: bool,
    /// Exit statuses that are not those of the task, and what they mean.
    pub meanings: &'static [(i32, &'static str)],
}

/// An argument, or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// One argument.
    One(Vec<Piece>),
    /// One argument, or none where one of its values is absent.
    IfThere(Vec<Piece>),
    /// Three: the shell of the farm, `-c` and the line.
    Shell,
    /// The line, split at blanks as Python's `split()` does it.
    Split,
    /// One argument, for a task on one node only.
    OneNode(String),
    /// The memory of a step: that of the task, else so many MiB per CPU.
    Memory(Option<u64>),
}

/// A part of an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// This text.
    Text(String),
    /// A value.
    Value(Value),
}

/// A value that depends on the task, or on where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// The line of the task.
    Command,
    /// Its id.
    Id,
    /// The number of the attempt.
    Attempt,
    /// The slot.
    Slot,
    /// The name of the node.
    Node,
    /// The workdir.
    Workdir,
    /// The folder in which the farm was started.
    RunDir,
    /// The folder of the attempt.
    TaskDir,
    /// The current folder of the task: one of the two.
    CurrentDir,
    /// Number of CPUs.
    Cpus,
    /// Number of GPUs, unless it is 0.
    Gpus,
    /// Memory in MiB.
    Mem,
    /// Number of nodes.
    Nodes,
    /// Number of MPI ranks.
    Ntasks,
    /// Number of CPUs, 1 where it is not specified.
    CpusOrOne,
}

/// How templates name the values.
pub const VALUES: [(&str, Value); 14] = [
    ("command", Value::Command),
    ("id", Value::Id),
    ("attempt", Value::Attempt),
    ("slot", Value::Slot),
    ("node", Value::Node),
    ("workdir", Value::Workdir),
    ("rundir", Value::RunDir),
    ("taskdir", Value::TaskDir),
    ("cwd", Value::CurrentDir),
    ("cpus", Value::Cpus),
    ("gpus", Value::Gpus),
    ("mem", Value::Mem),
    ("nodes", Value::Nodes),
    ("ntasks", Value::Ntasks),
];

/// The values of one attempt.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// The line of the task.
    pub command: &'a [u8],
    /// Its id.
    pub id: u64,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The slot.
    pub slot: u32,
    /// The name of the node.
    pub node: &'a str,
    /// The workdir.
    pub workdir: &'a Path,
    /// The folder in which the farm was started.
    pub run_dir: &'a Path,
    /// The folder of the attempt, if it has one.
    pub task_dir: Option<&'a Path>,
    /// Number of CPUs, where it is specified.
    pub cpus: Option<u32>,
    /// Number of GPUs, where it is specified.
    pub gpus: Option<u32>,
    /// Memory in KiB; 0 is not specified.
    pub mem_kib: u64,
    /// Number of nodes, where it is specified.
    pub nodes: Option<u32>,
    /// Number of MPI ranks, where it is specified.
    pub ntasks: Option<u32>,
}

impl Values<'_> {
    /// The value; none where nothing is specified.
    fn get(&self, value: Value) -> Option<Vec<u8>> {
        let path = |path: &Path| Some(path.as_os_str().as_bytes().to_vec());
        let number = |number: Option<u64>| number.map(|number| number.to_string().into_bytes());
        match value {
            Value::Command => Some(self.command.to_vec()),
            Value::Id => number(Some(self.id)),
            Value::Attempt => number(Some(self.attempt.into())),
            Value::Slot => number(Some(self.slot.into())),
            Value::Node => Some(self.node.as_bytes().to_vec()),
            Value::Workdir => path(self.workdir),
            Value::RunDir => path(self.run_dir),
            Value::TaskDir => self.task_dir.and_then(path),
            Value::CurrentDir => path(self.task_dir.unwrap_or(self.run_dir)),
            Value::Cpus => number(self.cpus.map(u64::from)),
            Value::CpusOrOne => number(Some(self.cpus.unwrap_or(1).into())),
            Value::Gpus => number(self.gpus.filter(|gpus| *gpus > 0).map(u64::from)),
            Value::Mem => number((self.mem_kib > 0).then(|| self.mem_kib.div_ceil(1024))),
            Value::Nodes => number(Some(self.nodes.unwrap_or(1).into())),
            Value::Ntasks => number(Some(self.ntasks.or(self.nodes).unwrap_or(1).into())),
        }
    }
}

impl Wrapper {
    /// The arguments of an attempt; `shell` is the shell of the farm. The error is a sentence
    /// for the log of the task.
    pub fn arguments(&self, values: &Values<'_>, shell: &Path) -> Result<Vec<Vec<u8>>, String> {
        let mut arguments = Vec::new();
        for word in &self.words {
            match word {
                Word::One(pieces) => {
                    arguments.push(
                        joined(pieces, |value| Some(values.get(value).unwrap_or_default()))
                            .unwrap_or_default(),
                    );
                }
                Word::IfThere(pieces) => {
                    arguments.extend(joined(pieces, |value| values.get(value)));
                }
                Word::Shell => arguments.extend([
                    shell.as_os_str().as_bytes().to_vec(),
                    b"-c".to_vec(),
                    not_an_option(values.command),
                ]),
                Word::OneNode(text) if values.nodes.unwrap_or(1) == 1 => {
                    arguments.push(text.clone().into_bytes());
                }
                Word::OneNode(_) => {}
                Word::Memory(per_cpu) => {
                    let of_task = values
                        .get(Value::Mem)
                        .map(|mib| [b"--mem=", &mib[..]].concat());
                    let per_cpu = per_cpu.map(|mib| format!("--mem-per-cpu={mib}").into_bytes());
                    arguments.extend(of_task.or(per_cpu));
                }
                Word::Split => {
                    let words = split(values.command);
                    arguments.extend(words.into_iter().map(<[u8]>::to_vec));
                }
            }
        }
        if let Some(long) = arguments
            .iter()
            .find(|word| word.len() > LONGEST_ARGUMENT + 1)
        {
            return Err(format!(
                "an argument of the runner '{}' would have {} bytes, and the kernel takes {}: put \
                 the command into a script",
                self.name,
                long.len(),
                LONGEST_ARGUMENT + 1
            ));
        }
        Ok(arguments)
    }

    /// The environment of the program, made of that of the task.
    pub fn environment(&self, of_task: &[CString]) -> Vec<CString> {
        let is_set = |name: &str| self.set.iter().any(|(there, _)| there == name);
        let is_hidden = |name: &str| self.hides.is_some_and(|hides| hides(name)) || is_set(name);
        let kept = of_task.iter().filter(|var| {
            let name = var.to_bytes().split(|&byte| byte == b'=').next();
            let name = name.and_then(|name| std::str::from_utf8(name).ok());
            !name.is_some_and(is_hidden)
        });
        let set = self
            .set
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let set = set.filter_map(|var| CString::new(var).ok());
        kept.cloned().chain(set).collect()
    }

    /// What an exit status means that is not one of the task.
    pub fn meaning(&self, code: i32) -> Option<&'static str> {
        let meaning = self.meanings.iter().find(|(status, _)| *status == code);
        meaning.map(|(_, meaning)| *meaning)
    }

    /// Adds a word of one text.
    #[must_use]
    pub fn word(mut self, text: &str) -> Self {
        self.words
            .push(Word::One(vec![Piece::Text(text.to_owned())]));
        self
    }

    /// Adds words of one text each.
    #[must_use]
    pub fn words<'a>(self, texts: impl IntoIterator<Item = &'a str>) -> Self {
        texts.into_iter().fold(self, Self::word)
    }

    /// Adds a word of a text and a value, which is left out where the value is absent.
    #[must_use]
    pub fn value(mut self, before: &str, value: Value) -> Self {
        let pieces = vec![Piece::Text(before.to_owned()), Piece::Value(value)];
        self.words.push(Word::IfThere(pieces));
        self
    }

    /// Adds a word of these pieces.
    #[must_use]
    pub fn pieces(mut self, pieces: Vec<Piece>) -> Self {
        self.words.push(Word::One(pieces));
        self
    }
}

fn joined(pieces: &[Piece], get: impl Fn(Value) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let mut word = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => word.extend_from_slice(text.as_bytes()),
            Piece::Value(value) => word.extend(get(*value)?),
        }
    }
    Some(word)
}

/// A line as the argument after `-c`: one that begins with `-` or `+` would be read as options.
pub(super) fn not_an_option(line: &[u8]) -> Vec<u8> {
    let blank: &[u8] = match line.first() {
        Some(b'-' | b'+') => b" ",
        _ => b"",
    };
    [blank, line].concat()
}

/// The words of a line as Python's `str.split()` finds them.
fn split(line: &[u8]) -> Vec<&[u8]> {
    let words: Vec<&[u8]> = match std::str::from_utf8(line) {
        Ok(text) => text
            .split(|c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c))
            .map(str::as_bytes)
            .collect(),
        Err(_) => line.split(u8::is_ascii_whitespace).collect(),
    };
    words.into_iter().filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn values(command: &[u8]) -> Values<'_> {
        Values {
            command,
            id: 7,
            attempt: 2,
            slot: 3,
            node: "n1",
            workdir: Path::new("/w"),
            run_dir: Path::new("/run"),
            task_dir: None,
            cpus: None,
            gpus: None,
            mem_kib: 0,
            nodes: None,
            ntasks: None,
        }
    }

    /// The arguments as text.
    pub(crate) fn shown(wrapper: &Wrapper, values: &Values<'_>) -> Vec<String> {
        let arguments = wrapper.arguments(values, Path::new("/bin/bash")).unwrap();
        let text = |word: Vec<u8>| String::from_utf8(word).unwrap();
        arguments.into_iter().map(text).collect()
    }

    #[test]
    fn a_value_is_a_part_of_one_argument() {
        let wrapper = Wrapper::default()
            .word("run")
            .value("--mem=", Value::Mem)
            .value("--dir=", Value::TaskDir)
            .pieces(vec![
                Piece::Value(Value::Id),
                Piece::Text(": ".into()),
                Piece::Value(Value::Command),
            ]);
        let of = values(b"echo 'a b' $HOME");
        assert_eq!(shown(&wrapper, &of), ["run", "7: echo 'a b' $HOME"]);
        let of = Values {
            mem_kib: 1025,
            task_dir: Some(Path::new("/t")),
            ..of
        };
        let expected = ["run", "--mem=2", "--dir=/t", "7: echo 'a b' $HOME"];
        assert_eq!(shown(&wrapper, &of), expected);
    }

    #[test]
    fn a_line_is_given_to_the_shell_or_split() {
        let shell = Wrapper {
            words: vec![Word::Shell],
            ..Wrapper::default()
        };
        assert_eq!(shown(&shell, &values(b"-x")), ["/bin/bash", "-c", " -x"]);
        let split = Wrapper {
            words: vec![Word::Split],
            ..Wrapper::default()
        };
        let line = "a  'b c'\t&& d\u{a0}e";
        assert_eq!(
            shown(&split, &values(line.as_bytes())),
            ["a", "'b", "c'", "&&", "d", "e"]
        );
    }

    #[test]
    fn an_argument_that_is_too_long_is_an_error() {
        let wrapper = Wrapper {
            name: "a".into(),
            words: vec![Word::Shell],
            ..Wrapper::default()
        };
        let line = vec![b'x'; LONGEST_ARGUMENT + 2];
        let error = wrapper.arguments(&values(&line), Path::new("sh"));
        assert!(error.unwrap_err().contains("put the command into a script"));
    }

    #[test]
    fn variables_are_set_and_hidden() {
        let wrapper = Wrapper {
            set: vec![("BASH_ENV".into(), String::new())],
            hides: Some(|name| name.starts_with("SLURM_STEP_")),
            ..Wrapper::default()
        };
        let env = [c"A=1", c"BASH_ENV=x", c"SLURM_STEP_ID=0", c"B=2"].map(CString::from);
        let expected = [c"A=1", c"B=2", c"BASH_ENV="].map(CString::from);
        assert_eq!(wrapper.environment(&env), expected);
    }
}
