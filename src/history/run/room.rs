//! What the nodes of a run have for tasks with needs of their own, and what of it is free: from
//! the journals, so it may be some seconds old.
//!
//! Guarantee: where a farmer has not recorded what it has of something, it is taken to have
//! enough.

use wildmatch::WildMatch;

use super::{Farmer, Run};
use crate::model::allocator::Withheld;
use crate::model::class::Class;
use crate::model::escape::escape;
use crate::model::figures::show_kib;
use crate::model::record::Reserved;
use crate::model::task::TaskId;

/// CPUs, GPUs, and memory in KiB; `None` where nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amounts {
    cpus: Option<u32>,
    gpus: Option<u32>,
    mem: Option<u64>,
}

/// Something of which a task needs more than there is.
enum Lack {
    Cpus(u32, u32),
    Gpus(u32, u32),
    Memory(u64, u64),
}

/// What a farmer's node lacks for a task.
struct Lacking<'a> {
    host: &'a str,
    lacks: Vec<Lack>,
    /// Whether the task may not run there, by the name of the node.
    is_elsewhere: bool,
    /// Whether others use some of the node, and keep it.
    has_others: bool,
}

impl Amounts {
    /// What a task needs of this and does not get.
    fn lacks(&self, class: &Class) -> Vec<Lack> {
        let (cpus, gpus, mem) = (class.cpus.unwrap_or(1), class.gpus, class.mem);
        let mut lacks = Vec::new();
        if let Some(has) = self.cpus.filter(|has| *has < cpus) {
            lacks.push(Lack::Cpus(cpus, has));
        }
        if let Some((needs, has)) = gpus.zip(self.gpus).filter(|(needs, has)| has < needs) {
            lacks.push(Lack::Gpus(needs, has));
        }
        if let Some((needs, has)) = mem.zip(self.mem).filter(|(needs, has)| has < needs) {
            lacks.push(Lack::Memory(needs, has));
        }
        lacks
    }
}

impl Lack {
    /// The need, and what there is.
    fn words(&self) -> (String, String) {
        let counted = |n: u32, what: &str| match n {
            1 => format!("1 {what}"),
            n => format!("{n} {what}s"),
        };
        let none = |n: u32| match n {
            0 => "none".to_owned(),
            n => n.to_string(),
        };
        match *self {
            Self::Cpus(needs, has) => (counted(needs, "CPU"), none(has)),
            Self::Gpus(needs, has) => (counted(needs, "GPU"), none(has)),
            Self::Memory(needs, has) => (format!("{} of memory", show_kib(needs)), show_kib(has)),
        }
    }
}

impl Lacking<'_> {
    /// `2 GPUs, of which 1 is free`; `None` when nothing is lacking.
    fn words(&self) -> Option<String> {
        let words = |lack: &Lack| {
            let (needs, free) = lack.words();
            let is = if free == "1" { "is" } else { "are" };
            format!("{needs}, of which {free} {is} free")
        };
        let words: Vec<String> = self.lacks.iter().map(words).collect();
        let others = if self.has_others {
            " beside what others use"
        } else {
            ""
        };
        (!words.is_empty()).then(|| words.join(", and ") + others)
    }
}

impl Farmer {
    /// What it has for its tasks.
    fn has(&self) -> Amounts {
        let header = self.header();
        if let Some(deals) = &self.deals {
            let (cpus, mem) = (Some(deals.cpus), deals.mem);
            let gpus = deals.gpus;
            return Amounts { cpus, gpus, mem };
        }
        Amounts {
            // Who asks for more slots than CPUs wants them.
            cpus: header.cpus.map(|cpus| cpus.max(header.slots)),
            gpus: None,
            mem: header.memory,
        }
    }

    /// What of it is dealt: others use the rest.
    fn dealt(&self) -> Amounts {
        let Amounts { cpus, gpus, mem } = self.has();
        let withheld = self.withheld();
        Amounts {
            cpus: cpus.map(|cpus| cpus.saturating_sub(withheld.cpus)),
            gpus,
            mem: mem.map(|mem| mem.saturating_sub(withheld.mem_kib)),
        }
    }

    /// What it leaves to others.
    fn withheld(&self) -> Withheld {
        let deals = self.deals.as_ref();
        deals.map_or_else(Withheld::default, |deals| deals.withheld)
    }

