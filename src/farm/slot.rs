//! The life of a slot: take a task, open its log, spawn, wait, report, take the
//! next.
//!
//! A slot does everything that may block for its task, and decides only how an attempt ended.
//! Between two short tasks it waits for no other thread: the queue has the next one. Long tasks
//! are not claimed ahead: then it waits for the ledger.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::gates::Gates;
use super::ledger::{RETRY_BUSY_FOR, RETRY_IDLE_FOR};
use super::logs::{LogPermits, OpenLog, SlotLogs, Written};
use super::message::{Event, FailedAttempt, Report, Stopped};
use super::queue::Taken;
use super::results::Results;
use super::shared::Shared;
use super::staging::{Staging, Wanted};
use super::task_dir::TaskDirs;
use super::task_env::TaskEnv;
use super::wrapping::Wrapping;
use crate::host::cpus;
use crate::host::guard::Row;
use crate::host::process::{ProcessEnd, Running, Spawn, Status, StopReason, is_passing};
use crate::model::allocator::ResourceLease;
use crate::model::attributes::{Attributes, split};
use crate::model::durations;
use crate::model::escape::escape;
use crate::model::figures::show_kib;
use crate::model::interruption::is_suspect;
use crate::model::outcome::{Destination, Outcome};
use crate::model::record::{End, Record, Used};
use crate::model::refusal::{hint, is_resource};
use crate::model::task::Task;
use crate::runner::wrapper::Wrapper;
use crate::runner::{How, Runner, explain};
use crate::workdir::error::Error;
use crate::workdir::fs::{Dir, Open};
use crate::workdir::layout::{LOGS, SCRIPTS};
use crate::workdir::membership::has_departed;

/// When the lease has run out, an end waits this long for the ledger to check whether others
/// have taken over.
const ASKED: Duration = Duration::from_secs(1);
const ASK_EVERY: Duration = Duration::from_millis(2);

/// What one slot works with.
pub(super) struct Slot {
    /// Its number.
    pub number: u32,
    /// What it shares with the other slots.
    pub shared: Arc<Shared>,
    /// Its row in the table of the guard.
    pub row: Row,
    /// How lines become programs.
    pub runner: Runner,
    /// The other runners, and what is known where they make processes.
    pub wrapping: Arc<Wrapping>,
    /// The files that tasks need and make.
    pub staging: Arc<Staging>,
    /// Where what they make goes.
    pub results: Arc<Results>,
    /// The runner of the current task; none: the default one.
    pub wrapper: Option<Arc<Wrapper>>,
    /// Where its tasks print.
    pub logs: SlotLogs,
    /// The environment of its tasks.
    pub env: TaskEnv,
    /// Makes a folder for each attempt, where that is asked for.
    pub dirs: Option<TaskDirs>,
    /// The CPUs that its tasks are bound to.
    pub cpus: Option<Vec<usize>>,
    /// Where it waits for its GPUs.
    pub gates: Option<Arc<Gates>>,
    /// How long it waits before its first task.
    pub delay: Duration,
    /// The time limit of its task, where that has one of its own.
    pub limit: Option<Duration>,
    /// The limit of the memory of its task, in KiB; 0 is none.
    pub mem_kib: u64,
}

impl Slot {
    /// Runs tasks until the queue is closed.
    pub(super) fn run(mut self) {
        if let Some(cpus) = &self.cpus {
            self.bind(cpus);
        }
        if !self.delay.is_zero() && self.shared.queue.is_closed_before(self.delay) {
            return self.shared.send(Event::SlotDone);
        }
        while let Some(Taken { task, lease }) = self.next() {
            let ended = match &lease {
                None => self.attempt_with_devices(&task),
                Some(lease) => self.attempt_with_lease(&task, lease),
            };
            match ended {
                Some((end, suspect)) => self.report(task, end, suspect),
                None => drop(self.shared.reports.send(Report::Unstarted(task))),
            }
            if let Some(Err(why)) = self.dirs.as_mut().map(TaskDirs::clean_up) {
                self.shared.warn(why);
            }
        }
        self.shared.send(Event::SlotDone);
    }

