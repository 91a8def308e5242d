//! argv → command → exit status.

mod add;
mod ask_hosts;
mod combine;
mod completions;
mod convert;
mod defined;
mod edit;
mod far_workdir;
mod on_hosts;
mod options;
mod spool;
mod steer;
mod views;

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use pytf::cli::{
    Cancel, CheckArgs, Cli, Command, Devices, Log, Repair, Request, Reset, Retry, default_workdir,
    nearest_command,
};
use pytf::definitions::What;
use pytf::exit::{self, RunExit};
use pytf::farm::check::{self, command_line};
use pytf::farm::inventory::inventory;
use pytf::farm::lock_wait::{LockWaiter, cancellation};
use pytf::farm::options::Options;
use pytf::farm::start;
use pytf::farm::start_error::StartError;
use pytf::host::{guard, open_files};
use pytf::model::escape::clip;
use pytf::model::far_workdir::FarWorkdir;
use pytf::model::ids::Ids;
use pytf::model::liveness::DEFAULT_TAKEOVER;
use pytf::model::refusal::hint;
use pytf::model::tasklist::Dialect;
use pytf::screens::log::{LogRequest, Output, show};
use pytf::ui::progress::warn;
use pytf::workdir::fs::Dir;
use pytf::workdir::layout::LOCK;
use pytf::workdir::layout::{NODES, TASKS};
use pytf::workdir::open::{Ownership, Workdir, open_dir};
use pytf::workdir::orders::Order;
use pytf::workdir::retry::{Wanted, retry};
use pytf::workdir::state::peek;
use pytf::workdir::{self, exclusion};
use steer::Outside;

fn main() -> ExitCode {
    exit::end_as_bug_on_panic();
    if let Some(answered) = completions::answer() {
        return printed(answered).into();
    }
    let request = match Cli::read(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(request) => request,
        Err(error) => {
            let status = u8::try_from(error.exit_code()).unwrap_or(2);
            return match printed(error.print()) {
                // An error on standard error cannot be reported anywhere.
                RunExit::Complete => ExitCode::from(status),
                failed if status == 0 => failed.into(),
                _ => ExitCode::from(status),
            };
        }
    };
    match request {
        Request::Farm {
            tasks,
            workdir,
            options,
        } => match (FarWorkdir::of(&workdir), options.hosts.clone()) {
            (Some(far), _) => far_workdir::run(far, tasks, *options),
            (None, Some(hosts)) => on_hosts::run(&hosts, tasks, workdir, *options),
            (None, None) => farm(&options::farm(tasks, workdir, *options)),
        },
        Request::Host => on_hosts::answer(),
        Request::Hosted {
            is_piped,
            place,
            options,
        } => on_hosts::hosted(is_piped, place, *options),
        Request::Check {
            tasks,
            workdir,
            options,
            check,
        } => check_list(&options::farm(tasks, workdir, *options), &check),
        Request::Command(command) => {
            // It starts no process that would inherit it.
            open_files::raise();
            run(command)
        }
        Request::Guard(words) => {
            let words = words.iter().map(|word| word.to_string_lossy());
            guard::run(&words.map(Cow::into_owned).collect::<Vec<_>>());
            RunExit::Complete
        }
    }
    .into()
}

/// Runs a command beside the farm.
fn run(mut command: Command) -> RunExit {
    if let Some(exit) = command
        .workdir_mut()
        .and_then(|path| far_workdir::refuse_command(path))
    {
        return exit;
    }
    // A task list in place of a workdir, as a shell completes it, means its own workdir.
    if let Some(workdir) = command.workdir_mut().filter(|path| path.is_file())
        && let Some(own) = default_workdir(workdir).filter(|own| own.is_dir())
    {
        *workdir = own;
    }
    match command {
        // Its words are those of the farm: `Cli::read` has made a farm of it.
        Command::Run(_) | Command::Check(_) => RunExit::Usage,
        Command::Log(args) => log(&args),
        Command::Retry(args) => reported(retry_failed(&args), &args.workdir),
        Command::Convert(args) => reported(convert::convert(&args), Path::new("")),
        Command::Combine(args) => combine::combine(&args),
        Command::Add(args) => reported(add::add(&args), &args.workdir),
        Command::Pause(args) => ordered(Ok(Order::Pause { stop: args.stop }), &args.workdir),
        Command::Resume(args) => ordered(Ok(Order::Resume), &args.workdir),
        Command::Drain(args) => ordered(steer::drain(&args), &args.workdir),
        Command::Cancel(args) => cancel(&args),
        Command::Edit(args) => match refuse_other_folder(&args.workdir, &[LOCK]) {
            Some(exit) => exit,
            None => reported(edit::edit(&args), &args.workdir),
        },
        Command::Close(args) => ordered(Ok(Order::Close), &args.workdir),
        Command::Stop(args) => ordered(Ok(Order::Stop), &args.workdir),
        Command::Repair(args) => reported(repair(&args), &args.workdir),
        Command::Reset(args) => reset(&args),
        Command::Status(args) => views::exit(views::status(&args)),
        Command::Watch(args) => views::exit(views::watch(&args)),
        Command::Wait(args) => views::wait(&args),
        Command::Export(args) => views::exit(views::export(&args)),
        Command::Report(args) => views::exit(views::report(&args)),
        Command::Timeline(args) => views::exit(views::timeline(&args)),
        Command::Devices(args) => devices(*args),
        Command::Hosts(args) => ask_hosts::hosts(args),
        Command::On(args) => ask_hosts::command(args),
        Command::Runners(args) => defined::list(What::Runner, &args.config),
        Command::Handlers(args) => defined::list(What::TaskList, &args.config),
        Command::Completions(args) => completions::script(args.shell)
            .map_or_else(|error| printed(Err(error)), |script| say(&script)),
    }
}

