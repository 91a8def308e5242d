//! The pure and hot parts of `pytf`: what happens once for every task, without
//! a process and without a disk.
//!
//! `benches/hot/main.rs` measures them by the clock, `tests/instructions.rs`
//! counts their instructions. Both rely on this: the same work is done each
//! time, and what is done once for many tasks is in [`Farm::new`].

use std::time::Duration;

use pytf::model::outcome::Outcome;
use pytf::model::record::{End, Header, LogAt, Record, Used};
use pytf::model::task::{Task, TaskId, push_line};
use pytf::model::tasklist::{Dialect, Parser};
use pytf::runner::shell::Shell;
use pytf::runner::{How, Runner};
use pytf::workdir::error::Result;
use pytf::workdir::liveness::Waiting;
use pytf::workdir::mechanism::Mechanism;
use pytf::workdir::open::Workdir;
use pytf::workdir::session::Session;
use pytf::workdir::state::Act;
use pytf::workdir::transaction::Txn;

use crate::files::{PROFILES, Shared};

/// How many tasks a turn claims and settles.
const A_TURN: u64 = 64;

/// A task list of so many tasks, with comments and blank lines between them.
pub(crate) fn list(tasks: u64) -> Vec<u8> {
    let mut text = Vec::new();
    for id in 0..tasks {
        if id % 10 == 0 {
            text.extend_from_slice(b"# the next ten\n\n");
        }
        text.extend_from_slice(line(id).as_bytes());
        text.push(b'\n');
    }
    text
}

fn line(id: u64) -> String {
    format!("/usr/bin/simulate --seed {id} --out results/{id}.dat")
}

/// Parses a list, and writes each task as the workdir has it; returns the bytes.
pub(crate) fn parse(list: &[u8]) -> usize {
    let (mut parser, mut lines, mut id) = (Parser::of(Dialect::default()), Vec::new(), 0);
    let mut emit = |line: &[u8]| {
        push_line(&mut lines, TaskId(id), line);
        id += 1;
    };
    parser
        .feed(list, &mut emit)
        .expect("a list without mistakes");
    parser.finish(&mut emit).expect("a list without mistakes");
    lines.len()
}

/// How a task ended.
pub(crate) fn end(id: TaskId) -> End {
    End {
        id,
        attempt: 1,
        slot: 3,
        at: 1_800_000_000_000_000 + id.0,
        us: 1500,
        outcome: Outcome::Exit(0),
        again: None,
        used: Some(Used {
            user: 700,
            sys: 600,
            peak: 6800,
            ..Used::default()
        }),
        log: Some(LogAt::whole(format!("logs/log_{id}"))),
        dir: None,
        skipped: None,
        lease: None,
    }
}

/// Encodes the ends of so many tasks for the journal; returns the bytes.
pub(crate) fn encode(tasks: u64) -> usize {
    let mut out = Vec::new();
    for id in 0..tasks {
        Record::End(end(TaskId(id))).push_to(&mut out);
    }
    out.len()
}

/// A runner as the tasks of a farm have it.
pub(crate) fn runner() -> Runner {
    let shell = Shell::find(None, |_| None).expect("a shell");
    Runner::new(shell, [("PATH".into(), "/usr/bin:/bin".into())])
}

/// Decides how so many lines are executed, of which every other needs the
/// shell; returns how many arguments they have.
pub(crate) fn decide(runner: &mut Runner, tasks: u64) -> usize {
    let arguments = |how| match how {
        How::Exec { argv, .. } => argv.len(),
        How::Script | How::Cannot { .. } => 0,
    };
    (0..tasks)
        .map(|id| match id % 2 {
            0 => line(id),
            _ => line(id) + " > /dev/null && true",
        })
        .map(|line| arguments(runner.to_argv(line.as_bytes())))
        .sum()
}

/// A farmer that has joined a workdir in memory.
pub(crate) struct Farm {
    session: Session,
    waiting: Still,
    tasks: Vec<Task>,
}

impl Farm {
    /// With so many tasks to do, of which it has claimed the first.
    pub(crate) fn new(tasks: u64) -> Self {
        Self::join(tasks).expect("files in memory do not fail")
    }

    fn join(tasks: u64) -> Result<Self> {
        let workdir = Workdir {
            dir: Shared::new(PROFILES[0]).dir(),
            path: "memory".into(),
            mechanism: Mechanism::Flock,
        };
        let mut waiting = Still;
        let mut txn = Txn::begin(&workdir, "the user", &mut waiting)?;
        let mut lines = Vec::new();
        (0..tasks).for_each(|id| push_line(&mut lines, TaskId(id), line(id).as_bytes()));
        txn.add(&lines)?;
        txn.commit(Act::Prepare)?;
        let journal = Session::journal_for(&workdir, header)?;
        let (session, _, turn) = Session::join(&workdir, journal, false, |_| A_TURN, &mut waiting)?;
        Ok(Self {
            session,
            waiting,
            tasks: turn.tasks,
        })
    }

    /// Takes turns until nothing is left: the ends of what was claimed go into
    /// the journal and are settled, and as much is claimed anew. Returns how
    /// many tasks that were.
    pub(crate) fn work(&mut self) -> u64 {
        let mut done = 0;
        while !self.tasks.is_empty() {
            done += self.tasks.len() as u64;
            self.turn().expect("files in memory do not fail");
        }
        done
    }

    fn turn(&mut self) -> Result<()> {
        let journal = self.session.journal();
        for task in std::mem::take(&mut self.tasks) {
            let end = end(task.id);
            journal.lock().push(&Record::End(end.clone()));
            self.session.settle(task, end);
        }
        let upto = journal.lock().end();
        let turn = self
            .session
            .turn(upto, None, |_| A_TURN, &mut self.waiting)?;
        self.tasks = turn.tasks;
        Ok(())
    }
}

fn header(nth: u32) -> Header {
    Header {
        version: 1,
        farmer: format!("n1.0.1.{nth}"),
        host: "n1".into(),
        pid: 1,
        began: None,
        node: None,
        job: None,
        rank: None,
        step: None,
        restart: None,
        slots: 64,
        follows: false,
        devices: Vec::new(),
        labels: Vec::new(),
        at: 0,
        pytf: String::new(),
        cpus: None,
        runner: None,
        memory: None,
    }
}

/// A clock that stands still: nobody else wants the lock.
struct Still;

impl Waiting for Still {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn micros(&self) -> u64 {
        1_800_000_000_000_000
    }

    fn pause(&mut self, _: Duration) -> bool {
        false
    }

    fn jitter(&mut self) -> f64 {
        0.5
    }

    fn notify(&mut self, _: String) {}

    fn takeover(&self) -> Duration {
        Duration::from_secs(2 * 60)
    }
}
