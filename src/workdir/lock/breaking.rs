//! Breaking a lock whose holder is dead: what a waiter observes during a long wait, and
//! how it replaces the lock.
//!
//! Guarantee: a lock is broken only when it has not changed hands for the takeover time by the
//! waiter's own clock, or when its holder is a farmer of the same node that is dead by its
//! journal, or died before it could say who it is; and of all processes that try it at once,
//! one succeeds.

use super::announce::{NEXT, disarm};
use super::name::{HolderNote, NAMELESS, Version};
use std::io;
use std::time::Duration;

use crate::model::liveness::{Evidence, Verdict};
use crate::workdir::error::{Context, Result};
use crate::workdir::files::{read_from, retry_stale};
use crate::workdir::fs::{File, Open, Workdir};
use crate::workdir::layout::LOCK;
use crate::workdir::liveness::{self, Waiting};
use crate::workdir::mechanism::Mechanism;
use crate::workdir::state::{self, PLAIN, State};

/// A waiter observes the holder at least this often.
const LOOK: Duration = Duration::from_secs(5);

/// What a waiter sees while it waits long.
pub(super) struct LongWait {
    pub(super) since: Duration,
    reported_at: Duration,
    looked_at: Duration,
    /// The holder's sign of life, and since when it has not changed.
    sign: Option<HolderSign>,
    still_since: Duration,
    /// How often it was tried to break this lock.
    tries: u32,
    /// A name whose holder has not yet written who it is, and since when.
    nameless: Option<(Version, Duration)>,
}

impl LongWait {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            since: now,
            reported_at: now,
            looked_at: now,
            sign: None,
            still_since: now,
            tries: 0,
            nameless: None,
        }
    }

    /// Checks whether the lock changes hands; if it has not for the takeover time, it is
    /// broken.
    pub(super) fn check_holder(
        &mut self,
        workdir: &Workdir,
        waiting: &mut dyn Waiting,
    ) -> Result<()> {
        let began = waiting.now();
        let sign = HolderSign::read(workdir)?;
        let now = waiting.now();
        // If this process or the file system stood still, silence in that time proves nothing.
        let most = waiting.takeover() / 4;
        let gap = began.saturating_sub(self.looked_at);
        let were_frozen = gap > most + LOOK.min(most) || now.saturating_sub(began) > most;
        self.looked_at = now;
        // A name that does not exist is not a lock: this node may have an old state in its cache.
        let is_held = workdir.mechanism != Mechanism::Link || sign.holder.is_some();
        if were_frozen || !is_held || self.sign.as_ref() != Some(&sign) {
            (self.still_since, self.tries) = (now, 0);
            self.sign = Some(sign.clone());
        }
        if now.saturating_sub(self.reported_at) > Duration::from_secs(10) {
            self.reported_at = now;
            let waited = now.saturating_sub(self.since).as_secs();
            waiting.notify(format!(
                "waiting for the lock for {waited}s; it was last taken by {}",
                sign.owner()
            ));
        }
        // When a node dies, the silence of its journal and of its lock begin together.
        let _ = liveness::judge(workdir, sign.owner(), waiting)?;
        if began.saturating_sub(self.still_since) > waiting.takeover() {
            self.still_since = now;
            self.tries += 1;
            if replace(workdir, &sign, self.tries, waiting)? {
                let holder = sign.owner();
                waiting.notify(format!(
                    "{holder} missed its heartbeats: its lock was broken"
                ));
            }
        }
        Ok(())
    }

    /// Whether the holder of a name was a farmer of our own node and is dead, or
    /// died before it could say who it is: then the lock is broken at once.
    pub(super) fn check_local_holder(
        &mut self,
        workdir: &Workdir,
        owner: &str,
        waiting: &mut dyn Waiting,
    ) -> Result<()> {
        let now = waiting.now();
        let sign = HolderSign::read(workdir)?;
        let is_dead = match sign.holder.as_deref() {
            // The name was removed just now: the next try may take the lock.
            None => false,
            // What we left when it was unknown whether our transaction was committed: the
            // name of a farmer, which has no blanks, is that of one process.
            Some(_) if sign.owner() == owner && !owner.contains(' ') => true,
            Some("") => {
                let seen = self
                    .nameless
                    .take()
                    .filter(|(version, _)| *version == sign.version);
                let (_, since) = *self.nameless.insert(seen.unwrap_or((sign.version, now)));
                now.saturating_sub(since) > NAMELESS
            }
            // Silence proves nothing here: it may have taken the lock just now.
            Some(_) => liveness::judge(workdir, sign.owner(), waiting)?
                .is_some_and(|(_, verdict)| verdict == Verdict::Dead(Evidence::Gone)),
        };
        if is_dead {
            self.tries += 1;
            replace(workdir, &sign, self.tries, waiting)?;
        }
        Ok(())
    }
}

