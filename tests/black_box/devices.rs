//! Each task on its GPUs and its CPUs: what real processes see, with a double of
//! NVIDIA's library (`fake_nvml.c`) and with none.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

use crate::doubles;
use crate::harness::{Farm, Pytf, has, skip, tasks, until};

/// The double, built once; none where there is no compiler.
fn nvml() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| doubles::build("fake_nvml")).as_deref()
}

/// A node with so many GPUs; what they say is in the folder `gpus`.
pub(crate) struct Node {
    pub(crate) farm: Farm,
}

impl Node {
    pub(crate) fn of(gpus: u32, list: impl AsRef<[u8]>) -> Self {
        let node = Self {
            farm: Farm::of(list),
        };
        node.say("count", gpus);
        for gpu in 0..gpus {
            node.say(&format!("load{gpu}"), 0);
            node.say(&format!("memory{gpu}"), 0);
        }
        node.farm.write("sys/devices/system/cpu/online", "0-1\n");
        node
    }

    pub(crate) fn say(&self, what: &str, value: u32) {
        // Whoever reads it meanwhile sees the old or the new value.
        self.farm.write("gpus.new", value.to_string());
        std::fs::create_dir_all(self.farm.path("gpus")).unwrap();
        std::fs::rename(
            self.farm.path("gpus.new"),
            self.farm.path("gpus").join(what),
        )
        .unwrap();
    }

    fn on<'f>(&'f self, pytf: Pytf<'f>) -> Pytf<'f> {
        let library = nvml().map_or("/nonexistent".as_ref(), Path::as_os_str);
        pytf.env("PYTF_TEST_NVML", library)
            .env("PYTF_TEST_SYSFS", self.farm.path("sys"))
            .env("FAKE_NVML", self.farm.path("gpus"))
    }

    pub(crate) fn run(&self, args: &str) -> Pytf<'_> {
        let line = format!("tasks.txt --workdir w {args}");
        self.on(self.farm.pytf(line.split_whitespace()))
    }

    /// What a variable was in the environment of each task.
    pub(crate) fn seen(&self, name: &str, count: usize) -> Vec<Option<String>> {
        let task = |id| {
            let env = self.farm.text(format!("w/logs/log_{id}"));
            let mut lines = env.lines().filter_map(|line| line.split_once('='));
            lines
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.to_owned())
        };
        (0..count).map(task).collect()
    }
}

pub(crate) fn uuid(gpu: usize) -> String {
    format!("GPU-{gpu}0000000-fake")
}

pub(crate) fn is_there() -> bool {
    if nvml().is_none() {
        skip("there is no compiler for the double of NVML");
    }
    nvml().is_some()
}

#[test]
fn each_task_sees_the_gpu_of_its_slot_alone() {
    if !is_there() {
        return;
    }
    let node = Node::of(8, "");
    let gate = node.farm.gate("gate");
    let line = |_| format!("env; {}; {}", gate.tell("$PYTF_SLOT"), gate.pass());
    node.farm.write("tasks.txt", tasks(8, line));
    let pytf = node
        .run("--gpus-per-task 1")
        .env("ROCR_VISIBLE_DEVICES", "7")
        .start();
    let slots: BTreeSet<String> = (0..8).map(|_| gate.hear()).collect();
    assert_eq!(slots.len(), 8, "all eight run at a time");
    gate.open(8);
    pytf.wait().exits(0);
    let gpus: BTreeSet<_> = node
        .seen("CUDA_VISIBLE_DEVICES", 8)
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(gpus, (0..8).map(uuid).collect(), "each GPU once");
    assert_eq!(
        node.seen("PYTF_GPUS", 8),
        node.seen("CUDA_VISIBLE_DEVICES", 8)
    );
    assert_eq!(
        node.seen("CUDA_DEVICE_ORDER", 1),
        [Some("PCI_BUS_ID".to_owned())]
    );
    assert_eq!(node.seen("ROCR_VISIBLE_DEVICES", 1), [None]);
    for (id, slot) in node.seen("PYTF_SLOT", 8).into_iter().enumerate() {
        let slot: usize = slot.unwrap().parse().unwrap();
        assert_eq!(node.seen("PYTF_GPUS", 8)[id], Some(uuid(slot)));
    }
}

