//! Writes the man pages, pytf(1) and one per command, from the definition of the command
//! line: `cargo run --example man -- FOLDER DATE`.
//!
//! What clap knows comes from there: synopsis, description, options. Exit statuses come
//! from `exit::TABLE`. Examples, files and variables are written here.

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
    fs::write(folder.join("pytf.1"), page(&pytf, date)?)?;
    for sub in pytf.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        fs::write(
            folder.join(format!("pytf-{}.1", sub.get_name())),
            page(sub, date)?,
        )?;
    }
    Ok(())
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
    man.render_options_section(&mut page)?;
    let mut rest = Roff::new();
    if is_farm {
        commands(&mut rest, &command);
    }
    let has_all = is_farm || ["run", "wait"].contains(&name);
    exit_status(&mut rest, has_all);
    if is_farm {
        terms(&mut rest, "ENVIRONMENT", &ENVIRONMENT);
        terms(&mut rest, "FILES", &FILES);
    }
    examples(&mut rest, name);
    see_also(&mut rest, is_farm);
    rest.to_writer(&mut page)?;
    String::from_utf8(page)
        .map(|page| tidy(&page))
        .map_err(io::Error::other)
}

/// `pytf status [OPTIONS] WORKDIR`, and for the farm its commands, too.
fn usage(command: &Command) -> String {
    let positionals = command.get_positionals().map(|arg| {
        let name = arg
            .get_value_names()
            .map_or(arg.get_id().as_str(), |names| &names[0]);
        if arg.is_required_set() {
            format!(" {name}")
        } else {
            format!(" [{name}]")
        }
    });
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let usage = format!("{name} [OPTIONS]{}", positionals.collect::<String>());
    if command.has_subcommands() {
        format!("{usage}\n{name} COMMAND [OPTIONS] ...")
    } else {
        usage
    }
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

fn exit_status(roff: &mut Roff, is_farm: bool) {
    roff.control("SH", ["EXIT STATUS"]);
    let of_a_command = |exit: &RunExit| {
        matches!(
            exit,
            RunExit::Usage | RunExit::Bug | RunExit::WorkdirUnusable
        )
    };
    if !is_farm {
        term(roff, "0", "the command has done what it was asked for");
    }
    for (exit, _, meaning) in TABLE
        .iter()
        .filter(|(exit, ..)| is_farm || of_a_command(exit))
    {
        term(roff, &exit.code().to_string(), meaning);
    }
}

/// Variables besides those of the options.
const ENVIRONMENT: [(&str, &str); 7] = [
    (
        "PYTF_...",
        "Each option of the farm has a variable, which is named with it. The command line \
         overrides it. An empty variable is ignored.",
    ),
    ("PYTF_TASK_ID", "For each task: its id."),
    (
        "PYTF_ATTEMPT",
        "For each task: the number of the attempt, from 1.",
    ),
    ("PYTF_SLOT", "For each task: the slot that runs it, from 0."),
    ("PYTF_NODE", "For each task: the name of the node."),
    (
        "PYTF_WORKDIR",
        "For each task: the absolute path of the workdir.",
    ),
    (
        "NO_COLOR",
        "When it is set and not empty, messages have no colors.",
    ),
];

const FILES: [(&str, &str); 7] = [
    (
        "TASKLIST_workdir/",
        "The workdir, where --workdir does not name another.",
    ),
    (
        "toprocess",
        "In the workdir: tasks that wait, one per line.",
    ),
    (
        "finished",
        "In the workdir: tasks that ended with success, each with its id.",
    ),
    (
        "failed",
        "In the workdir: tasks that failed, each with its id.",
    ),
    (
        "logs/",
        "In the workdir: what the tasks printed. pytf-log(1) shows it.",
    ),
    ("nodes/", "In the workdir: the journal of each process."),
    (
        "timeline.json",
        "In the workdir: what ran where and when, for Perfetto.",
    ),
];

/// Commands and what each does, by the command of the page.
const EXAMPLES: [(&str, &str, &str); 29] = [
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
        "run",
        "pytf run status",
        "A task list that has the name of a command.",
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
        "completions",
        "source <(pytf completions bash)",
        "In ~/.bashrc.",
    ),
];

fn examples(roff: &mut Roff, name: &str) {
    roff.control("SH", ["EXAMPLES"]);
    for (_, line, what) in EXAMPLES.iter().filter(|(of, ..)| *of == name) {
        term(roff, line, what);
    }
}

fn see_also(roff: &mut Roff, is_farm: bool) {
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
    } else {
        roff.text([bold("pytf"), roman("(1)")]);
    }
}

fn terms(roff: &mut Roff, heading: &str, terms: &[(&str, &str)]) {
    roff.control("SH", [heading]);
    for (name, meaning) in terms {
        term(roff, name, meaning);
    }
}

fn term(roff: &mut Roff, name: &str, meaning: &str) {
    roff.control("TP", []);
    roff.text([bold(name)]);
    roff.text([roman(meaning)]);
}
