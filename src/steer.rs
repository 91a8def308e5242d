//! The commands that change a workdir from outside a farm: they steer a run, or put failed
//! tasks back.
//!
//! Guarantee: each is one transaction, and says what happens next.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use crate::sorted;
use pytf::cli::{Cancel, Drain, Reset};
use pytf::farm::lock_wait::{CancelOnDrop, LockWaiter, cancellation};
use pytf::farm::start_error::StartError;
use pytf::history::run::Run;
use pytf::host::allocation::host_name;
use pytf::model::escape::escape;
use pytf::model::figures::grouped;
use pytf::model::ids::Ids;
use pytf::model::liveness::{DEFAULT_TAKEOVER, heartbeat};
use pytf::ui::summary::quoted;
use pytf::workdir;
use pytf::workdir::cancel::{self, Author, Cancelled, Wanted};
use pytf::workdir::error::{Error, Result};
use pytf::workdir::open::{OpenOptions, Ownership, Workdir};
use pytf::workdir::orders::{Order, give};
use pytf::workdir::state::{State, peek};
use pytf::workdir::upgrade::upgrade;

/// A workdir that is changed by a process that is not a farmer.
pub(crate) struct Outside {
    pub(crate) workdir: Workdir,
    /// Who we are, for others that wait for the lock.
    pub(crate) who: String,
    pub(crate) waiter: LockWaiter,
    /// Nothing ends our waits.
    _cancel: CancelOnDrop,
}

impl Outside {
    /// Opens a workdir as it is, for this command.
    pub(crate) fn open(path: &Path, command: &str) -> Result<Self> {
        Self::with(path, command, false)
    }

    /// The same, and makes the workdir when it is not there.
    pub(crate) fn create(path: &Path, command: &str) -> Result<Self> {
        Self::with(path, command, true)
    }

    fn with(path: &Path, command: &str, create: bool) -> Result<Self> {
        let ownership = Ownership::AsItIs;
        let options = OpenOptions {
            create,
            ownership,
            ..OpenOptions::default()
        };
        let workdir = Workdir::open(path, options)?;
        let (cancel, canceled) = cancellation();
        let mut waiter = LockWaiter::new(canceled, None, DEFAULT_TAKEOVER);
        let who = format!("pytf {command}, process {}", std::process::id());
        let state = upgrade(&workdir, &who, &mut waiter)?;
        if let Some(takeover) = state.and_then(|state| state.takeover()) {
            waiter.set_takeover(takeover);
        }
        Ok(Self {
            workdir,
            who,
            waiter,
            _cancel: cancel,
        })
    }
}

/// Gives an order; returns what is to be said of it.
pub(crate) fn order(path: &Path, order: &Order) -> std::result::Result<String, StartError> {
    let Outside {
        workdir,
        who,
        mut waiter,
        _cancel,
    } = Outside::open(path, order.word())?;
    let (state, is_given) = give(&workdir, &who, &mut waiter, order)?;
    Ok(said(order, &state, is_given, path) + "\n")
}

/// The order of `pytf drain`, and how many processes it concerns: refused where no process
/// works on that node.
pub(crate) fn drain(args: &Drain) -> std::result::Result<Order, StartError> {
    let node = args.node.clone();
    let run = Run::open(&args.workdir).ok();
    if let (Some(node), Some(run)) = (&node, run) {
        let mut nodes: Vec<&str> = run.living().map(|farmer| &*farmer.header().host).collect();
        nodes.sort_unstable();
        nodes.dedup();
        if !nodes.contains(&&**node) {
            let others = match nodes[..] {
                [] => "no process works on the run".to_owned(),
                _ => format!(
                    "the run has processes on {}",
                    escape(nodes.join(", ").as_bytes())
                ),
            };
            let node = escape(node.as_bytes());
            let why = format!("no process works on node {node}: {others}");
            return Err(Error::Refused(why).into());
        }
    }
    Ok(Order::Drain { node })
}

