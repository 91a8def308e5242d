//! `pytf check`: what a farm would run, found without a workdir and without starting a task.
//!
//! Guarantee: the list is read, and its lines are turned into programs, as a farm on this
//! node would do it; nothing is executed but the shell, with `-n`, which executes nothing.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::handler::Maker;
use super::node_setup::{Node, task_variables};
use super::options::{Options, Order, TaskList};
use super::placement::Placement;
use super::source::Source;
use super::start::{check_order, judging};
use super::start_error::StartError;
use super::wrapping::Wrapping;
use crate::history::is_workdir;
use crate::history::run::Run;
use crate::history::run_times::RunTimes;
use crate::model::attributes::{Attributes, split};
use crate::model::class::Class;
use crate::model::escape::{clip, escape};
use crate::model::figures::{counted, grouped};
use crate::model::task::{Task, TaskId, fingerprint};
use crate::model::tasklist::{Dialect, Occurrences, Parser};
use crate::model::tool::Translation;
use crate::runner::chosen::Runners;
use crate::runner::direct::is_taken;
use crate::runner::shell::Kind;
use crate::runner::{How, Runner, explain};
use crate::ui::summary::quoted;
use crate::workdir::resume::ListFailure;

/// How many lines that differ in more than a word the shell is asked about.
const MOST_SHAPES: usize = 1000;
/// How many faults are shown as text.
const MOST_SHOWN: usize = 20;
/// The longest command line that is shown.
const SHOWN: usize = 4000;

/// A list that was checked.
#[derive(Debug)]
pub struct Check {
    tasks: u64,
    /// How many are executed without a shell.
    direct: u64,
    /// The shell for the others.
    shell: String,
    /// The line that a farm begins with.
    opening: String,
    slots: u32,
    /// What a farm would say of the node, the list and the workdir.
    notes: Vec<String>,
    faults: Vec<Fault>,
    /// How many tasks have a fault.
    faulty: u64,
    /// In the order in which they would run.
    groups: Vec<Group>,
}

/// Tasks of which the same is said, but for what concerns one of them alone.
#[derive(Clone, Debug)]
struct Group {
    attributes: Attributes,
    tasks: u64,
    first: TaskId,
    /// Whether a node like this one can run them.
    fits: bool,
}

impl Group {
    /// The attributes that many tasks share.
    fn shared(attributes: Attributes) -> Attributes {
        Attributes {
            name: None,
            after: Vec::new(),
            after_any: Vec::new(),
            creates: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
            ..attributes
        }
    }

    /// For people.
    fn text(&self) -> String {
        let Self {
            attributes,
            tasks,
            first,
            fits,
        } = self;
        let said = match attributes.to_string() {
            said if said.is_empty() => "no attributes".to_owned(),
            said => said,
        };
        let fits = if *fits {
            ""
        } else {
            " (not on a node like this)"
        };
        format!(
            "  {} from task {first}: {said}{fits}",
            counted(*tasks, "task", "tasks")
        )
    }
}

/// Why tasks would fail.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    why: String,
    /// The lines of these tasks.
    lines: Occurrences,
    /// The id of the first of them.
    id: TaskId,
}

/// Checks the list of a farm with these options.
pub fn check(options: &Options) -> Result<Check, StartError> {
    let list = List::read(options)?;
    let node = &list.node;
    let wrapping = Wrapping::new(node, options, &options.workdir);
    let mut checker = Checker::new(node.runner.clone(), wrapping);
    let (remarks, tasks) = list.each(options, |line, id, task| checker.see(line, id, task))?;
    let mut notes = node.warnings.clone();
    notes.extend(node.plan.remarks.iter().cloned());
    notes.extend(checker.notes());
    notes.extend(remarks);
    notes.extend(in_workdir(&options.workdir));
    notes.extend(longest_first(options)?);
    let opening = node.opening(options, counted(tasks, "task", "tasks"));
    let placement = Placement::of(node, options);
    let would_hold = placement.would_hold();
    let mut groups = checker.in_order();
    for group in &mut groups {
        group.fits = would_hold(&Class::of(&group.attributes, 1));
    }
    Ok(Check {
        tasks,
        direct: checker.direct,
        shell: node.runner.shell().path.display().to_string(),
        opening: opening.text(),
        slots: node.slots,
        notes,
        faulty: checker.faulty,
        groups,
        faults: checker.faults,
    })
}

