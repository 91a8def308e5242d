use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

const S: fn(u64) -> Duration = Duration::from_secs;

fn cpus(n: u32) -> Needs {
    Needs {
        cpus: n,
        ..Needs::default()
    }
}

fn gpus(n: u32) -> Needs {
    Needs {
        gpus: n,
        ..Needs::default()
    }
}

fn limited(needs: Needs, secs: u64) -> Needs {
    let time = Some(S(secs));
    Needs { time, ..needs }
}

fn node(n: u32, gpus: usize) -> Capacity {
    let cpu = |id: usize| Cpu {
        numa: 0,
        core: id / 2,
        id,
    };
    Capacity {
        cpus: n,
        cpu_list: (0..n as usize).map(cpu).collect(),
        gpus: vec![GpuPlace::default(); gpus],
        tasks_per_gpu: 1,
        mem_kib: Some(100),
    }
}

/// With tasks that are named by their places in `all`.
fn with(capacity: Capacity, all: &[Needs]) -> Allocator<usize> {
    let mut allocator = Allocator::new(capacity);
    for (name, needs) in all.iter().enumerate() {
        allocator.put(name, *needs);
    }
    allocator
}

fn start_all(allocator: &mut Allocator<usize>, now: u64) -> Vec<(usize, ResourceLease)> {
    std::iter::from_fn(|| allocator.take(S(now))).collect()
}

fn names(started: &[(usize, ResourceLease)]) -> Vec<usize> {
    started.iter().map(|(name, _)| *name).collect()
}

#[test]
fn tasks_start_in_order_while_they_fit_and_have_cpus_and_gpus_of_their_own() {
    let mut allocator = with(node(4, 2), &[cpus(2), gpus(1), gpus(2), cpus(1)]);
    let started = start_all(&mut allocator, 0);
    // The third waits for GPUs; the last fits beside it: one CPU is left for both.
    assert_eq!(names(&started), [0, 1, 3]);
    assert_eq!(started[0].1.cpus, [0, 1]);
    assert_eq!(
        (&started[1].1.cpus[..], &started[1].1.gpus[..]),
        (&[2][..], &[0][..])
    );
    assert_eq!(allocator.reserved_for(), Some((&2, &gpus(2))));
    allocator.give_back(&started[0].1, S(1));
    assert_eq!(names(&start_all(&mut allocator, 1)), [0; 0]);
    allocator.give_back(&started[1].1, S(1));
    allocator.give_back(&started[1].1, S(1));
    assert_eq!(names(&start_all(&mut allocator, 2)), [2]);
    assert_eq!(allocator.in_use(), (2, 2, 0), "nothing is returned twice");
    assert_eq!(allocator.reserved_for(), None);
}

#[test]
fn memory_is_dealt_and_a_task_without_need_has_no_share_of_it() {
    let mem = |mem_kib| Needs {
        mem_kib,
        ..Needs::default()
    };
    let mut allocator = with(node(8, 0), &[mem(60), mem(50), mem(0), mem(30), mem(101)]);
    // The fourth would fit now, and not beside the second.
    assert_eq!(names(&start_all(&mut allocator, 0)), [0, 2, 3]);
    assert!(!allocator.can_ever_hold(&mem(101)));
    let unknown = Capacity {
        mem_kib: None,
        ..node(1, 0)
    };
    assert!(Allocator::<()>::new(unknown).can_ever_hold(&mem(u64::MAX)));
}

#[test]
fn who_ends_before_the_reservation_may_pass_and_who_does_not_may_not() {
    for (name, running, wide, next, passes) in [
        (
            "ends in time",
            limited(cpus(3), 100),
            cpus(4),
            limited(cpus(1), 90),
            true,
        ),
        (
            "too long",
            limited(cpus(3), 100),
            cpus(4),
            limited(cpus(1), 110),
            false,
        ),
        (
            "unknown length",
            limited(cpus(3), 100),
            cpus(4),
            cpus(1),
            false,
        ),
        ("unknown end", cpus(3), cpus(4), limited(cpus(1), 1), false),
        ("beside", cpus(3), cpus(3), cpus(1), true),
    ] {
        let mut allocator = with(node(4, 0), &[running, wide, next]);
        let started = names(&start_all(&mut allocator, 0));
        assert_eq!(started.contains(&2), passes, "{name}: {started:?}");
    }
}

