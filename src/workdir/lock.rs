//! The one lock of a workdir, and the three ways to take it.
//!
//! Others rely on this: between [`acquire`] and the drop of what it returned,
//! nobody else is between the two, on any node. A wait is a try and a pause, or a
//! moment in the queue of `line`, again and again, so that whoever must can end it.
//!
//! A lock dies with its process, but where a *node* dies, NFS 3 may never let
//! it go. Then the file itself is replaced: waiters open it anew for every try
//! and meet the new one, the dead node's lock stays on the old one. The
//! evidence for it is that the lock did not change hands for the takeover time
//! by the waiter's own clock; who does it is decided by an exclusive name. A
//! holder that was only frozen writes into files that nobody reads any more:
//! whoever comes next writes all shared files anew before it does anything else.
//! `breaking` does that.

mod breaking;
mod line;
mod name;

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::{Context, Error, Result};
use super::fs::{Dir, File, Open};
use super::state::{self, LOCK};
use super::watch::Watcher;
use crate::model::pace;
use breaking::{LongWait, disarm};
use line::{Line, Stood};
use name::Name;
pub use name::is_past;

/// A waiter looks whom it waits for after so many tries, some seconds, and then
/// once in so many: they are up to 1.5 s apart by then.
const FIRST_LOOK: u32 = 36;
const LOOK_TRIES: u32 = 3;
/// In so many tries a waiter counts the farmers once.
const COUNT_TRIES: u32 = 8;

/// A way to exclude other processes, on whatever node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// flock(2).
    Flock,
    /// fcntl(2) open-file-description locks, `F_OFD_SETLK` (Linux 3.15).
    Fcntl,
    /// A name that is created exclusively; atomic on every file system. See `name`.
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
    /// The time as records have it: microseconds since 1970.
    fn micros(&self) -> u64;
    /// Waits; `false` when the wait was ended and nobody wants the lock any more.
    fn pause(&mut self, time: Duration) -> bool;
    /// A random number from 0 to 1, so that waiters do not march in step.
    fn jitter(&mut self) -> f64;
    /// Tells people that a wait has become long.
    fn tell(&mut self, message: String);
    /// After how long a process that gives no sign of life is taken for dead.
    fn takeover(&self) -> Duration;
    /// How many processes may want the lock, as far as is known beforehand.
    fn crowd(&self) -> u32 {
        1
    }
    /// A heartbeat that was begun at this moment has arrived, and nobody had sealed us.
    fn renewed(&mut self, _begun: Duration) {}
    /// What is known of other farmers; `None` for whoever looks at nobody.
    fn watcher(&mut self) -> Option<&mut Watcher> {
        None
    }
    /// Ends what is left of the tasks of a farmer of our node that is being sealed.
    fn end_tasks(&mut self, _farmer: &str) {}
}

/// The lock, until it is dropped.
pub struct Held {
    /// The open lock file.
    pub file: Box<dyn File>,
    /// The same once more, opened to see that it is: closed after the unlock.
    _again: Option<Box<dyn File>>,
    mechanism: Mechanism,
    since: Duration,
    /// The last of all, since it is given back when the file is closed.
    name: Option<Name>,
}

impl Held {
    /// Whether the lock is held for so long that others might soon break it:
    /// then nothing may be written any more.
    pub fn is_stale(&self, waiting: &dyn Waiting) -> bool {
        waiting.now().saturating_sub(self.since) > waiting.takeover() / 2
    }

    /// To be called before a state is written under the lock. Without [`Held::ends`]
    /// after it nobody knows whether that state is in force.
    pub fn begins(&mut self) {
        self.name.iter_mut().for_each(Name::begins);
    }

