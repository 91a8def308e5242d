//! The runners that are ready to use, and those of definitions: by its class and its keys a
//! definition becomes a [`Wrapper`].
//!
//! Guarantee: a key that is not understood, or whose value is not used, is an error. For
//! PyTaskFarmer's classes the arguments are those that PyTaskFarmer gives;
//! `tests/black_box/runners.rs` compares them.

use super::python;
use super::wrapper::{Piece, VALUES, Value, Word, Wrapper};
use crate::definitions::{Definition, Result};
use crate::model::allocation::is_launchers;
use crate::model::attributes::nearest;

/// A runner that is ready to use.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// Its name.
    pub name: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    /// The keys that it has.
    pub keys: &'static [&'static str],
}

/// The keys of containers.
const CONTAINER: &[&str] = &[
    "image", "setup", "volumes", "options", "env", "gpus", "shell", "tempdir",
];

/// The runners that are ready to use. The first is the default.
pub const READY: [Ready; 11] = [
    ready(
        "default",
        "a simple command directly, any other line by the shell",
        &[],
    ),
    ready("shell", "each line by the shell (--shell)", &["env"]),
    ready(
        "split",
        "the words of a line, without a shell, as PyTaskFarmer's BasicRunner",
        &["env"],
    ),
    ready(
        "template",
        "the arguments in the key 'command'",
        &["command", "env"],
    ),
    ready("apptainer", "in a container: apptainer exec", CONTAINER),
    ready("singularity", "in a container: singularity exec", CONTAINER),
    ready("podman", "in a container: podman run", CONTAINER),
    ready("podman-hpc", "in a container: podman-hpc run", CONTAINER),
    ready("docker", "in a container: docker run", CONTAINER),
    ready(
        "shifter",
        "in a container: shifter",
        &[
            "image", "setup", "volumes", "modules", "options", "env", "shell", "tempdir",
        ],
    ),
    ready(
        "srun",
        "each task as a step of its own, with nodes= and ntasks=",
        &["options", "env"],
    ),
];

const fn ready(name: &'static str, about: &'static str, keys: &'static [&'static str]) -> Ready {
    Ready { name, about, keys }
}

/// PyTaskFarmer's classes, and which of ours does the same.
const OF_PYTASKFARMER: [(&str, &str, &[&str]); 2] = [
    ("taskfarmer.runners.BasicRunner", "split", &[]),
    (
        "taskfarmer.runners.ShifterRunner",
        "shifter",
        &["image", "setup", "volumes", "modules", "tempdir"],
    ),
];

/// What podman and docker pass on: they start with an empty environment.
const PASSED_ON: [&str; 16] = [
    "PYTF_TASK_ID",
    "PYTF_ATTEMPT",
    "PYTF_SLOT",
    "PYTF_NODE",
    "PYTF_WORKDIR",
    "PYTF_TASK_DIR",
    "PYTF_RUN_DIR",
    "PROC_NUMBER",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
    "ZE_AFFINITY_MASK",
    "ONEAPI_DEVICE_SELECTOR",
    "SLURM_JOB_ID",
];

const OF_APPTAINER: &[(i32, &str)] = &[(
    255,
    "apptainer ends so when it cannot start the container; a command may end so, too",
)];
const OF_ENGINES: &[(i32, &str)] = &[
    (
        125,
        "the container was not started: the message above is that of the container engine",
    ),
    (
        126,
        "the image has the shell of the runner, but it cannot be executed: set shell=…",
    ),
    (
        127,
        "the image has not the shell of the runner (set shell=…), or not the command",
    ),
];
const OF_SRUN: &[(i32, &str)] = &[
    (
        137,
        "srun ends so when a rank was killed, also by srun after another had failed",
    ),
    (
        143,
        "srun ends so when a rank was stopped, also by srun after another had failed",
    ),
];

