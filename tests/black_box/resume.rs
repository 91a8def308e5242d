//! The same command again: what is done stays done, also when the list has
//! changed, and also when PyTaskFarmer did it.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::Signal;

use crate::harness::{Farm, has, skip, tasks, until};

/// Each task notes its own word, so that "what ran" does not depend on ids.
fn note(words: &str) -> String {
    let lines = words
        .split_whitespace()
        .map(|word| format!("echo {word} >> ran\n"));
    lines.collect::<Vec<_>>().concat()
}

/// A farm whose tasks `a b c d` are done but for `d`, which was interrupted.
fn mostly_done() -> Farm {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    let wait = format!("echo d >> ran; [ -e pass ] || {{ {} ; }}\n", gate.stand());
    farm.write("d", &wait);
    farm.write("tasks.txt", note("a b c") + &wait);
    let pytf = farm.farm("--proc 1").start();
    gate.comer();
    pytf.signal(Signal::SIGTERM);
    pytf.wait().exits(75);
    farm.assert_exact(4, &[0, 1, 2], &[]);
    farm.write("pass", "");
    farm.write("ran", "");
    farm
}

/// What the second run executed, sorted.
pub(crate) fn ran(farm: &Farm) -> String {
    let text = farm.text("ran");
    let mut words: Vec<&str> = text.lines().collect();
    words.sort_unstable();
    words.join(" ")
}

#[test]
fn the_same_command_again_does_what_is_left_and_tells_what_it_found() {
    let farm = mostly_done();
    farm.farm("").run().exits(0).says(&[
        "3 finished, 0 failed, 1 w",
        "interrupted and will run again, 1 to go",
    ]);
    farm.assert_exact(4, &[0, 1, 2, 3], &[]);
    assert_eq!(ran(&farm), "d");
}

/// What an earlier farmer left costs those who come later nothing, however many there were.
#[test]
fn journals_of_farmers_that_are_over_are_not_read_again() {
    if !has("strace") {
        return skip("there is no strace");
    }
    let farm = Farm::new();
    for n in 1..=5 {
        farm.write("tasks.txt", tasks(n, |id| format!("echo {id}")));
        farm.farm("--quiet --no-timeline").run().exits(0);
    }
    let listed = fs::read_dir(farm.path("w/nodes")).unwrap();
    let listed: Vec<_> = listed.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(
        listed,
        ["done"],
        "who looks for the living lists this folder"
    );
    farm.write("tasks.txt", tasks(6, |id| format!("echo {id}")));
    let trace = "strace -f -b execve -qq -e trace=openat -o opened".split(' ');
    farm.farm("--quiet --no-timeline")
        .under(trace)
        .run()
        .exits(0);
    let opened = farm.text("opened");
    let journals = opened.lines().filter(|call| call.contains(".jsonl"));
    let names: BTreeSet<&str> = journals.filter_map(|call| call.split('"').nth(1)).collect();
    assert_eq!(names.len(), 1, "one is its own: {names:?}");
}

#[test]
fn a_complete_workdir_is_left_alone() {
    let farm = Farm::of(note("a b") + "exit 3\n");
    farm.farm("").run().exits(1);
    let before = (farm.text("w/finished"), farm.text("w/failed"));
    farm.farm("").run().exits(1).says(&["2 finished, 1 failed"]);
    assert_eq!((farm.text("w/finished"), farm.text("w/failed")), before);
    assert_eq!(
        ran(&farm),
        "a b",
        "a failed task runs again only when asked for"
    );
}

#[test]
fn lines_appended_inserted_and_reordered_are_matched_by_their_text() {
    for list in ["a b c D e", "e a b c D", "D c e b a", "c e b D a"] {
        let farm = mostly_done();
        let d = farm.text("d");
        farm.write("tasks.txt", note(list).replace("echo D >> ran\n", &d));
        farm.farm("").run().exits(0);
        assert_eq!(ran(&farm), "d e", "{list}");
        assert_eq!(farm.ids("finished"), [0, 1, 2, 3, 4], "{list}");
        assert_eq!(farm.ids("toprocess"), [0; 0]);
    }
}

#[test]
fn a_deleted_line_that_was_to_do_is_done_no_more_and_the_difference_is_told() {
    let farm = mostly_done();
    farm.write("tasks.txt", note("a c"));
    let done = farm.farm("--drop").run().exits(0);
    assert_eq!(ran(&farm), "");
    assert_eq!(farm.ids("toprocess"), [0; 0]);
    assert!(
        done.stderr.contains("changed")
            || done.stderr.contains("vanished")
            || done.stderr.contains("gone")
    );
}