    /// What of it no task has that runs now.
    fn free(&self) -> Amounts {
        let Amounts { cpus, gpus, mem } = self.dealt();
        let (mut cpus_in_use, mut gpus_in_use, mut memory_in_use) = (0_u32, 0_u32, 0_u64);
        for attempt in self.slots.running.values() {
            let lease = attempt.lease.as_ref();
            let gpus = u32::try_from(attempt.gpus(self.header()).len()).unwrap_or(u32::MAX);
            cpus_in_use = cpus_in_use.saturating_add(lease.map_or(1, |lease| lease.cpus));
            gpus_in_use = gpus_in_use.saturating_add(gpus);
            memory_in_use = memory_in_use.saturating_add(lease.map_or(0, |lease| lease.mem));
        }
        Amounts {
            cpus: cpus.map(|cpus| cpus.saturating_sub(cpus_in_use)),
            gpus: gpus.map(|gpus| gpus.saturating_sub(gpus_in_use)),
            mem: mem.map(|mem| mem.saturating_sub(memory_in_use)),
        }
    }

    /// Whether tasks of this class may run on its node, by the name of that.
    fn is_wanted(&self, class: &Class) -> bool {
        let header = self.header();
        let is_here = |wanted: &str| {
            let is_label = header.labels.iter().any(|label| label == wanted);
            is_label || WildMatch::new(wanted).matches(&header.host)
        };
        let node = class.node.as_deref();
        node.is_none_or(|wanted| wanted.split(',').any(is_here))
    }

    fn can_hold(&self, class: &Class) -> bool {
        self.is_wanted(class) && self.has().lacks(class).is_empty()
    }

    fn lacking(&self, has: &Amounts, class: &Class) -> Lacking<'_> {
        Lacking {
            host: &self.header().host,
            lacks: has.lacks(class),
            is_elsewhere: !self.is_wanted(class),
            has_others: !self.withheld().is_nothing(),
        }
    }
}

impl Farmer {
    /// What a task of this class lacks on its node now.
    pub fn what_lacks(&self, class: &Class) -> Option<String> {
        self.lacking(&self.free(), class).words()
    }
}

impl Run {
    /// The farmers that count for what can run: those that live, or else all that there were.
    fn offering(&self) -> Vec<&Farmer> {
        let living: Vec<&Farmer> = self.living().collect();
        if living.is_empty() {
            return self.farmers.iter().collect();
        }
        living
    }

    /// Why no task of this class can ever run on the nodes of the run; `None` when it can.
    pub fn why_nowhere(&self, class: &Class) -> Option<String> {
        let all = self.offering();
        if all.is_empty() || all.iter().any(|farmer| farmer.can_hold(class)) {
            return None;
        }
        let lacking = all
            .iter()
            .map(|farmer| farmer.lacking(&farmer.has(), class));
        let nearest = lacking.min_by_key(|one| (one.is_elsewhere, one.lacks.len()))?;
        if let Some(node) = class.node.as_ref().filter(|_| nearest.is_elsewhere) {
            return Some(format!(
                "no node of the run is '{}', which it needs: start pytf there, or with --label",
                escape(node.as_bytes())
            ));
        }
        let (mut needs, mut has) = (Vec::new(), Vec::new());
        for lack in &nearest.lacks {
            let (need, there) = lack.words();
            needs.push(need);
            has.push(there);
        }
        Some(format!(
            "it needs {}, and no node of the run has so much: {} has {}",
            needs.join(" and "),
            escape(nearest.host.as_bytes()),
            has.join(" and ")
        ))
    }

    /// What a task of this class waits for on the node where the least is lacking; `None` when
    /// it could start there now.
    pub fn why_not_now(&self, class: &Class) -> Option<String> {
        let says_nothing = class.cpus.is_none() && class.gpus.is_none() && class.mem.is_none();
        if says_nothing && self.living().any(|farmer| farmer.withheld().is_nothing()) {
            // It waits for a slot.
            return None;
        }
        let living = self.living().filter(|farmer| farmer.can_hold(class));
        let lacking = living.map(|farmer| (farmer, farmer.lacking(&farmer.free(), class)));
        let (farmer, nearest) = lacking.min_by_key(|(_, one)| one.lacks.len())?;
        let host = escape(nearest.host.as_bytes());
        let reserved = farmer.deals.as_ref().and_then(|deals| deals.reserved);
        match (nearest.words(), reserved) {
            (Some(lacks), _) => Some(format!("it needs {lacks} on {host}")),
            (None, Some(one)) => Some(format!("{host} collects for task {} first", one.id)),
            (None, None) => None,
        }
    }

    /// The living farmer that has claimed this task and collects what it needs.
    pub fn reserved_on(&self, id: TaskId) -> Option<(&Farmer, Reserved)> {
        self.living().find_map(|farmer| {
            let reserved = farmer.deals.as_ref()?.reserved;
            Some((farmer, reserved.filter(|one| one.id == id)?))
        })
    }
}
