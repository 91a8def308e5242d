//! The threads of one farmer, and what they share: slots, ledger and supervisor.
//!
//! None of them is joined: a thread may hang on a file system that does not answer, and
//! the process ends without it. Others rely on this: whatever must be done before the end,
//! the supervisor waits for.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::anomalies::Anomalies;
use super::clock::Clock;
use super::feeder::Fed;
use super::gates::Gates;
use super::join::Joined;
use super::ledger::{Ledger, LedgerConfig};
use super::lock_wait::{CancelOnDrop, CancelToken, LockWaiter, cancellation};
use super::logs::{LogConfig, LogPermits, SlotLogs};
use super::message::{Event, FailedAttempt, Order, ReceivedSignals, Report, SlotProcesses};
use super::node_setup::Node;
use super::options::{AllocationEnd, Options};
use super::prepare::StartContext;
use super::quarantine::Quarantine;
use super::queue::{Lease, Queue};
use super::reserved_threads::{ReservedThread, ReservedThreads};
use super::slot::{Slot, SlotContext};
use super::slot_plan::NoPlan;
use super::start_error::StartError;
use super::supervisor::{FIRST_SHOW, FarmerEnd, Supervisor};
use super::task_env::TaskEnv;
use super::task_files::TaskFiles;
use super::walltime::{Endgame, TaskTimes};
use crate::host::guard::Guard;
use crate::host::memory::OomKills;
use crate::host::mps::Mps;
use crate::host::open_files;
use crate::host::process::{SlotProcess, adopt_orphans};
use crate::host::scheduler::{Question, left_until};
use crate::model::farmer::Lifecycle;
use crate::model::limits::Limits;
use crate::model::liveness::good_for;
use crate::model::refusal::hint;
use crate::model::walltime::Walltime;
use crate::ui::progress::{Progress, warn};
use crate::workdir::liveness::Watcher;
use crate::workdir::open::Workdir;
use crate::workdir::session::Session;

/// What one process keeps, however often it joins the run.
pub(super) struct Farm<'a> {
    pub(super) workdir: Workdir,
    pub(super) node: Node,
    pub(super) options: &'a Options,
    pub(super) clock: Clock,
    pub(super) events: Sender<Event>,
    pub(super) inbox: Receiver<Event>,
    pub(super) received: ReceivedSignals,
    pub(super) files: TaskFiles,
    /// Ends waits for the lock while no task runs.
    pub(super) cancel: CancelToken,
    pub(super) times: Arc<TaskTimes>,
    /// How long tasks ran, in microseconds.
    pub(super) busy: Arc<AtomicU64>,
}

/// A farmer that has joined, and what earlier ones of this process have left.
pub(super) struct Member {
    pub(super) joined: Joined,
    pub(super) watcher: Watcher,
    pub(super) progress: Progress,
    pub(super) frozen: Duration,
    pub(super) failures: Vec<FailedAttempt>,
}

impl Member {
    /// The first farmer of this process.
    pub(super) fn new(joined: Joined, start: StartContext) -> Self {
        Self {
            joined,
            watcher: start.waiter.into_watcher(),
            progress: start.progress,
            frozen: Duration::ZERO,
            failures: Vec::new(),
        }
    }
}

/// What must be there before a task runs.
pub(super) struct Protection {
    mps: Option<Mps>,
    guard: Guard,
}

impl Protection {
    /// No task runs any more.
    fn end(self) {
        if let Some(Err(why)) = self.mps.map(Mps::stop) {
            warn(&why);
        }
        self.guard.stop();
    }
}

