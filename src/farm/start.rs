//! From options to a running farm, and from its end to an exit status, top to
//! bottom.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::clock::Clock;
use super::feeder;
use super::ledger::{Desk, Ledger, beat_every};
use super::logs::SlotLogs;
use super::message::{Event, Places, Report};
use super::patience::Patience;
use super::queue::{Life, Queue};
use super::slot::{Slot, TaskEnv};
use super::supervisor::{Ended, FIRST_SHOW, Supervisor, counts};
use crate::cli::{Farm, List, Lock, Logs, VERSION};
use crate::exit::RunExit;
use crate::host::allocation::{Allocation, host_name};
use crate::host::guard::{self, Guard};
use crate::host::memory::OomKills;
use crate::host::process::{Place, adopt_orphans};
use crate::host::signals;
use crate::model::farmer::{Cause, Farmer, Run};
use crate::model::limits::Limits;
use crate::model::logs::LogMode;
use crate::model::outcome::signal_name;
use crate::model::record::Header;
use crate::model::tasklist::Remarks;
use crate::runner::Runner;
use crate::runner::shell::Shell;
use crate::view::look::{Look, Terminal};
use crate::view::progress::{Mode, Progress};
use crate::view::summary::{Failure, Summary, TAIL, log_tail};
use crate::view::timeline;
use crate::workdir::error::{Error, Result};
use crate::workdir::exclusion;
use crate::workdir::journal::Journal;
use crate::workdir::lock::{Mechanism, Waiting};
use crate::workdir::open::{Wishes, Workdir};
use crate::workdir::recovery;
use crate::workdir::resume::{ListFile, ListTrouble, Prepared, look, prepare, prepare_stream};
use crate::workdir::retry::retry;
use crate::workdir::session::Session;
use crate::workdir::state::State;

