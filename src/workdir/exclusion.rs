//! Which lock excludes the processes of other nodes here, and the test of it.
//!
//! What a file system promises is read from its kind and its mount options, and a choice that
//! cannot work is refused, with the way out. Whether it keeps the promise is tested at every
//! start with the farmers that are alive: a journal that keeps growing has a live owner, so its
//! lock must not be free. A single growth proves nothing: the node of a farmer that was killed
//! may write its last lines after its lock is gone. Neither does growth for a moment: a client that
//! could not renew its lease has lost its locks, and takes them again with its next heartbeat.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::model::liveness::LockState;
use crate::model::record::Record;
use crate::workdir::error::{Context, Error, Result};
use crate::workdir::fs::{Dir, Workdir};
use crate::workdir::journal::Journal;
use crate::workdir::liveness::{self, JournalView, Waiting};
use crate::workdir::mechanism::Mechanism;
use crate::workdir::membership;
use crate::workdir::state::peek;

/// A mounted file system, from a line of /proc/self/mountinfo (proc(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub at: String,
    /// Its kind: `nfs4`, `lustre`, `fuse.mfs`, `ext4`.
    pub kind: String,
    /// The options of the mount and of the file system, with commas between.
    pub options: String,
}

impl Mount {
    /// For a path whose mount is not known: it promises nothing.
    fn unknown() -> Self {
        Self {
            at: "a mount point that is not in /proc/self/mountinfo".into(),
            kind: "a file system of unknown kind".into(),
            options: String::new(),
        }
    }
}

/// Finds the mount that holds the absolute `path` in the text of mountinfo.
pub fn mount_of(mountinfo: &str, path: &Path) -> Option<Mount> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let at = left.get(4)?.replace("\\040", " ");
        let options = format!("{},{}", left.get(5)?, right.get(2).unwrap_or(&""));
        // MooseFS 3 shows its kind only in the name of what is mounted.
        let kind = match (*right.first()?, right.get(1)) {
            ("fuse", Some(source)) if source.replace("\\043", "#").starts_with("mfs#") => {
                "fuse.mfs"
            }
            (kind, _) => kind,
        };
        Some(Mount {
            at,
            kind: kind.to_owned(),
            options,
        })
    });
    // The longest that fits, and of several at one place the last.
    let fits = mounts.filter(|mount| path.starts_with(&mount.at));
    fits.max_by_key(|mount| mount.at.len())
}

/// Why locks of `mechanism` may not exclude other nodes on `mount`, as measured or
/// documented, and what an administrator could change; `None` when they do, or there are
/// no other nodes. See docs/workdir.md, "Locks".
pub fn unsafe_because(mount: &Mount, mechanism: Mechanism) -> Option<&'static str> {
    use Mechanism::{Fcntl, Flock, Link};
    let has = |option: &str| mount.options.split(',').any(|there| there == option);
    let local = [
        "ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "zfs", "f2fs", "overlay", "ramfs",
    ];
    match (mount.kind.as_str(), mechanism) {
        (_, Link) => None,
        (kind, _) if local.contains(&kind) => None,
        ("nfs" | "nfs4", _) if has("nolock") || has("local_lock=all") => {
            Some("mounted with nolock: locks stay on the node; mount it without")
        }
        ("nfs" | "nfs4", Flock) if has("local_lock=flock") => {
            Some("mounted with local_lock=flock; mount it with local_lock=none")
        }
        ("nfs" | "nfs4", Fcntl) if has("local_lock=posix") => {
            Some("mounted with local_lock=posix; mount it with local_lock=none")
        }
        ("lustre", _) if has("flock") => None,
        ("lustre", _) if has("localflock") => {
            Some("mounted with -o localflock: locks stay on the node; mount it with -o flock")
        }
        ("lustre", _) => Some("mounted without locks; mount it with -o flock"),
        ("fuse.mfs", Fcntl) => Some(
            "whose fcntl(2) locks were seen to stall for half a minute and to be held twice when \
             the machine was overloaded; flock(2) was not",
        ),
        ("gpfs", Flock) => Some("flock(2) stays on the node in some set-ups of GPFS"),
        ("beegfs", _) => {
            Some("locks stay on the node unless tuneUseGlobalFileLocks=true in its client")
        }
        ("nfs" | "nfs4" | "gpfs" | "ceph" | "fuse.mfs" | "fuse.glusterfs", _) => None,
        _ => Some("not known to exclude other nodes"),
    }
}

