//! In an allocation: who we are, how many slots, when it ends. The schedulers'
//! programs are scripts of ours on the PATH; the variables are recorded ones.

use std::fs::{Permissions, set_permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use crate::doubles;
use crate::harness::{Farm, Pytf, Running, skip, state, until};

/// Slurm 22.05: the only rank of a step.
const STEP: &str = "SLURM_JOB_ID=103 SLURM_ARRAY_JOB_ID=100 SLURM_ARRAY_TASK_ID=3 SLURM_STEP_ID=0 \
    SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_STEP_NUM_TASKS=1 SLURM_STEP_NUM_NODES=1 \
    SLURM_STEP_TASKS_PER_NODE=1 SLURM_NTASKS=1 SLURM_CPUS_ON_NODE=1 SLURM_RESTART_COUNT=2 \
    PMI_RANK=0 PMIX_RANK=0";

/// OpenPBS: a job's script.
const PBS: &str = "PBS_ENVIRONMENT=PBS_BATCH PBS_JOBID=9.pbs0 PBS_NODENUM=0 PBS_TASKNUM=1 NCPUS=1";

/// TORQUE: a job's script, as its documentation has it.
const TORQUE: &str = "PBS_ENVIRONMENT=PBS_BATCH PBS_JOBID=9.torque PBS_NODENUM=0 PBS_VNODENUM=0 \
    PBS_TASKNUM=1 PBS_NUM_NODES=1 PBS_NUM_PPN=1";

/// A program that never answers, and tells its process id.
const SILENT: &str = "echo $$ > asked; sleep 1000; echo 30:00 NONE";

/// Sets variables, `NAME=VALUE` between blanks.
fn within<'f>(pytf: Pytf<'f>, vars: &str) -> Pytf<'f> {
    vars.split_whitespace().fold(pytf, |pytf, var| {
        let (name, value) = var.split_once('=').unwrap();
        pytf.env(name, value)
    })
}

/// Puts a program into the farm's `bin`, which is first in the PATH.
fn program(farm: &Farm, name: &str, script: &str) {
    let path = format!("bin/{name}");
    farm.write(&path, format!("#!/bin/sh\n{script}\n"));
    set_permissions(farm.path(&path), Permissions::from_mode(0o755)).unwrap();
}

fn asking<'f>(farm: &'f Farm, args: &str, vars: &str) -> Pytf<'f> {
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", farm.path("bin").display());
    within(farm.farm(args), vars).env("PATH", path)
}

fn header(farm: &Farm) -> Value {
    let journal = farm.text(farm.journal(&farm.farmers()[0]));
    serde_json::from_str(journal.lines().next().unwrap()).unwrap()
}

#[test]
fn the_journal_tells_job_element_step_rank_and_restart() {
    let farm = Farm::of("true\n");
    within(farm.farm(""), STEP).run().exits(0);
    let header = header(&farm);
    assert_eq!(header["job"], "100_3");
    assert_eq!(header["step"], "0");
    assert_eq!(header["rank"], 0);
    assert_eq!(header["restart"], 2);
    assert!(farm.farmers()[0].contains(".100_3."));
}

#[test]
fn slots_are_what_the_scheduler_gave_and_more_are_told_with_the_cure() {
    let farm = Farm::of("true\n");
    // Without --proc: one CPU of the step, however many the machine has.
    let args = ["tasks.txt", "--workdir", "w"];
    within(farm.pytf(args), STEP).run().exits(0);
    assert_eq!(header(&farm)["slots"], 1);
    let farm = Farm::of("true\n");
    within(farm.farm("--proc 4"), STEP)
        .run()
        .exits(0)
        .says(&["4 slots for 1 CPU", "srun -c 4 pytf"]);
    let farm = Farm::of("true\n");
    let ranks = "PMI_RANK=0 PMI_SIZE=512 MPI_LOCALRANKID=0 MPI_LOCALNRANKS=512";
    within(farm.farm("--proc 4"), ranks)
        .run()
        .exits(0)
        .says(&["512 processes of pytf share", "--proc 1"]);
    // Another of them says nothing.
    let farm = Farm::of("true\n");
    let ranks = ranks
        .replace("RANKID=0", "RANKID=7")
        .replace("PMI_RANK=0", "PMI_RANK=7");
    let done = within(farm.farm("--proc 4"), &ranks).run().exits(0);
    assert!(!done.stderr.contains("share"), "{}", done.stderr);
}

