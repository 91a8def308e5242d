//! PyTaskFarmer's `TransformTaskList` and `AthenaTaskList`: each line of the list is an input file,
//! and its tasks are commands of ATLAS, followed by the copy of the result into the workdir.
//!
//! Guarantee: the commands are those of PyTaskFarmer, byte for byte; `tests/black_box/runners.rs`
//! compares them. The one difference is who counts the events of a file: a command of the user
//! (`countEvents` in the section `[pytf]` of the same file), or else `PyROOT` in `python3`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::definitions::{Definition, Result};

/// Prints how many events a file has, as PyTaskFarmer finds it out.
const COUNT: &str = "import sys, ROOT
print(ROOT.TFile.Open(sys.argv[1]).Get('CollectionTree').GetEntries())";

/// A class with its keys.
#[derive(Clone, Debug)]
pub(in crate::farm) struct Atlas {
    class: Class,
    /// The keys that are options of the command.
    options: Vec<(String, String)>,
    /// The most events of a task; none: a task has all of a file.
    most: Option<f64>,
    /// Counts the events of a file, which follows it.
    count: Option<String>,
    /// Where the definition is, for messages.
    place: String,
    output_folder: PathBuf,
}

/// The number of a part of a file, how many events it skips, and how many it takes.
type Part = (u64, u64, u64);

#[derive(Clone, Debug)]
enum Class {
    Transform {
        transform: String,
        input: String,
        output: String,
    },
    Athena {
        job_options: String,
        output: String,
    },
}

impl Atlas {
    /// Of a definition of this class; none: it is another class.
    pub(super) fn of(
        class: &str,
        definition: &Definition,
        output_folder: &Path,
    ) -> Option<Result<Self>> {
        match class {
            "taskfarmer.atlas.TransformTaskList" => {
                let own = ["transform", "input", "output"];
                Some(Self::with(definition, &own, output_folder))
            }
            "taskfarmer.atlas.AthenaTaskList" => {
                let own = ["jobOptions", "output"];
                Some(Self::with(definition, &own, output_folder))
            }
            _ => None,
        }
    }

    fn with(definition: &Definition, own: &[&str], output_folder: &Path) -> Result<Self> {
        const MOST: &str = "maxEventsPerJob";
        let text = |key| definition.needed(key).map(str::to_owned);
        for entry in &definition.entries {
            if entry.value.contains('\n') {
                let what = "a command is one line: write the value in one";
                return Err(definition.wrong_value(&entry.key, what));
            }
            if ["path", "workdir"].contains(&&*entry.key) {
                let what = "PyTaskFarmer sets it itself: remove it";
                return Err(definition.wrong_value(&entry.key, what));
            }
        }
        let most = definition.value(MOST).map(|text| {
            let number = text.trim().parse::<f64>().ok();
            let number = number.filter(|number| number.is_finite() && *number >= 1.0);
            number.ok_or_else(|| definition.wrong_value(MOST, "it is a number of events, from 1"))
        });
        let entries = definition.entries.iter();
        let options = entries.filter(|entry| !own.contains(&&*entry.key) && entry.key != MOST);
        Ok(Self {
            class: match own {
                [_, _] => Class::Athena {
                    job_options: text("jobOptions")?,
                    output: text("output")?,
                },
                _ => Class::Transform {
                    transform: text("transform")?,
                    input: text("input")?,
                    output: text("output")?,
                },
            },
            options: options
                .map(|entry| (entry.key.clone(), entry.value.clone()))
                .collect(),
            most: most.transpose()?,
            count: definition.ours("countEvents").map(str::to_owned),
            place: definition.place(),
            output_folder: output_folder.to_owned(),
        })
    }

    /// The tasks of a list of input files, one per line. The error says why there are none.
    pub(super) fn tasks(&self, list: &[u8]) -> std::result::Result<Vec<u8>, String> {
        let list = std::str::from_utf8(list).map_err(|_| "the list is not UTF-8".to_owned())?;
        let lines = list.lines().filter(|line| !line.starts_with('#'));
        let files = lines.map(str::trim).filter(|line| !line.is_empty());
        let (mut tasks, mut count) = (String::new(), 0);
        for (nth, file) in files.enumerate() {
            for part in self.parts(file)? {
                tasks += &self.command(file, nth, count, part);
                tasks.push('\n');
                count += 1;
            }
        }
        Ok(tasks.into_bytes())
    }

    /// The parts of a file: the number of each, how many events it skips, and how many it takes.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "numbers of events are far below 2^53"
    )]
    fn parts(&self, file: &str) -> std::result::Result<Vec<Option<Part>>, String> {
        let Some(most) = self.most else {
            return Ok(vec![None]);
        };
        let parts = (self.events(file)? as f64 / most).ceil() as u64;
        let part = |nth: u64| Some((nth, (nth as f64 * most) as u64, most as u64));
        Ok((0..parts).map(part).collect())
    }

    /// How many events a file has.
    fn events(&self, file: &str) -> std::result::Result<u64, String> {
        let (program, script) = match &self.count {
            Some(count) => ("/bin/sh", format!("{count} \"$1\"")),
            None => ("python3", COUNT.to_owned()),
        };
        let mut command = Command::new(program);
        command.args(["-c", &script]);
        // The shell takes it for its own name.
        command.args(self.count.as_ref().map(|_| "sh"));
        let shown = self.count.as_deref().unwrap_or("python3 with PyROOT");
        let wrong = |what: String| {
            format!(
                "{}: maxEventsPerJob: {shown} cannot count the events of {file}: {what}; a \
                 command that prints their number is set with countEvents = COMMAND in the \
                 section [pytf] of the same file",
                self.place
            )
        };
        let done = command.arg(file).stdin(Stdio::null()).output();
        let done = done.map_err(|error| wrong(error.to_string()))?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            let last = said.lines().last().unwrap_or_default();
            return Err(wrong(format!("{}, {last}", done.status)));
        }
        let printed = String::from_utf8_lossy(&done.stdout);
        let number = printed.trim().parse();
        number.map_err(|_| wrong(format!("it printed '{}'", printed.trim().escape_debug())))
    }

    /// The command of a task: the n-th of all, of the n-th file.
    fn command(&self, file: &str, nth_file: usize, nth: usize, part: Option<Part>) -> String {
        let folder = self.output_folder.display();
        let mut options = String::new();
        for (key, value) in &self.options {
            options += &format!(" --{key} '{value}'");
        }
        match &self.class {
            Class::Transform {
                transform,
                input,
                output,
            } => {
                let (result, events) = match part {
                    None => (format!("{output}.{nth_file}.root"), String::new()),
                    Some((part, skip, most)) => (
                        format!("{output}.{nth_file}.{part}.root"),
                        format!(" --skipEvents {skip} --maxEvents {most}"),
                    ),
                };
                format!(
                    "{transform}{options} --input{input}File {file} --output{output}File \
                     {result}{events} && rsync -avr {result} {folder}"
                )
            }
            Class::Athena {
                job_options,
                output,
            } => {
                let events = part.map_or_else(String::new, |(_, skip, most)| {
                    format!(" --skipEvents {skip} --evtMax {most}")
                });
                format!(
                    "athena.py{options} --filesInput {file}{events} {job_options} && rsync -avr \
                     {output} {folder}/{output}.{nth}"
                )
            }
        }
    }
}
