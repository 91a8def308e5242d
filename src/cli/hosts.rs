//! The commands for hosts.

use std::ffi::OsString;

use clap::Args;

/// Show hosts: whether they can be reached, and what of them is free.
///
/// Asks all of them at the same time for their CPUs, load, memory, GPUs and their users, their clock,
/// and whether they share the current folder. A host that has no pytf of this version gets a copy. The
/// exit status is 69 when a host cannot be used, and 75 after a signal.
#[derive(Clone, Debug, Args)]
pub struct Hosts {
    /// The hosts, as for a farm
    #[arg(long, env = "PYTF_HOSTS", value_name = "HOSTS", required = true)]
    pub hosts: String,
    /// An option of ssh, as ssh -o has it: Name=value
    #[arg(long, env = "PYTF_SSH_OPTION", value_name = "O")]
    pub ssh_option: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Run one command on all hosts at the same time.
///
/// What it prints is shown line by line, with the name of the host before it. The command is that
/// of your shell there, in the folder in which tasks would run. It is ended with this pytf, and
/// by Ctrl-C; a second one kills it. No pytf is needed there. The exit status is 0 when it is on all
/// hosts, 1 when it is not, 69 when a host was not reached, and 75 after a signal.
#[derive(Clone, Debug, Args)]
pub struct On {
    /// The hosts, as for a farm
    #[arg(long, env = "PYTF_HOSTS", value_name = "HOSTS", required = true)]
    pub hosts: String,
    /// An option of ssh, as ssh -o has it: Name=value
    #[arg(long, env = "PYTF_SSH_OPTION", value_name = "O")]
    pub ssh_option: Vec<String>,
    /// The command and its arguments, which ssh would join by blanks
    #[arg(value_name = "COMMAND", last = true, required = true)]
    pub command: Vec<OsString>,
}
