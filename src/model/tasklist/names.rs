//! The names of tasks, and who waits for them.
//!
//! Guarantee: no task of a list that was read waits for a name that no task has, for itself, in
//! a circle, or for a task below the next barrier: it would never start. Nothing is kept of a
//! list in which no task has a name and none waits.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::dialect::NameScope;
use super::error::ListError;
use crate::model::attributes::{Attributes, nearest};

/// A place in a list, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The line.
    pub(super) line: u64,
    /// The byte in it.
    pub(super) column: u64,
}

/// All names of a list. Each task of a million may have one.
#[derive(Debug, Default)]
pub(super) struct Names {
    numbers: HashMap<Arc<str>, u32>,
    all: Vec<Name>,
    /// Which name waits for which, or tasks without a name for it.
    waits: HashMap<(Option<u32>, u32), Wait>,
}

#[derive(Debug)]
struct Name {
    text: Arc<str>,
    /// The line of the last task that has it, and its stage; none has it so far.
    last: Option<(u64, u32)>,
    is_waited_for: bool,
}

/// The first task that waits so, of those in the first stage.
#[derive(Clone, Copy, Debug)]
struct Wait {
    place: Place,
    stage: u32,
}

impl Names {
    /// Takes in a task, of which something is said at this place.
    pub(super) fn note(
        &mut self,
        attributes: &Attributes,
        place: Place,
        scope: NameScope,
    ) -> Result<(), ListError> {
        let stage = attributes.stage.number;
        let own = attributes.name.as_deref().map(|name| self.number(name));
        for name in attributes.after.iter().chain(&attributes.after_any) {
            let number = self.number(name);
            let known = &mut self.all[number as usize];
            let is_above = known.last.is_some();
            known.is_waited_for = true;
            if scope == NameScope::Above && !is_above {
                let what = format!(
                    "{}: a task of a stream waits for tasks above it",
                    self.unknown(number)
                );
                return Err(error(place, what));
            }
            let wait = Wait { place, stage };
            match self.waits.entry((own, number)) {
                Entry::Vacant(entry) => drop(entry.insert(wait)),
                Entry::Occupied(mut entry) if stage < entry.get().stage => {
                    entry.insert(wait);
                }
                Entry::Occupied(_) => {}
            }
        }
        if let Some(own) = own {
            let name = &mut self.all[own as usize];
            if scope == NameScope::Above && name.is_waited_for {
                let what = format!(
                    "a task above waits for '{}': in a stream no more tasks can have this name",
                    name.text
                );
                return Err(error(place, what));
            }
            name.last = Some((place.line, stage));
        }
        Ok(())
    }

    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        let text: Arc<str> = name.into();
        self.numbers.insert(text.clone(), number);
        self.all.push(Name {
            text,
            last: None,
            is_waited_for: false,
        });
        number
    }

    fn name(&self, number: u32) -> &Name {
        &self.all[number as usize]
    }

    fn unknown(&self, number: u32) -> String {
        let name = &self.name(number).text;
        let known = self.all.iter().filter(|name| name.last.is_some());
        let near = nearest(name, known.map(|name| &*name.text));
        let near = near.map_or(String::new(), |near| format!("; did you mean '{near}'?"));
        format!("no task has the name '{name}'{near}")
    }

    /// The first place at which a task waits for a name that no task of the list has.
    fn first_unknown(&self) -> Option<(Place, u32)> {
        let unknown = self.waits.iter();
        let unknown = unknown.filter(|((_, to), _)| self.name(*to).last.is_none());
        unknown.map(|((_, to), wait)| (wait.place, *to)).min()
    }

    /// Whether all tasks can start, now that all are known.
    pub(super) fn check(&self, scope: NameScope) -> Result<(), ListError> {
        if self.waits.is_empty() {
            return Ok(());
        }
        if scope != NameScope::Workdir
            && let Some((place, number)) = self.first_unknown()
        {
            return Err(error(place, self.unknown(number)));
        }
        self.check_barriers()?;
        self.check_circles()
    }

    /// No task waits for one below the next barrier, which itself waits for this task.
    fn check_barriers(&self) -> Result<(), ListError> {
        let late = self.waits.iter().filter_map(|((_, to), wait)| {
            let name = self.name(*to);
            let (line, stage) = name.last?;
            (stage > wait.stage).then_some((wait.place, &name.text, line))
        });
        let Some((place, name, line)) = late.min() else {
            return Ok(());
        };
        let what = format!(
            "it waits for '{name}', but line {line} with this name is below the next barrier, \
             which waits for this task"
        );
        Err(error(place, what))
    }

    fn check_circles(&self) -> Result<(), ListError> {
        let waits = self.waits.iter();
        let mut waits: Vec<_> = waits
            .filter_map(|((from, to), wait)| from.map(|from| (from, wait.place, *to)))
            .collect();
        waits.sort_unstable();
        // Where the names begin there for which each name waits.
        let mut begins = vec![0; self.all.len() + 1];
        for (from, ..) in &waits {
            begins[*from as usize + 1] += 1;
        }
        for at in 1..begins.len() {
            begins[at] += begins[at - 1];
        }
        let next = |from: u32| &waits[begins[from as usize]..begins[from as usize + 1]];
        let mut firsts: Vec<u32> = waits.iter().map(|(from, ..)| *from).collect();
        firsts.dedup();
        firsts.sort_unstable_by_key(|from| next(*from)[0].1);
        let mut is_good = vec![false; self.all.len()];
        let mut on_path = vec![false; self.all.len()];
        for first in firsts {
            // Names on the way, each with which of its successors comes next.
            let mut path = vec![(first, 0)];
            on_path[first as usize] = true;
            while let Some((at, nth)) = path.last_mut() {
                let at = *at;
                let is_done = is_good[at as usize];
                let Some((_, place, to)) = next(at).get(*nth).copied().filter(|_| !is_done) else {
                    is_good[at as usize] = true;
                    on_path[at as usize] = false;
                    path.pop();
                    continue;
                };
                *nth += 1;
                if on_path[to as usize] {
                    let from = path.iter().position(|(at, _)| *at == to).unwrap_or(0);
                    let circle = &path[from..];
                    let places = circle.iter().map(|(at, nth)| next(*at)[nth - 1].1);
                    let last = places.max().unwrap_or(place);
                    return Err(error(last, self.circle(circle)));
                }
                if !is_good[to as usize] {
                    on_path[to as usize] = true;
                    path.push((to, 0));
                }
            }
        }
        Ok(())
    }

    fn circle(&self, path: &[(u32, usize)]) -> String {
        const SHOWN: usize = 5;
        let name = |at: usize| format!("'{}'", self.name(path[at % path.len()].0).text);
        let mut names: Vec<_> = (0..=path.len()).map(name).collect();
        if names.len() > SHOWN {
            let (cut, last) = (names.len() - SHOWN, names.len() - 1);
            names.splice(SHOWN - 1..last, [format!("{cut} more")]);
        }
        format!(
            "tasks would wait for each other in a circle: {}",
            names.join(" after ")
        )
    }
}

/// Checks the stored lines of tasks that are added together. Lines count from 1.
pub fn check_added<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<(), ListError> {
    let mut names = Names::default();
    for (line, text) in (1..).zip(lines) {
        let place = Place { line, column: 1 };
        let attributes = Attributes::of_line(text);
        let attributes = attributes.map_err(|wrong| error(place, wrong.what))?;
        names.note(&attributes, place, NameScope::Workdir)?;
    }
    names.check(NameScope::Workdir)
}

fn error(Place { line, column }: Place, what: String) -> ListError {
    ListError::Directive { line, column, what }
}