#[test]
fn an_edited_line_is_a_new_task_and_the_old_one_vanishes() {
    let farm = mostly_done();
    farm.write("tasks.txt", note("a B c D"));
    farm.farm("--drop").run().exits(0);
    assert_eq!(ran(&farm), "B D");
    // What was finished under the old text stays told as such.
    assert!(
        farm.lines("finished")
            .contains(&(1, b"echo b >> ran".to_vec()))
    );
    assert_eq!(farm.lines("finished").len(), 5);
    assert_eq!(farm.ids("toprocess"), [0; 0]);
}

/// A waiting task is lost to the user as surely by a list that was cut off as by a
/// disk that was.
#[test]
fn waiting_tasks_are_dropped_only_when_that_is_asked_for() {
    let farm = mostly_done();
    let whole = farm.text("tasks.txt");
    for list in ["a c", "a b c D", "", "# only comments\n"] {
        let list = if list.starts_with('#') {
            list.into()
        } else {
            note(list)
        };
        farm.write("tasks.txt", &list);
        let before = farm.bytes("w/lock");
        let told = farm.farm("").run().exits(2).says(&["tasks.txt"]);
        if !list.is_empty() && !list.starts_with('#') {
            assert!(told.stderr.contains("--drop") && told.stderr.contains("task 3"));
        }
        assert_eq!(farm.ids("toprocess"), [3], "{list}");
        // Both states; before them is a word about who took the lock.
        let states = |lock: &[u8]| lock[4096..].to_vec();
        assert!(
            states(&farm.bytes("w/lock")) == states(&before),
            "nothing was written"
        );
    }
    // No word makes an empty list right.
    farm.write("tasks.txt", "");
    farm.farm("--drop").run().exits(2).says(&["holds no task"]);
    farm.write("tasks.txt", whole);
    farm.farm("").run().exits(0);
    farm.assert_exact(4, &[0, 1, 2, 3], &[]);
}

#[test]
fn a_shorter_list_drops_nothing_of_a_farm_that_runs() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", format!("{}\n", gate.stand()) + &note("a b c"));
    let first = farm.farm("--proc 1").start();
    gate.comer();
    farm.write("short.txt", format!("{}\n", gate.stand()));
    farm.pytf(["short.txt", "--workdir", "w", "--proc", "1"])
        .run()
        .leaves(2)
        .says(&["3 waiting tasks", "other farmers", "--drop"]);
    gate.open(1);
    first.wait().exits(0);
    farm.assert_exact(4, &[0, 1, 2, 3], &[]);
    assert_eq!(ran(&farm), "a b c");
}

/// What a line does for which nothing is left to do but to come back.
#[test]
fn lines_that_come_back_run() {
    for strict in ["", "--strict"] {
        let farm = mostly_done();
        let whole = farm.text("tasks.txt");
        farm.write("tasks.txt", note("a b c"));
        farm.farm("--drop").run().exits(0);
        farm.assert_dropped(4, &[0, 1, 2], &[3]);
        farm.write("tasks.txt", &whole);
        farm.farm(strict).run().exits(0).says(&["1 line is back"]);
        assert_eq!(ran(&farm), "d");
        farm.assert_exact(4, &[0, 1, 2, 3], &[]);
    }
}

#[test]
fn a_typo_that_was_corrected_ends_in_a_complete_run() {
    let farm = Farm::of(note("a b") + "exit 7 # typo\nexit 8\n");
    farm.farm("").run().exits(1);
    farm.assert_exact(4, &[0, 1], &[2, 3]);
    farm.write("tasks.txt", note("a b c d"));
    farm.farm("")
        .run()
        .exits(0)
        .says(&["2 had failed and count no longer"]);
    farm.assert_dropped(6, &[0, 1, 4, 5], &[2, 3]);
    farm.pytf(["retry", "w"])
        .run()
        .exits(0)
        .says(&["no failed task"]);
    farm.farm("").run().exits(0);
    assert_eq!(ran(&farm), "a b c d");
    // Its history stays, and should the line be meant after all, it runs again.
    farm.pytf(["status", "w", "--task", "2"])
        .run()
        .exits(0)
        .says(&["exit 7", "dropped"]);
    farm.write("tasks.txt", note("a b c d") + "exit 7 # typo\n");
    farm.farm("").run().exits(1);
    farm.assert_dropped(6, &[0, 1, 4, 5], &[3]);
    assert_eq!(farm.ids("failed"), [2]);
    let attempts: Vec<_> = farm
        .ends()
        .iter()
        .filter(|end| end["id"] == 2)
        .map(|end| end["attempt"].as_u64())
        .collect();
    assert_eq!(attempts, [Some(1), Some(2)]);
}

