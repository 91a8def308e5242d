//! Which CPUs a slot's tasks run on.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// A CPU as the kernel numbers them: what some call a hardware thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Cpu {
    /// Its NUMA node.
    pub numa: u32,
    /// Its core, named by its lowest CPU.
    pub core: usize,
    /// Its number.
    pub id: usize,
}

/// How tasks are bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreBinding {
    /// Each slot has this number of CPUs, which no other slot has.
    Own(usize),
    /// Each slot has all CPUs of one NUMA node, the slots spread over the nodes.
    Numa,
    /// Each slot has all CPUs near its devices.
    Near,
}

/// The CPUs of each slot; `near` are those near its devices, none known or no
/// device being an empty set. `None` when there are too few CPUs for it.
pub fn assign(
    cpus: &[Cpu],
    bind: CoreBinding,
    near: &[BTreeSet<usize>],
) -> Option<Vec<Vec<usize>>> {
    match bind {
        CoreBinding::Own(each) => own(cpus, each, near),
        CoreBinding::Numa => numa(cpus, near),
        CoreBinding::Near => Some(near.iter().map(|near| near_or_all(cpus, near)).collect()),
    }
}

fn near_or_all(cpus: &[Cpu], near: &BTreeSet<usize>) -> Vec<usize> {
    let mut ids: Vec<usize> = cpus.iter().map(|cpu| cpu.id).collect();
    ids.sort_unstable();
    let some: Vec<usize> = ids.iter().copied().filter(|id| near.contains(id)).collect();
    if some.is_empty() { ids } else { some }
}

/// The CPUs in the order in which they are assigned: by NUMA node and core. If there is a
/// core for each CPU that is wanted, only the first CPU of each core.
fn in_order(cpus: &[Cpu], wanted: usize) -> Vec<Cpu> {
    let mut all = cpus.to_vec();
    all.sort_unstable();
    all.dedup();
    let mut cores = all.clone();
    cores.dedup_by_key(|cpu| (cpu.numa, cpu.core));
    if wanted <= cores.len() { cores } else { all }
}

fn own(cpus: &[Cpu], each: usize, near: &[BTreeSet<usize>]) -> Option<Vec<Vec<usize>>> {
    let wanted = each.checked_mul(near.len())?;
    let mut free = in_order(cpus, wanted);
    if wanted > free.len() {
        return None;
    }
    let mut slots = vec![Vec::new(); near.len()];
    // Those with a device choose first, so that none of the near CPUs goes to a
    // slot that does not care; what they lack they get from what is left.
    for (slot, near) in slots.iter_mut().zip(near) {
        let (chosen, rest) =
            (free.iter().copied()).partition::<Vec<_>, _>(|cpu| near.contains(&cpu.id));
        let taken = chosen.len().min(each);
        slot.extend(chosen[..taken].iter().map(|cpu| cpu.id));
        free = [&chosen[taken..], &rest].concat();
        free.sort_unstable();
    }
    for slot in &mut slots {
        let lacks = each - slot.len();
        slot.extend(free.drain(..lacks).map(|cpu| cpu.id));
        slot.sort_unstable();
    }
    Some(slots)
}