#[test]
fn what_was_given_is_handed_on_letter_by_letter() {
    for (given, args, expected) in [
        ("3,1", "--gpus-per-task 1", &["3", "1"][..]),
        (
            "GPU-3f,MIG-GPU-a/1/0",
            "--gpus-per-task 1",
            &["GPU-3f", "MIG-GPU-a/1/0"],
        ),
        ("0,1,2,3", "--gpus-per-task 2", &["0,1", "2,3"]),
        ("2", "--tasks-per-gpu 2", &["2", "2"]),
        ("5,6", "--gpus 6 --proc 2", &["6", "6"]),
        ("0,1,-1,2", "--gpus all", &["0", "1"]),
    ] {
        let node = Node::of(0, "");
        let gate = node.farm.gate("gate");
        let line = |_| format!("env; {}", gate.stand());
        node.farm
            .write("tasks.txt", tasks(expected.len() as u64, line));
        let pytf = node.run(args).env("CUDA_VISIBLE_DEVICES", given).start();
        gate.comers(expected.len());
        gate.open(expected.len());
        pytf.wait().exits(0);
        let mut seen: Vec<_> = node.seen("CUDA_VISIBLE_DEVICES", expected.len());
        let mut expected: Vec<_> = expected
            .iter()
            .map(|gpus| Some((*gpus).to_owned()))
            .collect();
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected, "{given} {args}");
    }
}

#[test]
fn parts_of_a_gpu_are_gpus() {
    if !is_there() {
        return;
    }
    let node = Node::of(2, "env\n");
    node.say("mig0", 2);
    node.run("--gpus MIG-01").run().exits(0);
    assert_eq!(
        node.seen("CUDA_VISIBLE_DEVICES", 1),
        [Some("MIG-01000000-fake".to_owned())]
    );
    let devices = node
        .on(node.farm.pytf(["devices", "--gpus", "all", "--json"]))
        .run()
        .exits(0);
    let seen: Value = serde_json::from_slice(&devices.stdout).unwrap();
    let slots: Vec<&str> = (0..3)
        .map(|n| seen["slots"][n]["gpus"][0].as_str().unwrap())
        .collect();
    assert_eq!(slots, ["MIG-00000000-fake", "MIG-01000000-fake", &uuid(1)]);
    assert_eq!(seen["seen_by"], "NVML");
    // A part's load cannot be measured, and its memory can.
    assert_eq!(seen["gpus"][1]["load"], 0.0);
}

#[test]
fn amds_are_told_by_rocms_variable_alone() {
    let node = Node::of(0, "env\n");
    let nodes = "sys/class/kfd/kfd/topology/nodes";
    for (number, place) in [(1, 256), (2, 512)] {
        let text = format!("simd_count 440\nlocation_id {place}\n");
        node.farm
            .write(format!("{nodes}/{number}/properties"), text);
    }
    let pytf = node.run("--gpus 1").env("CUDA_VISIBLE_DEVICES", "0,1");
    pytf.env("HIP_VISIBLE_DEVICES", "0,1")
        .env("ROCR_VISIBLE_DEVICES", "0,1")
        .run()
        .exits(0);
    assert_eq!(node.seen("ROCR_VISIBLE_DEVICES", 1), [Some("1".to_owned())]);
    for other in [
        "CUDA_VISIBLE_DEVICES",
        "HIP_VISIBLE_DEVICES",
        "CUDA_DEVICE_ORDER",
    ] {
        assert_eq!(node.seen(other, 1), [None], "{other}");
    }
}