#[test]
fn bare_in_the_script_of_many_nodes_it_works_and_says_what_was_probably_meant() {
    let farm = Farm::of("true\nfalse\n");
    let script = "SLURM_JOB_ID=2 SLURM_JOB_NUM_NODES=4 SLURM_PROCID=0 SLURM_NTASKS=4";
    within(farm.farm("--no-walltime"), script)
        .run()
        .exits(1)
        .says(&["the job has 4 nodes", "srun pytf"]);
    farm.assert_exact(2, &[0], &[1]);
    let farm = Farm::of("true\n");
    farm.write("nodes", "node1\nnode2\nnode3\n");
    within(farm.farm("--no-walltime"), PBS)
        .env("PBS_NODEFILE", farm.path("nodes"))
        .run()
        .exits(0)
        .says(&["the job has 3 nodes", "pbsdsh"]);
}

#[test]
fn what_cannot_end_in_time_is_not_started() {
    let farm = Farm::of("true\ntrue\ntrue\n");
    farm.farm("--walltime 30m --task-estimate 1h")
        .run()
        .exits(75)
        .says(&[
            "3 of 3 tasks are left: stopped by the end of the allocation",
            "3 tasks not started: ",
            "tasks like them take 1h00m",
        ]);
    farm.assert_exact(3, &[], &[]);
    assert!(farm.ends().is_empty(), "nothing ran");
    assert!(farm.path("w/timeline.json").exists());
    // The same line again, with enough time.
    farm.farm("--walltime 3h --task-estimate 1h").run().exits(0);
    farm.assert_exact(3, &[0, 1, 2], &[]);
}

#[test]
fn at_the_end_of_the_allocation_the_rest_is_stopped_and_waits_again() {
    let farm = Farm::of("true\nsleep 1000\nsleep 1000\nsleep 1000\n");
    // The tasks that run show that another would not end in time.
    farm.farm("--walltime 6s --grace 1s")
        .run()
        .exits(75)
        .says(&["stopped by the end of the allocation"]);
    farm.assert_exact(4, &[0], &[]);
    assert_eq!(farm.outcomes()[&1], "interrupted");
    assert!(farm.path("w/timeline.json").exists());
}

/// Shell: a scheduler's program does not answer before the first task runs.
const WAIT: &str = "read x < answer.go";

/// Lets a farm whose first task stands at a gate ask its scheduler: it hears
/// that half an hour is left, and that is too little for any other task.
fn asks(farm: &Farm, list: impl FnOnce(&str) -> String, vars: &str) {
    let (gate, answer) = (farm.gate("gate"), farm.gate("answer"));
    farm.write("tasks.txt", list(&gate.stand()));
    let pytf = asking(farm, "--proc 1 --task-estimate 1h -v", vars).start();
    gate.comers(1);
    answer.open(1);
    until("the farm knows the end", || {
        pytf.stderr().contains("no task is started any more")
    });
    gate.open(1);
    pytf.wait().exits(75).says(&[
        "the allocation ends in ",
        "2 tasks not started: ",
        "tasks like them take 1h00m",
    ]);
    farm.assert_exact(3, &[0], &[]);
}

fn three(stand: &str) -> String {
    format!("{stand}\ntrue\ntrue\n")
}

#[test]
fn slurm_is_asked_by_squeue_and_else_by_scontrol() {
    let farm = Farm::new();
    let squeue = "test \"$*\" = '-h -j 103 -o %L %e' && test $TZ = UTC || exit 1; \
                  read x < answer.go; echo '30:00 NONE'";
    program(&farm, "squeue", squeue);
    asks(&farm, three, &format!("{STEP} SQUEUE_STATES=PD"));

    let farm = Farm::new();
    let down = "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1";
    program(&farm, "squeue", down);
    let show = "read x < answer.go; echo '   RunTime=00:30:00 TimeLimit=01:00:00 TimeMin=N/A'; echo '   EndTime=Unknown'";
    program(&farm, "scontrol", show);
    asks(&farm, three, STEP);
}

#[test]
fn pbs_is_asked_by_qstat() {
    let date = "date=$(LC_ALL=C date -u '+%a %b %e %H:%M:%S %Y')";
    let json = r#"printf '{"Jobs":{"9.pbs0":{"stime":"%s","Resource_List":{"walltime":"00:30:00"}}}}' "$date""#;
    let plain = r#"printf 'Job Id: %s\n    Resource_List.walltime = 00:30:00\n    stime = %s\n' "$2" "$date""#;
    let farm = Farm::new();
    let script = format!("test \"$*\" = '-f -F json 9.pbs0' || exit 1; {WAIT}; {date}; {json}");
    program(&farm, "qstat", &script);
    asks(&farm, three, PBS);

    let farm = Farm::new();
    let script = format!(
        "test $# = 2 || {{ echo 'qstat: illegal option'; exit 2; }}; {WAIT}; {date}; {plain}"
    );
    program(&farm, "qstat", &script);
    asks(&farm, three, PBS);
}

