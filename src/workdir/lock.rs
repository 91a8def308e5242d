//! The one lock of a workdir, and the three ways to take it.
//!
//! Others rely on this: between [`acquire`] and the drop of what it returned,
//! nobody else is between the two, on any node. A wait is always a try and a
//! pause, never a blocking call, so that whoever must can end it.
//!
//! A lock dies with its process, but where a *node* dies, NFS 3 may never let
//! it go. Then the file itself is replaced: waiters open it anew for every try
//! and meet the new one, the dead node's lock stays on the old one. The
//! evidence for it is that the holder's journal stood still for the takeover
//! time by the waiter's own clock; who does it is decided by an exclusive name.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::{Context, Error, Result};
use super::exclusion::host_of;
use super::fs::{Dir, File, Open, read_from};
use super::layout;
use super::recovery;
use super::state::{self, LOCK};

/// How long a holder by name may take to write who it is: it gives the lock back
/// when it took half as long, and is broken when it takes longer.
const NAMELESS: Duration = Duration::from_secs(4);

/// A way to exclude other processes, on whatever node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// flock(2).
    Flock,
    /// fcntl(2) open-file-description locks, `F_OFD_SETLK` (Linux 3.15).
    Fcntl,
    /// A name that is created exclusively; atomic on every file system.
    Link,
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flock => "flock",
            Self::Fcntl => "fcntl",
            Self::Link => "link",
        })
    }
}

impl FromStr for Mechanism {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        match text {
            "flock" => Ok(Self::Flock),
            "fcntl" => Ok(Self::Fcntl),
            "link" => Ok(Self::Link),
            _ => Err(()),
        }
    }
}

/// Time and its waits, as whoever takes locks has them.
pub trait Waiting {
    /// The time since some beginning, by a clock that never runs backwards.
    fn now(&self) -> Duration;
    /// Waits; `false` when the wait was ended and nobody wants the lock any more.
    fn pause(&mut self, time: Duration) -> bool;
    /// A random number from 0 to 1, so that waiters do not march in step.
    fn jitter(&mut self) -> f64;
    /// Tells people that a wait has become long.
    fn tell(&mut self, message: String);
    /// After how long a process that gives no sign of life is taken for dead.
    fn takeover(&self) -> Duration;
}

/// The lock, until it is dropped.
pub struct Held {
    /// The open lock file.
    pub file: Box<dyn File>,
    name: Option<(Arc<dyn Dir>, String)>,
    since: Duration,
}

impl Held {
    /// Whether the lock is held for so long that others might soon break it:
    /// then nothing may be written any more.
    pub fn is_stale(&self, waiting: &dyn Waiting) -> bool {
        waiting.now().saturating_sub(self.since) > waiting.takeover() / 2
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((dir, name)) = &self.name {
            // A name that stays is broken by the next one after the takeover time.
            let _ = dir.remove(name);
        }
    }
}

/// Waits for the lock. `who` is the name of the farmer, or of whoever it is.
pub fn acquire(
    dir: &Arc<dyn Dir>,
    mechanism: Mechanism,
    who: &str,
    waiting: &mut dyn Waiting,
) -> Result<Held> {
    let mut wait = LongWait::new(waiting.now());
    let mut tries = 0_u32;
    loop {
        // From before the try: whoever is frozen in it must know when it wakes.
        let since = waiting.now();
        let held = match mechanism {
            Mechanism::Flock | Mechanism::Fcntl => try_file(dir, mechanism)?,
            Mechanism::Link => try_name(dir, who, &wait, waiting)?,
        };
        if let Some((file, name)) = held {
            let name = name.map(|name| (dir.clone(), name));
            let held = Held { file, name, since };
            state::write_holder(&*held.file, who)?;
            return Ok(held);
        }
        tries += 1;
        // 0.2 ms at first, a neighbour's transaction; then growing to 50 ms.
        let pause = Duration::from_micros(200).mul_f64(1.3_f64.powi(tries.min(21).cast_signed()));
        let spread = 0.5 + waiting.jitter();
        if !waiting.pause(pause.mul_f64(spread)) {
            return Err(Error::GaveUp);
        }
        if tries.is_multiple_of(64) {
            wait.look(dir, mechanism, who, waiting)?;
        } else if mechanism == Mechanism::Link && tries.is_multiple_of(8) {
            wait.look_here(dir, who, waiting.now())?;
        }
    }
}