    /// Binds this thread to these CPUs: what it spawns inherits that.
    fn bind(&self, cpus: &[usize]) {
        if let Err(error) = cpus::bind(cpus) {
            let text = format!(
                "slot {} cannot be bound to its CPUs: {}",
                self.number,
                error.desc()
            );
            self.shared.say(text);
        }
    }

    /// The next task, once the slot's devices may be used.
    fn next(&self) -> Option<Taken> {
        let slot = self.number as usize;
        if let Some(gates) = &self.gates
            && !self.has_leases()
            && !self
                .shared
                .queue
                .is_open_for(|| self.has_leases() || gates.are_open(slot))
        {
            return None;
        }
        self.shared.queue.take(slot)
    }

    /// Whether each attempt has a lease of its own.
    fn has_leases(&self) -> bool {
        self.shared.leases.plan().is_some()
    }

    /// An attempt with what its lease has of the node.
    fn attempt_with_lease(
        &mut self,
        task: &Task,
        lease: &ResourceLease,
    ) -> Option<(End, Option<Instant>)> {
        // It was there before the queue dealt.
        let plan = self.shared.leases.plan()?;
        let cpus = Some(plan.cpus(lease)).filter(|cpus| !cpus.is_empty());
        if self.cpus != cpus {
            match &cpus {
                Some(cpus) => self.bind(cpus),
                None => self.bind(&plan.all_cpus()),
            }
            self.cpus = cpus;
        }
        let vars = plan.environment(lease);
        self.env.replace(&vars);
        let record = Box::new(plan.record(lease));
        let shared = self.shared.clone();
        let process = &shared.processes[self.number as usize];
        process.lease(Some(record.clone()));
        (self.limit, self.mem_kib) = (lease.needs.time, lease.needs.mem_kib);
        if let Some(gates) = &plan.gates {
            gates.enter_devices(&lease.gpus);
        }
        let ended = self.attempt(task);
        if let Some(gates) = &plan.gates {
            gates.leave_devices(&lease.gpus);
        }
        process.lease(None);
        shared.queue.give_back(lease);
        ended.map(|(mut end, suspect)| {
            end.lease = Some(record);
            (end, suspect)
        })
    }

    /// An attempt, unless the slot's devices were taken by others meanwhile.
    fn attempt_with_devices(&mut self, task: &Task) -> Option<(End, Option<Instant>)> {
        let Some(gates) = self.gates.clone() else {
            return self.attempt(task);
        };
        let slot = self.number as usize;
        if !gates.enter(slot) {
            return None;
        }
        let end = self.attempt(task);
        gates.leave(slot);
        end
    }

    /// Writes the end into the journal, where it survives us, and reports it to the ledger.
    /// Suspect ends are written by the ledger.
    fn report(&self, task: Task, end: End, suspect: Option<Instant>) {
        if self.is_fenced() {
            // It runs elsewhere by now; the ledger is about to detect that.
            return;
        }
        if suspect.is_none() {
            self.shared.log_end(&task, &end);
        }
        let mut journal = self.shared.journal.lock();
        if suspect.is_none() {
            journal.push(&Record::End(end.clone()));
            // The ledger repeats a write that fails, and reports it.
            if journal.write().is_err() {
                self.shared.queue.lease().doubt();
            }
        }
        let _ = self
            .shared
            .reports
            .send(Report::Ended { task, end, suspect });
    }

