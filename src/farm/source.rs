//! Where the tasks of a farm come from: a file that can be read again, a stream, or only the
//! workdir, to which they were added.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crossbeam_channel::{Receiver, bounded};

use super::handler::Maker;
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
    pub(super) fn open(
        options: &Options,
        maker: &Maker,
        dialect: Dialect,
    ) -> Result<Self, ListFailure> {
        let path = match &options.tasks {
            TaskList::Added => return Ok(Self::Workdir),
            TaskList::Stdin => return Self::of_stdin(maker, dialect),
            TaskList::File(path) => path,
            TaskList::Template(template) => return generated_list::of(template).map(Self::File),
        };
        let unreadable = |source| {
            let list = path.display().to_string();
            ListFailure::Unreadable { list, source }
        };
        let file = ListFile::at(path).map_err(unreadable)?;
        ListFile::refuse_file_of_workdir(path)?;
        let Some(file) = file else {
            return match maker {
                Maker::Own => Ok(Self::Stream(Some(path.clone()), dialect.of_stream())),
                Maker::Translate(translate) => {
                    let stream = File::open(path).map_err(unreadable)?;
                    let list = translated_list::of_stream(path, stream, &dialect, *translate)?;
                    Ok(Self::File(list))
                }
                _ => Err(needs_file(&path.display().to_string())),
            };
        };
        let list = match maker {
            Maker::Translate(translate) => {
                return translated_list::of_file(&file, &dialect, *translate).map(Self::File);
            }
            maker => match maker.list_of(&file, &options.workdir)? {
                None => file,
                Some((list, plain)) => {
                    let plain = plain || dialect.plain;
                    return Ok(Self::File(list.read_as(&Dialect { plain, ..dialect })));
                }
            },
        };
        Ok(Self::File(list.read_as(&dialect)))
    }

    fn of_stdin(maker: &Maker, dialect: Dialect) -> Result<Self, ListFailure> {
        const NAME: &str = "standard input";
        match maker {
            Maker::Own => Ok(Self::Stream(None, dialect.of_stream())),
            Maker::Translate(translate) => {
                let (path, stdin) = (Path::new(NAME), std::io::stdin());
                translated_list::of_stream(path, stdin, &dialect, *translate).map(Self::File)
            }
            _ => Err(needs_file(NAME)),
        }
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

fn needs_file(list: &str) -> ListFailure {
    let what = "a handler that INI files define reads a regular file: write the list into one";
    ListFailure::Refused(format!("{list}: {what}"))
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
