//! What happens after the last task: the timeline, the summary, the command of `--on-end`, the
//! status.

use std::io::{BufRead, BufReader, Write};

use super::message::FailedAttempt;
use super::on_end;
use super::shared::Farm;
use super::summary_scope::{self, Job, SummaryScope};
use super::supervisor::{FarmerEnd, why};
use crate::exit::RunExit;
use crate::history::logs::log_tail;
use crate::history::run::counts::failed_now;
use crate::history::run::{Farmer, Run as Record, RunError};
use crate::host::open_files;
use crate::model::attributes;
use crate::model::farmer::{Cause, RunSummary};
use crate::model::logs::LogMode;
use crate::model::record::LogAt;
use crate::model::task::parse_line;
use crate::ui::advice;
use crate::ui::progress::warn;
use crate::ui::style::{OutputStyle, Terminal};
use crate::ui::summary::combined::Combined;
use crate::ui::summary::process::ProcessSummary;
use crate::ui::summary::{Failure, Summary, TAIL};
use crate::workdir::layout;
use crate::workdir::state::{State, peek};

/// What is left when every task of ours has ended.
pub(super) struct Finish<'a> {
    pub(super) farm: &'a Farm<'a>,
    /// Our name, the last one.
    pub(super) farmer: &'a str,
    pub(super) ended: &'a FarmerEnd,
}

