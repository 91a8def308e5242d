//! Bad days: full disks, broken calls, vanishing files. The rule is the same
//! for all: a clear message, a defined exit status, nothing recorded falsely,
//! and the next run completes.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::harness::{Done, Farm, each_nth, has, is_root, pause, side_by_side, skip, tasks, until};

/// Tasks that leave a mark outside of the workdir as the last thing they do.
pub(crate) fn marking(n: u64) -> Farm {
    let farm = Farm::of(tasks(n, |id| format!("echo {id}; touch done/{id}")));
    fs::create_dir(farm.path("done")).unwrap();
    farm
}

/// What is in `finished` was really done, and no id is there twice.
pub(crate) fn nothing_false(farm: &Farm) {
    let ids = farm.ids("finished");
    for id in &ids {
        assert!(
            farm.path(format!("done/{id}")).exists(),
            "task {id} is in `finished` and was not done"
        );
    }
    assert!(
        ids.windows(2).all(|pair| pair[0] != pair[1]),
        "no id twice: {ids:?}"
    );
}

/// The next run, on a good day, completes.
fn completes(farm: &Farm, n: u64) {
    farm.farm("--retry-failed").run().exits(0);
    farm.assert_exact(n, &(0..n).collect::<Vec<_>>(), &[]);
    nothing_false(farm);
}

/// An orderly end: not by a signal, not a panic, with a word about it.
pub(crate) fn orderly(done: &Done<'_>, codes: &[i32]) {
    let code = done.status.code();
    assert!(
        code.is_some_and(|code| codes.contains(&code)),
        "{:?}: {}",
        done.status,
        done.stderr
    );
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
}

/// A small file system on the workdir, gone with the value.
struct Small<'f>(&'f Farm);

impl<'f> Small<'f> {
    fn mount(farm: &'f Farm, size: &str) -> Option<Self> {
        farm.make_dir("w");
        let size = format!("size={size},mode=755");
        let mounted = is_root()
            && Command::new("mount")
                .args(["-t", "tmpfs", "-o", &size, "none"])
                .arg(farm.path("w"))
                .status()
                .unwrap()
                .success();
        if !mounted {
            skip("only root can mount a small file system");
        }
        mounted.then_some(Self(farm))
    }

    fn grow(&self) {
        assert!(
            Command::new("mount")
                .args(["-o", "remount,size=100m"])
                .arg(self.0.path("w"))
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.0.path("w"))
            .status();
    }
}

#[test]
fn a_full_file_system_is_told_and_the_next_run_completes() {
    // Larger and larger: full at the first file, at a journal, at `finished`, at a log.
    let sizes: Vec<_> = each_nth(2, ["4k", "24k", "40k", "64k", "100k", "160k"]).collect();
    side_by_side(&sizes, |size| {
        eprintln!("{size}");
        let farm = Farm::of(tasks(200, |id| {
            format!("echo {id}; head -c 600 /dev/zero && touch done/{id}")
        }));
        fs::create_dir(farm.path("done")).unwrap();
        let Some(small) = Small::mount(&farm, size) else {
            return;
        };
        let done = farm.farm("").run();
        orderly(&done, &[74, 75]);
        assert!(done.stderr.contains("No space left"), "{}", done.stderr);
        nothing_false(&farm);
        small.grow();
        completes(&farm, 200);
    });
}