/// The runner of a definition; none is the default runner.
pub fn of(definition: &Definition) -> Result<Option<Wrapper>> {
    let theirs = OF_PYTASKFARMER
        .iter()
        .find(|(class, ..)| *class == definition.class);
    let (class, keys) = match theirs {
        Some((_, ours, keys)) => (*ours, *keys),
        None => match READY.iter().find(|ready| ready.name == definition.class) {
            Some(ready) => (ready.name, ready.keys),
            None if definition.class.contains('.') => return Ok(Some(python::runner(definition))),
            None => return Err(no_class(definition)),
        },
    };
    if class != "template" {
        definition.refuse_others(keys)?;
    }
    let mut wrapper = match class {
        "default" => return Ok(None),
        "shell" => Wrapper {
            words: vec![Word::Shell],
            ..Wrapper::default()
        },
        "split" => Wrapper {
            words: vec![Word::Split],
            ..Wrapper::default()
        },
        "template" => template(definition)?,
        "apptainer" | "singularity" => apptainer(definition, class)?,
        "shifter" => shifter(definition)?,
        "srun" => srun(definition)?,
        engine => of_engine(definition, engine)?,
    };
    wrapper.name.clone_from(&definition.name);
    if !matches!(
        class,
        "apptainer" | "singularity" | "podman" | "podman-hpc" | "docker"
    ) {
        wrapper.set.extend(variables(definition)?);
    }
    Ok(Some(wrapper))
}

fn no_class(definition: &Definition) -> crate::definitions::DefinitionError {
    let names = READY.iter().map(|ready| ready.name);
    let hint = match nearest(&definition.class, names.clone()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!(
            "it is a Python class, as in package.module.Class, or one of {}",
            names.collect::<Vec<_>>().join(", ")
        ),
    };
    let class = definition.class.escape_debug();
    definition.wrong(&format!("Runner = {class} is not known; {hint}"))
}

