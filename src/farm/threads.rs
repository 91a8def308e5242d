//! The threads of one farmer, and what they share: slots, ledger and supervisor.
//!
//! The supervisor does not wait for other threads at the end: one may hang on a file system
//! that does not answer, and the process ends without it. Guarantee: the supervisor waits for
//! everything that must be done before the end.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::anomalies::Anomalies;
use super::backoff::Backoff;
use super::dealer::Dealer;
use super::feeder::Fed;
use super::gates::Gates;
use super::join::Joined;
use super::lease_plan::Leases;
use super::ledger::{Ledger, Times};
use super::lock_wait::{LockWaiter, cancellation};
use super::logs::{LogConfig, LogPermits, SlotLogs};
use super::message::{Event, FailedAttempt, LedgerRequest, Report};
use super::neighbours::Neighbours;
use super::options::AllocationEnd;
use super::placement::Placement;
use super::prepare::StartContext;
use super::quarantine::Quarantine;
use super::queue::{Lease, Queue};
use super::reserved_threads::{ReservedThread, ReservedThreads, with_more};
use super::results::Results;
use super::shared::{CancelledAttempts, Farm, Shared};
use super::slot::Slot;
use super::slot_plan::NoPlan;
use super::staging::Staging;
use super::start_error::StartError;
use super::supervisor::{FIRST_SHOW, FarmerEnd, Supervisor};
use super::suspension::Suspension;
use super::task_env::TaskEnv;
use super::walltime::Endgame;
use super::wrapping::Wrapping;
use crate::host::guard::Guard;
use crate::host::memory::OomKills;
use crate::host::mps::Mps;
use crate::host::open_files;
use crate::host::process::{SlotProcess, adopt_orphans};
use crate::host::scheduler::{Question, left_until};
use crate::model::farmer::Lifecycle;
use crate::model::limits::Limits;
use crate::model::liveness::good_for;
use crate::model::pace::Ends;
use crate::model::refusal::hint;
use crate::model::walltime::Walltime;
use crate::ui::progress::{Progress, warn};
use crate::ui::task_log::TaskLog;
use crate::workdir::liveness::Watcher;
use crate::workdir::session::Session;

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

fn count(slots: &[ReservedThread]) -> u32 {
    u32::try_from(slots.len()).unwrap_or(u32::MAX)
}

/// What must run before a task does.
pub(super) struct Protection {
    mps: Option<Mps>,
    guard: Guard,
}