/// What is said while tasks run holds until the last of them has ended, and a while longer.
#[test]
fn patience_without_tasks_begins_when_the_last_one_has_ended() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    fs::create_dir(farm.path("done")).unwrap();
    let line = format!("{}; touch done/$PYTF_TASK_ID\n", gate.stand());
    farm.write("tasks.txt", line.repeat(2));
    let Some(_small) = Small::mount(&farm, "200k") else {
        return;
    };
    let pytf = farm.farm("--proc 2").start();
    gate.comers(2);
    let filler = farm.path("w/filler");
    let full = fs::write(&filler, vec![0; 1 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    gate.open(1);
    until("its end cannot be recorded", || {
        pytf.stderr()
            .contains("retrying for up to 300s, or 10s when no task runs any more")
    });
    // Longer than an idle farm tries on.
    pause(Duration::from_secs(11));
    gate.open(1);
    until("both have ended", || {
        farm.path("done/0").exists() && farm.path("done/1").exists()
    });
    // Several tries.
    pause(Duration::from_secs(3));
    fs::remove_file(filler).unwrap();
    pytf.wait().exits(0);
    farm.assert_exact(2, &[0, 1], &[]);
}

#[test]
fn a_limit_on_the_size_of_files_is_told_and_the_next_run_completes() {
    let farm = Farm::of(tasks(300, |id| {
        format!("touch done/{id} # {}", "x".repeat(100))
    }));
    fs::create_dir(farm.path("done")).unwrap();
    // The list of all tasks alone is larger than any file may be.
    let done = farm.farm("").under(["prlimit", "--fsize=16384"]).run();
    orderly(&done, &[74, 75]);
    assert!(done.stderr.contains("File too large"), "{}", done.stderr);
    nothing_false(&farm);
    completes(&farm, 300);
}

/// Which calls of a kind to harm: all with `PYTF_TEST_ALL`; the first few and then fewer and fewer
/// with `PYTF_TEST_LONG`; else a third of these.
fn moments() -> impl Iterator<Item = u32> {
    let all = std::env::var_os("PYTF_TEST_ALL").is_some();
    let next = move |when: &u32| Some(if all { when + 1 } else { when + 1 + when / 3 });
    each_nth(3, std::iter::successors(Some(1), next))
}

/// Runs pytf so that strace does `harm` to the `when`-th call of a kind (each
/// thread counts for itself).
fn harmed<'f>(farm: &'f Farm, calls: &str, harm: &str, when: u32, file: Option<&str>) -> Done<'f> {
    let inject = format!("inject={calls}:{harm}:when={when}");
    farm.farm("--proc 1").injected(&inject, file).run()
}

#[test]
fn no_single_failing_call_is_fatal_to_the_workdir() {
    if !has("strace") {
        return skip("no strace here");
    }
    let cases = [
        ("fsync,fdatasync", "error=EIO"),
        ("rename,renameat,renameat2", "error=ENOSPC"),
        ("write,writev,pwrite64,pwritev", "error=ENOSPC"),
        ("write,writev,pwrite64,pwritev", "error=EDQUOT"),
        ("unlink,unlinkat", "error=EIO"),
    ];
    side_by_side(&cases, |&(calls, harm)| {
        for file in each_nth(3, ["w/finished", "w/toprocess", "w/lock", "w/tasks"]) {
            for when in [1, 2, 4] {
                eprintln!("{calls}: {harm} at {file}, call {when}");
                // strace can only watch what exists: a first run makes the files.
                let farm = marking(2);
                farm.farm("").run().exits(0);
                farm.write(
                    "tasks.txt",
                    farm.text("tasks.txt") + &tasks(4, |id| format!("touch done/{}", id + 2)),
                );
                let done = harmed(&farm, calls, harm, when, Some(file));
                orderly(&done, &[0, 74, 75]);
                if done.status.success() {
                    farm.assert_exact(6, &[0, 1, 2, 3, 4, 5], &[]);
                } else {
                    assert!(
                        ["Input/output error", "No space left", "quota exceeded"]
                            .iter()
                            .any(|why| done.stderr.contains(why)),
                        "says why: {}",
                        done.stderr
                    );
                }
                nothing_false(&farm);
                completes(&farm, 6);
            }
        }
    });
}

#[test]
fn no_failing_call_anywhere_is_fatal_to_the_workdir() {
    if !has("strace") {
        return skip("no strace here");
    }
    let cases = [
        ("fsync,fdatasync", "error=EIO"),
        ("rename,renameat,renameat2", "error=EIO"),
        ("openat", "error=EMFILE"),
        ("openat", "error=EIO"),
        ("mkdir,mkdirat", "error=ENOSPC"),
        ("fstat,newfstatat,statx", "error=ESTALE"),
        ("flock", "error=ENOLCK"),
    ];
    side_by_side(&cases, |&(calls, harm)| {
        // What the loader does before main is no call of ours: skip it.
        for when in moments().skip_while(|when| {
            ["openat", "fstat"].iter().any(|c| calls.starts_with(c)) && *when < 10
        }) {
            eprintln!("{calls}: {harm}, call {when}");
            let farm = marking(3);
            let done = harmed(&farm, calls, harm, when, None);
            orderly(&done, &[0, 1, 2, 71, 74, 75]);
            nothing_false(&farm);
            completes(&farm, 3);
            if when > 40 {
                break;
            }
        }
    });
}

