//! `#PYTF` in a list, from its lines to what the tasks print.

use crate::harness::Farm;

#[test]
fn tasks_have_what_stands_around_them_and_run_again_by_their_text() {
    let list = "\
#PYTF env GREETING=hello NAME='a b'
#PYTF prefix cd sub &&
#PYTF suffix > ../out.$PYTF_TASK_ID
#PYTF repeat i=1-2 w=x,y echo $GREETING $NAME {i}{w}
pwd
#PYTF defaults
echo plain
";
    let farm = Farm::of(list);
    farm.make_dir("sub");
    farm.farm("").run().exits(0);
    let all: Vec<u64> = (0..6).collect();
    farm.assert_exact(6, &all, &[]);
    for (id, text) in [(0, "1x"), (1, "1y"), (2, "2x"), (3, "2y")] {
        assert_eq!(
            farm.text(format!("out.{id}")),
            format!("hello a b {text}\n")
        );
    }
    assert!(farm.text("out.4").ends_with("/sub\n"));
    assert_eq!(farm.text("w/logs/log_5"), "plain\n");
    // One value more is one task more.
    farm.write("tasks.txt", list.replace("i=1-2", "i=1-2,9"));
    farm.farm("").run().exits(0);
    assert_eq!(farm.ids("finished").len(), 8);
    assert_eq!(farm.text("out.7"), "hello a b 9y\n");
    assert_eq!(farm.bytes("w/requeued"), b"");
}

#[test]
fn a_directive_with_an_error_starts_nothing() {
    for (list, part) in [
        (
            "true\n#PYTF perfix a\n",
            "tasks.txt: line 2, column 7: 'perfix' is not known; did you mean 'prefix'?",
        ),
        (
            "#PYTF runner=nosuch\ntrue\n",
            "tasks.txt: line 2, column 1: there is no runner 'nosuch'",
        ),
        (
            "true #PYTF mme=4G\n",
            "tasks.txt: line 1, column 12: 'mme' is not known; did you mean 'mem'?",
        ),
        (
            "{\"command\":\"true\"}\nfalse\n",
            "tasks.txt: line 2, column 1: the tasks above are JSON",
        ),
    ] {
        let farm = Farm::of(list);
        let done = farm.farm("").run().exits(2);
        assert!(done.stderr.contains(part), "{}", done.stderr);
        assert!(!farm.path("w").exists());
        // Without directives it is a list of commands with comments.
        if !list.starts_with('{') {
            farm.farm("--plain").run().exits(0);
            farm.assert_exact(1, &[0], &[]);
        }
    }
}

