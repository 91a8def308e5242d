//! Before a farmer joins: the workdir is brought up to date, its locks are tested, the tasks of
//! dead farmers are requeued, and the task list is read.

use std::time::Duration;

use super::lock_wait::LockWaiter;
use super::options::{Options, Order};
use super::shared::Farm;
use super::source::Source;
use super::start_error::StartError;
use super::takeover::Takeover;
use crate::history::run_times::RunTimes;
use crate::host::allocation::host_name;
use crate::model::figures::{counted, grouped};
use crate::model::liveness::heartbeat;
use crate::model::tasklist::Remarks;
use crate::runner::chosen::DEFAULT;
use crate::ui::progress::{Progress, warn};
use crate::workdir::error::{Error, Result};
use crate::workdir::folder::{current_folder, is_same_folder};
use crate::workdir::journal::Journal;
use crate::workdir::liveness::Waiting;
use crate::workdir::open::Workdir;
use crate::workdir::resume::{
    EditPolicy, ListFailure, ListFile, ListSource, Prepared, prepare, prepare_stream,
};
use crate::workdir::retry::{Wanted, retry};
use crate::workdir::sort::longest_first;
use crate::workdir::state::peek;
use crate::workdir::upgrade::upgrade;
use crate::workdir::{exclusion, membership};

/// How often a list that is being written is read again, and after which pause.
const LIST_READS: u32 = 10;
const LIST_PAUSE: Duration = Duration::from_millis(300);

/// What the steps of a start share.
pub(super) struct StartContext<'a> {
    pub(super) farm: &'a Farm<'a>,
    pub(super) waiter: LockWaiter,
    pub(super) progress: Progress,
}

