//! From options to a running farm. `prelude` is what comes before the first
//! task, `finish` what comes after the last.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::clock::{Clock, since_boot};
use super::devices::{NoPlan, Plan, Surroundings};
use super::feeder;
use super::finish::{Finish, WriteTimeline};
use super::gates::Gates;
use super::join::{Joined, Prelude};
use super::ledger::{Desk, Ledger};
use super::lock_wait::{Abort, Keep, Patience, waits};
use super::logs::{Doors, LogPlace, SlotLogs};
use super::message::{Event, Failure, Heard, Order, Places, Report};
use super::quarantine::Quarantine;
use super::queue::{Life, Queue};
use super::reserved::{Crew, Hand};
use super::slot::{Slot, TaskEnv};
use super::supervisor::{Ended, FIRST_SHOW, Seen, Supervisor, counts};
use super::walltime::{Endgame, Took};
use crate::cli::nearest_command;
use crate::cli::{End, Farm, List, Lock, Logs, SrunEnv, unknown_variables};
use crate::exit::RunExit;
use crate::host::allocation::{here, host_name};
use crate::host::gpus::Ways;
use crate::host::guard::Guard;
use crate::host::memory::OomKills;
use crate::host::mps::Mps;
use crate::host::open_files;
use crate::host::process::{Place, adopt_orphans};
use crate::host::room;
use crate::host::scheduler::{Question, left_until};
use crate::host::signals;
use crate::model::allocation::{Allocation, is_launchers};
use crate::model::escape::{escape, without_error_numbers};
use crate::model::farmer::Lifecycle;
use crate::model::limits::Limits;
use crate::model::liveness::good_for;
use crate::model::logs::LogMode;
use crate::model::record::Record;
use crate::model::refusal::{self, hint, is_resource};
use crate::model::room::{usable, warnings};
use crate::model::tasklist::Dialect;
use crate::model::walltime::Walltime;
use crate::runner::Runner;
use crate::runner::shell::Shell;
use crate::ui::look::{Look, Terminal};
use crate::ui::progress::{Mode, Progress};
use crate::workdir::error::{Error, Result};
use crate::workdir::fs::RealDir;
use crate::workdir::layout::LOCK;
use crate::workdir::layout::{FAILED, FINISHED, NODES, REQUEUED, TASKS, TOPROCESS};
use crate::workdir::liveness::Watcher;
use crate::workdir::mechanism::Mechanism;
use crate::workdir::open::{OpenOptions, Ownership, Workdir, open_dir};
use crate::workdir::resume::{ListFailure, ListFile};
use crate::workdir::session::Session;

