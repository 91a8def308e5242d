//! The tools whose lists are understood, a list of one, and what is made of it.

use std::fmt;

/// A tool whose lists are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tool {
    /// disBatch 3.0.
    DisBatch,
    /// runtask.sh of DistributedTaskQueue.
    Runtask,
    /// GREASY 2.2.
    Greasy,
    /// launcher of TACC, 3.8.
    Launcher,
    /// pylauncher of TACC, 5.4.
    Pylauncher,
    /// swarm of NIH, 26.6.
    Swarm,
    /// Dead Simple Queue, 1.05.
    Dsq,
    /// GNU parallel 20221122.
    Parallel,
}

impl Tool {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::DisBatch,
        Self::Runtask,
        Self::Greasy,
        Self::Launcher,
        Self::Pylauncher,
        Self::Swarm,
        Self::Dsq,
        Self::Parallel,
    ];

    /// The word by which it is chosen on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::DisBatch => "disbatch",
            Self::Runtask => "runtask",
            Self::Greasy => "greasy",
            Self::Launcher => "launcher",
            Self::Pylauncher => "pylauncher",
            Self::Swarm => "swarm",
            Self::Dsq => "dsq",
            Self::Parallel => "parallel",
        }
    }

    /// The tool of a word of the command line.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }
}

/// For people.
impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DisBatch => "disBatch",
            Self::Runtask => "runtask (DistributedTaskQueue)",
            Self::Greasy => "GREASY",
            Self::Launcher => "launcher",
            Self::Pylauncher => "pylauncher",
            Self::Swarm => "swarm",
            Self::Dsq => "dSQ",
            Self::Parallel => "GNU parallel",
        })
    }
}

/// A list of another tool.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    /// All of it.
    pub text: &'a [u8],
    /// The path, as the user wrote it.
    pub path: &'a str,
    /// Commands that run once per node before or after the tasks are given as options.
    pub node: NodeCommands,
    /// The tasks join others, which may have come from such a list, too: names are to differ.
    pub is_added: bool,
}

/// Which commands of a node are given as options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCommands {
    /// `--node-setup`
    pub setup: bool,
    /// `--node-teardown`
    pub teardown: bool,
}

/// A list with `#PYTF`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// Its lines, each with a line feed.
    pub text: Vec<u8>,
    /// For each of them the number of the line from which it was made, from 1.
    pub lines: Vec<u64>,
    /// What people should know.
    pub notes: Vec<String>,
}

/// What cannot be carried over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The line, from 1.
    pub line: u64,
    /// The byte in it, from 1.
    pub column: u64,
    /// What it is and what to do.
    pub what: String,
}

impl Refusal {
    /// One that concerns a line as a whole.
    pub fn of(line: u64, what: impl Into<String>) -> Self {
        Self {
            line,
            column: 1,
            what: what.into(),
        }
    }
}
