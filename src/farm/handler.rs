//! What makes the tasks of a list (`--tasklist NAME`): part of the program, or defined in an INI
//! file as a class of PyTaskFarmer, a program that prints tasks, or a Python class of the user.
//!
//! Guarantee: a list of which any task cannot be made has none, and the error says why.

mod atlas;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::options::HandlerChoice;
use super::translated_list::{identity_of, mixed_with};
use crate::definitions::{Definition, DefinitionError, Result, What};
use crate::model::escape::escape;
use crate::model::tasklist::handlers::{HANDLERS, Handler, Translate};
use crate::runner::python::{BRIDGE, keys};
use crate::runner::ready::shell_words;
use crate::workdir::resume::{Bytes, ListFailure, ListFile};
use crate::workdir::state::ListIdentity;
use atlas::Atlas;

/// The folder of a workdir into which PyTaskFarmer's classes let tasks copy their results.
pub(super) const OUTPUT: &str = "output";

/// What makes the tasks of a list.
#[derive(Clone, Debug)]
pub(super) enum Maker {
    /// The list has them as they are.
    Own,
    /// A function turns the list into one of ours.
    Translate(Translate),
    /// One of PyTaskFarmer's classes for ATLAS.
    Atlas(Box<Atlas>),
    /// A Python class.
    Python(Box<Definition>),
    /// A program that prints a list of ours.
    Program(Box<Definition>),
}

impl Maker {
    /// The one that is asked for.
    pub(super) fn choose(choice: &HandlerChoice, workdir: &Path) -> Result<Self> {
        let HandlerChoice { name, places } = choice;
        let ready = Handler::named(name);
        if ready.is_some_and(|ready| ready.name == <&Handler>::default().name) {
            return Ok(Self::Own);
        }
        match (places.find(What::TaskList, name)?, ready) {
            (Some(definition), _) => Self::of(definition, workdir),
            (None, Some(ready)) => Ok(ready.translate.map_or(Self::Own, Self::Translate)),
            (None, None) => {
                let ready = HANDLERS.iter().map(|handler| handler.name);
                Err(places.unknown(What::TaskList, name, ready))
            }
        }
    }

    /// That of a definition.
    fn of(definition: Definition, workdir: &Path) -> Result<Self> {
        if let Some(ready) = Handler::named(&definition.class) {
            definition.refuse_others(&[])?;
            return Ok(ready.translate.map_or(Self::Own, Self::Translate));
        }
        match &*definition.class {
            "taskfarmer.task.ListTaskList" => {
                definition.refuse_others(&[])?;
                Ok(Self::Own)
            }
            "program" => {
                definition.refuse_others(&["command"])?;
                words(&definition, Path::new(""), Path::new(""))?;
                Ok(Self::Program(Box::new(definition)))
            }
            class => match Atlas::of(class, &definition, &real(workdir).join(OUTPUT)) {
                Some(atlas) => Ok(Self::Atlas(Box::new(atlas?))),
                None if class.contains('.') => Ok(Self::Python(Box::new(definition))),
                None => {
                    let names = HANDLERS.iter().map(|handler| handler.name);
                    let names: Vec<_> = names.chain(["program"]).collect();
                    Err(definition.wrong(&format!(
                        "TaskList = {} is not known: it is a Python class, as in \
                         package.module.Class, or one of {}",
                        class.escape_debug(),
                        names.join(", ")
                    )))
                }
            },
        }
    }

    /// Whether tasks copy their results into the workdir.
    pub(super) fn has_output(&self) -> bool {
        matches!(self, Self::Atlas(_))
    }

    /// Whether it needs a workdir, in which it may make files.
    pub(super) fn needs_workdir(&self) -> bool {
        matches!(self, Self::Python(_))
    }