#[test]
fn torque_is_asked_by_its_qstat() {
    // It knows no JSON, and calls things by other names.
    let begun = "    Resource_List.walltime = 00:30:00\\n    start_time = %s\\n";
    for said in [
        begun.to_owned(),
        format!("{begun}    Walltime.Remaining = 1799\\n"),
    ] {
        let farm = Farm::new();
        let gate = farm.gate("gate");
        farm.write("tasks.txt", gate.stand() + "\n");
        let script = format!(
            "test \"$*\" = '-f 9.torque' || {{ echo \"qstat: invalid option -- 'F'\"; exit 2; }}\n\
             printf 'Job Id: 9.torque\\n    job_state = R\\n{said}' \
             \"$(LC_ALL=C date -u '+%a %b %e %T %Y')\""
        );
        program(&farm, "qstat", &script);
        let pytf = asking(&farm, "--proc 1 -v", TORQUE).start();
        gate.comer();
        let answer = || {
            let told = pytf.stderr();
            let mut lines = told.lines().map(str::to_owned);
            lines.find(|line| line.contains("the allocation ends") || line.contains("not known"))
        };
        until("it was asked", || answer().is_some());
        let told = answer().unwrap();
        gate.open(1);
        pytf.wait().exits(0);
        // A second or two may have gone.
        let is_right = told.contains("ends in 29m5") || told.contains("ends in 30m00s");
        assert!(is_right, "{told}");
    }
}

/// Stops, or lets go, all processes of a job.
fn suspend(signal: Signal, pytf: &Running<'_>, task: i32) {
    killpg(Pid::from_raw(task), signal).unwrap();
    pytf.signal(signal);
}

#[test]
fn time_in_which_pbs_has_suspended_the_job_does_not_bring_its_end_nearer() {
    let Some(clock) = doubles::clock() else {
        return skip("there is no compiler for the double of the clock");
    };
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", three(&gate.stand()));
    farm.write("jump", 0_i64.to_ne_bytes());
    // A suspended job keeps its stime.
    let answer = r#"{"Jobs":{"9.pbs0":{"stime":"%s","Resource_List":{"walltime":"01:00:00"},"resources_used":{"walltime":"00:00:01"}}}}"#;
    let script = format!(
        "test -e begun || LC_ALL=C date -u '+%a %b %e %T %Y' > begun\n\
         printf '{answer}' \"$(cat begun)\"; echo >> asked"
    );
    program(&farm, "qstat", &script);
    let pytf = asking(&farm, "--proc 1 --task-estimate 20m -v", PBS)
        .env("LD_PRELOAD", clock)
        .env("FAKE_JUMP", farm.path("jump"))
        .start();
    let (_, task) = gate.comer();
    until("the end is known", || {
        pytf.stderr().contains("the allocation ends in ")
    });
    // For 50 minutes; then ten would be left, if they counted.
    suspend(Signal::SIGSTOP, &pytf, task);
    until("it stands still", || state(pytf.pid()) == Some('T'));
    let jump = std::fs::OpenOptions::new()
        .write(true)
        .open(farm.path("jump"));
    jump.unwrap().write_all(&3000_i64.to_ne_bytes()).unwrap();
    suspend(Signal::SIGCONT, &pytf, task);
    until("it has asked again", || farm.text("asked").len() >= 2);
    gate.open(1);
    pytf.wait().exits(0);
    farm.assert_exact(3, &[0, 1, 2], &[]);
}

#[test]
fn a_scheduler_that_does_not_answer_is_in_nobodys_way() {
    let farm = Farm::of("true\ntrue\ntrue\n");
    program(&farm, "squeue", SILENT);
    // `exits` also sees that neither the program nor its child survives.
    asking(&farm, "", STEP).run().exits(0);
    farm.assert_exact(3, &[0, 1, 2], &[]);

    // Nor is it when it must be told to stop.
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", three(&gate.stand()));
    program(&farm, "squeue", SILENT);
    let pytf = asking(&farm, "--proc 1", STEP).start();
    gate.comers(1);
    until("it was asked", || !farm.text("asked").is_empty());
    pytf.signal(Signal::SIGTERM);
    pytf.wait().exits(75);
    farm.assert_exact(3, &[], &[]);
}

