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
            "true\n#PYTF mem=4G\n",
            "tasks.txt: line 2, column 7: 'mem=4G' is not known",
        ),
        ("true #PYTF mem=4G\n", "tasks.txt: line 1, column 6: "),
    ] {
        let farm = Farm::of(list);
        let done = farm.farm("").run().exits(2);
        assert!(done.stderr.contains(part), "{}", done.stderr);
        assert!(!farm.path("w").exists());
        // Without directives it is a list of commands with comments.
        farm.farm("--plain").run().exits(0);
        farm.assert_exact(1, &[0], &[]);
    }
}
