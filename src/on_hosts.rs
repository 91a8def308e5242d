//! `--hosts`: from the options to farmers on other hosts; and how such a farmer begins there.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pytf::cli::{FarmArgs, Tasks, variable_names};
use pytf::exit::RunExit;
use pytf::farm::inventory::host_facts;
use pytf::farm::options::{Hosted, Options, Piped};
use pytf::farm::start;
use pytf::farm::start_error::StartError;
use pytf::history::run::Run as Record;
use pytf::hosts::{Files, Run, control, host_side, run as run_on};
use pytf::model::hosts::{self, BadHosts, Host};
use pytf::model::logs::LogMode;
use pytf::model::tasklist::handlers::Handler;
use pytf::ui::progress::warn;
use pytf::workdir::error::Error;
use pytf::workdir::mechanism::Mechanism;

use crate::options;
use crate::spool::Spool;

/// Options that are for the process that starts the others.
const OURS: [&str; 3] = ["--hosts", "--ssh-option", "--copy-in"];
/// Their variables, and those that each host has its own value of.
const NOT_PASSED_ON: [&str; 5] = [
    "PYTF_HOSTS",
    "PYTF_SSH_OPTION",
    "PYTF_COPY_IN",
    "PYTF_WORKDIR",
    "PYTF_LABEL",
];

/// Runs a task list on these hosts.
pub(crate) fn run(named: &str, tasks: Tasks, workdir: PathBuf, args: FarmArgs) -> RunExit {
    let hosts = match read_hosts(named) {
        Ok(hosts) => hosts,
        Err(why) => {
            warn(&why);
            return RunExit::Usage;
        }
    };
    let (ssh_options, labels) = (args.ssh_option.clone(), args.label.clone());
    let copy_in = args.copy_in.clone();
    let of_hosts = hosts.iter().flat_map(|host| &host.copy_in);
    let copied = copy_in.iter().chain(of_hosts).cloned().collect();
    if let Some(why) = Files::new(copied, &workdir, true).fault() {
        warn(&format!("--copy-in: {why}"));
        return RunExit::Usage;
    }
    let options = options::farm(tasks, workdir, args);
    for text in &options.ignored {
        warn(text);
    }
    let prepared = start::prepare_for_others(&options, "pytf --hosts");
    let started = prepared.and_then(|workdir| {
        let args = passed_on(std::env::args_os().skip(1))?;
        let has_pipes = Arc::new(AtomicBool::new(false));
        let run = Run {
            has_pipes: has_pipes.clone(),
            hosts,
            ssh_options,
            workdir: &workdir,
            args,
            variables: variables(),
            labels,
            copy_in,
            must_share: options.on_end.is_some().then(|| {
                "--on-end is run by the process that leaves last: it must see all files".to_owned()
            }),
            quiet: options.quiet,
        };
        let ran = run_on(&run);
        if has_pipes.load(Ordering::Relaxed) {
            write_timeline(&options);
        }
        ran.map_err(|error| StartError::System("start farmers on hosts", error))
    });
    started.unwrap_or_else(|error| failed(&error, &options))
}

