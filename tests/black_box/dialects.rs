//! Lists of other tools: recognized or named, followed, resumed, added to, converted.

use std::fs::File;

use crate::harness::Farm;

/// What the tasks appended to `order`, a word per line.
fn order(farm: &Farm) -> Vec<String> {
    farm.text("order").lines().map(str::to_owned).collect()
}

/// All of `first` stand before all of `then`.
fn assert_before(order: &[String], first: &[&str], then: &[&str]) {
    let place = |word: &&str| {
        let found = order.iter().position(|there| there == word);
        found.unwrap_or_else(|| panic!("{word} has not run: {order:?}"))
    };
    let last = first.iter().map(place).max();
    assert!(
        last < then.iter().map(place).min(),
        "{first:?}, {then:?}: {order:?}"
    );
}

/// Not the variables of the tool, which stand before each command.
#[test]
fn views_show_the_commands_of_another_tool_as_they_were_written() {
    let farm = Farm::of("#DISBATCH SUFFIX  --seed 1\nfalse --first\n");
    let done = farm.farm("--proc 1").run().exits(1);
    let status = farm.pytf(["status", "w"]).run().leaves(0);
    let failed = farm.pytf(["status", "w", "--failed"]).run().leaves(0);
    for done in [done, status, failed] {
        let done = done.says(&["false --first --seed 1"]);
        let said = done.stderr.clone() + &String::from_utf8_lossy(&done.stdout);
        assert!(!said.contains("DISBATCH_TASKID"), "{said}");
    }
    let whole = farm.pytf(["status", "w", "--task", "0"]).run();
    whole.says(&["export DISBATCH_TASKID="]);
}

#[test]
fn a_list_of_disbatch_is_followed_resumed_and_converted() {
    let list = "#DISBATCH PREFIX ( echo \n#DISBATCH SUFFIX  ) >> out.$DISBATCH_TASKID_ZP\n\
                a $DISBATCH_TASKID $DISBATCH_REPEAT_INDEX $DISBATCH_STREAM_INDEX\n\n\
                #DISBATCH REPEAT 2 start 7 step 3 b $DISBATCH_TASKID $DISBATCH_REPEAT_INDEX\n\
                #DISBATCH BARRIER CHECK\n\
                c $DISBATCH_TASKID $DISBATCH_NAMETASKS $DISBATCH_JOBID $(cat out.*)\n";
    let farm = Farm::of(list);
    let outputs = |expected: &[&str]| {
        for (file, text) in ["000000", "000001", "000002", "000004"]
            .iter()
            .zip(expected)
        {
            assert_eq!(farm.text(format!("out.{file}")), format!("{text}\n"));
        }
    };
    let expected = [
        "a 0 -1 3",
        "b 1 7",
        "b 2 10",
        "c 4 tasks.txt w a 0 -1 3 b 1 7 b 2 10",
    ];
    farm.farm("-n 2")
        .run()
        .exits(0)
        .says(&["by line 1 (#DISBATCH PREFIX"]);
    farm.assert_exact(4, &[0, 1, 2, 3], &[]);
    outputs(&expected);
    // The same list and a longer one: only what is new runs.
    farm.farm("-n 2").run().exits(0);
    farm.farm("-n 2 --tasklist disbatch").run().exits(0);
    farm.write("tasks.txt", format!("{list}d $DISBATCH_TASKID\n"));
    farm.farm("-n 2").run().exits(0).says(&["1 line is new"]);
    farm.assert_exact(5, &[0, 1, 2, 3, 4], &[]);
    outputs(&expected);
    assert_eq!(farm.text("out.000005"), "d 5\n");
    // The converted list does the same.
    farm.write("tasks.txt", list);
    let made = farm
        .pytf(["convert", "tasks.txt", "--to", "pytf"])
        .run()
        .exits(0);
    farm.write("own.txt", &made.stdout);
    for file in ["000000", "000001", "000002", "000004", "000005"] {
        std::fs::remove_file(farm.path(format!("out.{file}"))).unwrap();
    }
    let checked = farm.pytf(["check", "own.txt"]).run().exits(0);
    assert!(!checked.stdout.windows(9).any(|text| text == b"a list of"));
    farm.make_dir("v");
    farm.pytf(["own.txt", "--workdir", "v/w", "-n", "2", "-q"])
        .run()
        .exits(0);
    outputs(&expected);
    // What cannot be carried over has its line.
    farm.write("tasks.txt", "#DISBATCH PERENGINE START touch setup\ntrue\n");
    farm.pytf(["convert", "tasks.txt"])
        .run()
        .exits(0)
        .says(&["--node-setup", "touch setup"]);
    farm.pytf(["tasks.txt", "--workdir", "x"])
        .run()
        .exits(2)
        .says(&[
            "tasks.txt: line 1, column 1: ",
            "--node-setup 'touch setup'",
        ]);
    assert!(!farm.path("x").exists());
    farm.pytf(["tasks.txt", "--workdir", "x", "--node-setup", "touch setup"])
        .run()
        .exits(0);
    assert!(farm.path("setup").exists());
}