#[test]
fn a_kill_at_any_system_call_that_changes_something_can_be_resumed() {
    if !has("strace") {
        return skip("no strace here");
    }
    let cases = [
        "write,writev",
        "pwrite64,pwritev",
        "fsync,fdatasync",
        "rename,renameat,renameat2",
        "linkat,link",
        "unlinkat,unlink",
        "mkdirat,mkdir",
        "openat",
        "close",
    ];
    side_by_side(&cases, |calls| {
        for when in moments() {
            eprintln!("killed at {calls}, call {when}");
            let farm = marking(3);
            let done = harmed(&farm, calls, "signal=KILL", when, None);
            nothing_false(&farm);
            let is_unharmed = done.status.success();
            completes(&farm, 3);
            if is_unharmed {
                break;
            }
        }
    });
}

#[test]
fn a_workdir_that_may_not_be_written_is_refused_with_its_name_and_the_error() {
    let farm = marking(2);
    farm.make_dir("w");
    fs::set_permissions(farm.path("w"), PermissionsExt::from_mode(0o555)).unwrap();
    let pytf = if is_root() {
        std::os::unix::fs::chown(farm.path("w"), Some(65534), None).unwrap();
        fs::set_permissions(farm.path(""), PermissionsExt::from_mode(0o755)).unwrap();
        farm.farm("").by_nobody()
    } else {
        farm.farm("")
    };
    let done = pytf.run().exits(74).says(&["Permission denied"]);
    orderly(&done, &[74]);
    assert!(!farm.path("done/0").exists());
}

/// The name of a new workdir is synced only where the folder that it is in can be opened.
#[test]
fn a_workdir_is_made_in_a_folder_that_may_be_written_but_not_read() {
    let farm = marking(2);
    let put = farm.path("put");
    fs::create_dir(&put).unwrap();
    let args = ["tasks.txt", "--workdir", "put/w"];
    let pytf = if is_root() {
        for path in ["", "put", "done"] {
            std::os::unix::fs::chown(farm.path(path), Some(65534), None).unwrap();
        }
        farm.pytf(args).by_nobody()
    } else {
        farm.pytf(args)
    };
    fs::set_permissions(&put, PermissionsExt::from_mode(0o333)).unwrap();
    let done = pytf.run();
    fs::set_permissions(&put, PermissionsExt::from_mode(0o755)).unwrap();
    done.exits(0);
    assert!(farm.path("done/0").exists() && farm.path("done/1").exists());
}

#[test]
fn a_read_only_file_system_is_named() {
    let farm = marking(4);
    let Some(small) = Small::mount(&farm, "1m") else {
        return;
    };
    assert!(
        Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(farm.path("w"))
            .status()
            .unwrap()
            .success()
    );
    farm.farm("")
        .run()
        .exits(74)
        .says(&["Read-only file system"]);
    assert!(!farm.path("done/0").exists());
    assert!(
        Command::new("mount")
            .args(["-o", "remount,rw"])
            .arg(farm.path("w"))
            .status()
            .unwrap()
            .success()
    );
    completes(&farm, 4);
    drop(small);
}

#[test]
fn a_workdir_that_vanishes_ends_the_run() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", tasks(30, |_| gate.stand()));
    let pytf = farm.farm("").start();
    gate.comers(2);
    fs::remove_dir_all(farm.path("w")).unwrap();
    gate.open(30);
    let done = pytf.wait();
    orderly(&done, &[74, 75]);
    assert!(done.stderr.contains("No such file"), "{}", done.stderr);
    assert_eq!(farm.survivors(), [""; 0]);
}

