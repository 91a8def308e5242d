//! Sets of task ids written as people write them: `0-63,70,80-81`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::task::TaskId;

/// Task ids as inclusive ranges, in the order they were added.
///
/// Consecutive ids join into one range, so a claim of a thousand neighbours is
/// a few bytes in the log of transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Ids(Vec<(u64, u64)>);

impl Ids {
    /// Whether no id is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many ids are in it.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(a, b)| b - a + 1).sum()
    }

    /// Adds one id at the end.
    pub fn push(&mut self, id: TaskId) {
        match self.0.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(id.0) => *last = id.0,
            _ => self.0.push((id.0, id.0)),
        }
    }

    /// Adds all that another set has.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// The first and the last id of each range, in order of addition.
    pub fn ranges(&self) -> impl Iterator<Item = (TaskId, TaskId)> + '_ {
        self.0.iter().map(|&(a, b)| (TaskId(a), TaskId(b)))
    }

    /// Every id, in order of addition.
    pub fn iter(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.0.iter().flat_map(|&(a, b)| (a..=b).map(TaskId))
    }

    /// Whether `id` is in it.
    pub fn contains(&self, id: TaskId) -> bool {
        self.0.iter().any(|&(a, b)| (a..=b).contains(&id.0))
    }
}

/// Task ids to put in and take out, whatever the order; its cost depends on the number
/// of ranges, not of ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Ids", from = "Ids")]
pub struct IdSet(BTreeMap<u64, u64>);

impl IdSet {
    /// Puts ids in; those that are in it stay.
    pub fn insert(&mut self, ids: &Ids) {
        for &range in &ids.0 {
            self.cut(range);
            self.0.insert(range.0, range.1);
        }
    }

    /// Takes ids out; those that are not in it are no error.
    pub fn remove(&mut self, ids: &Ids) {
        for &range in &ids.0 {
            self.cut(range);
        }
    }

    /// Whether this id is in it.
    pub fn contains(&self, id: TaskId) -> bool {
        let before = self.0.range(..=id.0).next_back();
        before.is_some_and(|(_, &last)| id.0 <= last)
    }

    /// Takes one id out: whether it was in it.
    pub fn take(&mut self, id: TaskId) -> bool {
        let is_in = self.contains(id);
        if is_in {
            self.cut((id.0, id.0));
        }
        is_in
    }

    /// Takes out those from this one on, and returns them.
    #[must_use]
    pub fn split_off(&mut self, first: TaskId) -> Self {
        let mut rest = self.0.split_off(&first.0);
        if let Some(mut before) = self.0.last_entry()
            && let last = *before.get()
            && last >= first.0
        {
            rest.insert(first.0, last);
            // There are ids before it: the range began there.
            *before.get_mut() = first.0 - 1;
        }
        Self(rest)
    }

    /// The ids, in their order.
    pub fn ids(&self) -> Ids {
        let mut ids: Vec<(u64, u64)> = Vec::with_capacity(self.0.len());
        for (&from, &to) in &self.0 {
            match ids.last_mut() {
                Some((_, last)) if *last + 1 == from => *last = to,
                _ => ids.push((from, to)),
            }
        }
        Ids(ids)
    }

    /// Whether no id is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a range out.
    fn cut(&mut self, (from, to): (u64, u64)) {
        let meets = self.0.range(..=to).rev();
        let meets = meets.take_while(|(_, last)| **last >= from);
        let meets: Vec<(u64, u64)> = meets.map(|(&first, &last)| (first, last)).collect();
        for (first, last) in meets {
            self.0.remove(&first);
            if first < from {
                self.0.insert(first, from - 1);
            }
            if last > to {
                self.0.insert(to + 1, last);
            }
        }
    }
}

/// Attempts of tasks; its cost depends on the number of ranges of ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptSet(BTreeMap<u32, IdSet>);

impl AttemptSet {
    /// Puts the attempt of this number of each task in.
    pub fn insert(&mut self, attempt: u32, ids: &Ids) {
        self.0.entry(attempt).or_default().insert(ids);
    }

    /// Whether an attempt is in it.
    pub fn contains(&self, id: TaskId, attempt: u32) -> bool {
        self.0.get(&attempt).is_some_and(|ids| ids.contains(id))
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tasks, by the number of the attempt.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Ids)> + '_ {
        self.0.iter().map(|(&attempt, ids)| (attempt, ids.ids()))
    }
}

