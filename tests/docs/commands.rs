//! The commands in the documents: what a page shows was run, and printed this.
//!
//! A block of the kind `console` has commands, each behind `$ `, and what they print. The
//! commands of a page run one after the other in one bash, in a folder that has examples/
//! and slurm/; the pages of the tutorial are one session. What is printed must be what is
//! shown. A line `...` stands for any lines, `...` in a line for any text. Numbers with a
//! unit (times, sizes, parts) may differ, and how far columns are apart. The machine is
//! called `laptop`. The next command of one that fails is `echo $?`.
//!
//! `DOCS_WRITE=1 cargo test --test docs commands` writes what was printed into the pages.
//!
//! Blocks that need more than this machine may have are marked, as in `console slurm`:
//! see [`MARKS`]. Where the programs are here they are run; others are run by another
//! test, which calls this one in a place that has what they need, with `DOCS_RUN=slurm`
//! (and `DOCS_PAGE` for one page). In these blocks counts of tasks may differ, too.
//!
//! What a block needs besides is prepared in comments, which readers do not see:
//! `<!-- console slurm`, the commands, `-->`. There `$SOURCE` is the folder of the project,
//! and `$BLOCKS/PAGE-N` the N-th block of a page that is no console.
//!
//! Of each `pytf` in all blocks and in the text the options must exist.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::CommandFactory as _;
use pytf::cli::Cli;

use crate::pages::{Block, Page, blocks, pages, root};

/// How the blocks with a mark are run.
enum How {
    /// Here, where these programs (or files) are.
    With(&'static [&'static str]),
    /// With `DOCS_RUN`, by this.
    By(&'static str),
}

use How::{By, With};

/// The marks of blocks.
const MARKS: &[(&str, How)] = &[
    ("bwrap", With(&["bwrap"])),
    ("make", With(&["make"])),
    ("modules", With(&["/usr/share/lmod/lmod/init/bash"])),
    ("mpi", With(&["mpirun.openmpi"])),
    ("terminal", With(&["script"])),
    ("install", By("packaging/check.sh")),
    ("long", By(".ci/run --full")),
    ("pandas", By("tests/python/check.sh")),
    ("slurm", By("tests/slurm/run.sh")),
    ("workflow", By("tests/snakemake/run.sh")),
];

/// The mark of blocks that are asked for.
fn asked() -> Option<String> {
    std::env::var("DOCS_RUN").ok()
}

/// Whether the blocks of this kind are run this time.
fn is_run(info: &str) -> bool {
    let Some(mark) = info.strip_prefix("console ") else {
        return info == "console";
    };
    match MARKS.iter().find(|(known, _)| *known == mark) {
        Some((_, With(programs))) => asked().is_none() && programs.iter().all(is_here),
        Some((_, By(_))) => asked().as_deref() == Some(mark),
        None => panic!("there is no mark {mark}"),
    }
}