/// What `--order longest-first` would go by.
fn longest_first(options: &Options) -> Result<Option<String>, StartError> {
    let Order::LongestFirst(records) = &options.order else {
        return Ok(None);
    };
    check_order(options)?;
    let path = records.as_ref().unwrap_or(&options.workdir);
    let known = if is_workdir(path) {
        let times = RunTimes::read(path);
        let times = times.map_err(|error| StartError::System("read run times", error))?;
        times.count()
    } else {
        0
    };
    Ok(Some(match known {
        0 => "--order longest-first: no run time is known, so the order stays".to_owned(),
        n => format!(
            "--order longest-first: of one priority the longest task comes first, by the run \
             times of {} in {}; the order shown here is that of the list",
            counted(n as u64, "command", "commands"),
            path.display()
        ),
    }))
}

/// The command line by which a farm would execute this task of the list, or why it cannot;
/// none: the list has no such task.
pub fn command_line(options: &Options, wanted: TaskId) -> Result<Option<String>, StartError> {
    let list = List::read(options)?;
    let (mut runner, mut found) = (list.node.runner.clone(), None);
    let wrapping = Wrapping::new(&list.node, options, &options.workdir);
    list.each(options, |_, id, task| {
        if id == wanted {
            found = Some(match how(&mut runner, &wrapping, id, task) {
                How::Exec { program, argv } => {
                    let words = [program].into_iter().chain(argv.into_iter().skip(1));
                    let words = words.map(|word| quoted(&word.to_string_lossy()));
                    words.collect::<Vec<_>>().join(" ")
                }
                How::Script => format!(
                    "{} scripts/task_{id}, a file with the line, which is longer than an argument \
                     may be",
                    runner.shell().path.display()
                ),
                How::Cannot { code, why } => format!("exit status {code}: {why}"),
            });
        }
    })?;
    Ok(found.map(|text| clip(&escape(text.as_bytes()), SHOWN)))
}

/// How a task of the list is executed.
fn how(runner: &mut Runner, wrapping: &Wrapping, id: TaskId, task: &[u8]) -> How {
    let (command, said) = split(task);
    match wrapping.runner(said) {
        Err(why) => How::Cannot { code: 126, why },
        Ok(None) => runner.to_argv(command),
        Ok(Some(wrapper)) => {
            let task = Task {
                id,
                line: task.to_vec(),
                attempt: 1,
                failures: 0,
            };
            runner.wrapped(&wrapper, &wrapping.values(&task, 0, None))
        }
    }
}

/// The text of a task list.
enum Text {
    AsItIs(Vec<u8>),
    /// It was made of a list of another tool.
    Made(Translation),
}

/// A task list as a farm on this node reads it.
struct List {
    text: Text,
    dialect: Dialect,
    node: Node,
}

impl List {
    /// Reads it. A FIFO is not read: that would empty it.
    fn read(options: &Options) -> Result<Self, StartError> {
        let env = task_variables(options);
        let dialect = options.dialect(env.iter().map(|(name, _)| name.clone()));
        let refused = |why| Err(ListFailure::Refused(why).into());
        let maker = Maker::choose(&options.handler, &options.workdir)?;
        let runners = Runners::choose(&options.runner)?;
        let dialect = judging(dialect, &runners, None);
        let (text, dialect) = match Source::open(options, &maker, dialect)? {
            Source::File(list) => {
                // What is wrong with it is told by reading it again, but whose list it is.
                let _ = list.check();
                let text = match list.translation() {
                    Some(made) => Text::Made(made.clone()),
                    None => Text::AsItIs(list.contents()?),
                };
                (text, list.dialect().clone())
            }
            Source::Stream(None, dialect) => {
                let mut bytes = Vec::new();
                let read = std::io::stdin().read_to_end(&mut bytes);
                read.map_err(|error| StartError::System("read standard input", error))?;
                (Text::AsItIs(bytes), dialect)
            }
            Source::Stream(Some(path), _) => {
                let path = path.display();
                return refused(format!(
                    "{path} is not a regular file: to check it would use up its tasks"
                ));
            }
            Source::Workdir => {
                return refused("the tasks of a workdir are checked when they are added".into());
            }
        };
        let node = Node::read(options, env, runners)?;
        Ok(Self {
            text,
            dialect,
            node,
        })
    }

