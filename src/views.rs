//! The commands that only read a workdir: from the command line to the output and an exit
//! status.

use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use crossbeam_channel::never;
use pytf::cli::{Export, Format, Report, Status, Timeline, Wait, Watch};
use pytf::exit::RunExit;
use pytf::history::ended::Ended;
use pytf::history::run::counts::Counts;
use pytf::history::run::{Run, RunError};
use pytf::model::durations;
use pytf::model::escape::{clip, escape};
use pytf::model::figures::grouped;
use pytf::model::ids::{IdSet, Ids};
use pytf::model::refusal::{hint, is_resource};
use pytf::screens;
use pytf::screens::export;
use pytf::screens::report;
use pytf::screens::status::{self, Form, Section, StatusError};
use pytf::screens::timeline::{self, Options};
use pytf::screens::wait::{Done, Waited};
use pytf::screens::watch::{self, WatchError};
use pytf::ui::progress::warn;
use pytf::ui::style::{OutputStyle, Terminal};
use pytf::ui::summary::quoted;

/// Why a view was not shown, and the status to end with.
pub(crate) struct Failed {
    text: String,
    exit: RunExit,
}

impl Failed {
    fn new(text: impl std::fmt::Display, exit: RunExit) -> Self {
        let text = text.to_string();
        Self { text, exit }
    }
}

/// Reports the error; returns the exit status.
pub(crate) fn exit(done: Result<(), Failed>) -> RunExit {
    done.map_or_else(
        |failed| {
            if !failed.text.is_empty() {
                warn(&failed.text);
            }
            failed.exit
        },
        |()| RunExit::Complete,
    )
}

impl From<RunError> for Failed {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Io(error) => error.into(),
            error @ RunError::NoWorkdir(_) => Self::new(error, RunExit::WorkdirUnusable),
        }
    }
}

impl From<StatusError> for Failed {
    fn from(error: StatusError) -> Self {
        match error {
            StatusError::Run(error) => error.into(),
            StatusError::Io(error) => error.into(),
            error @ StatusError::NoTask(_) => Self::new(error, RunExit::Usage),
        }
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        // A reader may close the pipe at any time: that is not an error.
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new("", RunExit::Complete);
        }
        let exit = if is_resource(&error) {
            RunExit::System
        } else {
            RunExit::WorkdirUnusable
        };
        Self::new(format!("{error}{}", hint(&error)), exit)
    }
}