/// Why a farm did not start.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The list cannot be worked on.
    #[error(transparent)]
    List(#[from] ListTrouble),
    /// The workdir cannot be used.
    #[error(transparent)]
    Workdir(#[from] Error),
    /// There is no shell.
    #[error(transparent)]
    Shell(#[from] crate::runner::shell::NoShell),
    /// The system refuses what every farm needs.
    #[error("cannot {0}: {1}")]
    System(&'static str, std::io::Error),
}

impl Trouble {
    /// The status to end with.
    pub fn exit(&self) -> RunExit {
        match self.workdir() {
            Some(Error::GaveUp) => RunExit::WorkLeft,
            Some(Error::Sealed) => RunExit::Sealed,
            Some(Error::Refused(_)) => RunExit::Usage,
            Some(_) => RunExit::WorkdirUnusable,
            None => match self {
                Self::System(..) => RunExit::Bug,
                _ => RunExit::Usage,
            },
        }
    }

    /// What is wrong with the workdir, when it is that.
    fn workdir(&self) -> Option<&Error> {
        match self {
            Self::List(ListTrouble::Workdir(error)) | Self::Workdir(error) => Some(error),
            _ => None,
        }
    }

    /// The trouble in words; errors of a workdir name their files relative to it.
    pub fn told(&self, workdir: &Path) -> String {
        match self.workdir() {
            Some(Error::Io { .. } | Error::Damaged { .. } | Error::Newer { .. }) => {
                format!("workdir {}: {self}", workdir.display())
            }
            _ => self.to_string(),
        }
    }
}

/// Runs a farm.
pub fn run(list: &List, path: &Path, options: &Farm) -> std::result::Result<RunExit, Trouble> {
    let clock = Clock::start();
    let host = Host::here(options)?;
    let progress = progress(options, &host.allocation);
    let (events, inbox) = unbounded();
    let abort = listen(&events)?;
    let mut patience = Patience::new(abort.clone(), Some(events.clone()), options.takeover);
    let source = Source::of(list)?;
    let workdir = open(path, options)?;
    let mut prelude = Prelude {
        workdir: &workdir,
        patience: &mut patience,
        progress,
        host: &host,
    };
    let session = prelude.session(&clock, &source, options)?;
    let mut progress = prelude.progress;
    progress.update(clock.now(), &counts(session.state(), 0));
    let farm = Threads {
        workdir,
        host,
        options,
        clock,
        events,
        inbox,
    };
    farm.run(session, source, progress)
}

/// Where we are and what tasks are run with.
struct Host {
    name: String,
    allocation: Allocation,
    env: Vec<(OsString, OsString)>,
    runner: Runner,
    slots: u32,
}

impl Host {
    fn here(options: &Farm) -> std::result::Result<Self, Trouble> {
        let env: Vec<_> = std::env::vars_os().collect();
        let text = |name: &str| std::env::var(name).ok();
        let shell = Shell::find(options.shell.as_deref(), |name| std::env::var_os(name))?;
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            name: host_name(),
            allocation: Allocation::from(text),
            runner: Runner::new(shell, env.iter().cloned()),
            env,
            slots: options
                .slots()
                .unwrap_or(u32::try_from(cpus).unwrap_or(u32::MAX)),
        })
    }

    fn job(&self) -> String {
        let job = self.allocation.job.as_deref().unwrap_or("0");
        job.chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect()
    }
}

fn progress(options: &Farm, place: &Allocation) -> Progress {
    let stderr = Terminal::of_stderr();
    let var = |name: &str| std::env::var(name).ok();
    let term = var("TERM");
    let mode = Mode::decide(stderr, term.as_deref(), place.is_step, options.quiet);
    Progress::new(mode, Look::new(stderr, var))
}

/// Where the tasks come from.
enum Source {
    File(ListFile),
    /// Read as it comes; a path is opened by the thread that reads it, since a
    /// FIFO may let us wait for its writer.
    Stream(Option<PathBuf>),
}

impl Source {
    fn of(list: &List) -> std::result::Result<Self, Trouble> {
        match list {
            List::Stdin => Ok(Self::Stream(None)),
            List::File(path) => match ListFile::at(path) {
                Ok(Some(file)) => Ok(Self::File(file)),
                Ok(None) => Ok(Self::Stream(Some(path.clone()))),
                Err(source) => {
                    let list = path.display().to_string();
                    Err(ListTrouble::Unreadable { list, source }.into())
                }
            },
        }
    }

    /// Reads a stream from now on.
    fn feed(self) -> std::io::Result<Option<Receiver<feeder::Fed>>> {
        let Self::Stream(path) = self else {
            return Ok(None);
        };
        let (fed, lines) = bounded(4);
        match path {
            None => feeder::read(std::io::stdin(), fed)?,
            Some(path) => feeder::read(LazyFile { path, file: None }, fed)?,
        }
        Ok(Some(lines))
    }
}

/// A file that is opened when it is first read.
struct LazyFile {
    path: PathBuf,
    file: Option<File>,
}

impl std::io::Read for LazyFile {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::open(&self.path)?),
        };
        file.read(buf)
    }
}

/// Signals are events from now on; the first to stop also ends waits for the
/// lock while the farm is not yet running.
fn listen(events: &Sender<Event>) -> std::result::Result<Receiver<()>, Trouble> {
    let (abort, is_aborted) = bounded(0);
    let (events, mut abort) = (events.clone(), Some(abort));
    let on_signal = move |signal| {
        drop(abort.take());
        let _ = events.send(Event::Signal(signal));
    };
    signals::listen(on_signal).map_err(|error| Trouble::System("listen for signals", error))?;
    Ok(is_aborted)
}

fn open(path: &Path, options: &Farm) -> Result<Workdir> {
    let lock = match options.lock {
        Lock::Auto => None,
        Lock::Flock => Some(Mechanism::Flock),
        Lock::Fcntl => Some(Mechanism::Fcntl),
        Lock::Link => Some(Mechanism::Link),
    };
    Workdir::open(
        path,
        Wishes {
            create: true,
            shared: options.shared_workdir,
            lock,
        },
    )
}