/// The exit status, after an error was reported.
fn reported(done: Result<RunExit, StartError>, workdir: &Path) -> RunExit {
    done.unwrap_or_else(|error| {
        warn(&error.message(workdir));
        error.exit()
    })
}

/// Prints to standard output; the status to end with.
fn say(text: &str) -> RunExit {
    write(text.as_bytes())
}

/// The same for any bytes.
fn write(text: &[u8]) -> RunExit {
    let mut stdout = std::io::stdout();
    let done = stdout.write_all(text);
    printed(done.and_then(|()| stdout.flush()))
}

/// The status when something was printed, or could not be. A closed pipe is not an error.
fn printed(done: std::io::Result<()>) -> RunExit {
    match done {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            let hint = hint(&error);
            warn(&format!("cannot write to standard output: {error}{hint}"));
            RunExit::WorkdirUnusable
        }
        _ => RunExit::Complete,
    }
}

/// `pytf TASKLIST`
fn farm(options: &Options) -> RunExit {
    start::run(options).unwrap_or_else(|error| not_started(&error, &options.workdir))
}

/// Says why a farm did not start; the exit status.
fn not_started(error: &StartError, workdir: &Path) -> RunExit {
    let command = error.missing_list().and_then(nearest_command);
    match command.zip(error.missing_list()) {
        Some((near, list)) => warn(&format!(
            "there is no task list {list}; did you mean 'pytf {near}'?"
        )),
        None => warn(&error.message(workdir)),
    }
    error.exit()
}

/// `pytf check`
fn check_list(options: &Options, args: &CheckArgs) -> RunExit {
    let done = match args.show {
        Some(id) => command_line(options, id).map(|line| {
            if let Some(line) = line {
                return say(&(line + "\n"));
            }
            warn(&format!("the list has no task {id}"));
            RunExit::Usage
        }),
        None => check::check(options).map(|check| {
            let text = if args.json {
                format!("{}\n", check.json())
            } else {
                check.text()
            };
            match say(&text) {
                RunExit::Complete if !check.is_good() => RunExit::SomeFailed,
                exit => exit,
            }
        }),
    };
    done.unwrap_or_else(|error| not_started(&error, &options.workdir))
}

/// `pytf devices`
fn devices(args: Devices) -> RunExit {
    match inventory(&options::devices(args.options), args.proc) {
        Ok(devices) => {
            let text = if args.json {
                devices.json() + "\n"
            } else {
                devices.text()
            };
            say(&text)
        }
        Err(why) => {
            warn(&why.to_string());
            RunExit::Usage
        }
    }
}

/// `pytf log`
fn log(args: &Log) -> RunExit {
    let (mut stdout, mut stderr) = (std::io::stdout(), std::io::stderr());
    let to_terminal = stdout.is_terminal();
    let ask = LogRequest {
        id: args.id,
        attempt: args.attempt,
        output: match (args.stdout, args.stderr) {
            (true, _) => Output::Stdout,
            (_, true) => Output::Stderr,
            _ => Output::Both,
        },
        to_terminal,
    };
    match show(&args.workdir, &ask, &mut stdout, &mut stderr) {
        Ok(()) => RunExit::Complete,
        Err(error) => {
            warn(&error.to_string());
            error.exit()
        }
    }
}

/// `pytf pause`, `resume`, `drain`, `stop`
fn ordered(order: Result<Order, StartError>, workdir: &Path) -> RunExit {
    if let Some(exit) = refuse_other_folder(workdir, &[LOCK]) {
        return exit;
    }
    let said = order.and_then(|order| steer::order(workdir, &order));
    reported(said.map(|text| say(&text)), workdir)
}

/// `pytf cancel`
fn cancel(args: &Cancel) -> RunExit {
    if let Some(exit) = refuse_other_folder(&args.workdir, &[LOCK]) {
        return exit;
    }
    let said = steer::cancel(args).map(|(text, left_alone)| {
        let exit = say(&text);
        if left_alone.is_empty() {
            return exit;
        }
        warn(&format!("not cancelled: {left_alone}"));
        RunExit::Usage
    });
    reported(said, &args.workdir)
}