    /// Whether others have taken over: checked only when the lease has run out. When that
    /// is unknown, the end is recorded: a session that was fenced settles none.
    fn is_fenced(&self) -> bool {
        // The ledger checks it under the lock right now, where others may take over.
        let (lease, since) = (self.shared.queue.lease(), Instant::now());
        while !lease.is_valid()
            && !lease.is_revoked()
            && since.elapsed() < ASKED
            && !self.shared.queue.is_closed_within(ASK_EVERY)
        {}
        if lease.is_valid() {
            return false;
        }
        if lease.is_revoked() {
            return true;
        }
        let dir = self.shared.records.clone();
        let farmer = self.shared.journal.lock().farmer().to_owned();
        has_departed(&dir, &farmer).unwrap_or(false)
    }

    /// One attempt of a task; `None` when it was not started because nothing
    /// may start any more, or because it was cancelled.
    fn attempt(&mut self, task: &Task) -> Option<(End, Option<Instant>)> {
        let unknown = match self.is_done(task) {
            Ok(None) => None,
            Ok(Some(file)) => return Some((self.skip(task, file), None)),
            Err(error) => Some(error?),
        };
        let permits = self.shared.permits.clone();
        let permit = permits.as_deref().map(LogPermits::acquire);
        let log = self.open_log(task)?;
        let wanted = self.staging.wanted(task);
        let unknown = unknown.or_else(|| self.staging.prepare(wanted.as_ref()?).err());
        let (start, folder) = match unknown {
            None => self.start_in_folder(task, wanted.as_ref(), &log),
            Some(why) => (Started::Cannot { code: 126, why }, None),
        };
        if let Started::Cannot { why, .. } = &start {
            log.say(why);
        }
        let log = log.release();
        drop(permit);
        let (started, ended) = match start {
            Started::Runs { pid, at } => {
                self.shared.log_start(task, at, self.number, pid);
                let stopped = |signal| {
                    self.shared.send(Event::Stopped(Stopped {
                        at: Instant::now(),
                        slot: self.number,
                        id: task.id,
                        pid,
                        signal,
                    }));
                };
                let process = &self.shared.processes[self.number as usize];
                let ended = process.wait(pid, stopped, || self.row.set(0));
                (at, Ok(ended))
            }
            Started::Cannot { code, .. } => (Instant::now(), Err(code)),
            Started::NotNow => {
                self.logs.close(log, task, true);
                if let Some((dirs, folder)) = self.dirs.as_mut().zip(folder) {
                    dirs.unused(folder);
                }
                return None;
            }
        };
        let now = Instant::now();
        self.note_memory(&ended, &log);
        let (outcome, used) = match ended {
            Ok(ended) => (self.outcome(&ended), Some(ended.used)),
            Err(code) => (Outcome::NotStarted(code), None),
        };
        let outcome = self.bring_results(task, wanted.as_ref(), folder.as_deref(), outcome, &log);
        self.explain(&outcome, &log);
        let dirs = self.dirs.as_mut().zip(folder);
        let dir = dirs.and_then(|(dirs, folder)| dirs.end(folder, &outcome));
        let mut end = End {
            dir,
            ..self.record(task, log, (started, now), outcome, used)
        };
        let is_suspect = is_suspect(&end.outcome);
        if end.outcome.is_failure() && !is_suspect {
            self.shared.decide_again(task, &mut end);
            self.shared
                .send(Event::TaskFailed(FailedAttempt::of(task, &end)));
        }
        Some((end, is_suspect.then_some(now)))
    }

    /// Brings what an attempt has made into the workdir, if it has finished. How it ended: it has
    /// failed without what it was to make.
    fn bring_results(
        &self,
        task: &Task,
        wanted: Option<&Wanted>,
        folder: Option<&Path>,
        outcome: Outcome,
        log: &Written,
    ) -> Outcome {
        let wanted = wanted.filter(|wanted| !wanted.outputs.is_empty());
        let Some(wanted) = wanted.filter(|_| outcome == Outcome::Exit(0)) else {
            return outcome;
        };
        let folder = folder.unwrap_or(&self.staging.base);
        match self
            .results
            .bring(task, wanted, folder, || !self.is_fenced())
        {
            Ok(notes) => {
                for note in notes {
                    self.logs.say_to(log, &note);
                }
                outcome
            }
            Err(why) => {
                let text = format!("it ended with exit status 0, and has failed: {why}");
                self.logs.say_to(log, &text);
                Outcome::NoResult
            }
        }
    }

