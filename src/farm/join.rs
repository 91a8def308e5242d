//! What happens before the first task: prepare the workdir, look for the dead,
//! join.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::clock::Clock;
use super::lock_wait::Patience;
use super::start::{Host, Source, Trouble};
use crate::cli::{End, Farm, VERSION};
use crate::host::memory;
use crate::host::scheduler::left_until;
use crate::model::identity::Process;
use crate::model::liveness::{LockState as LockIs, Verdict, heartbeat};
use crate::model::pace::Pace;
use crate::model::record::Header;
use crate::model::task::Task;
use crate::model::tasklist::Remarks;
use crate::ui::opening::{Because, Opening};
use crate::ui::progress::Progress;
use crate::workdir::error::{Error, Result};
use crate::workdir::exclusion;
use crate::workdir::journal::Journal;
use crate::workdir::liveness;
use crate::workdir::liveness::Waiting;
use crate::workdir::liveness::node::our_beginning;
use crate::workdir::membership;
use crate::workdir::open::Workdir;
use crate::workdir::recovery;
use crate::workdir::resume::{
    EditPolicy, ListFailure, ListFile, Prepared, prepare, prepare_stream,
};
use crate::workdir::retry::retry;
use crate::workdir::session::Session;
use crate::workdir::state::State;
use crate::workdir::state::peek;
use crate::workdir::upgrade::upgrade;

/// How many farmers are looked at before the first task: with names like those of our
/// own node, and others.
const MOST_NEAR: usize = 1024;
const MOST_LOOKS: usize = 64;

/// So often a start is tried, and under so many names.
const MOST_TRIES: u32 = 4;

/// How often a list that changes is read again, and after which pause.
const LIST_LOOKS: u32 = 10;
const LIST_PAUSE: Duration = Duration::from_millis(300);

/// What happens before the first task: prepare, look for the dead, join.
pub(super) struct Prelude<'a> {
    pub(super) workdir: &'a Workdir,
    pub(super) patience: &'a mut Patience,
    pub(super) progress: Progress,
    pub(super) host: &'a Host,
}

/// A farmer that has joined.
pub(super) struct Joined {
    pub(super) session: Session,
    /// Its first tasks.
    pub(super) tasks: Vec<Task>,
    /// When joining took the lock, since the boot: its lease begins there.
    pub(super) locked: Duration,
    /// Its pace, which knows how long joining took.
    pub(super) pace: Pace,
}

/// What the prelude found, to be told in one line.
#[derive(Default)]
struct Recovered {
    is_new: bool,
}

