//! What is said before a farmer starts on a host: a question, an answer, and what to start. Each
//! is one line of JSON.

use serde::{Deserialize, Serialize};

use crate::model::host_facts::HostFacts;
use crate::workdir::mechanism::Mechanism;

/// The lines of the host begin with this: start files of a shell may print others.
pub(super) const MARK: &str = "pytf-host ";
/// After [`MARK`]: there is no pytf of this version. The kernel and the machine follow.
pub(super) const NONE: &str = "none ";
/// After [`MARK`]: the program that was copied there does not run.
pub(super) const CANNOT: &str = "cannot ";

/// Longer than a line may be.
pub(super) const LONGEST: usize = 4 << 20;

/// What a host is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Question {
    /// Whether a farmer can run there. It becomes one.
    Farm(FarmQuestion),
    /// What it is and what of it is free; then what its clock says.
    Look(LookQuestion),
    /// To carry out operations on the files of a workdir.
    Serve(Wanted),
}

/// What a host is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LookQuestion {
    /// The folder in which tasks are to run, where the user has said it.
    pub(super) folder: Option<String>,
    /// The current folder of who asks.
    pub(super) here: String,
    /// A file in that folder whose content is asked for.
    pub(super) proof: String,
}

/// What it says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LookAnswer {
    /// What it is.
    pub(super) facts: HostFacts,
    /// What the file has, where there is one.
    pub(super) proof: Option<String>,
    /// Why tasks cannot run in the folder that the user has named.
    pub(super) problem: Option<String>,
}

/// The workdir that is wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Wanted {
    /// Where it is: absolute, or `~/` and a path in the home folder.
    pub path: String,
    /// Whether it is made where there is none.
    pub create: bool,
    /// `--shared-workdir`
    pub is_shared: bool,
    /// `--lock`; none is `auto`.
    pub lock: Option<Mechanism>,
}

/// What is said of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Served {
    /// Its files are served: its path, and how it is locked.
    Here(String, Mechanism),
    /// It cannot be used: why, and the exit status that says so.
    Refused(String, u8),
}

/// Whether and where a farmer can run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct FarmQuestion {
    /// The folder in which tasks are to run, where the user has said it.
    pub(super) folder: Option<String>,
    /// The current folder of who asks.
    pub(super) here: String,
    /// The workdir, absolute or relative to the folder.
    pub(super) workdir: String,
    /// A file in the workdir whose content is asked for.
    pub(super) proof: String,
    /// Whether files are copied into the folder, which is made for them.
    pub(super) has_copies: bool,
}

/// What a host answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    /// What the file has, where there is one.
    pub(super) proof: Option<String>,
    /// Why tasks cannot run in the folder that the user has named.
    pub(super) problem: Option<String>,
}

/// What a host is to start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Start {
    /// How the workdir is locked, a colon and its path, where the host does not share it: its files
    /// are reached by standard input and output.
    pub(super) pipe: Option<String>,
    /// Whether files are copied before it is started.
    pub(super) has_copies: bool,
    /// What its processes call their job.
    pub(super) job: String,
    /// Which of them this is, from 0.
    pub(super) rank: usize,
    /// How many there are.
    pub(super) size: usize,
    /// Options of the farm.
    pub(super) args: Vec<String>,
    /// Options of the farm that came from variables.
    pub(super) variables: Vec<(String, String)>,
}