/// A reservation that is put off by each new estimate is none.
#[test]
fn a_wrong_estimate_delays_the_reservation_once() {
    let mut allocator = with(node(4, 0), &[cpus(1)]);
    let first = start_all(&mut allocator, 0);
    // That is how long such tasks take from now on.
    allocator.give_back(&first[0].1, S(100));
    allocator.put(0, limited(cpus(3), 100));
    allocator.put(1, cpus(4));
    allocator.put(2, cpus(1));
    let started = start_all(&mut allocator, 100);
    assert_eq!(names(&started), [0, 2]);
    // The second of them takes longer than usual.
    allocator.give_back(&started[0].1, S(150));
    allocator.put(3, limited(cpus(1), 20));
    assert_eq!(names(&start_all(&mut allocator, 210)), [0; 0]);
    allocator.give_back(&started[1].1, S(230));
    assert_eq!(names(&start_all(&mut allocator, 230)), [1]);
}

#[test]
fn near_the_end_the_longest_run_counts_where_it_is_shorter_than_the_limit() {
    // Tasks with a limit of 100 s of which one ran for 30 s; with one of 20 s; without; and with
    // one of 100 s that nothing is said of.
    let (long, short) = (limited(cpus(1), 100), limited(cpus(1), 20));
    let all = [long, long, short, cpus(1), limited(cpus(2), 100)];
    let late = |ran: u64, left: u64| {
        let mut allocator = with(node(1, 0), &all);
        let (_, lease) = allocator.take(S(0)).unwrap();
        allocator.give_back(&lease, S(ran));
        allocator.take_late(S(left), |task| *task != 4)
    };
    assert_eq!(late(30, 30), [0; 0]);
    assert_eq!(late(30, 29), [1]);
    assert_eq!(late(30, 19), [1, 2]);
    // The limit, once it ran for longer, and while nothing has run.
    assert_eq!(late(110, 100), [0; 0]);
    assert_eq!(late(110, 99), [1]);
    let mut fresh = with(node(1, 0), &all);
    assert_eq!(fresh.take_late(S(99), |_| true), [0, 1, 4]);
}

#[test]
fn what_runs_already_counts() {
    let mut allocator = with(node(4, 1), &[cpus(3), gpus(1)]);
    let lease = allocator.adopt(gpus(1), &[2], vec![0]);
    assert_eq!((&lease.cpus[..], allocator.in_use()), (&[2][..], (1, 1, 0)));
    let started = start_all(&mut allocator, 0);
    assert_eq!(started[0].1.cpus, [0, 1, 3]);
    assert_eq!(names(&started), [0]);
    allocator.give_back(&lease, S(1));
    assert_eq!(names(&start_all(&mut allocator, 1)), [1]);
    let mut later = with(node(2, 0), &[]);
    later.add_gpus(vec![GpuPlace::default(); 2], 1);
    assert!(later.can_ever_hold(&gpus(2)));
}

#[test]
fn tasks_share_a_gpu_if_they_may_and_wait_for_one_that_others_use() {
    let shared = Capacity {
        tasks_per_gpu: 2,
        ..node(8, 2)
    };
    let mut allocator = with(shared, &[gpus(1), gpus(1), gpus(2), gpus(1)]);
    let started = start_all(&mut allocator, 0);
    let of_each: Vec<&[usize]> = started.iter().map(|(_, lease)| &lease.gpus[..]).collect();
    assert_eq!(of_each, [&[0][..], &[1], &[0, 1]]);

    let mut allocator = with(node(8, 2), &[gpus(1), gpus(1), cpus(1)]);
    allocator.set_usable(0, false);
    let started = start_all(&mut allocator, 0);
    assert_eq!(
        (names(&started), &started[0].1.gpus[..]),
        (vec![0, 2], &[1][..])
    );
    allocator.set_usable(0, true);
    assert_eq!(names(&start_all(&mut allocator, 0)), [1]);

    let mut allocator = with(node(8, 2), &[gpus(2)]);
    allocator.lose(0);
    assert!(!allocator.can_ever_hold(&gpus(2)) && allocator.can_ever_hold(&gpus(1)));
    allocator.lose(1);
    assert!(allocator.can_ever_hold(&gpus(1)), "the last one stays");
    assert_eq!(names(&start_all(&mut allocator, 0)), [0; 0]);
    assert_eq!(allocator.take_out(|_, needs| needs.gpus > 1), [0]);
    assert_eq!(allocator.waiting(), 0);
}

