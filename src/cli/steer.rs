//! The commands that steer a run.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::model::attributes::{Attributes, Key};
use crate::model::ids::Ids;
use crate::model::tasklist::handlers::HANDLERS;

/// Add tasks to a run, whether processes work on it or not.
///
/// Prints the ids of the new tasks on a line, such as 17 or 17-20, in the order in which the
/// tasks were given. They are checked as those of a list are; if one is refused, none is added.
/// They run after the tasks that wait already. Running the same list again leaves them alone. A
/// workdir that does not exist is created: 'pytf --workdir WORKDIR' then runs the tasks.
#[derive(Clone, Debug, Args)]
pub struct Add {
    /// The workdir of the run
    pub workdir: PathBuf,
    /// The new tasks, each in quotes, or - for a list on standard input
    ///
    /// A word is never taken for the name of a task list: see --from.
    #[arg(value_name = "COMMAND", required_unless_present = "from")]
    pub commands: Vec<OsString>,
    /// Add the tasks of a list; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "commands")]
    pub from: Option<PathBuf>,
    /// Read each line as one task, as it is
    ///
    /// As for a list that is run with --plain.
    #[arg(long)]
    pub plain: bool,
    /// How the list is read
    ///
    /// As for a list that is run with --tasklist.
    #[arg(short, long, value_name = "NAME", default_value = "default", hide_possible_values = true,
          value_parser = PossibleValuesParser::new(HANDLERS.iter().map(|known| known.name)))]
    pub tasklist: String,
    /// What is said of each of the tasks.
    #[command(flatten)]
    pub said: Box<Said>,
}

/// What is said of all tasks of a command, unless the line of a task says otherwise.
///
/// The values are those of attributes in a list.
#[derive(Clone, Debug, Default, Args)]
pub struct Said {
    /// CPUs of each task
    #[arg(long, value_name = "N")]
    pub cpus_per_task: Option<String>,
    /// GPUs of each task
    #[arg(long, value_name = "N")]
    pub gpus_per_task: Option<String>,
    /// Memory of each task, as in 4G
    ///
    /// Several sizes, as in 4G,16G, are those of the attempts in turn.
    #[arg(long, value_name = "SIZES")]
    pub mem: Option<String>,
    /// Time limit of each task
    #[arg(long, value_name = "TIME")]
    pub task_timeout: Option<String>,
    /// The nodes on which they may run, as in fat*
    ///
    /// A name with * and ?, or a label.
    #[arg(long, value_name = "PATTERN")]
    pub node: Option<String>,
    /// Larger comes first
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub priority: Option<String>,
    /// How often each is tried again
    #[arg(long, value_name = "N")]
    pub retries: Option<String>,
    /// After which outcomes, as in oom,exit:75
    ///
    /// Of exit, signal, timeout, oom, lost and exit:STATUS.
    #[arg(long, value_name = "OUTCOMES")]
    pub retry_on: Option<String>,
    /// The name of the tasks
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The tasks that have to finish before these start
    #[arg(long, value_name = "NAMES")]
    pub after: Option<String>,
    /// The tasks that have to end before these start
    #[arg(long, value_name = "NAMES")]
    pub after_any: Option<String>,
    /// They are finished where this file exists
    ///
    /// Then they are not started.
    #[arg(long, value_name = "FILE")]
    pub creates: Option<String>,
    /// The files that they need
    ///
    /// Relative names, separated by commas.
    #[arg(long = "in", value_name = "FILES")]
    pub inputs: Option<String>,
    /// What they make, to be kept in results/ID
    ///
    /// Relative names, separated by commas; they may have * and ?.
    #[arg(long = "out", value_name = "PATHS")]
    pub outputs: Option<String>,
}

impl Said {
    /// The attributes that it stands for, or what is wrong with one.
    pub fn attributes(&self) -> Result<Attributes, String> {
        let mut attributes = Attributes::default();
        for (option, value) in [
            ("cpus-per-task", &self.cpus_per_task),
            ("gpus-per-task", &self.gpus_per_task),
            ("mem", &self.mem),
            ("task-timeout", &self.task_timeout),
            ("node", &self.node),
            ("priority", &self.priority),
            ("retries", &self.retries),
            ("retry-on", &self.retry_on),
            ("name", &self.name),
            ("after", &self.after),
            ("after-any", &self.after_any),
            ("creates", &self.creates),
            ("in", &self.inputs),
            ("out", &self.outputs),
        ] {
            if let Some(value) = value {
                let set = Key::of(option).and_then(|key| match &**value {
                    "" => Err("it has no value".to_owned()),
                    value => attributes.set(key, value),
                });
                set.map_err(|what| format!("--{option}: {what}"))?;
            }
        }
        Ok(attributes)
    }
}