/// `NAME=value` words of the key `env`.
fn variables(definition: &Definition) -> Result<Vec<(String, String)>> {
    let words = words(definition, "env")?;
    let pair = |word: &String| {
        let (name, value) = word.split_once('=')?;
        (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
    };
    let pair = |word| {
        pair(&word).ok_or_else(|| {
            let what = format!("'{word}' is not NAME=value; several are separated by blanks");
            definition.wrong_value("env", &what)
        })
    };
    words.into_iter().map(pair).collect()
}

/// The words of a key, with quotes as in a shell; nothing is expanded.
fn words(definition: &Definition, key: &str) -> Result<Vec<String>> {
    let Some(text) = definition.value(key) else {
        return Ok(Vec::new());
    };
    shell_words(text).map_err(|what| definition.wrong_value(key, what))
}

/// Splits a text at blanks, with quotes and backslashes as in a shell.
pub fn shell_words(text: &str) -> std::result::Result<Vec<String>, &'static str> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c.is_ascii_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        match c {
            '\'' => loop {
                match rest.next().ok_or("a quote is not closed")? {
                    '\'' => break,
                    c => word.push(c),
                }
            },
            '"' => loop {
                match rest.next().ok_or("a quote is not closed")? {
                    '"' => break,
                    '\\' => match rest.next().ok_or("a quote is not closed")? {
                        c @ ('"' | '\\' | '$' | '`') => word.push(c),
                        c => word.extend(['\\', c]),
                    },
                    c => word.push(c),
                }
            },
            '\\' => word.push(rest.next().ok_or("nothing follows the last backslash")?),
            c => word.push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Whether a key that is True or False is True, as PyTaskFarmer reads it.
fn is_true(definition: &Definition, key: &str) -> Result<bool> {
    match definition.value(key) {
        None | Some("False" | "false") => Ok(false),
        Some("True" | "true") => Ok(true),
        Some(_) => Err(definition.wrong_value(key, "it is True or False")),
    }
}

/// The command after the commands of `setup`.
fn command(definition: &Definition) -> Vec<Piece> {
    let setup = definition.value("setup").filter(|setup| !setup.is_empty());
    let setup = setup.map(|setup| Piece::Text(format!("{setup} && ")));
    setup
        .into_iter()
        .chain([Piece::Value(Value::Command)])
        .collect()
}

fn shell<'a>(definition: &'a Definition, default: &'a str) -> &'a str {
    definition.value("shell").unwrap_or(default)
}

/// Whose GPUs a container sees.
enum Gpus {
    None,
    Nvidia,
    Amd,
}

fn gpus(definition: &Definition) -> Result<Gpus> {
    match definition.value("gpus") {
        None | Some("none") => Ok(Gpus::None),
        Some("nvidia") => Ok(Gpus::Nvidia),
        Some("amd") => Ok(Gpus::Amd),
        Some(_) => Err(definition.wrong_value("gpus", "it is nvidia, amd or none")),
    }
}

/// The arguments of the key `command`.
fn template(definition: &Definition) -> Result<Wrapper> {
    let text = definition.needed("command")?;
    let words = shell_words(text).map_err(|what| definition.wrong_value("command", what))?;
    if words.is_empty() {
        return Err(definition.wrong_value("command", "it is empty"));
    }
    let (mut wrapper, mut used) = (Wrapper::default(), vec!["command", "env"]);
    for word in &words {
        match &**word {
            "{shell}" => wrapper.words.push(Word::Shell),
            "{words}" => wrapper.words.push(Word::Split),
            word => {
                let pieces = pieces(definition, word, &mut used)?;
                wrapper.words.push(Word::One(pieces));
            }
        }
    }
    definition.refuse_others(&used)?;
    let has = |wanted: &dyn Fn(&Piece) -> bool| {
        let mut words = wrapper.words.iter();
        words.any(|word| matches!(word, Word::One(pieces) if pieces.iter().any(wanted)))
    };
    let is_value = |piece: &Piece, wanted: Value| *piece == Piece::Value(wanted);
    wrapper.needs_folder = has(&|piece| is_value(piece, Value::TaskDir));
    wrapper.has_steps =
        has(&|piece| is_value(piece, Value::Ntasks) || is_value(piece, Value::Nodes));
    let has_line = wrapper
        .words
        .iter()
        .any(|word| matches!(word, Word::Shell | Word::Split))
        || has(&|piece| is_value(piece, Value::Command));
    if !has_line {
        let what = "the line of the task is nowhere in it: add {shell}, {command} or {words}";
        return Err(definition.wrong_value("command", what));
    }
    Ok(wrapper)
}

/// The pieces of a word of a template.
fn pieces<'a>(
    definition: &'a Definition,
    word: &str,
    used: &mut Vec<&'a str>,
) -> Result<Vec<Piece>> {
    let (mut pieces, mut text) = (Vec::new(), String::new());
    let mut rest = word;
    while let Some(at) = rest.find(['{', '}']) {
        text += &rest[..at];
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            text += brace;
            rest = after;
            continue;
        }
        let name = (brace == "{").then(|| rest.split_once('}')).flatten();
        let Some((name, after)) = name else {
            let what = format!("a single '{brace}' in '{word}': write it twice, or {{NAME}}");
            return Err(definition.wrong_value("command", &what));
        };
        rest = after;
        let own = definition.entries.iter().find(|entry| entry.key == name);
        if let Some(own) = own.filter(|own| own.key != "command") {
            text += &own.value;
            used.push(&own.key);
        } else if let Some((_, value)) = VALUES.iter().find(|(known, _)| *known == name) {
            pieces.extend((!text.is_empty()).then(|| Piece::Text(std::mem::take(&mut text))));
            pieces.push(Piece::Value(*value));
        } else {
            let what = match name {
                "shell" | "words" => format!("{{{name}}} is a word of its own, not a part of one"),
                _ => {
                    let known = VALUES.iter().map(|(known, _)| *known);
                    let known: Vec<_> = known.chain(["shell", "words"]).collect();
                    format!(
                        "{{{name}}} is neither a key of this section nor one of {}",
                        known.join(", ")
                    )
                }
            };
            return Err(definition.wrong_value("command", &what));
        }
    }
    text += rest;
    if !text.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

