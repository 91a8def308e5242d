//! What happens after the last task: the timeline, the summary, the status.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::clock::Clock;
use super::message;
use super::options::Options;
use super::summary_scope::{self, Job, SummaryScope};
use super::supervisor::FarmerEnd;
use crate::exit::RunExit;
use crate::history::logs::log_tail;
use crate::history::run::counts::failed_now;
use crate::history::run::{Farmer, Run as Record, RunError};
use crate::host::open_files;
use crate::model::allocation::Allocation;
use crate::model::farmer::{Cause, RunSummary};
use crate::model::logs::LogMode;
use crate::model::outcome::signal_name;
use crate::ui::advice;
use crate::ui::progress::warn;
use crate::ui::style::{OutputStyle, Terminal};
use crate::ui::summary::combined::Combined;
use crate::ui::summary::process::ProcessSummary;
use crate::ui::summary::{Failure, Summary, TAIL};
use crate::workdir::open::Workdir;
use crate::workdir::state::{State, peek};

/// What is left when every task of ours has ended.
pub(super) struct Finish<'a> {
    pub(super) workdir: Workdir,
    pub(super) farmer: String,
    pub(super) node: String,
    pub(super) allocation: Allocation,
    pub(super) slots: u32,
    pub(super) options: &'a Options,
    pub(super) clock: Clock,
}