/// Writes the timeline, which a host that does not share the workdir cannot.
fn write_timeline(options: &Options) {
    let Some(write) = options.write_timeline else {
        return;
    };
    let written = match Record::open(&options.workdir) {
        Ok(record) => write(&record).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match written {
        Ok(Some(left_out)) => warn(&format!("timeline.json: {left_out}")),
        Ok(None) => {}
        Err(error) => warn(&format!("cannot write timeline.json: {error}")),
    }
}

fn failed(error: &StartError, options: &Options) -> RunExit {
    crate::not_started(error, &options.workdir)
}

/// The hosts that are named: in a file, or here.
pub(crate) fn read_hosts(named: &str) -> Result<Vec<Host>, String> {
    let path = Path::new(named);
    let is_toml = path.extension().is_some_and(|end| end == "toml");
    let (read, place) = if is_toml || path.is_file() {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the hosts in {named}: {error}"))?;
        let read = if is_toml {
            hosts::of_toml(&text)
        } else {
            hosts::of_lines(&text)
        };
        (read, named)
    } else {
        (hosts::of_list(named), "--hosts")
    };
    read.map_err(|BadHosts { line, why }| match line {
        Some(line) => format!("{place}, line {line}: {why}"),
        None => format!("{place}: {why}"),
    })
}

/// The arguments without our own, up to a command and its values.
fn passed_on(args: impl Iterator<Item = OsString>) -> Result<Vec<String>, StartError> {
    let mut passed = Vec::new();
    let mut args = args.peekable();
    args.next_if(|word| word == "run");
    let mut is_option = true;
    while let Some(word) = args.next() {
        let word = word.into_string().map_err(|word| {
            Error::Refused(format!(
                "{} is not UTF-8: --hosts cannot pass it on",
                word.display()
            ))
        })?;
        is_option &= word != "--";
        if is_option && OURS.contains(&&*word) {
            args.next();
            continue;
        }
        let name = word.split_once('=').map_or("", |(name, _)| name);
        if !(is_option && OURS.contains(&name)) {
            passed.push(word);
        }
    }
    Ok(passed)
}

/// The options that come from variables.
fn variables() -> Vec<(String, String)> {
    let names = variable_names().into_iter();
    let names = names.filter(|name| !NOT_PASSED_ON.contains(&&**name));
    let set = names.filter_map(|name| {
        let value = std::env::var(&name).ok()?;
        Some((name, value))
    });
    set.collect()
}

/// Answers the pytf that asks this host, and becomes a farmer.
pub(crate) fn answer() -> RunExit {
    let Err(error) = host_side::answer(host_facts) else {
        return RunExit::Complete;
    };
    // Who has asked and is gone does not read it.
    warn(&format!("cannot begin here: {error}"));
    RunExit::System
}

/// Runs tasks of a workdir that another process, which controls this one, has prepared.
pub(crate) fn hosted(is_piped: bool, place: [OsString; 4], args: FarmArgs) -> RunExit {
    let [workdir, job, rank, size] = place;
    let number = |word: &OsString| word.to_str().and_then(|word| word.parse().ok());
    let hosted = Hosted {
        job: job.to_string_lossy().into_owned(),
        rank: number(&rank).unwrap_or(0),
        size: number(&size).unwrap_or(1),
    };
    let mut path = PathBuf::from(&workdir);
    let refused = |error| {
        let error = StartError::System("listen to standard input", error);
        warn(&error.to_string());
        error.exit()
    };
    let (pipe, spool) = if is_piped {
        match pipe(&workdir.to_string_lossy(), &hosted.job) {
            Ok((pipe, spool)) => {
                spool.path().clone_into(&mut path);
                (Some(pipe), Some(spool))
            }
            Err(error) => return refused(error),
        }
    } else if let Err(error) = control::obey() {
        return refused(error);
    } else {
        (None, None)
    };
    let mut options = Options {
        hosted: Some(hosted),
        pipe,
        // Done by the process that has prepared it.
        retry_failed: false,
        ignored: Vec::new(),
        ..options::farm(Tasks::Added, path, args)
    };
    // The list was made there, too.
    <&Handler>::default()
        .name
        .clone_into(&mut options.handler.name);
    if is_piped {
        without_files_of_run(&mut options);
    }
    let exit = crate::farm(&options);
    drop(spool);
    exit
}

/// Leaves out what needs all files of the run.
pub(crate) fn without_files_of_run(options: &mut Options) {
    options.write_timeline = None;
    if options.logs == LogMode::Packed {
        options.logs = LogMode::Files;
    }
}

/// The workdir at the other end of standard input and output, by how it is locked and its path,
/// and a folder for what tasks print.
fn pipe(place: &str, job: &str) -> io::Result<(Piped, Spool)> {
    let all = [Mechanism::Flock, Mechanism::Fcntl, Mechanism::Link];
    let (mechanism, shown) = place.split_once(':').unwrap_or((place, ""));
    let mechanism = all.into_iter().find(|known| known.to_string() == mechanism);
    let mechanism = mechanism.ok_or_else(|| io::Error::other("an unknown lock"))?;
    let spool = Spool::make(job)?;
    let piped = Piped {
        dir: control::obey_and_ask()?,
        shown: PathBuf::from(shown),
        mechanism,
        connection: None,
    };
    Ok((piped, spool))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_options_are_not_passed_on() {
        let words = "run tasks.txt --hosts n1 --ssh-option=A=b --proc 2 --hosts=n2 --ssh-option C=d \
                     -- echo --hosts {} ::: 1";
        let passed = passed_on(words.split_whitespace().map(Into::into)).unwrap();
        assert_eq!(
            passed.join(" "),
            "tasks.txt --proc 2 -- echo --hosts {} ::: 1"
        );
    }
}
