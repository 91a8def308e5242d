//! Messages of a farm that stops, or is asked to stop: what happens next, and how long
//! that may take.
//!
//! Pure: computed from the phase before and the phase now.

use std::time::Duration;

use crate::model::durations;
use crate::model::farmer::{Cause, GIVE_UP, LEAVE_WITHIN, Phase, SIGINT};
use crate::model::figures::grouped;
use crate::model::outcome::signal_name;

/// A signal or a deadline, and the phases before and after it.
#[derive(Clone, Copy, Debug)]
pub struct Stopping {
    /// The signal, when one came.
    pub signal: Option<i32>,
    /// The phase of the farmer before.
    pub before: Phase,
    /// Its phase now.
    pub after: Phase,
    /// Why it ends.
    pub cause: Cause,
    /// How many tasks run.
    pub running: u64,
    /// The farmer's time.
    pub now: Duration,
    /// How long running tasks may go on when no more are started, if that is known.
    pub ends_in: Option<Duration>,
}

impl Stopping {
    /// The message; `None` when nothing changed and no signal came.
    pub fn text(&self) -> Option<String> {
        let has_changed =
            std::mem::discriminant(&self.before) != std::mem::discriminant(&self.after);
        if self.signal.is_none() && !has_changed {
            return None;
        }
        let next = match (self.before, self.after) {
            (_, Phase::Done) if self.signal.is_some() => {
                "left at once; the next run gives back what this process had".to_owned()
            }
            (_, Phase::Leaving { .. }) if self.signal.is_some() => format!(
                "leaving the workdir, which takes {} at most",
                durations::show(LEAVE_WITHIN)
            ),
            (Phase::Running, Phase::Running) => self.held(),
            (before, Phase::Killing { .. }) => self.killed(before),
            (before, Phase::Stopping { kill_at }) if kill_at < Duration::MAX => {
                self.asked(before, kill_at)
            }
            (_, Phase::Stopping { .. }) if self.signal.is_some() => {
                "nothing is left to do; leaving".to_owned()
            }
            _ => return None,
        };
        Some(match self.why() {
            Some(why) => format!("{why}: {next}"),
            None => next,
        })
    }

    fn why(&self) -> Option<String> {
        match (self.signal, self.cause) {
            (Some(signal), _) => Some(signal_name(signal)),
            // It was reported when the farmer began to stop.
            _ if self.before != Phase::Running => None,
            (None, Cause::TimeUp) => Some("the time limit is over".to_owned()),
            (None, Cause::Walltime) => Some("the allocation ends".to_owned()),
            (None, Cause::Stop) => Some("pytf stop".to_owned()),
            (None, Cause::WorkdirUnusable) => Some("the workdir cannot be used".to_owned()),
            (None, Cause::Failures) => Some("too many tasks have failed".to_owned()),
            (None, Cause::Fenced | Cause::Complete | Cause::Drain | Cause::Signal(_)) => None,
        }
    }

    /// No more tasks are started; running tasks go on.
    fn held(&self) -> String {
        let until = match self.ends_in {
            Some(left) => format!("for {} at most", durations::show(left)),
            None => "until the allocation ends".to_owned(),
        };
        let run = self.run("goes on", "go on");
        format!("nothing more is started; {run} {until}")
    }

    /// Tasks were asked to end.
    fn asked(&self, before: Phase, kill_at: Duration) -> String {
        let left = durations::show(kill_at.saturating_sub(self.now));
        let again = if self.signal == Some(SIGINT) {
            "; Ctrl-C again kills at once"
        } else {
            ""
        };
        let run = self.run("has", "have");
        match (before, self.running) {
            // It joins again where it can.
            (Phase::Running, 0) if self.cause == Cause::Fenced => {
                "nothing more is started".to_owned()
            }
            (Phase::Running, 0) => "nothing more is started; leaving".to_owned(),
            (Phase::Running, 1) => format!(
                "nothing more is started; {run} {left} to end, then it is killed; it will run \
                 again{again}"
            ),
            (Phase::Running, _) => format!(
                "nothing more is started; {run} {left} to end, then they are killed; they will \
                 run again{again}"
            ),
            _ => format!("stopping already; {run} {left} left{again}"),
        }
    }