fn apptainer(definition: &Definition, tool: &str) -> Result<Wrapper> {
    let gpus = match gpus(definition)? {
        Gpus::None => None,
        Gpus::Nvidia => Some("--nv"),
        Gpus::Amd => Some("--rocm"),
    };
    let volumes = words(definition, "volumes")?;
    let env = variables(definition)?;
    let env: Vec<_> = env
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let options = words(definition, "options")?;
    Ok(Wrapper {
        needs_folder: is_true(definition, "tempdir")?,
        meanings: OF_APPTAINER,
        ..Wrapper::default()
    }
    .words([tool, "exec"])
    .words(gpus)
    .words(volumes.iter().flat_map(|volume| ["--bind", volume]))
    .words(env.iter().flat_map(|var| ["--env", var]))
    .words(options.iter().map(|option| &**option))
    .words([
        definition.needed("image")?,
        shell(definition, "/bin/sh"),
        "-c",
    ])
    .pieces(command(definition)))
}

/// The first process of a container ignores SIGTERM unless it has a trap for it, and all others
/// end with it. So a task that is stopped ends, and does not go on without its farmer. (The
/// engines' `--init` needs a program that is not everywhere.)
const ENDS_AT_SIGTERM: &str = "trap 'exit 143' TERM; \"$0\" -c \"$1\" & wait \"$!\"";

/// podman, podman-hpc and docker: they have nothing of the host but what they are given.
fn of_engine(definition: &Definition, tool: &str) -> Result<Wrapper> {
    let gpus: &[&str] = match (gpus(definition)?, tool) {
        (Gpus::None, _) => &[],
        (Gpus::Nvidia, "podman-hpc") => &["--gpu"],
        (Gpus::Nvidia, "docker") => &["--gpus", "all"],
        (Gpus::Nvidia, _) => &["--device", "nvidia.com/gpu=all"],
        (Gpus::Amd, _) => &["--device", "/dev/kfd", "--device", "/dev/dri"],
    };
    // Its files would be root's: there is no user namespace.
    let user = (tool == "docker").then(|| {
        let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
        format!("{user}:{group}")
    });
    let env = variables(definition)?;
    let env: Vec<_> = env
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let env = PASSED_ON
        .iter()
        .copied()
        .chain(env.iter().map(|var| &**var));
    let volumes = words(definition, "volumes")?;
    let options = words(definition, "options")?;
    let here = |before: &str, after: &[Piece]| {
        let text = Piece::Text(before.to_owned());
        [&[text, Piece::Value(Value::CurrentDir)], after].concat()
    };
    let shell = self::shell(definition, "/bin/sh");
    let twice = [Piece::Text(":".into()), Piece::Value(Value::CurrentDir)];
    Ok(Wrapper {
        needs_folder: is_true(definition, "tempdir")?,
        meanings: OF_ENGINES,
        ..Wrapper::default()
    }
    .words([tool, "run", "--rm"])
    .words(user.iter().flat_map(|user| ["--user", user]))
    .words(gpus.iter().copied())
    .pieces(here("--volume=", &twice))
    .pieces(here("--workdir=", &[]))
    .words(volumes.iter().flat_map(|volume| ["--volume", volume]))
    .words(env.flat_map(|var| ["--env", var]))
    .words(options.iter().map(|option| &**option))
    .words([
        definition.needed("image")?,
        shell,
        "-c",
        ENDS_AT_SIGTERM,
        shell,
    ])
    .pieces(command(definition)))
}

