//! Runners and handlers: those that are ready to use, and those of INI files, with PyTaskFarmer
//! itself as the judge of its classes.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{Farm, has, side_by_side, skip};
use crate::oracle::{oracle, python};

/// A program in `bin`.
fn program(farm: &Farm, name: &str, script: &str) {
    farm.write(format!("bin/{name}"), format!("#!/bin/sh\n{script}\n"));
    let path = farm.path(format!("bin/{name}"));
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

/// `PATH` with `bin` in front.
fn path(farm: &Farm) -> String {
    let path = std::env::var("PATH").unwrap();
    format!("{}:{path}", farm.path("bin").display())
}

/// A double of a program that starts another: it notes its arguments, one line per call, and
/// executes those after `until`.
fn recorder(farm: &Farm, name: &str, until: &str) {
    let script = format!(
        "for word; do case $word in --workdir=*) [ -d \"${{word#*=}}\" ] && word=--workdir=DIR;; esac
         line=\"$line[$word]\"; done
         echo \"$line BASH_ENV=${{BASH_ENV-unset}}\" >> \"$RECORD\"
         while [ \"$1\" != '{until}' ]; do shift; done; shift; exec \"$@\""
    );
    program(farm, name, &script);
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

const SHIFTER: &str = "\
[DEFAULT]
release = 22.2
[reco]
Runner = taskfarmer.runners.ShifterRunner
image = me/atlas:%(release)s
setup = A=1 && export A
volumes = /global/a:/a
   /b:/b
modules = cvmfs gpu
tempdir = True
[plain]
Runner: taskfarmer.runners.ShifterRunner
image=img
setup = true
[basic]
Runner = taskfarmer.runners.BasicRunner
[not a runner]
image = x
";

/// What `shifter` gets, what it does, and how its tasks end, is the same as with PyTaskFarmer.
#[test]
fn runners_of_pytaskfarmers_ini_files_do_what_pytaskfarmer_does() {
    let Some(oracle) = oracle() else { return };
    let farm = Farm::of("echo \"$A\" 'x y'  z\nexit 3\ntrue; true\n");
    // PyTaskFarmer gives its classes the keys of DEFAULT, too, which these do not take.
    let ini = SHIFTER.replace("[DEFAULT]\nrelease = 22.2\n", "");
    let ini = ini.replace("%(release)s", "22.2");
    farm.write(".pytaskfarmer/runners.d/my.ini", ini);
    recorder(&farm, "shifter", "--");
    for runner in ["reco", "plain", "basic"] {
        if runner == "basic" {
            // Of a program that is not there PyTaskFarmer dies, and loses the task.
            farm.write(
                "tasks.txt",
                "echo \"$A\" 'x y'  z && $B\nfalse ;\ntrue 'a\n",
            );
        }
        let line = ["tasks.txt", "--proc", "2", "-r", runner, "--workdir"];
        let theirs = format!("{runner}.theirs");
        let script = oracle.join("bin/pytaskfarmer.py");
        python(&farm, oracle)
            .arg(script)
            .args(line)
            .arg(&theirs)
            .env("PATH", path(&farm))
            .env("BASH_ENV", "/init")
            .env("RECORD", farm.path(format!("{theirs}.args")))
            .status()
            .unwrap();
        let ours = format!("{runner}.ours");
        let line = [&line[..], &[&*ours]].concat();
        let run = farm.pytf(line).env("PATH", path(&farm));
        run.env("RECORD", farm.path(format!("{ours}.args")))
            .env("BASH_ENV", "/init")
            .run();
        for name in ["args", "/finished", "/failed", "/logs/log_0", "/logs/log_1"] {
            let file = |of: &str| match name {
                "args" => farm.text(format!("{of}.args")),
                file => farm.text(format!("{of}{file}")),
            };
            let [theirs, ours] = [&theirs, &ours].map(|of| file(of));
            assert_eq!(sorted(&ours), sorted(&theirs), "{runner}");
        }
    }
    let args = farm.text("reco.ours.args");
    let expected = "[--image][me/atlas:22.2][--workdir=DIR][-V/global/a:/a][-V/b:/b][-mcvmfs]\
                    [-mgpu][--][/bin/bash][-c][A=1 && export A && exit 3] BASH_ENV=";
    assert!(args.contains(expected), "{args}");
    // Without setup PyTaskFarmer gives bash a line that begins with '&&'.
    farm.write(
        "none.ini",
        "[none]\nRunner = taskfarmer.runners.ShifterRunner\nimage = i\n",
    );
    let run = farm.pytf([
        "tasks.txt",
        "-w",
        "none",
        "--config",
        "none.ini",
        "-r",
        "none",
    ]);
    let run = run.env("PATH", path(&farm));
    run.env("RECORD", farm.path("none.args")).run().exits(1);
    assert!(farm.text("none.args").contains("[-c][false ;]"));
}

const HANDLERS: &str = "\
[digi]
TaskList = taskfarmer.atlas.TransformTaskList
transform = Reco_tf.py
input = HITS
output = RDO
preExec = all:from X import Y; Y.set(False);' 'HITtoRDO:a = 42
conditionsTag = default:OFLCOND
[parts]
TaskList = taskfarmer.atlas.TransformTaskList
transform = Reco_tf.py
input = HITS
output = RDO
maxEventsPerJob = 1e3
[valid]
TaskList = taskfarmer.atlas.AthenaTaskList
jobOptions = A/B.py
output = M.root
nprocs = 64
[valid parts]
TaskList = taskfarmer.atlas.AthenaTaskList
jobOptions = A/B.py
output = M.root
maxEventsPerJob = 400
[list]
TaskList = taskfarmer.task.ListTaskList
";
/// `PyROOT`, where a file has as many events as its name says.
const ROOT: &str = "\
class TFile:
    @staticmethod
    def Open(name):
        class File:
            def Get(self, tree):
                assert tree == 'CollectionTree'
                return self
            def GetEntries(self):
                return int(name.split('.')[1])
        return File()
";

/// The tasks of its classes are those that PyTaskFarmer makes, byte for byte.
#[test]
fn handlers_of_pytaskfarmers_ini_files_make_the_tasks_that_pytaskfarmer_makes() {
    let Some(oracle) = oracle() else { return };
    let farm = Farm::of("# input\na.1000.root\n\n  b.1001.root \n#c\nd.0.root\n");
    farm.write(".pytaskfarmer/tasklists.d/my.ini", HANDLERS);
    farm.write("root/ROOT.py", ROOT);
    for name in ["Reco_tf.py", "athena.py", "rsync"] {
        program(&farm, name, "echo \"$@\" >> rsynced");
    }
    let modules = format!("{}:{}", farm.path("root").display(), oracle.display());
    let script = "import sys\nfrom taskfarmer.task import *\nm = TaskListManager()\n\
                  m.load('.pytaskfarmer/tasklists.d/my.ini')\n\
                  t = m.tasklist(sys.argv[1], 'tasks.txt', 'w')\n\
                  open('theirs', 'w').writelines('%d %s\\n' % (i, t[i]) for i in range(len(t)))";
    let count = "[pytf]\ncountEvents = cut -d. -f2 <<END\n";
    for name in ["digi", "parts", "valid", "valid parts", "list"] {
        farm.make_dir("w");
        let mut theirs = python(&farm, oracle);
        theirs
            .args(["-c", script, name])
            .env("PYTHONPATH", &modules);
        assert!(theirs.status().unwrap().success());
        fs::remove_dir_all(farm.path("w")).unwrap();
        let run = farm.pytf(["tasks.txt", "-w", "w", "-t", name]);
        let run = run.env("PATH", path(&farm)).env("PYTHONPATH", &modules);
        run.run();
        assert_eq!(farm.text("w/tasks"), farm.text("theirs"), "{name}");
        assert_eq!(farm.path("w/output").is_dir(), name != "list", "{name}");
        let run = farm.pytf(["tasks.txt", "-w", "w", "-t", name]);
        let run = run.env("PATH", path(&farm)).env("PYTHONPATH", &modules);
        let again = run.run();
        assert!(!again.stderr.contains("has changed"), "{}", again.stderr);
        fs::remove_dir_all(farm.path("w")).unwrap();
    }
    // Without PyROOT a command counts, and what is missing is said.
    let run = farm.pytf(["tasks.txt", "-w", "w", "-t", "parts"]);
    let parts = [
        "my.ini:8: maxEventsPerJob",
        "cannot count the events of a.1000.root",
        "countEvents",
    ];
    run.env("PATH", path(&farm)).run().exits(2).says(&parts);
    program(&farm, "count", "echo \"$1\" | cut -d. -f2");
    let ini = format!("{HANDLERS}{}", count.replace("cut -d. -f2 <<END", "count"));
    farm.write(".pytaskfarmer/tasklists.d/my.ini", ini);
    let run = farm.pytf(["tasks.txt", "-w", "w", "-t", "parts"]);
    run.env("PATH", path(&farm)).run();
    let tasks = farm.text("w/tasks");
    assert_eq!(tasks.lines().count(), 3, "{tasks}");
    let folder = farm.path("w/output").canonicalize().unwrap();
    let last = format!(
        "2 Reco_tf.py --inputHITSFile b.1001.root --outputRDOFile RDO.1.1.root --skipEvents 1000 \
         --maxEvents 1000 && rsync -avr RDO.1.1.root {}",
        folder.display()
    );
    assert_eq!(tasks.lines().last(), Some(&*last));
}

/// Classes of users, where PyTaskFarmer is installed and where it is not.
#[test]
fn a_python_class_makes_tasks_and_runs_them() {
    if !has("python3") {
        return skip("there is no python3");
    }
    let module = "\
import os, subprocess
from taskfarmer import task, runners
class Doubled(task.ListTaskList):
    def __init__(self, path, workdir, suffix=''):
        super().__init__(path, workdir)
        self.lock(); os.mkdir(workdir + '/mine'); self.unlock()
        print('not a task')
        self.suffix = suffix
    def __getitem__(self, nth):
        return self.tasks[nth] + self.suffix
class Shouting(runners.Runner):
    def __init__(self, word):
        super().__init__()
        self.word = word
    def run(self, taskid, command, logfh):
        logfh.write('%s %d\\n' % (self.word, taskid)); logfh.flush()
        return subprocess.call(command.split(), stdout=logfh)
class Wrong:
    pass
";
    let ini = "[twice]\nTaskList = mine.Doubled\nsuffix = \" # PYTF %%\n\
               [loud]\nRunner = mine.Shouting\nword = hey\n\
               [none]\nTaskList = mine.Nothing\n[extra]\nRunner = mine.Shouting\nwords = hey\n";
    for installed in [true, false] {
        let farm = Farm::of("echo a\nfalse\n");
        farm.write("modules/mine.py", module);
        farm.write("my.ini", ini);
        let mut modules = farm.path("modules").display().to_string();
        match oracle() {
            Some(oracle) if installed => modules += &format!(":{}", oracle.display()),
            None if installed => continue,
            _ => {}
        }
        let run = |args: &str| {
            let line = format!("tasks.txt -w w --config my.ini {args}");
            let pytf = farm.pytf(line.split(' ')).env("PYTHONPATH", &modules);
            // PyTaskFarmer leaves empty folders there.
            pytf.env("TMPDIR", farm.path("")).run()
        };
        run("-t twice -r loud").exits(1);
        assert_eq!(
            farm.text("w/tasks"),
            "0 echo a\" # PYTF %\n1 false\" # PYTF %\n"
        );
        assert_eq!(farm.text("w/logs/log_0"), "hey 0\na\" # PYTF %\n");
        assert_eq!(farm.text("w/logs/log_1").lines().next(), Some("hey 1"));
        fs::remove_dir_all(farm.path("w")).unwrap();
        run("-r loud").exits(1);
        farm.assert_exact(2, &[0], &[1]);
        fs::remove_dir_all(farm.path("w")).unwrap();
        let said = [
            "my.ini: [none]: python3 made no tasks",
            "mine.Nothing cannot be imported",
        ];
        run("-t none").exits(2).says(&said[..1]).says(&said[1..]);
        run("-r extra").exits(1);
        let log = farm.text("w/logs/log_0");
        assert!(
            log.contains("mine.Shouting does not take these keys"),
            "{log}"
        );
    }
}

/// Containers and srun get what their documentation asks for; doubles note it.
#[test]
fn ready_runners_give_the_documented_arguments() {
    let farm = Farm::of("echo 'a b' $PYTF_TASK_ID\nfalse #PYTF runner=shell\n");
    for tool in ["apptainer", "podman", "docker"] {
        recorder(&farm, tool, "img");
    }
    let cwd = farm.path("").canonicalize().unwrap();
    let cwd = cwd.display();
    let container = "--runner-key image=img --runner-key volumes=/a:/a --runner-key \
                     env=X=1 --runner-key gpus=nvidia --runner-key setup=true";
    let line = "true && echo 'a b' $PYTF_TASK_ID]";
    for (runner, options, before, after) in [
        (
            "apptainer",
            container,
            "[exec][--nv][--bind][/a:/a][--env][X=1][img]".to_owned(),
            format!("[/bin/sh][-c][{line}"),
        ),
        (
            "podman",
            container,
            format!(
                "[run][--rm][--device][nvidia.com/gpu=all][--volume={cwd}:{cwd}][--workdir=DIR]\
                 [--volume][/a:/a][--env][PYTF_TASK_ID]"
            ),
            format!(
                "[--env][X=1][img][/bin/sh][-c][trap 'exit 143' TERM; \"$0\" -c \"$1\" & wait \"$!\"][/bin/sh][{line}"
            ),
        ),
        (
            "docker",
            container,
            format!(
                "[run][--rm][--user][{}:{}][--gpus][all]",
                nix::unistd::getuid(),
                nix::unistd::getgid()
            ),
            format!("[/bin/sh][{line}"),
        ),
    ] {
        let line = format!("tasks.txt --workdir {runner}.w --runner {runner} {options}");
        let run = farm.pytf(line.split_whitespace()).env("PATH", path(&farm));
        let record = farm.path(format!("{runner}.args"));
        run.env("RECORD", record).run().exits(1);
        let args = farm.text(format!("{runner}.args"));
        assert_eq!(
            args.lines().count(),
            1,
            "the other task has its own runner: {args}"
        );
        assert!(args.starts_with(&before), "{args}\n{before}");
        assert!(args.contains(&after), "{args}\n{after}");
        assert_eq!(farm.text(format!("{runner}.w/logs/log_0")), "a b 0\n");
        assert_eq!(
            farm.text(format!("{runner}.w/failed")),
            "1 false #PYTF runner=shell\n"
        );
        for (task, named) in [("0", runner), ("1", "shell")] {
            let workdir = format!("{runner}.w");
            let shown = farm.pytf(["status", &*workdir, "--task", task]).run();
            shown.says(&[&format!(", runner {named}\n")]);
        }
    }
}

#[test]
fn srun_makes_steps_that_do_not_wait_for_each_other() {
    let farm = Farm::of(
        "echo a\necho b #PYTF nodes=2 ntasks=64 cpus=2 mem=4G\necho c #PYTF ntasks=8 mem=1G\n",
    );
    recorder(&farm, "srun", "/bin/bash");
    program(
        &farm,
        "srun",
        "for word; do line=\"$line[$word]\"; done; echo \"$line $SLURM_NTASKS\" >> \"$RECORD\"",
    );
    let run = |name: &str, env: &[(&str, &str)]| {
        let line = format!("tasks.txt -w {name} --proc 1 -r srun --runner-key options=--mpi=pmi2");
        let mut run = farm.pytf(line.split(' ')).env("PATH", path(&farm));
        for (name, value) in env {
            run = run.env(name, value);
        }
        run.env("RECORD", farm.path(format!("{name}.args")))
            .run()
            .exits(0);
        farm.text(format!("{name}.args"))
    };
    let batch = [
        ("SLURM_NTASKS", "64"),
        ("SLURM_MEM_PER_NODE", "8000"),
        ("SLURM_CPUS_ON_NODE", "8"),
    ];
    let shell = "[--mpi=pmi2][/bin/bash][-c][echo";
    let all = "[--kill-on-bad-exit=1]";
    let expected = [
        format!(
            "{all}[--exact][--nodes=1][--ntasks=1][--cpus-per-task=1][--mem-per-cpu=1000]{shell} a] "
        ),
        format!("{all}[--exact][--nodes=2][--ntasks=64][--cpus-per-task=2][--mem=4096]{shell} b] "),
        format!("{all}[--exact][--nodes=1][--ntasks=8][--cpus-per-task=1][--mem=1024]{shell} c] "),
    ];
    assert_eq!(sorted(&run("batch", &batch)), sorted(&expected.join("\n")));
    let step = [
        ("SLURM_STEP_ID", "0"),
        ("SLURMD_NODENAME", "n1"),
        ("SLURM_MEM_PER_NODE", "8000"),
    ];
    let args = run("step", &step);
    let first = format!("{all}[--overlap][--cpu-bind=none][--nodelist=n1][--nodes=1][--ntasks=1]");
    assert!(args.contains(&first), "{args}");
    let wide = format!("{all}[--overlap][--cpu-bind=none][--nodes=2][--ntasks=64]");
    assert!(args.contains(&wide) && !args.contains("--mem"), "{args}");
}

#[test]
fn a_template_is_a_runner() {
    let farm = Farm::of("echo $A \"$B\" #PYTF cpus=1\n");
    let ini = "[mine]\nRunner = template\nwrap = 'not \"split'\n\
               command = env A=1 \"B={wrap} {id} {{x}} {cpus}\" {shell}\n\
               [ends]\nRunner = template\ncommand = sh -c 'exit 4' {command}\n";
    farm.write("my.ini", ini);
    farm.pytf("tasks.txt -w w --config my.ini -r mine".split(' '))
        .run()
        .exits(0);
    assert_eq!(farm.text("w/logs/log_0"), "1 'not \"split' 0 {x} 1\n");
    // Another runner for the same run is said, and with --strict refused.
    let header = &farm.headers()[0];
    assert_eq!(header["runner"], "mine");
    farm.write("tasks.txt", "echo $A \"$B\" #PYTF cpus=1\nnew\n");
    let said = "this run was first started with the runner 'mine'; this process runs tasks with \
                'ends'";
    let again = "tasks.txt -w w --config my.ini -r ends";
    farm.pytf(format!("{again} --strict").split(' '))
        .run()
        .exits(2)
        .says(&[said, "--runner mine"]);
    farm.pytf(again.split(' '))
        .run()
        .exits(1)
        .says(&[said, "exit status 4"]);
}

/// An INI file, options, a list, and what is said of them.
type Fault = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

const FAULTS: &[Fault] = &[
    (
        "",
        "-r aptainer",
        "true",
        &[
            "no runner 'aptainer'; did you mean 'apptainer'?",
            ".pytaskfarmer/runners.d",
        ],
    ),
    (
        "",
        "-r apptainer",
        "true",
        &["apptainer: 'image' is missing: add --runner-key image="],
    ),
    (
        "",
        "-r shell --runner-key image=x",
        "true",
        &["shell: image: this key is not known"],
    ),
    (
        "[a]\nRunner = shifter\nimagee = x",
        "-r a",
        "true",
        &["my.ini, line 3: [a] imagee: this key is not known; did you mean 'image'?"],
    ),
    (
        "[a]\nRunner = shifter\nimage = x\ntempdir = yes",
        "-r a",
        "true",
        &["line 4: [a] tempdir: it is True or False"],
    ),
    (
        "[a]\nRunner = taskfarmer.runners.BasicRunner\nx = 1",
        "-r a",
        "true",
        &["[a] x: this key is not known; taskfarmer.runners.BasicRunner has no keys"],
    ),
    (
        "[a]\nRunner = template\ncommand = x {comand}",
        "-r a",
        "true",
        &["[a] command: {comand} is neither a key"],
    ),
    (
        "[a]\nRunner = template\ncommand = x",
        "-r a",
        "true",
        &["the line of the task is nowhere in it"],
    ),
    (
        "[a]\nRunner = template\ncommand = {shell}\nimage = x",
        "-r a",
        "true",
        &["[a] image: this key is not known"],
    ),
    (
        "[a]\nRunner = aptainer",
        "-r a",
        "true",
        &["Runner = aptainer is not known; did you mean 'apptainer'?"],
    ),
    (
        "[a\nRunner = x",
        "-r a",
        "true",
        &["my.ini, line 1: this is neither [SECTION] nor KEY = VALUE"],
    ),
    (
        "",
        "-t digi",
        "true",
        &["no handler of task lists 'digi'", "tasklists.d"],
    ),
    (
        "[a]\nTaskList = taskfarmer.atlas.AthenaTaskList\noutput = x",
        "-t a",
        "true",
        &["[a]: the key 'jobOptions' is missing: add jobOptions"],
    ),
    (
        "[a]\nTaskList = program\ncommand = false",
        "-t a",
        "true",
        &["[a]: false made no tasks: it ended with exit status: 1"],
    ),
    (
        "[a]\nTaskList = what",
        "-t a",
        "true",
        &["TaskList = what is not known"],
    ),
    (
        "",
        "",
        "true #PYTF runner=srn",
        &["tasks.txt: line 1", "no runner 'srn'; did you mean 'srun'?"],
    ),
    (
        "",
        "",
        "true #PYTF nodes=2",
        &[
            "tasks.txt: line 1",
            "mean nothing to the runner 'default': add runner=srun",
        ],
    ),
    (
        "",
        "",
        "#PYTF ntasks=2 runner=shell\ntrue",
        &["tasks.txt: line 2", "mean nothing to the runner 'shell'"],
    ),
];

#[test]
fn what_is_not_understood_is_named_before_anything_starts() {
    side_by_side(FAULTS, |(ini, args, list, parts)| {
        let farm = Farm::of(list);
        farm.write(".config/pytf/my.ini", ini);
        farm.farm(args).run().exits(2).says(parts);
        assert!(
            !farm.path("w/finished").exists(),
            "{args}: nothing was started"
        );
    });
}

#[test]
fn a_file_that_others_may_write_defines_nothing() {
    let farm = Farm::of("true");
    farm.write("my.ini", "[a]\nRunner = shell\n");
    farm.farm("-r a").run().exits(2).says(&["no runner 'a'"]);
    farm.farm("-r a --config my.ini").run().exits(0);
    let path = farm.path("my.ini");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o664)).unwrap();
    farm.farm("-r a --config my.ini")
        .run()
        .exits(2)
        .says(&["others may write to my.ini", "chmod go-w"]);
}

#[test]
fn a_program_makes_a_list_of_ours() {
    let farm = Farm::of("3\n");
    program(
        &farm,
        "gen",
        "for i in $(seq $(cat $1)); do echo \"echo $i #PYTF priority=$i\"; done; ls $2",
    );
    let ini = "[gen]\nTaskList = program\ncommand = gen {list} {workdir}\n";
    farm.write(
        ".config/pytf/x.ini",
        ini.replace(" {workdir}", " /dev/null | cat")
            .replace(" | cat", ""),
    );
    let run = farm.farm("-t gen --proc 1").env("PATH", path(&farm));
    run.run().exits(1);
    assert_eq!(farm.ids("finished").len(), 3);
    let finished: Vec<_> = farm
        .lines("finished")
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    assert_eq!(finished, [2, 1, 0], "by priority");
}

#[test]
fn what_is_defined_is_listed_with_its_place() {
    let farm = Farm::new();
    farm.write(
        ".pytaskfarmer/runners.d/a.ini",
        "[reco]\nRunner = shifter\nimage = x\n[default]\nRunner = shell\n",
    );
    farm.write(
        ".config/pytf/b.ini",
        "[reco]\nRunner = apptainer\nimage = y\n[gen]\nTaskList = program\ncommand = gen\n",
    );
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let listed = text(farm.pytf(["runners"]).run().exits(0).stdout);
    for part in [
        "apptainer",
        "keys: image, setup",
        "a.ini:1  (not used: ",
        "b.ini:1\n",
        "'default' is always that of pytf",
    ] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    let listed = text(farm.pytf(["handlers"]).run().exits(0).stdout);
    for part in [
        "one command per line, with #PYTF directives",
        "tasklists.d:\n  none\n",
        "gen  program  ",
    ] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    let wrong = "[reco]\nRunner = apptainer\n";
    farm.write(".config/pytf/b.ini", wrong);
    farm.pytf(["runners"])
        .run()
        .exits(2)
        .says(&["b.ini: [reco]: the key 'image' is missing"]);
}