    /// Shows each task with the number of its last line, from 1, and its id; returns what is to
    /// be said about the list, and the number of tasks.
    fn each(
        &self,
        options: &Options,
        mut see: impl FnMut(u64, TaskId, &[u8]),
    ) -> Result<(Vec<String>, u64), ListFailure> {
        let wrong = |source| ListFailure::Wrong {
            list: match &options.tasks {
                TaskList::Stdin => "standard input".to_owned(),
                TaskList::File(path) => path.display().to_string(),
                TaskList::Template(_) => "after --".to_owned(),
                TaskList::Added => "the workdir".to_owned(),
            },
            source,
        };
        let (mut parser, number, mut id) = (Parser::of(self.dialect.clone()), Cell::new(0), 0);
        let mut emit = |task: &[u8]| {
            see(number.get(), TaskId(id), task);
            id += 1;
        };
        let (text, lines, notes) = match &self.text {
            Text::AsItIs(text) => (text, None, None),
            Text::Made(made) => (&made.text, Some(&made.lines), Some(&made.notes)),
        };
        for (nth, line) in text.split_inclusive(|&byte| byte == b'\n').enumerate() {
            if let Some(number) = lines.and_then(|lines| lines.get(nth)) {
                parser.next_line_is(*number);
            }
            number.set(parser.lines() + 1);
            parser.feed(line, &mut emit).map_err(wrong)?;
        }
        parser.finish(&mut emit).map_err(wrong)?;
        let mut remarks = parser.remarks();
        remarks.notes = notes.cloned().unwrap_or_default();
        Ok((remarks.messages(), id))
    }
}

/// What is to be said of a workdir that has a run already.
fn in_workdir(path: &Path) -> Option<String> {
    let counts = Run::counts_of(path).ok()?;
    let (finished, failed) = (grouped(counts.finished), grouped(counts.failed));
    let left = grouped(counts.left());
    Some(format!(
        "the workdir has a run, which would be resumed: {finished} finished, {failed} failed, \
         {left} to go"
    ))
}

/// Looks at one task after the other.
struct Checker {
    runner: Runner,
    wrapping: Wrapping,
    direct: u64,
    faults: Vec<Fault>,
    /// Where in `faults` each reason is.
    places: HashMap<String, usize>,
    faulty: u64,
    /// The line where each text was first.
    texts: HashMap<(u64, u64), u64>,
    repeated: Occurrences,
    /// The line that the first repeated one repeats.
    repeats: u64,
    /// What the shell said of lines of each shape.
    shapes: HashMap<Vec<u8>, Option<String>>,
    unchecked: u64,
    programs: HashMap<Vec<u8>, Option<String>>,
    /// By the text of their shared attributes.
    groups: HashMap<String, Group>,
}

impl Checker {
    fn new(runner: Runner, wrapping: Wrapping) -> Self {
        Self {
            runner,
            wrapping,
            direct: 0,
            faults: Vec::new(),
            places: HashMap::new(),
            faulty: 0,
            texts: HashMap::new(),
            repeated: Occurrences::default(),
            repeats: 0,
            shapes: HashMap::new(),
            unchecked: 0,
            programs: HashMap::new(),
            groups: HashMap::new(),
        }
    }

    /// Takes in what is said of a task.
    fn group(&mut self, id: TaskId, said: Option<&[u8]>) {
        // The parser has made the text.
        let attributes = Attributes::parse(said.unwrap_or_default()).unwrap_or_default();
        let attributes = Group::shared(attributes);
        let group = self.groups.entry(attributes.to_string());
        let group = group.or_insert(Group {
            attributes,
            tasks: 0,
            first: id,
            fits: true,
        });
        group.tasks += 1;
    }