impl Prelude<'_> {
    fn say(&mut self, text: &str) {
        self.progress.say(&format!("pytf: {text}"));
    }

    /// Our part in the workdir, ready to work, and the first tasks. Our journal is
    /// there before we take the lock for the first time, so that of two farmers
    /// that start at once, at least one sees the other and can tell whether the
    /// lock holds.
    pub(super) fn session(
        &mut self,
        clock: &Clock,
        source: &Source,
        options: &Farm,
    ) -> std::result::Result<Joined, Trouble> {
        let mut journal = self.journal(clock)?;
        for text in &self.host.warnings {
            self.progress.say(&format!("pytf: {text}"));
        }
        let mut prepared = self.prepare(&mut journal, source, options);
        for _ in 1..MOST_TRIES {
            if !matches!(&prepared, Err(trouble) if trouble.is_lock_held_too_long()) {
                break;
            }
            prepared = self.prepare(&mut journal, source, options);
        }
        let found = match prepared {
            Ok(found) => found,
            Err(trouble) => {
                let _ = journal.discard(&self.workdir.dir);
                return Err(trouble);
            }
        };
        let feeds = matches!(source, Source::Stream(..));
        let (joined, before) = self.join(journal, clock, feeds)?;
        let takeover = joined.session.takeover();
        if self.patience.takeover() != takeover || options.takeover != takeover {
            self.patience.set_takeover(takeover);
            self.say(&format!(
                "the takeover time of this run is {}s, as its first farmer set it",
                takeover.as_secs()
            ));
        }
        if self.host.allocation.speaks_for_all() || options.verbose {
            let state = joined.session.state();
            let tasks = if !found.is_new || options.verbose {
                resumed(&before)
            } else if feeds {
                "tasks as they arrive".to_owned()
            } else {
                let tasks = state.tasks.lines.saturating_sub(state.dropped);
                counted(tasks, "task", "tasks")
            };
            let opening = self.opening(tasks, options);
            self.say(&opening.text());
        }
        Ok(joined)
    }

    fn opening(&self, tasks: String, options: &Farm) -> Opening {
        let devices = &options.devices;
        let because = match (options.slots(), devices.cpus_per_task) {
            (Some(_), _) => Because::Asked,
            (None, _) if devices.want_gpus() => Because::Gpus,
            (None, Some(cpus)) => Because::Cpus(cpus),
            (None, None) => Because::EachCpu,
        };
        let left = match options.walltime.end() {
            End::Never => None,
            End::After(span) => Some(span),
            End::Asked => self.host.allocation.ends_at.map(left_until),
        };
        Opening {
            tasks,
            slots: self.host.slots,
            because,
            processes: self.host.allocation.launched(),
            workdir: self.workdir.path.display().to_string(),
            left,
            timeout: options.timeout,
        }
    }

    /// Joins once more, after others took us for dead, or may have: `before` was our name.
    pub(super) fn join_again(&mut self, clock: &Clock, before: &str) -> Result<Joined> {
        let journal = self.journal(clock)?;
        let name = journal.farmer().to_owned();
        self.seal_before(before, &name)?;
        let (joined, _) = self.join(journal, clock, false)?;
        let name = joined.session.farmer();
        self.say(&format!("joins again, as farmer {name}"));
        Ok(joined)
    }

    /// Joins. Whoever was frozen meanwhile may be sealed before it has joined, or must give
    /// the lock up, and tries it under another name.
    fn join(&mut self, journal: Journal, clock: &Clock, feeds: bool) -> Result<(Joined, State)> {
        let mut journal = journal;
        for _ in 1..MOST_TRIES {
            let before = journal.farmer().to_owned();
            match self.try_join(journal, feeds) {
                Err(Error::Fenced) => {}
                Err(error) if error.is_lock_held_too_long() => {}
                joined => return joined,
            }
            journal = self.journal(clock)?;
            let name = journal.farmer().to_owned();
            self.seal_before(&before, &name)?;
        }
        self.try_join(journal, feeds)
    }

    fn try_join(&mut self, journal: Journal, feeds: bool) -> Result<(Joined, State)> {
        let slots = self.host.slots.into();
        let mut pace = Pace::new(self.host.allocation.launched());
        let claim = |state: &State| pace.claim(slots, 0, state.live, state.left());
        let (session, before, turn) =
            Session::join(self.workdir, journal, feeds, claim, self.patience)?;
        let held = self.patience.now().saturating_sub(turn.locked);
        pace.joined(held, session.state().live);
        let joined = Joined {
            session,
            tasks: turn.tasks,
            locked: turn.locked,
            pace,
        };
        Ok((joined, before))
    }

    fn prepare(
        &mut self,
        journal: &mut Journal,
        source: &Source,
        options: &Farm,
    ) -> std::result::Result<Recovered, Trouble> {
        let (dir, mechanism) = (&self.workdir.dir, self.workdir.mechanism);
        let who = journal.farmer().to_owned();
        let state = upgrade(dir, mechanism, &who, self.patience)?;
        if let Some(takeover) = state.and_then(|state| state.takeover()) {
            self.patience.set_takeover(takeover);
        }
        let beat = heartbeat(self.patience.takeover());
        exclusion::test(dir, mechanism, journal, beat, self.patience)?;
        membership::check_age(dir)?;
        // First the dead: what they had claimed waits again, and must not run when its
        // line is gone. A new workdir has nothing of theirs that counts yet.
        let known = peek(dir)?;
        let is_known = known.is_some();
        self.compare_folders(known.and_then(|state| state.folder), options)?;
        if is_known {
            self.seal_the_dead(&who)?;
        }
        let prepared = match source {
            Source::File(list) => self.prepare_list(list, &who, options)?,
            Source::Stream(..) => {
                prepare_stream(dir, mechanism, &who, self.patience, here().as_deref())?
            }
        };
        self.tell_prepared(&prepared);
        if !is_known {
            self.seal_the_dead(&who)?;
        }
        if options.retry_failed {
            let retried = retry(dir, mechanism, &who, self.patience, None)?;
            if !retried.back.is_empty() {
                let tasks = counted(retried.back.count(), "failed task", "failed tasks");
                self.say(&format!("{tasks} will be tried again"));
            }
        }
        Ok(Recovered {
            is_new: prepared.is_new && !prepared.imported,
        })
    }

    /// Relative paths in tasks mean other files when a run goes on in another folder than
    /// that in which it was first started.
    fn compare_folders(&mut self, first: Option<String>, options: &Farm) -> Result<()> {
        let (Some(first), Some(here)) = (first, here()) else {
            return Ok(());
        };
        // One folder may have several paths, on several nodes above all.
        let place = |path: &str| {
            let stat = std::fs::metadata(path).ok()?;
            Some((stat.dev(), stat.ino()))
        };
        if first == here || place(&first).is_some_and(|first| place(&here) == Some(first)) {
            return Ok(());
        }
        let text = format!(
            "this run was first started in {first}; here, in {here}, relative paths in its tasks \
             mean other files"
        );
        if options.strict {
            let text = format!("{text}: cd to the first folder, or leave --strict away");
            return Err(Error::Refused(text));
        }
        if self.host.allocation.speaks_for_all() {
            self.say(&text);
        }
        Ok(())
    }

    /// Prepares for a list; one that is being written is waited for, a little while.
    fn prepare_list(
        &mut self,
        list: &ListFile,
        who: &str,
        options: &Farm,
    ) -> std::result::Result<Prepared, ListFailure> {
        let (dir, mechanism) = (&self.workdir.dir, self.workdir.mechanism);
        let edits = EditPolicy {
            strict: options.strict,
            drop: options.drop,
        };
        let here = here();
        let here = here.as_deref();
        let mut newer = None;
        for _ in 0..LIST_LOOKS {
            let list = newer.as_ref().unwrap_or(list);
            match prepare(dir, mechanism, who, self.patience, (list, here), edits) {
                Err(ListFailure::Changing { .. }) => {}
                done => return done,
            }
            if !self.patience.pause(LIST_PAUSE) {
                break;
            }
            newer = list.again()?;
        }
        let list = newer.as_ref().unwrap_or(list);
        prepare(dir, mechanism, who, self.patience, (list, here), edits)
    }

    fn seal_the_dead(&mut self, who: &str) -> Result<()> {
        for farmer in self.suspects(who)? {
            self.seal_if_dead(&farmer, who)?;
        }
        Ok(())
    }

    /// Who may be dead: those with names like ours first, since whoever died on our
    /// node is proved dead at once. Of a thousand that start together nobody looks at
    /// all others; whom nobody looks at now, the neighbours will.
    fn suspects(&self, who: &str) -> Result<Vec<String>> {
        let mut all = membership::present(&self.workdir.dir)?;
        let after = all.partition_point(|name| &**name <= who);
        all.rotate_left(after);
        all.retain(|name| name != who);
        let ours = format!("{}.", self.host.name);
        let (near, far): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|name| name.starts_with(&ours));
        Ok(near
            .into_iter()
            .take(MOST_NEAR)
            .chain(far.into_iter().take(MOST_LOOKS))
            .collect())
    }

    /// What we had claimed goes back where nobody has seen to that: a transaction of ours
    /// may have failed without telling whether it came true. None of our tasks runs.
    fn seal_before(&mut self, before: &str, who: &str) -> Result<()> {
        let (dir, mechanism) = (&self.workdir.dir, self.workdir.mechanism);
        let Some(watcher) = self.patience.watcher() else {
            return Ok(());
        };
        if let Some(seen) = liveness::look_at(dir, mechanism, before, watcher)? {
            let of = (before, Some(&seen));
            recovery::seal(dir, mechanism, (who, None), self.patience, of)?;
        }
        Ok(())
    }

    /// Takes over from a farmer that is proved dead. One that was killed on this node a
    /// moment ago is still guarded: its lock is free when its last task is gone, very
    /// soon. For other evidence nobody waits here.
    fn seal_if_dead(&mut self, farmer: &str, who: &str) -> Result<()> {
        let (dir, mechanism) = (&self.workdir.dir, self.workdir.mechanism);
        for nth in 0.. {
            let Some((seen, verdict)) = liveness::judge(dir, mechanism, farmer, self.patience)?
            else {
                return Ok(());
            };
            if matches!(verdict, Verdict::Dead(_)) {
                let of = (farmer, Some(&seen));
                recovery::seal(dir, mechanism, (who, None), self.patience, of)?;
                return Ok(());
            }
            let is_dying = seen.process == Process::Gone && seen.lock == LockIs::Held;
            if !is_dying || nth == 300 || !self.patience.pause(Duration::from_millis(10)) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn tell_prepared(&mut self, prepared: &Prepared) {
        for message in prepared.remarks.iter().flat_map(Remarks::messages) {
            self.say(&message);
        }
        if prepared.imported {
            self.say(
                "the workdir has no state of pytf, only PyTaskFarmer's files: \
                 what they say is finished or failed is believed, all else will run",
            );
        }
        if let Some(changed) = prepared.changed {
            let mut text = format!(
                "the task list has changed: {} new",
                counted(changed.new, "line is", "lines are")
            );
            if changed.new > 0 {
                text += &format!(" (ids from {})", changed.first_new);
            }
            text += &format!(", {} gone", counted(changed.vanished, "is", "are"));
            if changed.dropped > 0 {
                text += &format!(" ({} of them had not run and will not)", changed.dropped);
            }
            if changed.forgotten > 0 {
                let were = counted(
                    changed.forgotten,
                    "had failed and counts",
                    "had failed and count",
                );
                text += &format!("; of those that are gone {were} no longer");
            }
            if changed.restored > 0 {
                let are = counted(
                    changed.restored,
                    "line is back and will",
                    "lines are back and will",
                );
                text += &format!("; {are} run");
            }
            self.say(&text);
        }
    }

    fn journal(&mut self, clock: &Clock) -> Result<Journal> {
        let started = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        let (host, job, pid) = (&self.host.name, self.host.job(), std::process::id());
        let node = self
            .patience
            .watcher()
            .and_then(|to| to.node().id().cloned());
        let began = our_beginning();
        let header = |nth: u32| Header {
            version: 1,
            farmer: format!("{host}.{job}.{pid}.{}", started + u128::from(nth)),
            host: host.clone(),
            pid,
            began,
            node: node.clone(),
            job: self.host.allocation.job.clone(),
            rank: self.host.allocation.rank,
            step: self.host.allocation.step.clone(),
            restart: self.host.allocation.restarts,
            slots: self.host.slots,
            devices: self.host.plan.table(),
            at: clock.micros(clock.began()),
            pytf: VERSION.to_owned(),
            cpus: usable_cpus(),
            memory: memory::usable_kib(),
        };
        Session::journal_for(self.workdir, header)
    }
}

/// The current folder, where it has a path that the state can hold.
fn here() -> Option<String> {
    let here = std::env::current_dir().ok()?.into_os_string();
    here.into_string().ok().filter(|path| path.len() <= 1024)
}

/// The CPUs that this process may use.
fn usable_cpus() -> Option<u32> {
    let cpus = std::thread::available_parallelism().ok()?;
    u32::try_from(cpus.get()).ok()
}

/// `412 finished, 3 failed, 7 were interrupted and will run again, 578 to go`
fn resumed(state: &State) -> String {
    let mut text = format!(
        "{} finished, {} failed",
        state.finished.lines, state.failed.lines
    );
    if state.interrupted > 0 {
        let were = counted(state.interrupted, "was", "were");
        text += &format!(", {were} interrupted and will run again");
    }
    if state.live > 0 {
        let others = counted(u64::from(state.live), "other farmer", "other farmers");
        text += &format!(", {} in the hands of {others}", state.claimed());
    }
    text + &format!(", {} to go", state.left())
}

/// `1 task`, `2 tasks`.
fn counted(number: u64, one: &str, many: &str) -> String {
    let word = if number == 1 { one } else { many };
    format!("{number} {word}")
}
