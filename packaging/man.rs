//! Writes the man pages, pytf(1) and one per command, from the definition of the command
//! line: `cargo run --example man -- FOLDER DATE`.
//!
//! What clap knows comes from there: synopsis, description, options. The exit statuses of a farm
//! come from `exit::TABLE`. Those of other commands, examples, files and variables are written
//! here. A command without an example or a status ends this program, and so does a table that
//! names what is not a command.

#![expect(
    clippy::print_stderr,
    reason = "a program of its own, not part of pytf"
)]

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use pytf::cli::definition;
use pytf::exit::{RunExit, TABLE};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [folder, date] = &words[..] else {
        eprintln!("usage: man FOLDER YYYY-MM-DD");
        return ExitCode::from(2);
    };
    match write_all(Path::new(folder), date) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("man: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_all(folder: &Path, date: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut pytf = definition();
    pytf.build();
    refuse_unknown_names(&pytf);
    fs::write(folder.join("pytf.1"), page(&pytf, date)?)?;
    for sub in pytf.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        fs::write(
            folder.join(format!("pytf-{}.1", sub.get_name())),
            page(sub, date)?,
        )?;
    }
    Ok(())
}

/// A command may have another name now.
fn refuse_unknown_names(pytf: &Command) {
    let examples = EXAMPLES.iter().map(|(of, ..)| *of);
    let notes = NOTES.iter().map(|(of, _)| *of);
    let terms = ENVIRONMENT.iter().chain(FILES).map(|(of, ..)| *of);
    let statuses = STATUSES.iter().map(|(_, of, _)| *of);
    let named = examples.chain(notes).chain(terms).chain(statuses);
    for name in named.flat_map(|of| of.split(' ')) {
        assert!(
            name == "pytf" || pytf.find_subcommand(name).is_some(),
            "'{name}' is not a command"
        );
    }
}

/// Whether a row of a table, which has the names of commands, is for this one.
fn is_for(of: &str, name: &str) -> bool {
    of.split(' ').any(|known| known == name)
}

/// The page of a command.
fn page(command: &Command, date: &str) -> io::Result<String> {
    let name = command.get_name();
    let is_farm = name == "pytf";
    let title = command.get_display_name().unwrap_or(name).to_uppercase();
    // All options in one line say less than "OPTIONS".
    let command = command.clone().override_usage(usage(command));
    let man = Man::new(command.clone())
        .title(title)
        .date(date)
        .source(format!("pytf {}", env!("CARGO_PKG_VERSION")))
        .manual("pytf manual");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    notes(name).to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut rest = Roff::new();
    if has_all_options(name) && !is_farm {
        rest.control("PP", []);
        rest.text([
            roman("All options of "),
            bold("pytf"),
            roman("(1) hold, and their variables."),
        ]);
    }
    if is_farm {
        commands(&mut rest, &command);
    }
    exit_status(&mut rest, name);
    let has_variables = terms(&mut rest, "ENVIRONMENT", ENVIRONMENT, name);
    let has_files = terms(&mut rest, "FILES", FILES, name);
    examples(&mut rest, name);
    see_also(&mut rest, is_farm, has_variables && has_files);
    rest.to_writer(&mut page)?;
    String::from_utf8(page)
        // Else both may become other characters, which no shell knows.
        .map(|page| tidy(&page.replace('~', "\\(ti").replace('^', "\\(ha")))
        .map_err(io::Error::other)
}

/// Whether the command takes all options of the farm, which clap does not list for `run` and
/// `check`.
fn has_all_options(name: &str) -> bool {
    ["pytf", "run", "check"].contains(&name)
}