/// The mechanism for a new workdir at `path`: the one wished for, if it is known to
/// work, else the first that is.
pub fn choose(path: &Path, wished: Option<Mechanism>) -> Result<Mechanism> {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let shown = path.display().to_string();
    let whole = std::fs::canonicalize(path).context("find", &shown)?;
    let mount = mount_of(&mountinfo, &whole).unwrap_or_else(Mount::unknown);
    match wished {
        None => Ok([Mechanism::Flock, Mechanism::Fcntl]
            .into_iter()
            .find(|mechanism| unsafe_because(&mount, *mechanism).is_none())
            .unwrap_or(Mechanism::Link)),
        Some(wished) => match unsafe_because(&mount, wished) {
            None => Ok(wished),
            Some(why) => Err(Error::UnsafeMechanism {
                wished,
                workdir: shown,
                file_system: format!("{} (at {})", mount.kind, mount.at),
                why,
            }),
        },
    }
}

/// The most farmers that the test observes.
const MOST_LOOKS: usize = 64;

/// A farmer whose journal is older is not a suspect: it may be dead.
const YOUNG: Duration = Duration::from_secs(30);

/// A journal that grows under a free lock for so many heartbeat intervals has an owner that took
/// the lock again meanwhile, and in vain.
const PROOF: u32 = 3;

/// Tests that our locks exclude the farmers of other nodes. A farmer that is
/// alive gives a sign of life every `beat`; while we wait for one, so do we.
///
/// Farmers of our own node are not asked: their locks reach us whatever the file system
/// does. A lock that is held under our own kernel, by a farmer whose processes we cannot
/// see, proves nothing about other kernels.
pub fn test(
    workdir: &Workdir,
    journal: &mut Journal,
    beat: Duration,
    waiting: &mut dyn Waiting,
) -> Result<()> {
    if workdir.mechanism == Mechanism::Link {
        return Ok(());
    }
    let Some(watcher) = waiting.watcher() else {
        return Ok(());
    };
    let node = watcher.node().id().cloned();
    let look_at = |farmer: &str, waiting: &mut dyn Waiting| match waiting.watcher() {
        Some(watcher) => liveness::look_at(workdir, farmer, watcher),
        None => Ok(None),
    };
    // It holds, under another kernel, what we cannot get: locks reach us.
    let is_proof = |seen: &JournalView| {
        seen.lock == LockState::Held && seen.is_under_another_kernel(node.as_ref())
    };
    let ours = journal.modified()?;
    let mut suspects = Vec::new();
    for farmer in others(&workdir.dir, journal.farmer())? {
        let Some(seen) = look_at(&farmer, waiting)? else {
            continue;
        };
        if is_proof(&seen) {
            return Ok(());
        }
        let age = ours.saturating_sub(seen.modified);
        if !seen.is_here && seen.lock == LockState::Free && age < YOUNG {
            suspects.push((farmer, seen.len, None));
        }
    }
    // Dead for less than that, or alive with a lock that does not work.
    let mut until = waiting.now() + beat * 5 / 2;
    while !suspects.is_empty() && waiting.now() < until {
        if !waiting.pause(beat.min(Duration::from_millis(500))) {
            return Err(Error::Canceled);
        }
        let at = u64::try_from(ours.as_micros()).unwrap_or(0);
        journal.push(&Record::Beat { at });
        journal.sync()?;
        let still_open = membership::present(&workdir.dir)?;
        suspects.retain(|(farmer, ..)| still_open.contains(farmer));
        for (farmer, len, grew) in std::mem::take(&mut suspects) {
            match look_at(&farmer, waiting)? {
                // It was seen after its journal was made and before that was locked.
                Some(seen) if is_proof(&seen) => return Ok(()),
                Some(seen) if seen.is_here || seen.lock == LockState::Held => {}
                Some(seen) if seen.lock == LockState::Free && seen.len > len => {
                    let now = waiting.now();
                    let first = grew.unwrap_or(now);
                    if now >= first + beat * PROOF {
                        let tasks = peek(&workdir.dir).ok().flatten();
                        return Err(Error::LocksDoNotExclude {
                            mechanism: workdir.mechanism,
                            farmer,
                            tasks: tasks.map_or(0, |state| state.tasks.lines),
                        });
                    }
                    until = until.max(now + beat * 2);
                    suspects.push((farmer, seen.len, Some(first)));
                }
                _ => suspects.push((farmer, len, grew)),
            }
        }
    }
    Ok(())
}

