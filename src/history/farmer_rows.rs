//! Which row of the timeline a slot is drawn in.
//!
//! A node is a process of the trace and a slot is a thread of it. Slices in one row must never
//! overlap, or Perfetto drops them; so farmers that were on a node at the same time have
//! separate rows, while farmers that followed one another share rows: "slot 3 of that node" is
//! one row.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A farmer, as far as rows are concerned.
#[derive(Clone, Debug)]
pub struct Span<'a> {
    /// Its node.
    pub host: &'a str,
    /// When it started.
    pub first: u64,
    /// The last time that is known of it; `u64::MAX` while it may do more.
    pub last: u64,
    /// How many rows it needs.
    pub slots: u64,
}

/// Where a farmer is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FarmerRows {
    /// Its node's number, from 1 in the order of the nodes' names.
    pub pid: u64,
    /// The row above its slot 0, so that slot 0 of the first farmer is row 1.
    pub base: u64,
}

impl FarmerRows {
    /// The row of a slot.
    pub fn tid(&self, slot: u32) -> u64 {
        self.base + u64::from(slot) + 1
    }
}

/// The rows of each farmer. They must be in the order of `first`.
pub fn farmer_rows(spans: &[Span]) -> Vec<FarmerRows> {
    let mut hosts: Vec<&str> = spans.iter().map(|span| span.host).collect();
    hosts.sort_by(|a, b| natural(a, b));
    hosts.dedup();
    let pids: BTreeMap<&str, u64> = hosts.into_iter().zip(1..).collect();
    let mut rows: Vec<FarmerRows> = Vec::with_capacity(spans.len());
    for (n, span) in spans.iter().enumerate() {
        // The rows that are taken while this farmer is there.
        let mut taken: Vec<(u64, u64)> = spans[..n]
            .iter()
            .zip(&rows)
            .filter(|(other, _)| other.host == span.host && other.last > span.first)
            .map(|(other, rows)| (rows.base, rows.base + other.slots))
            .collect();
        taken.sort_unstable();
        let mut base = 0;
        for (from, to) in taken {
            if base + span.slots <= from {
                break;
            }
            base = base.max(to);
        }
        rows.push(FarmerRows {
            pid: pids[span.host],
            base,
        });
    }
    rows
}

/// The natural order of names: `node9` before `node10`.
pub(crate) fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let (Some(x), Some(y)) = (left.chars().next(), right.chars().next()) else {
            return left.len().cmp(&right.len()).then_with(|| a.cmp(b));
        };
        let order = if x.is_ascii_digit() && y.is_ascii_digit() {
            let (number_left, number_right) = (take_digits(&mut left), take_digits(&mut right));
            // Without leading zeros, the longer number is the greater one.
            (number_left.len().cmp(&number_right.len())).then_with(|| number_left.cmp(number_right))
        } else {
            left = &left[x.len_utf8()..];
            right = &right[y.len_utf8()..];
            x.cmp(&y)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Removes the number at the beginning of `text`; returns it without leading zeros.
fn take_digits<'a>(text: &mut &'a str) -> &'a str {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    digits.trim_start_matches('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(host: &str, first: u64, last: u64, slots: u64) -> Span<'_> {
        Span {
            host,
            first,
            last,
            slots,
        }
    }

    #[test]
    fn farmers_share_rows_only_one_after_the_other() {
        for (name, spans, expected) in [
            (
                "one after the other",
                vec![span("n", 0, 10, 4), span("n", 10, 20, 4)],
                vec![(1, 0), (1, 0)],
            ),
            (
                "two at a time",
                vec![span("n", 0, 10, 4), span("n", 9, 20, 2)],
                vec![(1, 0), (1, 4)],
            ),
            (
                "on two nodes",
                vec![span("n10", 0, 10, 4), span("n9", 0, 10, 4)],
                vec![(2, 0), (1, 0)],
            ),
            (
                "a third takes the rows of the first",
                vec![
                    span("n", 0, 10, 4),
                    span("n", 5, 30, 4),
                    span("n", 12, 20, 2),
                    span("n", 13, 14, 4),
                    span("n", 15, u64::MAX, 2),
                ],
                vec![(1, 0), (1, 4), (1, 0), (1, 8), (1, 2)],
            ),
        ] {
            let found: Vec<_> = farmer_rows(&spans)
                .iter()
                .map(|rows| (rows.pid, rows.base))
                .collect();
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn nodes_are_in_natural_order() {
        let mut names = ["n10", "n9", "n010", "m", "n", "n9-b", "n9-a", ""];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["", "m", "n", "n9", "n9-a", "n9-b", "n010", "n10"]);
    }
}
