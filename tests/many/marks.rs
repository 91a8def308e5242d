//! Whether tasks started in the order that their list asks for, by what they themselves wrote
//! down. It knows the text of the list and docs/how-to/order.md, and nothing of the program.
//!
//! All tasks append to one file, so the order of its lines is the order of what happened,
//! whatever a clock says. A mark is a word, the label of a task, and for a start its attempt and
//! its farmer: `s` a start, `f` an attempt that fails, `e` one that succeeds, `c` a task that is
//! about to be cancelled.

use std::collections::{BTreeMap, BTreeSet};

/// What the text says of a task.
#[derive(Debug, Default)]
struct Asked {
    label: String,
    words: BTreeMap<String, String>,
    /// How many barriers are above it, and whether the last one is `barrier ok`.
    barriers: usize,
    is_ok: bool,
    /// It was added: no barrier concerns it.
    is_added: bool,
}

/// The tasks of a list, and those that were added. Each has its label behind `echo s `.
fn asked(list: &str, added: &[String]) -> Vec<Asked> {
    let (mut all, mut barriers, mut is_ok) = (Vec::new(), 0, false);
    let list = list.lines().map(|line| (line, false));
    let added = added.iter().map(|line| (&**line, true));
    for (line, is_added) in list.chain(added) {
        if let Some(kind) = line.strip_prefix("#PYTF barrier") {
            (barriers, is_ok) = (barriers + 1, kind == " ok");
            continue;
        }
        let (command, said) = line.split_once(" #PYTF ").unwrap_or((line, ""));
        let label = command.strip_prefix("echo s ").unwrap();
        let words = said.split(' ').filter_map(|word| word.split_once('='));
        all.push(Asked {
            label: label.split(' ').next().unwrap().to_owned(),
            words: words.map(|(key, is)| (key.into(), is.into())).collect(),
            barriers: if is_added { 0 } else { barriers },
            is_ok: is_ok && !is_added,
            is_added,
        });
    }
    all
}

/// What a task did, by the numbers of the lines.
#[derive(Debug, Default)]
struct Did {
    starts: Vec<usize>,
    failed: Vec<usize>,
    finished: Option<usize>,
    cancelled: Option<usize>,
}

impl Did {
    /// The earliest moment at which it can have ended: it may have failed less often than its
    /// marks say, as an attempt that is killed with its farmer counts for nothing.
    fn ended(&self, retries: usize) -> Option<usize> {
        let failed = self.failed.get(retries).copied();
        let ends = [self.finished, failed, self.cancelled];
        ends.into_iter().flatten().min()
    }
}

/// An attempt, from its start on.
struct Attempt<'m> {
    label: &'m str,
    farmer: &'m str,
}

/// What was seen, for people.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) starts: usize,
    /// Waits that were looked at.
    waits: usize,
    /// Farmers of attempts that went on after a later one of the same task had started.
    pub(crate) overlapping: BTreeSet<String>,
}

/// Looks at the marks of all tasks of a list, and of those that were added. An error is one that
/// started too early, or two that need a whole node, or most of its memory, and ran at a time on one
/// farmer. `given_up` are tasks that have ended although no mark says so: their farmers died too often.
pub(crate) fn check(
    list: &str,
    added: &[String],
    marks: &str,
    given_up: &BTreeSet<String>,
) -> Result<Seen, String> {
    let (all, mut seen) = (asked(list, added), Seen::default());
    let did = read(marks, &all, &mut seen)?;
    let nothing = Did::default();
    let of = |task: &Asked| did.get(&*task.label).unwrap_or(&nothing);
    let mut names: BTreeMap<&str, Vec<&Asked>> = BTreeMap::new();
    for task in &all {
        if let Some(name) = task.words.get("name") {
            names.entry(name).or_default().push(task);
        }
    }
    for task in &all {
        let start = of(task).starts.first();
        let start = *start.ok_or_else(|| format!("{task:?} has not run"))?;
        let asked_for = |key: &str| {
            let names_in = task.words.get(key).into_iter().flat_map(|of| of.split(','));
            names_in.flat_map(|name| names[name].iter().copied())
        };
        let directly_above =
            |other: &&Asked| task.is_ok && other.barriers + 1 == task.barriers && !other.is_added;
        for other in asked_for("after").chain(all.iter().filter(directly_above)) {
            seen.waits += 1;
            let before = of(other).finished;
            if before.is_none_or(|at| at > start) {
                return Err(format!(
                    "{task:?} started at mark {start}, and {other:?} finished at {before:?}"
                ));
            }
        }
        let above = |other: &&Asked| other.barriers < task.barriers && !other.is_added;
        for other in asked_for("after-any").chain(all.iter().filter(above)) {
            seen.waits += 1;
            let retries = other.words.get("retries");
            let before = of(other).ended(retries.map_or(0, |n| n.parse().unwrap()));
            if before.is_none_or(|at| at > start) && !given_up.contains(&other.label) {
                return Err(format!(
                    "{task:?} started at mark {start}, and {other:?} ended at {before:?}"
                ));
            }
        }
    }
    Ok(seen)
}