/// Whether a program is in PATH, or a file is there.
fn is_here(program: &&str) -> bool {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

/// A command of a block.
struct Step {
    /// The block's place in its page, and the line of the command there, from 0.
    at: usize,
    command: String,
    /// What it prints, by the page; a hidden one may print anything.
    shown: Option<Vec<String>>,
    /// Whether counts of tasks differ from run to run.
    is_live: bool,
    /// The lines of the page that show it.
    lines: std::ops::Range<usize>,
}

fn steps(block: &Block<'_>) -> Vec<Step> {
    let mut out: Vec<Step> = Vec::new();
    for (at, line) in (block.at + 1..).zip(&block.lines) {
        if let Some(command) = line.strip_prefix("$ ") {
            out.push(Step {
                at,
                command: command.to_owned(),
                shown: (!block.hidden).then(Vec::new),
                is_live: block.info == "console slurm",
                lines: at + 1..at + 1,
            });
            continue;
        }
        let step = out.last_mut().expect("a console block begins with `$ `");
        match line.strip_prefix("> ").or((*line == ">").then_some("")) {
            Some(more) if step.shown.as_ref().is_none_or(Vec::is_empty) => {
                step.command = format!("{}\n{more}", step.command);
                step.lines = at + 1..at + 1;
            }
            _ => {
                let shown = step.shown.as_mut().expect("a hidden command shows nothing");
                shown.push((*line).to_owned());
                step.lines.end = at + 1;
            }
        }
    }
    if block.info == "console terminal" {
        for step in &mut out {
            // `q` is typed at once.
            let command = step.command.replace('\'', r"'\''");
            step.command = format!(
                "printf q | TERM=xterm script -qefc 'stty rows 24 cols 80; {command}' /dev/null > .screen"
            );
        }
    }
    out
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !name.ends_with("_workdir") {
            copy(&path, &to.join(name));
        } else if path.is_file() {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// What separates what the commands print.
const END: char = '\u{1e}';

/// Runs commands in one shell, with these files. Gives the output and the exit status of each.
fn run(commands: &[&str], files: &[(String, String)]) -> Vec<(String, i32)> {
    let folder = tempfile::tempdir().unwrap();
    for name in ["examples", "slurm"] {
        copy(&root().join(name), &folder.path().join(name));
    }
    fs::create_dir(folder.path().join(".blocks")).unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(".blocks").join(name), text).unwrap();
    }
    // A path through which the program is found as `pytf`.
    let pytf = Path::new(env!("CARGO_BIN_EXE_pytf"));
    // A cluster, and what was installed, have one of their own.
    let mut path = std::env::var("PATH").unwrap();
    if !matches!(asked().as_deref(), Some("slurm" | "install")) {
        path = format!("{}:{path}", pytf.parent().unwrap().display());
    }
    let mut script = "exec 2>&1\n".to_owned();
    for command in commands {
        script += &format!(
            "{command}\ndocs_status=$?; printf '{END}%d\\n' $docs_status; (exit $docs_status)\n"
        );
    }
    let file = folder.path().join(".commands");
    // PyTaskFarmer leaves folders there.
    let temporary = folder.path().join(".tmp");
    fs::create_dir(&temporary).unwrap();
    fs::write(&file, script).unwrap();
    // Where Slurm is, and Rust.
    let kept = ["SLURM_CONF", "CARGO_HOME", "RUSTUP_HOME", "DOCS_ROOT"];
    let kept = kept
        .iter()
        .filter_map(|name| Some((name, std::env::var(name).ok()?)));
    // What is run only when asked for may build releases.
    let limit = if asked().is_some() { "3600" } else { "540" };
    let bash = Command::new("timeout")
        .args(["-k", "5", limit, "bash"])
        .arg(&file)
        .current_dir(folder.path())
        .env_clear()
        .env("PATH", path)
        .env("HOME", folder.path())
        .env("USER", "you")
        .env("SOURCE", root())
        .env("BLOCKS", folder.path().join(".blocks"))
        .envs(kept)
        .env("LC_ALL", "C.UTF-8")
        .env("TMPDIR", temporary)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let output = named(
        &String::from_utf8_lossy(&bash.stdout),
        &folder.path().display().to_string(),
    );
    let mut rest = &*output;
    let mut out = Vec::new();
    for command in commands {
        let (text, more) = rest
            .split_once(END)
            .unwrap_or_else(|| panic!("the shell ended at: {command}\n{rest}"));
        let (status, more) = more.split_once('\n').unwrap();
        out.push((text.to_owned(), status.parse().unwrap()));
        rest = more;
    }
    out
}

/// The output with other names for the machine and the folder.
fn named(output: &str, folder: &str) -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let mut output = output.replace(folder, "/home/you");
    // Nodes whose names begin with a word of their cluster.
    if let Ok(prefix) = std::env::var("DOCS_NODES") {
        output = output.replace(&prefix, "node").replace(" root ", " you ");
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let mut out = String::new();
    let mut rest = &*output;
    while let Some(at) = rest.find(host.trim()) {
        let (before, from) = rest.split_at(at);
        let (name, after) = from.split_at(host.trim().len());
        let is_whole = !before.ends_with(is_name) && !after.starts_with(is_name);
        out += before;
        out += if is_whole { "laptop" } else { name };
        rest = after;
    }
    out + rest
}

/// A line with `#` for what differs from run to run.
fn mask(line: &str) -> String {
    const UNITS: [&str; 14] = [
        "ms", "us", "ns", "s", "m", "h", "d", " %", " KiB", " MiB", " GiB", " B", "/s", " ms",
    ];
    let mut out = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let inside = out.ends_with(|c: char| c.is_alphanumeric() || c == '.' || c == '_');
        if digits > 0 && !inside {
            // As `squeue` has it: 0:19.
            if let Some(clock) = rest[digits..].strip_prefix(':')
                && clock.starts_with(|c: char| c.is_ascii_digit())
            {
                out.push('#');
                rest = clock.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':');
                continue;
            }
            let number = rest.len()
                - rest
                    .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.' || c == ',')
                    .len();
            let after = &rest[number..];
            let unit = UNITS.iter().find(|unit| {
                after
                    .strip_prefix(**unit)
                    .is_some_and(|next| !next.starts_with(|c: char| c.is_alphabetic() || c == '_'))
            });
            if let Some(unit) = unit {
                if !out.ends_with('#') {
                    out.push('#');
                }
                rest = &after[unit.len()..];
                continue;
            }
        }
        if "█░▏▎▍▌▋▊▉".contains(first) {
            if !out.ends_with('█') {
                out.push('█');
            }
        } else if first == ' ' || first == '\t' {
            if !out.ends_with(' ') {
                out.push(' ');
            }
        } else {
            out.push(first);
        }
        rest = &rest[first.len_utf8()..];
    }
    // The name of a farmer ends with numbers.
    let is_farmer = |at: &usize| out[at + 7..].starts_with(|c: char| c.is_ascii_digit());
    if let Some(at) = out.find("laptop.").filter(is_farmer) {
        let end = out[at + 7..].trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        out = format!("{}laptop.#{end}", &out[..at]);
    }
    out.trim_end().to_owned()
}

