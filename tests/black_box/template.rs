//! A command and its values in place of a list: the tasks are those of GNU parallel, and the run
//! is resumed as from a list.

use std::process::{Command, Stdio};

use crate::harness::{Farm, each_nth, skip};

/// The commands in `tasks`, in the order of their ids.
fn commands(farm: &Farm) -> Vec<String> {
    let text = |(_, line)| String::from_utf8(line).unwrap();
    farm.lines("tasks").into_iter().map(text).collect()
}

fn words(text: &[&str]) -> Vec<String> {
    let fixed = ["-w", "w", "--proc", "2", "--no-timeline", "--"];
    fixed.iter().chain(text).map(|&word| word.into()).collect()
}

#[test]
fn the_tasks_are_those_of_gnu_parallel() {
    let is_there = Command::new("parallel")
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    if !is_there.is_ok_and(|done| done.stdout.starts_with(b"GNU parallel")) {
        return skip("the tasks of a template: GNU parallel is not installed");
    }
    let templates = [
        &["true", ":::", "a", "b c", "$HOME", ""][..],
        &["true {1} -s {2}", ":::", "300", "310", ":::", "1", "2", "3"],
        &["true", "{2}", "{1}", "{}", ":::", "a", ":::", "x y", "z"],
        &[
            "true {.} {/} {//} {/.}",
            ":::",
            "d/f.tar.gz",
            "/x",
            "a.b/c",
            "./.hid",
            "d/",
            ".",
            "f",
        ],
        &[
            "true {1.} {2/} {-1} {-2//} {#}",
            ":::",
            "d/f.a",
            ":::",
            "g/h.b",
            "i",
        ],
        &[
            "true", ":::", "a", "b", ":::+", "c", "d", "e", ":::", "1", "2",
        ],
        &["true", "x{}y", "{1}{1}", "{foo}", "${A}", ":::", "a", "b*"],
        &[":::", "true a", "true 'b c'"],
        &["true {} && true", "{#}", ":::", "x", "~"],
        &["true", "::::", "values"],
        &["true {2} {1}", "::::", "values", ":::", "p", "q"],
        &["true", "::::", "values", "::::+", "values"],
        &["--colsep", ",", "true {2} {1}", "::::", "table"],
        &[
            "--colsep",
            ",",
            "true {3} {} {1/.}",
            "::::",
            "table",
            ":::",
            "x , y",
        ],
        &["--colsep", "\\t", "true", ":::", "a b\tc"],
    ];
    for template in each_nth(3, templates) {
        compare(template);
    }
}

/// Compares the commands of a template, which may begin with `--colsep TEXT`.
fn compare(template: &[&str]) {
    let farm = Farm::new();
    farm.write("values", "a\n\nb c\nd'e");
    farm.write("table", "d/a.c, b c \n$HOME,it's");
    let columns = template
        .iter()
        .take(2)
        .filter(|_| template[0] == "--colsep");
    let columns: Vec<_> = columns.map(|word| (*word).into()).collect();
    let ours = [columns.clone(), words(&template[columns.len()..])].concat();
    farm.pytf(ours).run().exits(0);
    let theirs = Command::new("parallel")
        .args(["--dry-run", "-k", "--will-cite"])
        .args(template)
        .current_dir(farm.path(""))
        .env("HOME", farm.path(""))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let theirs = String::from_utf8(theirs.stdout).unwrap();
    let ours = commands(&farm);
    let line = |text: &str| text.trim_end().replace("'\"'\"'", "\\'");
    let theirs: Vec<String> = theirs.lines().map(line).collect();
    let ours_quoted: Vec<String> = ours
        .iter()
        .map(|text| text.trim_end().replace("'\\''", "\\'"))
        .collect();
    assert_eq!(ours_quoted, theirs, "{template:?}");
}

#[test]
fn a_template_is_resumed_and_extended_as_a_list_is() {
    let farm = Farm::new();
    let run = |values: &[&str]| {
        let template = ["test {} != b || test -e ok", ":::"];
        farm.pytf(words(&[&template[..], values].concat())).run()
    };
    run(&["a", "b", "c"]).exits(1);
    farm.assert_exact(3, &[0, 2], &[1]);
    // The same again runs nothing.
    run(&["a", "b", "c"]).exits(1).says(&["1 failed"]);
    assert_eq!(farm.bytes("w/requeued"), b"");
    // More values are more tasks; each keeps its id.
    let done = run(&["x", "a", "b", "c"]).exits(1);
    assert!(done.stderr.contains("1 line is new"), "{}", done.stderr);
    farm.assert_exact(4, &[0, 2, 3], &[1]);
    farm.write("ok", "");
    let mut again = words(&["test {} != b || test -e ok", ":::", "x", "a", "b", "c"]);
    again.insert(0, "--retry-failed".into());
    farm.pytf(again).run().exits(0);
    farm.assert_exact(4, &[0, 1, 2, 3], &[]);
}

#[test]
fn values_are_read_from_files_and_a_value_is_never_a_directive() {
    let farm = Farm::new();
    farm.write("values", "a b\n5,x #PYTF mem=4G\n$LAUNCHER_JID\n");
    farm.pytf(words(&["echo", "::::", "values"])).run().exits(0);
    assert_eq!(farm.text("w/logs/log_0"), "a b\n");
    assert_eq!(farm.text("w/logs/log_1"), "5,x #PYTF mem=4G\n");
    assert_eq!(farm.text("w/logs/log_2"), "$LAUNCHER_JID\n");
}

#[test]
fn a_file_of_values_that_is_missing_is_named_and_no_workdir_is_made() {
    let farm = Farm::new();
    let done = farm.pytf(words(&["echo", "::::", "nosuch"])).run().exits(2);
    assert!(
        done.stderr.contains("cannot read the values in nosuch"),
        "{}",
        done.stderr
    );
    assert!(!farm.path("w").exists());
}

/// Each of several processes makes the same list, and each task runs once.
#[test]
fn a_large_product_is_run_once_by_several_processes() {
    let farm = Farm::new();
    let values: Vec<String> = (0..15).map(|n| n.to_string()).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let list = [
        &["true {1} {2} {3}", ":::"][..],
        &values,
        &[":::"],
        &values,
        &[":::", "a", "b"],
    ];
    let line = words(&list.concat());
    let others: Vec<_> = (0..2).map(|_| farm.pytf(line.clone()).start()).collect();
    farm.pytf(line).run().leaves(0);
    for other in others {
        other.wait().leaves(0);
    }
    let all: Vec<u64> = (0..450).collect();
    farm.assert_exact(450, &all, &[]);
    assert_eq!(commands(&farm)[449], "true 14 14 b");
}
