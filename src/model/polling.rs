//! How often a farmer observes other farmers, and how often it reads the state of the run while
//! it has nothing to do.
//!
//! Thousands of farmers become idle in the same second. Guarantee: the reads of all farmers
//! together are spread over time, and their total rate does not grow with the number of
//! farmers.

use std::time::Duration;

/// How often the state of the run is read while there is nothing to claim: often at first,
/// since the last tasks of a run mostly end together.
const LOOK_FIRST: Duration = Duration::from_millis(50);
const LOOK_EVERY: Duration = Duration::from_millis(700);
const FOLLOW_EVERY: Duration = Duration::from_secs(5);
/// All farmers together do not read more often than this.
const LOOK_OF_ALL: Duration = Duration::from_millis(2);

/// How often a farmer checks whether its neighbours are alive.
pub fn watch_every(live: u32, takeover: Duration) -> Duration {
    let every = (Duration::from_millis(50) * live).max(takeover / 60);
    every.clamp(Duration::from_millis(500), Duration::from_secs(30))
}

/// How long after the join the farmer with this number first observes its neighbours: 0.5 to
/// 1.5 times [`watch_every`], evenly spread, so that farmers that joined together do not
/// observe at the same times.
pub fn first_watch(number: u32, live: u32, takeover: Duration) -> Duration {
    // Multiples of the golden section leave no gap and never meet.
    let place = (f64::from(number) * 0.618_033_988_75).fract();
    watch_every(live, takeover).mul_f64(0.5 + place)
}

/// How often a farmer that has had nothing to do for `idle` reads the state of the run.
pub fn look_every(idle: Duration, live: u32) -> Duration {
    (idle / 4).clamp(LOOK_FIRST, LOOK_EVERY.max(LOOK_OF_ALL * live))
}

/// The same, where tasks may come after hours: less and less often, down to this.
pub fn follow_every(idle: Duration, live: u32) -> Duration {
    look_every(idle, live).max((idle / 60).min(FOLLOW_EVERY))
}

/// How often a process that only waits for the end of the run looks at it after `waited`: the
/// end of a short run is seen at once, and a long one is looked at every ten seconds.
pub fn wait_every(waited: Duration) -> Duration {
    (waited / 20).clamp(Duration::from_millis(200), Duration::from_secs(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKEOVER: Duration = Duration::from_secs(2 * 60);

    #[test]
    fn farmers_that_join_together_do_not_look_together() {
        let mut seconds = [0; 60];
        for number in 0..3000 {
            let at = first_watch(number, 1000, TAKEOVER).as_secs();
            seconds[usize::try_from(at).unwrap()] += 1;
        }
        assert!(seconds[15..45].iter().all(|&n| (95..=105).contains(&n)));
    }

    #[test]
    fn a_small_farm_looks_often_and_a_large_one_no_more_often_in_all() {
        let ms = Duration::from_millis;
        assert_eq!(look_every(ms(0), 4), ms(50));
        assert_eq!(look_every(TAKEOVER, 4), ms(700));
        assert_eq!(look_every(TAKEOVER, 4000), ms(8000));
        assert_eq!(watch_every(2, TAKEOVER), ms(2000));
        assert_eq!(watch_every(4000, TAKEOVER), ms(30_000));
    }
}
