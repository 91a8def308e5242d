//! Spans of time as people and schedulers write them: text → `Duration` and back. humantime
//! prints `4m 10s`, which is two words; messages and the progress bar need one short word, so
//! `show` is our own.
//!
//! Every flag and every variable that is a span of time goes through `parse`, so all of them
//! take the same forms: humantime's units, and Slurm's forms, which are read here. Guarantee:
//! no span is longer than `LONGEST`, so adding one to an `Instant` never overflows.

use std::fmt::Write as _;
use std::time::Duration;

/// The longest span: a hundred years. A longer one is taken as this.
pub const LONGEST: Duration = Duration::from_secs(100 * 365 * DAY);

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Why a text is not a duration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "'{0}' is not a duration: write seconds (90, 1.5), units (90s, 10m, 1h30m, 2h 5m, 3d) \
     or Slurm's [D-]HH:MM:SS (01:30:00, 2-12:00:00), MM:SS, D-HH, D-HH:MM"
)]
pub struct NotADuration(String);

/// Reads a span of time: bare seconds (PyTaskFarmer), units (`1h30m`) or one of
/// Slurm's forms. Slurm reads a bare number as minutes; here it is seconds.
pub fn parse(text: &str) -> Result<Duration, NotADuration> {
    let text = text.trim();
    let seconds = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST);
    let span = number(text).or_else(|| clock(text)).map(seconds);
    let span = span.or_else(|| units(text));
    span.map(|span| span.min(LONGEST))
        .ok_or_else(|| NotADuration(text.to_owned()))
}

/// `90`, `1.5`: digits with at most one point among them. (`f64::from_str` alone
/// would also take `inf`, `-1` and `1e9`.)
fn number(text: &str) -> Option<f64> {
    let plain = |side: &str| !side.is_empty() && side.bytes().all(|b| b.is_ascii_digit());
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    (plain(whole) && plain(part))
        .then(|| text.parse().ok())
        .flatten()
}

/// `1h30m`, `2h 5m`, `1.5 hours`. There are no months and years: `10M` is more often a
/// mistake than ten months.
fn units(text: &str) -> Option<Duration> {
    let is_long = |unit: &str| {
        matches!(unit, "M" | "y") || unit.starts_with("mon") || unit.starts_with("year")
    };
    let mut units = text.split(|c: char| !c.is_ascii_alphabetic());
    if units.any(is_long) {
        return None;
    }
    humantime::parse_duration(text).ok()
}

/// Slurm's forms (sbatch(1), `--time`): `[D-]HH:MM:SS`, `MM:SS`, `D-HH`,
/// `D-HH:MM`. Only the first field may exceed its unit, and hours after days.
fn clock(text: &str) -> Option<f64> {
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (Some(number(days)?), rest),
        None => (None, text),
    };
    if !text.contains([':', '-']) {
        return None;
    }
    let fields = rest.split(':').map(field).collect::<Option<Vec<f64>>>()?;
    let (h, m, s) = match (days, &fields[..]) {
        (_, &[h, m, s]) => (h, m, s),
        (None, &[m, s]) => (0.0, m, s),
        (Some(_), &[h, m]) => (h, m, 0.0),
        (Some(_), &[h]) => (h, 0.0, 0.0),
        _ => return None,
    };
    let minutes_lead = days.is_none() && fields.len() == 2;
    if s >= 60.0 || (m >= 60.0 && !minutes_lead) {
        return None;
    }
    Some(days.unwrap_or(0.0) * 86_400.0 + h * 3600.0 + m * 60.0 + s)
}

/// A field of a clock form: whole numbers only.
fn field(text: &str) -> Option<f64> {
    (!text.contains('.')).then(|| number(text)).flatten()
}

/// Short, for people: `850ms`, `12.3s`, `4m10s`, `2h05m`, `3d04h`. What it shows
/// reads back with `parse`.
pub fn show(span: Duration) -> String {
    let ms = span.as_secs_f64() * 1e3;
    // Each limit is where rounding would reach the next unit.
    if span.is_zero() {
        return "0s".into();
    }
    if ms < 9.95 {
        return format!("{ms:.1}ms");
    }
    if ms < 999.5 {
        return format!("{ms:.0}ms");
    }
    if ms < 59_950.0 {
        return format!("{:.1}s", ms / 1e3);
    }
    let seconds = rounded(span, 1);
    let minutes = rounded(span, MINUTE);
    let hours = rounded(span, HOUR);
    if seconds < HOUR {
        format!("{}m{:02}s", seconds / 60, seconds % 60)
    } else if minutes < 24 * 60 {
        format!("{}h{:02}m", minutes / 60, minutes % 60)
    } else {
        format!("{}d{:02}h", hours / 24, hours % 24)
    }
}