    /// The groups by stage, priority and the order of the list; none if nothing is said of any
    /// task.
    fn in_order(&mut self) -> Vec<Group> {
        let groups = std::mem::take(&mut self.groups).into_values();
        let place = |group: &Group| {
            let Attributes {
                stage, priority, ..
            } = group.attributes;
            (stage.number, Reverse(priority), group.first)
        };
        let groups: BTreeMap<_, _> = groups.map(|group| (place(&group), group)).collect();
        let groups: Vec<_> = groups.into_values().collect();
        let is_said = groups.iter().any(|group| !group.attributes.is_empty());
        if is_said { groups } else { Vec::new() }
    }

    fn see(&mut self, line: u64, id: TaskId, task: &[u8]) {
        let first = *self.texts.entry(fingerprint(task)).or_insert(line);
        if first != line {
            self.repeated.add(line);
            if self.repeated.count == 1 {
                self.repeats = first;
            }
        }
        let (command, said) = split(task);
        self.group(id, said);
        let is_wrapped = !matches!(self.wrapping.runner(said), Ok(None));
        let why = if is_wrapped {
            match how(&mut self.runner, &self.wrapping, id, task) {
                How::Cannot { why, .. } => Some(why),
                How::Exec { program, .. } => self.program(program.as_bytes()),
                How::Script => None,
            }
        } else {
            self.fault(command)
        };
        let Some(why) = why else {
            return;
        };
        self.faulty += 1;
        let at = self.places.get(&why).copied().unwrap_or_else(|| {
            self.places.insert(why.clone(), self.faults.len());
            let lines = Occurrences::default();
            self.faults.push(Fault { why, lines, id });
            self.faults.len() - 1
        });
        self.faults[at].lines.add(line);
    }

    /// Why a task would fail.
    fn fault(&mut self, task: &[u8]) -> Option<String> {
        match self.runner.to_argv(task) {
            How::Cannot { why, .. } => Some(why),
            How::Exec { program, .. } if !self.is_shell(program.as_bytes()) => {
                self.direct += 1;
                self.program(program.as_bytes())
            }
            How::Exec { .. } => self.syntax(task).or_else(|| self.first_word(task)),
            How::Script => None,
        }
    }

    fn is_shell(&self, program: &[u8]) -> bool {
        program == self.runner.shell().path.as_os_str().as_bytes()
    }

    /// Why a program with a path cannot be executed.
    fn program(&mut self, path: &[u8]) -> Option<String> {
        if let Some(known) = self.programs.get(path) {
            return known.clone();
        }
        let program = Path::new(OsStr::from_bytes(path));
        let why = explain::before_start(program).map(|(_, why)| why);
        self.programs.insert(path.to_owned(), why.clone());
        why
    }

    /// What the shell says of the syntax of a line. It is asked once for each shape.
    fn syntax(&mut self, task: &[u8]) -> Option<String> {
        let shape = shape(task);
        if let Some(known) = self.shapes.get(&shape) {
            return known.clone();
        }
        if self.shapes.len() >= MOST_SHAPES || self.runner.shell().kind == Kind::Other {
            self.unchecked += 1;
            return None;
        }
        let why = syntax_error(&self.runner, task);
        self.shapes.insert(shape, why.clone());
        why
    }