/// A masked line of a run that is looked at while it goes on, with `#` for numbers of tasks.
fn mask_counts(line: &str) -> String {
    const OF: [&str; 7] = [
        "finished", "left", "claimed", "waiting", "running", "ran", "tasks",
    ];
    let words: Vec<&str> = line.split(' ').collect();
    let is_number = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_digit())
            && word.chars().all(|c| c.is_ascii_digit() || c == ',')
    };
    let is_count = |at: usize| {
        let next = words.get(at + 1).map_or("", |next| next.trim_matches(','));
        words[at].contains(',') || OF.contains(&next)
    };
    let masked = (0..words.len()).map(|at| {
        if is_number(words[at].trim_end_matches(',')) && is_count(at) {
            "#"
        } else {
            words[at]
        }
    });
    masked.collect::<Vec<_>>().join(" ")
}

/// Whether a text is what a pattern with `...` says.
fn is_like(pattern: &str, text: &str) -> bool {
    match pattern.split_once("...") {
        None => pattern == text,
        Some((begin, rest)) => text.strip_prefix(begin).is_some_and(|text| {
            (0..=text.len())
                .filter(|&at| text.is_char_boundary(at))
                .any(|at| is_like(rest, &text[at..]))
        }),
    }
}

fn are_like(patterns: &[String], lines: &[String]) -> bool {
    match patterns.split_first() {
        None => lines.is_empty(),
        Some((any, rest)) if any == "..." => {
            (0..=lines.len()).any(|at| are_like(rest, &lines[at..]))
        }
        Some((pattern, rest)) => lines
            .split_first()
            .is_some_and(|(line, lines)| is_like(pattern, line) && are_like(rest, lines)),
    }
}

