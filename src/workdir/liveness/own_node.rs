//! Our own node: what it is, and which processes run on it.
//!
//! Guarantee: a process on another node, or in another namespace of process ids, is always
//! `Unknown`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::model::identity::{self, Process};
use crate::model::record::{Header, NodeId};

/// Our node, as an observer of farmers asks for it; the model check has its own.
pub trait Node: Send {
    /// Its identity; `None` where it is not known.
    fn id(&self) -> Option<&NodeId>;
    /// Whether the process of a farmer runs.
    fn process(&self, farmer: &Header) -> Process;
}

/// The node that this process runs on.
#[derive(Clone, Debug)]
pub struct Here(Option<NodeId>);

impl Here {
    /// Reads its identity from the kernel.
    pub fn read() -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let pids = fs::metadata("/proc/self/ns/pid").map(|found| found.ino());
        // Without both, no farmer is known to be on our node, and only its journal
        // counts.
        let node = boot.ok().zip(pids.ok()).map(|(boot, pids)| NodeId {
            boot: boot.trim_ascii().to_owned(),
            pids,
        });
        Self(node)
    }
}

impl Node for Here {
    fn id(&self) -> Option<&NodeId> {
        self.0.as_ref()
    }

    /// `/proc` alone may hide the processes of others (hidepid), which kill(2) does
    /// not.
    fn process(&self, farmer: &Header) -> Process {
        let pid = i32::try_from(farmer.pid).unwrap_or(0);
        if !farmer.is_on(self.id()) || pid < 1 {
            return Process::Unknown;
        }
        if kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH) {
            return Process::Gone;
        }
        match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => identity::process_of(&stat, farmer.began),
            Err(_) => Process::Unknown,
        }
    }
}

/// When this process began, in clock ticks since the boot; `None` without `/proc`.
pub fn our_beginning() -> Option<u64> {
    identity::began_of(&fs::read_to_string("/proc/self/stat").ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ourselves() -> Header {
        Header {
            farmer: "n.0.1.1".into(),
            pid: std::process::id(),
            began: our_beginning(),
            node: Here::read().0,
            ..Header::default()
        }
    }

    #[test]
    fn our_own_process_runs_here_and_a_number_used_again_is_another() {
        let here = Here::read();
        let we = ourselves();
        assert!(we.began.is_some() && we.node.is_some(), "{we:?}");
        assert_eq!(here.process(&we), Process::Runs);
        let before = Header {
            began: Some(1),
            ..we.clone()
        };
        assert_eq!(here.process(&before), Process::Gone);
        let nobody = Header {
            pid: 0x3fff_fff0,
            ..we.clone()
        };
        assert_eq!(here.process(&nobody), Process::Gone);
        let mut elsewhere = nobody;
        elsewhere.node.as_mut().unwrap().pids += 1;
        assert_eq!(here.process(&elsewhere), Process::Unknown);
        elsewhere.node = None;
        assert_eq!(here.process(&elsewhere), Process::Unknown);
    }
}