#[test]
fn closed_standard_streams_change_nothing() {
    let cases = [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"];
    side_by_side(&cases, |redirect| {
        eprintln!("{redirect}");
        let farm = marking(20);
        farm.write("tasks.txt", farm.text("tasks.txt") + "exit 3\n");
        farm.farm("-v")
            .under(["sh", "-c", &format!("exec \"$@\" {redirect}"), "sh"])
            .run()
            .exits(1);
        farm.assert_exact(21, &(0..20).collect::<Vec<_>>(), &[20]);
        assert_eq!(farm.ends().len(), 21, "no message went into a journal");
        assert_eq!(farm.text("w/logs/log_7"), "7\n", "nor into a log");
    });
}

#[test]
fn a_reader_of_our_messages_that_has_gone_changes_nothing() {
    let farm = marking(20);
    farm.write("tasks.txt", farm.text("tasks.txt") + "exit 3\n");
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    let writer: OwnedFd = writer;
    // The pipe comes in as stdin and is made stdout and stderr by the shell.
    let done = farm
        .farm("-v")
        .stdin(writer)
        .under(["sh", "-c", "exec \"$@\" >&0 2>&0 </dev/null", "sh"])
        .run();
    assert_eq!(
        done.status.code(),
        Some(1),
        "not killed by SIGPIPE: {:?}",
        done.status
    );
    farm.assert_exact(21, &(0..20).collect::<Vec<_>>(), &[20]);
}

#[test]
fn log_into_a_closed_pipe_is_no_error() {
    let farm = Farm::of("head -c 1000000 /dev/zero\n");
    farm.farm("").run().exits(0);
    let done = farm
        .pytf(["log", "w", "0"])
        .under([
            "bash",
            "-c",
            "\"$@\" | head -c 1 >/dev/null; exit ${PIPESTATUS[0]}",
            "sh",
        ])
        .run();
    assert!(
        matches!(done.status.code(), Some(0 | 141)),
        "{:?}",
        done.status
    );
    assert!(!done.stderr.contains("panicked"));
}

#[test]
fn few_file_descriptors_are_enough_or_waited_for() {
    for limit in [48, 64] {
        let farm = marking(200);
        farm.farm("--proc 32")
            .under(["prlimit", &format!("--nofile={limit}")])
            .run()
            .exits(0);
        farm.assert_exact(200, &(0..200).collect::<Vec<_>>(), &[]);
        assert!(
            farm.ends().iter().all(|end| end["attempt"] == 1),
            "no attempt was charged"
        );
    }
}

#[test]
fn too_many_processes_are_waited_for() {
    if !is_root() {
        return skip("the limit on processes counts all of a user: it needs one of its own");
    }
    // Threads and guard of pytf take about a dozen; the rest must make do.
    let farm = marking(60);
    for path in ["", "done"] {
        std::os::unix::fs::chown(farm.path(path), Some(4_242_424), Some(65534)).unwrap();
    }
    farm.write("tasks.txt", tasks(60, |id| format!("touch done/{id}")));
    farm.farm("--proc 8")
        .under([
            "setpriv",
            "--reuid",
            "4242424",
            "--regid",
            "65534",
            "--clear-groups",
            "prlimit",
            "--nproc=20",
        ])
        .run()
        .exits(0);
    farm.assert_exact(60, &(0..60).collect::<Vec<_>>(), &[]);
    assert!(
        farm.ends().iter().all(|end| end["attempt"] == 1),
        "no attempt was charged"
    );
}

#[test]
fn a_suspended_farm_is_not_charged_for_the_gap() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write(
        "tasks.txt",
        format!("{}\n{}\ntrue\n", gate.stand(), gate.stand()),
    );
    let pytf = farm.farm("--task-timeout 2 --timeout 3").start();
    let groups: Vec<Pid> = [gate.comer().1, gate.comer().1, pytf.pid()]
        .map(Pid::from_raw)
        .into();
    for group in groups.iter().rev() {
        killpg(*group, Signal::SIGSTOP).unwrap();
    }
    pause(Duration::from_secs(4));
    for group in &groups {
        killpg(*group, Signal::SIGCONT).unwrap();
    }
    gate.open(2);
    pytf.wait().exits(0);
    farm.assert_exact(3, &[0, 1, 2], &[]);
}

#[test]
fn a_directory_that_is_deleted_under_pytf_does_not_crash_it() {
    let farm = marking(3);
    fs::create_dir(farm.path("cwd")).unwrap();
    let list = farm.path("tasks.txt").display().to_string();
    let workdir = farm.path("w").display().to_string();
    let done = farm
        .pytf([list.as_str(), "--workdir", &workdir])
        .under(["sh", "-c", "cd cwd && rmdir ../cwd && exec \"$@\"", "sh"])
        .run();
    orderly(&done, &[0, 1, 2, 74]);
}

#[test]
fn a_task_may_remove_the_folder_that_the_farm_was_started_in() {
    let farm = marking(3);
    fs::create_dir(farm.path("cwd")).unwrap();
    let all = farm.text("tasks.txt").replace("done/", "../done/");
    farm.write("tasks.txt", format!("rmdir ../cwd\n{all}"));
    let farmer = farm.pytf(["../tasks.txt", "--workdir", "../w", "--proc", "1"]);
    farmer.within(farm.path("cwd")).run().exits(0);
    farm.assert_exact(4, &[0, 1, 2, 3], &[]);
    // Before it, some shells say that their folder is gone.
    assert_eq!(farm.text("w/logs/log_3").lines().last(), Some("2"));
    assert!(farm.path("w/timeline.json").exists());
}

