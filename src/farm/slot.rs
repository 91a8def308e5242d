//! The life of a slot: take a task, open its log, spawn, wait, report, take the
//! next.
//!
//! A slot does everything that may block for its task and decides nothing but
//! how an attempt ended. Between two tasks it waits for nobody.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use nix::errno::Errno;

use super::clock::Clock;
use super::gates::Gates;
use super::ledger::{PATIENCE_BUSY, PATIENCE_IDLE};
use super::logs::{Doors, OpenLog, SlotLogs, Written};
use super::message::{Event, Failure, Places, Report, Stopped};
use super::queue::Queue;
use super::task_env::TaskEnv;
use super::walltime::Took;
use crate::host::cpus;
use crate::host::guard::Row;
use crate::host::memory::OomKills;
use crate::host::process::{Ended, Running, Spawn, Status, Told, is_passing};
use crate::model::durations;
use crate::model::interruption::is_suspect;
use crate::model::outcome::{Destination, Outcome};
use crate::model::record::{End, Record, Used};
use crate::model::refusal::{hint, is_resource};
use crate::model::task::Task;
use crate::runner::{How, Runner, explain};
use crate::workdir::error::Error;
use crate::workdir::fs::{Dir, Open, RealDir};
use crate::workdir::journal::SharedJournal;
use crate::workdir::layout::{LOGS, SCRIPTS};
use crate::workdir::membership::has_departed;

/// For so long an end that comes after a long silence waits for the ledger to ask whether
/// others have taken our tasks over.
const ASKED: Duration = Duration::from_secs(1);
const ASK_EVERY: Duration = Duration::from_millis(2);

/// What all slots of a farmer share.
pub(super) struct SlotContext {
    /// Where tasks come from.
    pub queue: Arc<Queue>,
    /// The running process of each slot.
    pub places: Places,
    /// Limits the number of open files, where few may be open.
    pub doors: Option<Arc<Doors>>,
    /// The absolute path of the workdir, for tasks and for messages.
    pub workdir: Arc<PathBuf>,
    /// The workdir.
    pub dir: Arc<RealDir>,
    /// The farmer's clock.
    pub clock: Clock,
    /// Evidence of kills for lack of memory.
    pub oom: Arc<OomKills>,
    /// How long tasks ran in all slots, in microseconds.
    pub busy: Arc<AtomicU64>,
    /// How long each task took.
    pub took: Arc<Took>,
    /// The farmer's journal.
    pub journal: SharedJournal,
    /// To the ledger.
    pub reports: Sender<Report>,
    /// To the supervisor.
    pub events: Sender<Event>,
}

/// What one slot works with.
pub(super) struct Slot {
    /// Its number.
    pub number: u32,
    /// What it shares with the other slots.
    pub shared: Arc<SlotContext>,
    /// Its row in the table of the guard.
    pub row: Row,
    /// How lines become programs.
    pub runner: Runner,
    /// Where its tasks print.
    pub logs: SlotLogs,
    /// The environment of its tasks.
    pub env: TaskEnv,
    /// The CPUs that its tasks are bound to.
    pub cpus: Option<Vec<usize>>,
    /// Where it waits for its GPUs.
    pub gates: Option<Arc<Gates>>,
}

impl Slot {
    /// Runs tasks until the queue is closed.
    pub(super) fn run(mut self) {
        self.bind();
        while let Some(task) = self.next() {
            match self.attempt_with_devices(&task) {
                Some((end, suspect)) => self.report(task, end, suspect),
                None => drop(self.shared.reports.send(Report::Unstarted(task))),
            }
        }
        let _ = self.shared.events.send(Event::SlotDone);
    }

    /// Binds this thread to the slot's CPUs: what it spawns inherits that.
    fn bind(&self) {
        let Some(cpus) = &self.cpus else { return };
        if let Err(error) = cpus::bind(cpus) {
            let text = format!(
                "slot {} cannot be bound to its CPUs: {}",
                self.number,
                error.desc()
            );
            let _ = self.shared.events.send(Event::Say(text));
        }
    }

