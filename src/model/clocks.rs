//! By how much the clocks of nodes differ, from moments whose order is known.
//!
//! Transactions exclude each other, and each notes the time of its node. So if
//! one of node A at `a` came before one of node B at `b`, B's clock is ahead of A's
//! by at most `b - a`; and one that came after bounds it from the other side. What
//! follows over other nodes bounds it, too. Others rely on this: nothing is
//! guessed, a difference is only told where it is proved. Times are microseconds.

use std::collections::HashMap;

/// Differences below this are no reason to correct anything.
const SMALL: i64 = 50_000;

/// Moments in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// By two nodes: the clock of the second is ahead of the first's by that at
    /// most.
    most: HashMap<(usize, usize), i64>,
    last: Option<(usize, u64)>,
}

/// By how much a clock is ahead of the one that all are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// So much, or less than nothing when it is behind.
    pub us: i64,
    /// It is not further from that.
    pub within: i64,
}

impl Order {
    /// The next moment: at a node, by its clock.
    pub fn then(&mut self, node: usize, at: u64) {
        if let Some((before, then)) = self.last.replace((node, at))
            && before != node
            && let (Ok(at), Ok(then)) = (i64::try_from(at), i64::try_from(then))
        {
            let most = self.most.entry((before, node)).or_insert(i64::MAX);
            *most = (*most).min(at - then);
        }
    }

    /// How far the clocks of so many nodes are ahead of one that most agree with,
    /// where that is proved; nothing where the moments contradict each other, as
    /// they do when a clock was set. `prefer` is small for the better of two.
    pub fn skews(&self, nodes: usize, prefer: impl Fn(usize) -> u64) -> Vec<Option<Ahead>> {
        let first = self.most.keys().map(|(from, _)| *from).min();
        let found = first.and_then(|first| {
            let middles = self.bounds(nodes, first)?;
            let mut known: Vec<(i64, usize)> = (0..)
                .zip(&middles)
                .filter_map(|(node, ahead)| Some((ahead.as_ref()?.us, node)))
                .collect();
            known.sort_unstable();
            // Of an even number there are two in the middle.
            let (low, high) = ((known.len() - 1) / 2, known.len() / 2);
            let (_, middle) = *known[low..=high].iter().min_by_key(|one| prefer(one.1))?;
            self.bounds(nodes, middle)
        });
        let is_proved = |ahead: &Ahead| ahead.us.abs() - ahead.within > SMALL;
        let found = found.unwrap_or_else(|| vec![None; nodes]);
        found
            .into_iter()
            .map(|ahead| ahead.filter(is_proved))
            .collect()
    }

    /// How far each clock is ahead of one of them; nothing where the moments
    /// contradict each other.
    fn bounds(&self, nodes: usize, of: usize) -> Option<Vec<Option<Ahead>>> {
        let most = shortest(nodes, of, || {
            self.most.iter().map(|((a, b), most)| (*a, *b, *most))
        })?;
        let least = shortest(nodes, of, || {
            self.most.iter().map(|((a, b), most)| (*b, *a, *most))
        })?;
        let both = most.into_iter().zip(least);
        let ahead = |(most, behind): (Option<i64>, Option<i64>)| {
            // It is behind by that at most, so ahead by no less than its negative.
            let (most, least) = (most?, -behind?);
            Some(Ahead {
                us: i64::midpoint(least, most),
                within: (most - least + 1) / 2,
            })
        };
        Some(both.map(ahead).collect())
    }
}