    /// Says in the log of a task what its exit status means to its runner.
    fn explain(&self, outcome: &Outcome, log: &Written) {
        if let (Some(wrapper), Outcome::Exit(code)) = (&self.wrapper, outcome)
            && let Some(meaning) = wrapper.meaning(*code)
        {
            let name = &wrapper.name;
            let text = format!("exit status {code} of the runner '{name}': {meaning}");
            self.logs.say_to(log, &text);
        }
    }

    /// The killing of a task by its memory limit, for its log.
    fn note_memory(&self, ended: &Result<ProcessEnd, i32>, log: &Written) {
        if let Ok(ProcessEnd {
            stop_reason: Some(StopReason::Memory(used)),
            ..
        }) = ended
        {
            let (used, limit) = (show_kib(*used), show_kib(self.mem_kib));
            let text = format!("killed: it had {used} of memory, and its limit is {limit}");
            self.logs.say_to(log, &text);
        }
    }

    /// The file by which a task is known to be done (`creates`), where it has one and that is
    /// there. It proves nothing when an attempt was made before, which may have been stopped
    /// while it wrote. The error says why it is not known whether the file is there: the task
    /// would do its work again, or would not do it. None: nothing may start any more.
    fn is_done(&mut self, task: &Task) -> Result<Option<String>, Option<String>> {
        let Some(file) = file_of(task) else {
            return Ok(None);
        };
        let what = format!(
            "find out whether {} of task {} is there",
            escape(file.as_bytes()),
            task.id
        );
        match self.try_for_a_while(&what, |_| exists(Path::new(&file))) {
            Ok(is_there) => Ok(is_there.then_some(file)),
            Err(error) => Err(error.map(|error| format!("cannot {what}: {error}{}", hint(&error)))),
        }
    }

    /// The end of a task that was done already.
    fn skip(&self, task: &Task, file: String) -> End {
        End {
            id: task.id,
            attempt: task.attempt,
            slot: self.number,
            at: self.shared.clock.micros(Instant::now()),
            us: 0,
            outcome: Outcome::Exit(0),
            again: None,
            used: None,
            log: None,
            skipped: Some(file),
            dir: None,
            lease: None,
        }
    }

    fn record(
        &mut self,
        task: &Task,
        log: Written,
        (started, now): (Instant, Instant),
        outcome: Outcome,
        used: Option<Used>,
    ) -> End {
        let destination = outcome.destination();
        let log = self
            .logs
            .close(log, task, destination == Destination::Finished);
        let us = now.saturating_duration_since(started).as_micros();
        let us = u64::try_from(us).unwrap_or(u64::MAX);
        let has_finished = outcome == Outcome::Exit(0);
        self.shared.times.push(started, us, has_finished);
        End {
            id: task.id,
            attempt: task.attempt,
            slot: self.number,
            at: self.shared.clock.micros(started),
            us,
            outcome,
            again: None,
            used,
            log,
            skipped: None,
            dir: None,
            lease: None,
        }
    }

    fn outcome(&self, ended: &ProcessEnd) -> Outcome {
        match (ended.stop_reason, ended.status) {
            (Some(StopReason::TimeLimit), _) => Outcome::TimeLimit,
            (Some(StopReason::Memory(_)), _) => Outcome::OutOfMemory,
            (Some(StopReason::Cancel), _) => Outcome::Cancelled,
            (Some(StopReason::Stop), _) => Outcome::Interrupted,
            // A shell whose child was killed ends with exit status 137.
            (None, Status::Signaled(9) | Status::Exited(137)) if self.shared.oom.explain_end() => {
                Outcome::OutOfMemory
            }
            (None, Status::Exited(code)) => Outcome::Exit(code),
            (None, Status::Signaled(signal)) => Outcome::Signal(signal),
            (None, Status::Unknown) => Outcome::Unknown,
        }
    }