/// `pytf retry`
fn retry_failed(args: &Retry) -> Result<RunExit, StartError> {
    if let Some(exit) = refuse_other_folder(&args.workdir, &[LOCK]) {
        return Ok(exit);
    }
    let mut wanted = Ids::default();
    args.ids.iter().for_each(|ids| wanted.extend(ids));
    let wanted = match (args.ids.is_empty(), args.cancelled) {
        (false, _) => Wanted::Ids(wanted),
        (true, true) => Wanted::All,
        (true, false) => Wanted::Failed,
    };
    let mut outside = Outside::open(&args.workdir, "retry")?;
    let retried = retry(&outside.workdir, &outside.who, &mut outside.waiter, &wanted)?;
    let back = retried.back.count();
    let mut text = match back {
        0 => "no failed task to put back\n".to_owned(),
        n => format!(
            "{n} {} back in toprocess ({}): run the same command again\n",
            if n == 1 { "task is" } else { "tasks are" },
            sorted(&retried.back)
        ),
    };
    if retried.cancelled > 0 {
        let tasks = match retried.cancelled {
            1 => "1 cancelled task stays".to_owned(),
            n => format!("{n} cancelled tasks stay"),
        };
        text += &format!("{tasks} in failed: name them, or add --cancelled\n");
    }
    let exit = say(&text);
    if retried.not_failed.is_empty() {
        return Ok(exit);
    }
    warn(&format!(
        "not in failed, and not changed: {}",
        sorted(&retried.not_failed)
    ));
    Ok(RunExit::Usage)
}

/// Refuses a folder that has none of these files; returns the exit status.
fn refuse_other_folder(folder: &Path, names: &[&str]) -> Option<RunExit> {
    let is_there = |name: &&str| std::fs::symlink_metadata(folder.join(name)).is_ok();
    if names.iter().any(is_there) {
        return None;
    }
    let (folder, names) = (folder.display(), names.join("', no '"));
    warn(&format!(
        "{folder} is not a workdir of pytf: it has no '{names}'"
    ));
    Some(RunExit::WorkdirUnusable)
}

/// `pytf repair`
fn repair(args: &Repair) -> Result<RunExit, StartError> {
    // Any of them may be damaged.
    if let Some(exit) = refuse_other_folder(&args.workdir, &[NODES, LOCK, TASKS]) {
        return Ok(exit);
    }
    let dir: Arc<dyn Dir> = open_dir(&args.workdir, Ownership::AsItIs)?;
    if args.check {
        return Ok(check(&dir, &args.workdir)?);
    }
    let workdir = Workdir {
        dir,
        path: args.workdir.clone(),
        mechanism: exclusion::choose(&args.workdir, None)?,
    };
    let (_keep, abort) = cancellation();
    // Of the run, if its state can be read.
    let state = peek(&workdir.dir).ok().flatten();
    let takeover = state.and_then(|state| state.takeover());
    let mut waiter = LockWaiter::new(abort, None, takeover.unwrap_or(DEFAULT_TAKEOVER));
    let dialect = Dialect {
        plain: args.plain,
        ..Dialect::default()
    };
    let list = args.tasklist.as_deref().map(|list| (list, &dialect));
    let made = workdir::repair::repair(&workdir, list, &mut waiter)?;
    let unusable = match made.unusable {
        0 => String::new(),
        n => format!("; {n} lines of them could not be used"),
    };
    let exit = say(&format!(
        "{} finished, {} failed, {} to go; the files as they were are in {}{unusable}\n",
        made.finished,
        made.failed,
        made.left,
        args.workdir.join(made.kept).display()
    ));
    Ok(exit)
}

/// `pytf reset`
fn reset(args: &Reset) -> RunExit {
    if let Some(exit) = refuse_other_folder(&args.workdir, &[LOCK]) {
        return exit;
    }
    let said = steer::reset(args).map(|text| say(&text));
    reported(said, &args.workdir)
}

/// `pytf repair --check`
fn check(dir: &Arc<dyn Dir>, path: &Path) -> workdir::error::Result<RunExit> {
    let found = workdir::check::check(dir)?;
    let mut text = String::new();
    for error in &found.damage {
        text += &format!("{error}\n");
    }
    if let Some(error) = found.damage.first() {
        let way_out = error.way_out(&path.display().to_string());
        text += &format!("{}\n", way_out.unwrap_or_default().trim());
    } else {
        let counts = found.state.map_or((0, 0, 0), |state| {
            (state.finished.lines, state.failed.lines, state.left())
        });
        let (finished, failed, left) = counts;
        text += &format!("no damage found: {finished} finished, {failed} failed, {left} waiting\n");
    }
    let exit = say(&text);
    Ok(if found.damage.is_empty() {
        exit
    } else {
        RunExit::WorkdirUnusable
    })
}

/// Ids in order, at most as many as fit into a line.
pub(crate) fn sorted(ids: &Ids) -> String {
    let mut ids: Vec<_> = ids.iter().collect();
    ids.sort_unstable();
    clip(&ids.into_iter().collect::<Ids>().to_string(), 200)
}