/// `pytf status [OPTIONS] WORKDIR`, and for the farm its commands, too.
fn usage(command: &Command) -> String {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    if has_all_options(command.get_name()) {
        let list = format!("{name} [OPTIONS] TASKLIST");
        let template = format!("{name} [OPTIONS] --workdir DIR -- COMMAND ... ::: VALUES ...");
        let waiting = format!("{name} [OPTIONS] --workdir DIR");
        let forms = match command.get_name() {
            "check" => vec![list, template],
            "run" => vec![list, template, waiting],
            _ => vec![
                list,
                template,
                waiting,
                format!("{name} COMMAND [OPTIONS] ..."),
            ],
        };
        return forms.join("\n");
    }
    let options = command
        .get_opts()
        .filter(|option| option.is_required_set())
        .map(|option| {
            let name = option.get_long().unwrap_or_default();
            let value = option.get_value_names().map_or("VALUE", |names| &names[0]);
            format!(" --{name} {value}")
        });
    let positionals = command.get_positionals().map(|arg| {
        let name = arg
            .get_value_names()
            .map_or(arg.get_id().as_str(), |names| &names[0]);
        let mark = if arg.is_last_set() { " --" } else { "" };
        let is_many = arg
            .get_num_args()
            .is_some_and(|range| range.max_values() > 1);
        let more = if is_many { " ..." } else { "" };
        if arg.is_required_set() {
            format!("{mark} {name}{more}")
        } else {
            format!("{mark} [{name}]{more}")
        }
    });
    let words: String = options.chain(positionals).collect();
    format!("{name} [OPTIONS]{words}")
}

/// The page without what mandoc(1) warns of: empty lines between paragraphs, long lines, two
/// line breaks in a row.
fn tidy(page: &str) -> String {
    let mut out = String::new();
    let mut paragraph = ".PP\n";
    let mut is_tag = false;
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        let next = lines.peek().copied().unwrap_or_default();
        if line.trim().is_empty() {
            if !next.starts_with('.') {
                out += paragraph;
            }
        } else if line == ".br" && (out.ends_with(".br\n") || next.is_empty()) {
            // The next one is enough.
        } else if line.starts_with(['.', ' ']) || is_tag {
            out += &format!("{line}\n");
        } else {
            wrap(line, &mut out);
        }
        is_tag = line == ".TP";
        if is_tag {
            paragraph = ".IP\n";
        } else if line.starts_with(".SH") {
            paragraph = ".PP\n";
        }
    }
    out
}

/// The line in lines of less than 80 bytes.
fn wrap(line: &str, page: &mut String) {
    let mut column = 0;
    for word in line.split(' ') {
        if column > 0 && column + word.len() > 78 {
            page.push('\n');
            column = 0;
        }
        if column > 0 {
            page.push(' ');
        } else if page.ends_with('\n') && word.starts_with(['.', '\'']) && word != line {
            page.push_str("\\&");
        }
        page.push_str(word);
        column += word.len() + 1;
    }
    page.push('\n');
}

fn commands(roff: &mut Roff, pytf: &Command) {
    roff.control("SH", ["COMMANDS"]);
    for sub in pytf.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        roff.control("TP", []);
        roff.text([bold(format!("pytf-{}(1)", sub.get_name()))]);
        roff.text([roman(about)]);
    }
}

/// What is to be said beside the help.
const NOTES: &[(&str, &str)] = &[(
    "completions",
    "The shell then completes commands and options, workdirs, ids of tasks (of those that failed, \
     and of those that wait where they are to be cancelled), runners and handlers. It asks the \
     pytf that is in PATH at that moment.",
)];

fn notes(name: &str) -> Roff {
    let mut roff = Roff::new();
    for (_, text) in NOTES.iter().filter(|(of, _)| *of == name) {
        roff.control("PP", []);
        roff.text([roman(*text)]);
    }
    roff
}