/// Resets a run, after a question; returns what is to be said of it.
pub(crate) fn reset(args: &Reset) -> std::result::Result<String, StartError> {
    let Outside {
        workdir,
        who,
        mut waiter,
        _cancel,
    } = Outside::open(&args.workdir, "reset")?;
    if !args.yes {
        confirm(args, &peek(&workdir.dir)?.unwrap_or_default())?;
    }
    let reset = workdir::reset::reset(&workdir, &who, &mut waiter, args.from)?;
    let kept = args.workdir.join(&reset.kept);
    let kept = quoted(&escape(kept.as_os_str().as_encoded_bytes()));
    let stay = match reset.ended {
        0 => String::new(),
        n => format!(", the results of {} stay", grouped(n)),
    };
    let wait = match reset.left {
        1 => "1 task waits".to_owned(),
        n => format!("{} tasks wait", grouped(n)),
    };
    Ok(format!(
        "reset: {wait}{stay}; run the same command again\n\
         what there was is kept: pytf status {kept}\n"
    ))
}

/// Asks whether to go on, where a user can answer.
fn confirm(args: &Reset, state: &State) -> Result<()> {
    let workdir = quoted(&escape(args.workdir.as_os_str().as_encoded_bytes()));
    let refused = |why: String| Err(Error::Refused(why));
    if !std::io::stdin().is_terminal() {
        let what = "reset asks before it puts finished tasks back, and standard input is not a \
                    terminal; with --yes it does not ask";
        return refused(what.to_owned());
    }
    let from = match args.from.0 {
        0 => String::new(),
        from => format!(" from task {from} on"),
    };
    let mut stderr = std::io::stderr();
    let asked = write!(
        stderr,
        "reset {workdir}{from}: {} finished and {} failed of {} tasks. They run again, and their \
         results are moved into a folder of the workdir. Go on? [y/N] ",
        grouped(state.finished.lines),
        grouped(state.failed.lines),
        grouped(state.tasks.lines.saturating_sub(state.dropped)),
    );
    let mut answer = String::new();
    let answered = asked
        .and_then(|()| stderr.flush())
        .and_then(|()| std::io::stdin().read_line(&mut answer));
    match (answered, &*answer.trim().to_lowercase()) {
        (Ok(_), "y" | "yes") => Ok(()),
        _ => refused("not reset: nothing was changed".to_owned()),
    }
}

/// Cancels tasks; returns what is to be said of it, and of which tasks nothing was to cancel,
/// and why.
pub(crate) fn cancel(args: &Cancel) -> std::result::Result<(String, String), StartError> {
    let mut ids = Ids::default();
    args.ids.iter().for_each(|some| ids.extend(some));
    let wanted = match (args.all, args.waiting) {
        (true, _) => Wanted::All,
        (_, true) => Wanted::Waiting,
        _ => Wanted::Ids(ids),
    };
    let author = Author {
        by: this_user(),
        reason: args.reason.clone(),
    };
    let Outside {
        workdir,
        who,
        mut waiter,
        _cancel,
    } = Outside::open(&args.workdir, "cancel")?;
    let (state, done) = cancel::cancel(&workdir, &who, &mut waiter, &wanted, &author)?;
    Ok((
        said_of_cancel(&state, &done, &args.workdir),
        left_alone(&done),
    ))
}