#[test]
fn what_is_claimed_could_start_and_one_reserves() {
    let never = cpus(9);
    for (name, waiting, classes, slots, expected) in [
        ("as many as fit", &[][..], &[(cpus(3), 9)][..], 99, &[2][..]),
        (
            "no more than there are",
            &[],
            &[(cpus(3), 1), (cpus(1), 3)],
            99,
            &[1, 3],
        ),
        ("no more than slots", &[], &[(cpus(1), 9)], 3, &[3]),
        ("in order", &[], &[(cpus(2), 3), (cpus(1), 9)], 99, &[3, 2]),
        ("never", &[], &[(never, 9), (cpus(1), 9)], 99, &[0, 8]),
        ("what waits is first", &[cpus(6)], &[(cpus(1), 9)], 99, &[2]),
        (
            "one reserves",
            &[cpus(1)],
            &[(cpus(8), 9), (cpus(1), 9)],
            99,
            &[1, 0],
        ),
        (
            "beside it",
            &[cpus(3), cpus(3)],
            &[(cpus(4), 9), (cpus(1), 9)],
            99,
            &[1, 1],
        ),
        (
            "one reservation",
            &[cpus(1), cpus(8)],
            &[(cpus(8), 9)],
            99,
            &[0],
        ),
        (
            "a limit",
            &[limited(cpus(7), 60)],
            &[(cpus(8), 1), (limited(cpus(1), 60), 9)],
            99,
            &[1, 1],
        ),
        ("none", &[], &[(cpus(1), 0)], 99, &[0]),
    ] {
        let mut allocator = with(node(8, 0), waiting);
        start_all(&mut allocator, 0);
        assert_eq!(allocator.claimable(classes, slots), expected, "{name}");
    }
}

/// No task of a story runs for longer.
const LONGEST: u64 = 60;

/// For how long a task may run.
fn may_run((needs, length): &(Needs, u64)) -> u64 {
    needs.time.map_or(*length, |limit| limit.as_secs())
}

/// A node on which tasks of these needs and lengths run. Returns when each was put and when it
/// started. For each reservation it checks that it starts when those have ended that ran when
/// it was made.
fn story(capacity: &Capacity, tasks: &[(Needs, u64)], ahead: usize) -> Vec<(u64, Option<u64>)> {
    let mut allocator = Allocator::new(capacity.clone());
    let mut times = vec![(0, None); tasks.len()];
    let mut running: Vec<(u64, usize, ResourceLease)> = Vec::new();
    let (mut now, mut next) = (0, 0);
    let mut may_end = vec![0; tasks.len()];
    let mut reserved: Option<(usize, u64)> = None;
    loop {
        loop {
            for (name, lease) in start_all(&mut allocator, now) {
                times[name].1 = Some(now);
                running.push((now + tasks[name].1, name, lease));
                may_end[name] = now + may_run(&tasks[name]);
                if let Some((_, since)) = reserved.take_if(|(reserved, _)| *reserved == name) {
                    // No estimate is longer than the longest limit.
                    let before = |at: &Option<u64>| at.is_some_and(|at| at <= since + LONGEST);
                    let others = (0..tasks.len()).filter(|other| *other != name);
                    let others = others.filter(|other| before(&times[*other].1));
                    let by = others.map(|other| may_end[other]).max().unwrap_or(now);
                    assert!(now <= by, "{name} started at {now} and not by {by}");
                }
            }
            let holds = allocator.reserved_for().map(|(name, _)| *name);
            if let Some(name) = holds.filter(|_| reserved.is_none()) {
                reserved = Some((name, now));
            }
            assert_eq!(reserved.map(|(name, _)| name), holds, "it is kept");
            check(capacity, &allocator, &running);
            if next == tasks.len() || allocator.waiting() == ahead {
                break;
            }
            allocator.put(next, tasks[next].0);
            times[next].0 = now;
            next += 1;
        }
        let Some(at) = running.iter().map(|(at, ..)| *at).min() else {
            return times;
        };
        now = at;
        running.retain(|(at, _, lease)| {
            if *at == now {
                allocator.give_back(lease, S(now));
            }
            *at != now
        });
    }
}