/// The statuses of the commands beside the farm, and what each says there.
const STATUSES: &[(RunExit, &str, &str)] = &[
    (
        RunExit::Complete,
        "add cancel close combine completions convert devices drain edit export handlers log \
         pause report reset resume retry runners status stop timeline watch",
        "the command has done what it was asked for",
    ),
    (RunExit::Complete, "check", "no task would fail"),
    (RunExit::Complete, "hosts", "all hosts can be used"),
    (
        RunExit::Complete,
        "on",
        "the command has ended with 0 on all hosts",
    ),
    (
        RunExit::Complete,
        "repair",
        "the workdir is repaired; with --check: no damage was found",
    ),
    (
        RunExit::Complete,
        "wait",
        "every task has finished, or every task of IDS",
    ),
    (RunExit::SomeFailed, "check", "a task would fail"),
    (
        RunExit::SomeFailed,
        "combine",
        "files of one name differ; nothing was written",
    ),
    (
        RunExit::SomeFailed,
        "on",
        "on a host the command has ended with another status than 0",
    ),
    (
        RunExit::SomeFailed,
        "wait",
        "every task has ended, or every task of IDS, and some failed or were cancelled",
    ),
    (
        RunExit::Usage,
        "combine completions export report timeline",
        "the command line is wrong",
    ),
    (
        RunExit::Usage,
        "close pause resume stop",
        "the command line is wrong, or the workdir has no tasks yet",
    ),
    (
        RunExit::Usage,
        "add",
        "the command line or one of the tasks is wrong; none was added",
    ),
    (
        RunExit::Usage,
        "cancel",
        "the command line is wrong, or some tasks had ended before or do not exist; the others \
         were cancelled",
    ),
    (
        RunExit::Usage,
        "check",
        "the command line or the task list is wrong",
    ),
    (
        RunExit::Usage,
        "convert",
        "the command line is wrong, or the list cannot be read or cannot be converted",
    ),
    (
        RunExit::Usage,
        "devices",
        "the command line is wrong, or this node has not what it asks for",
    ),
    (
        RunExit::Usage,
        "drain",
        "the command line is wrong, no process works on that node, or the workdir has no tasks yet",
    ),
    (
        RunExit::Usage,
        "edit",
        "the command line is wrong, or the editor failed, or the text was not understood: nothing \
         was changed; or tasks were claimed meanwhile: these were left alone, all others are as in \
         the text",
    ),
    (
        RunExit::Usage,
        "handlers runners",
        "the command line or an INI file is wrong",
    ),
    (
        RunExit::Usage,
        "hosts on",
        "the command line or the list of hosts is wrong",
    ),
    (
        RunExit::Usage,
        "log",
        "the command line is wrong, or there is no such task, attempt or log",
    ),
    (
        RunExit::Usage,
        "repair",
        "the command line is wrong, a process works on the run, or the task list is needed and is \
         missing or wrong",
    ),
    (
        RunExit::Usage,
        "reset",
        "the command line is wrong, a process works on the run, there is no such task, or the \
         reset was not confirmed; nothing was changed",
    ),
    (
        RunExit::Usage,
        "retry",
        "the command line is wrong, or some tasks had not failed; the others wait again",
    ),
    (
        RunExit::Usage,
        "status",
        "the command line is wrong, or there is no such task",
    ),
    (
        RunExit::Usage,
        "wait",
        "the command line is wrong, or some of IDS do not exist or were dropped from the list",
    ),
    (
        RunExit::Usage,
        "watch",
        "the command line is wrong, or standard output is not a terminal that can be used",
    ),
    (RunExit::NodeUnusable, "hosts", "a host cannot be used"),
    (
        RunExit::NodeUnusable,
        "on",
        "a host was not reached, or the connection to it was lost (status 255)",
    ),
    (
        RunExit::System,
        "add cancel check close convert drain edit export log pause repair report reset resume \
         retry status stop timeline wait watch",
        "the system refused threads, processes, open files or memory; the message names the limit",
    ),
    (
        RunExit::System,
        "hosts on",
        "the system refused what is needed to ask hosts; the message says what",
    ),
    (
        RunExit::WorkdirUnusable,
        "add cancel close drain edit log pause reset resume retry status stop wait watch",
        "the workdir cannot be used, or standard output cannot be written; the message says why",
    ),
    (
        RunExit::WorkdirUnusable,
        "export report timeline",
        "the workdir cannot be read, or the file cannot be written; the message says why",
    ),
    (
        RunExit::WorkdirUnusable,
        "repair",
        "the workdir cannot be used; with --check: there is damage",
    ),
    (
        RunExit::WorkdirUnusable,
        "combine",
        "the results cannot be read, or files cannot be written; the message says why",
    ),
    (
        RunExit::WorkdirUnusable,
        "check convert",
        "the list cannot be read because of an I/O error, or standard output cannot be written",
    ),
    (
        RunExit::WorkdirUnusable,
        "completions devices handlers hosts runners",
        "standard output cannot be written",
    ),
    (
        RunExit::WorkLeft,
        "wait",
        "tasks are left and no process works on them, or --timeout is over",
    ),
    (
        RunExit::WorkLeft,
        "hosts on",
        "it was stopped by a signal before its end",
    ),
];