#[test]
fn cpus_are_near_the_gpu() {
    let cpus = cpus();
    if cpus.len() < 2 || !is_there() {
        return skip("it needs two CPUs and a compiler");
    }
    let node = Node::of(2, "");
    for (bus, cpu) in [(10, cpus[1]), (11, cpus[0])] {
        let pci = format!("sys/bus/pci/devices/0000:{bus}:00.0");
        node.farm
            .write(format!("{pci}/local_cpulist"), format!("{cpu}\n"));
    }
    let gate = node.farm.gate("gate");
    let show = "env; grep Cpus_allowed_list /proc/self/status";
    node.farm.write(
        "tasks.txt",
        tasks(2, |_| format!("{show}; {}", gate.stand())),
    );
    let pytf = node.run("--gpus-per-task 1 --cpus-per-task 1").start();
    gate.comers(2);
    gate.open(2);
    pytf.wait().exits(0);
    for (gpu, (cpu, _)) in node.seen("PYTF_GPUS", 2).into_iter().zip(bound(&node, 2)) {
        let near = if gpu == Some(uuid(0)) {
            cpus[1]
        } else {
            cpus[0]
        };
        assert_eq!(cpu, near.to_string(), "{gpu:?}");
    }
}

#[test]
fn no_gpus_is_no_noise() {
    let node = Node::of(0, "env\n");
    node.farm.write("gpus/no_driver", "1");
    let done = node
        .run("--proc 1")
        .env("CUDA_VISIBLE_DEVICES", "x")
        .run()
        .exits(0);
    assert!(!done.stderr.contains("GPU"), "{}", done.stderr);
    assert_eq!(
        node.seen("CUDA_VISIBLE_DEVICES", 1),
        [Some("x".to_owned())],
        "untouched"
    );
    assert_eq!(node.seen("PYTF_GPUS", 1), [None]);
    node.run("--gpus-per-task 1")
        .run()
        .exits(2)
        .says(&["there is no GPU here"]);
    node.run("--gpus 4")
        .env("CUDA_VISIBLE_DEVICES", "0")
        .run()
        .exits(2)
        .says(&["4 is not among the GPUs"]);
    let devices = node.on(node.farm.pytf(["devices"])).run().exits(0);
    devices.says(&["no GPU", "CPU", "slot"]);
}

#[test]
fn tasks_that_want_none_see_none() {
    let node = Node::of(0, "env\n");
    node.run("--gpus-per-task 0 --proc 1")
        .env("CUDA_VISIBLE_DEVICES", "0")
        .run()
        .exits(0);
    assert_eq!(node.seen("CUDA_VISIBLE_DEVICES", 1), [Some(String::new())]);
    assert_eq!(node.seen("ROCR_VISIBLE_DEVICES", 1), [Some(String::new())]);
    // A job that was given none on a node that has some: they are others'.
    let node = Node::of(0, "env\n");
    node.farm
        .write("sys/bus/pci/devices/0000:3b:00.0/class", "0x030200\n");
    let driver = node.farm.path("sys/bus/pci/devices/0000:3b:00.0/driver");
    std::os::unix::fs::symlink("../../drivers/nvidia", driver).unwrap();
    let job = |args: &str| node.run(args).env("SLURM_JOB_ID", "7");
    job("--proc 1")
        .run()
        .exits(0)
        .says(&["this job has no GPU", "--gpus none"]);
    assert_eq!(node.seen("CUDA_VISIBLE_DEVICES", 1), [Some(String::new())]);
    std::fs::remove_dir_all(node.farm.path("w")).unwrap();
    job("--proc 1 --gpus none").run().exits(0);
    assert_eq!(node.seen("CUDA_VISIBLE_DEVICES", 1), [None]);
}

#[test]
fn processes_of_a_node_share_its_gpus() {
    let node = Node::of(0, "");
    let gate = node.farm.gate("gate");
    let line = |_| format!("env; {}", gate.stand());
    node.farm.write("tasks.txt", tasks(4, line));
    let rank = |rank: &str| {
        node.run("--gpus-per-task 1")
            .env("CUDA_VISIBLE_DEVICES", "0,1,2,3")
            .env("OMPI_COMM_WORLD_RANK", rank)
            .env("OMPI_COMM_WORLD_SIZE", "2")
            .env("OMPI_COMM_WORLD_LOCAL_RANK", rank)
            .env("OMPI_COMM_WORLD_LOCAL_SIZE", "2")
            .start()
    };
    let both = [rank("0"), rank("1")];
    gate.comers(4);
    gate.open(4);
    for pytf in both {
        pytf.wait().leaves(0);
    }
    let gpus: BTreeSet<_> = node
        .seen("CUDA_VISIBLE_DEVICES", 4)
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(
        gpus.len(),
        4,
        "four tasks at a time, and no GPU twice: {gpus:?}"
    );
    for header in node.farm.headers() {
        assert_eq!(header["slots"], 2, "each has half of them: {header}");
    }
}

