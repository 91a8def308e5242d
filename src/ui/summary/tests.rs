//! What a person sees at the end, character by character.

use super::*;

fn failure(id: u64, outcome: Outcome) -> Failure {
    Failure {
        id: TaskId(id),
        command: b"python3 fit.py --seed 17 > out.txt".to_vec(),
        outcome,
        more: 0,
        node: "node003".into(),
        log: Some(format!("logs/log_{id}")),
        tail: vec![
            "Traceback (most recent call last):".into(),
            "ValueError: no data".into(),
        ],
    }
}

fn run() -> Summary {
    Summary {
        workdir: "run1".into(),
        finished: 1997,
        wall: Duration::from_secs(102),
        slots: 16,
        busy: Duration::from_secs(102 * 15),
        has_logs: true,
        ..Summary::default()
    }
}

const NARROW: OutputStyle = OutputStyle {
    width: 40,
    colour: false,
    unicode: true,
};

#[test]
fn a_good_run_has_two_lines() {
    let wall = durations::show(run().wall);
    assert_eq!(
        run().text(&OutputStyle::PLAIN),
        format!(
            "ok: all 1,997 tasks finished\n  \
                 1,997 finished, {wall} on 16 slots, 94 % busy\n"
        )
    );
}

#[test]
fn an_empty_list_is_reported_in_one_line() {
    let text = Summary {
        finished: 0,
        ..run()
    }
    .text(&OutputStyle::PLAIN);
    assert_eq!(text, "ok: nothing to do, the list has no tasks\n");
}

#[test]
fn failures_are_shown_with_their_output_and_what_to_do() {
    let summary = Summary {
        failed: 7,
        failures: vec![
            failure(17, Outcome::Exit(3)),
            failure(40, Outcome::Signal(11)),
        ],
        ..run()
    };
    let style = OutputStyle {
        unicode: true,
        ..OutputStyle::PLAIN
    };
    let wall = durations::show(summary.wall);
    assert_eq!(
        summary.text(&style),
        format!(
            "\
✘ 7 of 2,004 tasks failed
  1,997 finished · 7 failed · {wall} on 16 slots, 94 % busy

  task 17  exit status 3  python3 fit.py --seed 17 > out.txt
    node003 · logs/log_17
    │ Traceback (most recent call last):
    │ ValueError: no data

  task 40  killed by SIGSEGV  python3 fit.py --seed 17 > out.txt
    node003 · logs/log_40
    │ Traceback (most recent call last):
    │ ValueError: no data

  and 5 more in run1/failed

  pytf log run1 17  all that task 17 printed
  pytf retry run1   requeues the failed tasks; then run the same command
"
        )
    );
}

#[test]
fn failures_of_one_cause_are_one_block_and_without_logs_none_is_named() {
    let mut failed = failure(17, Outcome::Exit(3));
    failed.more = 411;
    let summary = Summary {
        failed: 412,
        failures: vec![failed],
        has_logs: false,
        ..run()
    };
    let text = summary.text(&OutputStyle::PLAIN);
    assert_eq!(text.matches("exit status 3").count(), 1);
    assert!(
        text.contains("  task 17 and 411 more  exit status 3  python3"),
        "{text}"
    );
    assert!(!text.contains("in run1/failed"), "all are said: {text}");
    assert!(!text.contains("pytf log"), "{text}");
}

#[test]
fn a_successful_end_names_where_the_output_is() {
    let summary = Summary {
        output: Some("what a task printed".into()),
        ..run()
    };
    let last = "\n  pytf log run1 ID  what a task printed\n";
    assert!(summary.text(&OutputStyle::PLAIN).ends_with(last));
    let text = Summary { left: 1, ..summary }.text(&OutputStyle::PLAIN);
    assert!(!text.contains("pytf log"), "{text}");
}

#[test]
fn a_farmer_that_was_taken_for_dead_reports_what_others_did() {
    let summary = Summary {
        is_cut_off: true,
        stopped: Some("being cut off".into()),
        ..run()
    };
    let text = summary.text(&OutputStyle::PLAIN);
    let first = text.lines().next().unwrap();
    assert!(first.starts_with("-> this process was cut off"), "{first}");
    assert!(!first.contains("all 1,997 tasks finished"), "{first}");
}

#[test]
fn what_is_left_comes_before_what_failed() {
    let summary = Summary {
        left: 578,
        interrupted: 16,
        stopped: Some("the time limit".into()),
        ..run()
    };
    let text = summary.text(&NARROW);
    assert_eq!(
        text,
        format!(
            "\
▸ 578 of 2,575 tasks are left: stopped …
  1,997 finished · 578 left (16 interru…
  {} on 16 slots, 94 % busy

  run the same command again to continue
",
            durations::show(summary.wall)
        )
    );
}

#[test]
fn the_headline_has_the_most_important_fact() {
    for (finished, failed, left, others_work, headline) in [
        (0, 0, 0, false, "ok: nothing to do, the list has no tasks"),
        (1, 0, 0, false, "ok: the task finished"),
        (0, 1, 0, false, "failed: the task failed"),
        (0, 0, 1, false, "-> the task is left"),
        (
            5,
            0,
            3,
            true,
            "-> 3 of 8 tasks are left, others work on them",
        ),
        (5, 1, 3, false, "-> 3 of 9 tasks are left"),
    ] {
        let summary = Summary {
            finished,
            failed,
            left,
            others_work,
            ..Summary::default()
        };
        let text = summary.text(&OutputStyle::PLAIN);
        assert_eq!(text.lines().next(), Some(headline));
        assert_eq!(
            text.contains("run the same command again"),
            left > 0 && !others_work
        );
    }
}

#[test]
fn no_line_is_wider_than_the_terminal_and_none_acts_on_it() {
    let mut failed = failure(3, Outcome::Exit(1));
    failed.command = b"\x1b]0;x\x07 ".repeat(30);
    failed.tail = vec!["x".repeat(500)];
    let summary = Summary {
        failed: 100,
        left: 1,
        stopped: Some("\x1b[2J".into()),
        failures: vec![failed; 20],
        ..run()
    };
    let text = summary.text(&NARROW);
    assert!(
        text.lines().all(|line| line.chars().count() <= 40),
        "{text}"
    );
    assert!(!text.contains('\x1b'));
    assert_eq!(text.matches("task 3  ").count(), FAILURES);
}

#[test]
fn a_workdir_of_any_name_can_be_copied_into_a_shell() {
    for (name, word) in [
        ("run1", "run1"),
        ("/p/a.b_c-d", "/p/a.b_c-d"),
        ("my run", "'my run'"),
        ("it's", "'it'\\''s'"),
        ("", "''"),
    ] {
        assert_eq!(quoted(name), word);
    }
}
