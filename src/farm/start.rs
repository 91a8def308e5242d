//! The start of a farm, from its options to the first task. Each step is a file of its
//! own: `source` opens the task list, `node_setup` plans the slots, `task_files` opens the
//! workdir, `prepare` and `join` make this process a farmer of the run, `rejoin` runs it.

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Sender, unbounded};

use super::clock::Clock;
use super::handler::{Maker, OUTPUT};
use super::lock_wait::{CancelToken, LockWaiter, cancellation};
use super::message::{Event, ReceivedSignals};
use super::node_commands;
use super::node_setup::{Node, task_variables};
use super::only_free;
use super::options::{Options, Order};
use super::prepare::{self, StartContext};
use super::rejoin;
use super::reserved_threads::ReservedThreads;
use super::shared::Farm;
use super::source::Source;
use super::start_error::StartError;
use super::supervisor::counts;
use super::task_files::{TaskFiles, open_workdir};
use super::threads::Member;
use crate::exit::RunExit;
use crate::history::is_workdir;
use crate::host::signals;
use crate::model::attributes::Attributes;
use crate::model::tasklist::{Dialect, TaskCheck};
use crate::runner::chosen::Runners;
use crate::ui::progress::{Mode, Progress};
use crate::ui::style::{OutputStyle, Terminal};
use crate::workdir::error::{Context, Error};
use crate::workdir::open::Workdir;
use crate::workdir::resume::ListFailure;

/// Runs a farm to its end; returns the exit status.
pub fn run(options: &Options) -> Result<RunExit, StartError> {
    let clock = Clock::start();
    let (events, inbox) = unbounded();
    // First: a signal during the start stops the farm cleanly, too.
    let (cancel, received) = listen(&events)?;
    let env = task_variables(options);
    let names = env.iter().map(|(name, _)| name.clone());
    let opened = Opened::of(options, names, None)?;
    let mut node = Node::read(options, env, opened.runners.clone())?;
    opened.source.check_for_new(&options.workdir)?;
    let threads = node.reserve_threads(opened.source.is_stream())?;
    if options.only_free {
        node.others = Some(only_free::first_look(&cancel));
    }
    let progress = begin_progress(options, &node);
    let (source, workdir) = opened.with_workdir(options)?;
    let mut farm = Farm {
        files: TaskFiles::open(&options.workdir, options, &node.runners)?,
        workdir,
        node,
        options,
        clock,
        events,
        inbox,
        received,
        cancel,
        times: Arc::default(),
        node_teardown: options.node_teardown.clone(),
    };
    let ran =
        node_commands::setup(&farm).and_then(|()| run_farm(&mut farm, progress, source, threads));
    if ran.is_err() && options.node_setup.is_some() {
        node_commands::teardown(&mut farm, None);
    }
    ran
}

/// Prepares the workdir for processes that are started elsewhere, and runs no task: a list or an
/// option that is wrong is reported once.
pub fn prepare_for_others(options: &Options, who: &str) -> Result<Workdir, StartError> {
    let names = task_variables(options).into_iter().map(|(name, _)| name);
    let opened = Opened::of(options, names, None)?;
    if opened.source.is_stream() {
        let why = "tasks from a stream cannot be run with --hosts: write them to a file, or start \
                   with --follow and use pytf add";
        return Err(Error::Refused(why.into()).into());
    }
    opened.source.check_for_new(&options.workdir)?;
    let (source, workdir) = opened.with_workdir(options)?;
    let (_keep, cancel) = cancellation();
    let mut waiter = LockWaiter::new(cancel, None, options.takeover);
    prepare::prepare_for_others(&workdir, &source, options, who, &mut waiter)?;
    Ok(workdir)
}

/// Refuses a list or options that are wrong before a workdir on another host is asked for, and
/// those that need its files here.
pub fn check_for_far(options: &Options, host: &str) -> Result<(), StartError> {
    let names = task_variables(options).into_iter().map(|(name, _)| name);
    let opened = Opened::of(options, names, Some(has_inputs_here))?;
    let is_made = !matches!(opened.maker, Maker::Own | Maker::Translate(_));
    let why = match &options.order {
        _ if opened.source.is_stream() => {
            "tasks from a stream: write them to a file, or use pytf add there"
        }
        _ if is_made => "a handler that an INI file defines: make the list with it there",
        _ if options.on_end.is_some() => "--on-end: give it to a pytf there",
        Order::LongestFirst(None) => {
            "--order longest-first: name a workdir here with an earlier run \
             (--order longest-first=DIR), or start a pytf with this option there first"
        }
        _ => match &opened.source {
            Source::File(list) => return list.check().map_err(StartError::from),
            _ => return Ok(()),
        },
    };
    let what = format!("with a workdir on {host}, pytf here cannot have {why}");
    Err(Error::Refused(what).into())
}

/// The task list, and what the options name to make it and to run its tasks.
struct Opened {
    maker: Maker,
    runners: Arc<Runners>,
    source: Source,
    /// The workdir, where the maker needs it.
    workdir: Option<Workdir>,
}