#[test]
fn a_process_without_a_share_leaves_it_to_the_others() {
    let node = Node::of(0, "true\n");
    node.run("--gpus-per-task 1")
        .env("CUDA_VISIBLE_DEVICES", "0")
        .env("OMPI_COMM_WORLD_RANK", "1")
        .env("OMPI_COMM_WORLD_SIZE", "2")
        .env("OMPI_COMM_WORLD_LOCAL_RANK", "1")
        .env("OMPI_COMM_WORLD_LOCAL_SIZE", "2")
        .run()
        .exits(0)
        .says(&[
            "process 1 of the 2 on this node, counted from 0, has no slot",
            "--tasks-per-gpu",
        ]);
    assert!(!node.farm.path("w").exists(), "it has not even joined");
}

#[test]
fn a_gpu_that_others_use_is_waited_for() {
    if !is_there() {
        return;
    }
    let node = Node::of(2, "echo here\n");
    node.say("load0", 80);
    node.say("memory1", 50);
    let pytf = node
        .run("--gpus all --gpu-max-load 10% --gpu-max-memory 0.1")
        .start();
    let says = |word: &str| until(word, || pytf.stderr().contains(word));
    says("its load is 80%, above 10%");
    says("50% of its memory is in use, above 10%");
    assert!(node.farm.ends().is_empty(), "nothing has run");
    let before = pytf.stderr().matches("waits for GPU").count();
    node.say("memory1", 0);
    pytf.wait().exits(0);
    assert_eq!(before, 2, "each slot says it once");
    assert_eq!(
        node.farm.ends()[0]["slot"],
        1,
        "the other GPU is busy still"
    );
}

#[test]
fn the_memory_of_a_gpu_in_use_is_limited_as_the_help_says() {
    let farm = Farm::new();
    let help = farm.pytf(["--help"]).run().exits(0);
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, help) = help.split_once("--gpu-max-memory <PART>").unwrap();
    let (help, _) = help.split_once("\n\n").unwrap();
    let bound = ["memory use or less", "memory in use is at most"];
    assert!(bound.iter().any(|words| help.contains(words)), "{help}");
    if !is_there() {
        return;
    }
    // As much as that is no reason to wait; more is, and it is told.
    let node = Node::of(1, "true\n");
    node.say("memory0", 20);
    let limited = || node.run("--gpus all --gpu-max-memory 20%");
    let done = limited().run().exits(0);
    assert!(!done.stderr.contains("waits for GPU"), "{}", done.stderr);
    let node = Node::of(1, "true\n");
    node.say("memory0", 21);
    let pytf = node.run("--gpus all --gpu-max-memory 20%").start();
    until("it waits", || pytf.stderr().contains("waits for GPU"));
    let told = pytf.stderr();
    node.say("memory0", 20);
    pytf.wait().exits(0);
    assert!(
        told.contains("21% of its memory is in use, above 20%"),
        "{told}"
    );
}

#[test]
fn a_load_that_cannot_be_measured_keeps_nobody_waiting() {
    if !is_there() {
        return;
    }
    let node = Node::of(1, "true\n");
    for what in ["load0", "memory0"] {
        std::fs::remove_file(node.farm.path("gpus").join(what)).unwrap();
    }
    let done = node.run("--gpus all --gpu-max-load 0.1").run().exits(0);
    done.says(&["cannot be measured"]);
}

