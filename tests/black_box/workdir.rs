//! Whose workdir it is, and what may lie in it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use crate::harness::{Done, Farm, is_root, skip};

#[test]
fn modes_honour_the_umask() {
    for (umask, others) in [("077", 0o077), ("022", 0o022), ("027", 0o027)] {
        let farm = Farm::of("echo a\nfalse\n");
        farm.farm("")
            .under(["sh", "-c", &format!("umask {umask}; exec \"$@\""), "sh"])
            .run()
            .exits(1);
        for file in [
            "w",
            "w/finished",
            "w/failed",
            "w/toprocess",
            "w/logs",
            "w/nodes",
            "w/nodes/done",
            "w/lock",
            "w/logs/log_0",
            "w/timeline.json",
        ] {
            let mode = fs::metadata(farm.path(file)).unwrap().permissions().mode();
            assert_eq!(mode & others, 0, "umask {umask}: {file} has {mode:o}");
            assert_eq!(
                mode & 0o111 != 0,
                farm.path(file).is_dir(),
                "{file} has {mode:o}"
            );
        }
        // Nor stricter than asked for: a group that may read should see the logs.
        if umask != "077" {
            let mode = fs::metadata(farm.path("w/logs/log_0"))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o666 & !others, "umask {umask}");
        }
    }
}

#[test]
fn a_workdir_that_others_may_write_is_refused_unless_it_is_meant() {
    for mode in [0o777, 0o775, 0o1777, 0o702] {
        let farm = Farm::of("touch started\n");
        farm.make_dir("w");
        fs::set_permissions(farm.path("w"), PermissionsExt::from_mode(mode)).unwrap();
        farm.farm("").run().exits(74).says(&["--shared-workdir"]);
        assert!(!farm.path("started").exists());
        assert_eq!(
            fs::read_dir(farm.path("w")).unwrap().count(),
            0,
            "nothing was written"
        );
        farm.farm("--shared-workdir").run().exits(0);
    }
}

#[test]
fn a_workdir_of_someone_else_is_refused_unless_it_is_meant() {
    if !is_root() {
        return skip("only root can give a directory away");
    }
    let farm = Farm::of("touch started\n");
    farm.make_dir("w");
    chown(farm.path("w"), Some(65534), Some(65534)).unwrap();
    farm.farm("").run().exits(74).says(&["--shared-workdir"]);
    assert!(!farm.path("started").exists());
    farm.farm("--shared-workdir").run().exits(0);
}

#[test]
fn a_link_in_the_place_of_a_file_is_not_followed() {
    for name in [
        "lock",
        "toprocess",
        "finished",
        "failed",
        "tasks",
        "nodes",
        "nodes/done",
        "timeline.json",
        "requeued",
        "logs",
    ] {
        eprintln!("{name}");
        let farm = Farm::of("echo a\nfalse\n");
        let is_dir = ["nodes", "nodes/done", "logs"].contains(&name);
        farm.make_dir("w");
        if is_dir {
            farm.make_dir("victim");
        } else {
            farm.write("victim", "precious\n");
        }
        let link = farm.path("w").join(name);
        farm.make_dir(link.parent().unwrap());
        symlink(farm.path("victim"), link).unwrap();
        let done = farm.farm("").run();
        if is_dir {
            assert_eq!(
                fs::read_dir(farm.path("victim")).unwrap().count(),
                0,
                "{name} was followed"
            );
        } else {
            assert_eq!(farm.text("victim"), "precious\n", "{name} was followed");
        }
        // What is replaced by renaming over it may heal; the others refuse.
        assert!(
            matches!(done.status.code(), Some(74 | 0 | 1)),
            "{name}: {:?}",
            done.status
        );
        if done.status.code() == Some(74) {
            assert!(done.stderr.contains(name), "names {name}");
        }
    }
}

#[test]
fn a_log_that_is_a_link_is_not_followed() {
    let farm = Farm::of("echo overwritten\n");
    farm.write("victim", "precious\n");
    farm.make_dir("w/logs");
    symlink(farm.path("victim"), farm.path("w/logs/log_0")).unwrap();
    farm.farm("").run();
    assert_eq!(farm.text("victim"), "precious\n");
}

#[test]
fn the_workdir_itself_may_be_reached_through_a_link() {
    // Scratch spaces are links in home directories more often than not.
    let farm = Farm::of("echo a\n");
    farm.make_dir("scratch");
    symlink(farm.path("scratch"), farm.path("w")).unwrap();
    farm.farm("").run().exits(0);
    assert_eq!(farm.text("scratch/finished"), "0 echo a\n");
}

#[test]
fn a_file_in_the_place_of_the_workdir_is_named() {
    let farm = Farm::of("true\n");
    farm.write("w", "");
    farm.farm("").run().exits(74).says(&["w", "directory"]);
}