    /// The next task, once the slot's devices may be used.
    fn next(&self) -> Option<Task> {
        let slot = self.number as usize;
        if let Some(gates) = &self.gates
            && !self.shared.queue.is_open_for(|| gates.are_open(slot))
        {
            return None;
        }
        self.shared.queue.take()
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

    /// Writes the end into the journal, where it survives us, and tells the
    /// ledger of it; ends that are suspect are the ledger's to write.
    fn report(&self, task: Task, end: End, suspect: Option<Instant>) {
        if self.is_sealed() {
            // It runs elsewhere by now; the ledger is about to find out.
            return;
        }
        let mut journal = self.shared.journal.lock();
        if suspect.is_none() {
            journal.push(&Record::End(end.clone()));
            // A write that fails is tried again, and told, by the ledger.
            if journal.write().is_err() {
                self.shared.queue.life().doubt();
            }
        }
        let _ = self
            .shared
            .reports
            .send(Report::Ended { task, end, suspect });
    }

    /// Whether others have taken our tasks over: asked after a long silence only. Where
    /// nobody can tell, the end is recorded: a session that is over settles none.
    fn is_sealed(&self) -> bool {
        // The ledger asks under the lock right now, and who seals us may be about to.
        let (life, since) = (self.shared.queue.life(), Instant::now());
        while !life.is_good()
            && !life.is_over()
            && since.elapsed() < ASKED
            && !self.shared.queue.is_closed_within(ASK_EVERY)
        {}
        if life.is_good() {
            return false;
        }
        if life.is_over() {
            return true;
        }
        let dir: Arc<dyn Dir> = self.shared.dir.clone();
        let farmer = self.shared.journal.lock().farmer().to_owned();
        has_departed(&dir, &farmer).unwrap_or(false)
    }

    /// One attempt of a task; `None` when it was not started because nothing
    /// may start any more.
    fn attempt(&mut self, task: &Task) -> Option<(End, Option<Instant>)> {
        let doors = self.shared.doors.clone();
        let pass = doors.as_deref().map(Doors::enter);
        let log = self.open_log(task)?;
        let how = self.runner.prepare(&task.line);
        let start = self.start(task, how, &log);
        if let Started::Cannot { why, .. } = &start {
            log.say(why);
        }
        let log = log.release();
        drop(pass);
        let (started, ended) = match start {
            Started::Runs { pid, at } => {
                let stopped = |signal| {
                    let _ = self.shared.events.send(Event::Stopped(Stopped {
                        at: Instant::now(),
                        slot: self.number,
                        id: task.id,
                        pid,
                        signal,
                    }));
                };
                let place = &self.shared.places[self.number as usize];
                let ended = place.wait(pid, stopped, || self.row.set(0));
                (at, Ok(ended))
            }
            Started::Cannot { code, .. } => (Instant::now(), Err(code)),
            Started::NotNow => {
                self.logs.close(log, task, true);
                return None;
            }
        };
        let now = Instant::now();
        let (outcome, used) = match ended {
            Ok(ended) => (self.outcome(&ended), Some(ended.used)),
            Err(code) => (Outcome::NotStarted(code), None),
        };
        let end = self.record(task, log, (started, now), outcome, used);
        let is_suspect = is_suspect(&end.outcome);
        if end.outcome.destination() == Destination::Failed && !is_suspect {
            let _ = self
                .shared
                .events
                .send(Event::TaskFailed(Failure::of(task, &end)));
        }
        Some((end, is_suspect.then_some(now)))
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
        self.shared.busy.fetch_add(us, Ordering::Relaxed);
        if outcome == Outcome::Exit(0) {
            self.shared.took.push(started, Duration::from_micros(us));
        }
        End {
            id: task.id,
            attempt: task.attempt,
            slot: self.number,
            at: self.shared.clock.micros(started),
            us,
            outcome,
            used,
            log,
        }
    }

    fn outcome(&self, ended: &Ended) -> Outcome {
        match (ended.told, ended.status) {
            (Some(Told::TimeLimit), _) => Outcome::TimeLimit,
            (Some(Told::Stop), _) => Outcome::Interrupted,
            // A shell whose child was killed says 137 for it.
            (None, Status::Signaled(9) | Status::Exited(137)) if self.shared.oom.explain_end() => {
                Outcome::OutOfMemory
            }
            (None, Status::Exited(code)) => Outcome::Exit(code),
            (None, Status::Signaled(signal)) => Outcome::Signal(signal),
            (None, Status::Unknown) => Outcome::Unknown,
        }
    }

    /// Opens the task's log; a workdir that refuses is tried again until it
    /// yields or the farm stops, which it does when that lasts. A refused resource
    /// is no reason to stop what runs: a task that ends gives some back.
    fn open_log(&mut self, task: &Task) -> Option<OpenLog> {
        let (began, mut pause) = (Instant::now(), Duration::from_millis(50));
        loop {
            let error = match self.logs.open(task) {
                Ok(log) => return Some(log),
                Err(error) => error,
            };
            let runs = self
                .shared
                .places
                .iter()
                .any(|place| place.look().is_some());
            let (patience, for_long) = match (is_resource(&error), runs) {
                (true, true) => (Duration::MAX, "until one of our tasks ends".to_owned()),
                (false, false) => (PATIENCE_IDLE, durations::show(PATIENCE_IDLE)),
                _ => (PATIENCE_BUSY, durations::show(PATIENCE_BUSY)),
            };
            if began.elapsed() > patience {
                let file = format!("a log of task {} in {}", task.id, self.logs_folder());
                let (doing, source) = ("open", error);
                let error = Error::Io {
                    doing,
                    file,
                    source,
                };
                let _ = self.shared.events.send(Event::Trouble(error));
                return None;
            }
            if pause == Duration::from_millis(400) {
                let (folder, hint) = (self.logs_folder(), hint(&error));
                let text = format!(
                    "cannot open a log of task {} in {folder}: {error}{hint}; trying on for {for_long}",
                    task.id
                );
                let _ = self.shared.events.send(Event::Warn(text));
            }
            if self.shared.queue.is_closed_within(pause) {
                return None;
            }
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    fn logs_folder(&self) -> String {
        self.shared.workdir.join(LOGS).display().to_string()
    }

    fn start(&mut self, task: &Task, how: How, log: &OpenLog) -> Started {
        let how = match how {
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
        let started = self.spawn(task, &program, &argv, log);
        match started {
            Err(Errno::ENOEXEC) => match self.runner.shell_exec(&task.line) {
                How::Exec { program, argv } => {
                    let again = self.spawn(task, &program, &argv, log);
                    again.unwrap_or_else(|errno| Started::cannot(&program, errno))
                }
                _ => Started::cannot(&program, Errno::ENOEXEC),
            },
            Err(errno) => Started::cannot(&program, errno),
            Ok(started) => started,
        }
    }

    /// Spawns; a node that is busy is tried again, and no attempt is charged.
    fn spawn(
        &mut self,
        task: &Task,
        program: &CString,
        argv: &[CString],
        log: &OpenLog,
    ) -> Result<Started, Errno> {
        self.env.set_task(task);
        let mut pause = Duration::from_millis(10);
        loop {
            let at = Instant::now();
            let null: &File = self.logs.null();
            let spawn = Spawn {
                program,
                argv,
                env: self.env.all(),
                stdin: null.as_fd(),
                stdout: log.fd(),
                stderr: log.fd(),
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
                        told: None,
                        noted: false,
                    };
                    self.shared.places[self.number as usize].enter(running);
                    return Ok(Started::Runs { pid, at });
                }
                Err(errno) if is_passing(errno) => {
                    if pause > Duration::from_millis(500) {
                        let (why, hint) = (errno.desc(), hint(&errno.into()));
                        let text =
                            format!("cannot start task {} yet: {why}{hint}; trying on", task.id);
                        let _ = self.shared.events.send(Event::Warn(text));
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

    /// Writes the task's line to a file; where it is, for the shell.
    fn write_script(&self, task: &Task) -> std::io::Result<PathBuf> {
        self.shared.dir.make_dir(SCRIPTS)?;
        let name = format!("{SCRIPTS}/task_{}", task.id);
        // Never into what is there: an earlier attempt's shell may still read it.
        self.shared.dir.remove(&name)?;
        let file = self.shared.dir.open(&name, Open::CreateNew)?;
        file.write_at(&[&task.line[..], b"\n"].concat(), 0)?;
        Ok(self.shared.workdir.join(name))
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
