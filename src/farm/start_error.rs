//! Why a farm did not start, and the exit status for it.

use std::path::Path;

use super::slot_plan::NoPlan;
use crate::definitions::DefinitionError;
use crate::exit::RunExit;
use crate::model::refusal::{self, hint, is_resource};
use crate::runner::shell::NoShell;
use crate::workdir::error::Error;
use crate::workdir::resume::ListFailure;

/// Why a farm did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The task list cannot be used.
    #[error(transparent)]
    List(#[from] ListFailure),
    /// The workdir cannot be used.
    #[error(transparent)]
    Workdir(#[from] Error),
    /// There is no shell.
    #[error(transparent)]
    Shell(#[from] NoShell),
    /// A runner or a handler cannot be used.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// There is no plan for GPUs and CPUs.
    #[error(transparent)]
    Devices(#[from] NoPlan),
    /// The command of `--node-setup` failed.
    #[error("{0}")]
    NodeSetup(String),
    /// The system refuses what every farm needs.
    #[error("cannot {0}: {1}{hint}", hint = hint(.1))]
    System(&'static str, std::io::Error),
}

impl StartError {
    /// The exit status of the process.
    pub fn exit(&self) -> RunExit {
        match self.workdir() {
            Some(Error::Canceled) => RunExit::WorkLeft,
            Some(Error::Fenced) => RunExit::Fenced,
            Some(error) if error.is_wrong_usage() => RunExit::Usage,
            Some(Error::Io { source, .. }) if is_resource(source) => RunExit::System,
            Some(_) => RunExit::WorkdirUnusable,
            None => match self {
                Self::System(..) => RunExit::System,
                Self::NodeSetup(_) => RunExit::NodeUnusable,
                Self::List(ListFailure::Unreadable { source, .. }) => refusal::exit(source),
                // The other processes of the node work.
                Self::Devices(NoPlan::NoShare { .. }) => RunExit::Complete,
                _ => RunExit::Usage,
            },
        }
    }

    /// The task list, when there is no such file.
    pub fn missing_list(&self) -> Option<&str> {
        match self {
            Self::List(ListFailure::Unreadable { list, source })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Some(list)
            }
            _ => None,
        }
    }

    /// Whether nothing was done because the lock was held for too long.
    pub(super) fn is_lock_held_too_long(&self) -> bool {
        matches!(self.workdir(), Some(Error::HeldTooLong))
    }

    /// The error of the workdir, when it is one.
    fn workdir(&self) -> Option<&Error> {
        match self {
            Self::List(ListFailure::Workdir(error)) | Self::Workdir(error) => Some(error),
            _ => None,
        }
    }

    /// The error in words, with the way out; it names files of the workdir relative to it.
    pub fn message(&self, workdir: &Path) -> String {
        match self.workdir() {
            Some(
                error @ (Error::Damaged { .. }
                | Error::Io { .. }
                | Error::HeldTooLong
                | Error::Newer { .. }
                | Error::Older { .. }),
            ) => {
                let workdir = workdir.display().to_string();
                let way_out = error.way_out(&workdir).unwrap_or_default();
                format!("workdir {workdir}: {self}{way_out}")
            }
            _ => self.to_string(),
        }
    }
}
