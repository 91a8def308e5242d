//! Which slots get which devices.
//!
//! Devices are first grouped into units, one for each task that runs without sharing; the
//! units are then assigned to slots. All processes of a node compute the same assignment
//! for the whole node, and each takes its own part of it, so they exchange no messages.

use std::collections::BTreeMap;

/// A device as far as its neighbours matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Locality {
    /// The NUMA node that it is at, when that is known.
    pub numa: Option<u32>,
    /// The group of devices that it has fast links with, when there is one.
    pub links: Option<u32>,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// `--proc`: slots of each process.
    pub slots: Option<u32>,
    /// `--gpus-per-task`.
    pub per_task: Option<u32>,
    /// `--tasks-per-gpu`.
    pub per_gpu: Option<u32>,
}

/// Which of the processes of a node we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// From 0.
    pub rank: u32,
    /// At least 1.
    pub of: u32,
}

impl Share {
    /// All of it.
    pub const WHOLE: Self = Self { rank: 0, of: 1 };

    /// Our part of `n` things. The parts follow each other without gaps and together are all
    /// things; their sizes differ by at most one, and the larger ones come first.
    pub fn of(self, n: usize) -> std::ops::Range<usize> {
        let (rank, of) = (self.rank as usize, self.of.max(1) as usize);
        (rank * n).div_ceil(of)..((rank + 1) * n).div_ceil(of)
    }
}

/// Why nothing can be assigned, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cannot {
    /// There is no device.
    #[error("there is no GPU here to assign to tasks: see 'pytf devices'")]
    NoDevice,
    /// A task wants more than there is.
    #[error(
        "--gpus-per-task {wanted}: there {} only {there}",
        if *there == 1 { "is" } else { "are" }
    )]
    TooFew {
        /// By one task.
        wanted: u32,
        /// In all.
        there: usize,
    },
    /// More slots than devices, and sharing was not asked for.
    #[error(
        "{slots} tasks at a time with {per_task} GPU{} each are more than the {there} GPU{} here \
         can take, {most} at a time: use --proc {}, or let them share with --tasks-per-gpu {}",
        plural(*per_task as usize), plural(*there), each(*most, *of), sharing(*slots, *most, *per_gpu)
    )]
    TooMany {
        /// On the whole node.
        slots: u64,
        /// GPUs per task.
        per_task: u32,
        /// Tasks per GPU.
        per_gpu: u32,
        /// GPUs.
        there: usize,
        /// Slots that fit.
        most: u64,
        /// Processes on the node.
        of: u32,
    },
}

fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}

fn each(most: u64, of: u32) -> u64 {
    (most / u64::from(of.max(1))).max(1)
}

fn sharing(slots: u64, most: u64, per_gpu: u32) -> u64 {
    let units = (most / u64::from(per_gpu.max(1))).max(1);
    slots.div_ceil(units)
}

/// The devices of each of our slots, by their places in `localities`. It may be empty
/// when there are more processes on the node than slots.
pub fn assign(localities: &[Locality], wish: Wish, part: Share) -> Result<Vec<Vec<usize>>, Cannot> {
    if localities.is_empty() {
        return Err(Cannot::NoDevice);
    }
    let per_task = wish.per_task.unwrap_or(1).max(1);
    let units = units(localities, per_task as usize);
    if units.is_empty() {
        let (wanted, there) = (per_task, localities.len());
        return Err(Cannot::TooFew { wanted, there });
    }
    let count = units.len() as u64;
    let wanted = wish
        .slots
        .map(|slots| u64::from(slots) * u64::from(part.of));
    let may_share = wish.per_gpu.is_none() && wish.per_task.is_none();
    let per_gpu = match wanted {
        Some(slots) if may_share => slots.div_ceil(count),
        _ => u64::from(wish.per_gpu.unwrap_or(1).max(1)),
    };
    let most = count * per_gpu;
    let slots = wanted.unwrap_or(most);
    if slots > most {
        return Err(Cannot::TooMany {
            slots,
            per_task,
            per_gpu: u32::try_from(per_gpu).unwrap_or(u32::MAX),
            there: localities.len(),
            most,
            of: part.of,
        });
    }
    Ok(ours(&units, slots, part))
}

/// Our part of `slots` slots, which are assigned evenly to the units: neighbouring
/// slots of the whole node have the same unit, so that each process has few of
/// them; of ours, neighbours have different ones, so that few tasks spread.
fn ours(units: &[Vec<usize>], slots: u64, part: Share) -> Vec<Vec<usize>> {
    let slots = usize::try_from(slots).unwrap_or(usize::MAX);
    let (each, more) = (slots / units.len(), slots % units.len());
    let all = (0..units.len()).flat_map(|unit| {
        let count = each + usize::from(unit < more);
        (0..count).map(move |nth| (nth, unit))
    });
    let range = part.of(slots);
    let mut mine: Vec<(usize, usize)> = all.skip(range.start).take(range.len()).collect();
    let first_of = |unit: usize, mine: &[(usize, usize)]| {
        let firsts = mine.iter().filter(|(_, other)| *other == unit);
        firsts.map(|(nth, _)| *nth).min().unwrap_or(0)
    };
    let base: Vec<usize> = (0..units.len()).map(|unit| first_of(unit, &mine)).collect();
    mine.sort_by_key(|&(nth, unit)| (nth - base[unit], unit));
    mine.into_iter()
        .map(|(_, unit)| units[unit].clone())
        .collect()
}