/// Lines to compare. Tasks and processes end in any order: what is said of each is sorted.
fn comparable<'a>(lines: impl Iterator<Item = &'a str>, is_live: bool) -> Vec<String> {
    // What bash says of its jobs comes at any time, and otherwise from a prompt.
    let is_of_job = |line: &&str| line.contains("/.commands: line ") && line.contains(" Killed ");
    // A run that takes long says how far it is.
    let is_progress = |line: &&str| line.starts_with("pytf: ") && line.contains(" running, ");
    let lines = lines.filter(|line| !is_of_job(line) && !is_progress(line));
    let mut out: Vec<String> = lines.map(mask).collect();
    if is_live {
        out = out.iter().map(|line| mask_counts(line)).collect();
    }
    while out.last().is_some_and(String::is_empty) {
        out.pop();
    }
    let is_of_task =
        |line: &String| line.starts_with("pytf: task ") || line.starts_with("pytf on node");
    for part in out.chunk_by_mut(|a, b| is_of_task(a) && is_of_task(b)) {
        part.sort();
    }
    out
}

/// Runs the commands of the pages as one session. Gives what is wrong.
fn session(pages: &[&Page]) -> String {
    let mut texts = Vec::new();
    let steps: Vec<(usize, Step)> = pages
        .iter()
        .enumerate()
        .flat_map(|(page, of)| {
            let blocks = blocks(&of.text).0;
            let is_console = |block: &&Block<'_>| block.info.starts_with("console");
            let files = blocks.iter().filter(|block| !is_console(block));
            let name = of.name.rsplit_once('/').map_or(&*of.name, |(_, name)| name);
            let name = name.trim_end_matches(".md");
            texts.extend((1..).zip(files).map(|(n, block)| {
                let text = block.lines.join("\n") + "\n";
                (format!("{name}-{n}"), text)
            }));
            let run = blocks.iter().filter(is_console);
            let run = run.filter(|block| is_run(block.info));
            run.flat_map(steps)
                .map(|step| (page, step))
                .collect::<Vec<_>>()
        })
        .collect();
    let commands: Vec<&str> = steps.iter().map(|(_, step)| &*step.command).collect();
    let results = run(&commands, &texts);
    let mut wrong = String::new();
    let mut new: Vec<Vec<String>> = pages
        .iter()
        .map(|page| page.text.lines().map(str::to_owned).collect())
        .collect();
    for (n, ((page, step), (output, status))) in steps.iter().zip(&results).enumerate().rev() {
        let place = format!("{}:{}", pages[*page].name, step.at + 1);
        let is_looked_at = commands
            .get(n + 1)
            .is_some_and(|next| next.starts_with("echo $?"));
        if *status != 0 && !is_looked_at {
            wrong += &format!("{place}: {} ended with {status}\n{output}\n", step.command);
        }
        let Some(shown) = &step.shown else { continue };
        let page_has = shown.join("\n");
        let shown = comparable(shown.iter().map(String::as_str), step.is_live);
        let printed = comparable(output.lines(), step.is_live);
        if !are_like(&shown, &printed) {
            wrong += &format!(
                "{place}: $ {}\n--- the page has\n{}\n--- it printed\n{output}\n",
                step.command, page_has
            );
            new[*page].splice(step.lines.clone(), output.lines().map(str::to_owned));
        }
    }
    if std::env::var_os("DOCS_WRITE").is_some() {
        for (page, lines) in pages.iter().zip(new) {
            fs::write(root().join(&page.name), lines.join("\n") + "\n").unwrap();
        }
    }
    wrong
}