fn exit_status(roff: &mut Roff, name: &str) {
    roff.control("SH", ["EXIT STATUS"]);
    let is_farm = ["pytf", "run"].contains(&name);
    let mut statuses = 0;
    for (exit, _, of_farm) in TABLE {
        let own = STATUSES
            .iter()
            .find(|(of, names, _)| *of == exit && is_for(names, name));
        let meaning = own.map(|(.., meaning)| *meaning);
        let is_everywhere = is_farm || exit == RunExit::Bug;
        if let Some(meaning) = meaning.or(is_everywhere.then_some(of_farm)) {
            term(roff, &exit.code().to_string(), meaning);
            statuses += 1;
        }
    }
    assert!(statuses > 2, "STATUSES does not have those of '{name}'");
}

/// Variables besides those of the options, by the commands that read them.
const ENVIRONMENT: &[(&str, &str, &str)] = &[
    (
        "pytf run check",
        "PYTF_...",
        "Each option of the farm has a variable, which is named with it. The command line \
         overrides it. An empty variable is ignored. A pytf that a task starts does not take for \
         options what describes the task.",
    ),
    (
        "devices",
        "PYTF_...",
        "Options have variables, which are named with them. The command line overrides them. An \
         empty variable is ignored.",
    ),
    (
        "hosts on",
        "PYTF_HOSTS, PYTF_SSH_OPTION",
        "The hosts, and an option of ssh, where the command line has none.",
    ),
    ("pytf", "PYTF_TASK_ID", "For each task: its id."),
    (
        "pytf",
        "PROC_NUMBER",
        "The same, for users of PyTaskFarmer.",
    ),
    (
        "pytf",
        "PYTF_ATTEMPT",
        "For each task: the number of the attempt, from 1.",
    ),
    (
        "pytf",
        "PYTF_SLOT",
        "For each task: the slot that runs it, from 0.",
    ),
    (
        "pytf",
        "PYTF_NODE",
        "For each task, --node-setup and --node-teardown: the name of the node.",
    ),
    (
        "pytf",
        "PYTF_FARMER",
        "For each task: the name of the pytf process that runs it.",
    ),
    (
        "pytf",
        "PYTF_WORKDIR",
        "For each task: the absolute path of the workdir.",
    ),
    (
        "pytf",
        "PYTF_RUN_DIR",
        "For each task: the absolute path of the folder in which pytf was started.",
    ),
    (
        "pytf",
        "PYTF_TASK_DIR",
        "For each task, with --task-dir: the folder that was made for this attempt.",
    ),
    (
        "pytf",
        "PYTF_GPUS",
        "For each task that has GPUs of its own: these GPUs.",
    ),
    (
        "pytf",
        "PYTF_CPUS",
        "For each task of a run whose tasks have needs of their own: the number of its CPUs.",
    ),
    (
        "pytf",
        "PYTF_MEM",
        "For each task whose memory is limited: the limit, as in 4194304K.",
    ),
    (
        "pytf",
        "OMP_NUM_THREADS",
        "For each task that has CPUs of its own: their number, unless the variable is set.",
    ),
    (
        "pytf",
        "PYTF_RUN_WORKDIR",
        "For --on-end, --node-setup and --node-teardown: the absolute path of the workdir.",
    ),
    (
        "pytf",
        "PYTF_RUN_FINISHED, PYTF_RUN_FAILED",
        "For --on-end: how many tasks are in finished and in failed.",
    ),
    (
        "pytf",
        "PYTF_RUN_CANCELLED",
        "For --on-end: how many of those in failed were cancelled.",
    ),
    (
        "pytf",
        "PYTF_RUN_STATUS",
        "For --on-end: the exit status of the run, 0 or 1.",
    ),
    (
        "pytf run check devices",
        "SLURM_..., PBS_... and others",
        "What the scheduler has allocated.",
    ),
    (
        "devices",
        "CUDA_VISIBLE_DEVICES, ROCR_VISIBLE_DEVICES, HIP_VISIBLE_DEVICES, GPU_DEVICE_ORDINAL, \
         ZE_AFFINITY_MASK",
        "The GPUs that may be used.",
    ),
    (
        "pytf run",
        "SLURM_TMPDIR, TMPDIR",
        "Where --task-dir makes folders: in the first that is set, else in /tmp.",
    ),
    (
        "edit",
        "VISUAL, EDITOR",
        "The editor, which may have options. VISUAL is preferred; without both it is vi.",
    ),
    (
        "edit",
        "TMPDIR",
        "The folder of the text that is edited, in place of /tmp.",
    ),
    (
        "add completions edit handlers runners",
        "PYTF_CONFIG",
        "An INI file that defines runners or handlers.",
    ),
    (
        "pytf run check add completions edit handlers runners",
        "XDG_CONFIG_HOME",
        "The folder in place of ~/.config, if it is an absolute path.",
    ),
    (
        "pytf run hosts",
        "XDG_CACHE_HOME",
        "The folder in place of ~/.cache, on each host.",
    ),
    (
        "watch",
        "TERM",
        "The kind of the terminal. It cannot be used where this is empty or dumb.",
    ),
    (
        "pytf run status hosts watch",
        "NO_COLOR",
        "When it is set and not empty, there are no colors.",
    ),
    (
        "status hosts watch",
        "LC_ALL, LC_CTYPE, LANG",
        "The first that is set says whether lines and marks may be other than ASCII: where it \
         names UTF-8.",
    ),
];

