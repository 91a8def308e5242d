//! What a person sees while a farm runs.

use crate::harness::{Done, Farm, has, skip, until};

/// Two tasks that wait and one that fails, on a terminal of 80 columns; what
/// it showed.
fn on_a_terminal(env: &[(&str, &str)], sight: &str) -> Option<String> {
    if !has("script") {
        skip("there is no script(1) to make a terminal");
        return None;
    }
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let stand = gate.stand();
    farm.write("tasks.txt", format!("{stand}\n{stand}\nexit 3\n"));
    let script = r#"exec script -qec "stty cols 80 rows 24; exec $*" /dev/null"#;
    let mut pytf = farm
        .farm("--proc 3")
        .under(["sh", "-c", script, "sh"])
        .env("TERM", "xterm")
        .env("NO_COLOR", "1");
    for (name, value) in env {
        pytf = pytf.env(name, value);
    }
    let pytf = pytf.start();
    until("it is to be seen", || farm.text(".out0").contains(sight));
    gate.open(2);
    let done: Done = pytf.wait();
    done.exits(1);
    Some(farm.text(".out0"))
}

#[test]
fn a_bar_tells_the_truth_from_the_first_stroke_and_goes_away() {
    let Some(seen) = on_a_terminal(&[], "2 running") else {
        return;
    };
    assert!(seen.starts_with("0/3 "), "{seen:?}");
    assert!(!seen.contains('?'), "{seen:?}");
    let failure = "\r\x1b[2Kpytf: task 2: exit status 3 [logs/log_2]: exit 3\r\n";
    assert!(seen.contains(failure), "{seen:?}");
    // Nothing of the bar is left where the summary stands.
    let (_, summary) = seen.rsplit_once("\r\x1b[2K").unwrap();
    assert!(
        summary.starts_with("failed: 1 of 3 tasks failed\r\n"),
        "{seen:?}"
    );
}

#[test]
fn there_is_no_bar_in_a_step_whatever_the_terminal_looks_like() {
    let env = [("SLURM_JOB_ID", "1"), ("SLURM_STEP_ID", "0")];
    let Some(seen) = on_a_terminal(&env, "exit status 3") else {
        return;
    };
    assert!(!seen.contains("\x1b[2K"), "{seen:?}");
    let failure = "pytf: task 2: exit status 3 [logs/log_2]: exit 3\r\n";
    assert!(seen.contains(failure), "{seen:?}");
}