/// `n` devices for one task, of those that may take one more; `used` is how many tasks each of
/// these has, `None` is a device that takes none. Neighbours come first, as for [`assign`], and
/// devices with few tasks; among equal groups of neighbours the one with the fewest devices
/// left, so that others stay whole. `None` when there are too few.
pub fn choose(localities: &[Locality], used: &[Option<u32>], n: usize) -> Option<Vec<usize>> {
    if n == 0 {
        return Some(Vec::new());
    }
    let free: Vec<(u32, usize)> = (0..)
        .zip(used)
        .filter_map(|(device, used)| Some(((*used)?, device)))
        .collect();
    for level in 0..3 {
        let mut groups: BTreeMap<_, Vec<(u32, usize)>> = BTreeMap::new();
        for &(used, device) in &free {
            let group = group(&localities[device], level);
            groups.entry(group).or_default().push((used, device));
        }
        let chosen = groups.into_values().filter(|group| group.len() >= n);
        let chosen = chosen.map(|mut group| {
            let size = group.len();
            group.sort_unstable();
            group.truncate(n);
            let tasks: u32 = group.iter().map(|(used, _)| used).sum();
            let mut devices: Vec<usize> = group.iter().map(|(_, device)| *device).collect();
            devices.sort_unstable();
            (tasks, size, devices)
        });
        if let Some((_, _, devices)) = chosen.min() {
            return Some(devices);
        }
    }
    None
}

/// What neighbours have in common, from the closest to the farthest.
fn group(locality: &Locality, level: usize) -> (Option<u32>, Option<u32>) {
    match level {
        0 => (locality.numa, locality.links),
        1 => (locality.numa, None),
        _ => (None, None),
    }
}