#[test]
fn a_repair_does_not_bring_back_what_was_dropped() {
    let farm = mostly_done();
    farm.write("tasks.txt", note("a b c") + "exit 7\n");
    farm.farm("--drop").run().exits(1);
    farm.write("tasks.txt", note("a b c"));
    farm.farm("").run().exits(0);
    farm.write("w/lock", "damaged");
    farm.pytf(["repair", "w"])
        .run()
        .exits(0)
        .says(&["3 finished, 0 failed, 0 to go"]);
    farm.farm("").run().exits(0);
    farm.assert_dropped(5, &[0, 1, 2], &[3, 4]);
    assert_eq!(ran(&farm), "");
}

/// Each row of the table in docs/workdir.md: from this list, of which `a` is done, `f`
/// has failed and `w` waits, to that one; what runs then, and how it ends.
#[test]
fn resume_after_each_kind_of_edit() {
    for (edit, list, args, exit, runs) in [
        ("none", "a f w", "", 1, "w"),
        ("a line inserted", "n a f w", "", 1, "n w"),
        ("a line appended", "a f w n", "", 1, "n w"),
        ("lines in another order", "w f a", "", 1, "w"),
        ("a finished line deleted", "f w", "", 1, "w"),
        ("a failed line deleted", "a w", "", 0, "w"),
        ("a failed line edited", "a g w", "", 0, "g w"),
        ("a waiting line deleted", "a f", "", 2, ""),
        ("a waiting line deleted", "a f", "--drop", 1, ""),
        ("a waiting line edited", "a f v", "", 2, ""),
        ("a waiting line edited", "a f v", "--drop", 1, "v"),
        ("a finished line doubled", "a a f w", "", 1, "a w"),
        ("a comment added", "# a f w", "", 1, "w"),
        ("emptied", "", "--drop", 2, ""),
        ("another list", "x y", "--drop", 2, ""),
        ("any difference", "n a f w", "--strict", 2, ""),
        ("a comment added", "# a f w", "--strict", 1, "w"),
    ] {
        let farm = Farm::new();
        let gate = farm.gate("gate");
        // It fails until it is let pass: the run is stopped before `w`.
        let fails = "echo f >> ran; exit 3\n";
        let waits = format!("[ -e pass ] || {{ {}; }}; echo w >> ran\n", gate.stand());
        let text = |list: &str| {
            let lines = list.split_whitespace().map(|word| match word {
                "f" => fails.to_owned(),
                "w" => waits.clone(),
                "#" => "# a comment\n".into(),
                word => note(word),
            });
            lines.collect::<String>()
        };
        farm.write("tasks.txt", text("a f w"));
        let pytf = farm.farm("--proc 1").start();
        gate.comer();
        // What fails a moment before a stop was interrupted.
        until("the failure is recorded", || farm.ids("failed") == [1]);
        pytf.signal(Signal::SIGTERM);
        pytf.wait().exits(75);
        farm.assert_exact(3, &[0], &[1]);
        farm.write("pass", "");
        farm.write("ran", "");
        farm.write("tasks.txt", text(list));
        eprintln!("{edit} {args}");
        farm.farm(args).run().exits(exit);
        assert_eq!(ran(&farm), runs, "{edit} {args}");
    }
}

#[test]
fn duplicate_lines_are_as_many_tasks_as_they_are() {
    let farm = Farm::of(note("a a b"));
    farm.farm("").run().exits(0);
    farm.assert_exact(3, &[0, 1, 2], &[]);
    farm.write("ran", "");
    farm.write("tasks.txt", note("b a a a b"));
    farm.farm("").run().exits(0);
    assert_eq!(ran(&farm), "a b", "one more of each");
    assert_eq!(farm.ids("finished"), [0, 1, 2, 3, 4]);
}

#[test]
fn a_line_that_comes_back_is_still_done() {
    let farm = Farm::of(note("a b c"));
    farm.farm("").run().exits(0);
    farm.write("tasks.txt", note("a c"));
    farm.farm("").run().exits(0);
    farm.write("tasks.txt", note("b c a"));
    farm.farm("").run().exits(0);
    assert_eq!(ran(&farm), "a b c");
}