/// Why a farm did not start.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The list cannot be worked on.
    #[error(transparent)]
    List(#[from] ListFailure),
    /// The workdir cannot be used.
    #[error(transparent)]
    Workdir(#[from] Error),
    /// There is no shell.
    #[error(transparent)]
    Shell(#[from] crate::runner::shell::NoShell),
    /// There is no plan for GPUs and CPUs.
    #[error(transparent)]
    Devices(#[from] NoPlan),
    /// The system refuses what every farm needs.
    #[error("cannot {0}: {1}{hint}", hint = hint(.1))]
    System(&'static str, std::io::Error),
}

impl Trouble {
    /// The status to end with.
    pub fn exit(&self) -> RunExit {
        match self.workdir() {
            Some(Error::Canceled) => RunExit::WorkLeft,
            Some(Error::Fenced) => RunExit::Sealed,
            Some(Error::Refused(_)) => RunExit::Usage,
            Some(Error::Io { source, .. }) if is_resource(source) => RunExit::System,
            Some(_) => RunExit::WorkdirUnusable,
            None => match self {
                Self::System(..) => RunExit::System,
                Self::List(ListFailure::Unreadable { source, .. }) => refusal::exit(source),
                // The other processes of the node work.
                Self::Devices(NoPlan::NoShare { .. }) => RunExit::Complete,
                _ => RunExit::Usage,
            },
        }
    }

    /// Whether nothing was done, since the lock was held for too long.
    pub(super) fn is_lock_held_too_long(&self) -> bool {
        self.workdir().is_some_and(Error::is_lock_held_too_long)
    }

    /// What is wrong with the workdir, when it is that.
    fn workdir(&self) -> Option<&Error> {
        match self {
            Self::List(ListFailure::Workdir(error)) | Self::Workdir(error) => Some(error),
            _ => None,
        }
    }

    /// The trouble in words; errors of a workdir name their files relative to it.
    pub fn told(&self, workdir: &Path) -> String {
        match self.workdir() {
            Some(
                error @ (Error::Damaged { .. }
                | Error::Io { .. }
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

/// Runs a farm.
pub fn run(
    list: &List,
    path: &Path,
    options: &Farm,
    write_timeline: WriteTimeline,
) -> std::result::Result<RunExit, Trouble> {
    let clock = Clock::start();
    let (events, inbox) = unbounded();
    // First of all: a signal in the first moment stops us in good order, too.
    let (abort, heard) = listen(&events)?;
    let source = Source::of(list)?;
    if let List::File(list) = list {
        check_not_of_a_workdir(list)?;
    }
    let mut host = Host::here(options)?;
    let source = source.read_as(host.dialect(options.plain));
    source.check_for_new(path)?;
    let crew = host.hire(matches!(source, Source::Stream(..)))?;
    let mut progress = progress(options, &host.allocation);
    for remark in &host.plan.remarks {
        progress.say(&format!("pytf: {remark}"));
    }
    if host.allocation.speaks_for_all() {
        tell_unknown_variables(&mut progress);
    }
    let mut patience = Patience::new(abort.clone(), Some(events.clone()), options.takeover)
        .among(host.allocation.launched());
    let workdir = open(path, options)?;
    refuse_own_task(&workdir)?;
    let ground = Ground::of(&workdir.path, whose(options))?;
    let mut prelude = Prelude {
        workdir: &workdir,
        patience: &mut patience,
        progress,
        host: &host,
    };
    let joined = prelude.session(&clock, &source, options)?;
    let mut progress = prelude.progress;
    progress.update(clock.now(), &counts(joined.session.state(), 0));
    let farm = Threads {
        workdir,
        host,
        options,
        write_timeline,
        clock,
        events,
        inbox,
        heard,
        ground,
        abort,
        took: Arc::default(),
        busy: Arc::default(),
    };
    let watcher = patience.into_watcher();
    let member = Member {
        joined,
        watcher,
        progress,
        frozen: Duration::ZERO,
        failures: Vec::new(),
    };
    farm.run(member, source, crew)
}

/// Variables that look like options of ours change nothing: whoever set them thinks
/// that they do.
fn tell_unknown_variables(progress: &mut Progress) {
    let names = std::env::vars_os().map(|(name, _)| name);
    for (name, meant) in unknown_variables(names) {
        let name = escape(name.as_bytes());
        let meant = meant.map_or_else(String::new, |meant| format!("; {meant} is"));
        progress.warn(&format!(
            "pytf: {name} is no variable of pytf{meant}: it is ignored"
        ));
    }
}

/// Where we are and what tasks are run with.
pub(super) struct Host {
    pub(super) name: String,
    pub(super) allocation: Allocation,
    env: Vec<(OsString, OsString)>,
    runner: Runner,
    pub(super) slots: u32,
    /// What people should know of where we run.
    pub(super) warnings: Vec<String>,
    pub(super) plan: Plan,
}

impl Host {
    fn here(options: &Farm) -> std::result::Result<Self, Trouble> {
        let is_hidden = |name: &OsString| {
            options.walltime.srun_env == SrunEnv::Scrub && name.to_str().is_some_and(is_launchers)
        };
        let env: Vec<_> = std::env::vars_os()
            .filter(|(name, _)| !is_hidden(name))
            .collect();
        let shell = Shell::find(options.shell.as_deref(), |name| std::env::var_os(name))?;
        let text = |name: &str| std::env::var(name).ok();
        let name = host_name();
        let (cpus, allocation) = (room::cpus(), here(&name));
        let around = Surroundings {
            lookup: &text,
            ways: Ways::from(|name| std::env::var_os(name)),
            allocation: &allocation,
            usable: usable(cpus, &allocation),
        };
        let plan = Plan::make(&options.devices, options.slots(), &around)?;
        Ok(Self {
            slots: u32::try_from(plan.slots.len()).unwrap_or(u32::MAX),
            warnings: warnings(options.slots(), cpus, &allocation, &name),
            name,
            allocation,
            runner: Runner::new(shell, env.iter().cloned()),
            env,
            plan,
        })
    }

    /// The threads of this farmer, and fewer slots where they are too many.
    fn hire(&mut self, feeds: bool) -> std::result::Result<Crew, Trouble> {
        let refused = |error| Trouble::System("start a thread", error);
        let crew = Crew::hire(self.slots, feeds).map_err(refused)?;
        let slots = u32::try_from(crew.slots.len()).unwrap_or(self.slots);
        if slots < self.slots {
            let hint = hint(&nix::Error::EAGAIN.into());
            self.warnings.push(format!(
                "{slots} slots instead of {}: no more threads can be started{hint}",
                self.slots
            ));
            self.plan.slots.truncate(crew.slots.len());
            self.slots = slots;
        }
        Ok(crew)
    }

    /// How lists are read here: which variables tasks will have is known.
    fn dialect(&self, plain: bool) -> Dialect {
        let names = self.env.iter().filter_map(|(name, _)| name.to_str());
        Dialect {
            plain,
            variables: Some(Arc::new(names.map(str::to_owned).collect())),
        }
    }

    pub(super) fn job(&self) -> String {
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
pub(super) enum Source {
    File(ListFile),
    /// Read as it comes; a path is opened by the thread that reads it, since a
    /// FIFO may let us wait for its writer.
    Stream(Option<PathBuf>, Dialect),
}

impl Source {
    fn of(list: &List) -> std::result::Result<Self, Trouble> {
        match list {
            List::Stdin => Ok(Self::Stream(None, Dialect::default())),
            List::File(path) => match ListFile::at(path) {
                Ok(Some(file)) => Ok(Self::File(file)),
                Ok(None) => Ok(Self::Stream(Some(path.clone()), Dialect::default())),
                Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
                    let list = path.display().to_string();
                    Err(match nearest_command(path.as_os_str()) {
                        Some(near) => ListFailure::Refused(format!(
                            "there is no task list {list}; did you mean 'pytf {near}'?"
                        )),
                        None => ListFailure::Unreadable { list, source },
                    }
                    .into())
                }
                Err(source) => {
                    let list = path.display().to_string();
                    Err(ListFailure::Unreadable { list, source }.into())
                }
            },
        }
    }

    /// The same, read in this way.
    fn read_as(self, dialect: Dialect) -> Self {
        match self {
            Self::File(list) => Self::File(list.read_as(&dialect)),
            Self::Stream(path, _) => Self::Stream(path, dialect),
        }
    }

    /// Refuses a list that cannot be worked on before anything is made for it.
    fn check_for_new(&self, workdir: &Path) -> std::result::Result<(), ListFailure> {
        match self {
            Self::File(list) if !workdir.exists() => list.check(),
            _ => Ok(()),
        }
    }

    /// Lets this thread read a stream from now on.
    fn feed(self, hand: Option<Hand>) -> Option<Receiver<feeder::Fed>> {
        let (Self::Stream(path, dialect), Some(hand)) = (self, hand) else {
            return None;
        };
        let (fed, lines) = bounded(4);
        match path {
            None => hand.start(move || feeder::read(std::io::stdin(), dialect, &fed)),
            Some(path) => {
                hand.start(move || feeder::read(LazyFile { path, file: None }, dialect, &fed));
            }
        }
        Some(lines)
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

/// The files of a workdir look like lists, and their lines begin with ids.
fn check_not_of_a_workdir(list: &Path) -> std::result::Result<(), ListFailure> {
    const FILES: [&str; 6] = [LOCK, TASKS, TOPROCESS, FINISHED, FAILED, REQUEUED];
    let real = list.canonicalize().unwrap_or_else(|_| list.to_owned());
    let name = real.file_name().and_then(|name| name.to_str());
    let Some((name, folder)) = name.zip(real.parent()) else {
        return Ok(());
    };
    if !FILES.contains(&name) || !folder.join(LOCK).is_file() || !folder.join(NODES).is_dir() {
        return Ok(());
    }
    Err(ListFailure::Refused(format!(
        "{} is a file of a workdir, not a task list. The same command as before resumes the run; \
         'pytf retry {}' lets failed tasks run again",
        list.display(),
        list.parent().unwrap_or(folder).display()
    )))
}

/// Signals are events from now on, and noted; the first to stop also ends waits for
/// the lock while the farm is not yet running.
fn listen(events: &Sender<Event>) -> std::result::Result<(Abort, Heard), Trouble> {
    let (abort, is_aborted) = waits();
    let heard = Heard::default();
    let (events, noted, mut abort) = (events.clone(), heard.clone(), Some(abort));
    let on_signal = move |signal| {
        if signal != signals::SUSPENDS {
            drop(abort.take());
            let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
            noted.got(Instant::now(), signal);
        }
        let _ = events.send(Event::Signal(signal));
    };
    signals::listen(on_signal).map_err(|error| Trouble::System("listen for signals", error))?;
    Ok((is_aborted, heard))
}

fn limits(options: &Farm) -> Option<Limits> {
    let limit = options.task_timeout?;
    Some(Limits::new(limit, options.grace))
}

fn whose(options: &Farm) -> Ownership {
    if options.shared_workdir {
        Ownership::Shared
    } else {
        Ownership::Ours
    }
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
        OpenOptions {
            create: true,
            ownership: whose(options),
            lock,
        },
    )
}

/// A task that works on its own workdir would wait for itself for ever.
fn refuse_own_task(workdir: &Workdir) -> Result<()> {
    // Users set PYTF_WORKDIR, too; only tasks have a number.
    let variables = ["PYTF_TASK_ID", "PYTF_WORKDIR"].map(std::env::var_os);
    let [Some(_), Some(of_task)] = variables else {
        return Ok(());
    };
    let identity = |path: &Path| {
        let stat = std::fs::metadata(path).ok()?;
        Some((stat.dev(), stat.ino()))
    };
    let ours = identity(&workdir.path);
    if ours.is_none() || ours != identity(Path::new(&of_task)) {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "this pytf is started by a task of the same workdir {}, and would wait for that task for \
         ever: give it a workdir of its own (--workdir), or unset PYTF_WORKDIR",
        workdir.path.display()
    )))
}

/// The threads of the farm and what they share.
struct Threads<'a> {
    workdir: Workdir,
    host: Host,
    options: &'a Farm,
    write_timeline: WriteTimeline,
    clock: Clock,
    events: Sender<Event>,
    inbox: Receiver<Event>,
    heard: Heard,
    ground: Ground,
    /// Ends waits for the lock while no task runs.
    abort: Abort,
    took: Arc<Took>,
    /// How long tasks ran, in microseconds.
    busy: Arc<AtomicU64>,
}

/// A farmer that has joined, and what came before it when it has joined again.
struct Member {
    joined: Joined,
    watcher: Watcher,
    progress: Progress,
    frozen: Duration,
    failures: Vec<Failure>,
}

/// A farmer that others took for dead so soon after it has joined has no place on this
/// node, if that happens so often in a row.
const SHORT_LIVES: u32 = 3;

/// What slots need of the workdir and of the system, had before a run is joined.
struct Ground {
    /// The workdir, absolute, whatever becomes of the current folder.
    path: Arc<PathBuf>,
    dir: Arc<RealDir>,
    null: Arc<File>,
}

impl Ground {
    fn of(workdir: &Path, ownership: Ownership) -> std::result::Result<Self, Trouble> {
        let path = absolute(workdir).map_err(|error| Trouble::System("find the workdir", error))?;
        // Looked at again: its path may mean another folder by now.
        let dir = open_dir(&path, ownership)?;
        let null = File::options().read(true).write(true).open("/dev/null");
        let null = null.map_err(|error| Trouble::System("open /dev/null", error))?;
        Ok(Self {
            path: Arc::new(path),
            dir,
            null: Arc::new(null),
        })
    }
}

/// A path that holds whatever becomes of the current folder. Links are kept: behind an
/// automounter a resolved path may be no good for long.
fn absolute(path: &Path) -> std::io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    if absolute
        .components()
        .any(|part| part == Component::ParentDir)
    {
        return absolute.canonicalize();
    }
    Ok(absolute)
}

impl<'a> Threads<'a> {
    /// Runs the farm. A farmer that others took for dead joins again, so that its node
    /// does not stand idle: but not with what is left of a stream, whose lines it has
    /// taken with it, nor beside tasks that nobody can end.
    fn run(
        mut self,
        mut member: Member,
        source: Source,
        crew: Crew,
    ) -> std::result::Result<RunExit, Trouble> {
        let feeds = matches!(source, Source::Stream(..));
        let mut fed = source.feed(crew.feeder);
        let mut hands = (crew.ledger, crew.slots);
        let mut short_lives = 0;
        loop {
            let farmer = member.joined.session.farmer().to_owned();
            let takeover = member.joined.session.takeover();
            let since = since_boot();
            let mut ended = self.live(member, fed.take(), hands)?;
            let is_short = since_boot().saturating_sub(since) < takeover;
            short_lives = if is_short { short_lives + 1 } else { 0 };
            let is_hopeless = feeds || ended.slots > 0 || short_lives == SHORT_LIVES;
            if is_hopeless || !ended.farmer.joins_again() {
                ended.progress.finish();
                let busy = self.busy.clone();
                return Ok(self.into_finish(farmer).exit(&ended, &busy));
            }
            let crew = self.host.hire(false)?;
            hands = (crew.ledger, crew.slots);
            member = self.join_again(ended, &farmer, takeover)?;
        }
    }

    fn join_again(
        &self,
        ended: Ended,
        before: &str,
        takeover: Duration,
    ) -> std::result::Result<Member, Trouble> {
        let events = Some(self.events.clone());
        let mut patience = Patience::new(self.abort.clone(), events, takeover);
        let mut prelude = Prelude {
            workdir: &self.workdir,
            patience: &mut patience,
            progress: ended.progress,
            host: &self.host,
        };
        let joined = prelude.join_again(&self.clock, before)?;
        let progress = prelude.progress;
        Ok(Member {
            joined,
            watcher: patience.into_watcher(),
            progress,
            frozen: ended.frozen,
            failures: ended.failures,
        })
    }

    /// The life of one farmer, from its first task to its last.
    fn live(
        &self,
        member: Member,
        fed: Option<Receiver<feeder::Fed>>,
        (ledger, slot_hands): (Hand, Vec<Hand>),
    ) -> std::result::Result<Ended, Trouble> {
        let joined = member.joined;
        let (mps, guard) = match self.protect(&joined.session) {
            Ok(both) => both,
            Err(trouble) => {
                self.leave_at_once(joined, &trouble);
                return Err(trouble);
            }
        };
        let (session, pace) = (joined.session, joined.pace);
        let farmer = session.farmer().to_owned();
        adopt_orphans();
        let (orders, desk_orders) = unbounded();
        let (reports, desk_reports) = unbounded();
        let life = Life::new(good_for(session.takeover()), joined.locked);
        let queue = Arc::new(Queue::new(self.host.slots, orders.clone(), life));
        queue.put(joined.tasks);
        let places: Places = Arc::new((0..self.host.slots).map(|_| Place::default()).collect());
        let board = Arc::new(Mutex::new(session.state().clone()));
        let pools = (&queue, &places, &self.took);
        // First of all: it may let nothing be started.
        let endgame = self.endgame(pools, &farmer);
        let oom = Arc::new(OomKills::new());
        let slots = self.slots(&session, &guard, pools, &reports, (&self.busy, &oom));
        self.start_slots((slots, slot_hands), mps.as_ref(), &orders);
        drop(reports);
        let (abort, patience) = self.patience(member.watcher, session.takeover());
        let desk = Desk {
            job: self.host.allocation.job.clone(),
            session,
            pace,
            queue: queue.clone(),
            places: places.clone(),
            orders: desk_orders,
            reports: desk_reports,
            fed,
            events: self.events.clone(),
            board: board.clone(),
            clock: self.clock,
            patience: patience.renewing(queue.clone()),
            linger: !self.options.no_linger,
            quarantine: (!self.options.no_quarantine)
                .then(|| Quarantine::new(places.len(), queue.clone(), self.clock)),
            heard: self.heard.clone(),
        };
        ledger.start(move || Ledger::new(desk).run());
        let supervisor = Supervisor {
            workdir: self.workdir.path.display().to_string(),
            farmer: Lifecycle::new(self.options.timeout, self.options.grace),
            limits: limits(self.options),
            endgame,
            tells: self.host.allocation.speaks_for_all(),
            is_verbose: self.options.verbose,
            clock: self.clock,
            events: self.inbox.clone(),
            orders,
            queue,
            places,
            board,
            progress: member.progress,
            abort: Some(abort),
            guard: guard.pid(),
            slots: self.host.slots as usize,
            show_at: self.clock.now() + FIRST_SHOW,
            seen: Seen::new(oom),
            frozen: member.frozen,
            failures: member.failures,
        };
        let ended = supervisor.run();
        unprotect(mps, guard);
        Ok(ended)
    }

    /// The waits of the ledger, and what ends them.
    fn patience(&self, watcher: Watcher, takeover: Duration) -> (Keep, Patience) {
        let (abort, is_aborted) = waits();
        let patience = Patience::new(is_aborted, Some(self.events.clone()), takeover);
        (abort, patience.with(watcher))
    }

    /// What must be there before a task runs: the MPS daemon, which must not be an
    /// orphan of ours, and the guard.
    fn protect(&self, session: &Session) -> std::result::Result<(Option<Mps>, Guard), Trouble> {
        let farmer = session.farmer();
        let journal = session.journal().lock().share()?;
        let mps = self.start_mps(farmer)?;
        match Guard::start(farmer, &journal) {
            Ok(guard) => Ok((mps, guard)),
            Err(error) => {
                let _ = mps.map(Mps::stop);
                Err(Trouble::System("start the guard of the tasks", error))
            }
        }
    }

    /// Leaves a run that was joined in vain: what was claimed is given back.
    fn leave_at_once(&self, joined: Joined, why: &Trouble) {
        let mut session = joined.session;
        for task in joined.tasks {
            session.give_back(task, None);
        }
        let journal = session.journal();
        journal.lock().push(&Record::Leave {
            at: self.clock.micros(Instant::now()),
            why: why.to_string(),
            longest_wait_us: 0,
        });
        let upto = journal.lock().end();
        let (_keep, abort) = waits();
        let mut patience = Patience::new(abort, None, session.takeover());
        if let Err(error) = session.leave(upto, &mut patience) {
            warn(&format!(
                "could not leave the workdir in good order: {error}"
            ));
        }
    }

    fn into_finish(self, farmer: String) -> Finish<'a> {
        Finish {
            workdir: self.workdir,
            farmer,
            node: self.host.name,
            place: self.host.allocation,
            slots: self.host.slots,
            options: self.options,
            write_timeline: self.write_timeline,
            clock: self.clock,
        }
    }

    /// What the end of the allocation means, and whom to ask for it.
    fn endgame(
        &self,
        (queue, places, took): (&Arc<Queue>, &Places, &Arc<Took>),
        farmer: &str,
    ) -> Endgame {
        let options = self.options;
        let wish = &options.walltime;
        let walltime = Walltime::new(options.grace, options.task_timeout, wish.task_estimate);
        let mut endgame = Endgame::new(walltime, took.clone(), queue.clone(), places.clone());
        let place = &self.host.allocation;
        match wish.end() {
            End::Never => {}
            End::After(span) => endgame.ends_after(span.saturating_sub(self.clock.now())),
            End::Asked => {
                match place.ends_at.map(|at| (at, left_until(at))) {
                    Some((at, Duration::ZERO)) => self.tell_stale(at),
                    Some((_, left)) => endgame.ends_after(left),
                    None => {}
                }
                if let Some(question) = Question::of(place, farmer)
                    && let Err(error) = endgame.watch(question, place, self.events.clone())
                {
                    let hint = hint(&error);
                    warn(&format!(
                        "when the job ends is not known (no thread can be started: \
                         {error}{hint}); --walltime tells it"
                    ));
                }
            }
        }
        endgame
    }

    /// An end of the job before our own start is none of ours: the variable is as old as
    /// the shell that has it.
    fn tell_stale(&self, at: Duration) {
        if !self.host.allocation.speaks_for_all() {
            return;
        }
        let text = format!(
            "SLURM_JOB_END_TIME={} is before the start of this process and is not believed: it \
             is of an earlier job (a shell in tmux or screen, an old salloc); --walltime tells \
             the end of this one",
            at.as_secs()
        );
        let _ = self.events.send(Event::Say(text));
    }

    fn start_mps(&self, farmer: &str) -> std::result::Result<Option<Mps>, Trouble> {
        if !self.options.devices.mps {
            return Ok(None);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mps = Mps::start(farmer, &self.host.plan.uuids(), &path);
        Ok(Some(mps.map_err(NoPlan::Cannot)?))
    }

    fn start_slots(
        &self,
        (slots, hands): (Vec<Slot>, Vec<Hand>),
        mps: Option<&Mps>,
        orders: &Sender<Order>,
    ) {
        let extra = mps.map(Mps::client_vars);
        let to = (&self.events, orders);
        let gates = Gates::open(&self.host.plan, &self.options.devices, to, self.clock);
        for (mut slot, hand) in slots.into_iter().zip(hands) {
            slot.gates.clone_from(&gates);
            slot.env.extend(extra.iter().flatten());
            hand.start(move || slot.run());
        }
    }

    fn slots(
        &self,
        session: &Session,
        guard: &Guard,
        (queue, places, took): (&Arc<Queue>, &Places, &Arc<Took>),
        reports: &Sender<Report>,
        (busy, oom): (&Arc<AtomicU64>, &Arc<OomKills>),
    ) -> Vec<Slot> {
        let Ground { path, dir, null } = &self.ground;
        let doors = open_files::left().and_then(|left| Doors::plan(self.host.slots, left));
        let mode = match self.options.logs {
            Logs::Files => LogMode::Files,
            Logs::Packed => LogMode::Packed,
            Logs::Failed => LogMode::Failed,
            Logs::None => LogMode::None,
        };
        let logs = LogPlace {
            dir: dir.clone(),
            mode,
            null: null.clone(),
            keeps_open: doors.is_none(),
        };
        let farmer = session.farmer();
        let slot = |number| {
            let plan = &self.host.plan;
            let env = plan.environment(number as usize, &self.host.env);
            Slot {
                number,
                queue: queue.clone(),
                places: places.clone(),
                row: guard.row(number),
                runner: self.host.runner.clone(),
                logs: SlotLogs::new(logs.clone(), farmer, number),
                doors: doors.clone(),
                env: TaskEnv::new(&env, &self.host.name, number, path, farmer),
                cpus: plan.slots[number as usize].cpus.clone(),
                gates: None,
                workdir: path.clone(),
                dir: dir.clone(),
                clock: self.clock,
                oom: oom.clone(),
                busy: busy.clone(),
                took: took.clone(),
                journal: session.journal(),
                reports: reports.clone(),
                events: self.events.clone(),
            }
        };
        (0..self.host.slots).map(slot).collect()
    }
}

/// No task runs any more.
fn unprotect(mps: Option<Mps>, guard: Guard) {
    if let Some(Err(why)) = mps.map(Mps::stop) {
        warn(&why);
    }
    guard.dismiss();
}

/// Says something on standard error, where nothing else can.
pub fn warn(text: &str) {
    let text = without_error_numbers(text);
    let _ = writeln!(std::io::stderr(), "pytf: {text}");
}
