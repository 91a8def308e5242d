//! Where the tasks of a farm come from: a file that can be read again, a stream, or only the
//! workdir, to which they were added.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crossbeam_channel::{Receiver, bounded};

use super::options::{Options, TaskList};
use super::reserved_threads::ReservedThread;
use super::{feeder, generated_list, translated_list};
use crate::model::tasklist::Dialect;
use crate::workdir::resume::{ListFailure, ListFile};

/// Where the tasks come from.
pub(super) enum Source {
    /// A file.
    File(ListFile),
    /// A stream, read as it arrives; standard input when there is no path. The thread
    /// that reads it opens the path, since opening a FIFO waits for its writer.
    Stream(Option<PathBuf>, Dialect),
    /// What the workdir has.
    Workdir,
}

impl Source {
    /// Opens the task list, to be read in this way. A file of a workdir is refused.
    pub(super) fn open(options: &Options, dialect: Dialect) -> Result<Self, ListFailure> {
        let translate = options.handler.translate;
        let path = match (&options.tasks, translate) {
            (TaskList::Added, _) => return Ok(Self::Workdir),
            (TaskList::Stdin, None) => return Ok(Self::Stream(None, dialect.of_stream())),
            (TaskList::Stdin, Some(translate)) => {
                let path = Path::new("standard input");
                let list = translated_list::of_stream(path, std::io::stdin(), translate)?;
                return Ok(Self::File(list.read_as(&dialect)));
            }
            (TaskList::File(path), _) => path,
            (TaskList::Template(template), _) => {
                return generated_list::of(template).map(Self::File);
            }
        };
        let unreadable = |source| {
            let list = path.display().to_string();
            ListFailure::Unreadable { list, source }
        };
        let file = ListFile::at(path).map_err(unreadable)?;
        ListFile::refuse_file_of_workdir(path)?;
        Ok(match (file, translate) {
            (Some(file), None) => Self::File(file.read_as(&dialect)),
            (Some(file), Some(translate)) => {
                let list = translated_list::of_file(&file, translate)?;
                Self::File(list.read_as(&dialect))
            }
            (None, None) => Self::Stream(Some(path.clone()), dialect.of_stream()),
            (None, Some(translate)) => {
                let stream = File::open(path).map_err(unreadable)?;
                let list = translated_list::of_stream(path, stream, translate)?;
                Self::File(list.read_as(&dialect))
            }
        })
    }

    /// Whether tasks arrive while others run.
    pub(super) fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(..))
    }

    /// Refuses a wrong list before a new workdir is made for it.
    pub(super) fn check_for_new(&self, workdir: &Path) -> Result<(), ListFailure> {
        match self {
            Self::File(list) if !workdir.exists() => list.check(),
            _ => Ok(()),
        }
    }

    /// Lets this thread read the stream, if it is one.
    pub(super) fn feed(self, thread: Option<ReservedThread>) -> Option<Receiver<feeder::Fed>> {
        let (Self::Stream(path, dialect), Some(thread)) = (self, thread) else {
            return None;
        };
        let (fed, lines) = bounded(4);
        let stream: Box<dyn Read + Send> = match path {
            None => Box::new(std::io::stdin()),
            Some(path) => Box::new(LazyFile { path, file: None }),
        };
        thread.run(move || feeder::read(stream, dialect, &fed));
        Some(lines)
    }
}

/// A file that is opened at the first read.
struct LazyFile {
    path: PathBuf,
    file: Option<File>,
}

impl Read for LazyFile {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::open(&self.path)?),
        };
        file.read(buf)
    }
}
