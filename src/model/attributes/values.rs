//! The values of attributes: text → number, size, span of time, outcome; or what is wrong with it.

use std::time::Duration;

use super::types::RetryCause;
use super::words::nearest;
use crate::model::durations;
use crate::model::relative::relative;

/// The most CPUs or GPUs of a task, and the most tasks on a GPU.
const MOST: u32 = 65_536;
/// How often a task may be tried again.
const MOST_RETRIES: u32 = 1000;
/// The units of sizes: the letter, and how many KiB it is.
const UNITS: [(char, u64); 4] = [('T', 1 << 30), ('G', 1 << 20), ('M', 1 << 10), ('K', 1)];
/// The largest size in KiB. It is far above any memory, and adding some never overflows.
const LARGEST: u64 = 1 << 50;

/// The number of CPUs of a task.
pub fn cpus(text: &str) -> Result<u32, String> {
    whole(text, 1, "the number of CPUs of a task", |_| {
        "a task cannot have part of a CPU: for more tasks than CPUs, use --proc".to_owned()
    })
}

/// The number of GPUs of a task.
pub fn gpus(text: &str) -> Result<u32, String> {
    whole(text, 0, "the number of GPUs of a task", |part| {
        let tasks = (1.0 / part).floor();
        format!("a task cannot have part of a GPU: to share one, use --tasks-per-gpu {tasks:.0}")
    })
}

/// The number of nodes of a task.
pub fn nodes(text: &str) -> Result<u32, String> {
    whole(text, 1, "the number of nodes of a task", |_| {
        "a task cannot have part of a node: use ntasks=".to_owned()
    })
}

/// The number of MPI ranks of a task.
pub fn ntasks(text: &str) -> Result<u32, String> {
    whole(text, 1, "the number of MPI ranks of a task", |_| {
        "there is no part of a rank".to_owned()
    })
}

/// A whole number; `cure` says what to do about a fraction below 1.
pub fn whole(
    text: &str,
    least: u32,
    what: &str,
    cure: impl Fn(f64) -> String,
) -> Result<u32, String> {
    let text = text.trim();
    match text.parse::<u32>() {
        Ok(n) if (least..=MOST).contains(&n) => return Ok(n),
        _ => {}
    }
    let fraction = match text.split_once('/') {
        Some((one, many)) => one.parse::<f64>().ok().zip(many.parse::<f64>().ok()),
        None => text.parse::<f64>().ok().map(|n| (n, 1.0)),
    };
    let part = fraction.map(|(one, many)| one / many);
    match part.filter(|part| *part > 0.0 && *part < 1.0) {
        Some(part) => Err(cure(part)),
        None => Err(format!("{what} is a whole number from {least} to {MOST}")),
    }
}

/// How often a task is tried again.
pub fn retries(text: &str) -> Result<u32, String> {
    let number = text.trim().parse().ok();
    number
        .filter(|number| *number <= MOST_RETRIES)
        .ok_or_else(|| format!("the number of retries is a whole number from 0 to {MOST_RETRIES}"))
}

/// A priority; larger comes first.
pub fn priority(text: &str) -> Result<i32, String> {
    let wrong = |_| "a priority is a whole number, which may be negative; larger comes first";
    Ok(text.trim().parse().map_err(wrong)?)
}

/// Sizes of memory in KiB, for each attempt, separated by commas.
pub fn memory(text: &str) -> Result<Vec<u64>, String> {
    text.split(',').map(size).collect()
}

/// A size of memory in KiB: `4000M`, `1.5G`, `4GiB`. A unit is 1024 of the next smaller one.
pub fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let is_number = |b: u8| b.is_ascii_digit() || b == b'.';
    let digits = text
        .bytes()
        .position(|b| !is_number(b))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let wrong = || format!("'{text}' is not a size: write it as 4000M, 4G or 1.5T");
    if number.is_empty() {
        return Err(wrong());
    }
    if unit.is_empty() {
        return Err(format!("'{text}' has no unit: {text}M or {text}G?"));
    }
    let unit = unit.to_ascii_uppercase();
    let unit = unit
        .strip_suffix("IB")
        .or(unit.strip_suffix('B'))
        .unwrap_or(&unit);
    let known = UNITS.iter().find(|(letter, _)| *unit == letter.to_string());
    let (_, factor) = known.ok_or_else(wrong)?;
    let kib = match number.parse::<u64>() {
        Ok(number) => number.saturating_mul(*factor),
        Err(_) => parts(number, *factor).ok_or_else(wrong)?,
    };
    match kib {
        0 => Err(format!("a task cannot run in {text} of memory")),
        1..=LARGEST => Ok(kib),
        _ => Err(format!("{text} is more memory than any node has")),
    }
}

/// A number with a decimal point, in KiB and rounded up. Digits after the sixth count as 0.
fn parts(number: &str, factor: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return None;
    }
    let millionths: u64 = format!("{part:0<6}")[..6].parse().ok()?;
    let part = (millionths * factor).div_ceil(1_000_000);
    Some(
        whole
            .parse::<u64>()
            .ok()?
            .saturating_mul(factor)
            .saturating_add(part),
    )
}

