//! Reads the answers of schedulers that are asked for the end of a job.
//!
//! Their programs run with `TZ=UTC`, so that their dates need no time zone.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use crate::model::durations;

/// The clocks of a node and of its scheduler may differ by this.
const SKEW: Duration = Duration::from_secs(60);

/// How long a job goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// For this time.
    For(Duration),
    /// Without limit.
    Unlimited,
    /// For the time that the job was not charged for yet: a suspended job is not charged.
    Uncharged(Charge),
}

/// What a job is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// All that it may have.
    pub walltime: Duration,
    /// The time since it began, suspended or not.
    pub elapsed: Duration,
    /// What it was charged when the scheduler last checked, some time ago.
    pub used: Duration,
}

impl Left {
    /// For how long; none: without limit. `frozen` is for how long this process stood
    /// still. Where only it did so the job was charged, as the scheduler's account shows.
    pub fn span(self, frozen: Duration) -> Option<Duration> {
        match self {
            Self::For(left) => Some(left),
            Self::Unlimited => None,
            Self::Uncharged(job) => {
                let charged = job.elapsed.saturating_sub(frozen).max(job.used);
                Some(job.walltime.saturating_sub(charged))
            }
        }
    }

    /// Whether time in which the job is suspended moves its end.
    pub fn moves(self) -> bool {
        matches!(self, Self::Uncharged(_))
    }
}

/// `squeue -h -o '%L %e'`: the time left and the end. The time left knows nothing
/// of a preemption, which only moves the end; the end is by another clock. So
/// the end counts where it is clearly sooner.
pub fn squeue(text: &str, now: Duration) -> Option<Left> {
    text.lines().find_map(|line| {
        let (left, end) = line.trim().split_once(' ')?;
        let by_end = iso(end.trim()).map(|end| end.saturating_sub(now));
        let left = match left {
            "UNLIMITED" | "NOT_SET" => None,
            // It is over, and Slurm says INVALID.
            "INVALID" => Some(Duration::ZERO),
            // Slurm's own form, in which MM:SS is the shortest.
            clock if clock.contains(':') => Some(durations::parse(clock).ok()?),
            _ => return None,
        };
        Some(sooner(left, by_end))
    })
}

/// `scontrol show job`.
pub fn scontrol(text: &str, now: Duration) -> Option<Left> {
    let field = |name: &str| {
        let mut words = text.split_whitespace();
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    let limit = field("TimeLimit")?;
    let by_end = iso(field("EndTime")?).map(|end| end.saturating_sub(now));
    let left = if ["UNLIMITED", "Partition_Limit"].contains(&limit) {
        None
    } else {
        let ran = durations::parse(field("RunTime")?).ok()?;
        Some(durations::parse(limit).ok()?.saturating_sub(ran))
    };
    Some(sooner(left, by_end))
}

fn sooner(left: Option<Duration>, by_end: Option<Duration>) -> Left {
    match (left, by_end) {
        (None, None) => Left::Unlimited,
        (None, Some(end)) => Left::For(end),
        (Some(left), Some(end)) if end + SKEW < left => Left::For(end),
        (Some(left), _) => Left::For(left),
    }
}

/// `qstat -f -F json JOB`.
pub fn qstat_json(text: &str, now: Duration) -> Option<Left> {
    let begin = text.find('{')?;
    let answer: Value = serde_json::from_str(&text[begin..]).ok()?;
    let job = answer.get("Jobs")?.as_object()?.values().next()?;
    let text = |path: &str| job.pointer(path).and_then(Value::as_str);
    pbs(
        text("/Resource_List/walltime"),
        text("/resources_used/walltime"),
        text("/stime")?,
        now,
    )
}

/// `qstat -f JOB`: `    stime = Sat Nov 21 00:05:22 2026`. TORQUE has `start_time`
/// in its place, and `Walltime.Remaining`, in seconds.
pub fn qstat(text: &str, now: Duration) -> Option<Left> {
    let field = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(" = ")?;
            (key.trim() == name).then(|| value.trim())
        })
    };
    if let Some(left) = field("Walltime.Remaining") {
        // It is negative when the time is over.
        let seconds: i64 = left.parse().ok()?;
        let seconds = u64::try_from(seconds).unwrap_or(0);
        return Some(Left::For(Duration::from_secs(seconds)));
    }
    let begun = field("stime").or_else(|| field("start_time"))?;
    pbs(
        field("Resource_List.walltime"),
        field("resources_used.walltime"),
        begun,
        now,
    )
}