/// As PyTaskFarmer does it, in this order.
fn shifter(definition: &Definition) -> Result<Wrapper> {
    let needs_folder = is_true(definition, "tempdir")?;
    let options = words(definition, "options")?;
    let of = |key, option| {
        let values = definition.value(key).unwrap_or_default();
        let words = values
            .split_whitespace()
            .map(move |value| format!("{option}{value}"));
        words.collect::<Vec<_>>()
    };
    let (volumes, modules) = (of("volumes", "-V"), of("modules", "-m"));
    let mut wrapper = Wrapper {
        needs_folder,
        set: vec![("BASH_ENV".to_owned(), String::new())],
        ..Wrapper::default()
    }
    .words(["shifter", "--image", definition.needed("image")?]);
    if needs_folder {
        wrapper = wrapper.value("--workdir=", Value::TaskDir);
    }
    Ok(wrapper
        .words(
            volumes
                .iter()
                .chain(&modules)
                .chain(&options)
                .map(|word| &**word),
        )
        .words(["--", shell(definition, "/bin/bash"), "-c"])
        .pieces(command(definition)))
}

/// Each task is a step of its own. A step that asks for no size takes a whole node and all of
/// its memory, and the next one waits: "step creation temporarily disabled". Where pytf itself
/// runs in a step, that step has everything, and only `--overlap` lets another start.
fn srun(definition: &Definition) -> Result<Wrapper> {
    let variable = |name: &str| std::env::var(name).ok();
    let node = variable("SLURMD_NODENAME").filter(|_| variable("SLURM_STEP_ID").is_some());
    let options = words(definition, "options")?;
    let wrapper = Wrapper {
        has_steps: true,
        hides: Some(is_for_srun),
        meanings: OF_SRUN,
        ..Wrapper::default()
    }
    .words(["srun", "--kill-on-bad-exit=1"]);
    let wrapper = match &node {
        Some(node) => {
            let mut wrapper = wrapper.words(["--overlap", "--cpu-bind=none"]);
            wrapper
                .words
                .push(Word::OneNode(format!("--nodelist={node}")));
            wrapper
        }
        None => wrapper.word("--exact"),
    };
    let mut wrapper = wrapper
        .value("--nodes=", Value::Nodes)
        .value("--ntasks=", Value::Ntasks);
    wrapper = wrapper.value("--cpus-per-task=", Value::CpusOrOne);
    wrapper = wrapper.value("--gpus-per-node=", Value::Gpus);
    if node.is_none() {
        let memory = memory_per_cpu(variable);
        wrapper.words.push(Word::Memory(memory));
    }
    wrapper = wrapper.words(options.iter().map(|option| &**option));
    wrapper.words.push(Word::Shell);
    Ok(wrapper)
}

/// The memory of a CPU in MiB, where the job has its memory by node: a step would take all of
/// it. Where it has it by CPU, the variable says so to srun.
fn memory_per_cpu(variable: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let number = |name| variable(name)?.parse::<u64>().ok();
    let (node, cpus) = (number("SLURM_MEM_PER_NODE")?, number("SLURM_CPUS_ON_NODE")?);
    node.checked_div(cpus).filter(|memory| *memory > 0)
}

/// Whether srun would take the variable for an option of the step: the batch script has those
/// of the whole job.
fn is_for_srun(name: &str) -> bool {
    const NAMES: [&str; 12] = [
        "SLURM_MEM_PER_NODE",
        "SLURM_GPUS",
        "SLURM_GPUS_PER_NODE",
        "SLURM_GPUS_PER_TASK",
        "SLURM_GPUS_PER_SOCKET",
        "SLURM_NTASKS_PER_CORE",
        "SLURM_NTASKS_PER_GPU",
        "SLURM_NTASKS_PER_SOCKET",
        "SLURM_NTASKS_PER_TRES",
        "SLURM_EXACT",
        "SLURM_OVERLAP",
        "SLURM_EXCLUSIVE",
    ];
    NAMES.contains(&name) || is_launchers(name)
}
