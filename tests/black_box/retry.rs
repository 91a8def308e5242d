//! Failed tasks again: `pytf retry` and `--retry-failed`.

use crate::harness::{Farm, tasks};
use crate::resume::ran;

/// Tasks that fail until the file `fixed` exists, and note their attempts.
fn failing(n: u64) -> Farm {
    Farm::of(tasks(n, |_| {
        "echo attempt $PYTF_ATTEMPT; echo $PYTF_TASK_ID.$PYTF_ATTEMPT >> ran; [ -e fixed ]".into()
    }))
}

#[test]
fn retry_puts_all_failed_tasks_back_and_counts_the_attempts() {
    let farm = failing(3);
    farm.farm("").run().exits(1);
    farm.assert_exact(3, &[], &[0, 1, 2]);
    farm.pytf(["retry", "w"]).run().exits(0);
    farm.assert_exact(3, &[], &[]);
    farm.write("fixed", "");
    farm.farm("").run().exits(0);
    farm.assert_exact(3, &[0, 1, 2], &[]);
    assert_eq!(ran(&farm), "0.1 0.2 1.1 1.2 2.1 2.2");
    // The log of the attempt that failed is still there.
    assert_eq!(farm.text("w/logs/log_1"), "attempt 1\n");
    assert_eq!(farm.text("w/logs/log_1.2"), "attempt 2\n");
}

#[test]
fn retry_takes_ids_and_ranges() {
    let farm = failing(10);
    farm.farm("").run().exits(1);
    farm.pytf(["retry", "w", "1,4-6", "9"])
        .run()
        .exits(0)
        .says(&["5"]);
    farm.assert_exact(10, &[], &[0, 2, 3, 7, 8]);
    farm.pytf(["retry", "w", "0"]).run().exits(0);
    farm.assert_exact(10, &[], &[2, 3, 7, 8]);
    farm.write("fixed", "");
    farm.farm("").run().exits(1);
    farm.assert_exact(10, &[0, 1, 4, 5, 6, 9], &[2, 3, 7, 8]);
}

#[test]
fn retry_refuses_what_is_no_id_and_never_repeats_what_is_finished() {
    let farm = Farm::of("true\nfalse\n");
    farm.farm("").run().exits(1);
    farm.pytf(["retry", "w", "x"]).run().exits(2).says(&["x"]);
    farm.pytf(["retry", "w", "5-3"]).run().exits(2);
    farm.assert_exact(2, &[0], &[1]);
    let done = farm.pytf(["retry", "w", "0"]).run();
    assert!(done.stderr.contains('0'), "says that task 0 has not failed");
    farm.assert_exact(2, &[0], &[1]);
    farm.pytf(["retry", "nowhere"])
        .run()
        .exits(74)
        .says(&["nowhere"]);
    assert!(!farm.path("nowhere").exists());
}

#[test]
fn retry_without_failures_changes_nothing() {
    let farm = Farm::of("true\n");
    farm.farm("").run().exits(0);
    farm.pytf(["retry", "w"]).run().exits(0);
    farm.assert_exact(1, &[0], &[]);
}

#[test]
fn retry_works_while_the_farm_runs() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write(
        "tasks.txt",
        format!("{}\necho x >> ran; [ -e fixed ]\n", gate.stand()),
    );
    let pytf = farm.farm("--proc 1").start();
    gate.comer();
    gate.open(1);
    pytf.wait().exits(1);
    farm.write("fixed", "");
    farm.write("tasks.txt", farm.text("tasks.txt") + &gate.stand() + "\n");
    let pytf = farm.farm("--proc 1").start();
    gate.comer();
    farm.pytf(["retry", "w"]).run();
    gate.open(1);
    pytf.wait().exits(0);
    farm.assert_exact(3, &[0, 1, 2], &[]);
}

#[test]
fn retry_failed_does_it_at_the_start_of_a_run() {
    let farm = failing(4);
    farm.farm("").run().exits(1);
    farm.write("fixed", "");
    farm.farm("--retry-failed").run().exits(0);
    farm.assert_exact(4, &[0, 1, 2, 3], &[]);
    assert_eq!(ran(&farm), "0.1 0.2 1.1 1.2 2.1 2.2 3.1 3.2");
}

#[test]
fn a_range_beyond_all_tasks_costs_no_more_than_the_tasks() {
    let farm = failing(3);
    farm.farm("").run().exits(1);
    farm.pytf(["retry", "w", "1-18446744073709551615"]).run();
    farm.assert_exact(3, &[], &[0]);
}