type Taken = (Box<dyn File>, Option<String>);

fn try_file(dir: &Arc<dyn Dir>, mechanism: Mechanism) -> Result<Option<Taken>> {
    let file = dir.open(LOCK, Open::Create).context("open", LOCK)?;
    let got = match file.try_lock(mechanism) {
        Ok(got) => got,
        // Replaced and gone at the server: the next try opens the new one.
        Err(error) if error.raw_os_error() == Some(libc::ESTALE) => false,
        Err(error) => return Err(unusable(mechanism, error)),
    };
    // Somebody may have replaced the file between our open and our lock. Only
    // an open asks the server; what a name means may be remembered for a minute.
    let is_the_one = got && {
        let now = dir.open(LOCK, Open::Read).context("open", LOCK)?;
        let inode = |file: &dyn File| file.inode().context("look at", LOCK);
        inode(&*now)? == inode(&*file)?
    };
    Ok(is_the_one.then_some((file, None)))
}

/// The name carries the number of the state that may be changed under it, and
/// how often it was broken: a name is never used for two different changes.
fn try_name(
    dir: &Arc<dyn Dir>,
    who: &str,
    wait: &LongWait,
    waiting: &dyn Waiting,
) -> Result<Option<Taken>> {
    let began = waiting.now();
    let file = dir.open(LOCK, Open::Create).context("open", LOCK)?;
    let seq = seq_of(&*file)?;
    let broken = if wait.seq == Some(seq) {
        wait.broken
    } else {
        0
    };
    let name = held_name(seq, broken);
    match dir.open(&name, Open::CreateNew) {
        Ok(mark) => mark.write_at(who.as_bytes(), 0).context("write", &name)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(error).context("create", &name),
    }
    // The state may have moved on before we had the name.
    let fresh = dir.open(LOCK, Open::Write).context("open", LOCK)?;
    let was_quick = waiting.now().saturating_sub(began) < NAMELESS / 2;
    if was_quick && seq_of(&*fresh)? == seq {
        return Ok(Some((fresh, Some(name))));
    }
    dir.remove(&name).context("remove", &name)?;
    Ok(None)
}

fn held_name(seq: u64, broken: u32) -> String {
    format!("{LOCK}.held.{seq}.{broken}")
}

/// Whether a name belongs to a lock that was held or replaced before `seq`.
pub fn is_past(name: &str, seq: u64) -> bool {
    let number = |rest: &str| {
        rest.split('.')
            .next()
            .and_then(|number| number.parse::<u64>().ok())
    };
    ["held", "next"]
        .iter()
        .filter_map(|what| name.strip_prefix(&format!("{LOCK}.{what}.")))
        .filter_map(number)
        .any(|at| at < seq)
}

fn seq_of(file: &dyn File) -> Result<u64> {
    Ok(state::read(file)?.map_or(0, |state| state.seq))
}

fn unusable(mechanism: Mechanism, error: io::Error) -> Error {
    let refused = [
        libc::ENOSYS,
        libc::EOPNOTSUPP,
        libc::EINVAL,
        libc::ENOLCK,
        libc::EBADF,
    ];
    if !refused
        .iter()
        .any(|&code| error.raw_os_error() == Some(code))
    {
        return Error::Io {
            doing: "lock",
            file: LOCK.to_owned(),
            source: error,
        };
    }
    let hint = match mechanism {
        Mechanism::Flock => "try --lock fcntl, or --lock link which every file system honours",
        Mechanism::Fcntl => "try --lock flock, or --lock link which every file system honours",
        Mechanism::Link => "",
    };
    Error::Unsafe(format!(
        "the file system of the workdir refuses {mechanism} locks: {error}; {hint}"
    ))
}

/// What a waiter sees while it waits long.
struct LongWait {
    since: Duration,
    told_at: Duration,
    /// The holder's sign of life, and since when it has not changed.
    sign: Option<(String, u64)>,
    still_since: Duration,
    /// The state that is waited at, and how often its lock was broken.
    seq: Option<u64>,
    broken: u32,
    /// A name whose holder has not yet written who it is, and since when.
    nameless: Option<(String, Duration)>,
}