impl StartContext<'_> {
    /// Shows a line to the user.
    pub(super) fn say(&mut self, text: &str) {
        self.progress.say(&format!("pytf: {text}"));
    }

    /// The takeover of the tasks of others, by the farmer `me`.
    pub(super) fn takeover<'a>(&'a mut self, me: &'a str) -> Takeover<'a> {
        Takeover {
            workdir: &self.farm.workdir,
            waiter: &mut self.waiter,
            me,
        }
    }

    /// Prepares the workdir for the farmer of this journal. Returns whether the run is new.
    pub(super) fn prepare(
        &mut self,
        journal: &mut Journal,
        source: &Source,
    ) -> std::result::Result<bool, StartError> {
        let dir = &self.farm.workdir.dir;
        let me = journal.farmer().to_owned();
        let state = upgrade(&self.farm.workdir, &me, &mut self.waiter)?;
        if let Some(takeover) = state.and_then(|state| state.takeover()) {
            self.waiter.set_takeover(takeover);
        }
        let beat = heartbeat(self.waiter.takeover());
        exclusion::test(&self.farm.workdir, journal, beat, &mut self.waiter)?;
        membership::check_age(dir)?;
        // Dead farmers first: what they had claimed waits again, and must not run when its
        // line has been removed. In a new workdir none of theirs counts yet.
        let known = peek(dir)?;
        let is_known = known.is_some();
        let follows = self.farm.options.follow.is_some();
        if matches!(source, Source::Workdir) && !is_known && !follows {
            return Err(no_tasks(&self.farm.workdir));
        }
        if let Some(known) = known.as_ref().filter(|known| known.began > 0) {
            self.compare_runners(known.runner.as_deref())?;
        }
        if self.farm.options.hosted.is_none() {
            self.compare_folders(known.and_then(|state| state.folder))?;
        }
        let node = &self.farm.node;
        if is_known {
            self.takeover(&me).of_dead(&node.name)?;
        }
        let prepared = match source {
            Source::File(list) => prepare_list(
                &self.farm.workdir,
                self.farm.options,
                &mut self.waiter,
                list,
                &me,
            )?,
            Source::Stream(..) | Source::Workdir => {
                let here = current_folder();
                prepare_stream(
                    &self.farm.workdir,
                    &me,
                    &mut self.waiter,
                    here.as_deref(),
                    self.farm.options.runner.label(),
                )?
            }
        };
        for text in messages(&prepared) {
            self.say(&text);
        }
        if !is_known {
            self.takeover(&me).of_dead(&node.name)?;
        }
        if self.farm.options.retry_failed {
            let retried = retry(&self.farm.workdir, &me, &mut self.waiter, &Wanted::Failed)?;
            if !retried.back.is_empty() {
                let tasks = counted(retried.back.count(), "failed task", "failed tasks");
                self.say(&format!("{tasks} will be tried again"));
            }
        }
        if self.farm.options.hosted.is_none() {
            let sorted = sort(&self.farm.workdir, self.farm.options, &mut self.waiter, &me)?;
            if let Some(text) = sorted {
                self.say(&text);
            }
        }
        Ok(prepared.is_new && !prepared.imported)
    }

    /// With another runner than that with which a run was first started, the same lines become
    /// other processes: on another node, or after a resume.
    fn compare_runners(&mut self, first: Option<&str>) -> Result<()> {
        let ours = self.farm.options.runner.label();
        if first == ours {
            return Ok(());
        }
        let name = |label: Option<&str>| label.unwrap_or(DEFAULT).to_owned();
        let (first, ours) = (name(first), name(ours));
        let text = format!(
            "this run was first started with the runner '{first}'; this process runs tasks with \
             '{ours}'"
        );
        if self.farm.options.strict {
            let text = format!("{text}: add --runner {first}, or omit --strict");
            return Err(Error::Refused(text));
        }
        if self.farm.node.allocation.speaks_for_all() {
            self.say(&text);
        }
        Ok(())
    }

    /// Relative paths in tasks lead to other files when a run is continued in another
    /// folder than that in which it was first started.
    fn compare_folders(&mut self, first: Option<String>) -> Result<()> {
        let (Some(first), Some(here)) = (first, current_folder()) else {
            return Ok(());
        };
        if is_same_folder(&first, &here) {
            return Ok(());
        }
        let text = format!(
            "this run was first started in {first}; here, in {here}, relative paths in its tasks \
             mean other files"
        );
        if self.farm.options.strict {
            let text = format!("{text}: cd to the first folder, or omit --strict");
            return Err(Error::Refused(text));
        }
        if self.farm.node.allocation.speaks_for_all() {
            self.say(&text);
        }
        Ok(())
    }
}

/// Prepares the workdir for processes that start elsewhere, by one that runs no task itself:
/// all that is said of the list is said once, and they need no list.
pub(super) fn prepare_for_others(
    workdir: &Workdir,
    source: &Source,
    options: &Options,
    who: &str,
    waiter: &mut LockWaiter,
) -> std::result::Result<(), StartError> {
    let state = upgrade(workdir, who, waiter)?;
    if let Some(takeover) = state.and_then(|state| state.takeover()) {
        waiter.set_takeover(takeover);
    }
    membership::check_age(&workdir.dir)?;
    let is_known = peek(&workdir.dir)?.is_some();
    if matches!(source, Source::Workdir) && !is_known && options.follow.is_none() {
        return Err(no_tasks(workdir));
    }
    if is_known {
        let mut takeover = Takeover {
            workdir,
            waiter,
            me: who,
        };
        takeover.of_dead(&host_name())?;
    }
    let here = current_folder();
    let prepared = match source {
        Source::File(list) => prepare_list(workdir, options, waiter, list, who)?,
        Source::Stream(..) | Source::Workdir => prepare_stream(
            workdir,
            who,
            waiter,
            here.as_deref(),
            options.runner.label(),
        )?,
    };
    for text in &messages(&prepared) {
        warn(text);
    }
    if options.retry_failed {
        let retried = retry(workdir, who, waiter, &Wanted::Failed)?;
        if !retried.back.is_empty() {
            let tasks = counted(retried.back.count(), "failed task", "failed tasks");
            warn(&format!("{tasks} will be tried again"));
        }
    }
    let sorted = sort(workdir, options, waiter, who)?;
    if let Some(text) = sorted {
        warn(&text);
    }
    Ok(())
}