fn pbs(walltime: Option<&str>, used: Option<&str>, begun: &str, now: Duration) -> Option<Left> {
    let Some(walltime) = walltime else {
        return Some(Left::Unlimited);
    };
    let used = used.and_then(|used| durations::parse(used).ok());
    Some(Left::Uncharged(Charge {
        walltime: durations::parse(walltime).ok()?,
        elapsed: now.saturating_sub(ctime(begun)?),
        used: used.unwrap_or_default(),
    }))
}

/// `2026-11-21T00:05:22`, in UTC, since 1970.
fn iso(text: &str) -> Option<Duration> {
    let time = humantime::parse_rfc3339_weak(text).ok()?;
    time.duration_since(UNIX_EPOCH).ok()
}

/// `Sat Nov 21 00:05:22 2026`, in UTC, since 1970.
fn ctime(text: &str) -> Option<Duration> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let words: Vec<&str> = text.split_whitespace().collect();
    let &[_, month, day, time, year] = &words[..] else {
        return None;
    };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    iso(&format!("{year}-{month:02}-{day:0>2}T{time}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: fn(u64) -> Duration = Duration::from_secs;
    /// `date -u -d '2026-11-21T00:05:22' +%s`
    const END: u64 = 1_795_219_522;

    #[test]
    fn dates_are_since_1970() {
        assert_eq!(iso("2026-11-21T00:05:22"), Some(S(END)));
        assert_eq!(ctime("Sat Nov 21 00:05:22 2026"), Some(S(END)));
        assert_eq!(iso("1970-01-01T00:00:00"), Some(S(0)));
        assert_eq!(iso("2024-02-29T12:00:00"), Some(S(1_709_208_000)));
        assert_eq!(iso("2000-03-01T00:00:00"), Some(S(951_868_800)));
        for wrong in ["NONE", "Unknown", "2026-13-01T00:00:00", "2026-1-1T1:1", ""] {
            assert_eq!(iso(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn squeue_tells_the_time_left() {
        let now = S(END - 597);
        for (text, left) in [
            ("9:57 2026-11-21T00:05:22\n", Some(Left::For(S(597)))),
            ("1-02:00:00 N/A\n", Some(Left::For(S(93_600)))),
            ("UNLIMITED NONE\n", Some(Left::Unlimited)),
            ("UNLIMITED N/A\n", Some(Left::Unlimited)),
            ("INVALID 2026-11-21T00:05:22\n", Some(Left::For(S(0)))),
            // Under preemption only the end moves.
            ("59:57 2026-11-21T00:05:22\n", Some(Left::For(S(597)))),
            // Clocks that differ a little.
            ("10:20 2026-11-21T00:05:22\n", Some(Left::For(S(620)))),
            ("squeue: warning\n9:57 NONE\n", Some(Left::For(S(597)))),
            (
                "slurm_load_jobs error: Unable to contact slurm controller",
                None,
            ),
            ("", None),
        ] {
            assert_eq!(squeue(text, now), left, "{text}");
        }
    }

    #[test]
    fn scontrol_tells_limit_and_end() {
        let show = |limit: &str, end: &str| {
            format!(
                "JobId=2 JobName=e.sh\n   JobState=RUNNING Reason=None\n   \
                 RunTime=00:00:03 TimeLimit={limit} TimeMin=N/A\n   \
                 StartTime=2026-11-20T23:55:22 EndTime={end} Deadline=N/A\n"
            )
        };
        let now = S(END - 597);
        for (limit, end, left) in [
            ("00:10:00", "2026-11-21T00:05:22", Left::For(S(597))),
            ("01:00:00", "2026-11-21T00:05:22", Left::For(S(597))),
            ("UNLIMITED", "Unknown", Left::Unlimited),
        ] {
            assert_eq!(scontrol(&show(limit, end), now), Some(left), "{limit}");
        }
        assert_eq!(scontrol("slurm_load_jobs error: Invalid job id", now), None);
    }

    #[test]
    fn qstat_tells_the_begin_and_the_walltime() {
        let now = S(END + 100);
        let json = r#"{"timestamp":1795219622,"pbs_version":"23","Jobs":{"9.pbs0":{
            "Job_Name":"x","job_state":"R","stime":"Sat Nov 21 00:05:22 2026","run_count":1,
            "Resource_List":{"ncpus":2,"walltime":"00:10:00"}}}}"#;
        let charge = |used| {
            Some(Left::Uncharged(Charge {
                walltime: S(600),
                elapsed: S(100),
                used: S(used),
            }))
        };
        assert_eq!(qstat_json(json, now), charge(0));
        let used = r#""resources_used":{"walltime":"00:01:20"},"Resource_List""#;
        let used = json.replace(r#""Resource_List""#, used);
        assert_eq!(qstat_json(&used, now), charge(80));
        let without = json.replace(r#","walltime":"00:10:00""#, "");
        assert_eq!(qstat_json(&without, now), Some(Left::Unlimited));
        assert_eq!(qstat_json(r#"{"Jobs":{}}"#, now), None);
        assert_eq!(
            qstat_json("qstat: illegally formed job identifier", now),
            None
        );
        let plain = "Job Id: 9.pbs0\n    Resource_List.walltime = 00:10:00\n    \
                     stime = Sat Nov 21 00:05:22 2026\n    run_count = 1\n";
        assert_eq!(qstat(plain, now), charge(0));
        // TORQUE.
        let torque = plain.replace("stime", "start_time");
        assert_eq!(qstat(&torque, now), charge(0));
        for (remaining, left) in [("447", 447), ("-3", 0)] {
            let torque = format!("{torque}    Walltime.Remaining = {remaining}\n");
            assert_eq!(qstat(&torque, now), Some(Left::For(S(left))));
        }
        assert_eq!(qstat("Job Id: 9.pbs0\n", now), None);
    }

    #[test]
    fn a_suspended_job_is_not_charged() {
        for (elapsed, used, frozen, left) in [
            (100, 0, 0, 500),
            // Suspended with us, in part after the scheduler's last look.
            (100, 40, 50, 550),
            (700, 90, 600, 500),
            // We alone stood still, or for longer than it.
            (100, 90, 50, 510),
            (700, 650, 600, 0),
        ] {
            let charge = Charge {
                walltime: S(600),
                elapsed: S(elapsed),
                used: S(used),
            };
            let span = Left::Uncharged(charge).span(S(frozen));
            assert_eq!(span, Some(S(left)), "{elapsed} {used} {frozen}");
        }
        assert_eq!(Left::For(S(7)).span(S(5)), Some(S(7)));
        assert_eq!(Left::Unlimited.span(S(5)), None);
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(text in "\\PC{0,80}|[0-9:T =A-Za-z{}\"-]{0,80}") {
            for read in [squeue, scontrol, qstat_json, qstat] {
                let _ = read(&text, S(END));
            }
        }

        #[test]
        fn days_follow_each_other(day in 0..20_000_u64) {
            // Through every month and leap year until 2024.
            let of = |days: u64| {
                let text = format!("{}-{:02}-{:02}T00:00:00", 1970 + days / 372,
                    days % 372 / 31 + 1, days % 31 + 1);
                iso(&text)
            };
            // There is no 31 April.
            if let (Some(today), Some(tomorrow)) = (of(day), of(day + 1)) {
                prop_assert!(tomorrow <= today + S(86_400));
            }
            if let (Some(today), Some(later)) = (of(day), of(day + 31)) {
                prop_assert!(later > today);
            }
        }
    }
}
