//! The workdir as the farm and its tasks need it: opened, checked, by an absolute path.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::options::{KeepTaskDir, Options, TaskDirOptions, TaskList};
use super::start_error::StartError;
use super::task_dir::TaskDirPlan;
use crate::runner::chosen::Runners;
use crate::workdir::error::{Error, Result};
use crate::workdir::fs::RealDir;
use crate::workdir::open::{OpenOptions, Ownership, Workdir, open_dir};

/// What slots need of the workdir and of the system, opened before the farmer joins.
pub(super) struct TaskFiles {
    /// The workdir as an absolute path, valid whatever becomes of the current folder.
    pub(super) path: Arc<PathBuf>,
    /// The workdir.
    pub(super) dir: Arc<RealDir>,
    /// `/dev/null`, open for reading and writing.
    pub(super) null: Arc<File>,
    /// How the folders of tasks are made, where each has one.
    pub(super) task_dirs: Option<TaskDirPlan>,
}

impl TaskFiles {
    /// Opens them.
    pub(super) fn open(
        workdir: &Path,
        options: &Options,
        runners: &Runners,
    ) -> std::result::Result<Self, StartError> {
        let path =
            absolute(workdir).map_err(|error| StartError::System("find the workdir", error))?;
        // Checked again: the path may lead to another folder by now.
        let dir = open_dir(&path, ownership(options))?;
        let null = File::options().read(true).write(true).open("/dev/null");
        let null = null.map_err(|error| StartError::System("open /dev/null", error))?;
        let of_runner = TaskDirOptions {
            base: None,
            keep: KeepTaskDir::Never,
        };
        let is_needed = runners.of_farm().is_some_and(|runner| runner.needs_folder);
        let of_runner = is_needed.then_some(&of_runner);
        let task_dirs = options
            .task_dir
            .as_ref()
            .or(of_runner)
            .map(TaskDirPlan::new);
        let refused = |error| StartError::System("give tasks a current folder of their own", error);
        Ok(Self {
            path: Arc::new(path),
            dir,
            null: Arc::new(null),
            task_dirs: task_dirs.transpose().map_err(refused)?,
        })
    }
}

/// An absolute path. Links are kept: behind an automounter a resolved path may be valid
/// for a short time only.
fn absolute(path: &Path) -> std::io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    if absolute
        .components()
        .any(|part| part == Component::ParentDir)
    {
        return absolute.canonicalize();
    }
    Ok(absolute)
}

fn ownership(options: &Options) -> Ownership {
    if options.shared_workdir {
        Ownership::Shared
    } else {
        Ownership::Ours
    }
}

/// Opens the workdir, and makes it where there is none. A task that would work on its own
/// workdir is refused: it would wait for itself for ever.
pub(super) fn open_workdir(options: &Options) -> Result<Workdir> {
    if let Some(piped) = options.piped() {
        return Ok(Workdir {
            dir: piped.dir.clone(),
            path: piped.shown.clone(),
            mechanism: piped.mechanism,
        });
    }
    let workdir = Workdir::open(
        &options.workdir,
        OpenOptions {
            // Without a list there must be tasks already.
            create: options.tasks != TaskList::Added || options.follow.is_some(),
            ownership: ownership(options),
            lock: options.lock,
        },
    )?;
    refuse_own_task(&workdir)?;
    Ok(workdir)
}

fn refuse_own_task(workdir: &Workdir) -> Result<()> {
    // Users set PYTF_WORKDIR, too; only tasks have an id.
    let variables = ["PYTF_TASK_ID", "PYTF_WORKDIR"].map(std::env::var_os);
    let [Some(_), Some(of_task)] = variables else {
        return Ok(());
    };
    let identity = |path: &Path| {
        let stat = std::fs::metadata(path).ok()?;
        Some((stat.dev(), stat.ino()))
    };
    let ours = identity(&workdir.path);
    if ours.is_none() || ours != identity(Path::new(&of_task)) {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "this pytf is started by a task of the same workdir {}, and would wait for that task for \
         ever: give it a workdir of its own (--workdir), or unset PYTF_WORKDIR",
        workdir.path.display()
    )))
}
