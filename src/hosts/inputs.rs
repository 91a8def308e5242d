//! The files that a host may read of the folder of the starter: those that tasks name (`in`).
//!
//! Guarantee: they are those of the tasks that the run has before the first host can write to
//! its workdir, so a host cannot add one.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::model::attributes::{Attributes, split};
use crate::workdir::fs::Readable;
use crate::workdir::layout::TASKS;

/// These files, looked for when the first host needs them.
pub(super) struct Inputs {
    workdir: PathBuf,
    known: OnceLock<Arc<Readable>>,
}

impl Inputs {
    /// Those of the tasks in this workdir, in the current folder.
    pub(super) fn of(workdir: &Path) -> Self {
        Self {
            workdir: workdir.to_owned(),
            known: OnceLock::new(),
        }
    }

    /// All of them, as they were when this was first asked.
    pub(super) fn get(&self) -> Arc<Readable> {
        let known = self.known.get_or_init(|| {
            Arc::new(Readable {
                folder: std::env::current_dir().unwrap_or_default(),
                names: named(&self.workdir.join(TASKS)),
            })
        });
        known.clone()
    }
}

/// What the tasks in a file name.
fn named(tasks: &Path) -> HashSet<String> {
    let mut names = HashSet::new();
    let Ok(file) = File::open(tasks) else {
        return names;
    };
    let (mut file, mut line) = (BufReader::with_capacity(1 << 20, file), Vec::new());
    while let Ok(1..) = file.read_until(b'\n', &mut line) {
        let said = split(line.trim_ascii_end()).1.map(Attributes::parse);
        names.extend(said.and_then(Result::ok).unwrap_or_default().inputs);
        line.clear();
    }
    names
}