    /// Why the first command of a line for the shell will not be found, where it is a plain
    /// word.
    fn first_word(&mut self, task: &[u8]) -> Option<String> {
        let is_end = |byte: &u8| matches!(byte, b' ' | b'\t' | b';' | b'|' | b'&' | b'>' | b'<');
        let end = task.iter().position(is_end).unwrap_or(task.len());
        match self.runner.to_argv(&task[..end]) {
            How::Cannot { why, .. } => Some(why),
            How::Exec { program, .. } if !self.is_shell(program.as_bytes()) => {
                self.program(program.as_bytes())
            }
            _ => None,
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.repeated.count > 0 {
            notes.push(format!(
                "{}: the same task as in line {}: it runs again",
                self.repeated, self.repeats
            ));
        }
        if self.unchecked > 0 {
            notes.push(format!(
                "the syntax of {} was not checked",
                counted(self.unchecked, "line", "lines")
            ));
        }
        notes
    }
}

/// A line without the letters and digits of its words, so that lines with the same syntax are
/// equal. Words that mean something to a shell stay.
fn shape(line: &[u8]) -> Vec<u8> {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./,:+@%".contains(byte);
    let mut shape = Vec::new();
    let mut rest = line;
    while let Some(&byte) = rest.first() {
        let len = rest.iter().take_while(|byte| is_word(byte)).count();
        let (word, after) = rest.split_at(len.max(1));
        rest = after;
        match len {
            0 => shape.push(byte),
            _ if is_taken(word) => shape.extend_from_slice(word),
            _ => shape.push(b'w'),
        }
    }
    shape
}

/// What the shell says of a line that it only reads (`-n`).
fn syntax_error(runner: &Runner, line: &[u8]) -> Option<String> {
    let How::Exec { program, argv } = runner.shell_exec(line) else {
        return None;
    };
    let mut command = Command::new(OsStr::from_bytes(program.as_bytes()));
    let words = argv.iter().skip(1);
    command
        .arg("-n")
        .args(words.map(|word| OsStr::from_bytes(word.as_bytes())))
        .env_clear()
        .env("LC_ALL", "C");
    let done = command.stdin(Stdio::null()).output().ok()?;
    if done.status.success() {
        return None;
    }
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    let first = said.lines().next().unwrap_or("a syntax error");
    // bash: -c: line 1: unexpected EOF … sh: 1: Syntax error: …
    let is_place = |part: &str| {
        part.starts_with('/')
            || part == "-c"
            || part.trim_start_matches("line ").parse::<u32>().is_ok()
    };
    let mut what = first;
    while let Some((_, rest)) = what.split_once(": ").filter(|(part, _)| is_place(part)) {
        what = rest;
    }
    Some(format!("the shell cannot read it: {what}"))
}

impl Check {
    /// Whether no task is known to fail.
    pub fn is_good(&self) -> bool {
        self.faulty == 0
    }

    /// For people.
    pub fn text(&self) -> String {
        let shell = self.tasks - self.direct;
        let mut text = format!("{}\n", self.opening);
        if shell > 0 {
            text += &format!(
                "{} executed directly, {} by {}\n",
                grouped(self.direct),
                grouped(shell),
                self.shell
            );
        }
        for note in &self.notes {
            text += &format!("{}\n", escape(note.as_bytes()));
        }
        if !self.groups.is_empty() {
            text += "in this order, as far as tasks need not wait for others by name:\n";
        }
        for group in self.groups.iter().take(MOST_SHOWN) {
            text += &format!("{}\n", escape(group.text().as_bytes()));
        }
        if self.groups.len() > MOST_SHOWN {
            text += &format!(
                "  and {} other kinds of tasks\n",
                self.groups.len() - MOST_SHOWN
            );
        }
        for Fault { why, lines, id } in self.faults.iter().take(MOST_SHOWN) {
            let why = escape(why.as_bytes());
            text += &format!("{lines} (task {id}): {why}\n");
        }
        if self.faults.len() > MOST_SHOWN {
            text += &format!("and {} other faults\n", self.faults.len() - MOST_SHOWN);
        }
        text += &match self.faulty {
            0 => "no fault found\n".to_owned(),
            n => format!("{} would fail here\n", counted(n, "task", "tasks")),
        };
        text
    }

    /// For programs: one object.
    pub fn json(&self) -> Value {
        let faults = self.faults.iter().map(|Fault { why, lines, id }| {
            json!({ "why": why, "line": lines.first, "task": id, "tasks": lines.count })
        });
        let groups = self.groups.iter().map(|group| {
            let attributes = group.attributes.json();
            json!({
                "attributes": attributes,
                "tasks": group.tasks,
                "first": group.first,
                "fits": group.fits,
            })
        });
        json!({
            "tasks": self.tasks,
            "groups": groups.collect::<Vec<_>>(),
            "direct": self.direct,
            "shell": self.shell,
            "slots": self.slots,
            "faulty": self.faulty,
            "faults": faults.collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_one_syntax_have_one_shape() {
        let same = |a: &str, b: &str| shape(a.as_bytes()) == shape(b.as_bytes());
        assert!(same("./sim --seed 1 > out.1", "./sim --seed 22 > out.22"));
        assert!(!same("echo 'a'", "echo 'a"));
        assert!(!same(
            "for i in 1; do echo; done",
            "for i in 1; do echo; end"
        ));
        assert!(!same("a b", "a  b"));
    }
}