impl Finish<'_> {
    /// Writes the timeline and the summary; returns the exit status of the run.
    pub(super) fn exit(&self, ended: &FarmerEnd, busy: &AtomicU64) -> RunExit {
        // Nothing is started any more that would inherit it.
        open_files::raise();
        let state = ended
            .state
            .clone()
            .or_else(|| peek(&self.workdir.dir).ok().flatten());
        let run = ended.state.as_ref().map(|state| RunSummary {
            is_complete: state.is_complete(),
            failed: state.failed.lines,
            others: state.live,
        });
        let is_last = state.as_ref().is_none_or(|state| state.live == 0);
        let scope = (!self.options.quiet)
            .then(|| summary_scope::scope(&self.workdir, &self.allocation, &self.farmer, ended));
        let wants_timeline = is_last
            && self.options.write_timeline.is_some()
            && ended.farmer.cause() != Cause::Fenced;
        let wants_record = match &scope {
            Some(SummaryScope::Farmer) => is_last,
            Some(SummaryScope::Job(_)) => true,
            Some(SummaryScope::None) | None => false,
        };
        // The journals are read once for both.
        let record = (wants_timeline || wants_record).then(|| Record::open(&self.workdir.path));
        if let Some(record) = record.as_ref().filter(|_| wants_timeline) {
            self.write_timeline(record);
        }
        let record = record.and_then(Result::ok);
        let text = match (scope, &state) {
            (Some(SummaryScope::None), _) => self.part(ended, state.as_ref()),
            (Some(SummaryScope::Farmer), Some(state)) => {
                self.summary(ended, state, busy, record.as_ref(), None)
            }
            (Some(SummaryScope::Job(job)), Some(state)) => {
                self.summary(ended, state, busy, record.as_ref(), Some(&job))
            }
            _ => String::new(),
        };
        // A closed or full standard output changes nothing in what was done.
        let mut stdout = std::io::stdout();
        let _ = stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush());
        ended.farmer.exit(run)
    }

    fn write_timeline(&self, record: &Result<Record, RunError>) {
        let Some(write) = self.options.write_timeline else {
            return;
        };
        let written = match record {
            Ok(record) => write(record).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match written {
            Ok(None) => {}
            Ok(Some(left_out)) => warn(&format!("timeline.json: {left_out}")),
            Err(error) => warn(&format!("cannot write timeline.json: {error}")),
        }
    }

    /// The line of a process that does not sum up: empty when the run is complete, since
    /// the summary of another process has everything.
    fn part(&self, ended: &FarmerEnd, state: Option<&State>) -> String {
        if state.is_some_and(State::is_complete) {
            return String::new();
        }
        let farmer = Farmer::read(&self.workdir.path, &self.farmer);
        let farmer = farmer.ok().flatten();
        ProcessSummary::of(&self.node, stopped(ended), farmer.as_ref()).text()
    }

    /// The summary: of a whole job when we report for it and the journals can be read;
    /// otherwise of this farmer.
    fn summary(
        &self,
        ended: &FarmerEnd,
        state: &State,
        busy: &AtomicU64,
        record: Option<&Record>,
        job: Option<&Job>,
    ) -> String {
        let Combined {
            slots,
            busy,
            failures,
        } = match (record, job) {
            (Some(record), Some(job)) => {
                Combined::of(record, &job.joined, |header| header.job == job.name)
            }
            (Some(record), None) => Combined {
                busy: Duration::from_micros(busy.load(Ordering::Relaxed)),
                ..Combined::of(record, std::slice::from_ref(&self.farmer), |_| true)
            },
            _ => self.alone(ended, busy),
        };
        // When we could not leave, we count as a live farmer ourselves.
        let not_others = u32::from(ended.state.is_none()) + job.map_or(0, |job| job.dead);
        let summary = Summary {
            workdir: self.workdir.path.display().to_string(),
            finished: state.finished.lines,
            failed: state.failed.lines,
            left: state.left() + state.claimed(),
            interrupted: state.interrupted,
            stopped: stopped(ended),
            others_work: state.live > not_others,
            short: ended.short.clone().filter(|_| state.left() > 0),
            unstarted: state.left().saturating_sub(state.interrupted),
            is_cut: state.feeding > 0 && state.live == 0,
            wall: self.clock.now(),
            slots,
            busy,
            failures,
            output: self.output(),
            has_logs: self.options.logs != LogMode::None,
            is_cut_off: ended.farmer.cause() == Cause::Fenced,
            advice: advised(record),
        };
        let style = OutputStyle::new(Terminal::of_stdout(), |name| std::env::var(name).ok());
        summary.text(&style)
    }

    /// What there is of the output of tasks that finished.
    fn output(&self) -> Option<String> {
        match self.options.logs {
            LogMode::Files => {
                let logs = self.workdir.path.join("logs/log_ID");
                Some(format!("what a task printed: {}", logs.display()))
            }
            LogMode::Packed => Some("what a task printed".to_owned()),
            LogMode::Failed | LogMode::None => None,
        }
    }

    /// Our own slots and failures.
    fn alone(&self, ended: &FarmerEnd, busy: &AtomicU64) -> Combined {
        let failed = self.still_failed(ended).into_iter();
        let mut failures: Vec<Failure> = Vec::new();
        for failure in failed.map(|failure| self.failure(failure)) {
            let alike = failures
                .iter_mut()
                .find(|other| other.outcome == failure.outcome);
            match alike {
                Some(other) => other.more += 1,
                None => failures.push(failure),
            }
        }
        failures.sort_by_key(|failure| failure.id);
        Combined {
            slots: u64::from(self.slots),
            busy: Duration::from_micros(busy.load(Ordering::Relaxed)),
            failures,
        }
    }

    /// Our failures but those that have been put back since.
    fn still_failed<'e>(&self, ended: &'e FarmerEnd) -> Vec<&'e message::FailedAttempt> {
        let failed = match ended.failures[..] {
            [] => None,
            _ => failed_now(&self.workdir.path).ok(),
        };
        let all = ended.failures.iter();
        let has_failed = |id| {
            let failed = failed.as_ref();
            failed.is_none_or(|failed| failed.binary_search(&id).is_ok())
        };
        all.filter(|failure| has_failed(failure.id.0)).collect()
    }

    fn failure(&self, failure: &message::FailedAttempt) -> Failure {
        let tail = failure.log.as_ref().map_or_else(Vec::new, |log| {
            log_tail(&self.workdir.path.join(&log.file), log.part, TAIL)
        });
        Failure {
            id: failure.id,
            command: failure.line.clone(),
            outcome: failure.outcome.clone(),
            more: 0,
            node: self.node.clone(),
            log: failure
                .log
                .as_ref()
                .filter(|log| log.part.is_none())
                .map(|log| log.file.clone()),
            tail,
        }
    }
}

/// Why we were stopped, when we were.
fn stopped(ended: &FarmerEnd) -> Option<String> {
    match ended.farmer.cause() {
        Cause::Complete => None,
        Cause::TimeUp => Some("the time limit".into()),
        Cause::Walltime => Some("the end of the allocation".into()),
        Cause::Signal(signal) => Some(signal_name(signal)),
        Cause::WorkdirUnusable => Some("an error of the workdir".into()),
        Cause::Fenced => Some("a takeover: others run its tasks".into()),
    }
}

/// Advice from the journals of the run; none when they cannot be read.
fn advised(record: Option<&Record>) -> Vec<String> {
    let advice = record.map_or_else(Vec::new, advice::advice);
    advice
        .into_iter()
        .take(3)
        .map(|advice| advice.text)
        .collect()
}
