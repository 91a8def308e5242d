//! The GPUs of a farmer: how busy they were, how much of their memory was in use,
//! which tasks ran on them.
//!
//! A farmer records a measurement when it has changed, so each one is valid until the next.
//! Guarantee: a GPU that was never measured has tasks and no load, and where slots have no
//! GPUs, this is empty.

use std::collections::BTreeMap;

use super::attempt::Attempt;
use crate::history::farmer_rows::natural;
use crate::model::escape::{clip, escape};
use crate::model::figures::float;
use crate::model::record::{GpuLoad, Header};
use crate::model::series::{Series, Sum as _, Use};

/// From this length on, in microseconds, it can be decided whether an attempt used its
/// GPUs: several measurements fall into it.
const LONG: u64 = 60_000_000;

/// An attempt that kept its GPU busy for less of its time, in percent, did not use it.
const UNUSED: u64 = 2;

/// This many characters of a UUID identify a GPU of a node, also for `--gpus`.
const SHORT: usize = "GPU-01234567".len();

/// A GPU's name as people read it.
pub fn short(name: &str) -> String {
    let name = escape(name.as_bytes());
    if name.starts_with("GPU-") {
        return name.chars().take(SHORT).collect();
    }
    clip(&name, SHORT + 1)
}

/// A GPU of a node.
#[derive(Clone, Debug, Default)]
pub struct Gpu {
    /// The name that its tasks get.
    pub name: String,
    /// How many slots share it.
    pub slots: u64,
    /// Attempts that ended on it.
    pub tasks: u64,
    /// Those of them that were given GPUs themselves, and not those of their slot: how many ran
    /// on it at a time does not follow from its slots.
    pub leased: u64,
    /// How it was used over time.
    pub series: Series<Use>,
    /// The most of its memory that was seen in use, in percent.
    pub most_memory: Option<u8>,
    /// The last measurement and since when it holds.
    held: Option<(u64, Option<u8>, Option<u8>)>,
    /// Up to there, for how long its load was known, and the sum of that: percent
    /// times microseconds.
    known: (u64, u64),
}

impl Gpu {
    /// `GPU 3`, or as much of its UUID as distinguishes it.
    pub fn title(&self) -> String {
        let short = short(&self.name);
        if short.starts_with(|c: char| c.is_ascii_digit()) {
            format!("GPU {short}")
        } else {
            short
        }
    }

    /// How busy it was, 0 to 1.
    pub fn load(&self) -> Option<f64> {
        mean(self.sum(|_| true).load)
    }

    /// How busy it was while tasks ran on it, 0 to 1.
    pub fn load_with_tasks(&self) -> Option<f64> {
        mean(self.with_tasks().load)
    }

    /// For how long its load was known while tasks ran on it, in microseconds.
    pub fn known_with_tasks(&self) -> u64 {
        self.with_tasks().load.0
    }

    /// How much of its memory was in use, 0 to 1.
    pub fn memory(&self) -> Option<f64> {
        mean(self.sum(|_| true).memory)
    }

    /// The stretches in which tasks ran for at least half of the time.
    fn with_tasks(&self) -> Use {
        let width = self.series.width();
        self.sum(|stretch| stretch.tasks * 2 >= width)
    }

    fn sum(&self, is_in: impl Fn(&Use) -> bool) -> Use {
        let mut all = Use::default();
        let stretches = self.series.iter().map(|(_, stretch)| stretch);
        stretches
            .filter(|one| is_in(one))
            .for_each(|one| all.add(one));
        all
    }

    /// Extends the last measurement up to a time.
    fn hold(&mut self, to: u64) {
        if let Some((from, load, memory)) = &mut self.held {
            self.series.measured(*from, to, *load, *memory);
            let span = to.saturating_sub(*from);
            if let Some(load) = load {
                self.known.0 += span;
                self.known.1 += span.saturating_mul(u64::from(*load));
            }
            *from = to.max(*from);
        }
    }

    fn measured(&mut self, at: u64, found: Option<&GpuLoad>) {
        self.hold(at);
        self.held = found.map(|found| (at, found.load, found.memory));
        let memory = found.and_then(|found| found.memory);
        self.most_memory = self.most_memory.max(memory);
    }

    /// Adds the figures of another farmer.
    fn merge(&mut self, other: &Self) {
        self.slots = self.slots.max(other.slots);
        self.tasks += other.tasks;
        self.leased += other.leased;
        self.series.merge(&other.series);
        self.most_memory = self.most_memory.max(other.most_memory);
    }
}

/// A mean of percents as a part of 1.
fn mean((time, sum): (u64, u64)) -> Option<f64> {
    (time > 0).then(|| float(sum) / float(time) / 100.0)
}

/// All GPUs of a farmer.
#[derive(Clone, Debug, Default)]
pub struct Gpus {
    all: BTreeMap<String, Gpu>,
    /// By slot, the [`Gpus::known`] of its GPUs when its task began.
    began: BTreeMap<u32, (u64, u64)>,
    /// Long attempts whose load of GPUs is known, and those of them that did not use their
    /// GPUs.
    pub long: (u64, u64),
}

impl Gpus {
    /// Counts the slots of each GPU.
    pub(super) fn add_slots(&mut self, header: &Header) {
        for name in header.devices.iter().flat_map(|slot| &slot.gpus) {
            self.of(name).slots += 1;
        }
    }

    fn of(&mut self, name: &str) -> &mut Gpu {
        let gpu = self.all.entry(name.to_owned()).or_default();
        if gpu.name.is_empty() {
            name.clone_into(&mut gpu.name);
        }
        gpu
    }