#[test]
fn commands_print_what_the_pages_show() {
    let pages = pages();
    let name = |page: &Page| match page.name.split_once("/tutorial/") {
        Some((folder, _)) => folder.to_owned(),
        None => page.name.clone(),
    };
    let mut wanted: HashSet<String> = pages.iter().map(name).collect();
    if let Some(mark) = asked() {
        let asked = format!("console {mark}");
        let has_it = |page: &&Page| blocks(&page.text).0.iter().any(|block| block.info == asked);
        wanted = pages.iter().filter(has_it).map(name).collect();
    }
    if let Ok(page) = std::env::var("DOCS_PAGE") {
        let of_it = pages.iter().find(|one| one.name == page).map(name);
        wanted.retain(|name| of_it.as_ref() == Some(name));
    }
    let mut sessions: HashMap<String, Vec<&Page>> = HashMap::new();
    let mut count = 0;
    for page in pages.iter().filter(|page| wanted.contains(&name(page))) {
        let here = blocks(&page.text).0;
        let run = here
            .iter()
            .filter(|block| block.info.starts_with("console"));
        let run: Vec<_> = run.filter(|block| is_run(block.info)).collect();
        if !run.is_empty() {
            let shown = run.iter().filter(|block| !block.hidden);
            count += shown.map(|block| steps(block).len()).sum::<usize>();
            sessions.entry(name(page)).or_default().push(page);
        }
    }
    eprintln!("{count} commands are run");
    let wrong: String = std::thread::scope(|scope| {
        let all: Vec<_> = sessions
            .values()
            .map(|pages| scope.spawn(|| session(pages)))
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(
        wrong.is_empty(),
        "{wrong}\nDOCS_WRITE=1 cargo test --test docs commands  writes what was printed\n"
    );
    let enough = if asked().is_some() { 1 } else { 100 };
    assert!(count >= enough, "{count} commands were run");
}

/// The options of `pytf` and of each of its commands, as they are written.
fn options() -> HashMap<String, HashSet<String>> {
    let of = |command: &clap::Command| {
        let mut out = HashSet::new();
        for option in command.get_arguments() {
            let long = option.get_long_and_visible_aliases().unwrap_or_default();
            let all = option.get_all_aliases().unwrap_or_default();
            out.extend(long.iter().chain(&all).map(|name| format!("--{name}")));
            let short = option.get_short_and_visible_aliases().unwrap_or_default();
            out.extend(short.iter().map(|name| format!("-{name}")));
            out.extend(
                option
                    .get_all_short_aliases()
                    .unwrap_or_default()
                    .iter()
                    .map(|name| format!("-{name}")),
            );
        }
        out.extend(["-h", "--help"].map(str::to_owned));
        out
    };
    let farm = Cli::command();
    let mut out: HashMap<String, HashSet<String>> = farm
        .get_subcommands()
        .map(|command| (command.get_name().to_owned(), of(command)))
        .collect();
    out.insert(String::new(), of(&farm));
    out.insert("run".to_owned(), of(&farm));
    let check = out["check"].union(&out[""]).cloned().collect();
    out.insert("check".to_owned(), check);
    out
}

/// The options of each `pytf` in a line of shell that do not exist.
fn unknown(line: &str, options: &HashMap<String, HashSet<String>>) -> Vec<String> {
    let mut out = Vec::new();
    let mut command: Option<Option<&str>> = None;
    let mut before = "";
    let mut is_first = false;
    for word in line.split_whitespace() {
        // A workdir may have the name of a command.
        let follows = std::mem::take(&mut is_first);
        let word = word.trim_start_matches(['(', '"', '\'', '`']);
        match &mut command {
            // A path behind an option is its value.
            _ if word == "pytf" || word.ends_with("/pytf") && !before.starts_with('-') => {
                (command, is_first) = (Some(None), true);
            }
            _ if word.starts_with(['|', ';', '#', '&', '>', '<']) => command = None,
            // The command of a template follows.
            _ if word == "--" => command = None,
            None => {}
            Some(of) => {
                let option = word
                    .split(['=', '[', ';', ')', ',', '"', '`'])
                    .next()
                    .unwrap();
                if let Some(long) = option.strip_prefix('-').filter(|rest| !rest.is_empty()) {
                    let of = of.unwrap_or_default();
                    let short = if long.starts_with('-') {
                        option
                    } else {
                        &option[..option.len().min(2)]
                    };
                    if !short.is_ascii() || !options[of].contains(short) {
                        out.push(format!("pytf {of} {option}"));
                    }
                } else if follows && options.contains_key(option) {
                    *of = Some(option);
                }
                if word.ends_with([';', ')', '`']) {
                    command = None;
                }
            }
        }
        before = word;
    }
    out
}

#[test]
fn options_in_the_pages_exist() {
    let options = options();
    let (mut wrong, mut marked, mut seen) = (String::new(), HashMap::new(), 0);
    for page in pages() {
        let (blocks, prose) = blocks(&page.text);
        let mut lines: Vec<(usize, String)> = Vec::new();
        for block in &blocks {
            if let Some(mark) = block.info.strip_prefix("console ") {
                let is_known = MARKS.iter().any(|(known, _)| *known == mark);
                assert!(is_known, "{}:{}: {mark}", page.name, block.at + 1);
                if block.hidden {
                    continue;
                }
                *marked.entry(mark.to_owned()).or_insert(0) += steps(block).len();
            }
            let joined = block.lines.join("\n").replace("\\\n", " ");
            lines.extend(joined.lines().map(|line| (block.at, line.to_owned())));
        }
        for (at, line) in prose {
            let code = line.split('`').skip(1).step_by(2);
            let code = code.filter(|code| code.starts_with("pytf "));
            lines.extend(code.map(|code| (at, code.to_owned())));
        }
        for (at, line) in lines {
            seen += line.matches("pytf ").count();
            for option in unknown(&line, &options) {
                wrong += &format!("{}:{}: there is no {option}\n", page.name, at + 1);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(seen > 50, "{seen}");
    for (mark, how) in MARKS {
        let count = marked.get(*mark).unwrap_or(&0);
        match how {
            With(programs) if programs.iter().all(is_here) => {}
            With(programs) => eprintln!("not run: {count} commands that need {programs:?}"),
            By(test) => eprintln!("run by {test}: {count} commands"),
        }
    }
}

#[test]
fn what_may_differ_is_masked() {
    for (a, b) in [
        (
            "9 finished · 1.8s on 2 slots, 2 % busy",
            "9 finished · 4m10s on 2 slots, 93 % busy",
        ),
        ("█████░░░ 59.0 %  5 of 12 tasks", "░░░ 1.5 % 5 of 12 tasks"),
        (
            "farmer laptop.0.12.13, slot 1",
            "farmer laptop.0.9.1795689055825, slot 1",
        ),
        ("peak memory 5.5 MiB", "peak memory 1,005 KiB"),
    ] {
        assert_eq!(mask(a), mask(b));
    }
    for (a, b) in [
        ("9 finished", "8 finished"),
        ("logs/log_1", "logs/log_2"),
        ("3 samples", "4 samples"),
    ] {
        assert_ne!(mask(a), mask(b));
    }
    let lines = |text: &str| comparable(text.lines(), false);
    assert!(are_like(
        &lines("a\n...\nb ... c"),
        &lines("a\nx\ny\nb 17 c\n\n")
    ));
    assert!(!are_like(&lines("a\n...\nb"), &lines("a\nx")));
    assert!(are_like(
        &lines("pytf: task 2\npytf: task 1"),
        &lines("pytf: task 1\npytf: task 2")
    ));
}

#[test]
fn unknown_options_are_found() {
    let options = options();
    for (line, count) in [
        (
            "srun -K0 pytf tasks.txt --proc 4 -n4 --timeout=3 | sort --reverse",
            0,
        ),
        ("pytf status W --failed --format csv; ls --all", 0),
        ("tar -C ~/pytf --strip-components=1", 0),
        ("pytf tasks.txt --needs", 1),
        ("pytf status W --proc", 1),
        ("pytf log W 3 --attempt 1 && pytf a -z", 1),
        ("pytf -w W --needs -- ./md -T {} ::: 300", 1),
    ] {
        assert_eq!(unknown(line, &options).len(), count, "{line}");
    }
}
