//! Whose workdir it is, and what may lie in it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use crate::harness::{Farm, is_root, skip};

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
        fs::create_dir(farm.path("w")).unwrap();
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
    fs::create_dir(farm.path("w")).unwrap();
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
        fs::create_dir_all(farm.path("w")).unwrap();
        if is_dir {
            fs::create_dir(farm.path("victim")).unwrap();
        } else {
            farm.write("victim", "precious\n");
        }
        let link = farm.path("w").join(name);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
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
    fs::create_dir_all(farm.path("w/logs")).unwrap();
    symlink(farm.path("victim"), farm.path("w/logs/log_0")).unwrap();
    farm.farm("").run();
    assert_eq!(farm.text("victim"), "precious\n");
}

#[test]
fn the_workdir_itself_may_be_reached_through_a_link() {
    // Scratch spaces are links in home directories more often than not.
    let farm = Farm::of("echo a\n");
    fs::create_dir(farm.path("scratch")).unwrap();
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
fn an_existing_directory_of_other_things_keeps_them() {
    let farm = Farm::of("true\n");
    farm.write("w/data.txt", "mine\n");
    farm.farm("").run().exits(0);
    assert_eq!(farm.text("w/data.txt"), "mine\n");
    assert_eq!(fs::metadata(farm.path("w/data.txt")).unwrap().nlink(), 1);
}