impl From<IdSet> for Ids {
    fn from(set: IdSet) -> Self {
        set.ids()
    }
}

impl From<Ids> for IdSet {
    fn from(ids: Ids) -> Self {
        let mut set = Self::default();
        set.insert(&ids);
        set
    }
}

impl FromIterator<TaskId> for Ids {
    fn from_iter<I: IntoIterator<Item = TaskId>>(ids: I) -> Self {
        let mut set = Self::default();
        for id in ids {
            set.push(id);
        }
        set
    }
}

impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (a, b)) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            if a == b {
                write!(f, "{comma}{a}")?;
            } else {
                write!(f, "{comma}{a}-{b}")?;
            }
        }
        Ok(())
    }
}

/// Why a text is not a set of ids.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not a task id or a range of ids (like 17 or 3-9)")]
pub struct NotIds(String);

impl FromStr for Ids {
    type Err = NotIds;

    fn from_str(text: &str) -> Result<Self, NotIds> {
        let mut ranges = Vec::new();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let wrong = || NotIds(part.trim().to_owned());
            let (a, b) = part.split_once('-').unwrap_or((part, part));
            let number = |side: &str| side.trim().parse::<u64>().map_err(|_| wrong());
            let (a, b) = (number(a)?, number(b)?);
            if a > b {
                return Err(wrong());
            }
            ranges.push((a, b));
        }
        Ok(Self(ranges))
    }
}

impl From<Ids> for String {
    fn from(ids: Ids) -> Self {
        ids.to_string()
    }
}

impl TryFrom<String> for Ids {
    type Error = NotIds;

    fn try_from(text: String) -> Result<Self, NotIds> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_join_and_the_text_reads_back() {
        let ids: Ids = [0, 1, 2, 7, 9, 10].map(TaskId).into_iter().collect();
        assert_eq!(ids.to_string(), "0-2,7,9-10");
        assert_eq!(ids.count(), 6);
        assert_eq!("0-2,7,9-10".parse::<Ids>().unwrap(), ids);
        assert!(ids.contains(TaskId(10)) && !ids.contains(TaskId(8)));
    }

    #[test]
    fn ids_are_put_in_and_taken_out_in_any_order() {
        let ids = |text: &str| text.parse::<Ids>().unwrap();
        let mut set = IdSet::default();
        for (put, out, left) in [
            ("0-9", "", "0-9"),
            ("", "3,5-6", "0-2,4,7-9"),
            ("3", "0", "1-4,7-9"),
            ("8,2-20", "9-9", "1-8,10-20"),
            ("9", "", "1-20"),
            ("", "15-99", "1-14"),
            ("30", "0-13", "14,30"),
        ] {
            set.insert(&ids(put));
            set.remove(&ids(out));
            assert_eq!(set.ids().to_string(), left, "after {put} and {out}");
        }
        assert!(set.take(TaskId(30)) && !set.take(TaskId(30)) && !set.take(TaskId(15)));
        assert_eq!(set.ids().to_string(), "14");
        for (from, before, after) in [
            (0, "", "3-9,12"),
            (5, "3-4", "5-9,12"),
            (9, "3-8", "9,12"),
            (10, "3-9", "12"),
            (99, "3-9,12", ""),
        ] {
            let mut set = IdSet::from(ids("3-9,12"));
            let rest = set.split_off(TaskId(from));
            let split = (set.ids().to_string(), rest.ids().to_string());
            assert_eq!(split, (before.to_owned(), after.to_owned()), "{from}");
        }
    }

    #[test]
    fn one_attempt_of_a_task_is_not_another() {
        let mut set = AttemptSet::default();
        set.insert(2, &"3-9,5".parse().unwrap());
        set.insert(1, &"7".parse().unwrap());
        for (id, attempt, is_in) in [(3, 2, true), (9, 2, true), (3, 1, false), (7, 1, true)] {
            assert_eq!(set.contains(TaskId(id), attempt), is_in, "{id}, {attempt}");
        }
        let all: Vec<_> = set.iter().map(|(n, ids)| (n, ids.to_string())).collect();
        assert_eq!(all, [(1, "7".to_owned()), (2, "3-9".to_owned())]);
    }

    #[test]
    fn a_wrong_part_is_named() {
        assert_eq!("3,x".parse::<Ids>(), Err(NotIds("x".into())));
        assert_eq!("9-3".parse::<Ids>(), Err(NotIds("9-3".into())));
        assert!("".parse::<Ids>().unwrap().is_empty());
    }
}