#[test]
fn who_cannot_be_asked_is_told_once_and_the_variable_is_believed() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", three(&gate.stand()));
    program(
        &farm,
        "squeue",
        "echo 'squeue: error: Invalid user' >&2; exit 1",
    );
    program(&farm, "scontrol", "exit 1");
    let pytf = asking(&farm, "--proc 1", STEP).start();
    until("it is told", || {
        let told = "the end of the job is unknown (squeue: squeue: error: Invalid user)";
        pytf.stderr().contains(told)
    });
    gate.comers(1);
    gate.open(1);
    pytf.wait().exits(0);

    // Newer Slurm tells in the environment; here the job ends before a task could.
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let farm = Farm::of("true\n");
    let vars = format!("{STEP} SLURM_JOB_END_TIME={}", now + 1800);
    let done = asking(&farm, "--task-estimate 1h", &vars).run();
    done.exits(75).says(&["the end of the allocation"]);
    farm.assert_exact(1, &[], &[]);
    // That can be overridden.
    let again = asking(&farm, "--task-estimate 1h --no-walltime", &vars);
    again.run().exits(0);
}

#[test]
fn an_end_before_our_own_start_is_not_believed_and_its_variable_is_named() {
    // A shell that is older than the job: tmux, an old salloc.
    let farm = Farm::of("true\n");
    program(&farm, "squeue", "exit 1");
    program(&farm, "scontrol", "exit 1");
    let vars = format!("{STEP} SLURM_JOB_END_TIME=1000000000");
    asking(&farm, "", &vars)
        .run()
        .exits(0)
        .says(&["SLURM_JOB_END_TIME=1000000000", "--walltime"]);
    farm.assert_exact(1, &[0], &[]);
}

#[test]
fn usr1_with_a_known_end_lets_what_runs_end_and_starts_nothing() {
    let farm = Farm::new();
    let gate = farm.gate("gate");
    farm.write("tasks.txt", three(&gate.stand()));
    let pytf = farm.farm("--proc 1 --walltime 1h").start();
    gate.comers(1);
    pytf.signal(Signal::SIGUSR1);
    until("the signal is told", || pytf.stderr().contains("SIGUSR1"));
    // Meanwhile it is seen to drain.
    let is_draining = || {
        let done = farm.pytf(["status", "w", "--json"]).run().leaves(0);
        let seen: Value = serde_json::from_slice(&done.stdout).unwrap();
        seen["nodes"][0]["draining"] == true && seen["nodes"][0]["words"] == "draining"
    };
    until("it is seen to drain", is_draining);
    let screen = farm.pytf(["status", "w"]).run().leaves(0);
    screen.says(&["  draining  "]);
    let page = farm.pytf(["report", "w", "-o", "-"]).run().leaves(0);
    page.says(&["<td class=\"warn\">draining</td>"]);
    gate.open(1);
    pytf.wait()
        .exits(75)
        .says(&["2 of 3 tasks are left: stopped by SIGUSR1"]);
    farm.assert_exact(3, &[0], &[]);
    let trace = crate::timeline::trace(&farm.bytes("w/timeline.json"));
    let events = trace["traceEvents"].as_array().unwrap();
    let marks = events.iter().filter(|event| event["ph"] == "i");
    let marks: Vec<&str> = marks.map(|event| event["name"].as_str().unwrap()).collect();
    let is_drained = |mark: &&&str| mark.starts_with("farmer drained: no task is started");
    assert_eq!(marks.iter().filter(is_drained).count(), 1, "{marks:?}");
}

#[test]
fn a_task_sees_the_launchers_variables_only_when_it_shall() {
    let farm = Farm::of("env > seen\n");
    within(farm.farm("--srun-env scrub --no-walltime"), STEP)
        .run()
        .exits(0);
    let seen = farm.text("seen");
    for gone in [
        "PMI_RANK",
        "PMIX_RANK",
        "SLURM_STEP_ID",
        "SLURM_PROCID",
        "SLURM_NTASKS",
    ] {
        assert!(!seen.contains(&format!("{gone}=")), "{gone}: {seen}");
    }
    assert!(seen.contains("SLURM_JOB_ID=103\n"), "{seen}");
    let farm = Farm::of("env > seen\n");
    within(farm.farm("--no-walltime"), STEP).run().exits(0);
    assert!(farm.text("seen").contains("PMI_RANK=0\n"));
}
