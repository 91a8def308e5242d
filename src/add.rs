//! `pytf add`: from the command line to the ids.
//!
//! Guarantee: on standard output are the ids and nothing else; what happens next is said on
//! standard error.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crossbeam_channel::never;
use pytf::cli::{Add, NewTasksFrom};
use pytf::exit::RunExit;
use pytf::farm::start_error::StartError;
use pytf::model::escape::escape;
use pytf::model::figures::grouped;
use pytf::model::ids::Ids;
use pytf::model::tasklist::Dialect;
use pytf::model::tasklist::handlers::Handler;
use pytf::ui::progress::warn;
use pytf::ui::summary::quoted;
use pytf::workdir::add::{NewTasks, add as add_to};
use pytf::workdir::folder::{current_folder, is_same_folder};
use pytf::workdir::resume::{ListFailure, ListFile};
use pytf::workdir::state::State;

use crate::defined::UnknownRunner;
use crate::say;
use crate::steer::Outside;

/// How often a list that is being written is read again, and after which pause.
const LIST_READS: u32 = 10;
const LIST_PAUSE: Duration = Duration::from_millis(300);

/// Adds the tasks; prints their ids.
pub(crate) fn add(args: &Add) -> Result<RunExit, StartError> {
    // Before anything is made: a workdir of a wrong list would be of no use.
    let unknown = UnknownRunner::default();
    let tasks = read(args, &unknown)?;
    let is_new = !args.workdir.exists();
    let mut outside = Outside::create(&args.workdir, "add")?;
    let here = current_folder();
    let (ids, state) = add_to(
        &outside.workdir,
        &outside.who,
        &mut outside.waiter,
        &tasks,
        here.as_deref(),
    )?;
    for message in tasks.remarks.messages() {
        warn(&message);
    }
    unknown.warn();
    if let (Some(first), Some(here)) = (&state.folder, &here)
        && !is_same_folder(first, here)
    {
        warn(&format!(
            "this run was first started in {first}: there, not here in {here}, relative paths in \
             its tasks begin"
        ));
    }
    warn(&said(&ids, &state, is_new, &args.workdir));
    Ok(say(&format!("{ids}\n")))
}

fn read(args: &Add, unknown: &UnknownRunner) -> Result<NewTasks, ListFailure> {
    let dialect = Dialect::of(args.plain, std::env::vars_os().map(|(name, _)| name));
    let said = args.said.attributes().map_err(ListFailure::Refused)?;
    let dialect = unknown.looked_for(dialect.of_added().with(said));
    let handler = Handler::named(&args.tasklist).unwrap_or_default();
    match args.source() {
        NewTasksFrom::Stdin => of_stream(io::stdin(), "standard input", &dialect, handler),
        NewTasksFrom::File(path) => of_file(&path, &dialect, handler),
        NewTasksFrom::Commands(commands) => {
            commands.iter().try_for_each(refuse_list)?;
            NewTasks::of_commands(&commands, &dialect)
        }
    }
}

/// The tasks of a stream.
fn of_stream(
    mut stream: impl io::Read,
    name: &str,
    dialect: &Dialect,
    handler: &Handler,
) -> Result<NewTasks, ListFailure> {
    let Some(translate) = handler.translate else {
        return NewTasks::of_stream(stream, name, dialect);
    };
    let mut text = Vec::new();
    let read = stream.read_to_end(&mut text);
    read.map_err(|source| ListFailure::Unreadable {
        list: name.to_owned(),
        source,
    })?;
    let made = translate(&dialect.list(&text, name)).map_err(|source| ListFailure::Wrong {
        list: name.to_owned(),
        source,
    })?;
    NewTasks::of_made(&made, name, dialect)
}

/// The tasks of a list. One that is being written is read again, for a short while.
fn of_file(path: &Path, dialect: &Dialect, handler: &Handler) -> Result<NewTasks, ListFailure> {
    let unreadable = |source| {
        let list = path.display().to_string();
        ListFailure::Unreadable { list, source }
    };
    for nth in 1.. {
        let Some(list) = ListFile::at(path).map_err(unreadable)? else {
            let stream = std::fs::File::open(path).map_err(unreadable)?;
            return of_stream(stream, &path.display().to_string(), dialect, handler);
        };
        ListFile::refuse_file_of_workdir(path)?;
        let list = list.read_as(&dialect.of_added());
        let read = match handler.translate {
            None => NewTasks::of_list(&list),
            Some(_) => list
                .contents()
                .and_then(|text| of_stream(&*text, &path.display().to_string(), dialect, handler)),
        };
        match read {
            Err(ListFailure::Changing { .. }) if nth < LIST_READS => {
                let _ = never::<()>().recv_timeout(LIST_PAUSE);
            }
            read => return read,
        }
    }
    Ok(NewTasks::default())
}

/// Refuses a command that is the name of a file and probably a task list: it would be added,
/// and fail when nobody looks.
fn refuse_list(command: &OsString) -> Result<(), ListFailure> {
    let path = Path::new(command);
    let Ok(file) = path.metadata() else {
        return Ok(());
    };
    let is_executable = file.permissions().mode() & 0o111 != 0;
    let is_program = is_executable && command.as_bytes().contains(&b'/');
    if !file.is_file() || is_program {
        return Ok(());
    }
    let name = quoted(&escape(command.as_bytes()));
    Err(ListFailure::Refused(format!(
        "{name} is a file: to add the tasks in it, use --from {name}; to add a command of this \
         name, use 'env {name}'"
    )))
}

/// What happens next, and when.
fn said(ids: &Ids, state: &State, is_new: bool, workdir: &Path) -> String {
    let workdir = quoted(&escape(workdir.as_os_str().as_encoded_bytes()));
    let added = match ids.count() {
        1 => format!("added task {ids}"),
        n => format!("added {} tasks, {ids}", grouped(n)),
    };
    if state.paused {
        return format!("{added}; the run is paused: 'pytf resume {workdir}' lifts it");
    }
    match state.live {
        0 if is_new => format!(
            "{added}, to the new workdir {workdir}; no process works on the run: start one with \
             'pytf --workdir {workdir}'"
        ),
        0 => format!("{added}; no process works on the run: run the same command again"),
        1 => format!("{added}; 1 process works on the run"),
        n => format!("{added}; {n} processes work on the run"),
    }
}