/// Without loss and without blanks: `1h30m`, `1s500ms`. It reads back with `parse` as the same
/// span, up to `LONGEST`.
pub fn exact(span: Duration) -> String {
    if span.is_zero() {
        return "0s".into();
    }
    let (seconds, ns) = (span.as_secs(), u64::from(span.subsec_nanos()));
    let parts = [
        (seconds / DAY, "d"),
        (seconds % DAY / HOUR, "h"),
        (seconds % HOUR / MINUTE, "m"),
        (seconds % MINUTE, "s"),
        (ns / 1_000_000, "ms"),
        (ns / 1000 % 1000, "us"),
        (ns % 1000, "ns"),
    ];
    let mut text = String::new();
    for (number, unit) in parts.iter().filter(|(number, _)| *number > 0) {
        // A write into a String cannot fail.
        let _ = write!(text, "{number}{unit}");
    }
    text
}

/// How many times `unit` seconds `span` is, rounded to the nearest.
fn rounded(span: Duration, unit: u64) -> u64 {
    span.saturating_add(Duration::from_millis(unit * 500))
        .as_secs()
        / unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_is_read() {
        for (text, seconds) in [
            ("0", 0.0),
            ("3600", 3600.0),
            (" 90 ", 90.0),
            ("1.5", 1.5),
            ("90s", 90.0),
            ("850ms", 0.85),
            ("10m", 600.0),
            ("1h30m", 5400.0),
            ("2h 5m", 7500.0),
            ("2 hours 5 min", 7500.0),
            ("1.5h", 5400.0),
            ("3d04h", 273_600.0),
            ("1w", 604_800.0),
            ("01:30:00", 5400.0),
            ("00:00:05", 5.0),
            ("90:00", 5400.0),
            ("5:30", 330.0),
            ("2-12", 216_000.0),
            ("2-12:30", 217_800.0),
            ("2-12:30:05", 217_805.0),
            ("0-36:00:00", 129_600.0),
            ("100:00:00", 360_000.0),
        ] {
            assert_eq!(
                parse(text),
                Ok(Duration::from_secs_f64(seconds)),
                "'{text}'"
            );
        }
        assert_eq!(parse("99999999999999999999999999"), Ok(LONGEST));
        assert_eq!(parse(&"9".repeat(400)), Ok(LONGEST));
    }

    #[test]
    fn what_is_no_span_says_what_would_be() {
        for text in [
            "",
            " ",
            "x",
            "-5",
            "+5",
            "1e3",
            "inf",
            "nan",
            ".5",
            "5.",
            "1.2.3",
            "10M",
            "5y",
            "1h30",
            "h",
            "1:2:3:4",
            "1:75",
            "1:60:00",
            "1:00:60",
            "1.5:00",
            "1-",
            "-1:00",
            "1-2-3",
            ":",
            "1:",
            "5 5",
            "1h,",
            "１s",
            "UNLIMITED",
            "1-2m",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("'{}'", text.trim())), "{error}");
            assert!(error.contains("1h30m") && error.contains("HH:MM:SS"));
        }
    }

    #[test]
    fn a_span_is_shown_short() {
        for (us, shown) in [
            (0, "0s"),
            (1, "0.0ms"),
            (300, "0.3ms"),
            (9_960, "10ms"),
            (850_000, "850ms"),
            (999_600, "1.0s"),
            (12_345_000, "12.3s"),
            (59_960_000, "1m00s"),
            (250_000_000, "4m10s"),
            (245_000_000, "4m05s"),
            (3_599_600_000, "1h00m"),
            (7_500_000_000, "2h05m"),
            (86_399_000_000, "1d00h"),
            (273_600_000_000, "3d04h"),
        ] {
            assert_eq!(show(Duration::from_micros(us)), shown);
        }
        assert_eq!(show(LONGEST), "36500d00h");
        assert!(show(Duration::MAX).ends_with('h'));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}|[0-9.:hmsd -]{0,40}") {
            if let Ok(span) = parse(&text) {
                prop_assert!(span <= LONGEST);
                show(span);
            }
        }

        #[test]
        fn what_is_shown_reads_back(us in prop_oneof![0..100_000_000u64, 0..3_000_000_000_000_000u64]) {
            let span = Duration::from_micros(us);
            let back = parse(&show(span)).unwrap();
            let off = back.abs_diff(span);
            // Half of the last digit shown: at most 5 % of the whole, or 50 µs.
            prop_assert!(off <= span.mul_f64(0.051).max(Duration::from_micros(50)), "{}", show(span));
        }

        #[test]
        fn slurm_forms_agree_with_arithmetic(d in 0..40u64, h in 0..24u64, m in 0..60u64, s in 0..60u64) {
            let whole = Duration::from_secs(d * DAY + h * HOUR + m * MINUTE + s);
            prop_assert_eq!(parse(&format!("{d}-{h:02}:{m:02}:{s:02}")), Ok(whole));
            prop_assert_eq!(parse(&format!("{d}d{h}h{m}m{s}s")), Ok(whole));
            prop_assert_eq!(parse(&whole.as_secs().to_string()), Ok(whole));
        }
    }
}