/// `n` of the free CPUs for one task, in ascending order; `None` when there are fewer. Those near
/// its devices come first, then those of a NUMA node that has enough and little more, and
/// everywhere whole cores before the rest of a core that is in use.
pub fn choose(
    all: &[Cpu],
    free: &BTreeSet<usize>,
    n: usize,
    near: &BTreeSet<usize>,
) -> Option<Vec<usize>> {
    if n > free.len() {
        return None;
    }
    let mut used_cores = BTreeSet::new();
    let mut left: BTreeMap<u32, usize> = BTreeMap::new();
    for cpu in all {
        if free.contains(&cpu.id) {
            *left.entry(cpu.numa).or_default() += 1;
        } else {
            used_cores.insert((cpu.numa, cpu.core));
        }
    }
    let rank = |cpu: &Cpu| {
        let left = left[&cpu.numa];
        // Where none is large enough, the largest first: the task is on few nodes.
        let fit = if left >= n {
            (false, left)
        } else {
            (true, usize::MAX - left)
        };
        let is_used = used_cores.contains(&(cpu.numa, cpu.core));
        (
            !near.contains(&cpu.id),
            fit,
            cpu.numa,
            is_used,
            cpu.core,
            cpu.id,
        )
    };
    let mut chosen: Vec<&Cpu> = all.iter().filter(|cpu| free.contains(&cpu.id)).collect();
    chosen.sort_unstable_by_key(|cpu| rank(cpu));
    let mut ids: Vec<usize> = chosen.iter().take(n).map(|cpu| cpu.id).collect();
    ids.sort_unstable();
    (ids.len() == n).then_some(ids)
}

fn numa(cpus: &[Cpu], near: &[BTreeSet<usize>]) -> Option<Vec<Vec<usize>>> {
    let nodes: BTreeSet<u32> = cpus.iter().map(|cpu| cpu.numa).collect();
    let nodes: Vec<u32> = nodes.into_iter().collect();
    let of = |node: u32| {
        let ids = cpus.iter().filter(|cpu| cpu.numa == node);
        ids.map(|cpu| cpu.id).collect::<BTreeSet<_>>()
    };
    let slots = near.iter().enumerate().map(|(slot, devices)| {
        let first = cpus.iter().find(|cpu| devices.contains(&cpu.id));
        // Neighbouring slots have the same node.
        let spread = nodes.get(slot * nodes.len() / near.len())?;
        Some(
            of(first.map_or(*spread, |cpu| cpu.numa))
                .into_iter()
                .collect(),
        )
    });
    slots.collect()
}

/// Reads a list as the kernel writes it: `0-3,8`.
pub fn parse_list(text: &str) -> Option<BTreeSet<usize>> {
    let mut ids = BTreeSet::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        // More than any kernel has is not a list of CPUs.
        if to >= 1 << 16 {
            return None;
        }
        ids.extend::<std::ops::RangeInclusive<usize>>(from..=to);
    }
    Some(ids)
}

