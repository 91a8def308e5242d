//! Several `pytf` processes on one workdir, of which some are killed and replaced at any time.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{Done, Farm, Running, pause};

/// The longest that a storm may take.
const WATCHDOG: Duration = Duration::from_secs(20 * 60);

/// xorshift64: a storm can be repeated by its seed.
pub(crate) struct Random(u64);

impl Random {
    /// The seed is `PYTF_TEST_SEED`, or the time; it is printed.
    pub(crate) fn new() -> Self {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
        let seed = setting("PYTF_TEST_SEED", now as u64);
        println!("PYTF_TEST_SEED={seed}");
        Self::of(seed)
    }

    pub(crate) fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    pub(crate) fn index(&mut self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).unwrap()
    }

    /// A random moment: not a wait for anything.
    pub(crate) fn moment(&mut self, most: Duration) {
        let most = u64::try_from(most.as_micros()).unwrap();
        pause(Duration::from_micros(self.below(most)));
    }
}

/// A number from the environment, for longer or repeated storms.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The processes.
pub(crate) struct Crew<'f> {
    farm: &'f Farm,
    args: String,
    /// Where they see the farm: one after the other.
    seen_at: Vec<PathBuf>,
    started: usize,
    pub(crate) members: Vec<Running<'f>>,
    pub(crate) left: Vec<Done<'f>>,
}

impl<'f> Crew<'f> {
    /// `size` processes, with 4 slots each unless `args` has it otherwise.
    pub(crate) fn of(farm: &'f Farm, size: usize, args: &str) -> Self {
        let slots = if args.contains("--proc") {
            ""
        } else {
            "--proc 4 "
        };
        let mut crew = Self {
            farm,
            args: format!("--logs none --no-timeline --quiet {slots}{args}"),
            seen_at: seen_at(farm),
            started: 0,
            members: Vec::new(),
            left: Vec::new(),
        };
        for _ in 0..size {
            let one = crew.start();
            crew.members.push(one);
        }
        crew
    }

    pub(crate) fn start(&mut self) -> Running<'f> {
        let at = self.seen_at[self.started % self.seen_at.len()].clone();
        self.started += 1;
        self.farm.farm(&self.args).within(at).start()
    }

    /// Takes one out.
    pub(crate) fn take(&mut self, at: usize) -> Running<'f> {
        self.members.swap_remove(at)
    }

    /// Puts a new one in the place of one that was taken out.
    pub(crate) fn refill(&mut self) {
        let one = self.start();
        self.members.push(one);
    }

    /// Sends a signal to a random one that still runs, waits for its end, and
    /// starts another; `false` when it had ended by itself.
    pub(crate) fn strike(&mut self, random: &mut Random, signal: Signal) -> bool {
        let one = random.index(self.members.len());
        let mut one = self.take(one);
        let runs = one.child.try_wait().unwrap().is_none();
        if runs {
            one.signal(signal);
            self.refill();
        }
        self.left.push(wait(one));
        runs
    }

    /// Whether somebody is at work.
    pub(crate) fn is_at_work(&self) -> bool {
        !self.members.is_empty()
    }

    /// Waits until all have left by themselves.
    pub(crate) fn end(mut self) -> Vec<Done<'f>> {
        self.left.extend(self.members.drain(..).map(wait));
        self.left
    }
}

/// Waits for an end, for as long as a storm may take.
pub(crate) fn wait(mut one: Running<'_>) -> Done<'_> {
    let start = Instant::now();
    while one.child.try_wait().unwrap().is_none() && start.elapsed() < WATCHDOG {
        pause(Duration::from_millis(2));
    }
    one.wait()
}

/// The farm's directory as each of the mounts shows it.
fn seen_at(farm: &Farm) -> Vec<PathBuf> {
    let root = farm.path("");
    let Ok(mounts) = std::env::var("PYTF_TEST_MOUNTS") else {
        return vec![root];
    };
    let mounts: Vec<PathBuf> = mounts.split(':').map(PathBuf::from).collect();
    let inside = root.strip_prefix(&mounts[0]);
    let inside = inside.expect("TMPDIR is in the first of PYTF_TEST_MOUNTS");
    mounts.iter().map(|mount| mount.join(inside)).collect()
}
