//! The command line of `pytf repair`.

use std::path::PathBuf;

use clap::Args;

/// Make a damaged workdir whole again.
///
/// The journals hold every result: from them and from what the other files still
/// say, all files are made anew. What there was is kept in the folder damaged-1,
/// damaged-2, ... of the workdir. Refused while a pytf works on it.
#[derive(Clone, Debug, Args)]
pub struct Repair {
    /// The workdir of the run
    pub workdir: PathBuf,
    /// The list it was made from, for lines that no file holds any more
    pub tasklist: Option<PathBuf>,
    /// Read the list as it is, as the run with --plain did
    #[arg(long)]
    pub plain: bool,
    /// Only say what is damaged, and change nothing: status 74 when something is
    #[arg(long, conflicts_with_all = ["tasklist", "plain"])]
    pub check: bool,
}
