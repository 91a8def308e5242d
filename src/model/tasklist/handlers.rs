//! The names by which the form of a list is chosen (`--tasklist NAME`).
//!
//! A handler turns the bytes of a list into the text of a list of ours: commands, one per line,
//! and what is said of them with `#PYTF`. Others rely on this: the text depends on the bytes
//! alone, so that all processes of a run read the same tasks.

use super::ListError;

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

/// Turns a whole list into the text of a list of ours.
pub type Translate = fn(&[u8]) -> Result<Vec<u8>, ListError>;

/// The handlers that are part of the program. The first is the default.
pub const HANDLERS: &[Handler] = &[Handler {
    name: "default",
    about: "one command per line, with #PYTF directives",
    translate: None,
}];

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
        assert!(Handler::named("none").is_none());
        assert!(<&Handler>::default().translate.is_none());
    }
}