    /// Opens the log of the task; without one the workdir cannot be used.
    fn open_log(&mut self, task: &Task) -> Option<OpenLog> {
        // Words only where they are needed: this is done for each task.
        let error = match self.logs.open(task) {
            Ok(log) => return Some(log),
            Err(error) => error,
        };
        let file = format!("a log of task {} in {}", task.id, self.logs_folder());
        let mut first = Some(error);
        let opened = self.try_for_a_while(&format!("open {file}"), |slot| {
            first.take().map_or_else(|| slot.logs.open(task), Err)
        });
        match opened {
            Ok(log) => Some(log),
            Err(error) => {
                let unusable = |source| {
                    let doing = "open";
                    let error = Error::Io {
                        doing,
                        file,
                        source,
                    };
                    self.shared.send(Event::WorkdirUnusable(error));
                };
                error.map(unusable);
                None
            }
        }
    }

    /// Does something without which a task cannot be started. When it fails, the slot tries
    /// again up to a time limit, and then returns the error; none when nothing may start any
    /// more. A lack of resources does not stop running tasks: a task that ends releases some.
    fn try_for_a_while<T>(
        &mut self,
        what: &str,
        mut try_it: impl FnMut(&mut Self) -> io::Result<T>,
    ) -> Result<T, Option<io::Error>> {
        let (began, mut pause) = (Instant::now(), Duration::from_millis(50));
        loop {
            let error = match try_it(self) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let runs = self.shared.running().next().is_some();
            let (limit, for_how_long) = match (is_resource(&error), runs) {
                (true, true) => (Duration::MAX, "until one of our tasks ends".to_owned()),
                (false, false) => (
                    RETRY_IDLE_FOR,
                    format!("for {}", durations::show(RETRY_IDLE_FOR)),
                ),
                _ => (
                    RETRY_BUSY_FOR,
                    format!("for {}", durations::show(RETRY_BUSY_FOR)),
                ),
            };
            if began.elapsed() > limit {
                return Err(Some(error));
            }
            if pause == Duration::from_millis(400) {
                let hint = hint(&error);
                let text = format!("cannot {what}: {error}{hint}; retrying {for_how_long}");
                self.shared.warn(text);
            }
            if self.shared.queue.is_closed_within(pause) {
                return Err(None);
            }
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    fn logs_folder(&self) -> String {
        self.shared.workdir.join(LOGS).display().to_string()
    }

    /// Starts the task, in a folder of its own where that is asked for. Without one it is not
    /// started.
    fn start_in_folder(
        &mut self,
        task: &Task,
        wanted: Option<&Wanted>,
        log: &OpenLog,
    ) -> (Started, Option<PathBuf>) {
        let Some(dirs) = self.dirs.take() else {
            return (self.start(task, log, None), None);
        };
        let what = format!(
            "make the folder of task {} in {}",
            task.id,
            dirs.base().display()
        );
        let cannot = |error: io::Error| {
            let why = format!("cannot {what}: {error}{}", hint(&error));
            Started::Cannot { code: 126, why }
        };
        let started = match self.try_for_a_while(&what, |_| dirs.make(task)) {
            Err(None) => (Started::NotNow, None),
            Err(Some(error)) => (cannot(error), None),
            Ok(folder) => {
                self.env.set_folder(&folder);
                if let Some(Err(why)) = wanted.map(|wanted| self.staging.link(wanted, &folder)) {
                    self.dirs = Some(dirs);
                    return (Started::Cannot { code: 126, why }, Some(folder));
                }
                let started = dirs.within(&folder, || self.start(task, log, Some(&folder)));
                (started.unwrap_or_else(cannot), Some(folder))
            }
        };
        self.dirs = Some(dirs);
        started
    }

    fn start(&mut self, task: &Task, log: &OpenLog, folder: Option<&Path>) -> Started {
        let (command, said) = split(&task.line);
        self.wrapper = match self.wrapping.runner(said) {
            Ok(wrapper) => wrapper,
            Err(why) => return Started::Cannot { code: 126, why },
        };
        if let Some(wrapper) = self.wrapper.clone() {
            return self.start_wrapped(&wrapper, task, log, folder);
        }
        let how = match self.runner.to_argv(command) {
            How::Script => match self.write_script(task) {
                Ok(script) => self.runner.script_exec(&script),
                Err(error) => {
                    let why = format!("its line could not be written to a file: {error}");
                    return Started::Cannot { code: 126, why };
                }
            },
            how => how,
        };
        let (program, argv) = match how {
            How::Exec { program, argv } => (program, argv),
            How::Cannot { code, why } => return Started::Cannot { code, why },
            How::Script => unreachable!("a script is executed by the shell"),
        };
        let started = self.spawn(task, &program, &argv, None, log);
        match started {
            Err(Errno::ENOEXEC) => match self.runner.shell_exec(task.command()) {
                How::Exec { program, argv } => {
                    let again = self.spawn(task, &program, &argv, None, log);
                    again.unwrap_or_else(|errno| Started::cannot(&program, errno))
                }
                _ => Started::cannot(&program, Errno::ENOEXEC),
            },
            Err(errno) => Started::cannot(&program, errno),
            Ok(started) => started,
        }
    }

    /// Starts the task by a runner that is not the default one.
    fn start_wrapped(
        &mut self,
        wrapper: &Wrapper,
        task: &Task,
        log: &OpenLog,
        folder: Option<&Path>,
    ) -> Started {
        if wrapper.needs_folder && folder.is_none() {
            let why = format!(
                "the runner '{}' needs a folder for each task: run pytf with --task-dir",
                wrapper.name
            );
            return Started::Cannot { code: 126, why };
        }
        let values = self.wrapping.values(task, self.number, folder);
        match self.runner.wrapped(wrapper, &values) {
            How::Exec { program, argv } => {
                let started = self.spawn(task, &program, &argv, Some(wrapper), log);
                started.unwrap_or_else(|errno| Started::cannot(&program, errno))
            }
            How::Cannot { code, why } => Started::Cannot { code, why },
            How::Script => unreachable!("only the default runner writes scripts"),
        }
    }

    /// Spawns the task. On a busy node the slot tries again, and that does not count as an
    /// attempt.
    fn spawn(
        &mut self,
        task: &Task,
        program: &CString,
        argv: &[CString],
        wrapper: Option<&Wrapper>,
        log: &OpenLog,
    ) -> Result<Started, Errno> {
        self.env.set_task(task);
        let env = wrapper.map(|wrapper| wrapper.environment(self.env.all()));
        let mut pause = Duration::from_millis(10);
        loop {
            if self.shared.cancelled.contains(task.id, task.attempt) {
                return Ok(Started::NotNow);
            }
            let at = Instant::now();
            let null: &File = self.logs.null();
            let spawn = Spawn {
                program,
                argv,
                env: env.as_deref().unwrap_or_else(|| self.env.all()),
                stdin: null.as_fd(),
                stdout: log.stdout(),
                stderr: log.stderr(),
            };
            match spawn.start() {
                Ok(pid) => {
                    self.row.set(pid.as_raw());
                    let (id, attempt) = (task.id, task.attempt);
                    let running = Running {
                        pid,
                        id,
                        attempt,
                        started: at,
                        stop_reason: None,
                        noted: false,
                        limit: self.limit,
                        mem_kib: self.mem_kib,
                    };
                    let process = &self.shared.processes[self.number as usize];
                    process.set(running);
                    // Who asked all to end in between has not found it.
                    if self.shared.is_ending.load(Ordering::SeqCst) {
                        process.stop(StopReason::Stop, &[Signal::SIGTERM, Signal::SIGCONT]);
                    }
                    // Whoever cancelled it in between has not found it.
                    if self.limit.is_some() || self.shared.cancelled.contains(id, attempt) {
                        self.shared.send(Event::LimitRuns);
                    }
                    return Ok(Started::Runs { pid, at });
                }
                Err(errno) if is_passing(errno) => {
                    if pause > Duration::from_millis(500) {
                        let (why, hint) = (errno.desc(), hint(&errno.into()));
                        let text =
                            format!("cannot start task {} yet: {why}{hint}; retrying", task.id);
                        self.shared.warn(text);
                    }
                    if self.shared.queue.is_closed_within(pause) {
                        return Ok(Started::NotNow);
                    }
                    pause = (pause * 2).min(Duration::from_secs(10));
                }
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Writes the task's command to a file; where it is, for the shell.
    fn write_script(&self, task: &Task) -> std::io::Result<PathBuf> {
        self.shared.dir.make_dir(SCRIPTS)?;
        let name = format!("{SCRIPTS}/task_{}", task.id);
        // Not into an existing file: the shell of an earlier attempt may still read it.
        self.shared.dir.remove(&name)?;
        let file = self.shared.dir.open(&name, Open::CreateNew)?;
        file.write_at(&[task.command(), b"\n"].concat(), 0)?;
        Ok(self.shared.workdir.join(name))
    }
}

/// The file that a task creates, if that would prove that it is done: before its first attempt.
fn file_of(task: &Task) -> Option<String> {
    let (_, text) = split(&task.line);
    let attributes = text.filter(|_| task.attempt == 1).map(Attributes::parse);
    attributes?.ok()?.creates
}

/// Whether there is something of this name, seen from the folder in which the farm was started.
fn exists(path: &Path) -> io::Result<bool> {
    match std::fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

enum Started {
    Runs { pid: nix::unistd::Pid, at: Instant },
    Cannot { code: i32, why: String },
    NotNow,
}

impl Started {
    fn cannot(program: &CString, errno: Errno) -> Self {
        let program = Path::new(std::ffi::OsStr::from_bytes(program.as_bytes()));
        let (code, why) = explain::spawn_error(program, errno as i32);
        Self::Cannot { code, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::task::TaskId;

    /// An attempt that was stopped may have left a part of the file.
    #[test]
    fn a_file_proves_something_before_the_first_attempt_only() {
        let file = |line: &str, attempt| {
            let task = Task {
                id: TaskId(1),
                line: line.as_bytes().to_vec(),
                attempt,
                failures: 0,
            };
            file_of(&task)
        };
        assert_eq!(file("make a", 1), None);
        assert_eq!(file("make a #PYTF cpus=2", 1), None);
        let line = "make a #PYTF cpus=2 creates=out/a";
        assert_eq!(file(line, 1).as_deref(), Some("out/a"));
        assert_eq!(file(line, 2), None);
    }

    /// What cannot be found out is neither: the task would be done twice, or not at all.
    #[test]
    fn an_error_does_not_say_that_a_file_is_absent() {
        let folder = tempfile::tempdir().unwrap();
        let is_there = |name: &str| exists(&folder.path().join(name)).map_err(|error| error.kind());
        std::fs::write(folder.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("loop", folder.path().join("loop")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("dangling")).unwrap();
        assert_eq!(is_there("file"), Ok(true));
        assert_eq!(is_there("."), Ok(true));
        for absent in ["none", "file/none", "dangling"] {
            assert_eq!(is_there(absent), Ok(false), "{absent}");
        }
        assert!(is_there("loop").is_err());
        assert!(is_there(&"long".repeat(100)).is_err());
    }
}