impl Finish<'_> {
    /// Writes the timeline and the summary; returns the exit status of the run.
    pub(super) fn exit(&self) -> RunExit {
        let (farm, ended) = (self.farm, self.ended);
        if farm.options.piped().is_none() {
            // Many journals may be read, and nothing more is started that would inherit it.
            open_files::raise();
        }
        let state = ended
            .state
            .clone()
            .or_else(|| peek(&self.farm.workdir.dir).ok().flatten());
        let run = ended.state.as_ref().map(|state| RunSummary {
            is_complete: state.is_complete(),
            is_stranded: state.left() + state.pending() > 0,
            failed: state.failed.lines,
            others: state.live,
        });
        let is_last = state.as_ref().is_none_or(|state| state.live == 0);
        let scope =
            (!self.farm.options.quiet).then(|| summary_scope::scope(farm, self.farmer, ended));
        let wants_timeline = is_last
            && self.farm.options.write_timeline.is_some()
            && ended.farmer.cause() != Cause::Fenced;
        let wants_record = match &scope {
            // At the other end of a pipe only the files of the transactions are seen.
            _ if farm.options.piped().is_some() => false,
            Some(SummaryScope::Farmer) => is_last,
            Some(SummaryScope::Job(_)) => true,
            Some(SummaryScope::None) | None => false,
        };
        // The journals are read once for both.
        let record =
            (wants_timeline || wants_record).then(|| Record::open(&self.farm.workdir.path));
        if let Some(record) = record.as_ref().filter(|_| wants_timeline) {
            self.write_timeline(record);
        }
        let record = record.and_then(Result::ok);
        let text = match (scope, &state) {
            (Some(SummaryScope::None), _) => self.part(state.as_ref()),
            (Some(SummaryScope::Farmer), Some(state)) => self.summary(state, record.as_ref(), None),
            (Some(SummaryScope::Job(job)), Some(state)) => {
                self.summary(state, record.as_ref(), Some(&job))
            }
            _ => String::new(),
        };
        // When standard output is closed or full, the work is done all the same.
        let mut stdout = std::io::stdout();
        let _ = stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush());
        let exit = ended.farmer.exit(run);
        if let Some((command, state)) = self.farm.options.on_end.as_ref().zip(state)
            && on_end::is_due(farm, self.farmer, ended)
        {
            on_end::run(farm, command, ended, &state, exit);
        }
        exit
    }

    fn write_timeline(&self, record: &Result<Record, RunError>) {
        let Some(write) = self.farm.options.write_timeline else {
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

    /// The line of a process that does not sum up. It is empty when the run is complete: the
    /// summary of another process has everything.
    fn part(&self, state: Option<&State>) -> String {
        if state.is_some_and(State::is_complete) {
            return String::new();
        }
        let farmer = Farmer::read(&self.farm.files.path, self.farmer);
        let farmer = farmer.ok().flatten();
        ProcessSummary::of(&self.farm.node.name, stopped(self.ended), farmer.as_ref()).text()
    }

    /// The summary: of the whole job if we report for it and the journals can be read, else
    /// of this farmer.
    fn summary(&self, state: &State, record: Option<&Record>, job: Option<&Job>) -> String {
        let Combined {
            slots,
            busy,
            failures,
        } = match (record, job) {
            (Some(record), Some(job)) => {
                Combined::of(record, &job.joined, |header| header.job == job.name)
            }
            (Some(record), None) => Combined {
                busy: self.farm.times.busy(),
                ..Combined::of(record, &[self.farmer.to_owned()], |_| true)
            },
            _ => self.alone(),
        };
        // When we could not leave, we count as a live farmer ourselves.
        let not_others = u32::from(self.ended.state.is_none()) + job.map_or(0, |job| job.dead);
        let summary = Summary {
            workdir: self.farm.workdir.path.display().to_string(),
            finished: state.finished.lines,
            failed: state.failures(),
            cancelled: state.cancelled,
            left: state.left() + state.claimed() + state.pending(),
            blocked: if state.live > 0 { 0 } else { state.pending() },
            unfit: self.unfit(state),
            interrupted: state.interrupted,
            stopped: stopped(self.ended),
            others_work: state.live > not_others,
            short: self.ended.short.clone().filter(|_| state.left() > 0),
            unstarted: state.left().saturating_sub(state.interrupted),
            is_cut: state.feeding > 0 && state.live == 0,
            is_paused: state.paused,
            wall: self.farm.clock.now(),
            slots,
            busy,
            failures,
            output: self.output(),
            has_logs: self.farm.options.logs != LogMode::None,
            is_cut_off: self.ended.farmer.cause() == Cause::Fenced,
            advice: Vec::new(),
        };
        let summary = Summary {
            advice: advised(record, summary.can_go_on()),
            ..summary
        };
        let style = OutputStyle::new(Terminal::of_stdout(), |name| std::env::var(name).ok());
        summary.text(&style)
    }

    /// The tasks that are left because they fit none of the processes, and what the first of
    /// them ask for.
    fn unfit(&self, state: &State) -> Option<(u64, String)> {
        let is_complete = self.ended.farmer.cause() == Cause::Complete && state.live == 0;
        let left = is_complete.then(|| state.left()).filter(|left| *left > 0)?;
        let path = self.farm.workdir.path.join(layout::TOPROCESS);
        let waiting = std::fs::File::open(path).ok()?;
        let first = BufReader::new(waiting).split(b'\n').next()?.ok()?;
        let asked = attributes::split(parse_line(&first)?.1).1?;
        Some((left, String::from_utf8_lossy(asked).into_owned()))
    }

    /// What there is of the output of tasks that finished.
    fn output(&self) -> Option<String> {
        match self.farm.options.logs {
            LogMode::Files | LogMode::Split => {
                let logs = self.farm.workdir.path.join("logs/log_ID");
                Some(format!("what a task printed: {}", logs.display()))
            }
            LogMode::Packed => Some("what a task printed".to_owned()),
            LogMode::Failed | LogMode::None => None,
        }
    }

    /// Our own slots and failures.
    fn alone(&self) -> Combined {
        let failed = self.still_failed().into_iter();
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
            slots: u64::from(self.farm.node.slots),
            busy: self.farm.times.busy(),
            failures,
        }
    }

    /// Our failures, without those that were put back since.
    fn still_failed(&self) -> Vec<&FailedAttempt> {
        let failed = match self.ended.failures[..] {
            [] => None,
            _ => failed_now(&self.farm.files.path).ok(),
        };
        let all = self.ended.failures.iter();
        let has_failed = |id| {
            let failed = failed.as_ref();
            failed.is_none_or(|failed| failed.binary_search(&id).is_ok())
        };
        all.filter(|failure| has_failed(failure.id.0)).collect()
    }

    fn failure(&self, failure: &FailedAttempt) -> Failure {
        let tail = failure
            .log
            .as_ref()
            .map_or_else(Vec::new, |log| log_tail(&self.farm.files.path, log, TAIL));
        Failure {
            id: failure.id,
            command: failure.line.clone(),
            outcome: failure.outcome.clone(),
            more: 0,
            node: self.farm.node.name.clone(),
            log: failure.log.as_ref().and_then(LogAt::names),
            tail,
        }
    }
}

/// Why we were stopped, when we were.
fn stopped(ended: &FarmerEnd) -> Option<String> {
    let cause = ended.farmer.cause();
    (cause != Cause::Complete).then(|| why(cause))
}

/// Advice from the journals of the run; none when they cannot be read.
fn advised(record: Option<&Record>, can_go_on: bool) -> Vec<String> {
    let advice = record.map_or_else(Vec::new, advice::advice);
    advice
        .into_iter()
        .filter(|advice| can_go_on || advice.kind != advice::REST)
        .take(3)
        .map(|advice| advice.text)
        .collect()
}