/// Something that changes whenever the lock changes hands. A holder that cannot
/// be seen to give it up for the takeover time is dead, or would not dare to
/// write any more: see [`Held::is_stale`].
#[derive(Clone, PartialEq, Eq)]
struct HolderSign {
    inode: u64,
    version: Version,
    /// When the lock was taken, and by whom.
    holder: Option<String>,
}

impl HolderSign {
    /// What the server has: other waiters of our node may have the file open for writing,
    /// to lock it, and we would see what our node remembers for as long.
    fn read(workdir: &Workdir) -> Result<Self> {
        retry_stale(|| Self::read_once(workdir))
    }

    fn read_once(workdir: &Workdir) -> Result<Self> {
        let dir = &workdir.dir;
        // It is missing when a process created the name of the first transaction, and died
        // before it.
        let lock = dir.open(LOCK, Open::Fresh).if_found("open", LOCK)?;
        let lock = lock.as_deref();
        let version = lock.map_or(Ok(Version::default()), Version::of)?;
        let holder = match workdir.mechanism {
            Mechanism::Flock | Mechanism::Fcntl => lock.and_then(state::read_holder),
            Mechanism::Link => HolderNote::of_holder(dir, version)?.map(|mark| mark.word),
        };
        Ok(Self {
            inode: lock.map_or(Ok(0), File::inode).context("look at", LOCK)?,
            version,
            holder,
        })
    }

    fn owner(&self) -> &str {
        let word = self
            .holder
            .as_deref()
            .and_then(|word| word.split_once(" by "));
        word.map_or("an unknown process", |(_, owner)| owner)
    }
}