/// No more is dealt than there is, and nothing to two.
fn check(
    capacity: &Capacity,
    allocator: &Allocator<usize>,
    running: &[(u64, usize, ResourceLease)],
) {
    let mut cpus: Vec<usize> = running
        .iter()
        .flat_map(|(.., lease)| lease.cpus.clone())
        .collect();
    let all = cpus.len();
    cpus.sort_unstable();
    cpus.dedup();
    assert_eq!(cpus.len(), all, "a CPU twice");
    assert!(all <= capacity.cpus as usize);
    let mut mem = 0;
    let mut tasks = vec![0; capacity.gpus.len()];
    for (.., lease) in running {
        assert_eq!(lease.cpus.len(), lease.needs.cpus as usize);
        assert_eq!(lease.gpus.len(), lease.needs.gpus as usize);
        mem += lease.needs.mem_kib;
        for &gpu in &lease.gpus {
            tasks[gpu] += 1;
        }
    }
    assert!(mem <= capacity.mem_kib.unwrap());
    assert!(tasks.iter().all(|&n| n <= capacity.tasks_per_gpu));
    assert_eq!(
        allocator.in_use(),
        (u32::try_from(all).unwrap(), tasks.iter().sum(), mem)
    );
}

/// Among endless narrow tasks of which no limit is known, a wide one starts when those have
/// ended that ran before it came.
#[test]
fn a_wide_task_among_endless_narrow_ones_starts() {
    for ahead in [2, 8, 100] {
        let mut tasks: Vec<(Needs, u64)> = (0..2000).map(|n| (cpus(1), 50 + n * 7 % 11)).collect();
        let wide = [100, 700, 701, 1500];
        for name in wide {
            tasks[name].0 = cpus(16);
        }
        let times = story(&node(16, 0), &tasks, ahead);
        for name in wide {
            let (put, started) = times[name];
            // Others that came before it may wait, too.
            let longest = (1 + ahead as u64 / 16 + 2) * 61;
            let waited = started.unwrap() - put;
            assert!(waited <= longest, "{name} of {ahead} waited for {waited}");
        }
    }
}

