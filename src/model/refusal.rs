//! The meaning of errno values: which limit was reached, the way out, and the exit status.
//!
//! Guarantee: when the system has no more threads, processes, open files or memory, that is
//! reported neither as a bug of pytf nor as a fault of the workdir.

use std::io;

use nix::errno::Errno;

use crate::exit::RunExit;

/// Whether the system ran out of something that every process needs: threads and
/// processes, open files, memory.
pub fn is_resource(error: &io::Error) -> bool {
    matches!(
        errno(error),
        Errno::EAGAIN | Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM
    )
}

/// The status to end with when a file could not be used for this reason and nothing
/// was started.
pub fn exit(error: &io::Error) -> RunExit {
    match errno(error) {
        _ if is_resource(error) => RunExit::System,
        Errno::EIO
        | Errno::ESTALE
        | Errno::ETIMEDOUT
        | Errno::EREMOTEIO
        | Errno::ENOTCONN
        | Errno::ESHUTDOWN
        | Errno::EHOSTDOWN
        | Errno::ENXIO
        | Errno::ENOSPC
        | Errno::EDQUOT
        | Errno::EROFS
        | Errno::EFBIG => RunExit::WorkdirUnusable,
        _ => RunExit::Usage,
    }
}

/// Which limit was reached and the way out, as the end of a sentence with the error; empty
/// where the error says enough.
pub fn hint(error: &io::Error) -> &'static str {
    match errno(error) {
        Errno::EAGAIN => {
            "; the limit on processes and threads is reached (ulimit -u, or pids.max of the cgroup): \
             raise it, or use fewer slots (--proc)"
        }
        Errno::EMFILE => {
            "; the limit on open files of a process is reached (ulimit -n): raise it, or use \
             fewer slots (--proc)"
        }
        Errno::ENFILE => {
            "; the limit on open files of this node is reached (/proc/sys/fs/file-max): other \
             programs hold them"
        }
        Errno::ENOMEM => "; there is no memory left (the node's, the job's cgroup, or ulimit -v)",
        Errno::ENOSPC => "; no space or no inodes are left (df, df -i)",
        Errno::EDQUOT => "; the quota is used up",
        Errno::ENOLCK => {
            "; this file system has no such lock, or its lock service is \
             down: another mechanism can be chosen for a new workdir (--lock)"
        }
        _ => "",
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno as i32)
    }

    #[test]
    fn a_refused_resource_is_named_and_is_no_bug() {
        for (errno, limit) in [
            (Errno::EAGAIN, "ulimit -u"),
            (Errno::EMFILE, "ulimit -n"),
            (Errno::ENFILE, "file-max"),
            (Errno::ENOMEM, "memory"),
        ] {
            let error = of(errno);
            assert!(is_resource(&error), "{errno}");
            assert!(hint(&error).contains(limit), "{errno}");
            assert_eq!(exit(&error), RunExit::System, "{errno}");
        }
    }

    #[test]
    fn a_broken_file_system_is_distinguished_from_a_wrong_name() {
        assert_eq!(exit(&of(Errno::EIO)), RunExit::WorkdirUnusable);
        assert_eq!(exit(&of(Errno::ESTALE)), RunExit::WorkdirUnusable);
        assert_eq!(exit(&of(Errno::ENOENT)), RunExit::Usage);
        assert_eq!(exit(&of(Errno::EACCES)), RunExit::Usage);
        assert_eq!(exit(&io::Error::other("no number")), RunExit::Usage);
        assert_eq!(hint(&of(Errno::ENOENT)), "");
        assert!(hint(&of(Errno::ENOLCK)).contains("--lock"));
    }
}