#[test]
fn a_changed_list_is_refused_when_strict() {
    for list in ["a b c d", "a b", "a b C", "c b a"] {
        let farm = Farm::of(note("a b c"));
        farm.farm("").run().exits(0);
        farm.write("ran", "");
        farm.write("tasks.txt", note(list));
        farm.farm("--strict").run().exits(2).says(&["tasks.txt"]);
        assert_eq!(ran(&farm), "", "{list}");
        farm.assert_exact(3, &[0, 1, 2], &[]);
    }
    let farm = Farm::of(note("a b c"));
    farm.farm("--strict").run().exits(0);
    farm.farm("--strict").run().exits(0);
}

#[test]
fn comments_and_blank_lines_do_not_make_another_list() {
    let farm = Farm::of(note("a b"));
    farm.farm("").run().exits(0);
    farm.write(
        "tasks.txt",
        "# now with a comment\n\n".to_owned() + &note("a b"),
    );
    farm.farm("--strict").run().exits(0);
    assert_eq!(ran(&farm), "a b");
}

#[test]
fn stdin_continues_a_workdir() {
    let farm = Farm::of(note("a b"));
    let open = || fs::File::open(farm.path("tasks.txt")).unwrap();
    farm.pytf(["-", "--workdir", "w"])
        .stdin(open())
        .run()
        .exits(0);
    farm.write("tasks.txt", note("a b c"));
    farm.pytf(["-", "--workdir", "w"])
        .stdin(open())
        .run()
        .exits(0);
    assert_eq!(ran(&farm), "a b c");
}

#[test]
fn a_workdir_of_pytaskfarmer_is_continued() {
    let farm = Farm::of(
        "#comment\necho a >> ran\n\n  echo b >> ran  \necho c >> ran\necho d >> ran\necho e >> ran\n",
    );
    // 0 finished, 1 failed, 2 to do; 3 was running when its farmer was killed,
    // so that PyTaskFarmer knows it nowhere; 4 is finished.
    farm.write("w/toprocess", "2 echo c >> ran\n");
    farm.write("w/finished", "0 echo a >> ran\n4 echo e >> ran\n");
    farm.write("w/failed", "1 echo b >> ran\n");
    farm.write("w/logs/log_0", "of the first run\n");
    farm.write("w/timeline.json", r#"[{"cat": "task", "name": "echo a >> ran", "pid": 7, "tid": 8, "ts": 1.5e15, "dur": 1000.5, "ph": "X", "args": {}}]"#);
    farm.farm("").run().exits(1);
    assert_eq!(ran(&farm), "c d");
    farm.assert_exact(5, &[0, 2, 3, 4], &[1]);
    assert_eq!(farm.text("w/logs/log_0"), "of the first run\n");

    farm.pytf(["retry", "w"]).run().exits(0);
    farm.farm("").run().exits(0);
    farm.assert_exact(5, &[0, 1, 2, 3, 4], &[]);
    assert_eq!(ran(&farm), "b c d");
}

#[test]
fn a_workdir_of_pytaskfarmer_without_toprocess_has_everything_to_do() {
    let farm = Farm::of(note("a b"));
    farm.make_dir("w/logs");
    farm.farm("").run().exits(0);
    farm.assert_exact(2, &[0, 1], &[]);
}

/// The same command from elsewhere would fail all that is left.
#[test]
fn another_folder_than_at_the_first_start_is_reported_or_refused() {
    let farm = Farm::of("cat file\nexit 3\n");
    for folder in ["a", "b"] {
        fs::create_dir(farm.path(folder)).unwrap();
    }
    farm.write("a/file", "");
    std::os::unix::fs::symlink(farm.path("a"), farm.path("same")).unwrap();
    let run = |folder: &str, args: &[&str]| {
        let args = [&["../tasks.txt", "-w", "../w"], args].concat();
        farm.pytf(args).within(farm.path(folder)).run()
    };
    let first = "first started in";
    assert!(!run("a", &[]).exits(1).stderr.contains(first));
    assert!(!run("same", &["--strict"]).exits(1).stderr.contains(first));
    run("b", &["--retry-failed", "--strict"])
        .exits(2)
        .says(&[first, "/a;", "/b,"]);
    assert_eq!(farm.ids("failed"), [1], "nothing is tried again");
    farm.pytf(["repair", "w"]).run().exits(0);
    run("b", &[]).exits(1).says(&[first, "/a;", "/b,"]);
    farm.assert_exact(2, &[0], &[1]);
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n.max(1) as u64).unwrap()
    }
}