/// What happens before the first task: prepare, look for the dead, join.
struct Prelude<'a> {
    workdir: &'a Workdir,
    patience: &'a mut Patience,
    progress: Progress,
    host: &'a Host,
}

/// What the prelude found, to be told in one line.
#[derive(Default)]
struct Found {
    is_new: bool,
}

impl Prelude<'_> {
    fn say(&mut self, text: &str) {
        self.progress.say(&format!("pytf: {text}"));
    }

    /// Our part in the workdir, ready to work. Our journal is there before we
    /// take the lock for the first time, so that of two farmers that start at
    /// once, at least one sees the other and can tell whether the lock holds.
    fn session(
        &mut self,
        clock: &Clock,
        source: &Source,
        options: &Farm,
    ) -> std::result::Result<Session, Trouble> {
        let mut journal = self.journal(clock)?;
        let found = match self.prepare(&mut journal, source, options) {
            Ok(found) => found,
            Err(trouble) => {
                let _ = journal.discard(&self.workdir.dir);
                return Err(trouble);
            }
        };
        let feeds = matches!(source, Source::Stream(_));
        let (session, before) = Session::join(self.workdir, journal, feeds, self.patience)?;
        if !found.is_new || options.verbose {
            self.say(&resumed(&before));
        }
        Ok(session)
    }

    fn prepare(
        &mut self,
        journal: &mut Journal,
        source: &Source,
        options: &Farm,
    ) -> std::result::Result<Found, Trouble> {
        let (dir, mechanism) = (&self.workdir.dir, self.workdir.mechanism);
        let who = journal.farmer().to_owned();
        let us = (&*self.host.name, journal);
        exclusion::test(
            dir,
            mechanism,
            us,
            beat_every(options.takeover),
            self.patience,
        )?;
        let prepared = match source {
            Source::File(list) => {
                prepare(dir, mechanism, &who, self.patience, list, options.strict)?
            }
            Source::Stream(_) => prepare_stream(dir, mechanism, &who, self.patience)?,
        };
        self.tell_prepared(&prepared);
        for farmer in recovery::unsealed(dir)? {
            self.seal_if_dead(&farmer, &who)?;
        }
        if options.retry_failed {
            let retried = retry(dir, mechanism, &who, self.patience, None)?;
            if !retried.back.is_empty() {
                let tasks = counted(retried.back.count(), "failed task", "failed tasks");
                self.say(&format!("{tasks} will be tried again"));
            }
        }
        Ok(Found {
            is_new: prepared.is_new && !prepared.imported,
        })
    }

    /// A farmer that was killed on this node a moment ago is still guarded: its
    /// lock is free when its last task is gone, very soon.
    fn seal_if_dead(&mut self, farmer: &str, who: &str) -> Result<()> {
        let (dir, mechanism) = (&self.workdir.dir, self.workdir.mechanism);
        for nth in 0.. {
            let Some(journal) = recovery::look_at(dir, mechanism, farmer, &self.host.name)? else {
                return Ok(());
            };
            if journal.is_free {
                if exclusion::host_of(farmer) == self.host.name {
                    guard::end_all(farmer);
                }
                let of = (farmer, &journal);
                recovery::seal(dir, mechanism, (who, None), self.patience, of)?;
                return Ok(());
            }
            let is_dying = exclusion::is_gone(farmer, &self.host.name);
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
            self.say(&text);
        }
    }

    fn journal(&self, clock: &Clock) -> Result<Journal> {
        let started = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        let (host, job, pid) = (&self.host.name, self.host.job(), std::process::id());
        let header = |nth: u32| Header {
            version: 1,
            farmer: format!("{host}.{job}.{pid}.{}", started + u128::from(nth)),
            host: host.clone(),
            pid,
            job: self.host.allocation.job.clone(),
            rank: self.host.allocation.rank,
            slots: self.host.slots,
            at: clock.micros(clock.began()),
            pytf: VERSION.to_owned(),
        };
        Session::journal_for(self.workdir, header)
    }
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
    text + &format!(", {} to go", state.queue.left)
}