/// The two examples of the README of DistributedTaskQueue that have an order.
#[test]
fn tags_of_runtask_keep_their_order() {
    let farm = Farm::new();
    for model in [
        "resnet_family/resnet34",
        "resnet_family/resnet50",
        "mbnet_family/mbnetv1",
    ] {
        farm.make_dir(format!("models/{model}"));
    }
    let log = farm.path("order");
    let log = log.display();
    farm.write(
        "tasks.txt",
        format!(
            "cd models/resnet_family #!\n\
             cd resnet34; echo train34 >> {log} #:mygroup1\n\
             cd resnet50; echo $(basename $PWD) >> {log} #@2\n\n\
             cd ../mbnet_family #!\n\
             cd mbnetv1; echo $(basename $PWD) >> {log}\n\n\
             cd ../resnet_family #!\n\
             cd resnet34; echo deploy >> {log} #:mygroup1\n\
             cd resnet34; echo test1 >> {log} #+mygroup1\n\
             cd resnet34; echo test2 >> {log} #+mygroup1\n\
             cd resnet34; echo test3 >> {log} #+mygroup1\n\
             cd resnet34; echo report >> {log} #:mygroup1\n"
        ),
    );
    let said = [
        "a list of runtask",
        "start pytf there with --label worker-2",
    ];
    farm.farm("-n 4").run().exits(1).says(&said);
    farm.assert_exact(8, &[0, 2, 3, 4, 5, 6, 7], &[]);
    farm.farm("-n 4 --label worker-2").run().exits(0);
    let order = order(&farm);
    assert_eq!(order.len(), 8);
    assert_before(&order, &["train34"], &["deploy"]);
    assert_before(&order, &["deploy"], &["test1", "test2", "test3"]);
    assert_before(&order, &["test1", "test2", "test3"], &["report"]);
    assert_before(&order, &["mbnetv1"], &["resnet50"]);
    // A line without a tag for the flow of workers is no part of the examples that can run.
    farm.write("tasks.txt", "echo a\nexit #!#@1\n");
    farm.pytf(["tasks.txt", "--workdir", "v"])
        .run()
        .exits(2)
        .says(&["line 2", "pytf drain"]);
}

#[test]
fn lists_of_other_tools_are_added_to_a_run() {
    let farm = Farm::of("true\n");
    farm.farm("-n 1").run().exits(0);
    farm.write("a.txt", "echo a1 >> order\n[# 1 #] echo a2 >> order\n");
    farm.write(
        "b.txt",
        "echo b1 >> order\n\n[# -2 #] echo b2 $LAUNCHER_JID >> order\n",
    );
    farm.pytf(["add", "w", "--from", "a.txt"])
        .run()
        .exits(0)
        .says(&["a list of GREASY"]);
    // The variable of launcher is none of GREASY.
    farm.pytf(["add", "w", "--from", "b.txt"])
        .run()
        .exits(2)
        .says(&["b.txt: line 3", "launcher"]);
    farm.write("b.txt", "echo b1 >> order\n\n[# -2 #] echo b2 >> order\n");
    let stdin = File::open(farm.path("b.txt")).unwrap();
    farm.pytf(["add", "w", "-", "--tasklist", "greasy"])
        .stdin(stdin)
        .run()
        .exits(0);
    farm.write(
        "c.txt",
        "echo c $LAUNCHER_JID >> order\n#DISBATCH BARRIER\n",
    );
    farm.pytf(["add", "w", "--from", "c.txt", "--tasklist", "disbatch"])
        .run()
        .exits(2);
    farm.write("c.txt", "echo c $LAUNCHER_JID >> order\n");
    farm.pytf(["add", "w", "--from", "c.txt"]).run().exits(0);
    farm.farm("-n 2").run().exits(0);
    let order = order(&farm);
    assert_eq!(order.len(), 5);
    assert_before(&order, &["a1"], &["a2"]);
    assert_before(&order, &["b1"], &["b2"]);
    // Its number goes on from those of the run.
    assert!(order.contains(&"c 6".to_owned()), "{order:?}");
}

/// A list that has changed turns out to be another tool's while it is read.
#[test]
fn a_list_that_gets_its_first_mark_is_read_again() {
    let farm = Farm::of("echo a\necho b\n");
    farm.farm("-n 1").run().exits(0);
    farm.write("tasks.txt", "echo a\necho b\necho c\n[# 3 #] echo d\n");
    farm.farm("-n 1")
        .run()
        .exits(0)
        .says(&["a list of GREASY, by line 4", "2 lines are new"]);
    farm.assert_exact(4, &[0, 1, 2, 3], &[]);
    farm.pytf(["repair", "w", "tasks.txt"]).run().exits(0);
    farm.assert_exact(4, &[0, 1, 2, 3], &[]);
}
