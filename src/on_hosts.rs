//! `--hosts`: from the options to farmers on other hosts; and how such a farmer begins there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use pytf::cli::{FarmArgs, Tasks, variable_names};
use pytf::exit::RunExit;
use pytf::farm::options::{Hosted, Options};
use pytf::farm::start;
use pytf::farm::start_error::StartError;
use pytf::hosts::{Run, control, host_side, run as run_on};
use pytf::model::hosts::{self, BadHosts, Host};
use pytf::ui::progress::warn;
use pytf::workdir::error::Error;

use crate::options;

/// Options that are for the process that starts the others.
const OURS: [&str; 2] = ["--hosts", "--ssh-option"];
/// Their variables, and those that each host has its own value of.
const NOT_PASSED_ON: [&str; 4] = [
    "PYTF_HOSTS",
    "PYTF_SSH_OPTION",
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
    let options = options::farm(tasks, workdir, args);
    for text in &options.ignored {
        warn(text);
    }
    let prepared = start::prepare_for_others(&options, "pytf --hosts");
    let started = prepared.and_then(|workdir| {
        let args = passed_on(std::env::args_os().skip(1))?;
        let run = Run {
            hosts,
            ssh_options,
            workdir: &workdir,
            args,
            variables: variables(),
            labels,
            quiet: options.quiet,
        };
        run_on(&run).map_err(|error| StartError::System("start farmers on hosts", error))
    });
    started.unwrap_or_else(|error| failed(&error, &options))
}

fn failed(error: &StartError, options: &Options) -> RunExit {
    crate::not_started(error, &options.workdir)
}

/// The hosts that are named: in a file, or here.
fn read_hosts(named: &str) -> Result<Vec<Host>, String> {
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
    let error = host_side::answer();
    // Who has asked and is gone does not read it.
    warn(&format!("cannot begin here: {error}"));
    RunExit::System
}

/// Runs tasks of a workdir that another process, which controls this one, has prepared.
pub(crate) fn hosted(place: [OsString; 4], args: FarmArgs) -> RunExit {
    let [workdir, job, rank, size] = place;
    let number = |word: &OsString| word.to_str().and_then(|word| word.parse().ok());
    let hosted = Hosted {
        job: job.to_string_lossy().into_owned(),
        rank: number(&rank).unwrap_or(0),
        size: number(&size).unwrap_or(1),
    };
    let workdir = PathBuf::from(workdir);
    let options = Options {
        hosted: Some(hosted),
        // Done by the process that has prepared it.
        retry_failed: false,
        ignored: Vec::new(),
        ..options::farm(Tasks::Added, workdir, args)
    };
    if let Err(error) = control::obey() {
        return failed(
            &StartError::System("listen to standard input", error),
            &options,
        );
    }
    crate::farm(&options)
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