/// Files, by the commands that read or write them.
const FILES: &[(&str, &str, &str)] = &[
    (
        "pytf run",
        "TASKLIST_workdir/",
        "The workdir, where --workdir does not name another.",
    ),
    (
        "pytf retry",
        "toprocess",
        "In the workdir: tasks that wait, one per line.",
    ),
    (
        "pytf",
        "finished",
        "In the workdir: tasks that ended with success, each with its id.",
    ),
    (
        "pytf retry",
        "failed",
        "In the workdir: tasks that failed or were cancelled, each with its id.",
    ),
    (
        "pytf log",
        "logs/",
        "In the workdir: what the tasks printed. pytf-log(1) shows it.",
    ),
    (
        "pytf combine",
        "results/",
        "In the workdir: what tasks have made (out=, --copy-out), in a folder for each task that \
         has its id.",
    ),
    (
        "pytf repair",
        "nodes/",
        "In the workdir: the journal of each process.",
    ),
    (
        "pytf timeline",
        "timeline.json",
        "In the workdir: what ran where and when, for Perfetto.",
    ),
    (
        "timeline",
        "timeline.pytaskfarmer.json",
        "In the workdir: a timeline.json that PyTaskFarmer had written.",
    ),
    (
        "pytf report",
        "report.html",
        "In the workdir: the page that pytf-report(1) writes.",
    ),
    (
        "pytf repair",
        "damaged-N/",
        "In the workdir: the files as they were before a repair, N = 1, 2, ...",
    ),
    (
        "pytf reset",
        "reset-N/",
        "In the workdir: what there was of the run before a reset, N = 1, 2, ...; a workdir of its \
         own.",
    ),
    (
        "edit",
        "/tmp/pytf-edit-PID.txt",
        "The text that is edited. It is kept where it was not understood.",
    ),
    (
        "pytf run check add completions edit handlers runners",
        "~/.config/pytf/*.ini",
        "Runners and handlers. They replace those of the same name in ~/.pytaskfarmer.",
    ),
    (
        "pytf run check add completions edit runners",
        "~/.pytaskfarmer/runners.d/*.ini",
        "Runners, as for PyTaskFarmer.",
    ),
    (
        "pytf run check completions handlers",
        "~/.pytaskfarmer/tasklists.d/*.ini",
        "Handlers, as for PyTaskFarmer.",
    ),
    (
        "pytf run hosts on",
        "hosts.toml",
        "Hosts, where --hosts names this file or another one.",
    ),
    (
        "pytf run hosts on",
        "~/.ssh/config",
        "ssh reads it, and so options for hosts can stand there.",
    ),
    (
        "pytf run",
        "~/.cache/pytf/",
        "For --hosts and workdirs by ssh: copies of pytf, and what tasks print until they end.",
    ),
    (
        "hosts",
        "~/.cache/pytf/",
        "On a host that has no pytf of this version: the copy of pytf.",
    ),
];