#[test]
fn a_library_that_hangs_does_not_hang_the_farm() {
    if !is_there() {
        return;
    }
    let node = Node::of(1, "true\n");
    node.say("hang", 1);
    let done = node.run("--gpus all --gpu-max-load 0.1").run().exits(0);
    done.says(&["have not answered"]);
    assert_eq!(node.farm.ids("finished"), [0]);
}

#[test]
fn slots_of_a_lost_gpu_are_out_of_service_but_never_the_last() {
    if !is_there() {
        return;
    }
    let node = Node::of(3, "");
    let gate = node.farm.gate("gate");
    let line = |_| format!("{}; {}", gate.tell("$PYTF_SLOT"), gate.pass());
    node.farm.write("tasks.txt", tasks(9, line));
    let pytf = node.run("--gpus-per-task 1").start();
    let says = |word: &str| until(word, || pytf.stderr().contains(word));
    (0..3).for_each(|_| drop(gate.hear()));
    node.say("lost0", 1);
    node.say("xid1", 79);
    says("GPU GPU-00000000-fake is lost");
    says("Xid 79; out of service: slot");
    gate.open(3);
    assert_eq!(gate.hear(), "2");
    node.say("lost2", 1);
    says("slot 2 stays in service, since it is the last one");
    (0..5).for_each(|_| {
        gate.open(1);
        gate.hear();
    });
    gate.open(1);
    pytf.wait().exits(0);
    assert_eq!(node.farm.ids("finished").len(), 9);
    assert!(node.farm.ends()[3..].iter().any(|end| end["slot"] == 2));
}

/// Two tasks on a GPU each, which end when the GPUs were measured.
fn run_until_measured(node: &Node) {
    let gate = node.farm.gate("gate");
    node.farm.write("tasks.txt", tasks(2, |_| gate.stand()));
    let pytf = node.run("--gpus-per-task 1").start();
    gate.comers(2);
    let journal = node.farm.journal(&node.farm.farmers().remove(0));
    let is_measured = || node.farm.text(&journal).contains("\"event\":\"gpus\"");
    until("the GPUs are measured", is_measured);
    gate.open(2);
    pytf.wait().exits(0);
}

#[test]
fn journal_and_timeline_name_the_gpus() {
    if !is_there() {
        return;
    }
    let node = Node::of(2, "");
    node.say("load1", 37);
    run_until_measured(&node);
    let header = node.farm.headers().remove(0);
    assert_eq!(header["devices"][1]["gpus"][0], uuid(1));
    let trace = crate::timeline::trace(&node.farm.bytes("w/timeline.json"));
    let events = trace["traceEvents"].as_array().unwrap();
    let named = |event: &&Value| event["ph"] == "X";
    for event in events.iter().filter(named) {
        let slot = event["args"]["slot"].as_u64().unwrap();
        assert_eq!(event["args"]["gpus"], uuid(usize::try_from(slot).unwrap()));
    }
    let is_load = |event: &&Value| event["name"] == format!("GPU {} load", uuid(1));
    let load = events.iter().find(is_load).expect("a counter");
    assert_eq!(
        (&load["ph"], &load["args"]["percent"]),
        (&"C".into(), &37.into())
    );
    let is_row = |event: &&Value| event["name"] == "thread_name";
    let rows = events
        .iter()
        .filter(is_row)
        .map(|event| event["args"]["name"].to_string());
    assert!(rows.into_iter().all(|name| name.contains("(GPU-")));
}