fn said_of_cancel(state: &State, done: &Cancelled, path: &Path) -> String {
    let mut text = String::new();
    let within = heartbeat(state.takeover().unwrap_or(DEFAULT_TAKEOVER));
    let within = within.as_secs_f64().ceil();
    let shown = |ids: &Ids| match ids.count() {
        1 => format!("task {ids}"),
        n => format!("{} tasks ({})", grouped(n), sorted(ids)),
    };
    if !done.waiting.is_empty() {
        let _ = writeln!(text, "cancelled: {} will not run", shown(&done.waiting));
    }
    if !done.claimed.is_empty() {
        let they = if done.claimed.count() == 1 {
            "it is"
        } else {
            "they are"
        };
        let _ = writeln!(
            text,
            "cancelled: {}; within {within:.0}s {they} stopped, or not started",
            shown(&done.claimed)
        );
    }
    if !done.ordered.is_empty() {
        let _ = writeln!(
            text,
            "cancelled already, and about to stop: {}",
            shown(&done.ordered)
        );
    }
    let mut all = done.waiting.clone();
    all.extend(&done.claimed);
    if all.is_empty() {
        if text.is_empty() {
            text += "no task to cancel\n";
        }
        return text;
    }
    let workdir = quoted(&escape(path.as_os_str().as_encoded_bytes()));
    let _ = writeln!(text, "'pytf retry {workdir} IDS' puts cancelled tasks back");
    text
}

/// The tasks that were asked for and not cancelled, and why.
fn left_alone(done: &Cancelled) -> String {
    let all = [
        (&done.finished, "finished already"),
        (&done.failed, "in failed already"),
        (&done.dropped, "dropped from the list"),
        (&done.unknown, "no such task"),
    ];
    let all = all.iter().filter(|(ids, _)| !ids.is_empty());
    let all: Vec<String> = all
        .map(|(ids, why)| format!("{} ({why})", sorted(ids)))
        .collect();
    all.join(", ")
}

/// Who gives an order: `USER@HOST`.
pub(crate) fn this_user() -> String {
    format!("{}@{}", user_name(), host_name())
}

/// The user's name, or the number where the node does not know it.
fn user_name() -> String {
    let user = nix::unistd::getuid();
    let known = nix::unistd::User::from_uid(user).ok().flatten();
    let name = known.map(|known| known.name);
    name.or_else(|| std::env::var("USER").ok())
        .unwrap_or_else(|| user.to_string())
}

/// What happens next, and when.
fn said(order: &Order, state: &State, is_given: bool, path: &Path) -> String {
    let workdir = quoted(&escape(path.as_os_str().as_encoded_bytes()));
    let resume = format!("'pytf resume {workdir}' lifts it");
    let within = heartbeat(state.takeover().unwrap_or(DEFAULT_TAKEOVER)).as_secs_f64();
    let processes = match state.live {
        1 => "1 process".to_owned(),
        n => format!("{n} processes"),
    };
    let obey = format!("{processes} within {within:.0}s");
    match (order, is_given, state.live) {
        (Order::Pause { .. }, true, 0) => format!(
            "paused: no process works on the run; those that join it start nothing; {resume}"
        ),
        (Order::Pause { stop: false }, true, _) => {
            format!("paused: nothing more is started by {obey}; running tasks go on; {resume}")
        }
        (Order::Pause { stop: true }, true, _) => format!(
            "paused: nothing more is started by {obey}, and running tasks are stopped; {resume}"
        ),
        (Order::Pause { stop: false }, false, _) => {
            format!("the run is paused already; {resume}")
        }
        (Order::Pause { stop: true }, false, _) => {
            format!("the run is paused already, and running tasks are stopped; {resume}")
        }
        (Order::Resume, true, 0) => {
            "resumed: no process works on the run; run the same command again".to_owned()
        }
        (Order::Resume, true, _) => format!("resumed: tasks are started again by {obey}"),
        (Order::Resume, false, _) => "the run is not paused".to_owned(),
        (Order::Stop, true, _) => format!(
            "stop: running tasks are stopped by {obey}, and wait again; then the processes leave"
        ),
        (Order::Drain { node }, true, _) => {
            let who = match node {
                Some(node) => format!("the processes on {}", escape(node.as_bytes())),
                None => processes,
            };
            format!(
                "drain: within {within:.0}s {who} start nothing more; they leave when their \
                 running tasks have ended"
            )
        }
        (Order::Close, true, _) => format!(
            "close: no more tasks are expected; processes that wait for them with --follow leave \
             within {within:.0}s, or when the run is complete"
        ),
        // Also those that are not given in this way.
        _ => "no process works on the run: nothing to do".to_owned(),
    }
}