/// Puts a copy of the lock file in its place, in which the lock counts as
/// broken: an old holder that comes back writes into a file that is not read any more.
///
/// An exclusive name decides which process does it; if that process dies meanwhile, the next
/// try has another. A process that finds that anything has changed since its
/// evidence, or that took long itself, does nothing.
fn replace(
    workdir: &Workdir,
    evidence: &HolderSign,
    tries: u32,
    waiting: &mut dyn Waiting,
) -> Result<bool> {
    let began = waiting.now();
    let dir = &workdir.dir;
    let name = evidence.version.successor(NEXT, tries);
    let new = match dir.open(&name, Open::CreateNew) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        new => new.context("create", &name)?,
    };
    let give_up = || dir.remove(&name).context("remove", &name).map(|()| false);
    let bytes = retry_stale(|| {
        let old = dir.open(LOCK, Open::Fresh).if_found("open", LOCK)?;
        old.map_or(Ok(Vec::new()), |old| {
            read_from(&*old, 0).context("read", LOCK)
        })
    })?;
    new.write_at(&bytes, 0).context("write", &name)?;
    // Read without the lock: what is torn is not damaged.
    let Ok(state) = state::read(&*new) else {
        return give_up();
    };
    let mut state = state.unwrap_or_else(|| State::new(workdir.mechanism));
    if state.format < PLAIN {
        // Programs of that format do not know locks of our format.
        return give_up();
    }
    state.breaks += 1;
    state::write_place(&*new, &state)?;
    new.sync().context("sync", &name)?;
    // Open for writing as others take it, it would hide from this node what they write.
    drop(new);
    disarm(dir, &name)?;
    let is_still = HolderSign::read(workdir)? == *evidence;
    let took = waiting.now().saturating_sub(began);
    if !is_still || took > waiting.takeover() / 4 {
        return give_up();
    }
    // Another process may have removed our file.
    let is_replaced = dir.rename(&name, LOCK).if_found("rename", &name)?.is_some();
    if is_replaced {
        dir.sync_names().context("sync", "the workdir")?;
    }
    Ok(is_replaced)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workdir::fs::RealDir;
    use crate::workdir::layout;
    use crate::workdir::liveness::Watcher;
    use crate::workdir::liveness::samples::{Now, Unknown};
    use crate::workdir::lock::acquire;

    const TAKEOVER: Duration = Duration::from_secs(2 * 60);

    /// Waits until some moment, without time passing for other processes, and keeps what
    /// it was notified of.
    struct Later {
        now: Duration,
        until: Duration,
        watcher: Watcher,
        said: Vec<String>,
    }

    impl Later {
        fn until(until: Duration) -> Self {
            Self {
                now: TAKEOVER,
                until,
                watcher: Watcher::new(Box::new(Unknown), TAKEOVER),
                said: Vec::new(),
            }
        }
    }

    impl Waiting for Later {
        fn now(&self) -> Duration {
            self.now
        }
        fn micros(&self) -> u64 {
            0
        }
        fn pause(&mut self, time: Duration) -> bool {
            self.now += time.max(Duration::from_millis(20));
            self.now < self.until
        }
        fn jitter(&mut self) -> f64 {
            0.5
        }
        fn notify(&mut self, message: String) {
            self.said.push(message);
        }
        fn takeover(&self) -> Duration {
            TAKEOVER
        }
        fn watcher(&mut self) -> Option<&mut Watcher> {
            Some(&mut self.watcher)
        }
    }

    fn workdir(path: &std::path::Path, mechanism: Mechanism) -> Workdir {
        Workdir {
            dir: RealDir::open(path).unwrap(),
            path: path.to_owned(),
            mechanism,
        }
    }

    /// Another program may hold it: who took it last may be the one that waits.
    #[test]
    fn who_waits_says_who_took_the_lock_last_and_not_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let (me, by) = ("me.0.1.1", Mechanism::Fcntl);
        let workdir = workdir(folder.path(), by);
        drop(acquire(&workdir, me, &mut Now).unwrap());
        let another = workdir.dir.open(LOCK, Open::Write).unwrap();
        assert!(another.try_lock(by).unwrap());
        let mut later = Later::until(TAKEOVER + Duration::from_secs(20));
        assert!(acquire(&workdir, me, &mut later).is_err());
        let said = later.said.join("\n");
        assert!(said.contains("it was last taken by me.0.1.1"), "{said}");
    }

    #[test]
    fn whoever_breaks_the_lock_of_a_dead_node_has_waited_for_its_journal_too() {
        let folder = tempfile::tempdir().unwrap();
        let (dead, by) = ("dead.0.1.1", Mechanism::Fcntl);
        let workdir = workdir(folder.path(), by);
        let dir = &workdir.dir;
        dir.make_dir(layout::NODES).unwrap();
        // The server keeps both locks of the node.
        let journal = dir.open(&layout::journal(dead), Open::Create).unwrap();
        assert!(journal.try_lock(by).unwrap());
        let _held = acquire(&workdir, dead, &mut Now).unwrap();

        let mut later = Later::until(Duration::MAX);
        let _lock = acquire(&workdir, "other.0.1.1", &mut later).unwrap();
        let waited = later.now.saturating_sub(TAKEOVER);
        assert!(waited > TAKEOVER && waited < TAKEOVER + LOOK, "{waited:?}");
        let judged = liveness::judge(&workdir, dead, &mut later).unwrap();
        let verdict = judged.map(|(_, verdict)| verdict);
        assert_eq!(verdict, Some(Verdict::Dead(Evidence::Silent)));
    }
}
