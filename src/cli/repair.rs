//! The command line of `pytf repair`.

use std::path::PathBuf;

use clap::Args;

/// Repair a damaged workdir.
///
/// The journals hold every result. All other files are written again from them and from
/// what is left of the files. The old files are kept in the folder damaged-1, damaged-2,
/// ... of the workdir. Refused while a pytf works on the run.
#[derive(Clone, Debug, Args)]
pub struct Repair {
    /// The workdir of the run
    pub workdir: PathBuf,
    /// The task list of the run, for lines that are in no file of the workdir
    pub tasklist: Option<PathBuf>,
    /// Read each line of the list as one task, as a run with --plain does
    #[arg(long)]
    pub plain: bool,
    /// Only report damage and change nothing: exit status 74 if there is any
    #[arg(long, conflicts_with_all = ["tasklist", "plain"])]
    pub check: bool,
}
