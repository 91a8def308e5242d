//! Which slices are merged where there are too many.

use std::collections::BTreeMap;

use crate::model::figures::Histogram;

/// The most slices that viewers can show.
const MOST: u64 = 1_000_000;

/// A row of the trace: node and slot.
pub(super) type Row = (u64, u64);

/// Short attempts that follow one another in a row and finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) count: u64,
    /// The ids of the first and the last one.
    pub(super) ids: (u64, u64),
}

/// Decides for each attempt whether it is drawn alone.
#[derive(Debug, Default)]
pub(super) struct Merger {
    /// Shorter ones are drawn together; 0 draws each one alone.
    below: u64,
    /// No group is longer, but for its last one.
    longest: u64,
    groups: BTreeMap<Row, Group>,
    /// How many are in groups of more than one.
    pub(super) merged: u64,
}

impl Merger {
    /// For so many attempts. Half of the slices are for the long ones.
    pub(super) fn new(durations: &Histogram) -> Self {
        Self::with(durations, MOST)
    }

    fn with(durations: &Histogram, most: u64) -> Self {
        if durations.count <= most {
            return Self::default();
        }
        let half = most / 2;
        let q = 1.0
            - crate::model::figures::float(half) / crate::model::figures::float(durations.count);
        Self {
            below: durations.quantile(q).unwrap_or(0).saturating_add(1),
            longest: durations.sum / half.max(1),
            ..Self::default()
        }
    }

    /// Whether an attempt that finished is one of those that go together.
    pub(super) fn is_short(&self, us: u64) -> bool {
        us < self.below
    }

    /// Adds an attempt to the group in its row; what is returned is complete.
    pub(super) fn add(&mut self, row: Row, from: u64, to: u64, id: u64) -> Option<Group> {
        let new = Group {
            from,
            to,
            count: 1,
            ids: (id, id),
        };
        let Some(group) = self.groups.get_mut(&row) else {
            self.groups.insert(row, new);
            return None;
        };
        let is_near = from.saturating_sub(group.to) <= self.longest / 4 + 1;
        if is_near && group.to.saturating_sub(group.from) < self.longest {
            group.to = group.to.max(to);
            group.count += 1;
            group.ids.1 = id;
            return None;
        }
        Some(std::mem::replace(group, new)).inspect(|group| self.count(group))
    }

    /// The group in a row, which is complete.
    pub(super) fn take(&mut self, row: Row) -> Option<Group> {
        let group = self.groups.remove(&row)?;
        self.count(&group);
        Some(group)
    }

    /// Any group that is still open.
    pub(super) fn take_any(&mut self) -> Option<(Row, Group)> {
        let (row, group) = self.groups.pop_first()?;
        self.count(&group);
        Some((row, group))
    }

    fn count(&mut self, group: &Group) {
        self.merged += group.count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_slices_are_left_of_many_and_none_is_lost() {
        let mut durations = Histogram::default();
        let lengths: Vec<u64> = (0..100_000)
            .map(|n| if n % 100 == 0 { 5000 } else { 10 })
            .collect();
        for us in &lengths {
            durations.add(*us);
        }
        let mut merger = Merger::with(&durations, 4000);
        let (mut at, mut alone, mut groups, mut drawn) = (0, 0_u64, 0, 0);
        let mut done = |group: Option<Group>| {
            if let Some(group) = group {
                drawn += group.count;
                groups += 1;
            }
        };
        for (id, us) in (0..).zip(&lengths) {
            if merger.is_short(*us) {
                done(merger.add((1, 1), at, at + us, id));
            } else {
                done(merger.take((1, 1)));
                alone += 1;
            }
            at += us;
        }
        done(merger.take_any().map(|(_, group)| group));
        assert_eq!(alone + drawn, 100_000);
        assert_eq!(alone, 1000, "the long ones stay");
        assert!(groups <= 3000, "{groups}");
        assert_eq!(merger.merged, drawn);
    }

    #[test]
    fn where_there_is_room_all_are_drawn() {
        let mut durations = Histogram::default();
        (0..1000).for_each(|us| durations.add(us));
        assert!(!Merger::new(&durations).is_short(0));
    }
}
