//! Many processes on one workdir: nothing lost, nothing doubled, whatever dies.
//!
//! The real program, in numbers. By default each test is short; these show it
//! all: `PYTF_TEST_LONG` for tests with many cases, `PYTF_TEST_KILLS=200` for the storms, `PYTF_TEST_TASKS=1000000` for the
//! long list, `PYTF_TEST_ORDER=5000` for the storm over tasks that wait for others, `PYTF_TEST_DAMAGE=all` for every case of damage, `PYTF_TEST_SEED` to
//! repeat a storm, and `PYTF_TEST_MOUNTS=A:B`
//! for two mounts of one directory on a network file system, with a process on
//! each in turn.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::print_stdout,
    reason = "figures for people, beside what is asserted"
)]

#[expect(
    dead_code,
    unused_imports,
    reason = "shared with the black-box tests, which use it all"
)]
#[path = "../black_box/harness.rs"]
mod harness;

mod add;
mod cancel;
mod cases;
mod crew;
mod damage;
mod freeze;
mod injected;
mod linger;
mod lost_lock;
mod marks;
mod order;
mod quarantine;
mod record;
mod scale;
mod start_up;
mod steer;
mod storm;
mod summary;
mod tail;