/// Puts the waiting tasks in the order that was asked for; what there is to say about it.
fn sort(
    workdir: &Workdir,
    options: &Options,
    waiter: &mut LockWaiter,
    me: &str,
) -> Result<Option<String>> {
    let Order::LongestFirst(records) = &options.order else {
        return Ok(None);
    };
    let path = records.as_ref().unwrap_or(&workdir.path);
    let read = || {
        let refused = |error| Error::Refused(format!("--order: cannot read run times: {error}"));
        RunTimes::read(path).map_err(refused)
    };
    let done = longest_first(workdir, me, waiter, read, RunTimes::of)?;
    Ok(done.map(|times| match times.count() as u64 {
        0 => "no run time is known, so the order stays".to_owned(),
        1 => "the longest first: the run time of 1 command is known".to_owned(),
        n => {
            let n = grouped(n);
            format!("the longest first: the run times of {n} commands are known")
        }
    }))
}

/// Without a list, there must be a run.
fn no_tasks(workdir: &Workdir) -> StartError {
    let why = format!(
        "there is no TASKLIST, and no run in the workdir {}: give the list of its tasks, or \
         add some with pytf add",
        workdir.path.display()
    );
    Error::Refused(why).into()
}

/// Prepares for a list. One that is being written is read again, for a short while.
fn prepare_list(
    workdir: &Workdir,
    options: &Options,
    waiter: &mut LockWaiter,
    list: &ListFile,
    me: &str,
) -> std::result::Result<Prepared, ListFailure> {
    let edits = EditPolicy {
        strict: options.strict,
        drop: options.drop,
    };
    let folder = current_folder();
    let source = ListSource {
        list,
        folder: folder.as_deref(),
        runner: options.runner.label(),
        edits,
    };
    let mut newer = None;
    for _ in 0..LIST_READS {
        let list = newer.as_ref().unwrap_or(list);
        match prepare(workdir, me, waiter, ListSource { list, ..source }) {
            Err(ListFailure::Changing { .. }) => {}
            done => return done,
        }
        if !waiter.pause(LIST_PAUSE) {
            break;
        }
        newer = list.again()?;
    }
    let list = newer.as_ref().unwrap_or(list);
    prepare(workdir, me, waiter, ListSource { list, ..source })
}

/// What is to be said of a list that was read.
fn messages(prepared: &Prepared) -> Vec<String> {
    let mut said = Vec::new();
    for message in prepared.remarks.iter().flat_map(Remarks::messages) {
        said.push(message);
    }
    if prepared.imported {
        said.push(
            "the workdir has no state of pytf, only PyTaskFarmer's files: \
             what they say is finished or failed is believed, all else will run"
                .to_owned(),
        );
    }
    if let Some(changed) = prepared.changed {
        let mut text = format!(
            "the task list has changed: {} new",
            counted(changed.new, "line is", "lines are")
        );
        if changed.new > 0 {
            text += &format!(" (ids from {})", changed.first_new);
        }
        text += &format!(", {} gone", counted(changed.vanished, "is", "are"));
        if changed.dropped > 0 {
            text += &format!(" ({} of them had not run and will not)", changed.dropped);
        }
        if changed.forgotten > 0 {
            let (one, many) = ("had failed and counts", "had failed and count");
            let were = counted(changed.forgotten, one, many);
            text += &format!("; of those that are gone {were} no longer");
        }
        if changed.restored > 0 {
            let are = counted(changed.restored, "line is", "lines are");
            text += &format!("; {are} back and will run");
        }
        if changed.attributes > 0 {
            let are = counted(changed.attributes, "task", "tasks");
            text += &format!("; something else is said of {are}");
        }
        said.push(text);
    }
    said
}