    /// Takes a measurement.
    pub(super) fn measured(&mut self, at: u64, found: &[GpuLoad]) {
        for one in found {
            self.of(&one.gpu);
        }
        for gpu in self.all.values_mut() {
            let found = found.iter().find(|one| one.gpu == gpu.name);
            gpu.measured(at, found);
        }
    }

    /// Takes the start of an attempt.
    pub(super) fn began(&mut self, header: &Header, attempt: &Attempt) {
        if let Some(known) = self.known(attempt.gpus(header), attempt.at) {
            self.began.insert(attempt.slot, known);
        }
    }

    /// Takes the end of an attempt.
    pub(super) fn ended(&mut self, header: &Header, attempt: &Attempt) {
        let Some(now) = self.known(attempt.gpus(header), attempt.end()) else {
            return;
        };
        if let Some(began) = self.began.remove(&attempt.slot)
            && attempt.us >= LONG
        {
            let (time, worked) = (now.0.saturating_sub(began.0), now.1.saturating_sub(began.1));
            if time >= LONG {
                self.long.0 += 1;
                self.long.1 += u64::from(worked < UNUSED * time);
            }
        }
        for name in attempt.gpus(header) {
            let gpu = self.of(name);
            gpu.tasks += 1;
            gpu.leased += u64::from(attempt.lease.is_some());
            gpu.series.task(attempt.at, attempt.end());
        }
    }

    /// For how long the load of these GPUs was known up to a time, and how much they have worked;
    /// none where there are none.
    fn known(&self, names: &[String], at: u64) -> Option<(u64, u64)> {
        let gpus = names.iter().filter_map(|name| self.all.get(name));
        let known = gpus.map(|gpu| {
            let (time, sum) = gpu.known;
            match gpu.held {
                Some((from, Some(load), _)) => {
                    let span = at.saturating_sub(from);
                    (time + span, sum + span.saturating_mul(u64::from(load)))
                }
                _ => (time, sum),
            }
        });
        (!names.is_empty()).then(|| known.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1)))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The figures at a time, with what runs then.
    pub(super) fn at<'a>(
        &self,
        now: u64,
        header: &Header,
        running: impl Iterator<Item = &'a Attempt>,
    ) -> Self {
        let mut gpus = self.clone();
        gpus.all.values_mut().for_each(|gpu| gpu.hold(now));
        for attempt in running {
            for name in attempt.gpus(header) {
                gpus.of(name).series.task(attempt.at, now);
            }
        }
        gpus
    }

    /// Adds the GPUs of another farmer on the same node.
    pub(super) fn merge(&mut self, other: &Self) {
        for gpu in other.all.values() {
            self.of(&gpu.name).merge(gpu);
        }
        self.long.0 += other.long.0;
        self.long.1 += other.long.1;
    }

    /// Each of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Gpu> {
        let mut all: Vec<&Gpu> = self.all.values().collect();
        all.sort_by(|a, b| natural(&a.name, &b.name));
        all.into_iter()
    }
}

/// How busy GPUs were while tasks ran on them, all together, 0 to 1.
pub fn load_with_tasks(gpus: &[&Gpu]) -> Option<f64> {
    let mut all = Use::default();
    for gpu in gpus {
        all.add(&gpu.with_tasks());
    }
    mean(all.load)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::run::Run;
    use crate::history::run::nodes::nodes;
    use crate::history::synthetic::{end, gpus, header_with, start, workdir};
    use crate::model::outcome::Outcome;

    const T: u64 = 1_800_000_000_000_000;
    const S: u64 = 1_000_000;

    #[test]
    fn a_measurement_holds_until_the_next() {
        let dir = workdir(&["x"; 2]);
        let records = [
            header_with("n", T, &["0", "1", "0"]),
            gpus(T, &[("0", 0, 10), ("1", 50, 10)]),
            start(0, 1, 0, T + 100 * S),
            gpus(T + 100 * S, &[("0", 80, 40), ("1", 50, 10)]),
            end(0, 1, 0, T + 100 * S, 100 * S, Outcome::Exit(0)),
            // The other cannot be measured any more.
            gpus(T + 200 * S, &[("0", 10, 20)]),
            end(1, 1, 2, T + 250 * S, 50 * S, Outcome::Exit(0)),
        ];
        dir.journal("n.0.1.1", &records);
        dir.seal("n.0.1.1");
        let run = Run::open(dir.path()).unwrap();
        let found = nodes(&run)[0].gpus(&run);
        let found: Vec<_> = found.iter().collect();
        let near = |found: Option<f64>, expected: f64| (found.unwrap() - expected).abs() < 0.01;
        assert_eq!(
            (&found[0].name[..], found[0].slots, found[0].tasks),
            ("0", 2, 2)
        );
        assert!(near(found[0].load(), 0.3), "{:?}", found[0].load());
        let loaded = found[0].load_with_tasks();
        assert!(
            near(loaded, (80.0 * 100.0 + 10.0 * 50.0) / 150.0 / 100.0),
            "{loaded:?}"
        );
        assert!(near(found[0].memory(), (10.0 + 40.0 + 20.0) / 300.0));
        assert_eq!(found[0].most_memory, Some(40));
        assert_eq!(
            (&found[1].name[..], found[1].slots, found[1].tasks),
            ("1", 1, 0)
        );
        assert!(near(found[1].load(), 0.5), "{:?}", found[1].load());
        assert_eq!(found[1].load_with_tasks(), None, "no task ran on it");
    }

    #[test]
    fn short_names_of_gpus_identify_them() {
        assert_eq!(short("3"), "3");
        assert_eq!(short("GPU-3fa1b2c4-5678-9abc"), "GPU-3fa1b2c4");
        assert_eq!(short("MIG-3fa1b2c4-5678-9abc"), "MIG-3fa1b2c4…");
    }
}