/// A size in KiB as it is stored: in the largest unit of which it is a multiple.
pub fn show_size(kib: u64) -> String {
    let unit = UNITS.iter().find(|(_, factor)| kib.is_multiple_of(*factor));
    let (letter, factor) = unit.copied().unwrap_or(('K', 1));
    format!("{}{letter}", kib / factor)
}

/// A time limit. A bare number is refused: it is minutes for Slurm, and seconds for others.
pub fn time(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let is_bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if is_bare {
        return Err(format!("'{text}' has no unit: {text}s or {text}m?"));
    }
    let limit = durations::parse(text).map_err(|_| {
        format!("'{text}' is not a time: write it as 90s, 10m, 1h30m, 2d or 01:30:00")
    })?;
    if limit.is_zero() {
        return Err("a time limit of 0 would let no task run".to_owned());
    }
    Ok(limit)
}

/// Outcomes after which a task is tried again, separated by commas.
pub fn causes(text: &str) -> Result<Vec<RetryCause>, String> {
    let mut causes = Vec::new();
    for item in text.split(',') {
        let cause: RetryCause = item.trim().parse()?;
        if !causes.contains(&cause) {
            causes.push(cause);
        }
    }
    Ok(causes)
}

/// Paths below a folder, separated by commas; each is returned once.
pub fn paths(text: &str) -> Result<Vec<String>, String> {
    let mut paths: Vec<String> = Vec::new();
    for path in text.split(',') {
        let path = path_below(path)?;
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// A path below a folder, and not the folder itself.
pub fn path_below(text: &str) -> Result<String, String> {
    match relative(text)?.as_str() {
        "." => Err(format!(
            "'{text}' names the whole folder: name what is in it"
        )),
        path => Ok(path.to_owned()),
    }
}

/// Names of tasks, separated by commas; each is returned once.
pub fn names(text: &str) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::new();
    for name in text.split(',') {
        let name = self::name(name)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// The name of a task.
pub fn name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("a name is empty".to_owned());
    }
    if text.contains(',') {
        return Err(format!("a name has no comma: '{text}'"));
    }
    Ok(text.to_owned())
}

impl std::str::FromStr for RetryCause {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(status) = text.strip_prefix("exit:") {
            let status = status
                .parse()
                .ok()
                .filter(|status| (1..=255).contains(status));
            return status.map(Self::Status).ok_or_else(|| {
                format!("'{text}' is not an exit status after which a task has failed: 1 to 255")
            });
        }
        Ok(match text {
            "exit" => Self::Exit,
            "signal" => Self::Signal,
            "timeout" => Self::Timeout,
            "oom" => Self::Memory,
            "lost" => Self::Lost,
            _ => {
                let known = ["exit", "signal", "timeout", "oom", "lost"];
                let hint = match nearest(text, known) {
                    Some(known) => format!("did you mean '{known}'?"),
                    None => format!("the outcomes are {}, exit:75", known.join(", ")),
                };
                return Err(format!("'{text}' is not an outcome: {hint}"));
            }
        })
    }
}

impl std::fmt::Display for RetryCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exit => f.write_str("exit"),
            Self::Status(status) => write!(f, "exit:{status}"),
            Self::Signal => f.write_str("signal"),
            Self::Timeout => f.write_str("timeout"),
            Self::Memory => f.write_str("oom"),
            Self::Lost => f.write_str("lost"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit() {
        for (text, kib) in [
            ("4000M", 4000 << 10),
            ("4G", 4 << 20),
            ("4g", 4 << 20),
            ("4GB", 4 << 20),
            ("4GiB", 4 << 20),
            ("1.5G", 3 << 19),
            ("0.1K", 1),
            ("2T", 2 << 30),
        ] {
            assert_eq!(size(text), Ok(kib), "{text}");
        }
        for (text, part) in [
            ("4000", "4000M or 4000G?"),
            ("4X", "not a size"),
            ("G", "not a size"),
            ("", "not a size"),
            ("1.G", "not a size"),
            ("-1G", "not a size"),
            ("0G", "cannot run"),
            ("99999999999999999999G", "not a size"),
            ("9999999999T", "more memory than any node has"),
        ] {
            let what = size(text).unwrap_err();
            assert!(what.contains(part), "{text}: {what}");
        }
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(time("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(time("01:30:00"), Ok(Duration::from_secs(5400)));
        for (text, part) in [
            ("30", "30s or 30m?"),
            ("1.5", "1.5s or 1.5m?"),
            ("0s", "would let no task run"),
            ("soon", "not a time"),
            ("", "not a time"),
        ] {
            let what = time(text).unwrap_err();
            assert!(what.contains(part), "{text}: {what}");
        }
    }

    #[test]
    fn outcomes_are_words() {
        let all = "exit,exit:75,signal,timeout,oom,lost";
        let shown: Vec<_> = causes(all)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(shown.join(","), all);
        assert_eq!(causes("oom,oom").unwrap().len(), 1);
        for (text, part) in [
            ("exit:0", "1 to 255"),
            ("exit:256", "1 to 255"),
            ("time-out", "did you mean 'timeout'?"),
            ("", "the outcomes are"),
        ] {
            let what = causes(text).unwrap_err();
            assert!(what.contains(part), "{text}: {what}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_size_reads_back(kib in 1..=LARGEST) {
            proptest::prop_assert_eq!(size(&show_size(kib)), Ok(kib));
        }
    }
}