#[test]
fn status_and_report_tell_how_busy_gpus_were() {
    if !is_there() {
        return;
    }
    let node = Node::of(2, "");
    node.say("load1", 37);
    node.say("memory1", 20);
    run_until_measured(&node);
    let status = |args: &str| {
        node.farm
            .pytf(format!("status w {args}").split_whitespace())
    };
    let done = status("--json").run().exits(0);
    let seen: Value = serde_json::from_slice(&done.stdout).unwrap();
    let gpus = seen["gpus"].as_array().unwrap();
    assert_eq!(gpus.len(), 2, "{gpus:?}");
    for (number, gpu) in gpus.iter().enumerate() {
        assert_eq!(
            (&gpu["gpu"], &gpu["tasks"]),
            (&uuid(number).into(), &1.into())
        );
        assert_eq!(gpu["node"], seen["nodes"][0]["node"]);
    }
    assert_eq!(gpus[0]["load"], 0.0);
    assert_eq!(gpus[1]["load"], 0.37);
    let most = gpus[1]["memory_max"].as_f64().unwrap();
    assert!((0.19..0.22).contains(&most), "{most}");
    let screen = String::from_utf8(status("").run().exits(0).stdout).unwrap();
    assert!(screen.contains("  2 GPUs, "), "{screen}");
    let page = node.farm.pytf(["report", "w", "-o", "-"]).run().exits(0);
    let page = String::from_utf8(page.stdout).unwrap();
    assert!(page.contains("<section id=\"gpus\">"));
    assert_eq!(
        page.matches(&format!("<code>{}</code>", uuid(1))).count(),
        1
    );
}

#[test]
fn nvidia_smi_is_asked_where_no_library_can_be_loaded() {
    let node = Node::of(0, "env\n");
    program(
        &node,
        "nvidia-smi",
        "case \"$*\" in\n\
         *memory.used*) echo 'GPU-s, 12, 10, 100' ;;\n\
         -L) ;;\n\
         *) echo '0, GPU-s, 00000000:3B:00.0, Small, 100, [N/A]' ;;\n\
         esac",
    );
    let path = path(&node);
    let line = ["devices", "--gpus", "all"];
    let done = node
        .on(node.farm.pytf(line))
        .env("PYTF_TEST_NVML", "/nonexistent")
        .env("PATH", &path)
        .run()
        .exits(0);
    done.says(&["through nvidia-smi", "GPU-s", "load 12%", "0000:3b:00.0"]);
    node.run("--gpus 0 --gpu-max-load 0.5")
        .env("PYTF_TEST_NVML", "/nonexistent")
        .env("PATH", &path)
        .run()
        .exits(0);
    assert_eq!(
        node.seen("CUDA_VISIBLE_DEVICES", 1),
        [Some("GPU-s".to_owned())]
    );
}

fn program(node: &Node, name: &str, script: &str) {
    node.farm
        .write(format!("bin/{name}"), format!("#!/bin/sh\n{script}\n"));
    let file = node.farm.path("bin").join(name);
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o755)).unwrap();
}

fn path(node: &Node) -> String {
    let path = std::env::var("PATH").unwrap();
    format!("{}:{path}", node.farm.path("bin").display())
}

#[test]
fn mps_runs_while_the_farm_runs() {
    let node = Node::of(0, "env\n");
    let run = |path: &str| {
        let pytf = node.run("--tasks-per-gpu 2 --mps");
        pytf.env("CUDA_VISIBLE_DEVICES", "0")
            .env("PATH", path)
            .run()
    };
    if !has("nvidia-cuda-mps-control") {
        let plain = std::env::var("PATH").unwrap();
        run(&plain)
            .exits(2)
            .says(&["--mps needs the program nvidia-cuda-mps-control"]);
        std::fs::remove_dir_all(node.farm.path("w")).unwrap();
    }
    program(
        &node,
        "nvidia-cuda-mps-control",
        "if [ \"$1\" = -d ]; then\n\
           echo \"start ${CUDA_VISIBLE_DEVICES-unset}\" >> ../mps.log\n\
           mkfifo $CUDA_MPS_PIPE_DIRECTORY/control\n\
           (read word < $CUDA_MPS_PIPE_DIRECTORY/control; echo \"daemon $word\" >> ../mps.log) &\n\
         else\n\
           read word; echo $word > $CUDA_MPS_PIPE_DIRECTORY/control; echo \"told $word\" >> ../mps.log\n\
         fi"
        .replace("../mps.log", &node.farm.path("mps.log").display().to_string())
        .as_str(),
    );
    run(&path(&node)).leaves(0);
    let log = || node.farm.text("mps.log");
    until("the daemon has ended", || log().contains("daemon quit"));
    assert!(
        log().starts_with("start unset\n") && log().contains("told quit\n"),
        "{}",
        log()
    );
    let pipes = node.seen("CUDA_MPS_PIPE_DIRECTORY", 1).remove(0).unwrap();
    assert!(
        pipes.contains("pytf-mps") && !Path::new(&pipes).exists(),
        "{pipes}"
    );
}