/// `1 task`, `2 tasks`.
fn counted(number: u64, one: &str, many: &str) -> String {
    let word = if number == 1 { one } else { many };
    format!("{number} {word}")
}

/// The threads of the farm and what they share.
struct Threads<'a> {
    workdir: Workdir,
    host: Host,
    options: &'a Farm,
    clock: Clock,
    events: Sender<Event>,
    inbox: Receiver<Event>,
}

impl Threads<'_> {
    fn run(
        self,
        session: Session,
        source: Source,
        progress: Progress,
    ) -> std::result::Result<RunExit, Trouble> {
        adopt_orphans();
        let farmer = session.farmer().to_owned();
        let guard = Guard::start(&farmer, &session.journal().lock().share()?)
            .map_err(|error| Trouble::System("start the guard", error))?;
        let (orders, desk_orders) = unbounded();
        let (reports, desk_reports) = unbounded();
        let life = Life::new(self.options.takeover / 2);
        let queue = Arc::new(Queue::new(orders.clone(), life));
        let places: Places = Arc::new((0..self.host.slots).map(|_| Place::default()).collect());
        let board = Arc::new(Mutex::new(session.state().clone()));
        let busy = Arc::new(AtomicU64::new(0));
        self.start_slots(&session, &guard, (&queue, &places), &reports, &busy)?;
        drop(reports);
        let (abort, is_aborted) = bounded(0);
        let patience = Patience::new(is_aborted, Some(self.events.clone()), self.options.takeover);
        let fed = source
            .feed()
            .map_err(|error| Trouble::System("start a thread", error))?;
        let desk = Desk {
            job: self.host.job(),
            session,
            queue: queue.clone(),
            places: places.clone(),
            orders: desk_orders,
            reports: desk_reports,
            fed,
            events: self.events.clone(),
            board: board.clone(),
            clock: self.clock,
            patience,
            linger: !self.options.no_linger,
        };
        spawn("ledger", move || Ledger::new(desk).run())?;
        let limits = self
            .options
            .task_timeout
            .map(|limit| Limits::new(limit, self.options.grace));
        let supervisor = Supervisor {
            farmer: Farmer::new(self.options.timeout, self.options.grace),
            limits,
            clock: self.clock,
            events: self.inbox.clone(),
            orders,
            queue,
            places,
            board,
            progress,
            abort: Some(abort),
            guard: guard.pid(),
            slots: self.host.slots as usize,
            show_at: self.clock.now() + FIRST_SHOW,
        };
        let ended = supervisor.run();
        guard.dismiss();
        Ok(self.finish(&ended, &busy))
    }

    fn start_slots(
        &self,
        session: &Session,
        guard: &Guard,
        (queue, places): (&Arc<Queue>, &Places),
        reports: &Sender<Report>,
        busy: &Arc<AtomicU64>,
    ) -> std::result::Result<(), Trouble> {
        let null = File::options().read(true).write(true).open("/dev/null");
        let null = Arc::new(null.map_err(|error| Trouble::System("open /dev/null", error))?);
        let path = std::path::absolute(&self.workdir.path);
        let path = Arc::new(path.map_err(|error| Trouble::System("find the workdir", error))?);
        let oom = Arc::new(OomKills::new());
        let mode = match self.options.logs {
            Logs::Files => LogMode::Files,
            Logs::Packed => LogMode::Packed,
            Logs::Failed => LogMode::Failed,
            Logs::None => LogMode::None,
        };
        let farmer = session.farmer();
        for number in 0..self.host.slots {
            let slot = Slot {
                number,
                queue: queue.clone(),
                places: places.clone(),
                row: guard.row(number),
                runner: self.host.runner.clone(),
                logs: SlotLogs::new(path.clone(), mode, farmer, number, null.clone()),
                env: TaskEnv::new(&self.host.env, &self.host.name, number, &path, farmer),
                workdir: path.clone(),
                clock: self.clock,
                oom: oom.clone(),
                busy: busy.clone(),
                journal: session.journal(),
                reports: reports.clone(),
                events: self.events.clone(),
            };
            spawn(&format!("slot-{number}"), move || slot.run())?;
        }
        Ok(())
    }

    /// After the last task: the timeline, the summary, the status.
    fn finish(&self, ended: &Ended, busy: &AtomicU64) -> RunExit {
        let state = ended
            .state
            .clone()
            .or_else(|| look(&self.workdir.dir).ok().flatten());
        let run = ended.state.as_ref().map(|state| Run {
            is_complete: state.is_complete(),
            failed: state.failed.lines,
            others: state.live,
        });
        let is_last = state.as_ref().is_none_or(|state| state.live == 0);
        let wants_timeline = !self.options.no_timeline && ended.farmer.cause() != Cause::Sealed;
        if wants_timeline && is_last {
            match timeline::write(&self.workdir.path) {
                Ok(written) => {
                    if let Some(left_out) = written.left_out {
                        warn(&format!("timeline.json: {left_out}"));
                    }
                }
                Err(error) => warn(&format!("cannot write timeline.json: {error}")),
            }
        }
        if let Some(state) = state.filter(|_| !self.options.quiet) {
            self.summarise(ended, &state, busy);
        }
        ended.farmer.exit(run)
    }

    fn summarise(&self, ended: &Ended, state: &State, busy: &AtomicU64) {
        let mut failures: Vec<_> = ended
            .failures
            .iter()
            .map(|failure| self.failure(failure))
            .collect();
        failures.sort_by_key(|failure| failure.id);
        let stopped = match ended.farmer.cause() {
            Cause::Complete => None,
            Cause::TimeUp => Some("the time limit".into()),
            Cause::Signal(signal) => Some(signal_name(signal)),
            Cause::Trouble => Some("trouble with the workdir".into()),
            Cause::Sealed => Some("being cut off: others took its tasks over".into()),
        };
        let summary = Summary {
            workdir: self.workdir.path.display().to_string(),
            finished: state.finished.lines,
            failed: state.failed.lines,
            left: state.queue.left + state.claimed(),
            interrupted: state.interrupted,
            stopped,
            // Where we could not leave, we are one of the living ourselves.
            others_work: state.live > u32::from(ended.state.is_none()),
            is_cut: state.feeding > 0 && state.live == 0,
            wall: self.clock.now(),
            slots: u64::from(self.host.slots),
            busy: Duration::from_micros(busy.load(Ordering::Relaxed)),
            failures,
        };
        let look = Look::new(Terminal::of_stdout(), |name| std::env::var(name).ok());
        // A closed or full standard output changes nothing in what was done.
        let mut stdout = std::io::stdout();
        let _ = stdout
            .write_all(summary.text(&look).as_bytes())
            .and_then(|()| stdout.flush());
    }

    fn failure(&self, failure: &super::message::Failure) -> Failure {
        let tail = failure.log.as_ref().map_or_else(Vec::new, |log| {
            log_tail(&self.workdir.path.join(&log.file), log.part, TAIL)
        });
        Failure {
            id: failure.id,
            command: failure.line.clone(),
            outcome: failure.outcome.clone(),
            node: self.host.name.clone(),
            log: failure
                .log
                .as_ref()
                .filter(|log| log.part.is_none())
                .map(|log| log.file.clone()),
            tail,
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::result::Result<(), Trouble> {
    std::thread::Builder::new()
        .name(name.to_owned())
        // Slots and ledger hold little on their stacks, and there may be hundreds.
        .stack_size(256 << 10)
        .spawn(run)
        .map(drop)
        .map_err(|error| Trouble::System("start a thread", error))
}

/// Says something on standard error, where nothing else can.
pub fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "pytf: {text}");
}
