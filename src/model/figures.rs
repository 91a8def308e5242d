//! Statistics of many values in little memory, and numbers as people read them.

use std::time::{Duration, UNIX_EPOCH};

use super::record::LATEST;

/// A count as a floating-point number.
#[expect(
    clippy::cast_precision_loss,
    reason = "figures are shown with a few digits"
)]
pub fn float(count: u64) -> f64 {
    count as f64
}

/// Part of a whole, 0 to 1; `None` when there is no whole.
pub fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| (float(part) / float(whole)).min(1.0))
}

/// Microseconds as a span of time.
pub fn micros(us: u64) -> Duration {
    Duration::from_micros(us)
}

/// A day and a time of it, from microseconds since 1970: `2026-11-25 13:04:05 UTC`.
pub fn date(us: u64) -> String {
    let time = UNIX_EPOCH + micros(us.min(LATEST));
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.replace('T', " ").replace('Z', " UTC")
}

/// A number with commas: `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count with its noun: `1 task`, `2,000 tasks`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    let word = if number == 1 { one } else { many };
    format!("{} {word}", grouped(number))
}

/// An amount of memory given in KiB: `640 KiB`, `12.3 MiB`, `1.9 GiB`.
pub fn show_kib(kib: u64) -> String {
    let mut amount = float(kib);
    for unit in ["KiB", "MiB", "GiB", "TiB"] {
        if amount < 999.5 || unit == "TiB" {
            return if amount < 9.95 && unit != "KiB" {
                format!("{amount:.1} {unit}")
            } else {
                format!("{amount:.0} {unit}")
            };
        }
        amount /= 1024.0;
    }
    String::new()
}

/// The distribution of values: exact sum, minimum and maximum; any quantile within 7 %. The
/// memory does not grow with the number of values.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    counts: hdrhistogram::Histogram<u64>,
    /// How many values.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
    /// The least of them.
    pub min: u64,
    /// The greatest of them.
    pub max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            // One decimal digit: 16 bins per octave.
            counts: hdrhistogram::Histogram::new(1).expect("0 to 5 digits are possible"),
            count: 0,
            sum: 0,
            min: u64::MAX,
            max: 0,
        }
    }
}

impl Histogram {
    /// Adds a value.
    pub fn add(&mut self, value: u64) {
        // It grows to any value, on machines of 64 bits.
        let _ = self.counts.record(value);
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Adds all values of another.
    pub fn merge(&mut self, other: &Self) {
        let _ = self.counts.add(&other.counts);
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The mean; `None` without values.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| float(self.sum) / float(self.count))
    }

    /// The value that a share `q` of all values does not exceed.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let value = self.counts.value_at_quantile(q);
        let middle = self.counts.median_equivalent(value);
        (self.count > 0).then(|| middle.clamp(self.min, self.max))
    }

    /// The bins that are not empty: from, to (exclusive), how many.
    pub fn bins(&self) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        self.counts.iter_recorded().map(|bin| {
            let value = bin.value_iterated_to();
            let from = self.counts.lowest_equivalent(value);
            (
                from,
                self.counts.next_non_equivalent(value),
                bin.count_at_value(),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, day) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_798_761_599, "2026-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(date(seconds * 1_000_000), day);
        }
    }

    #[test]
    fn memory_has_a_unit_that_fits() {
        for (kib, text) in [
            (3, "3 KiB"),
            (999, "999 KiB"),
            (1024, "1.0 MiB"),
            (10 * 1024, "10 MiB"),
            (1_992_294, "1.9 GiB"),
            (1 << 40, "1024 TiB"),
        ] {
            assert_eq!(show_kib(kib), text);
        }
    }

    proptest! {
        #[test]
        fn every_value_is_in_its_bin(value in any::<u64>(), shift in 0_u32..64) {
            let value = value >> shift;
            let mut histogram = Histogram::default();
            histogram.add(value);
            let bins: Vec<_> = histogram.bins().collect();
            prop_assert_eq!(bins.len(), 1);
            let (from, to, count) = bins[0];
            prop_assert_eq!(count, 1);
            prop_assert!(from <= value && (value < to || to == u64::MAX));
            prop_assert!(to - from <= (from / 16).max(1));
            let mut both = Histogram::default();
            both.add(1);
            both.merge(&histogram);
            prop_assert_eq!(both.bins().map(|(.., count)| count).sum::<u64>(), 2);
        }

        #[test]
        fn quantiles_are_close(mut values in prop::collection::vec(1_u64..1_000_000_000, 1..200), q in 0.0..1.0_f64) {
            let mut histogram = Histogram::default();
            for value in &values {
                histogram.add(*value);
            }
            values.sort_unstable();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            let place = (((q * float(values.len() as u64)).ceil()) as usize).max(1) - 1;
            let (exact, found) = (float(values[place]), float(histogram.quantile(q).unwrap()));
            prop_assert!((found - exact).abs() <= exact * 0.07 + 1.0, "{} {}", exact, found);
            prop_assert_eq!(histogram.sum, values.iter().sum::<u64>());
        }
    }
}
