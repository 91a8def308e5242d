//! The shared files in a transaction: read up to their committed ends, appended to there, or
//! replaced by new files.
//!
//! Guarantee: no byte before a committed end is ever changed in place; after a file was
//! replaced, the rest of the transaction uses the new one.

use crate::model::outcome::Destination;
use crate::model::record::End;
use crate::model::task::{TaskId, parse_line, push_line};
use crate::workdir::files::{Lines, NEW, NewFile, sum_of};
use std::collections::HashMap;
use std::io::ErrorKind;

use super::txn::Txn;
use crate::workdir::error::{Context, Result};
use crate::workdir::fs::{File, Open};
use crate::workdir::layout::{FAILED, FINISHED, class_of};
use crate::workdir::state::State;

impl Txn<'_> {
    /// Appends results to `finished` and `failed`; those that are to run again are
    /// left out.
    pub fn settle<'e>(&mut self, results: impl Iterator<Item = (&'e [u8], &'e End)>) -> Result<()> {
        let (mut finished, mut failed) = (Vec::new(), Vec::new());
        for (line, end) in results {
            match end.destination() {
                Destination::Finished => push_line(&mut finished, end.id, line),
                Destination::Failed => push_line(&mut failed, end.id, line),
                Destination::ToProcess => {}
            }
        }
        self.append(FINISHED, &finished)?;
        self.append(FAILED, &failed)
    }

    /// Shows every line of a shared file, as far as it is known.
    pub fn each_line(&mut self, name: &str, see: impl FnMut(&[u8])) -> Result<()> {
        self.each_line_from(0, name, see)
    }

    /// Shows the lines of a shared file that begin at `from` or later.
    pub fn each_line_from(
        &mut self,
        from: u64,
        name: &str,
        mut see: impl FnMut(&[u8]),
    ) -> Result<()> {
        self.each_line_with(from, name, |_, line| {
            see(line);
            Ok(())
        })
    }

    /// The same, of the file as it is now; the transaction may go on meanwhile.
    pub(super) fn each_line_with(
        &mut self,
        from: u64,
        name: &str,
        mut see: impl FnMut(&mut Self, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let known = self.state.committed(name);
        let queue = self.state.queue_named(name);
        let before = match class_of(name) {
            _ if from == 0 => Some(0),
            Some(_) => (from == queue.cursor).then_some(queue.taken),
            None => None,
        };
        let file = self.current(name)?;
        let mut lines = Lines::new(&*file, from, known.len).after(before.unwrap_or(0));
        while let Some(line) = lines.next().context("read", name)? {
            see(self, line)?;
        }
        if before.is_some() {
            self.check_sum(name, lines.sum(), known.sum)?;
        }
        Ok(())
    }

    /// A new file, meant to take the place of `name`.
    pub fn new_file(&self, name: &str) -> Result<NewFile> {
        let State { seq, breaks, .. } = self.state;
        let (seq, nth) = (seq + 1, self.n_new.replace(self.n_new.get() + 1));
        NewFile::create(self.dir, &format!("{name}.{seq}.{breaks}.{nth}{NEW}"))
    }

    /// Lets a new file take the place of `name`; the caller sets what the state
    /// knows of it.
    pub fn replace(&mut self, name: &str, new: NewFile) -> Result<()> {
        self.may_write()?;
        if let Some(at) = self.replacing.iter().position(|(to, _)| to == name) {
            self.replacing.remove(at);
        }
        self.replacing.push((name.to_owned(), new));
        Ok(())
    }

    /// Lets these lines take the place of those of the same tasks in a file of tasks.
    pub(in crate::workdir) fn replace_lines(
        &mut self,
        name: &str,
        lines: &HashMap<TaskId, Vec<u8>>,
    ) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let (mut new, mut written) = (self.new_file(name)?, Ok(()));
        self.each_line(name, |line| {
            let id = parse_line(line).map(|(id, _)| id);
            let change = id.and_then(|id| Some((id, lines.get(&id)?)));
            if written.is_ok() {
                written = match change {
                    Some((id, line)) => new.write_task(id, line),
                    None => new.write(&[line, b"\n"].concat()),
                };
            }
        })?;
        written.context("write", name)?;
        let known = new.committed();
        self.replace(name, new)?;
        self.state_mut().set_committed(name, known);
        Ok(())
    }

    /// Appends lines at the committed end of a shared file.
    pub(in crate::workdir) fn append(&mut self, name: &str, lines: &[u8]) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let known = self.state.committed(name);
        let after = known.with(lines);
        if let Some((_, new)) = self.replacing.iter_mut().find(|(to, _)| to == name) {
            new.write(lines).context("append to", name)?;
            self.state.set_committed(name, after);
            return Ok(());
        }
        let file = self.dir.open(name, Open::Create).context("open", name)?;
        let length = self.length_of(&*file, name, known.len)?;
        self.check_last_line(&*file, name, known.len)?;
        if length > after.len {
            // The uncommitted bytes reach beyond the new lines: begin a new file.
            drop(file);
            self.copy(name)?;
            return self.append(name, lines);
        }
        // After it was opened: others would have put another in its place.
        self.may_write()?;
        file.write_at(lines, known.len).context("append to", name)?;
        file.sync().context("sync", name)?;
        self.state.set_committed(name, after);
        Ok(())
    }

    /// Opens the file that `name` means in this transaction, to read it; made when absent.
    pub(in crate::workdir) fn current(&mut self, name: &str) -> Result<Box<dyn File>> {
        let Some((_, new)) = self.replacing.iter_mut().find(|(to, _)| to == name) else {
            let opened = match self.dir.open(name, Open::Read) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    // It may stay open after the lock is released, or in a process that is
                    // stopped. It must not be open for writing then: other processes of
                    // the node would not see what is written to it.
                    let made = self.dir.open(name, Open::Create).map(drop);
                    made.and_then(|()| self.dir.open(name, Open::Read))
                }
                opened => opened,
            };
            return opened.context("open", name);
        };
        new.flush().context("write", name)?;
        self.dir
            .open(new.name(), Open::Read)
            .context("open", new.name())
    }

    /// Cuts off what a dead or failed transaction left behind the known ends.
    pub fn cut_tails(&mut self) -> Result<()> {
        for name in &self.state.shared_files() {
            let known = self.state.committed(name).len;
            let file = self.current(name)?;
            self.check_last_line(&*file, name, known)?;
            if self.length_of(&*file, name, known)? > known {
                self.copy(name)?;
            }
        }
        Ok(())
    }

    /// Reads all shared files and the log, and compares their checksums.
    pub fn check_sums(&mut self) -> Result<()> {
        self.check_log()?;
        for name in &self.state.shared_files() {
            let known = self.state.committed(name);
            let file = self.current(name)?;
            self.length_of(&*file, name, known.len)?;
            let sum = sum_of(&*file, known.len).context("read", name)?;
            self.check_sum(name, sum, known.sum)?;
        }
        Ok(())
    }

    /// Lets a copy of the known part of a file take its place.
    pub(super) fn copy(&mut self, name: &str) -> Result<()> {
        let known = self.state.committed(name);
        let file = self.current(name)?;
        self.length_of(&*file, name, known.len)?;
        let mut copy = self.new_file(name)?;
        copy.copy(&*file, 0, known.len).context("copy", name)?;
        self.check_sum(name, copy.committed().sum, known.sum)?;
        self.replace(name, copy)
    }
}
