//! A task list whose text a handler has made from that of another (`--tasklist NAME`).
//!
//! Guarantee: its identity is that of the text, so it is the same for all processes for which the
//! handler made the same tasks, and it never changes while it is read.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::Path;

use crate::model::tasklist::Dialect;
use crate::model::tasklist::handlers::Translate;
use crate::model::tool::Translation;
use crate::workdir::resume::{Bytes, ListFailure, ListFile};
use crate::workdir::state::ListIdentity;

/// In the identity of such a list, where that of a file has nanoseconds.
const TRANSLATED: i64 = -2;

/// The list that a handler makes of a file.
pub(super) fn of_file(
    list: &ListFile,
    dialect: &Dialect,
    translate: Translate,
) -> Result<ListFile, ListFailure> {
    of(list.path(), &list.contents()?, dialect, translate)
}

/// The list that a handler makes of a stream, which is read to its end.
pub(super) fn of_stream(
    path: &Path,
    mut stream: impl Read,
    dialect: &Dialect,
    translate: Translate,
) -> Result<ListFile, ListFailure> {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    read.map_err(|source| unreadable(path, source))?;
    of(path, &bytes, dialect, translate)
}

fn of(
    path: &Path,
    bytes: &[u8],
    dialect: &Dialect,
    translate: Translate,
) -> Result<ListFile, ListFailure> {
    let name = path.display().to_string();
    let made = translate(&dialect.list(bytes, &name));
    let made = made.map_err(|source| ListFailure::Wrong { list: name, source })?;
    let list = ListFile::of(path, Box::new(Text::of(&made)));
    let list = list.map_err(|source| unreadable(path, source))?;
    // What was made has directives.
    let dialect = Dialect {
        plain: false,
        ..dialect.clone()
    };
    Ok(list.read_as(&dialect).made(made))
}

fn unreadable(path: &Path, source: io::Error) -> ListFailure {
    ListFailure::Unreadable {
        list: path.display().to_string(),
        source,
    }
}

/// The identity of a list with this text.
pub(super) fn identity_of(text: &[u8]) -> ListIdentity {
    let hash = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, text).hash(&mut hasher);
        hasher.finish()
    };
    ListIdentity {
        len: text.len() as u64,
        mtime: hash(1).cast_signed(),
        mtime_nsec: TRANSLATED,
        inode: hash(2),
    }
}

/// The identity of a list that is made of another by these means.
pub(super) fn mixed_with(of: &ListIdentity, means: &[u8]) -> ListIdentity {
    let numbers = [of.len, of.mtime.cast_unsigned(), of.inode];
    let bytes: Vec<u8> = numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    identity_of(&[&bytes, means].concat())
}

/// The text of such a list: only its identity, since the list itself is at hand.
struct Text(ListIdentity);

impl Text {
    fn of(list: &Translation) -> Self {
        Self(identity_of(&list.text))
    }
}

impl Bytes for Text {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn identity(&self) -> io::Result<ListIdentity> {
        Ok(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tasklist::ListError;
    use crate::model::tool::List;

    fn doubled(list: &List<'_>) -> Result<Translation, ListError> {
        if list.text.contains(&0) {
            let (line, utf16) = (1, false);
            return Err(ListError::Nul { line, utf16 });
        }
        Ok(Translation {
            text: [list.text, list.text].concat(),
            lines: vec![1, 1],
            notes: Vec::new(),
        })
    }

    #[test]
    fn the_tasks_are_those_that_the_handler_makes() {
        let path = Path::new("list");
        let read = |list: &'static [u8]| of_stream(path, list, &Dialect::default(), doubled);
        let list = read(b"a\n").unwrap();
        assert_eq!(list.translation().unwrap().text, b"a\na\n");
        list.check().unwrap();
        let error = read(b"\0").err().unwrap().to_string();
        assert_eq!(
            error,
            "list: line 1 holds a NUL byte: is this a list of commands, one per line?"
        );
    }
}