/// A list in the hands of somebody who cannot leave it alone, by the words of its lines.
struct Edited {
    random: Random,
    words: Vec<String>,
    /// Lines that were taken out, and could come back.
    gone: Vec<String>,
    /// Those that fail, as they stand in the list.
    typos: Vec<String>,
    next: u32,
}

impl Edited {
    fn new_word(&mut self) -> String {
        self.next += 1;
        format!("w{}", self.next)
    }

    fn edit(&mut self) {
        let (n, kind) = (self.words.len(), self.random.below(7));
        let at = self.random.below(n);
        match kind {
            0 | 1 => {
                for _ in 0..3 {
                    let word = self.new_word();
                    self.words.insert(at, word);
                }
            }
            2 | 3 if n > 2 => self.gone.push(self.words.remove(at)),
            4 => {
                for to in (1..n).rev() {
                    let from = self.random.below(to + 1);
                    self.words.swap(from, to);
                }
            }
            5 if !self.gone.is_empty() => {
                let back = self.random.below(self.gone.len());
                self.words.insert(at, self.gone.swap_remove(back));
            }
            6 => match self.typos.pop() {
                Some(cured) => self.words.push(cured),
                None => self.typos = vec![self.new_word()],
            },
            _ => {}
        }
    }

    fn text(&self) -> String {
        let good = self
            .words
            .iter()
            .map(|word| format!("echo {word} >> ran; sleep 0.01\n"));
        let bad = self.typos.iter().map(|word| format!("exit 3 # {word}\n"));
        let gone = self
            .gone
            .iter()
            .map(|word| format!("# echo {word} >> ran\n"));
        let anchor = ["echo anchor >> ran\n".to_owned()];
        anchor
            .into_iter()
            .chain(good)
            .chain(bad)
            .chain(gone)
            .collect()
    }
}

/// Whatever is done to a list between runs that are stopped or killed at any moment: in
/// the end each of its lines has finished once, and nothing ran that was taken out before
/// it started. `PYTF_NIGHT=200` makes it long.
#[test]
fn a_night_of_edits_between_runs_that_are_stopped() {
    let edits = std::env::var("PYTF_NIGHT").map_or(25, |n| n.parse().unwrap());
    let farm = Farm::new();
    let mut list = Edited {
        random: Random(0x9E37_79B9_7F4A_7C15),
        words: Vec::new(),
        gone: Vec::new(),
        typos: Vec::new(),
        next: 0,
    };
    list.words = (0..8).map(|_| list.new_word()).collect();
    let count = || farm.text("ran").lines().count();
    for nth in 0..edits {
        list.edit();
        let never: Vec<_> = list
            .gone
            .iter()
            .filter(|word| !has_run(&farm, word))
            .cloned()
            .collect();
        if nth % 10 == 9 {
            farm.write("tasks.txt", "");
            farm.farm("--drop").run().exits(2).says(&["holds no task"]);
        }
        farm.write("tasks.txt", list.text());
        let mut run = farm.farm("--drop").start();
        let enough = count() + list.random.below(6);
        until("some tasks have run, or all have", || {
            count() >= enough || run.child.try_wait().unwrap().is_some()
        });
        if run.child.try_wait().unwrap().is_none() {
            run.signal([Signal::SIGTERM, Signal::SIGKILL][list.random.below(2)]);
        }
        let done = run.wait();
        assert!(
            matches!(done.status.code(), Some(0 | 1 | 75) | None),
            "{}",
            done.stderr
        );
        for word in never {
            assert!(
                !has_run(&farm, &word),
                "{word} was taken out and ran, after edit {nth}"
            );
        }
    }
    list.words.append(&mut list.typos);
    farm.write("tasks.txt", list.text());
    farm.farm("--drop").run().exits(0);
    let finished = farm.text("w/finished");
    for word in &list.words {
        let line = format!("echo {word} >> ran;");
        assert_eq!(finished.matches(&line).count(), 1, "{word}");
    }
    assert_eq!(
        (farm.ids("failed"), farm.ids("toprocess")),
        (vec![], vec![])
    );
}

fn has_run(farm: &Farm, word: &str) -> bool {
    farm.text("ran").lines().any(|line| line == word)
}
