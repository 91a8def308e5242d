//! Asking the scheduler when the job ends, with its own programs.
//!
//! Guarantee: the caller waits for an answer up to a time limit, and a program that hangs is
//! killed with all processes that it has started.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, bounded, select};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::allocation::pbs_conf;
use super::guard;
use crate::model::allocation::{Allocation, Scheduler};
use crate::model::walltime::answer::{self, Left};

/// When slurmctld does not answer, the programs of Slurm give up after 20 s.
const LIMIT: Duration = Duration::from_secs(25);
/// The longest answer that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// A program to ask, and how its answer is read.
struct Program {
    argv: Vec<String>,
    read: fn(&str, Duration) -> Option<Left>,
}

/// The question when a job ends.
pub struct Question {
    programs: Vec<Program>,
    farmer: String,
    limit: Duration,
}

impl Question {
    /// The question for this allocation; none when no scheduler can be asked. `farmer` is
    /// our name, by which the guard finds the programs that we have started.
    pub fn of(place: &Allocation, farmer: &str) -> Option<Self> {
        let job = place.asks_for.clone()?;
        let program = |line: &str, read| Program {
            argv: line
                .split(' ')
                .map(|word| word.replace('_', " ").replace("JOB", &job))
                .collect(),
            read,
        };
        let programs = match place.scheduler? {
            Scheduler::Slurm => vec![
                program("squeue -h -j JOB -o %L_%e", answer::squeue),
                program("scontrol show job JOB", answer::scontrol),
            ],
            Scheduler::Pbs => {
                let path = qstat_path();
                let mut both = vec![
                    program("qstat -f -F json JOB", answer::qstat_json),
                    program("qstat -f JOB", answer::qstat),
                ];
                for program in &mut both {
                    program.argv[0].clone_from(&path);
                }
                both
            }
            Scheduler::Lsf | Scheduler::Sge | Scheduler::Flux => return None,
        };
        Some(Self {
            programs,
            farmer: farmer.to_owned(),
            limit: LIMIT,
        })
    }

    /// How long the job lasts; the error says why that is unknown. Waits for some
    /// time, or until `stop` is disconnected.
    pub fn ask(&self, stop: &Receiver<()>) -> Result<Left, String> {
        let mut why = String::new();
        for program in &self.programs {
            let name = &program.argv[0];
            let said = match self.run(program, stop) {
                Ok(text) => match (program.read)(&text, since_1970()) {
                    Some(left) => return Ok(left),
                    None => match text.lines().find(|line| !line.trim().is_empty()) {
                        Some(line) => line.trim().to_owned(),
                        None => "its answer is empty".to_owned(),
                    },
                },
                Err(Silence::Stopped) => return Err("not waited for".into()),
                // The next program would ask the same scheduler.
                Err(Silence::Hung) => {
                    return Err(format!(
                        "{name}: no answer within {}s",
                        self.limit.as_secs()
                    ));
                }
                Err(Silence::Cannot(error)) => error.to_string(),
            };
            if why.is_empty() {
                why = format!("{name}: {said}");
            }
        }
        Err(why)
    }

