//! `-w ssh://host/path`: a farmer here that works on a workdir there. Where the connection is lost
//! it stops, and joins again with another one, under another name.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;

use pytf::cli::{FarmArgs, Tasks};
use pytf::exit::{RunExit, TABLE};
use pytf::farm::options::{Options, Piped, TaskList};
use pytf::farm::start;
use pytf::farm::start_error::StartError;
use pytf::host::signals;
use pytf::hosts::{Far, NoFar, Reach, Wanted};
use pytf::model::far_workdir::FarWorkdir;
use pytf::ui::progress::warn;

use crate::on_hosts::without_files_of_run;
use crate::options;
use crate::spool::Spool;

/// The first pause before the host is tried again, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// For so long it is tried.
const GIVE_UP_AFTER: Duration = Duration::from_secs(300);

/// Runs tasks of a workdir on another host.
pub(crate) fn run(named: Result<FarWorkdir, String>, tasks: Tasks, args: FarmArgs) -> RunExit {
    let far = match named {
        Ok(far) => far,
        Err(why) => {
            warn(&why);
            return RunExit::Usage;
        }
    };
    if args.hosts.is_some() {
        warn(&format!(
            "--hosts starts farmers from the host that has the workdir: start it there, or leave \
             --hosts out and this machine joins the run on {}",
            far.host.name
        ));
        return RunExit::Usage;
    }
    let (ssh_options, shown) = (args.ssh_option.clone(), PathBuf::from(far.path.clone()));
    let mut options = options::farm(tasks, shown, args);
    without_files_of_run(&mut options);
    let started = start::check_for_far(&options, &far.host.name).and_then(|()| {
        let system = |error| StartError::System("work on a workdir by ssh", error);
        let member = Member::new(&far, &options, ssh_options).map_err(system)?;
        member.work().map_err(system)
    });
    started.unwrap_or_else(|error| crate::not_started(&error, Path::new(&far.path)))
}

/// Refuses a command whose workdir is on another host, with the command to type.
pub(crate) fn refuse_command(workdir: &Path) -> Option<RunExit> {
    let why = match FarWorkdir::of(workdir)? {
        Ok(far) => {
            let words: Vec<_> = std::env::args().skip(1).collect();
            let named = workdir.to_string_lossy();
            let words = words.join(" ").replace(&*named, &far.path);
            format!(
                "this command needs the files of the workdir: {} pytf {words}",
                far.host.login()
            )
        }
        Err(why) => why,
    };
    warn(&why);
    Some(RunExit::Usage)
}

/// A process that joins the run, as often as it must.
struct Member<'a> {
    far: &'a FarWorkdir,
    options: &'a Options,
    reach: Reach,
    /// The signals that we have got.
    signals: Receiver<i32>,
    /// Whether a farm runs, which handles signals itself.
    is_farming: Arc<AtomicBool>,
}

impl<'a> Member<'a> {
    fn new(
        far: &'a FarWorkdir,
        options: &'a Options,
        ssh_options: Vec<String>,
    ) -> std::io::Result<Self> {
        let (got, signals) = unbounded();
        let is_farming = Arc::new(AtomicBool::new(false));
        let farms = is_farming.clone();
        signals::listen(move |signal| {
            if signal != signals::SUSPENDS {
                let _ = got.send(signal);
            } else if !farms.load(Ordering::Relaxed) {
                let _ = kill(getpid(), Signal::SIGSTOP);
            }
        })?;
        Ok(Self {
            far,
            options,
            reach: Reach::new(ssh_options)?,
            signals,
            is_farming,
        })
    }

    fn work(&self) -> std::io::Result<RunExit> {
        let (mut has_run, mut reported) = (false, None);
        let (mut pause, mut since) = (FIRST_PAUSE, Instant::now());
        let name = &self.far.host.name;
        loop {
            let why = match self.connect() {
                Ok(connection) => {
                    let began = Instant::now();
                    let (exit, is_lost) = self.farm(&connection)?;
                    drop(connection);
                    let is_over = [RunExit::Complete, RunExit::SomeFailed].contains(&exit);
                    if is_over || !is_lost || !self.signals.is_empty() {
                        return Ok(match exit {
                            // A signal has stopped it, too.
                            RunExit::WorkdirUnusable if is_lost => RunExit::WorkLeft,
                            exit => exit,
                        });
                    }
                    if began.elapsed() > LONGEST_PAUSE {
                        pause = FIRST_PAUSE;
                    }
                    (has_run, since) = (true, Instant::now());
                    "the connection was lost: joining again".to_owned()
                }
                Err(NoFar::Unreached(why)) if has_run => format!("cannot be reached: {why}"),
                Err(no) => return Ok(self.cannot(&no, has_run)),
            };
            if reported.as_ref() != Some(&why) {
                warn(&format!("{name}: {why}"));
            }
            reported = Some(why);
            if since.elapsed() > GIVE_UP_AFTER {
                return Ok(RunExit::WorkLeft);
            }
            let rest = pause.mul_f64(1.0 + fastrand::f64() / 4.0);
            if self.signals.recv_timeout(rest).is_ok() {
                return Ok(RunExit::WorkLeft);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn connect(&self) -> Result<Far, NoFar> {
        let options = self.options;
        let wanted = Wanted {
            path: self.far.path.clone(),
            create: options.tasks != TaskList::Added || options.follow.is_some(),
            is_shared: options.shared_workdir,
            lock: options.lock,
        };
        self.reach.workdir(&self.far.host, wanted, &self.signals)
    }

    /// Runs a farmer by a connection; its exit status, and whether the connection was lost.
    fn farm(&self, connection: &Far) -> std::io::Result<(RunExit, bool)> {
        let spool = Spool::make("ssh")?;
        let options = Options {
            workdir: spool.path().to_owned(),
            pipe: Some(Piped {
                dir: connection.dir.clone(),
                shown: connection.path.clone(),
                mechanism: connection.mechanism,
                connection: Some(connection.process),
            }),
            ..self.options.clone()
        };
        self.is_farming.store(true, Ordering::Relaxed);
        let ran = start::run(&options);
        self.is_farming.store(false, Ordering::Relaxed);
        let is_lost = connection.is_lost();
        let exit = ran.unwrap_or_else(|error| crate::not_started(&error, &connection.path));
        Ok((exit, is_lost))
    }

    /// The exit status where there is no connection, after it was said why.
    fn cannot(&self, no: &NoFar, has_run: bool) -> RunExit {
        let (name, login) = (&self.far.host.name, self.far.host.login());
        let (why, exit) = match no {
            NoFar::Stopped => return RunExit::WorkLeft,
            NoFar::Unreached(why) => {
                let why = format!("cannot be reached: {why}; try: {login} true");
                (why, RunExit::NodeUnusable)
            }
            NoFar::Unusable(why) => (format!("not used: {why}"), RunExit::NodeUnusable),
            NoFar::Refused(why, code) => {
                let known = TABLE.iter().map(|(exit, ..)| *exit);
                let exit = known.into_iter().find(|exit| exit.code() == *code);
                (why.clone(), exit.unwrap_or(RunExit::WorkdirUnusable))
            }
        };
        warn(&format!("{name}: {why}"));
        if has_run { RunExit::WorkLeft } else { exit }
    }
}