/// What is said of a task is stored with its line, and is neither executed nor shown as a part
/// of the command.
#[test]
fn a_task_is_executed_without_what_is_said_of_it() {
    let farm = Farm::of(
        "echo a  #PYTF name=first\n/bin/echo b #PYTF name='x y'\necho 'c #PYTF d'\nfalse #PYTF name=f\n",
    );
    let done = farm.farm("--log-tasks").run().exits(1);
    assert!(!done.stderr.contains("name="), "{}", done.stderr);
    let tasks = "0 echo a #PYTF name=first\n1 /bin/echo b #PYTF name=$'x\\x20y'\n2 echo 'c #PYTF d' #PYTF\n\
                 3 false #PYTF name=f\n";
    assert_eq!(farm.text("w/tasks"), tasks);
    for (id, text) in [(0, "a\n"), (1, "b\n"), (2, "c #PYTF d\n")] {
        assert_eq!(farm.text(format!("w/logs/log_{id}")), text);
    }
    let shown = String::from_utf8(farm.pytf(["status", "w"]).run().stdout).unwrap();
    assert!(
        shown.contains("false") && !shown.contains("name=f"),
        "{shown}"
    );
    // They are not a part of a task's identity, and new ones take the place of the old ones.
    farm.write(
        "tasks.txt",
        "echo a\n/bin/echo b\necho 'c #PYTF d'\nfalse #PYTF name=g\n",
    );
    let done = farm.farm("").run().exits(1);
    let part = "0 lines are new, 0 are gone; something else is said of 3 tasks";
    assert!(done.stderr.contains(part), "{}", done.stderr);
    assert_eq!(farm.ids("finished").len(), 3);
    let tasks = "0 echo a\n1 /bin/echo b\n2 echo 'c #PYTF d' #PYTF\n3 false #PYTF name=g\n";
    assert_eq!(farm.text("w/tasks"), tasks);
    assert_eq!(farm.text("w/failed"), "3 false #PYTF name=g\n");
    farm.pytf(["check", "w"]).run();
    farm.pytf(["repair", "w"]).run().exits(0);
    assert_eq!(farm.text("w/tasks"), tasks);
    // The views show them apart.
    let task = farm.pytf(["status", "w", "--task", "3", "--json"]).run();
    let task: serde_json::Value = serde_json::from_slice(&task.stdout).unwrap();
    assert_eq!(task["command"], "false");
    assert_eq!(task["attributes"], serde_json::json!({ "name": "g" }));
    let rows = farm.pytf(["export", "w", "--jsonl"]).run().stdout;
    let rows = String::from_utf8(rows).unwrap();
    assert!(rows.contains(r#""attributes":"name=g","#), "{rows}");
}

/// What waits has new attributes at the next start, also when it was claimed before.
#[test]
fn a_task_that_waits_has_what_is_said_of_it_now() {
    let list = |name: &str| {
        format!(
            "kill -INT $PPID; exec sleep 100 #PYTF name={name}1\ntrue #PYTF name={name}2\ntrue\n"
        )
    };
    let farm = Farm::of(list("a"));
    for name in ["a", "b"] {
        farm.write("tasks.txt", list(name));
        farm.farm("-n 1").run();
        let tasks = farm.text("w/tasks");
        let wanted = format!("sleep 100 #PYTF name={name}1\n1 true #PYTF name={name}2\n2 true\n");
        assert!(tasks.ends_with(&wanted), "{tasks}");
        let mut waiting: Vec<_> = farm
            .text("w/toprocess")
            .lines()
            .map(str::to_owned)
            .collect();
        waiting.sort_unstable();
        assert_eq!(waiting, tasks.lines().collect::<Vec<_>>());
    }
}

#[test]
fn added_and_edited_tasks_have_attributes() {
    let farm = Farm::of("");
    let add = |command: &str| farm.pytf(["add", "w", command]).run();
    add("true  #PYTF name=a").exits(0);
    let done = add("true #PYTF nmae=a").exits(2);
    assert!(
        done.stderr.contains("did you mean 'name'?"),
        "{}",
        done.stderr
    );
    assert_eq!(farm.text("w/toprocess"), "0 true #PYTF name=a\n");
    let all = farm.pytf(["add", "x", "--name", "n", "true", "true #PYTF name=m"]);
    all.run().exits(0);
    assert_eq!(
        farm.text("x/toprocess"),
        "0 true #PYTF name=n\n1 true #PYTF name=m\n"
    );
    for (option, value, part) in [
        (
            "--mem",
            "4000",
            "--mem: '4000' has no unit: 4000M or 4000G?",
        ),
        ("--name", "a,b", "--name: a name has no comma"),
    ] {
        let done = farm
            .pytf(["add", "y", option, value, "true"])
            .run()
            .exits(2);
        assert!(done.stderr.contains(part), "{}", done.stderr);
        assert!(!farm.path("y").exists());
    }
    let editor = "sed -i 's/name=a/name=b/; $a + true #PYTF  name=c'";
    farm.pytf(["edit", "w"])
        .env("EDITOR", editor)
        .run()
        .exits(0);
    assert_eq!(
        farm.text("w/toprocess"),
        "0 true #PYTF name=b\n1 true #PYTF name=c\n"
    );
    let editor = "sed -i 's/name=b/nmae=b/'";
    let done = farm
        .pytf(["edit", "w"])
        .env("EDITOR", editor)
        // The text that was refused is kept there.
        .env("TMPDIR", farm.path(""))
        .run()
        .exits(2);
    assert!(
        done.stderr.contains("did you mean 'name'?"),
        "{}",
        done.stderr
    );
}