    fn run(&self, program: &Program, stop: &Receiver<()>) -> Result<String, Silence> {
        let (mut child, mut answer) = self.start(program).map_err(Silence::Cannot)?;
        let (text, read) = bounded(1);
        let reader = std::thread::Builder::new()
            .name("answer".into())
            .stack_size(256 << 10)
            .spawn(move || {
                let mut bytes = Vec::new();
                let _ = answer.by_ref().take(LONGEST).read_to_end(&mut bytes);
                let _ = text.send(String::from_utf8_lossy(&bytes).into_owned());
            });
        let answer = if let Err(error) = reader {
            Err(Silence::Cannot(error))
        } else {
            select! {
                recv(read) -> text => Ok(text.unwrap_or_default()),
                recv(stop) -> _ => Err(Silence::Stopped),
                default(self.limit) => Err(Silence::Hung),
            }
        };
        if let Ok(pid) = i32::try_from(child.id()) {
            // It is not reaped yet: the group is still its own.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = child.wait();
        answer
    }

    #[expect(clippy::disallowed_methods, reason = "this is not a task")]
    fn start(&self, program: &Program) -> std::io::Result<(Child, std::io::PipeReader)> {
        let (answer, pipe) = std::io::pipe()?;
        let mut command = Command::new(&program.argv[0]);
        for (name, _) in std::env::vars_os() {
            // They change what is shown, and of which jobs.
            if name.to_string_lossy().starts_with("SQUEUE_") {
                command.env_remove(name);
            }
        }
        let child = command
            .args(&program.argv[1..])
            .env("TZ", "UTC")
            .env("LC_ALL", "C")
            .env("SLURM_TIME_FORMAT", "standard")
            .env(guard::MARK, &self.farmer)
            .stdin(Stdio::null())
            .stdout(pipe.try_clone()?)
            .stderr(pipe)
            .process_group(0)
            .spawn()?;
        Ok((child, answer))
    }
}

/// Why there is no answer.
enum Silence {
    Stopped,
    Hung,
    Cannot(std::io::Error),
}

fn since_1970() -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default()
}

/// The time left until this moment, given as time since 1970.
pub fn left_until(since: Duration) -> Duration {
    since.saturating_sub(since_1970())
}

/// PBS does not put its programs into a job's PATH; its configuration says where
/// they are.
fn qstat_path() -> String {
    let is_there = |folder: &std::path::Path| folder.join("qstat").is_file();
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| is_there(&folder)) {
        return "qstat".into();
    }
    let conf = pbs_conf();
    let exec = conf
        .lines()
        .find_map(|line| line.trim().strip_prefix("PBS_EXEC="))
        .unwrap_or("/opt/pbs");
    format!("{exec}/bin/qstat")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(lines: &[&[&str]], limit: Duration) -> Question {
        let programs = lines.iter().map(|argv| Program {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            read: answer::squeue,
        });
        Question {
            programs: programs.collect(),
            farmer: "test".into(),
            limit,
        }
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn the_first_that_knows_is_believed() {
        let (_keep, stop) = bounded(0);
        let asked = question(
            &[
                &["/nonexistent/squeue"],
                &["sh", "-c", "echo who knows"],
                &["sh", "-c", "echo $TZ 1:00 >&2; echo '9:57 NONE'"],
            ],
            LONG,
        );
        assert_eq!(asked.ask(&stop), Ok(Left::For(Duration::from_secs(597))));
        let nobody = question(&[&["sh", "-c", "echo; echo 'error: down'"]], LONG);
        assert_eq!(nobody.ask(&stop), Err("sh: error: down".into()));
    }

    #[test]
    fn who_hangs_is_killed_and_who_is_not_waited_for_as_well() {
        let (keep, stop) = bounded(0);
        let short = Duration::from_millis(50);
        let hangs = question(&[&["sh", "-c", "sleep 1000; echo 9:57 NONE"]], short);
        assert!(hangs.ask(&stop).unwrap_err().contains("no answer within"));
        drop(keep);
        let hangs = question(&[&["sh", "-c", "sleep 1000; echo 9:57 NONE"]], LONG);
        assert_eq!(hangs.ask(&stop), Err("not waited for".into()));
    }

    #[test]
    fn only_slurm_and_pbs_are_asked() {
        let place = |scheduler| Allocation {
            scheduler: Some(scheduler),
            asks_for: Some("7".into()),
            ..Allocation::default()
        };
        let argv = |scheduler| {
            let question = Question::of(&place(scheduler), "me")?;
            Some(question.programs[0].argv.join("|"))
        };
        assert_eq!(argv(Scheduler::Slurm).unwrap(), "squeue|-h|-j|7|-o|%L %e");
        assert!(
            argv(Scheduler::Pbs)
                .unwrap()
                .ends_with("qstat|-f|-F|json|7")
        );
        assert_eq!(argv(Scheduler::Sge), None);
        assert!(Question::of(&Allocation::default(), "me").is_none());
    }
}
