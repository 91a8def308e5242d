//! The names by which the form of a list is chosen (`--tasklist NAME`).
//!
//! A handler turns the bytes of a list into the text of a list of ours: commands, one per line,
//! and what is said of them with `#PYTF`. Others rely on this: the text depends on the bytes
//! alone, so that all processes of a run read the same tasks.

use super::{Dialect, ListError, Parser};
use crate::model::dialects::translate;
use crate::model::tool::{List, Tool, Translation};

/// A handler that is part of the program.
#[derive(Clone, Copy, Debug)]
pub struct Handler {
    /// Its name.
    pub name: &'static str,
    /// What lists it reads, in a few words, for `pytf handlers`.
    pub about: &'static str,
    /// Turns a whole list into the text of a list of ours. The lines of an error are those of
    /// the list that is given. None: the list is one of ours, and is read as it arrives.
    pub translate: Option<Translate>,
}

/// Turns a whole list into a list of ours.
pub type Translate = fn(&List<'_>) -> Result<Translation, ListError>;

/// The handlers that are part of the program. The first is the default.
pub const HANDLERS: &[Handler] = &[
    Handler {
        name: "default",
        about: "one command per line, with #PYTF directives",
        translate: None,
    },
    Handler {
        name: "disbatch",
        about: "lists of disBatch: #DISBATCH PREFIX, SUFFIX, REPEAT, BARRIER, its variables",
        translate: Some(|list| made(Tool::DisBatch, list)),
    },
    Handler {
        name: "runtask",
        about: "lists of DistributedTaskQueue: #!, #@2, #:group, #+group",
        translate: Some(|list| made(Tool::Runtask, list)),
    },
    Handler {
        name: "greasy",
        about: "lists of GREASY: [# 3, -1 #], [@ folder @]",
        translate: Some(|list| made(Tool::Greasy, list)),
    },
    Handler {
        name: "launcher",
        about: "job files of launcher, with its variables",
        translate: Some(|list| made(Tool::Launcher, list)),
    },
    Handler {
        name: "pylauncher",
        about: "lists of pylauncher: 5,command, PYL_ID",
        translate: Some(|list| made(Tool::Pylauncher, list)),
    },
    Handler {
        name: "swarm",
        about: "swarmfiles of NIH: #SWARM, lines that go on, its variables",
        translate: Some(|list| made(Tool::Swarm, list)),
    },
    Handler {
        name: "dsq",
        about: "job files of dSQ, with the variables of a job array",
        translate: Some(|list| made(Tool::Dsq, list)),
    },
    Handler {
        name: "parallel",
        about: "commands for GNU parallel, with its variables",
        translate: Some(|list| made(Tool::Parallel, list)),
    },
];

/// The list that is made of a list of this tool.
pub fn made(tool: Tool, list: &List<'_>) -> Result<Translation, ListError> {
    translate(tool, list).map_err(|refusal| ListError::ForeignSyntax {
        line: refusal.line,
        column: refusal.column,
        what: refusal.what,
        mark: String::new(),
        tool: None,
    })
}

/// Whose list this is, by the first mark: the tool, the line of the mark, the mark.
pub fn found(text: &[u8], dialect: &Dialect) -> Option<(Tool, u64, String)> {
    let mut parser = Parser::of(dialect.clone());
    let fed = parser.feed(text, &mut |_| ());
    match fed.and_then(|()| parser.finish(&mut |_| ())) {
        Err(ListError::ForeignSyntax {
            line,
            mark,
            tool: Some(tool),
            ..
        }) => Some((tool, line, mark)),
        _ => None,
    }
}

/// What is said when a list was recognized.
pub fn recognized(tool: Tool, line: u64, mark: &str) -> String {
    format!(
        "a list of {tool}, by line {line} ({mark}): read as with --tasklist {}",
        tool.name()
    )
}

impl Handler {
    /// The handler of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        HANDLERS.iter().find(|handler| handler.name == name)
    }
}

impl Default for &Handler {
    fn default() -> Self {
        &HANDLERS[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_one_handler() {
        for handler in HANDLERS {
            let named = HANDLERS.iter().filter(|other| other.name == handler.name);
            assert_eq!(named.count(), 1, "{}", handler.name);
            assert_eq!(Handler::named(handler.name).unwrap().name, handler.name);
        }
        for tool in Tool::ALL {
            let list = List {
                text: b"",
                path: "list",
                node: crate::model::tool::NodeCommands::default(),
                is_added: false,
            };
            let translate = Handler::named(tool.name()).unwrap().translate.unwrap();
            assert_eq!(translate(&list), Ok(Translation::default()));
        }
        assert!(Handler::named("none").is_none());
        assert!(<&Handler>::default().translate.is_none());
    }
}
