//! A task list that is made from a template while it is read, so that no file holds it.
//!
//! Guarantee: all processes that are given the same template, with the same values, read the same
//! bytes, and the list has the same identity for all of them, also in a later run.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::model::tasklist::Dialect;
use crate::model::template::{Tasks, Template};
use crate::workdir::resume::{Bytes, ListFailure, ListFile};
use crate::workdir::state::ListIdentity;

/// How many bytes are made at a time.
const CHUNK: usize = 64 << 10;
/// In the identity of a generated list, where that of a file has nanoseconds.
const GENERATED: i64 = -1;

/// The list of this template. The files of its values are read now.
pub(super) fn of(template: &Template) -> Result<ListFile, ListFailure> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|source| ListFailure::UnreadableValues {
            file: path.display().to_string(),
            source,
        })
    };
    let tasks = template.tasks(read)?;
    let bytes = GeneratedList {
        identity: identity(&tasks),
        tasks,
        place: Mutex::default(),
    };
    let list = ListFile::of(Path::new("after --"), Box::new(bytes));
    let list = list.map_err(|source| ListFailure::Unreadable {
        list: "after --".to_owned(),
        source,
    })?;
    // A value is a value, whatever it looks like.
    Ok(list.read_as(&Dialect {
        plain: true,
        ..Dialect::default()
    }))
}

struct GeneratedList {
    tasks: Tasks,
    identity: ListIdentity,
    place: Mutex<Place>,
}

/// Where the last read ended.
#[derive(Default)]
struct Place {
    offset: u64,
    /// The task that is made next.
    next: u64,
    /// What was made and not read.
    made: Vec<u8>,
}

impl Bytes for GeneratedList {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if offset == 0 {
            *place = Place::default();
        }
        if offset != place.offset {
            return Err(io::ErrorKind::Unsupported.into());
        }
        while place.made.len() < buf.len().min(CHUNK) && place.next < self.tasks.count() {
            let next = place.next;
            self.tasks.push(&mut place.made, next);
            place.made.push(b'\n');
            place.next += 1;
        }
        let read = place.made.len().min(buf.len());
        buf[..read].copy_from_slice(&place.made[..read]);
        place.made.drain(..read);
        place.offset += read as u64;
        Ok(read)
    }

    fn identity(&self) -> io::Result<ListIdentity> {
        Ok(self.identity.clone())
    }
}

/// Two independent hashes of what the tasks are made of, and their number.
fn identity(tasks: &Tasks) -> ListIdentity {
    let hash = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, tasks).hash(&mut hasher);
        hasher.finish()
    };
    ListIdentity {
        len: tasks.count(),
        mtime: hash(1).cast_signed(),
        mtime_nsec: GENERATED,
        inode: hash(2),
    }
}