    /// The list that it makes of a file; none: the list is one of ours. The second says whether
    /// each line is a task as it is.
    pub(super) fn list_of(
        &self,
        list: &ListFile,
        workdir: &Path,
    ) -> std::result::Result<Option<(ListFile, bool)>, ListFailure> {
        let path = list.path();
        let refused = |error: DefinitionError| ListFailure::Refused(error.0);
        let list_of = |bytes: Box<dyn Bytes>| {
            let list = ListFile::of(path, bytes);
            list.map_err(|source| ListFailure::Unreadable {
                list: path.display().to_string(),
                source,
            })
        };
        Ok(Some(match self {
            Self::Own | Self::Translate(_) => return Ok(None),
            Self::Atlas(atlas) => {
                let text = list.contents()?;
                let definition = format!("{atlas:?}");
                let identity = mixed_with(&identity_of(&text), definition.as_bytes());
                let atlas = atlas.clone();
                let bytes = Made {
                    identity,
                    make: Box::new(move || atlas.tasks(&text)),
                    text: OnceLock::new(),
                };
                (list_of(Box::new(bytes))?, true)
            }
            Self::Python(definition) => {
                let words = ["python3", "-c", BRIDGE, "tasks"].map(str::to_owned);
                let own = [
                    definition.class.clone(),
                    keys(definition),
                    definition.place(),
                ];
                let mut words: Vec<_> = words.into_iter().chain(own).map(Into::into).collect();
                words.extend([path.to_owned(), real(workdir)].map(PathBuf::into_os_string));
                let text = printed(definition, &words).map_err(refused)?;
                (list_of(Box::new(Made::known(text)))?, true)
            }
            Self::Program(definition) => {
                let words = self::words(definition, path, &real(workdir)).map_err(refused)?;
                let words: Vec<_> = words.into_iter().map(Into::into).collect();
                let text = printed(definition, &words).map_err(refused)?;
                (list_of(Box::new(Made::known(text)))?, false)
            }
        }))
    }
}

/// The arguments of a program that prints tasks.
fn words(definition: &Definition, list: &Path, workdir: &Path) -> Result<Vec<String>> {
    let wrong = |what: &str| definition.wrong_value("command", what);
    let words = shell_words(definition.needed("command")?).map_err(wrong)?;
    if words.is_empty() {
        return Err(wrong("it is empty"));
    }
    let put_in = |word: String| {
        let word = word.replace("{list}", &list.display().to_string());
        word.replace("{workdir}", &workdir.display().to_string())
    };
    Ok(words.into_iter().map(put_in).collect())
}

/// What a program prints.
fn printed(definition: &Definition, words: &[std::ffi::OsString]) -> Result<Vec<u8>> {
    let (program, arguments) = words.split_first().expect("a command has a word");
    let shown = escape(program.as_encoded_bytes());
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let done = command.stderr(Stdio::inherit()).output();
    let done = done.map_err(|error| definition.wrong(&format!("cannot start {shown}: {error}")))?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let what = format!("{shown} made no tasks: it ended with {}", done.status);
    Err(definition.wrong(&what))
}

/// An absolute path without links, as far as it exists: Python's `realpath`.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for there in path.ancestors() {
        if let Ok(real) = there.canonicalize() {
            let rest = path.strip_prefix(there).unwrap_or(Path::new(""));
            return if rest.as_os_str().is_empty() {
                real
            } else {
                real.join(rest)
            };
        }
    }
    path
}

/// A list that is made when it is read for the first time.
struct Made {
    identity: ListIdentity,
    make: Box<dyn Fn() -> std::result::Result<Vec<u8>, String> + Send + Sync>,
    text: OnceLock<std::result::Result<Vec<u8>, String>>,
}

impl Made {
    /// One that is made already.
    fn known(text: Vec<u8>) -> Self {
        Self {
            identity: identity_of(&text),
            make: Box::new(|| Ok(Vec::new())),
            text: OnceLock::from(Ok(text)),
        }
    }
}

impl Bytes for Made {
    fn load(&self) -> io::Result<()> {
        self.read_at(&mut [], 0).map(drop)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let text = self.text.get_or_init(&self.make);
        let text = text.as_ref().map_err(|what| io::Error::other(&**what))?;
        let rest = usize::try_from(offset).ok().and_then(|at| text.get(at..));
        let rest = rest.unwrap_or_default();
        let read = rest.len().min(buf.len());
        buf[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn identity(&self) -> io::Result<ListIdentity> {
        Ok(self.identity.clone())
    }
}
