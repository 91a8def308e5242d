//! The commands that only read a workdir.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::model::durations;
use crate::model::ids::Ids;
use crate::model::task::TaskId;

/// Show the state of a run.
///
/// It works on any machine that sees the workdir, during the run and afterwards. It takes
/// no lock and writes nothing.
#[derive(Clone, Debug, Args)]
pub struct Status {
    /// The workdir of the run
    pub workdir: PathBuf,
    /// List failed tasks: outcome, node, time, memory, log
    #[arg(long, conflicts_with = "task")]
    pub failed: bool,
    /// List running tasks: run time, node, slot, process
    #[arg(long, conflicts_with_all = ["task", "failed"])]
    pub running: bool,
    /// Show one task: its attempts, its log, why it waits
    #[arg(long, value_name = "ID")]
    pub task: Option<TaskId>,
    /// The format: text, json, csv, tsv [default: text]
    ///
    /// csv and tsv are for --failed and --running only.
    #[arg(
        long,
        value_name = "FORM",
        default_value = "text",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub format: Format,
    /// The same as --format json: see docs/status-json.md
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

/// How the result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One JSON object
    Json,
    /// Comma-separated values with a header line
    Csv,
    /// Tab-separated values with a header line
    Tsv,
}

impl Status {
    /// The requested format.
    pub fn form(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }

    /// What is wrong with the request.
    pub(super) fn fault(&self) -> Option<&'static str> {
        let is_table = matches!(self.form(), Format::Csv | Format::Tsv);
        (is_table && !self.failed && !self.running).then_some(
            "--format csv and --format tsv are for tables: add --failed or --running, or use json",
        )
    }
}

/// Watch a run on a live screen: nodes, slots, tasks and failures.
///
/// It needs a terminal. It takes no lock and writes nothing, so any number of people may
/// watch. The keys are shown at the bottom of the screen; q quits.
#[derive(Clone, Debug, Args)]
pub struct Watch {
    /// The workdir of the run
    pub workdir: PathBuf,
}

/// Wait until a run is complete.
///
/// With IDS: until these have ended, whatever the others do.
///
/// The exit status is 0 when all tasks finished, 1 when some failed and others at most wait for
/// these, 75 when tasks are left and no process works on them, or --timeout is over. It takes no
/// lock and writes nothing, so any number of scripts may wait, on any machine that sees the workdir.
#[derive(Clone, Debug, Args)]
pub struct Wait {
    /// The workdir of the run
    pub workdir: PathBuf,
    /// For which tasks: ids and ranges such as 17 or 3-9,12 [default: all]
    #[arg(value_name = "IDS")]
    pub tasks: Vec<Ids>,
    /// Give up after this time, with exit status 75
    ///
    /// Forms: seconds (3600), units (90s, 10m, 1h30m), or Slurm's [D-]HH:MM:SS. 0, the
    /// default, means no limit.
    #[arg(long, value_name = "TIME", value_parser = durations::parse)]
    pub timeout: Option<Duration>,
}

/// Write the results for other tools: joblog, csv or jsonl.
///
/// One line per ended attempt, in the order of the journals, or with --tasks one per task. It
/// works at any time.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("form").required(true))]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own on the command line"
)]
pub struct Export {
    /// The workdir of the run
    pub workdir: PathBuf,
    /// GNU parallel's --joblog; its Seq is the task's id plus 1
    #[arg(long, group = "form")]
    pub joblog: bool,
    /// Comma-separated values with a header line
    #[arg(long, group = "form")]
    pub csv: bool,
    /// One JSON object per line
    #[arg(long, group = "form")]
    pub jsonl: bool,
    /// One line per task that has ended, with its last attempt
    ///
    /// The member or column place says where it is: finished, failed or cancelled.
    #[arg(long, conflicts_with = "joblog")]
    pub tasks: bool,
    /// With --tasks: ids and ranges such as 17 or 3-9,12 [default: all]
    #[arg(requires = "tasks")]
    pub ids: Vec<Ids>,
    /// The file to write, - is standard output [default: -]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Write the timeline of a run, for Perfetto (ui.perfetto.dev).
///
/// It works at any time, also while the run goes on and after a crash.
#[derive(Clone, Debug, Args)]
pub struct Timeline {
    /// The workdir of the run
    pub workdir: PathBuf,
    /// File, or - for stdout [default: WORKDIR/timeline.json]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Compress the file; Perfetto opens .gz files directly
    #[arg(long)]
    pub gzip: bool,
    /// Only the last part of the run: 90s, 10m, 1h30m
    #[arg(long, value_name = "TIME", value_parser = durations::parse)]
    pub since: Option<Duration>,
}

/// Write a report of a run: one HTML page that needs no network.
#[derive(Clone, Debug, Args)]
pub struct Report {
    /// The workdir of the run
    pub workdir: PathBuf,
    /// File, or - for stdout [default: WORKDIR/report.html]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