#[test]
fn the_parents_of_a_workdir_must_exist() {
    let farm = Farm::of("true\n");
    let done = farm.pytf(["tasks.txt", "--workdir", "no/such/place"]).run();
    assert!(
        matches!(done.status.code(), Some(74 | 0)),
        "{:?}",
        done.status
    );
    if done.status.code() == Some(0) {
        assert!(farm.path("no/such/place/finished").exists());
    } else {
        assert!(done.stderr.contains("no/such"));
    }
}

#[test]
fn a_workdir_begins_only_in_a_folder_that_is_empty_or_of_a_farm() {
    for name in ["data.txt", "tasks", "requeued", "timeline.json", ".bashrc"] {
        let farm = Farm::of("touch started\n");
        farm.write(Path::new("w").join(name), "mine\n");
        farm.farm("").run().exits(74).says(&[name, "--workdir"]);
        assert_eq!(farm.text(Path::new("w").join(name)), "mine\n");
        assert_eq!(
            fs::read_dir(farm.path("w")).unwrap().count(),
            1,
            "nothing was made"
        );
        assert!(!farm.path("started").exists());
    }
    // What a start leaves that was killed before it had done anything is no obstacle.
    let farm = Farm::of("true\n");
    for name in ["lock", "finished", "tasks.1.0.1.new", "requeued"] {
        farm.write(Path::new("w").join(name), "");
    }
    farm.make_dir("w/nodes/done");
    farm.farm("").run().exits(0);
}

#[test]
fn a_list_is_never_a_file_of_a_workdir() {
    let farm = Farm::new();
    farm.write("own/tasks", "echo a\n");
    farm.pytf(["tasks", "-w", "."])
        .within(farm.path("own"))
        .run()
        .exits(74)
        .says(&["holds tasks", "--workdir"]);
    assert_eq!(farm.text("own/tasks"), "echo a\n", "the list is as it was");
    farm.write("tasks.txt", "echo a\nfalse\n");
    farm.farm("").run().exits(1);
    for name in ["failed", "toprocess", "tasks", "finished"] {
        for workdir in ["w", "other"] {
            let list = format!("w/{name}");
            let told = farm.pytf([&list, "-w", workdir]).run().exits(2);
            assert!(told.stderr.contains("pytf retry w"), "{}", told.stderr);
        }
    }
    farm.assert_exact(2, &[0], &[1]);
}

// Users and groups of the tests that follow: two of one group. They need no entry in
// any file of accounts.
const OWNER: u32 = 61_234;
const OTHER: u32 = 61_235;
const GROUP: u32 = 61_236;

/// A folder of `OWNER` that belongs to the whole group, as project spaces are: with the
/// set-group-ID bit, and with a list of tasks in it.
fn project(list: &str) -> (Farm, PathBuf) {
    let farm = Farm::new();
    let all = |path: &Path, mode| {
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    all(&farm.path(""), 0o755);
    farm.write("project/tasks.txt", list);
    let project = farm.path("project");
    for path in [&project, &project.join("tasks.txt")] {
        chown(path, Some(OWNER), Some(GROUP)).unwrap();
    }
    all(&project, 0o2775);
    (farm, project)
}

/// `pytf ARGS` in the project, as a user of the group.
fn as_user<'f>(farm: &'f Farm, user: u32, umask: &str, args: &str) -> Done<'f> {
    let (user, group) = (user.to_string(), GROUP.to_string());
    let shell = format!("umask {umask}; exec \"$@\"");
    let setpriv = [
        "setpriv",
        "--reuid",
        &user,
        "--regid",
        &group,
        "--clear-groups",
    ];
    farm.pytf(args.split_whitespace())
        .under([&setpriv[..], &["sh", "-c", &shell, "sh"]].concat())
        .within(farm.path("project"))
        .run()
}

/// Everything below a folder, and itself.
fn all_below(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            found.extend(all_below(&entry.unwrap().path()));
        }
    }
    found
}

/// Lets whatever is made in a folder be written by the group: a default ACL wins
/// over the umask. False where the file system has none.
fn set_default_acl(folder: &Path) -> bool {
    let script = format!(
        "import os, struct, sys\n\
         entries = [(1, 7, -1), (4, 7, -1), (8, 7, {GROUP}), (16, 7, -1), (32, 5, -1)]\n\
         acl = struct.pack('<I', 2) + b''.join(struct.pack('<HHi', *e) for e in entries)\n\
         os.setxattr(sys.argv[1], 'system.posix_acl_default', acl)"
    );
    let python = std::process::Command::new("python3")
        .args(["-c", &script])
        .arg(folder)
        .status();
    python.is_ok_and(|status| status.success())
}