impl LongWait {
    fn new(now: Duration) -> Self {
        Self {
            since: now,
            told_at: now,
            sign: None,
            still_since: now,
            seq: None,
            broken: 0,
            nameless: None,
        }
    }

    fn look(
        &mut self,
        dir: &Arc<dyn Dir>,
        mechanism: Mechanism,
        who: &str,
        waiting: &mut dyn Waiting,
    ) -> Result<()> {
        let now = waiting.now();
        let file = dir.open(LOCK, Open::Create).context("open", LOCK)?;
        let holder = state::read_holder(&*file).unwrap_or_else(|| "an unknown process".into());
        let seq = seq_of(&*file)?;
        let sign = (holder, sign_of_life(dir, &*file, seq));
        if self.sign.as_ref() != Some(&sign) {
            self.still_since = now;
            self.sign = Some(sign.clone());
        }
        if now.saturating_sub(self.told_at) > Duration::from_secs(10) {
            self.told_at = now;
            let waited = now.saturating_sub(self.since).as_secs();
            waiting.tell(format!(
                "waiting for the lock for {waited}s; it is held by {}",
                sign.0
            ));
        }
        if now.saturating_sub(self.still_since) > waiting.takeover() {
            self.still_since = now;
            match mechanism {
                Mechanism::Flock | Mechanism::Fcntl => {
                    replace(dir, &*file, seq, self.broken_at(seq), who)?;
                }
                Mechanism::Link => {}
            }
            self.break_at(seq);
            waiting.tell(format!(
                "{} gave no sign of life: its lock is broken",
                sign.0
            ));
        }
        Ok(())
    }

    /// Whether the holder of a name was a farmer of our own node and is dead:
    /// then its name is broken at once.
    fn look_here(&mut self, dir: &Arc<dyn Dir>, who: &str, now: Duration) -> Result<()> {
        let file = dir.open(LOCK, Open::Create).context("open", LOCK)?;
        let seq = seq_of(&*file)?;
        let name = held_name(seq, self.broken_at(seq));
        // Gone in this moment: the next try will tell.
        let Ok(mark) = dir.open(&name, Open::Read) else {
            return Ok(());
        };
        let holder = read_from(&*mark, 0).context("read", &name)?;
        if holder.is_empty() {
            let (seen, since) = self.nameless.get_or_insert((name.clone(), now));
            if *seen != name {
                (*seen, *since) = (name, now);
            } else if now.saturating_sub(*since) > NAMELESS {
                self.break_at(seq);
            }
            return Ok(());
        }
        let holder = String::from_utf8_lossy(&holder);
        let journal = recovery::look_at(dir, Mechanism::Link, &holder, host_of(who))?;
        if journal.is_some_and(|journal| journal.is_free) {
            self.break_at(seq);
        }
        Ok(())
    }

    fn broken_at(&self, seq: u64) -> u32 {
        if self.seq == Some(seq) {
            self.broken
        } else {
            0
        }
    }

    fn break_at(&mut self, seq: u64) {
        self.broken = self.broken_at(seq) + 1;
        self.seq = Some(seq);
    }
}

/// Something that changes while the holder lives: the state, its journal.
fn sign_of_life(dir: &Arc<dyn Dir>, lock: &dyn File, seq: u64) -> u64 {
    let journal = state::read_holder(lock)
        .and_then(|farmer| dir.open(&layout::journal(&farmer), Open::Read).ok())
        .and_then(|file| file.len().ok());
    seq.wrapping_mul(1 << 40) ^ journal.unwrap_or(0)
}

/// Puts a copy of the lock file in its place; one process wins. Should that one
/// die over it, the next look tries another name.
fn replace(dir: &Arc<dyn Dir>, old: &dyn File, seq: u64, broken: u32, who: &str) -> Result<()> {
    let name = format!("{LOCK}.next.{seq}.{broken}");
    let new = match dir.open(&name, Open::CreateNew) {
        Ok(new) => new,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error).context("create", &name),
    };
    let bytes = read_from(old, 0).context("read", LOCK)?;
    new.write_at(&bytes, 0).context("write", &name)?;
    state::write_holder(&*new, who)?;
    new.sync().context("sync", &name)?;
    dir.rename(&name, LOCK).context("rename", &name)
}