#[test]
fn a_file_system_without_inodes_is_told_soon() {
    let farm = Farm::of(tasks(3, |id| format!("echo {id}")));
    farm.farm("--logs none --no-timeline").run().exits(0);
    let find = Command::new("find").arg(farm.path("w")).output().unwrap();
    let inodes = String::from_utf8_lossy(&find.stdout).lines().count();
    fs::remove_dir_all(farm.path("w")).unwrap();
    // Room for one log.
    let Some(_small) = Small::mount(&farm, &format!("10m,nr_inodes={}", inodes + 1)) else {
        return;
    };
    let done = farm.farm("").run();
    orderly(&done, &[74]);
    assert!(done.stderr.contains("df -i"), "{}", done.stderr);
}

#[test]
fn a_farm_that_is_a_task_of_its_own_workdir_is_refused() {
    let pytf = env!("CARGO_BIN_EXE_pytf");
    let farm = Farm::of(format!("{pytf} tasks.txt --workdir ./w\ntrue\n"));
    farm.farm("--proc 1").run().exits(1);
    farm.assert_exact(2, &[1], &[0]);
    assert_eq!(farm.outcomes()[&0], "exit 2");
    let log = farm.text("w/logs/log_0");
    assert!(log.contains("would wait for that task"), "{log}");
}

#[test]
fn a_missing_path_is_no_crash() {
    let farm = Farm::of("/bin/true\necho $((1+1)) > two\n");
    farm.farm("").under(["env", "-u", "PATH"]).run().exits(0);
    assert_eq!(farm.text("two"), "2\n");
}

/// A control group of this machine in which there is little memory.
struct Cramped(PathBuf);

impl Cramped {
    /// None where only others may make one.
    fn new(bytes: u64) -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let is_v2 = root.join("cgroup.controllers").exists();
        let parent = if is_v2 {
            root.to_owned()
        } else {
            root.join("memory")
        };
        let limit = if is_v2 {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        };
        let group = Self(parent.join(format!("pytf-test-{}", std::process::id())));
        fs::create_dir(&group.0).ok()?;
        // Where there is swap it would be used up first.
        let _ = fs::write(group.0.join("memory.swap.max"), "0");
        fs::write(group.0.join(limit), bytes.to_string()).ok()?;
        Some(group)
    }

    /// What moves itself into it and then becomes what follows.
    fn enter(&self) -> [String; 4] {
        let move_in = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", self.0.display());
        ["sh", "-c", &move_in, "--"].map(str::to_owned)
    }
}

impl Drop for Cramped {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn what_the_kernel_kills_for_lack_of_memory_is_called_so() {
    let Some(group) = Cramped::new(100 << 20) else {
        skip("no memory control group can be made here");
        return;
    };
    if !has("python3") {
        skip("no python3");
        return;
    }
    let farm = Farm::of(
        "python3 -c 'x = bytearray(300 << 20)'\n\
         python3 -c 'x = bytearray(300 << 20)'; exit 137\n\
         sh -c 'kill -9 $$'\n\
         true\n",
    );
    let done = farm.farm("--proc 1").under(group.enter()).run().exits(1);
    done.says(&["out of memory"]);
    let outcomes = farm.outcomes();
    let told: Vec<&str> = outcomes.values().map(String::as_str).collect();
    assert_eq!(
        told,
        ["out-of-memory", "out-of-memory", "signal 9", "exit 0"]
    );
    let advice = farm.pytf(["status", "w"]).run().exits(0).stdout;
    let advice = String::from_utf8_lossy(&advice).into_owned();
    assert!(advice.contains("killed for lack of memory"), "{advice}");
}

#[test]
fn a_child_that_was_killed_for_lack_of_memory_is_told_although_its_task_finished() {
    let Some(group) = Cramped::new(100 << 20) else {
        return skip("no memory control group can be made here");
    };
    if !has("python3") {
        return skip("no python3");
    }
    let farm = Farm::of("python3 -c 'x = bytearray(300 << 20)'; true\n");
    let done = farm.farm("--proc 1").under(group.enter()).run().exits(0);
    done.says(&["killed for lack of memory", "without its result"]);
    let status = farm.pytf(["status", "w"]).run().exits(0);
    status.says(&["the kernel killed processes for lack of memory"]);
}