proptest! {
    #[test]
    fn never_more_is_dealt_than_there_is_and_all_start(
        n in 1..9_u32, cards in 0..4_usize, sharing in 1..3_u32, ahead in 1..12_usize,
        tasks in prop::collection::vec(
            (0..10_u32, 0..5_u32, 0..120_u64, prop::option::of(1..40_u64), 1..30_u64), 1..60,
        ),
    ) {
        let capacity = Capacity { tasks_per_gpu: sharing, ..node(n, cards) };
        let allocator = Allocator::<usize>::new(capacity.clone());
        let tasks: Vec<(Needs, u64)> = tasks.into_iter().map(|(cpus, gpus, mem_kib, limit, length)| {
            let length = limit.map_or(length, |limit| length.min(limit));
            let needs = Needs { cpus: cpus.max(1), gpus, mem_kib, time: limit.map(S) };
            (needs, length)
        }).filter(|(needs, _)| allocator.can_ever_hold(needs)).collect();
        let times = story(&capacity, &tasks, ahead);
        for (name, (_, started)) in times.iter().enumerate() {
            prop_assert!(started.is_some(), "{name} of {tasks:?} never started");
        }
    }

    /// Looking at the first task of each kind gives what looking at all of them does.
    #[test]
    fn of_tasks_with_equal_needs_only_the_first_matters(
        n in 1..9_u32, cards in 0..3_usize,
        steps in prop::collection::vec((1..5_u32, 0..3_u32, prop::option::of(1..4_u64), 0..4_u8), 1..60),
    ) {
        let mut allocator = Allocator::new(node(n, cards));
        let (mut all, mut running) = (Vec::new(), VecDeque::new());
        for (now, (cpus, gpus, limit, act)) in (0..).zip(steps) {
            let needs = Needs { cpus, gpus, time: limit.map(S), ..Needs::default() };
            all.push((now, needs));
            allocator.put(now, needs);
            if act == 0 && let Some(lease) = running.pop_front() {
                allocator.give_back(&lease, S(now));
            }
            let usual = allocator.usual.clone();
            let each = all.iter().map(|(number, needs)| {
                (*number, *needs, needs.time.or(usual.get(needs).copied()))
            });
            let mut book = allocator.book.clone();
            let expected = book.start_one(S(now), each).map(|(number, _)| number);
            let started = allocator.take(S(now));
            prop_assert_eq!(started.as_ref().map(|(number, _)| *number), expected);
            prop_assert_eq!(allocator.book.reserved_for(), book.reserved_for());
            all.retain(|(number, _)| Some(*number) != expected);
            prop_assert_eq!(allocator.waiting(), all.len());
            running.extend(started.map(|(_, lease)| lease));
        }
        let named = allocator.take_out(|number, _| number % 2 == 0);
        let even = all.iter().map(|(number, _)| *number).filter(|number| number % 2 == 0);
        prop_assert_eq!(named, even.collect::<Vec<u64>>());
        prop_assert_eq!(allocator.waiting(), all.iter().filter(|(number, _)| number % 2 == 1).count());
    }

    #[test]
    fn what_is_claimed_starts_but_for_one_that_reserves(
        n in 1..9_u32, waiting in prop::collection::vec((1..9_u32, 0..3_u32), 0..6),
        classes in prop::collection::vec((1..9_u32, 0..3_u32, 0..9_u64), 1..6), slots in 0..20_u64,
    ) {
        let of = |cpus, gpus| Needs { cpus, gpus, ..Needs::default() };
        let capacity = node(n, 2);
        let waiting: Vec<Needs> = waiting.into_iter().map(|(cpus, gpus)| of(cpus, gpus)).collect();
        let mut allocator = with(capacity, &waiting);
        start_all(&mut allocator, 0);
        let classes: Vec<(Needs, u64)> =
            classes.into_iter().map(|(cpus, gpus, n)| (of(cpus, gpus), n)).collect();
        let claims = allocator.claimable(&classes, slots);
        let reserves = allocator.reserved_for().is_some();
        prop_assert!(claims.iter().sum::<u64>() <= slots);
        let before = allocator.waiting();
        let mut claimed = 0;
        for (claim, (needs, there)) in claims.iter().zip(&classes) {
            prop_assert!(claim <= there && (*claim == 0 || allocator.can_ever_hold(needs)));
            for _ in 0..*claim {
                allocator.put(100, *needs);
                claimed += 1;
            }
        }
        let started = start_all(&mut allocator, 0).len();
        let stay = before + claimed - started;
        prop_assert!(stay <= before + usize::from(!reserves), "{claims:?} of {classes:?}");
    }
}

#[test]
fn what_others_use_is_not_dealt_and_what_does_not_fit_beside_it_can_start_elsewhere() {
    let mem = |mem_kib| Needs { mem_kib, ..cpus(1) };
    let mut allocator = with(node(4, 0), &[cpus(3), cpus(1), mem(60), cpus(1)]);
    let withheld = Withheld {
        cpus: 2,
        mem_kib: 50,
    };
    // Nothing runs, and yet these two have no room.
    assert_eq!(allocator.withhold(withheld), [0, 2]);
    let started = start_all(&mut allocator, 0);
    assert_eq!(names(&started), [1, 3]);
    assert_eq!(allocator.dealt(), (2, Some(50)));
    // What cannot start for others' sake is not claimed either, not even to reserve for it.
    let classes = [(cpus(3), 9), (mem(60), 9), (cpus(2), 9)];
    assert_eq!(allocator.claimable(&classes, 9), [0, 0, 1]);
    // Others take all: what runs goes on, and nothing more is claimed.
    let all = Withheld {
        cpus: 4,
        mem_kib: 0,
    };
    assert_eq!(allocator.withhold(all), [0_usize; 0]);
    allocator.give_back(&started[0].1, S(1));
    assert_eq!(allocator.claimable(&classes, 9), [0; 3]);
    // They have gone.
    allocator.withhold(Withheld::default());
    assert_eq!(allocator.claimable(&classes, 9), [1, 1, 0]);
}