    fn killed(&self, before: Phase) -> String {
        let killed = self.run("is killed", "are killed");
        match (before, self.signal, self.cause) {
            (Phase::Killing { .. }, ..) => format!(
                "{killed} already; leaving within {}",
                durations::show(GIVE_UP)
            ),
            (_, Some(_), _) => format!("{killed} at once, and will run again"),
            (_, None, Cause::Fenced) => format!("{killed}: others have taken over"),
            (_, None, _) => format!("{killed}: the grace period is over"),
        }
    }

    /// `8 running tasks VERB`.
    fn run(&self, one: &str, many: &str) -> String {
        match self.running {
            1 => format!("1 running task {one}"),
            n => format!("{} running tasks {many}", grouped(n)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn each_signal_is_answered_with_what_happens_next_and_for_how_long() {
        let second = Duration::from_secs(1);
        let running = Phase::Running;
        let stopping = Phase::Stopping {
            kill_at: 14 * second,
        };
        let ending = Phase::Stopping {
            kill_at: Duration::MAX,
        };
        let killing = Phase::Killing {
            give_up_at: 19 * second,
        };
        let leaving = Phase::Leaving { give_up_at: None };
        let (term, int, usr1) = (Some(15), Some(SIGINT), Some(10));
        let signal = Cause::Signal(15);
        for (signal, before, after, cause, count, text) in [
            (
                term,
                running,
                stopping,
                signal,
                8,
                "SIGTERM: nothing more is started; 8 running tasks have 10.0s to end, then they \
                 are killed; they will run again",
            ),
            (
                int,
                running,
                stopping,
                signal,
                1,
                "SIGINT: nothing more is started; 1 running task has 10.0s to end, then it is \
                 killed; it will run again; Ctrl-C again kills at once",
            ),
            (
                term,
                running,
                stopping,
                signal,
                0,
                "SIGTERM: nothing more is started; leaving",
            ),
            (
                None,
                running,
                stopping,
                Cause::Fenced,
                0,
                "nothing more is started",
            ),
            (
                None,
                running,
                stopping,
                Cause::TimeUp,
                2,
                "the time limit is over: nothing more is started; 2 running tasks have 10.0s to \
                 end, then they are killed; they will run again",
            ),
            (
                term,
                stopping,
                stopping,
                signal,
                2,
                "SIGTERM: stopping already; 2 running tasks have 10.0s left",
            ),
            (
                int,
                stopping,
                killing,
                signal,
                2,
                "SIGINT: 2 running tasks are killed at once, and will run again",
            ),
            (
                None,
                stopping,
                killing,
                signal,
                1,
                "1 running task is killed: the grace period is over",
            ),
            (
                None,
                running,
                killing,
                Cause::Fenced,
                3,
                "3 running tasks are killed: others have taken over",
            ),
            (
                usr1,
                running,
                running,
                Cause::Complete,
                3,
                "SIGUSR1: nothing more is started; 3 running tasks go on for 5m00s at most",
            ),
            (
                term,
                leaving,
                leaving,
                signal,
                0,
                "SIGTERM: leaving the workdir, which takes 1m00s at most",
            ),
            (
                int,
                leaving,
                Phase::Done,
                signal,
                0,
                "SIGINT: left at once; the next run gives back what this process had",
            ),
            (
                term,
                ending,
                ending,
                Cause::Complete,
                0,
                "SIGTERM: nothing is left to do; leaving",
            ),
            (None, running, ending, Cause::Complete, 0, ""),
            (None, running, running, Cause::Complete, 5, ""),
            (None, ending, leaving, Cause::Complete, 0, ""),
        ] {
            let stopping = Stopping {
                signal,
                before,
                after,
                cause,
                running: count,
                now: 4 * second,
                ends_in: Some(300 * second),
            };
            assert_eq!(stopping.text().unwrap_or_default(), text, "{stopping:?}");
        }
    }
}