/// `pytf status`
pub(crate) fn status(args: &Status) -> Result<(), Failed> {
    let terminal = Terminal::of_stdout();
    let mut style = OutputStyle::new(terminal, |name| std::env::var(name).ok());
    if (args.failed || args.running) && !terminal.is_terminal {
        // For a search in a table lines are whole.
        style.width = usize::MAX;
    }
    let form = match args.form() {
        Format::Text => Form::Text(style),
        Format::Json => Form::Json,
        Format::Csv => Form::Csv,
        Format::Tsv => Form::Tsv,
    };
    let part = match (args.task, args.failed) {
        (Some(id), _) => Section::Task(id),
        (None, true) => Section::Failed,
        (None, false) if args.running => Section::Running,
        (None, false) => Section::Whole,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    Ok(status::show(&args.workdir, part, form, &mut out)?)
}

/// `pytf watch`
pub(crate) fn watch(args: &Watch) -> Result<(), Failed> {
    let terminal = Terminal::of_stdout();
    if !terminal.is_real(std::env::var("TERM").ok().as_deref()) {
        let text = format!(
            "watch needs a terminal as standard output (see TERM); pytf status {} shows the \
             run anywhere",
            quoted(&escape(args.workdir.as_os_str().as_encoded_bytes()))
        );
        return Err(Failed::new(text, RunExit::Usage));
    }
    let style = OutputStyle::new(terminal, |name| std::env::var(name).ok());
    match watch::watch(&args.workdir, style) {
        Ok(None) => Ok(()),
        // The terminal is restored: now the signal may end the process.
        Ok(Some(signal)) => Ok(signal_hook::low_level::emulate_default_handler(signal)?),
        Err(error @ WatchError::System(_)) => Err(Failed::new(error, RunExit::System)),
        Err(error @ WatchError::Reader) => Err(Failed::new(error, RunExit::Bug)),
        Err(WatchError::Run(error)) => Err(error.into()),
        Err(error @ WatchError::Terminal(_)) => Err(Failed::new(error, RunExit::Usage)),
    }
}

/// `pytf wait`: the exit status is that of the run, or of the tasks that were named.
pub(crate) fn wait(args: &Wait) -> RunExit {
    let timeout = args.timeout.filter(|timeout| !timeout.is_zero());
    let pause = |time| {
        let _ = never::<()>().recv_timeout(time);
    };
    let mut tasks = IdSet::default();
    args.tasks.iter().for_each(|ids| tasks.insert(ids));
    let tasks = (!args.tasks.is_empty()).then(|| tasks.ids());
    let Done { waited, run, ended } =
        match screens::wait::wait(&args.workdir, tasks, timeout, pause) {
            Ok(done) => done,
            Err(error) => return exit(Err(error.into())),
        };
    let counts = &run.counts;
    let ended = ended.unwrap_or(Ended {
        finished: counts.finished,
        failed: counts.failed,
        cancelled: counts.cancelled,
        left: counts.left(),
    });
    let text = figures(&ended);
    let paused = if run.is_paused() {
        ", and the run is paused (pytf resume)"
    } else {
        ""
    };
    let rest = format!("{text}, {} to go{paused}", grouped(ended.left));
    let word = if args.tasks.is_empty() {
        "complete"
    } else {
        "ended"
    };
    let (text, status) = match waited {
        Waited::Complete | Waited::Ended => {
            let dropped = match ended.left {
                0 => String::new(),
                n => format!(", {} dropped from the list", grouped(n)),
            };
            let said = writeln!(io::stdout(), "{word}: {text}{dropped}");
            return match exit(said.map_err(Failed::from)) {
                RunExit::Complete if ended.failed + ended.cancelled > 0 => RunExit::SomeFailed,
                exit => exit,
            };
        }
        // The farm has ended with 1, too.
        Waited::Abandoned if args.tasks.is_empty() && ended.left == counts.blocked => (
            format!("{rest}: what is left waits for tasks that failed (pytf retry)"),
            RunExit::SomeFailed,
        ),
        Waited::Abandoned => (
            format!("no process works on the run: {rest}; run the same command again"),
            RunExit::WorkLeft,
        ),
        Waited::TimedOut => {
            let timeout = durations::show(timeout.unwrap_or_default());
            let text = format!("not {word} after {timeout}: {rest}");
            (text, RunExit::WorkLeft)
        }
        Waited::Unreadable(problem) => (problem, RunExit::WorkdirUnusable),
        Waited::Unknown(ids) => (unknown(counts, &ids), RunExit::Usage),
        Waited::Dropped(ids) => {
            let ids = clip(&ids.to_string(), SHOWN);
            let text = format!("will not run: {ids}; their lines are no longer in the task list");
            (text, RunExit::Usage)
        }
    };
    exit(Err(Failed::new(text, status)))
}

/// How many have ended, and how.
fn figures(ended: &Ended) -> String {
    let mut text = format!(
        "{} finished, {} failed",
        grouped(ended.finished),
        grouped(ended.failed)
    );
    if ended.cancelled > 0 {
        text += &format!(", {} cancelled", grouped(ended.cancelled));
    }
    text
}

/// How much of a list of ids is shown.
const SHOWN: usize = 60;

fn unknown(counts: &Counts, ids: &Ids) -> String {
    let known = counts.state.as_ref().map_or(0, |state| state.tasks.lines);
    let known = match known.checked_sub(1) {
        None => "no tasks".to_owned(),
        Some(last) => format!("the tasks 0-{last}"),
    };
    let ids = clip(&ids.to_string(), SHOWN);
    format!("not in the run: {ids}; it has {known}")
}

/// `pytf export`
pub(crate) fn export(args: &Export) -> Result<(), Failed> {
    let form = if args.joblog {
        export::Form::Joblog
    } else if args.csv {
        export::Form::Csv
    } else {
        export::Form::Jsonl
    };
    let path = args.output.as_deref().unwrap_or(Path::new("-"));
    let tasks = args.tasks.then(|| {
        let mut ids = IdSet::default();
        args.ids.iter().for_each(|some| ids.insert(some));
        (!args.ids.is_empty()).then_some(ids)
    });
    let damaged = match tasks {
        Some(ids) => export::write_tasks(&args.workdir, ids.as_ref(), form, path)?,
        None => export::write_file(&args.workdir, form, path)?,
    };
    if damaged > 0 {
        warn(&format!(
            "{damaged} lines of the journals are not records, what they recorded is missing: \
             pytf status names them"
        ));
    }
    Ok(())
}

/// The timeline that a farm leaves in its workdir; what of an earlier one is not in it.
pub(crate) fn write_timeline(run: &Run) -> io::Result<Option<String>> {
    timeline::write(run).map(|written| written.left_out)
}

/// `pytf timeline`
pub(crate) fn timeline(args: &Timeline) -> Result<(), Failed> {
    let wishes = Options {
        since: args.since,
        gzip: args.gzip,
    };
    let run = Run::open(&args.workdir)?;
    let ending = if wishes.gzip { ".gz" } else { "" };
    let own = || {
        let name = format!("{}{ending}", timeline::NAME);
        args.workdir.join(name)
    };
    let path = args.output.clone().unwrap_or_else(own);
    let written = timeline::write_file(&run, &path, wishes)?;
    if let Some(left_out) = &written.left_out {
        warn(left_out);
    }
    for (path, damage) in &written.damage {
        warn(&format!(
            "{}: {} lines are not records, the first is line {}",
            path.display(),
            damage.lines,
            damage.first.unwrap_or(0)
        ));
    }
    if written.merged > 0 {
        warn(&format!(
            "{} short tasks are drawn together: viewers hold no more than a million slices",
            written.merged
        ));
    }
    let slices = if written.slices == 1 {
        "slice"
    } else {
        "slices"
    };
    let path = written.path.display();
    warn(&format!("{} {slices} in {path}", written.slices));
    Ok(())
}

/// `pytf report`
pub(crate) fn report(args: &Report) -> Result<(), Failed> {
    let own = || args.workdir.join(report::NAME);
    let path = args.output.clone().unwrap_or_else(own);
    report::write_file(&args.workdir, &path)?;
    if path != Path::new("-") {
        warn(&format!("the report is {}", path.display()));
    }
    Ok(())
}