impl Farm<'_> {
    /// Starts the MPS daemon, which must not be an orphan of ours, and the guard.
    pub(super) fn protect(&self, session: &Session) -> Result<Protection, StartError> {
        let farmer = session.farmer();
        let journal = session.journal().lock().share()?;
        let mps = self.start_mps(farmer)?;
        match Guard::start(farmer, &journal) {
            Ok(guard) => Ok(Protection { mps, guard }),
            Err(error) => {
                let _ = mps.map(Mps::stop);
                Err(StartError::System("start the guard of the tasks", error))
            }
        }
    }

    fn start_mps(&self, farmer: &str) -> Result<Option<Mps>, StartError> {
        if !self.options.devices.mps {
            return Ok(None);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mps = Mps::start(farmer, &self.node.plan.uuids(), &path);
        Ok(Some(mps.map_err(NoPlan::Cannot)?))
    }

    /// Runs one farmer, from its first task to its last.
    pub(super) fn run(
        &self,
        member: Member,
        protection: Protection,
        fed: Option<Receiver<Fed>>,
        threads: ReservedThreads,
    ) -> FarmerEnd {
        let Joined {
            session,
            tasks,
            locked,
            pace,
        } = member.joined;
        let (node, options) = (&self.node, self.options);
        adopt_orphans();
        let (orders, orders_in) = unbounded();
        let (reports, reports_in) = unbounded();
        let lease = Lease::new(good_for(session.takeover()), locked);
        let queue = Arc::new(Queue::new(node.slots, orders.clone(), lease));
        queue.put(tasks);
        let processes: SlotProcesses =
            Arc::new((0..node.slots).map(|_| SlotProcess::default()).collect());
        let shared_state = Arc::new(Mutex::new(session.state().clone()));
        // Before the slots: it may hold the queue.
        let endgame = self.endgame(&queue, &processes, session.farmer());
        let oom = Arc::new(OomKills::new());
        let shared = self.slot_context(&session, &queue, &processes, reports, &oom);
        let slots = self.slots(&shared, &session, &protection);
        self.start_slots(slots, threads.slots, &orders);
        drop(shared);
        let (cancel_on_drop, waiter) = self.waiter(member.watcher, &session, &queue);
        let config = LedgerConfig {
            job: node.allocation.job.clone(),
            session,
            pace,
            queue: queue.clone(),
            processes: processes.clone(),
            orders: orders_in,
            reports: reports_in,
            fed,
            events: self.events.clone(),
            shared_state: shared_state.clone(),
            clock: self.clock,
            waiter,
            linger: options.linger,
            quarantine: options
                .quarantine
                .then(|| Quarantine::new(processes.len(), queue.clone(), self.clock)),
            received: self.received.clone(),
        };
        threads.ledger.run(move || Ledger::new(config).run());
        let limit = options.task_timeout;
        let supervisor = Supervisor {
            workdir: self.workdir.path.display().to_string(),
            farmer: Lifecycle::new(options.timeout, options.grace),
            limits: limit.map(|limit| Limits::new(limit, options.grace)),
            endgame,
            speaks_for_all: node.allocation.speaks_for_all(),
            is_verbose: options.verbose,
            clock: self.clock,
            events: self.inbox.clone(),
            orders,
            queue,
            anomalies: Anomalies::new(processes.clone(), oom),
            processes,
            shared_state,
            progress: member.progress,
            cancel: Some(cancel_on_drop),
            guard: protection.guard.pid(),
            slots: node.slots as usize,
            show_at: self.clock.now() + FIRST_SHOW,
            suspended: Duration::ZERO,
            frozen: member.frozen,
            failures: member.failures,
        };
        let ended = supervisor.run();
        protection.end();
        ended
    }

    /// How the ledger waits for the lock, and what ends its waits.
    fn waiter(
        &self,
        watcher: Watcher,
        session: &Session,
        queue: &Arc<Queue>,
    ) -> (CancelOnDrop, LockWaiter) {
        let (cancel_on_drop, cancel) = cancellation();
        let events = Some(self.events.clone());
        let waiter = LockWaiter::new(cancel, events, session.takeover());
        let waiter = waiter.with(watcher).renewing(queue.clone());
        (cancel_on_drop, waiter)
    }

    /// What the end of the allocation means, and the thread that asks for it.
    fn endgame(&self, queue: &Arc<Queue>, processes: &SlotProcesses, farmer: &str) -> Endgame {
        let options = self.options;
        let walltime = Walltime::new(options.grace, options.task_timeout, options.task_estimate);
        let mut endgame = Endgame::new(
            walltime,
            self.times.clone(),
            queue.clone(),
            processes.clone(),
        );
        let allocation = &self.node.allocation;
        match options.end {
            AllocationEnd::Ignored => {}
            AllocationEnd::After(span) => {
                endgame.ends_after(span.saturating_sub(self.clock.now()));
            }
            AllocationEnd::Asked => {
                match allocation.ends_at.map(|at| (at, left_until(at))) {
                    Some((at, Duration::ZERO)) => self.say_stale(at),
                    Some((_, left)) => endgame.ends_after(left),
                    None => {}
                }
                if let Some(question) = Question::of(allocation, farmer)
                    && let Err(error) = endgame.watch(question, allocation, self.events.clone())
                {
                    let hint = hint(&error);
                    warn(&format!(
                        "the end of the job is unknown (no thread can be started: {error}{hint}); \
                         set it with --walltime"
                    ));
                }
            }
        }
        endgame
    }

    /// An end of the job before our own start is ignored: the variable is from the job in
    /// which the shell was started.
    fn say_stale(&self, at: Duration) {
        if !self.node.allocation.speaks_for_all() {
            return;
        }
        let text = format!(
            "SLURM_JOB_END_TIME={} is before the start of this process and is ignored: it is \
             from an earlier job (a shell in tmux or screen, an old salloc); set the end of this \
             one with --walltime",
            at.as_secs()
        );
        let _ = self.events.send(Event::Say(text));
    }

    fn slot_context(
        &self,
        session: &Session,
        queue: &Arc<Queue>,
        processes: &SlotProcesses,
        reports: Sender<Report>,
        oom: &Arc<OomKills>,
    ) -> Arc<SlotContext> {
        Arc::new(SlotContext {
            queue: queue.clone(),
            processes: processes.clone(),
            permits: open_files::left().and_then(|left| LogPermits::plan(self.node.slots, left)),
            workdir: self.files.path.clone(),
            dir: self.files.dir.clone(),
            clock: self.clock,
            oom: oom.clone(),
            busy: self.busy.clone(),
            times: self.times.clone(),
            journal: session.journal(),
            reports,
            events: self.events.clone(),
        })
    }

    fn slots(
        &self,
        shared: &Arc<SlotContext>,
        session: &Session,
        protection: &Protection,
    ) -> Vec<Slot> {
        let (node, farmer) = (&self.node, session.farmer());
        let logs = LogConfig {
            dir: self.files.dir.clone(),
            mode: self.options.logs,
            null: self.files.null.clone(),
            keeps_open: shared.permits.is_none(),
        };
        let of_mps = protection.mps.as_ref().map(Mps::client_vars);
        let slot = |number| {
            let env = node.plan.environment(number as usize, &node.env);
            let mut env = TaskEnv::new(&env, &node.name, number, &self.files.path, farmer);
            env.extend(of_mps.iter().flatten());
            Slot {
                number,
                shared: shared.clone(),
                row: protection.guard.row(number),
                runner: node.runner.clone(),
                logs: SlotLogs::new(logs.clone(), farmer, number),
                env,
                cpus: node.plan.slots[number as usize].cpus.clone(),
                gates: None,
            }
        };
        (0..node.slots).map(slot).collect()
    }

    fn start_slots(&self, slots: Vec<Slot>, threads: Vec<ReservedThread>, orders: &Sender<Order>) {
        let (plan, options) = (&self.node.plan, &self.options.devices);
        let gates = Gates::open(plan, options, &self.events, orders, self.clock);
        for (mut slot, thread) in slots.into_iter().zip(threads) {
            slot.gates.clone_from(&gates);
            thread.run(move || slot.run());
        }
    }
}