    /// The state is in force, or it certainly is not and will not be. `is_quiet`:
    /// nobody is alive by that state.
    pub fn ends(&mut self, is_true: bool, is_quiet: bool) {
        if let Some(name) = &mut self.name {
            name.ends(is_true, is_quiet);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.file.unlock(self.mechanism);
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
    let (mut tries, mut effort, mut crowd) = (0_u32, Duration::ZERO, waiting.crowd());
    let mut line = None;
    loop {
        // Before the try: it may be we who stand still right after it.
        let since = waiting.now();
        let held = match mechanism {
            Mechanism::Flock | Mechanism::Fcntl => try_file(dir, mechanism, &mut line)?,
            Mechanism::Link => name::take(dir, who, waiting)?,
        };
        if let Some(Taken { file, again, name }) = held {
            let held = Held {
                file,
                _again: again,
                mechanism,
                since,
                name,
            };
            // A process that died after it had written a state may not have
            // synced it; the state before it must stay until it is.
            held.file.sync().context("sync", LOCK)?;
            state::write_holder(&*held.file, who, waiting.micros())?;
            if tries >= FIRST_LOOK {
                announce(dir, &*held.file, who, waiting)?;
            }
            return Ok(held);
        }
        tries += 1;
        let took = waiting.now().saturating_sub(since);
        effort = if tries == 1 {
            took
        } else {
            (effort * 3 + took) / 4
        };
        let waited = waiting.now().saturating_sub(wait.since);
        if waited >= pace::LONG_WAIT && tries.is_multiple_of(COUNT_TRIES) {
            // Should it be torn at this moment: a later try will do.
            let state = dir.open(LOCK, Open::Read).ok();
            let state = state.and_then(|file| state::read(&*file).ok().flatten());
            crowd = crowd.max(state.map_or(1, |state| state.live));
        }
        let pause = match line {
            Some(_) => Duration::ZERO,
            None => pace::lock_pause(tries, waited, effort, crowd),
        };
        let spread = 0.5 + waiting.jitter();
        if !waiting.pause(pause.mul_f64(spread)) {
            return Err(Error::GaveUp);
        }
        if tries >= FIRST_LOOK && tries.is_multiple_of(LOOK_TRIES) {
            wait.look(dir, mechanism, waiting)?;
        } else if mechanism == Mechanism::Link && (tries > 28 || tries.is_multiple_of(8)) {
            wait.look_here(dir, who, waiting)?;
        }
    }
}

/// Tells everybody who may think of breaking the lock that it has changed hands,
/// or is about to: now, and those who have got ready for it.
pub fn announce(
    dir: &Arc<dyn Dir>,
    lock: &dyn File,
    who: &str,
    waiting: &dyn Waiting,
) -> Result<()> {
    state::write_holder(lock, who, waiting.micros())?;
    lock.sync().context("sync", LOCK)?;
    disarm(dir, "")
}

/// A try that succeeded: the open lock file, and how it was taken.
struct Taken {
    file: Box<dyn File>,
    again: Option<Box<dyn File>>,
    /// The last, as in [`Held`].
    name: Option<Name>,
}

fn try_file(
    dir: &Arc<dyn Dir>,
    mechanism: Mechanism,
    line: &mut Option<Line>,
) -> Result<Option<Taken>> {
    let Some(file) = locked_file(dir, mechanism, line)? else {
        return Ok(None);
    };
    // Somebody may have replaced the file between our open and our lock. Only
    // an open asks the server; what a name means may be remembered for a minute.
    let again = dir.open(LOCK, Open::Read).context("open", LOCK)?;
    let inode = |file: &dyn File| file.inode().context("look at", LOCK);
    let is_the_one = inode(&*again)? == inode(&*file)?;
    Ok(is_the_one.then_some(Taken {
        file,
        again: Some(again),
        name: None,
    }))
}

/// A file that bore the lock's name a moment ago, locked: at once, or after standing
/// in line for it.
fn locked_file(
    dir: &Arc<dyn Dir>,
    mechanism: Mechanism,
    line: &mut Option<Line>,
) -> Result<Option<Box<dyn File>>> {
    if let Some(place) = line.take() {
        return Ok(match place.stand(dir) {
            Stood::Served(file) => Some(file),
            Stood::Waits(place) => {
                *line = Some(place);
                None
            }
            Stood::InVain => None,
        });
    }
    let file = dir.open(LOCK, Open::Create).context("open", LOCK)?;
    match file.try_lock(mechanism) {
        Ok(true) => Ok(Some(file)),
        Ok(false) => {
            *line = Line::join(dir, file, mechanism);
            Ok(None)
        }
        // Replaced and gone at the server: the next try opens the new one.
        Err(error) if error.raw_os_error() == Some(libc::ESTALE) => Ok(None),
        Err(error) => Err(unusable(mechanism, LOCK, error)),
    }
}

/// Whether this is the answer of a file system that has no locks at all.
fn has_none(error: &io::Error) -> bool {
    let answers = [libc::ENOSYS, libc::EOPNOTSUPP, libc::EINVAL];
    error
        .raw_os_error()
        .is_some_and(|code| answers.contains(&code))
}

/// What a lock of `file` that was refused means, and the way out.
pub(super) fn unusable(mechanism: Mechanism, file: &str, source: io::Error) -> Error {
    let other = match mechanism {
        Mechanism::Flock => "fcntl",
        Mechanism::Fcntl | Mechanism::Link => "flock",
    };
    // No more locks, or none that this descriptor could have: a server without a lock
    // daemon says so as well.
    let is_refused = matches!(source.raw_os_error(), Some(libc::ENOLCK | libc::EBADF));
    if !is_refused && !has_none(&source) {
        return Error::Io {
            doing: "lock",
            file: file.into(),
            source,
        };
    }
    Error::Unsafe(format!(
        "the file system of the workdir refuses {mechanism} locks of {file}: {source}; begin in a new \
         workdir with --lock {other}, or with --lock link, which needs no locks"
    ))
}

/// A wait for tests.
#[cfg(test)]
pub(in crate::workdir) mod samples {
    use std::time::Duration;

    use super::Waiting;

    /// Whoever does not wait: no time passes, and a lock that is held is given up.
    pub(in crate::workdir) struct Now;

    impl Waiting for Now {
        fn now(&self) -> Duration {
            Duration::ZERO
        }
        fn micros(&self) -> u64 {
            0
        }
        fn pause(&mut self, _: Duration) -> bool {
            false
        }
        fn jitter(&mut self) -> f64 {
            0.0
        }
        fn tell(&mut self, _: String) {}
        fn takeover(&self) -> Duration {
            Duration::from_mins(2)
        }
    }
}