/// Commands and what each does, by the command of the page.
const EXAMPLES: &[(&str, &str, &str)] = &[
    (
        "pytf",
        "pytf tasks.txt",
        "Run a list on this machine, one task per CPU.",
    ),
    (
        "pytf",
        "srun pytf tasks.txt --proc 16 --task-timeout 1h",
        "In a batch script: one process per node, 16 tasks at a time on each.",
    ),
    (
        "pytf",
        "srun pytf tasks.txt --gpus-per-task 1",
        "Each task has one GPU for itself.",
    ),
    (
        "pytf",
        "find . -name '*.gz' | sed 's/^/gunzip /' | pytf - --workdir run",
        "Tasks from standard input start as they arrive.",
    ),
    (
        "pytf",
        "srun pytf -w sweep -- ./md -T {1} -s {2} ::: 300 310 ::: 1 2 3",
        "Without a list: a command, for each combination of the values.",
    ),
    (
        "check",
        "pytf check tasks.txt --proc 16",
        "What would run, and which tasks would fail.",
    ),
    (
        "check",
        "pytf check tasks.txt --show 3",
        "The command line by which task 3 would be run.",
    ),
    (
        "run",
        "pytf run status",
        "A task list that has the name of a command.",
    ),
    (
        "add",
        "pytf add tasks.txt_workdir './simulate --seed 7'",
        "One more task. Its id is printed.",
    ),
    (
        "add",
        "pytf add tasks.txt_workdir --from more.txt --mem 4G",
        "The tasks of a list, each with 4 GiB of memory.",
    ),
    (
        "add",
        "pytf add run --name test --after model './test a.model'",
        "It starts when all tasks of the name model have finished.",
    ),
    (
        "close",
        "pytf close run",
        "Processes that stay for more tasks (--follow) leave when all tasks have ended.",
    ),
    (
        "edit",
        "pytf edit tasks.txt_workdir",
        "Change, move or delete the tasks that wait.",
    ),
    (
        "edit",
        "VISUAL='code --wait' pytf edit tasks.txt_workdir",
        "In another editor.",
    ),
    (
        "combine",
        "pytf combine tasks.txt_workdir all",
        "The results of all tasks, in the folder all.",
    ),
    (
        "convert",
        "pytf convert tasks > plain.txt",
        "The marks in the list say whose it is.",
    ),
    (
        "convert",
        "pytf convert jobs.txt --from dsq > plain.txt",
        "Lists of dSQ have no marks.",
    ),
    (
        "wait",
        "pytf wait tasks.txt_workdir && ./collect",
        "In a script: go on when every task has finished.",
    ),
    (
        "wait",
        "pytf wait tasks.txt_workdir --timeout 1h",
        "Give up after an hour, with exit status 75.",
    ),
    (
        "log",
        "pytf log tasks.txt_workdir 17",
        "What task 17 printed in its last attempt.",
    ),
    (
        "log",
        "pytf log tasks.txt_workdir 17 --attempt 1",
        "... in its first attempt.",
    ),
    (
        "retry",
        "pytf retry tasks.txt_workdir",
        "Run everything that failed again.",
    ),
    (
        "retry",
        "pytf retry tasks.txt_workdir 3-9,12",
        "Only these tasks.",
    ),
    (
        "pause",
        "pytf pause tasks.txt_workdir",
        "Start nothing more, for example while a file system is full.",
    ),
    (
        "resume",
        "pytf resume tasks.txt_workdir",
        "Start tasks again.",
    ),
    (
        "drain",
        "pytf drain tasks.txt_workdir",
        "Let all processes finish what runs, and leave.",
    ),
    (
        "drain",
        "pytf drain tasks.txt_workdir --node n17",
        "Only those on node n17.",
    ),
    (
        "cancel",
        "pytf cancel tasks.txt_workdir 3-9 --reason 'wrong seed'",
        "These never run, or are stopped.",
    ),
    (
        "cancel",
        "pytf cancel tasks.txt_workdir --waiting",
        "All that wait; running tasks go on.",
    ),
    (
        "stop",
        "pytf stop tasks.txt_workdir",
        "Stop all processes, on all nodes, as SIGTERM does.",
    ),
    (
        "repair",
        "pytf repair --check tasks.txt_workdir",
        "Is there damage?",
    ),
    (
        "reset",
        "pytf reset tasks.txt_workdir",
        "Run all tasks once more; what there was is kept in reset-1.",
    ),
    (
        "status",
        "pytf status tasks.txt_workdir",
        "One glance: done, running, failed, time left.",
    ),
    (
        "status",
        "pytf status --failed --format csv tasks.txt_workdir",
        "For a spreadsheet.",
    ),
    (
        "status",
        "pytf status --task 17 tasks.txt_workdir",
        "All about task 17.",
    ),
    (
        "watch",
        "pytf watch tasks.txt_workdir",
        "Follow the run in the terminal.",
    ),
    (
        "report",
        "pytf report tasks.txt_workdir",
        "One HTML page about the run.",
    ),
    (
        "timeline",
        "pytf timeline tasks.txt_workdir",
        "For ui.perfetto.dev.",
    ),
    (
        "export",
        "pytf export tasks.txt_workdir --joblog",
        "In GNU parallel's form.",
    ),
    (
        "devices",
        "pytf devices --gpus-per-task 1",
        "The slots that a farm would have here.",
    ),
    (
        "hosts",
        "pytf hosts --hosts n1,n2",
        "Two hosts: whether they can be reached, and what is free.",
    ),
    (
        "hosts",
        "pytf hosts --hosts hosts.toml --json",
        "The hosts of a file, for a program.",
    ),
    (
        "on",
        "pytf on --hosts n1,n2 -- nvidia-smi",
        "What runs on the GPUs of both hosts?",
    ),
    (
        "on",
        "pytf on --hosts hosts.toml -- 'module load gcc; make -C src'",
        "Compile on all hosts of a file.",
    ),
    ("runners", "pytf runners", "All that --runner takes."),
    (
        "runners",
        "pytf runners --config mine.ini",
        "Also those of a file.",
    ),
    ("handlers", "pytf handlers", "All that --tasklist takes."),
    (
        "handlers",
        "pytf handlers --config mine.ini",
        "Also those of a file.",
    ),
    (
        "completions",
        "source <(pytf completions bash)",
        "In ~/.bashrc.",
    ),
];