fn read<'m>(
    marks: &'m str,
    all: &[Asked],
    seen: &mut Seen,
) -> Result<BTreeMap<&'m str, Did>, String> {
    let of_key = |key: &str| -> BTreeSet<&str> {
        let has = all.iter().filter(|task| task.words.contains_key(key));
        has.map(|task| &*task.label).collect()
    };
    let wide = ["cpus", "mem"].map(of_key);
    let mut did: BTreeMap<&str, Did> = BTreeMap::new();
    // By process.
    let mut running: BTreeMap<&str, Attempt<'_>> = BTreeMap::new();
    for (at, mark) in marks.lines().enumerate() {
        let words: Vec<&str> = mark.split(' ').collect();
        let (label, of) = (words[1], did.entry(words[1]).or_default());
        match words[0] {
            "s" => {
                of.starts.push(at);
                seen.starts += 1;
                if of.cancelled.is_some() {
                    // It may be killed at any moment.
                    continue;
                }
                let farmer = words[3];
                running.retain(|_, attempt| attempt.label != label);
                for wide in wide.iter().filter(|wide| wide.contains(label)) {
                    let mut others = running.values();
                    let is_beside =
                        |other: &&Attempt<'_>| other.farmer == farmer && wide.contains(other.label);
                    if let Some(other) = others.find(is_beside) {
                        return Err(format!("{label} ran beside {} on {farmer}", other.label));
                    }
                }
                running.insert(words[4], Attempt { label, farmer });
            }
            "c" => {
                of.cancelled.get_or_insert(at);
                running.retain(|_, attempt| attempt.label != label);
            }
            word => {
                if running.remove(words[2]).is_none() && of.cancelled.is_none() {
                    seen.overlapping.insert(words[3].to_owned());
                }
                match word {
                    "f" => of.failed.push(at),
                    "e" => drop(of.finished.get_or_insert(at)),
                    _ => return Err(format!("no mark: {mark}")),
                }
            }
        }
    }
    Ok(did)
}

/// The check finds what it is there for.
#[test]
fn marks_in_the_wrong_order_are_found() {
    let list = "echo s a >> #PYTF name=a retries=1\necho s b >> #PYTF after=a cpus=2\n\
                #PYTF barrier ok\necho s c >> #PYTF after-any=a cpus=2\n";
    let check = |marks: &str| {
        let marks = marks.replace(',', "\n");
        check(list, &[], &marks, &BTreeSet::new()).is_ok()
    };
    assert!(check(
        "s a 1 x 1,f a 1 x,s a 2 x 2,e a 2 x,s b 1 x 3,e b 3 x,s c 1 x 4"
    ));
    for wrong in [
        // Nothing has ended; the first attempt alone has failed; a wait for one that failed.
        "s a 1 x 1,s b 1 x 2,e a 1 x,e b 2 x,s c 1 x 3",
        "s a 1 x 1,f a 1 x,s b 1 x 2,s a 2 x 3,e a 3 x,e b 2 x,s c 1 x 3",
        "s a 1 x 1,f a 1 x,s a 2 x 2,f a 2 x,s b 1 x 3,e b 3 x,s c 1 x 4,s a 3 x 5,e a 5 x",
        // Below the barrier before all above have finished, and two wide ones at a time.
        "s a 1 x 1,e a 1 x,s b 1 x 2,s c 1 y 3,e b 2 x",
        "s a 1 x 1,e a 1 x,s b 1 x 2,s b 2 y 3,e b 3 y,s b 3 x 4,s c 1 x 5,e c 5 x",
    ] {
        assert!(!check(wrong), "{wrong}");
    }
}