impl Opened {
    /// `variables` are the names of those that tasks inherit; `of_task` judges what is said of a task.
    fn of(
        options: &Options,
        variables: impl Iterator<Item = OsString>,
        of_task: Option<JudgeTask>,
    ) -> Result<Self, StartError> {
        check_order(options)?;
        let maker = Maker::choose(&options.handler, &options.workdir)?;
        let runners = Runners::choose(&options.runner)?;
        let dialect = judging(options.dialect(variables), &runners, of_task);
        // What a class of the user makes in it must not be taken for files of others.
        let workdir = maker.needs_workdir().then(|| open_workdir(options));
        let workdir = workdir.transpose()?;
        let source = Source::open(options, &maker, dialect)?;
        Ok(Self {
            maker,
            runners,
            source,
            workdir,
        })
    }

    /// The list and the workdir, in which there is the folder into which tasks copy their
    /// results, where the maker lets them.
    fn with_workdir(self, options: &Options) -> Result<(Source, Workdir), StartError> {
        let workdir = self.workdir.map_or_else(|| open_workdir(options), Ok)?;
        if self.maker.has_output() {
            workdir.dir.make_dir(OUTPUT).context("create", OUTPUT)?;
        }
        Ok((self.source, workdir))
    }
}

/// Says why a task of which this is said cannot be run.
type JudgeTask = fn(&Attributes) -> Result<(), String>;

/// A task that may run at once has its inputs in the current folder.
fn has_inputs_here(task: &Attributes) -> Result<(), String> {
    let is_elsewhere = task.node.is_some();
    let is_later = !(task.after.is_empty() && task.after_any.is_empty());
    let mut inputs = task.inputs.iter();
    match inputs.find(|name| !Path::new(name).is_file()) {
        Some(name) if !is_elsewhere && !is_later => Err(format!(
            "its input {name} is not a file in the current folder: with a workdir by ssh, inputs are \
             files of this machine; copy it here, or leave the list out if the task has its result \
             already"
        )),
        _ => Ok(()),
    }
}

/// A dialect that also judges the runners of tasks, and what else is said of them.
pub(super) fn judging(
    dialect: Dialect,
    runners: &Arc<Runners>,
    of_task: Option<JudgeTask>,
) -> Dialect {
    let runners = runners.clone();
    let check = move |attributes: &Attributes| {
        runners.of_task(attributes)?;
        of_task.map_or(Ok(()), |judge| judge(attributes))
    };
    Dialect {
        tasks: Some(TaskCheck::new(check)),
        ..dialect
    }
}

/// Refuses run times that are not there, before anything is made.
pub(super) fn check_order(options: &Options) -> Result<(), StartError> {
    match &options.order {
        // Where it was started from elsewhere, that is where the order was made.
        Order::LongestFirst(Some(workdir)) if options.hosted.is_none() && !is_workdir(workdir) => {
            let what = format!(
                "--order longest-first={0}: {0} is not a workdir: name that of an earlier run",
                workdir.display()
            );
            Err(ListFailure::Refused(what).into())
        }
        _ => Ok(()),
    }
}

/// Joins the run, and works on it to its end.
fn run_farm(
    farm: &mut Farm,
    progress: Progress,
    source: Source,
    threads: ReservedThreads,
) -> Result<RunExit, StartError> {
    let (options, clock) = (farm.options, farm.clock);
    let events = Some(farm.events.clone());
    let waiter = LockWaiter::new(farm.cancel.clone(), events, options.takeover);
    let mut start = StartContext {
        waiter: waiter.among(farm.node.allocation.launched()),
        farm,
        progress,
    };
    let joined = start.join(&source)?;
    let counts = counts(joined.session.state(), 0, options.follow.is_some());
    start.progress.update(clock.now(), &counts);
    let member = Member::new(joined, start);
    rejoin::run(farm, member, source, threads)
}

/// What shows the run. It begins with what was found about options and devices.
fn begin_progress(options: &Options, node: &Node) -> Progress {
    let stderr = Terminal::of_stderr();
    let var = |name: &str| std::env::var(name).ok();
    let (term, is_step) = (var("TERM"), node.allocation.is_step);
    let mode = Mode::decide(stderr, term.as_deref(), is_step, options.quiet);
    let mut progress = Progress::new(mode, OutputStyle::new(stderr, var));
    for remark in &node.plan.remarks {
        progress.say(&format!("pytf: {remark}"));
    }
    if node.allocation.speaks_for_all() {
        for text in &options.ignored {
            progress.warn(&format!("pytf: {text}"));
        }
    }
    progress
}

/// From now on signals are events, and are recorded; the first signal to stop also ends
/// waits for the lock while the farm is not yet running.
fn listen(events: &Sender<Event>) -> Result<(CancelToken, ReceivedSignals), StartError> {
    let (cancel_on_drop, cancel) = cancellation();
    let received = ReceivedSignals::default();
    let (events, noted, mut cancel_on_drop) =
        (events.clone(), received.clone(), Some(cancel_on_drop));
    let on_signal = move |signal| {
        if signal != signals::SUSPENDS {
            drop(cancel_on_drop.take());
            let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
            noted.got(Instant::now(), signal);
        }
        let _ = events.send(Event::Signal(signal));
    };
    signals::listen(on_signal).map_err(|error| StartError::System("listen for signals", error))?;
    Ok((cancel, received))
}