impl Protection {
    /// Ends both, when no task runs any more.
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
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mps = self.options.devices.mps;
        let mps = mps.then(|| Mps::start(farmer, &self.node.plan.uuids(), &path));
        let mps = mps.transpose().map_err(NoPlan::Cannot)?;
        match Guard::start(farmer, &journal) {
            Ok(guard) => Ok(Protection { mps, guard }),
            Err(error) => {
                let _ = mps.map(Mps::stop);
                Err(StartError::System("start the guard of the tasks", error))
            }
        }
    }

    /// Runs one farmer, from its first task to its last.
    #[expect(
        clippy::too_many_lines,
        reason = "a list of what its threads are made of"
    )]
    pub(super) fn run(
        &self,
        member: Member,
        protection: Protection,
        fed: Option<Receiver<Fed>>,
        threads: ReservedThreads,
    ) -> FarmerEnd {
        let ReservedThreads {
            ledger: ledger_thread,
            slots: threads,
            ..
        } = threads;
        let Joined {
            session,
            tasks,
            locked,
            pace,
        } = member.joined;
        let (node, options) = (&self.node, self.options);
        adopt_orphans();
        let (requests, requests_in) = unbounded();
        let (reports, reports_in) = unbounded();
        let lease = Lease::new(good_for(session.takeover()), locked);
        let slots = with_more(
            threads,
            Dealer::slots(options, node, session.state(), &tasks),
        );
        let queue = Queue::new(count(&slots), requests.clone(), lease);
        let queue = Arc::new(queue.starting_every(options.start_interval));
        let shared = self.share(&session, &queue, count(&slots), requests, reports);
        let gates = Gates::open(&node.plan, &options.devices, &shared);
        let placement = self.placement(Some(queue.clone()));
        let mut dealer = self.dealer(&shared, &placement, &protection, gates.as_ref());
        let mut session = session;
        for task in dealer.put(tasks) {
            session.give_back(task, None);
        }
        // Before the slots: it may hold the queue.
        let endgame = self.endgame(&shared, session.farmer());
        for task in queue.take_late(self.times.left()) {
            session.give_back(task, None);
        }
        dealer.observe(session.state(), &placement);
        let running = slots.len();
        let farmer = session.farmer().to_owned();
        self.start_slots(&shared, &farmer, &protection, gates.as_ref(), slots);
        // Dropping the first ends the ledger's waits for the lock.
        let (cancel_on_drop, cancel) = cancellation();
        let waiter = LockWaiter::new(cancel, Some(self.events.clone()), session.takeover());
        let ledger = Ledger {
            neighbours: Neighbours::new(session.number(), session.takeover()),
            backoff: Backoff::default(),
            session,
            pace,
            job: node.allocation.job.clone(),
            node: node.name.clone(),
            requests: requests_in,
            reports: reports_in,
            fed,
            waiter: waiter.with(member.watcher).renewing(queue),
            linger: options.linger,
            follow: options.follow,
            quarantine: options.quarantine.then(|| Quarantine::new(shared.clone())),
            received: self.received.clone(),
            shared: shared.clone(),
            dealer,
            suspects: VecDeque::new(),
            ends: Ends::default(),
            times: Times::start(),
            longest_wait: Duration::ZERO,
            left: None,
            is_paused: false,
            max_fail: options.max_fail,
            is_fenced: false,
            placement,
            unfit: None,
        };
        ledger_thread.run(move || ledger.run());
        let connection = options.piped().and_then(|piped| piped.connection);
        let supervisor = Supervisor {
            farm: self,
            farmer: Lifecycle::new(options.timeout, options.grace),
            limits: Limits::new(options.task_timeout, options.grace),
            limit_at: None,
            endgame,
            anomalies: Anomalies::new(shared.clone()),
            suspension: Suspension::new(shared.clone()),
            progress: member.progress,
            cancel: Some(cancel_on_drop),
            own: [Some(protection.guard.pid()), connection]
                .into_iter()
                .flatten()
                .collect(),
            slots: running,
            show_at: self.clock.now() + FIRST_SHOW,
            suspended: Duration::ZERO,
            frozen: member.frozen,
            failures: member.failures,
            has_waited: false,
            shared,
        };
        let ended = supervisor.run();
        protection.end();
        ended
    }

    fn share(
        &self,
        session: &Session,
        queue: &Arc<Queue>,
        slots: u32,
        requests: Sender<LedgerRequest>,
        reports: Sender<Report>,
    ) -> Arc<Shared> {
        Arc::new(Shared {
            clock: self.clock,
            queue: queue.clone(),
            processes: (0..slots).map(|_| SlotProcess::default()).collect(),
            journal: session.journal(),
            cancelled: CancelledAttempts::default(),
            is_ending: AtomicBool::new(false),
            state: Mutex::new(session.state().clone()),
            times: self.times.clone(),
            leases: Leases::default(),
            oom: OomKills::new(),
            retry: self.options.retry.clone(),
            permits: open_files::left()
                .and_then(|left| LogPermits::plan(slots, left, self.options.logs)),
            workdir: self.files.path.clone(),
            records: self.workdir.dir.clone(),
            dir: self.files.dir.clone(),
            task_log: self
                .options
                .log_tasks
                .then(|| TaskLog::new(&self.node.name)),
            events: self.events.clone(),
            requests,
            reports,
        })
    }

    /// What deals the resources of this node, and begins to when tasks have needs of their own.
    fn dealer(
        &self,
        shared: &Arc<Shared>,
        placement: &Placement,
        protection: &Protection,
        gates: Option<&Arc<Gates>>,
    ) -> Dealer {
        let mut env = self.node.env.clone();
        env.extend(protection.mps.iter().flat_map(Mps::client_vars));
        let offer = placement.offer.clone();
        Dealer::new(shared, offer, &self.node, &env, gates.cloned())
    }

    /// Which tasks can run here.
    pub(super) fn placement(&self, queue: Option<Arc<Queue>>) -> Placement {
        Placement {
            times: queue.as_ref().map(|_| self.times.clone()),
            queue,
            ..Placement::of(&self.node, self.options)
        }
    }

    /// What the end of the allocation means, and the thread that asks for it.
    fn endgame(&self, shared: &Arc<Shared>, farmer: &str) -> Endgame {
        let options = self.options;
        let walltime = Walltime::new(options.grace, options.task_timeout, options.task_estimate);
        let mut endgame = Endgame::new(walltime, shared.clone());
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
                    && let Err(error) = endgame.watch(question, allocation)
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

    fn start_slots(
        &self,
        shared: &Arc<Shared>,
        farmer: &str,
        protection: &Protection,
        gates: Option<&Arc<Gates>>,
        threads: Vec<ReservedThread>,
    ) {
        let node = &self.node;
        let logs = LogConfig {
            dir: self.files.dir.clone(),
            mode: self.options.logs,
            null: self.files.null.clone(),
            keeps_open: shared.permits.is_none(),
            send_to: self.options.piped().map(|piped| piped.dir.clone()),
        };
        let piped = self.options.piped();
        let staging = Arc::new(Staging {
            base: std::env::current_dir().unwrap_or_default(),
            // A machine that has joined by itself has them, or has not.
            pipe: piped
                .filter(|_| self.options.hosted.is_some())
                .map(|piped| piped.dir.clone()),
            fetching: Mutex::default(),
            copy_out: self.options.copy_out.clone(),
        });
        let results = Arc::new(Results {
            records: shared.records.clone(),
            is_piped: piped.is_some(),
            workdir: self.files.path.to_path_buf(),
            farmer: farmer.to_owned(),
        });
        let wrapping = Arc::new(Wrapping::new(node, self.options, &self.files.path));
        let of_mps = protection.mps.as_ref().map(Mps::client_vars);
        for (number, thread) in (0..).zip(threads) {
            // A slot beyond those that were planned runs only tasks with leases.
            let plan = node.plan.slots.get(number as usize);
            let env = plan.map(|_| node.plan.environment(number as usize, &node.env));
            let env = env.unwrap_or_else(|| node.env.clone());
            let mut env = TaskEnv::new(&env, &node.name, number, &self.files.path, farmer);
            env.extend(of_mps.iter().flatten());
            let slot = Slot {
                number,
                shared: shared.clone(),
                row: protection.guard.row(number),
                runner: node.runner.clone(),
                wrapping: wrapping.clone(),
                staging: staging.clone(),
                results: results.clone(),
                wrapper: None,
                logs: SlotLogs::new(logs.clone(), farmer, number),
                env,
                dirs: self.files.task_dirs.as_ref().map(|plan| plan.of(farmer)),
                cpus: plan.and_then(|plan| plan.cpus.clone()),
                gates: gates.cloned(),
                limit: None,
                mem_kib: 0,
                delay: self.options.start_delay.saturating_mul(number),
            };
            thread.run(move || slot.run());
        }
    }
}