fn examples(roff: &mut Roff, name: &str) {
    roff.control("SH", ["EXAMPLES"]);
    let mut all = EXAMPLES.iter().filter(|(of, ..)| *of == name).peekable();
    assert!(all.peek().is_some(), "EXAMPLES has none of '{name}'");
    for (_, line, what) in all {
        term(roff, line, what);
    }
}

fn see_also(roff: &mut Roff, is_farm: bool, has_both: bool) {
    roff.control("SH", ["SEE ALSO"]);
    if is_farm {
        roff.text([
            bold("srun"),
            roman("(1), "),
            bold("sbatch"),
            roman("(1), "),
            bold("parallel"),
            roman("(1)"),
        ]);
    } else if has_both {
        roff.text([bold("pytf"), roman("(1)")]);
    } else {
        roff.text([
            bold("pytf"),
            roman("(1), which names variables and the files of a workdir"),
        ]);
    }
}

/// A section with what is for this command; whether there is any.
fn terms(roff: &mut Roff, heading: &str, all: &[(&str, &str, &str)], name: &str) -> bool {
    let mut own = all.iter().filter(|(of, ..)| is_for(of, name)).peekable();
    if own.peek().is_none() {
        return false;
    }
    roff.control("SH", [heading]);
    for (_, what, meaning) in own {
        term(roff, what, meaning);
    }
    true
}

fn term(roff: &mut Roff, name: &str, meaning: &str) {
    roff.control("TP", []);
    roff.text([bold(name)]);
    roff.text([roman(meaning)]);
}
