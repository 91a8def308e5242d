//! The pure and hot parts by the clock: `cargo bench --features bench`.
//!
//! Times are those of 640 tasks, ten turns of 64; `elem/s` is tasks per second.

#[path = "../scale/files.rs"]
#[expect(dead_code, reason = "the simulator's; only its files are of use here")]
mod files;
mod journal;
mod work;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};

const TASKS: u64 = 640;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let mut group = criterion.benchmark_group("640 tasks");
    group.throughput(Throughput::Elements(TASKS));
    let list = work::list(TASKS);
    group.bench_function("parsing the list", |bench| {
        bench.iter(|| work::parse(black_box(&list)));
    });
    group.bench_function("encoding the ends", |bench| {
        bench.iter(|| work::encode(black_box(TASKS)));
    });
    let journal = journal::journal(TASKS);
    group.bench_function("reading the journal", |bench| {
        bench.iter(|| journal::scan(black_box(&journal)));
    });
    group.bench_function("reading the journal with serde", |bench| {
        bench.iter(|| journal::deserialize(black_box(&journal)));
    });
    let mut runner = work::runner();
    group.bench_function("deciding how to execute", |bench| {
        bench.iter(|| work::decide(&mut runner, black_box(TASKS)));
    });
    group.bench_function("claiming and settling", |bench| {
        bench.iter_batched_ref(
            || work::Farm::new(TASKS),
            work::Farm::work,
            BatchSize::SmallInput,
        );
    });
    group.finish();
    criterion.final_summary();
}