#[test]
fn nobody_else_may_write_what_is_made_in_a_workdir() {
    if !is_root() {
        return skip("only root can be several users");
    }
    for (umask, has_acl) in [("002", false), ("000", false), ("022", true), ("002", true)] {
        let long = format!(": {}", "x".repeat(200_000));
        let (farm, project) = project(&format!("echo a\nfalse\n{long}\n"));
        if has_acl && !set_default_acl(&project) {
            return skip("no default ACL can be set here");
        }
        for logs in ["files", "packed", "failed"] {
            let args = format!("tasks.txt -w {logs} --logs {logs}");
            as_user(&farm, OWNER, umask, &args).exits(1);
            as_user(&farm, OWNER, umask, &format!("report {logs}")).exits(0);
            as_user(&farm, OWNER, umask, &format!("retry {logs}")).exits(0);
            for path in all_below(&project.join(logs)) {
                let stat = fs::metadata(&path).unwrap();
                let mode = stat.mode();
                assert_eq!(
                    mode & 0o022,
                    0,
                    "umask {umask}: {} has {mode:o}",
                    path.display()
                );
                assert_eq!(stat.uid(), OWNER);
            }
        }
        let path = project.join("files/scripts/task_2");
        assert!(path.exists(), "a script was made");
    }
}

/// One line of `toprocess`, edited in place by another user of the group, was run as
/// the owner, when only the folder's mode was looked at.
#[test]
fn what_others_could_have_written_is_refused_before_anything_runs() {
    if !is_root() {
        return skip("only root can be several users");
    }
    let (farm, project) = project("false\necho b\n");
    as_user(&farm, OWNER, "002", "tasks.txt -w w").exits(1);
    fs::write(project.join("tasks.txt"), "false\necho b\ntouch started\n").unwrap();
    for name in [
        "lock",
        "tasks",
        "toprocess",
        "finished",
        "failed",
        "requeued",
        "nodes",
        "nodes/done",
        "logs",
    ] {
        let path = project.join("w").join(name);
        let mode = fs::metadata(&path).unwrap().mode();
        fs::set_permissions(&path, PermissionsExt::from_mode(mode | 0o020)).unwrap();
        for args in ["tasks.txt -w w", "retry w", "repair w"] {
            let told = as_user(&farm, OWNER, "002", args).exits(74);
            let told = &told.stderr;
            assert!(
                told.contains(name) && told.contains("chmod -R go-w"),
                "{args}: {told}"
            );
        }
        assert!(!project.join("started").exists(), "{name}");
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        chown(&path, Some(OTHER), None).unwrap();
        as_user(&farm, OWNER, "002", "tasks.txt -w w")
            .exits(74)
            .says(&[name, "61235"]);
        chown(&path, Some(OWNER), None).unwrap();
    }
    as_user(&farm, OWNER, "002", "tasks.txt -w w").exits(1);
    assert!(project.join("started").exists(), "as it was, it goes on");
}

#[test]
fn a_group_works_on_a_shared_workdir_whatever_its_umasks() {
    if !is_root() {
        return skip("only root can be several users");
    }
    let (farm, project) = project("echo a\nfalse\n");
    let w = project.join("w");
    fs::create_dir(&w).unwrap();
    chown(&w, Some(OWNER), Some(GROUP)).unwrap();
    fs::set_permissions(&w, PermissionsExt::from_mode(0o2775)).unwrap();
    let args = "tasks.txt -w w --shared-workdir";
    as_user(&farm, OWNER, "022", args).exits(1);
    fs::write(project.join("tasks.txt"), "echo a\nfalse\necho b\n").unwrap();
    as_user(&farm, OTHER, "077", args).exits(1);
    as_user(&farm, OTHER, "022", "retry w").exits(0);
    as_user(&farm, OWNER, "022", args).exits(1);
    let finished = fs::read_to_string(w.join("finished")).unwrap();
    assert_eq!(finished, "0 echo a\n2 echo b\n");
    as_user(&farm, OWNER, "022", "tasks.txt -w w")
        .exits(74)
        .says(&["--shared-workdir"]);
}

#[test]
fn what_root_does_to_a_workdir_stays_its_owners() {
    if !is_root() {
        return skip("only root can be several users");
    }
    let (farm, project) = project("echo a\nfalse\n");
    as_user(&farm, OWNER, "022", "tasks.txt -w w").exits(1);
    for args in [
        "retry w",
        "repair w",
        "tasks.txt -w w --shared-workdir",
        "retry w",
        "report w",
        "timeline w",
        "tasks.txt -w w --shared-workdir --logs packed",
    ] {
        farm.pytf(args.split_whitespace())
            .within(project.clone())
            .run();
        for path in all_below(&project.join("w")) {
            let stat = fs::symlink_metadata(&path).unwrap();
            assert_eq!(stat.uid(), OWNER, "after {args}: {}", path.display());
        }
        as_user(&farm, OWNER, "022", "tasks.txt -w w").exits(1);
    }
}