/// Where new tasks come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewTasksFrom {
    /// Standard input.
    Stdin,
    /// A task list.
    File(PathBuf),
    /// The command line: each is a task.
    Commands(Vec<OsString>),
}

impl Add {
    /// Where the tasks come from.
    pub fn source(&self) -> NewTasksFrom {
        let is_stdin = |word: &OsString| word == "-";
        match &self.from {
            Some(file) if file.as_os_str() == "-" => NewTasksFrom::Stdin,
            Some(file) => NewTasksFrom::File(file.clone()),
            None if self.commands.iter().all(is_stdin) => NewTasksFrom::Stdin,
            None => NewTasksFrom::Commands(self.commands.clone()),
        }
    }

    /// What is wrong with the request.
    pub(super) fn fault(&self) -> Option<String> {
        if self.commands.len() > 1 && self.commands.iter().any(|word| word == "-") {
            return Some("- is standard input: give it alone, or commands".to_owned());
        }
        self.said.attributes().err()
    }
}

/// Let a run start no more tasks, until it is resumed.
///
/// Running tasks go on, or are stopped with --stop. The processes of the run obey within ten
/// seconds, and stay. The run stays paused when they end and others start. 'pytf resume' lifts
/// it.
#[derive(Clone, Debug, Args)]
pub struct Pause {
    /// The workdir of the run
    pub workdir: PathBuf,
    /// Stop running tasks, too, by SIGSTOP; the resume sends them SIGCONT
    ///
    /// Their memory stays in use. While a task is stopped its time limit (--task-timeout) does
    /// not run; the end of the allocation and --timeout hold. Processes that a task has moved
    /// out of its process group go on. Without --stop, tasks that were stopped are continued.
    #[arg(long)]
    pub stop: bool,
}

/// Let a paused run start tasks again.
///
/// The processes of the run obey within ten seconds.
#[derive(Clone, Debug, Args)]
pub struct Resume {
    /// The workdir of the run
    pub workdir: PathBuf,
}

/// Stop all processes of a run in good order, on all nodes.
///
/// Each of them stops within ten seconds, as if it had got SIGTERM: running tasks get TERM,
/// then KILL after the grace period, and wait again. Processes that start later are not
/// affected: the same command again resumes the run.
#[derive(Clone, Debug, Args)]
pub struct Stop {
    /// The workdir of the run
    pub workdir: PathBuf,
}

/// Let processes of a run finish their running tasks, and leave.
///
/// Within ten seconds they start no more tasks, and give back those that they have claimed
/// and not started. Processes that start later are not affected.
#[derive(Clone, Debug, Args)]
pub struct Drain {
    /// The workdir of the run
    pub workdir: PathBuf,
    /// Only the processes on this node, by its name in pytf status
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
}

/// Cancel tasks: those that wait never run, those that run are stopped.
///
/// A waiting task moves from toprocess to failed at once. A running one gets TERM within ten
/// seconds, then KILL after the grace period of its process; if it had succeeded by then, it
/// stays so. Cancelled tasks are counted apart from those that failed, and the run can be
/// complete without them. 'pytf retry WORKDIR IDS' puts them back.
#[derive(Clone, Debug, Args)]
pub struct Cancel {
    /// The workdir of the run
    pub workdir: PathBuf,
    /// Which tasks: ids and ranges such as 17 or 3-9,12
    #[arg(required_unless_present_any = ["all", "waiting"])]
    pub ids: Vec<Ids>,
    /// All tasks that wait or run
    #[arg(long, conflicts_with_all = ["ids", "waiting"])]
    pub all: bool,
    /// All tasks that wait: running ones go on
    #[arg(long, conflicts_with = "ids")]
    pub waiting: bool,
    /// Why: pytf status shows it
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// Edit the tasks that wait, in $VISUAL or $EDITOR.
///
/// Each line has a task's number and its command, in the order in which the tasks will run. Move
/// lines, change or delete them, or add some. A task whose line is deleted or changed is
/// cancelled, and a changed line is a new task. Nothing is locked meanwhile: tasks that are
/// claimed before the text is saved are left alone and named.
#[derive(Clone, Debug, Args)]
pub struct Edit {
    /// The workdir of the run
    pub workdir: PathBuf,
    /// Take new commands as they are, as a run with --plain does
    #[arg(long)]
    pub plain: bool,
}

/// Tell the processes of a run that no more tasks will be added.
///
/// Those that were started with --follow leave within ten seconds, or when all tasks have
/// ended. Tasks may still be added; processes that start later with --follow stay for them.
#[derive(Clone, Debug, Args)]
pub struct Close {
    /// The workdir of the run
    pub workdir: PathBuf,
}