/// The farmers to observe: not all of a thousand, and last those with names like ours, which
/// are most likely on our node.
fn others(dir: &Arc<dyn Dir>, me: &str) -> Result<Vec<String>> {
    let mut all = membership::present(dir)?;
    all.retain(|farmer| farmer != me);
    let in_common = |farmer: &String| {
        let pairs = farmer.bytes().zip(me.bytes());
        pairs.take_while(|(a, b)| a == b).count()
    };
    all.sort_by_key(in_common);
    all.truncate(MOST_LOOKS);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workdir::fs::{File, Open, RealDir};
    use crate::workdir::layout::{self, NODES};
    use crate::workdir::liveness::Watcher;
    use crate::workdir::liveness::samples::Unknown;

    const BEAT: Duration = Duration::from_secs(10);
    const FAR: &str = "far.0.1.1";

    /// While one waits, the journal of a farmer elsewhere grows, and is locked from some moment on.
    struct Growing {
        now: Duration,
        watcher: Watcher,
        journal: Box<dyn File>,
        locked_at: Duration,
    }

    impl Waiting for Growing {
        fn now(&self) -> Duration {
            self.now
        }
        fn micros(&self) -> u64 {
            0
        }
        fn pause(&mut self, time: Duration) -> bool {
            self.now += time;
            let at = self.journal.len().unwrap();
            self.journal.write_at(b"{}\n", at).unwrap();
            if self.now >= self.locked_at {
                assert!(self.journal.try_lock(Mechanism::Flock).unwrap());
            }
            true
        }
        fn jitter(&mut self) -> f64 {
            0.0
        }
        fn notify(&mut self, _: String) {}
        fn takeover(&self) -> Duration {
            BEAT * 6
        }
        fn watcher(&mut self) -> Option<&mut Watcher> {
            Some(&mut self.watcher)
        }
    }

    fn header(farmer: &str) -> String {
        format!(
            r#"{{"event":"header","version":1,"farmer":"{farmer}","host":"far","pid":1,"slots":1,
            "at":0,"pytf":"","node":{{"boot":"{farmer}","pids":1}}}}"#
        )
        .replace('\n', "")
    }

    /// The outcome of the test beside such a farmer.
    fn beside_one_that_is_locked_at(locked_at: Duration) -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let workdir = Workdir {
            dir: RealDir::open(folder.path()).unwrap(),
            path: folder.path().to_owned(),
            mechanism: Mechanism::Flock,
        };
        workdir.dir.make_dir(NODES).unwrap();
        let journal = workdir.dir.open(&layout::journal(FAR), Open::Create);
        let journal = journal.unwrap();
        let text = header(FAR) + "\n";
        journal.write_at(text.as_bytes(), 0).unwrap();
        let Some(Record::Header(ours)) = Record::parse(header("a.0.1.1").as_bytes()) else {
            panic!("that is no header");
        };
        let mut ours = Journal::create(&workdir, ours).unwrap().unwrap();
        let mut waiting = Growing {
            now: Duration::ZERO,
            watcher: Watcher::new(Box::new(Unknown), BEAT * 6),
            journal,
            locked_at,
        };
        test(&workdir, &mut ours, BEAT, &mut waiting)
    }

    #[test]
    fn a_farmer_that_takes_its_lost_lock_again_within_two_heartbeats_is_no_proof() {
        assert!(beside_one_that_is_locked_at(BEAT * 5 / 2).is_ok());
    }

    #[test]
    fn a_journal_that_grows_and_grows_under_a_free_lock_is_proof() {
        let tested = beside_one_that_is_locked_at(Duration::MAX);
        assert!(matches!(tested, Err(Error::LocksDoNotExclude { .. })));
    }

    const INFO: &str = "\
22 28 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw
28 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 28 0:50 / /scratch rw,relatime shared:9 - lustre 10.0.0.1@o2ib:/s rw,flock,user_xattr
41 28 0:51 / /home rw,relatime shared:9 - nfs4 srv:/home rw,vers=4.2,local_lock=none
42 28 0:52 / /old rw,relatime shared:9 - nfs srv:/old rw,vers=3,nolock,local_lock=all
43 28 0:53 / /my\\040dir rw - fuse.mfs mfs rw
";

    fn at(path: &str) -> Mount {
        mount_of(INFO, Path::new(path)).unwrap()
    }

    #[test]
    fn the_deepest_mount_holds_the_path() {
        assert_eq!(at("/scratch/me/run1").kind, "lustre");
        assert_eq!(at("/scratchy").kind, "ext4");
        assert_eq!(at("/my dir/x").kind, "fuse.mfs");
    }

    #[test]
    fn the_first_safe_mechanism_is_taken_and_unsafe_ones_say_why() {
        use Mechanism::{Fcntl, Flock, Link};
        let mount = |kind: &str, options: &str| Mount {
            at: "/x".into(),
            kind: kind.into(),
            options: options.into(),
        };
        for (mount, flock, fcntl) in [
            (at("/tmp"), true, true),
            (at("/scratch/x"), true, true),
            (at("/home/x"), true, true),
            (at("/old/x"), false, false),
            (mount("lustre", "rw,localflock"), false, false),
            (mount("lustre", "rw"), false, false),
            (mount("gpfs", "rw"), false, true),
            (mount("beegfs", "rw"), false, false),
            (mount("fuse.sshfs", "rw"), false, false),
            (mount("something-new", "rw"), false, false),
            (Mount::unknown(), false, false),
        ] {
            let excludes = |mechanism| unsafe_because(&mount, mechanism).is_none();
            assert_eq!(excludes(Flock), flock, "{mount:?}");
            assert_eq!(excludes(Fcntl), fcntl, "{mount:?}");
            assert!(excludes(Link));
        }
    }
}
