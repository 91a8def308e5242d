//! `in`, `out`, `--copy-out` and `pytf combine`.

use std::fs;

use crate::harness::{Farm, tasks};

/// What is in the results, sorted; parts of results, too.
fn names(farm: &Farm, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(farm.path(folder)).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Results are whole, and a task that lacks one has failed, though its exit status was 0.
#[test]
fn what_tasks_make_is_kept() {
    let farm = Farm::of(
        "mkdir -p a/b; echo one | tee a/b/x > a/y; chmod 700 a/y  #PYTF out=a\n\
         echo two > two.dat; echo more > more.dat  #PYTF out=two.dat,m*.dat\n\
         echo three > other  #PYTF out=three\n\
         echo four > four; false  #PYTF out=four\n\
         echo five\n",
    );
    farm.farm("").run().exits(1);
    farm.assert_exact(5, &[0, 1, 4], &[2, 3]);
    assert_eq!(names(&farm, "w/results"), ["0", "1"]);
    assert_eq!(farm.text("w/results/0/a/b/x"), "one\n");
    assert_eq!(farm.text("w/results/0/a/y"), "one\n");
    assert!(farm.is_program("w/results/0/a/y"));
    assert!(!farm.is_program("w/results/0/a/b/x"));
    assert_eq!(names(&farm, "w/results/1"), ["more.dat", "two.dat"]);
    assert_eq!(farm.outcomes()[&2], "no-result");
    let log = "pytf: it ended with exit status 0, and has failed: its result three is not there\n";
    assert_eq!(farm.text("w/logs/log_2"), log);
    farm.pytf(["status", "w", "--task", "2"])
        .run()
        .exits(0)
        .says(&["ended without its result"]);
    // It is tried again, and what there is stays.
    farm.pytf(["retry", "w"]).run().exits(0);
    farm.write("three", "3");
    farm.farm("").run().exits(1);
    assert_eq!(farm.text("w/results/2/three"), "3");
    // A reset takes them along.
    farm.pytf(["reset", "w", "--yes"]).run().exits(0);
    assert!(!farm.path("w/results").exists());
    assert_eq!(names(&farm, "w/reset-1/results"), ["0", "1", "2"]);
}

/// With a folder for each attempt, its results outlive it, and it finds its inputs there.
#[test]
fn folders_of_tasks_have_inputs_and_leave_results() {
    let list = tasks(8, |id| {
        format!("cat in/data > out; echo {id} >> out #PYTF in=in/data")
    });
    let farm = Farm::of(list + "true #PYTF in=in/data,in/none,in\ntrue #PYTF in=in\n");
    farm.write("in/data", "input\n");
    farm.farm("--task-dir=tmp --copy-out out").run().exits(1);
    farm.assert_exact(10, &[0, 1, 2, 3, 4, 5, 6, 7], &[8, 9]);
    for id in 0..8 {
        assert_eq!(
            farm.text(format!("w/results/{id}/out")),
            format!("input\n{id}\n")
        );
    }
    assert_eq!(farm.outcomes()[&8], "not-started 126");
    let log = "pytf: its input in/none: No such file or directory (os error 2)\n";
    assert_eq!(farm.text("w/logs/log_8"), log);
    assert_eq!(
        farm.text("w/logs/log_9"),
        "pytf: its input in: it is not a file\n"
    );
    assert_eq!(names(&farm, "tmp"), Vec::<String>::new());
}

#[test]
fn wrong_names_are_refused() {
    let farm = Farm::of("true #PYTF in=/etc/passwd\n");
    farm.farm("")
        .run()
        .exits(2)
        .says(&["line 1", "'/etc/passwd' is an absolute path"]);
    farm.write("tasks.txt", "true #PYTF output=x\n");
    farm.farm("").run().exits(2).says(&["did you mean 'out'?"]);
    farm.write("tasks.txt", "true\n");
    farm.farm("--copy-out ../x")
        .run()
        .exits(2)
        .says(&["leads out of it by '..'"]);
    farm.farm("--copy-in x").run().exits(2).says(&["--hosts"]);
}

/// The same files are there once, and those that differ are named, with nothing written.
#[test]
fn results_are_combined() {
    let farm = Farm::of(tasks(3, |id| {
        format!("mkdir -p $PYTF_TASK_ID/d; cd $PYTF_TASK_ID; echo {id} > d/{id}; echo same > same")
    }));
    farm.farm("").run().exits(0);
    for id in 0..3 {
        farm.make_dir("w/results");
        fs::rename(
            farm.path(id.to_string()),
            farm.path(format!("w/results/{id}")),
        )
        .unwrap();
    }
    // What never became whole, and an earlier attempt.
    farm.write("w/results/.7.1-f/part", "part");
    farm.write("w/results/1.2/d/1", "later");
    farm.write("w/results/1.2/same", "same\n");
    let combine = |expected| {
        farm.pytf(["combine", "w/results", "all"])
            .run()
            .exits(expected)
    };
    combine(0).says(&["4 files of 3 tasks in all, 2 more were the same"]);
    assert_eq!(names(&farm, "all"), ["d", "same"]);
    assert_eq!(farm.text("all/d/1"), "later");
    // Again: nothing is new.
    combine(0);
    farm.write("w/results/2/same", "other\n");
    farm.write("w/results/2/new", "new");
    farm.write("w/results/0/d/2", "mine");
    let said = combine(1);
    said.says(&[
        "same of task 0 and of task 2: it is not the same",
        "nothing was written",
    ]);
    assert!(!farm.path("all/new").exists());
    farm.pytf(["combine", "w", "elsewhere"]).run().exits(1);
    assert!(!farm.path("elsewhere").exists());
    farm.pytf(["combine", "none", "all"]).run().exits(74);
}
