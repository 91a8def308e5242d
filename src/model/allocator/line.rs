//! The tasks that wait for an allocator, in their order.
//!
//! Of tasks with equal needs only the first matters: where it cannot start, the others cannot.
//! So what a decision costs depends on how many different needs there are, and not on how many
//! tasks wait.

use std::collections::{BTreeMap, VecDeque};

use crate::model::needs::Needs;

/// Tasks of type `T`, each with its number in the order, by what they need.
#[derive(Clone, Debug)]
pub(super) struct Line<T> {
    kinds: BTreeMap<Needs, VecDeque<(u64, T)>>,
    /// The first of each kind.
    firsts: BTreeMap<u64, Needs>,
    len: usize,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            kinds: BTreeMap::new(),
            firsts: BTreeMap::new(),
            len: 0,
        }
    }
}

impl<T> Line<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// A task comes, behind all others: its number is greater than theirs.
    pub(super) fn push(&mut self, number: u64, needs: Needs, task: T) {
        let kind = self.kinds.entry(needs).or_default();
        if kind.is_empty() {
            self.firsts.insert(number, needs);
        }
        kind.push_back((number, task));
        self.len += 1;
    }

    /// The first task of each kind, in their order.
    pub(super) fn firsts(&self) -> impl Iterator<Item = (u64, Needs)> {
        self.firsts.iter().map(|(number, needs)| (*number, *needs))
    }

    /// Takes the first of a kind out, by its number.
    pub(super) fn take_first(&mut self, number: u64) -> Option<(Needs, T)> {
        let needs = self.firsts.remove(&number)?;
        let kind = self.kinds.get_mut(&needs)?;
        let (_, task) = kind.pop_front()?;
        match kind.front() {
            Some((next, _)) => drop(self.firsts.insert(*next, needs)),
            None => drop(self.kinds.remove(&needs)),
        }
        self.len -= 1;
        Some((needs, task))
    }

    /// Takes the last of a kind out.
    pub(super) fn take_last(&mut self, needs: &Needs) {
        let Some(kind) = self.kinds.get_mut(needs) else {
            return;
        };
        if let Some((number, _)) = kind.pop_back() {
            self.len -= 1;
            if kind.is_empty() {
                self.firsts.remove(&number);
                self.kinds.remove(needs);
            }
        }
    }

    /// The first of a kind, by its number.
    pub(super) fn first(&self, number: u64) -> Option<(&T, &Needs)> {
        let (needs, kind) = self.kinds.get_key_value(self.firsts.get(&number)?)?;
        kind.front().map(|(_, task)| (task, needs))
    }

    /// Takes certain tasks out.
    pub(super) fn split_off(&mut self, mut is_wanted: impl FnMut(&T, &Needs) -> bool) -> Vec<T> {
        let kinds = std::mem::take(self).kinds.into_iter();
        let mut all: Vec<_> = kinds
            .flat_map(|(needs, kind)| kind.into_iter().map(move |one| (needs, one)))
            .collect();
        all.sort_unstable_by_key(|(_, (number, _))| *number);
        let mut out = Vec::new();
        for (needs, (number, task)) in all {
            if is_wanted(&task, &needs) {
                out.push(task);
            } else {
                self.push(number, needs, task);
            }
        }
        out
    }

    /// The same line without the tasks themselves.
    pub(super) fn numbers(&self) -> Line<()> {
        let kinds = self.kinds.iter().map(|(needs, kind)| {
            let numbers = kind.iter().map(|(number, _)| (*number, ()));
            (*needs, numbers.collect())
        });
        Line {
            kinds: kinds.collect(),
            firsts: self.firsts.clone(),
            len: self.len,
        }
    }
}