/// As many groups of `size` devices as there can be, neighbours together: first
/// those with fast links, then those of a NUMA node, then what is left over.
fn units(localities: &[Locality], size: usize) -> Vec<Vec<usize>> {
    let mut units = Vec::new();
    let mut left: Vec<usize> = (0..localities.len()).collect();
    for level in 0..3 {
        let mut rest = Vec::new();
        while let Some(&first) = left.first() {
            let shared = group(&localities[first], level);
            let (same, others) = left
                .iter()
                .partition(|&&n| group(&localities[n], level) == shared);
            left = others;
            let same: Vec<usize> = same;
            let chunks = same.chunks_exact(size);
            rest.extend(chunks.remainder());
            units.extend(chunks.map(<[usize]>::to_vec));
        }
        rest.sort_unstable();
        left = rest;
    }
    units.sort();
    units
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn localities(n: usize) -> Vec<Locality> {
        vec![Locality::default(); n]
    }

    fn wish(slots: u32, per_task: u32, per_gpu: u32) -> Wish {
        let some = |n: u32| (n > 0).then_some(n);
        Wish {
            slots: some(slots),
            per_task: some(per_task),
            per_gpu: some(per_gpu),
        }
    }

    #[test]
    fn devices_are_dealt_as_was_asked() {
        for (name, n, wish, expected) in [
            (
                "one each",
                3,
                wish(0, 1, 0),
                vec![vec![0], vec![1], vec![2]],
            ),
            ("all of them", 2, wish(0, 0, 0), vec![vec![0], vec![1]]),
            ("two each", 5, wish(0, 2, 0), vec![vec![0, 1], vec![2, 3]]),
            (
                "shared",
                2,
                wish(0, 0, 2),
                vec![vec![0], vec![1], vec![0], vec![1]],
            ),
            (
                "five over two",
                2,
                wish(5, 0, 0),
                vec![vec![0], vec![1], vec![0], vec![1], vec![0]],
            ),
            ("fewer slots", 4, wish(2, 1, 0), vec![vec![0], vec![1]]),
            (
                "pairs, shared",
                4,
                wish(3, 2, 2),
                vec![vec![0, 1], vec![2, 3], vec![0, 1]],
            ),
        ] {
            assert_eq!(
                assign(&localities(n), wish, Share::WHOLE),
                Ok(expected),
                "{name}"
            );
        }
    }

    #[test]
    fn what_cannot_be_dealt_names_the_cure() {
        for (n, wish, said) in [
            (0, wish(0, 1, 0), "pytf devices"),
            (1, wish(0, 2, 0), "there is only 1"),
            (4, wish(16, 1, 0), "--tasks-per-gpu 4"),
            (4, wish(16, 0, 2), "use --proc 8"),
            (4, wish(3, 2, 0), "--tasks-per-gpu 2"),
        ] {
            let error = assign(&localities(n), wish, Share::WHOLE)
                .unwrap_err()
                .to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn neighbours_are_together() {
        let locality = |numa, links| Locality {
            numa: Some(numa),
            links,
        };
        let two_nodes = [
            locality(0, None),
            locality(1, None),
            locality(0, None),
            locality(1, None),
        ];
        assert_eq!(
            assign(&two_nodes, wish(0, 2, 0), Share::WHOLE),
            Ok(vec![vec![0, 2], vec![1, 3]])
        );
        let pairs = [
            locality(0, Some(1)),
            locality(0, Some(2)),
            locality(0, Some(2)),
            locality(0, Some(1)),
        ];
        assert_eq!(
            assign(&pairs, wish(0, 2, 0), Share::WHOLE),
            Ok(vec![vec![0, 3], vec![1, 2]])
        );
        // Three on each node: the third of each makes a pair all the same.
        let odd: Vec<Locality> = (0..6).map(|n| locality(n / 3, None)).collect();
        assert_eq!(
            assign(&odd, wish(0, 2, 0), Share::WHOLE),
            Ok(vec![vec![0, 1], vec![2, 5], vec![3, 4]])
        );
    }

    #[test]
    fn one_task_gets_neighbours_and_leaves_others_whole() {
        let place = |numa, links| Locality {
            numa: Some(numa),
            links: Some(links),
        };
        let pairs = [place(0, 1), place(0, 1), place(1, 2), place(1, 2)];
        let free = [Some(0); 4];
        for (name, used, n, expected) in [
            ("none", free, 0, Some(vec![])),
            ("one", free, 1, Some(vec![0])),
            (
                "of the broken pair",
                [None, Some(0), Some(0), Some(0)],
                1,
                Some(vec![1]),
            ),
            (
                "a whole pair",
                [None, Some(0), Some(0), Some(0)],
                2,
                Some(vec![2, 3]),
            ),
            (
                "the less used",
                [Some(1), Some(0), Some(2), Some(1)],
                1,
                Some(vec![1]),
            ),
            (
                "what is left",
                [None, Some(0), None, Some(0)],
                2,
                Some(vec![1, 3]),
            ),
            ("too many", [None, Some(0), None, None], 2, None),
        ] {
            assert_eq!(choose(&pairs, &used, n), expected, "{name}");
        }
    }

    #[test]
    fn processes_of_a_node_take_parts() {
        let mine = |n, wish, rank, of| assign(&localities(n), wish, Share { rank, of }).unwrap();
        assert_eq!(mine(4, wish(0, 1, 0), 0, 2), [vec![0], vec![1]]);
        assert_eq!(mine(4, wish(0, 1, 0), 1, 2), [vec![2], vec![3]]);
        assert_eq!(mine(1, wish(0, 0, 4), 1, 2), [vec![0], vec![0]]);
        assert_eq!(mine(1, wish(0, 1, 0), 0, 2), [vec![0]]);
        assert_eq!(mine(1, wish(0, 1, 0), 1, 2), [[0; 0]; 0]);
        assert_eq!(mine(2, wish(3, 0, 0), 1, 2), [vec![1], vec![1], vec![1]]);
    }

    proptest! {
        #[test]
        fn no_device_is_shared_by_more_than_may_and_dealing_is_even(
            places in prop::collection::vec((0..3_u32, 0..3_u32), 1..17),
            slots in 0..20_u32, per_task in 0..5_u32, per_gpu in 0..5_u32, of in 1..5_u32,
        ) {
            let localities: Vec<Locality> = places
                .iter()
                .map(|&(numa, links)| Locality { numa: Some(numa), links: (links > 0).then_some(links) })
                .collect();
            let asked = wish(slots, per_task, per_gpu);
            let parts: Result<Vec<_>, _> =
                (0..of).map(|rank| assign(&localities, asked, Share { rank, of })).collect();
            let Ok(parts) = parts else { return Ok(()) };
            let sizes: Vec<usize> = parts.iter().map(Vec::len).collect();
            let all: Vec<Vec<usize>> = parts.into_iter().flatten().collect();
            let (min, max) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            prop_assert!(max - min <= 1, "processes have {sizes:?}");
            if slots > 0 {
                prop_assert_eq!(u32::try_from(all.len()), Ok(slots * of));
            }
            let mut users = vec![0_u32; localities.len()];
            for slot in &all {
                prop_assert_eq!(slot.len(), per_task.max(1) as usize);
                for &device in slot {
                    users[device] += 1;
                }
                let mut once = slot.clone();
                once.dedup();
                prop_assert_eq!(&once, slot, "a device twice in one slot");
            }
            let used: Vec<u32> = users.iter().copied().filter(|n| *n > 0).collect();
            prop_assert!(used.iter().max().unwrap() - used.iter().min().unwrap() <= 1);
            let may = if per_gpu > 0 { per_gpu } else if slots > 0 && per_task == 0 { u32::MAX } else { 1 };
            prop_assert!(users.iter().all(|&n| n <= may), "{users:?} and at most {may}");
        }
    }
}
