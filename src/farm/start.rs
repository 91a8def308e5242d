//! From options to a running farm. `prelude` is what comes before the first
//! task, `finish` what comes after the last.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::clock::Clock;
use super::devices::{NoPlan, Plan, Surroundings};
use super::feeder;
use super::finish::Finish;
use super::gates::Gates;
use super::ledger::{Desk, Ledger};
use super::logs::SlotLogs;
use super::message::{Event, Order, Places, Report};
use super::patience::{Abort, Patience, waits};
use super::prelude::{Joined, Prelude};
use super::quarantine::Quarantine;
use super::queue::{Life, Queue};
use super::slot::{Slot, TaskEnv};
use super::supervisor::{FIRST_SHOW, Supervisor, counts};
use super::walltime::{Endgame, Took};
use crate::cli::{End, Farm, List, Lock, Logs, SrunEnv};
use crate::exit::RunExit;
use crate::host::allocation::{here, host_name};
use crate::host::gpus::Ways;
use crate::host::guard::Guard;
use crate::host::memory::OomKills;
use crate::host::mps::Mps;
use crate::host::process::{Place, adopt_orphans};
use crate::host::room;
use crate::host::scheduler::{Question, left_until};
use crate::host::signals;
use crate::model::allocation::{Allocation, is_launchers};
use crate::model::farmer::Farmer;
use crate::model::limits::Limits;
use crate::model::logs::LogMode;
use crate::model::room::{usable, warnings};
use crate::model::walltime::Walltime;
use crate::runner::Runner;
use crate::runner::shell::Shell;
use crate::view::look::{Look, Terminal};
use crate::view::progress::{Mode, Progress};
use crate::workdir::error::{Error, Result};
use crate::workdir::lock::Mechanism;
use crate::workdir::open::{Wishes, Workdir};
use crate::workdir::resume::{ListFile, ListTrouble};
use crate::workdir::session::Session;

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
    /// There is no plan for GPUs and CPUs.
    #[error(transparent)]
    Devices(#[from] NoPlan),
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
                // The other processes of the node work.
                Self::Devices(NoPlan::NoShare { .. }) => RunExit::Complete,
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
            Some(Error::Damaged { .. }) => {
                let workdir = workdir.display();
                format!(
                    "workdir {workdir}: {self}\nWhen no pytf works on it any more, \
                     'pytf repair {workdir}' makes it whole from its journals."
                )
            }
            Some(Error::Io { .. } | Error::Newer { .. }) => {
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
    let mut progress = progress(options, &host.allocation);
    for remark in host.plan.remarks.iter().filter(|_| !options.quiet) {
        progress.say(&format!("pytf: {remark}"));
    }
    let (events, inbox) = unbounded();
    let abort = listen(&events)?;
    let mut patience = Patience::new(abort.clone(), Some(events.clone()), options.takeover)
        .among(host.allocation.launched());
    let source = Source::of(list)?;
    let workdir = open(path, options)?;
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
        clock,
        events,
        inbox,
    };
    farm.run(joined, source, progress)
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
fn listen(events: &Sender<Event>) -> std::result::Result<Abort, Trouble> {
    let (abort, is_aborted) = waits();
    let (events, mut abort) = (events.clone(), Some(abort));
    let on_signal = move |signal| {
        drop(abort.take());
        let _ = events.send(Event::Signal(signal));
    };
    signals::listen(on_signal).map_err(|error| Trouble::System("listen for signals", error))?;
    Ok(is_aborted)
}

fn limits(options: &Farm) -> Option<Limits> {
    let limit = options.task_timeout?;
    Some(Limits::new(limit, options.grace))
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

/// The threads of the farm and what they share.
struct Threads<'a> {
    workdir: Workdir,
    host: Host,
    options: &'a Farm,
    clock: Clock,
    events: Sender<Event>,
    inbox: Receiver<Event>,
}

impl<'a> Threads<'a> {
    fn run(
        self,
        joined: Joined,
        source: Source,
        progress: Progress,
    ) -> std::result::Result<RunExit, Trouble> {
        let (session, pace) = (joined.session, joined.pace);
        let farmer = session.farmer().to_owned();
        let mps = self.start_mps(&farmer)?;
        let guard = Guard::start(&farmer, &session.journal().lock().share()?)
            .map_err(|error| Trouble::System("start the guard", error))?;
        adopt_orphans();
        let (orders, desk_orders) = unbounded();
        let (reports, desk_reports) = unbounded();
        let life = Life::new(self.options.takeover / 2);
        let queue = Arc::new(Queue::new(self.host.slots, orders.clone(), life));
        queue.put(joined.tasks);
        let places: Places = Arc::new((0..self.host.slots).map(|_| Place::default()).collect());
        let board = Arc::new(Mutex::new(session.state().clone()));
        let busy = Arc::new(AtomicU64::new(0));
        let took = Arc::new(Took::default());
        let pools = (&queue, &places, &took);
        // First of all: it may let nothing be started.
        let endgame = self
            .endgame(pools, &farmer)
            .map_err(|error| Trouble::System("start a thread", error))?;
        let slots = self.slots(&session, &guard, pools, &reports, &busy)?;
        self.start_slots(slots, mps.as_ref(), &orders)?;
        drop(reports);
        let (abort, is_aborted) = waits();
        let patience = Patience::new(is_aborted, Some(self.events.clone()), self.options.takeover);
        let fed = source
            .feed()
            .map_err(|error| Trouble::System("start a thread", error))?;
        let desk = Desk {
            job: self.host.job(),
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
            patience,
            linger: !self.options.no_linger,
            quarantine: (!self.options.no_quarantine)
                .then(|| Quarantine::new(places.len(), queue.clone(), self.clock)),
        };
        spawn("ledger", move || Ledger::new(desk).run())?;
        let supervisor = Supervisor {
            farmer: Farmer::new(self.options.timeout, self.options.grace),
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
            progress,
            abort: Some(abort),
            guard: guard.pid(),
            slots: self.host.slots as usize,
            show_at: self.clock.now() + FIRST_SHOW,
        };
        let ended = supervisor.run();
        if let Some(Err(why)) = mps.map(Mps::stop) {
            warn(&why);
        }
        guard.dismiss();
        Ok(self.into_finish(farmer).exit(&ended, &busy))
    }

    fn into_finish(self, farmer: String) -> Finish<'a> {
        Finish {
            workdir: self.workdir,
            farmer,
            node: self.host.name,
            place: self.host.allocation,
            slots: self.host.slots,
            options: self.options,
            clock: self.clock,
        }
    }

    /// What the end of the allocation means, and whom to ask for it.
    fn endgame(
        &self,
        (queue, places, took): (&Arc<Queue>, &Places, &Arc<Took>),
        farmer: &str,
    ) -> std::io::Result<Endgame> {
        let options = self.options;
        let wish = &options.walltime;
        let walltime = Walltime::new(options.grace, options.task_timeout, wish.task_estimate);
        let mut endgame = Endgame::new(walltime, took.clone(), queue.clone(), places.clone());
        let place = &self.host.allocation;
        match wish.end() {
            End::Never => {}
            End::After(span) => endgame.ends_after(span.saturating_sub(self.clock.now())),
            End::Asked => {
                if let Some(at) = place.ends_at {
                    endgame.ends_after(left_until(at));
                }
                if let Some(question) = Question::of(place, farmer) {
                    endgame.watch(question, place, self.events.clone())?;
                }
            }
        }
        Ok(endgame)
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
        slots: Vec<Slot>,
        mps: Option<&Mps>,
        orders: &Sender<Order>,
    ) -> std::result::Result<(), Trouble> {
        let extra = mps.map(Mps::client_vars);
        let to = (&self.events, orders);
        let gates = Gates::open(&self.host.plan, &self.options.devices, to, self.clock);
        for mut slot in slots {
            slot.gates.clone_from(&gates);
            slot.env.extend(extra.iter().flatten());
            spawn(&format!("slot-{}", slot.number), move || slot.run())?;
        }
        Ok(())
    }

    fn slots(
        &self,
        session: &Session,
        guard: &Guard,
        (queue, places, took): (&Arc<Queue>, &Places, &Arc<Took>),
        reports: &Sender<Report>,
        busy: &Arc<AtomicU64>,
    ) -> std::result::Result<Vec<Slot>, Trouble> {
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
        let slot = |number| {
            let plan = &self.host.plan;
            let env = plan.environment(number as usize, &self.host.env);
            Slot {
                number,
                queue: queue.clone(),
                places: places.clone(),
                row: guard.row(number),
                runner: self.host.runner.clone(),
                logs: SlotLogs::new(path.clone(), mode, farmer, number, null.clone()),
                env: TaskEnv::new(&env, &self.host.name, number, &path, farmer),
                cpus: plan.slots[number as usize].cpus.clone(),
                gates: None,
                workdir: path.clone(),
                clock: self.clock,
                oom: oom.clone(),
                busy: busy.clone(),
                took: took.clone(),
                journal: session.journal(),
                reports: reports.clone(),
                events: self.events.clone(),
            }
        };
        Ok((0..self.host.slots).map(slot).collect())
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