/// The CPUs that this test may run on.
fn cpus() -> Vec<usize> {
    let all = pytf::host::cpus::allowed();
    all.into_iter().collect()
}

/// The CPUs that each task has found, and how many threads it was told to use.
fn bound(node: &Node, count: usize) -> Vec<(String, Option<String>)> {
    let task = |id| {
        let text = node.farm.text(format!("w/logs/log_{id}"));
        let list = text
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        list.unwrap_or_else(|| panic!("{text}")).trim().to_owned()
    };
    let threads = node.seen("OMP_NUM_THREADS", count);
    (0..count).map(task).zip(threads).collect()
}

#[test]
fn each_slot_has_its_own_cpus() {
    let cpus = cpus();
    if cpus.len() < 2 {
        return skip("one CPU cannot be divided");
    }
    let list = |n: usize| cpus[n].to_string();
    let show = "env; grep Cpus_allowed_list /proc/self/status";
    let unbound = pytf::model::devices::cores::show_list(&cpus);
    for (args, expected) in [
        (
            "--proc 2 --cpus-per-task 1",
            vec![
                (list(0), Some("1".to_owned())),
                (list(1), Some("1".to_owned())),
            ],
        ),
        ("--proc 1", vec![(unbound.clone(), None)]),
        (
            "--proc 1 --cpus-per-task 1 --bind none",
            vec![(unbound.clone(), Some("1".to_owned()))],
        ),
        ("--proc 1 --bind numa", vec![(unbound.clone(), None)]),
    ] {
        let node = Node::of(0, "");
        node.farm
            .write("sys/devices/system/cpu/online", format!("{unbound}\n"));
        let gate = node.farm.gate("gate");
        let line = |_| format!("{show}; {}", gate.stand());
        node.farm
            .write("tasks.txt", tasks(expected.len() as u64, line));
        let pytf = node.run(args).start();
        gate.comers(expected.len());
        gate.open(expected.len());
        pytf.wait().exits(0);
        let mut seen = bound(&node, expected.len());
        seen.sort();
        assert_eq!(seen, expected, "{args}");
    }
    let node = Node::of(0, show);
    node.farm
        .write("sys/devices/system/cpu/online", format!("{unbound}\n"));
    let many = format!("--proc 2 --cpus-per-task {}", cpus.len());
    let done = node.run(&many).env("OMP_NUM_THREADS", "9").run().exits(0);
    done.says(&["tasks are not bound to CPUs"]);
    assert_eq!(
        bound(&node, 1),
        [(unbound, Some("9".to_owned()))],
        "what is set stays"
    );
    node.run(&format!("{many} --bind core"))
        .run()
        .exits(2)
        .says(&["--proc 1", "--bind none"]);
}

#[test]
fn a_step_with_cpus_of_its_own_is_bound() {
    let cpus = cpus();
    if cpus.len() < 2 {
        return skip("one CPU cannot be divided");
    }
    let show = "grep Cpus_allowed_list /proc/self/status";
    let list = pytf::model::devices::cores::show_list(&cpus);
    for (counted, is_bound) in [(cpus.len(), true), (1, false)] {
        let node = Node::of(0, tasks(1, |_| show.to_owned()));
        node.farm
            .write("sys/devices/system/cpu/online", format!("{list}\n"));
        let pytf = node
            .run(&format!("--proc {}", cpus.len()))
            .env("SLURM_JOB_ID", "7")
            .env("SLURM_STEP_ID", "0")
            .env("SLURM_PROCID", "0")
            .env("SLURM_CPUS_ON_NODE", counted.to_string());
        pytf.run().exits(0);
        assert_eq!(bound(&node, 1)[0].0 != list, is_bound);
    }
}
