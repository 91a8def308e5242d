//! `pytf hosts` and `pytf on`: what hosts are, and one command on all of them.

use std::collections::BTreeMap;
use std::ffi::OsString;

use pytf::cli;
use pytf::exit::RunExit;
use pytf::hosts::{Ended, look, on};
use pytf::model::figures::counted;
use pytf::model::hosts::Host;
use pytf::ui::host_report;
use pytf::ui::progress::warn;
use pytf::ui::style::{OutputStyle, Terminal};

use crate::on_hosts::read_hosts;
use crate::{printed, say};

/// `pytf hosts`
pub(crate) fn hosts(args: cli::Hosts) -> RunExit {
    let hosts = match read_hosts(&args.hosts) {
        Ok(hosts) => hosts,
        Err(why) => return refused(&why),
    };
    let asked = match look(&hosts, args.ssh_option) {
        Ok(Some(asked)) => asked,
        Ok(None) => return RunExit::WorkLeft,
        Err(error) => return cannot(&error),
    };
    let shown = if args.json {
        say(&(host_report::json(&asked) + "\n"))
    } else {
        let style = OutputStyle::new(Terminal::of_stdout(), |name| std::env::var(name).ok());
        printed(host_report::text(&mut std::io::stdout(), &style, &asked))
    };
    match shown {
        RunExit::Complete if asked.iter().any(|host| host.problem.is_some()) => {
            RunExit::NodeUnusable
        }
        exit => exit,
    }
}

/// `pytf on`
pub(crate) fn command(args: cli::On) -> RunExit {
    let hosts = match read_hosts(&args.hosts) {
        Ok(hosts) => hosts,
        Err(why) => return refused(&why),
    };
    let words: Result<Vec<String>, _> = args
        .command
        .into_iter()
        .map(OsString::into_string)
        .collect();
    let Ok(words) = words else {
        return refused("the command is not UTF-8");
    };
    match on(&hosts, args.ssh_option, &words.join(" ")) {
        Ok((ended, has_signal)) => {
            warn(&summary(&hosts, &ended));
            exit(&ended, has_signal)
        }
        Err(error) => cannot(&error),
    }
}

fn refused(why: &str) -> RunExit {
    warn(why);
    RunExit::Usage
}

fn cannot(error: &std::io::Error) -> RunExit {
    warn(&format!("cannot ask hosts: {error}"));
    RunExit::System
}

fn exit(ended: &[Ended], has_signal: bool) -> RunExit {
    let is_reached = |end: &Ended| matches!(end, Ended::With(_));
    if has_signal {
        RunExit::WorkLeft
    } else if !ended.iter().all(is_reached) {
        RunExit::NodeUnusable
    } else if ended.iter().any(|end| *end != Ended::With(0)) {
        RunExit::SomeFailed
    } else {
        RunExit::Complete
    }
}

/// `3 of 5 hosts: exit status 0; n4: exit status 2; n5: cannot be reached: …`
fn summary(hosts: &[Host], ended: &[Ended]) -> String {
    let mut alike: BTreeMap<&Ended, Vec<&str>> = BTreeMap::new();
    for (host, end) in hosts.iter().zip(ended) {
        alike.entry(end).or_default().push(&host.name);
    }
    let good = alike.remove(&Ended::With(0)).map_or(0, |names| names.len());
    let all = counted(hosts.len() as u64, "host", "hosts");
    let mut parts = vec![format!("{good} of {all}: exit status 0")];
    for (end, names) in alike {
        let what = match end {
            Ended::With(status) => format!("exit status {status}"),
            Ended::Lost => "the connection was lost, or exit status 255".to_owned(),
            Ended::Not(why) => why.clone(),
            Ended::Stopped => "stopped before it began".to_owned(),
        };
        parts.push(format!("{}: {what}", names.join(", ")));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_summed_up() {
        let names = ["n1", "n2", "n3", "n4"];
        let hosts = names.map(|name| Host {
            name: name.into(),
            ..Host::default()
        });
        let no = Ended::Not("cannot be reached".into());
        let ended = [Ended::With(0), Ended::With(2), no, Ended::With(2)];
        assert_eq!(
            summary(&hosts, &ended),
            "1 of 4 hosts: exit status 0; n2, n4: exit status 2; n3: cannot be reached"
        );
        assert_eq!(exit(&ended, false), RunExit::NodeUnusable);
        assert_eq!(exit(&ended[..2], false), RunExit::SomeFailed);
        assert_eq!(exit(&ended[..1], false), RunExit::Complete);
        assert_eq!(exit(&ended[..1], true), RunExit::WorkLeft);
        assert_eq!(
            summary(&hosts[..1], &ended[..1]),
            "1 of 1 host: exit status 0"
        );
    }
}