/// The shortest ways from one node, by Bellman and Ford: lengths may be negative.
/// Nothing when some way round is, for then there is no shortest.
fn shortest<E: Iterator<Item = (usize, usize, i64)>>(
    nodes: usize,
    from: usize,
    edges: impl Fn() -> E,
) -> Option<Vec<Option<i64>>> {
    let mut ways: Vec<Option<i64>> = vec![None; nodes];
    *ways.get_mut(from)? = Some(0);
    for _ in 0..=nodes {
        let mut is_done = true;
        for (a, b, length) in edges() {
            let Some(way) = ways.get(a).copied().flatten() else {
                continue;
            };
            let way = way.saturating_add(length);
            if let Some(known) = ways.get_mut(b)
                && known.is_none_or(|known| way < known)
            {
                *known = Some(way);
                is_done = false;
            }
        }
        if is_done {
            return Some(ways);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Ten years, so that no clock is before its epoch.
    const LONG: i64 = 315_360_000_000_000;

    fn order(moments: &[(usize, i64)], clocks: &[i64]) -> Order {
        let mut order = Order::default();
        for (node, at) in moments {
            let at = u64::try_from(LONG + at + clocks[*node]).unwrap();
            order.then(*node, at);
        }
        order
    }

    /// Turns of the nodes, `gap` microseconds apart.
    fn turns(count: usize, nodes: usize, gap: i64) -> Vec<(usize, i64)> {
        let at = (0..).step_by(usize::try_from(gap).unwrap());
        (0..count).map(|n| n % nodes).zip(at).collect()
    }

    proptest! {
        #[test]
        fn what_is_proved_is_true(
            gaps in prop::collection::vec((0_usize..5, 0_i64..2_000_000), 1..200),
            clocks in prop::collection::vec(-200_000_000_i64..200_000_000, 5),
        ) {
            let mut now = 0;
            let moments: Vec<_> = gaps.iter().map(|(node, gap)| {
                now += gap;
                (*node, now)
            }).collect();
            let order = order(&moments, &clocks);
            for of in 0..5 {
                let bounds = order.bounds(5, of).expect("no contradiction");
                for (node, ahead) in bounds.into_iter().enumerate() {
                    let Some(ahead) = ahead else { continue };
                    let truth = clocks[node] - clocks[of];
                    prop_assert!((truth - ahead.us).abs() <= ahead.within, "{truth} {ahead:?}");
                }
            }
        }
    }

    #[test]
    fn the_one_that_differs_is_told_and_the_others_are_right() {
        let turns = turns(60, 3, 20_000);
        let skews = |clocks: &[i64]| order(&turns, clocks).skews(3, |_| 0);
        assert_eq!(skews(&[0, 0, 0]), [None; 3]);
        assert_eq!(skews(&[0, 40_000, 0]), [None; 3], "too small to matter");
        let found = skews(&[7, 120_000_000, 0]);
        assert_eq!((found[0], found[2]), (None, None));
        let ahead = found[1].unwrap();
        assert!((ahead.us - 120_000_000).abs() <= ahead.within);
        assert!(ahead.within <= 40_000, "{ahead:?}");
        let found = skews(&[-5_000_000, 0, 0]);
        assert!(found[0].unwrap().us < -4_900_000, "{found:?}");
    }

    #[test]
    fn of_two_the_better_is_right() {
        let turns = turns(60, 2, 10_000);
        for (better, ahead) in [(0, 1), (1, 0)] {
            let found = order(&turns, &[0, 9_000_000]).skews(2, |node| u64::from(node != better));
            assert_eq!(found[better], None);
            assert_eq!(found[ahead].unwrap().us > 0, better == 0);
        }
    }

    #[test]
    fn what_is_not_proved_is_not_told() {
        // Two minutes between turns hide a minute between clocks.
        let rare = turns(60, 2, 120_000_000);
        assert_eq!(order(&rare, &[0, 60_000_000]).skews(2, |_| 0), [None; 2]);
        // A clock that was set in between contradicts itself.
        let mut set = turns(60, 2, 10_000);
        for (node, at) in &mut set[30..] {
            *at += if *node == 1 { 9_000_000 } else { 0 };
        }
        assert_eq!(order(&set, &[0, 0]).skews(2, |_| 0), [None; 2]);
        assert_eq!(Order::default().skews(2, |_| 0), [None; 2]);
    }
}
