//! `pytf edit`: the tasks that wait in an editor. The editors are programs that change the text as
//! a person would.

use std::fs;

use crate::harness::{Farm, Pytf, cut_at_each, has, skip, until};

/// A run without a process, with five tasks that wait.
fn waiting() -> Farm {
    let farm = Farm::new();
    farm.make_dir("tmp");
    let words = ["add", "w", "echo a", "echo b", "echo c", "echo d", "echo e"];
    farm.pytf(words).run().exits(0);
    farm
}

/// `pytf edit w` with this editor.
fn edit<'f>(farm: &'f Farm, editor: &str) -> Pytf<'f> {
    let tmp = farm.path("tmp");
    let pytf = farm.pytf(["edit", "w"]).env("VISUAL", editor);
    pytf.env("TMPDIR", tmp.to_str().unwrap())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What waits, as lines.
fn queue(farm: &Farm) -> Vec<String> {
    let lines = farm.lines("toprocess").into_iter();
    lines
        .map(|(id, line)| format!("{id} {}", text(&line)))
        .collect()
}

fn assert_nothing_left(farm: &Farm) {
    let left = fs::read_dir(farm.path("tmp")).unwrap().count();
    assert_eq!(left, 0, "files of the editor are left");
}

#[test]
fn order_commands_and_tasks_are_what_was_edited() {
    let farm = waiting();
    // Task 0 after the last; 1 changed, 3 deleted, one more at the end.
    let editor = "sed -i -e '/^0 /d' -e 's/^1 echo b/1 echo B/' -e '/^3 /d' -e '/^2 /s/$/ #PYTF retries=1/' -e '/^4 /a 0 echo a' \
                  -e '$a + echo new'";
    let done = edit(&farm, editor).run().exits(0);
    let said = text(&done.stdout);
    for part in [
        "cancelled: 1,3\n",
        "added: 5-6\n",
        "changed: 2\n",
        "5 tasks wait in the order of the text",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(
        queue(&farm),
        [
            "5 echo B",
            "2 echo c #PYTF retries=1",
            "4 echo e",
            "0 echo a",
            "6 echo new"
        ]
    );
    assert_eq!(farm.ids("failed"), [1, 3]);
    assert_nothing_left(&farm);
    let status = farm.pytf(["status", "w", "--task", "3"]).run().exits(0);
    assert!(
        text(&status.stdout).contains("edited"),
        "{}",
        text(&status.stdout)
    );
    farm.pytf(["-w", "w", "--proc", "1"]).run().exits(1);
    farm.assert_exact(7, &[0, 2, 4, 5, 6], &[1, 3]);
    assert_eq!(farm.text("w/logs/log_5"), "B\n");
    // In that order.
    let finished: Vec<u64> = farm
        .lines("finished")
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    assert_eq!(finished, [5, 2, 4, 0, 6]);
    farm.pytf(["retry", "w", "3"]).run().exits(0);
    farm.pytf(["-w", "w"]).run().exits(1);
    farm.assert_exact(7, &[0, 2, 3, 4, 5, 6], &[1]);
}

#[test]
fn an_edit_that_is_abandoned_changes_nothing() {
    let farm = waiting();
    let before = (farm.bytes("w/lock"), queue(&farm));
    for (editor, code, part) in [
        ("true", 0, "not edited"),
        ("false", 2, "nothing was changed"),
        ("sh -c 'kill -9 $$'", 2, "nothing was changed"),
        ("rm", 2, "nothing was changed"),
        ("/nonexistent/editor", 2, "nothing was changed"),
        ("touch", 0, "not edited"),
    ] {
        let done = edit(&farm, editor).run().exits(code);
        let said = text(&done.stdout) + &done.stderr;
        assert!(said.contains(part), "{editor}: {said}");
        assert_nothing_left(&farm);
    }
    assert_eq!(queue(&farm), before.1);
    assert_eq!(farm.ids("failed"), [0; 0]);
}

#[test]
fn a_text_that_is_not_understood_is_kept_and_named_by_line() {
    for (editor, part) in [
        ("truncate -s 0", "no task is left"),
        ("sed -i 's/^1 /x /'", "line 9: neither a task"),
        ("sed -i 's/^1 /17 /'", "line 9: no task 17 waits"),
        ("sed -i 's/^1 /0 /'", "line 9: task 0 is there twice"),
        ("sed -i 's/^1 .*/1 #DISBATCH BARRIER/'", "line 9: "),
        ("sed -i 's/^1 .*/1 # b/'", "line 9: it is empty, a comment"),
        (
            "sed -i '$a + #PYTF prefix a'",
            "line 13: it is empty, a comment or a directive",
        ),
        ("sed -i '$a +'", "line 13: neither a task"),
    ] {
        let farm = waiting();
        let before = queue(&farm);
        let done = edit(&farm, editor).run().exits(2);
        assert!(done.stderr.contains(part), "{editor}: {}", done.stderr);
        assert!(done.stderr.contains("the text is in"), "{}", done.stderr);
        assert_eq!(fs::read_dir(farm.path("tmp")).unwrap().count(), 1);
        assert_eq!(queue(&farm), before);
    }
}

/// An editor that waits for a file before it changes the text.
fn slow(change: &str) -> String {
    format!("touch open; until test -e save; do sleep 0.05; done; {change}")
}

#[test]
fn of_two_editors_each_changes_what_it_says() {
    let farm = waiting();
    let first = edit(
        &farm,
        &slow("sed -i -e '/^0 /d' -e '/^2 /d' -e 's/^4 .*/4 echo E/'"),
    )
    .start();
    until("the editor is open", || farm.path("open").exists());
    edit(&farm, "sed -i -e '/^1 /d' -e '/^2 /d' -e '$a + echo n'")
        .run()
        .leaves(0);
    farm.write("save", "");
    let done = first.wait().exits(2);
    assert!(done.stderr.contains("not changed: 2"), "{}", done.stderr);
    assert_eq!(queue(&farm), ["3 echo d", "6 echo E", "5 echo n"]);
    assert_eq!(farm.ids("failed"), [0, 1, 2, 4]);
}

#[test]
fn tasks_that_ran_meanwhile_are_left_alone() {
    let farm = waiting();
    let editor = edit(
        &farm,
        &slow("sed -i -e '/^0 /d' -e 's/^1 .*/1 echo B/' -e '$a + echo n'"),
    )
    .start();
    until("the editor is open", || farm.path("open").exists());
    // A whole run goes by.
    farm.pytf(["-w", "w"]).run().leaves(0);
    farm.write("save", "");
    let done = editor.wait().exits(2);
    assert!(done.stderr.contains("not changed: 0-1"), "{}", done.stderr);
    assert_eq!(queue(&farm), ["5 echo n"]);
    farm.pytf(["-w", "w"]).run().exits(0);
    farm.assert_exact(6, &[0, 1, 2, 3, 4, 5], &[]);
}

#[test]
fn a_farm_takes_what_is_edited_while_it_runs() {
    let list = "until test -e go; do sleep 0.05; done\n".to_owned() + &"echo x\n".repeat(40);
    let farm = Farm::of(list);
    farm.make_dir("tmp");
    let running = farm.farm("--proc 1").start();
    until("tasks wait", || {
        farm.path("w/toprocess").exists() && farm.ids("toprocess").len() > 1
    });
    let done = edit(&farm, "sed -i -e '/^39 /d' -e '$a + echo new > made'").run();
    farm.write("go", "");
    running.wait();
    let said = text(&done.stdout);
    if said.contains("cancelled: 39") {
        assert_eq!(farm.ids("failed"), [39], "{said}");
    }
    assert!(farm.path("made").exists(), "{said}");
    assert_eq!(farm.ids("finished").len() + farm.ids("failed").len(), 42);
}

/// Killed at each write, sync and rename, an edit happens in whole or not at all.
#[test]
fn an_edit_that_is_cut_off_happens_in_whole_or_not_at_all() {
    if !has("strace") {
        return skip("no strace here");
    }
    let mut wholes = 0;
    let calls = [("pwrite64", 6), ("fdatasync", 4), ("/rename", 1)];
    cut_at_each(&calls, |inject, _| {
        let farm = waiting();
        let before = queue(&farm);
        let editor = "sed -i -e '/^0 /d' -e 's/^1 .*/1 echo B/' -e '$a + echo n'";
        let cut = edit(&farm, editor).injected(inject, None).run();
        farm.pytf(["repair", "--check", "w"]).run().leaves(0);
        // The next transaction completes it.
        farm.pytf(["-w", "w", "--proc", "1"]).run();
        let is_whole = farm.ids("failed") == [0, 1];
        wholes += u64::from(is_whole);
        if is_whole {
            farm.assert_exact(7, &[2, 3, 4, 5, 6], &[0, 1]);
            assert_eq!(farm.text("w/logs/log_5"), "B\n");
        } else {
            farm.assert_exact(before.len() as u64, &[0, 1, 2, 3, 4], &[]);
        }
        cut.status.code()
    });
    assert!(wholes >= 3, "{wholes}");
}

#[test]
fn where_nothing_waits_no_editor_is_opened() {
    let farm = Farm::of("true\n");
    farm.make_dir("tmp");
    farm.farm("").run().exits(0);
    let done = edit(&farm, "touch opened; true").run().exits(0);
    assert!(text(&done.stdout).contains("no task waits"));
    assert!(!farm.path("opened").exists());
    farm.pytf(["edit", "nosuch"]).run().exits(74);
}