/// Writes a list as the kernel does.
pub fn show_list(ids: &[usize]) -> String {
    let mut text = String::new();
    let mut rest = ids;
    while let Some(&from) = rest.first() {
        let run = rest.iter().zip(from..).take_while(|(id, n)| *id == n);
        let length = run.count();
        text += if text.is_empty() { "" } else { "," };
        text += &from.to_string();
        if length > 1 {
            text += &format!("-{}", from + length - 1);
        }
        rest = &rest[length..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Nodes of four CPUs in two cores, numbered as Linux likes to: first one CPU
    /// of each core, then the others.
    fn node(nodes: usize) -> Vec<Cpu> {
        (0..nodes * 4)
            .map(|id| {
                let core = id % (nodes * 2);
                let numa = u32::try_from(core / 2).unwrap();
                Cpu { numa, core, id }
            })
            .collect()
    }

    fn nowhere(slots: usize) -> Vec<BTreeSet<usize>> {
        vec![BTreeSet::new(); slots]
    }

    #[test]
    fn each_slot_has_cpus_of_its_own() {
        let cpus = node(2);
        for (name, each, slots, expected) in [
            (
                "a core each",
                1,
                4,
                Some(vec![vec![0], vec![1], vec![2], vec![3]]),
            ),
            ("two cores each", 2, 2, Some(vec![vec![0, 1], vec![2, 3]])),
            (
                "a whole core each",
                2,
                4,
                Some(vec![vec![0, 4], vec![1, 5], vec![2, 6], vec![3, 7]]),
            ),
            ("too many", 3, 3, None),
            ("beyond reckoning", usize::MAX, 2, None),
        ] {
            assert_eq!(
                assign(&cpus, CoreBinding::Own(each), &nowhere(slots)),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn a_task_gets_whole_cores_of_one_node_near_its_devices() {
        let cpus = node(2);
        let far = BTreeSet::from([2, 3, 6, 7]);
        for (name, used, n, near, expected) in [
            ("a core", &[][..], 2, BTreeSet::new(), Some(vec![0, 4])),
            (
                "not half a core",
                &[0],
                2,
                BTreeSet::new(),
                Some(vec![1, 5]),
            ),
            ("the fuller node", &[2], 1, BTreeSet::new(), Some(vec![3])),
            ("one node", &[0], 4, BTreeSet::new(), Some(vec![2, 3, 6, 7])),
            ("near", &[2], 2, far.clone(), Some(vec![3, 7])),
            ("more than are near", &[2, 3, 6], 2, far, Some(vec![0, 7])),
            ("all", &[], 8, BTreeSet::new(), Some((0..8).collect())),
            ("too many", &[0], 8, BTreeSet::new(), None),
        ] {
            let free = (0..8).filter(|id| !used.contains(id)).collect();
            assert_eq!(choose(&cpus, &free, n, &near), expected, "{name}");
        }
    }

    #[test]
    fn cpus_are_near_the_devices() {
        let cpus = node(2);
        let far = BTreeSet::from([2, 3, 6, 7]);
        let near = [far.clone(), BTreeSet::new(), far.clone()];
        assert_eq!(
            assign(&cpus, CoreBinding::Own(1), &near),
            Some(vec![vec![2], vec![0], vec![3]])
        );
        assert_eq!(
            assign(&cpus, CoreBinding::Numa, &near),
            Some(vec![vec![2, 3, 6, 7], vec![0, 1, 4, 5], vec![2, 3, 6, 7]])
        );
        assert_eq!(
            assign(&cpus, CoreBinding::Near, &near[..2]),
            Some(vec![vec![2, 3, 6, 7], (0..8).collect()])
        );
        // More than are near: the rest is taken where it is.
        let near = [far.clone(), far.clone(), far];
        let assigned = assign(&cpus, CoreBinding::Own(2), &near).unwrap();
        assert_eq!(assigned, [vec![2, 6], vec![3, 7], vec![0, 4]]);
    }

    #[test]
    fn slots_spread_over_the_nodes() {
        let assigned = assign(&node(2), CoreBinding::Numa, &nowhere(4)).unwrap();
        let (first, second) = (vec![0, 1, 4, 5], vec![2, 3, 6, 7]);
        assert_eq!(assigned, [first.clone(), first, second.clone(), second]);
    }

    #[test]
    fn lists_are_the_kernels() {
        for (text, ids) in [
            ("", vec![]),
            ("0", vec![0]),
            ("0-3,8\n", vec![0, 1, 2, 3, 8]),
            ("1,3,5-6", vec![1, 3, 5, 6]),
        ] {
            let read: Vec<usize> = parse_list(text).unwrap().into_iter().collect();
            assert_eq!(read, ids);
            assert_eq!(show_list(&ids), text.trim());
        }
        assert_eq!(parse_list("0-99999999999"), None);
        assert_eq!(parse_list("a"), None);
    }

    proptest! {
        #[test]
        fn no_cpu_is_anothers(
            nodes in 1..4_usize, each in 1..5_usize,
            near in prop::collection::vec(prop::collection::btree_set(0..16_usize, 0..8), 1..9),
        ) {
            let cpus = node(nodes);
            let Some(assigned) = assign(&cpus, CoreBinding::Own(each), &near) else {
                prop_assert!(each * near.len() > cpus.len());
                return Ok(());
            };
            prop_assert!(assigned.iter().all(|slot| slot.len() == each));
            let all: BTreeSet<usize> = assigned.iter().flatten().copied().collect();
            prop_assert_eq!(all.len(), each * near.len(), "a CPU twice");
            prop_assert!(all.iter().all(|&id| id < cpus.len()));
        }
    }
}
