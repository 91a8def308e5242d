//! The folder in which a run was first started: relative paths in its tasks lead to other files
//! elsewhere.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The current folder, where it has a path that the state can hold.
pub fn current_folder() -> Option<String> {
    let here = std::env::current_dir().ok()?.into_os_string();
    here.into_string().ok().filter(|path| path.len() <= 1024)
}

/// Whether two paths mean one folder: it may have several, above all on several nodes.
pub fn is_same_folder(one: impl AsRef<Path>, other: impl AsRef<Path>) -> bool {
    let (one, other) = (one.as_ref(), other.as_ref());
    let identity = |path: &Path| {
        let stat = std::fs::metadata(path).ok()?;
        Some((stat.dev(), stat.ino()))
    };
    one == other || identity(one).is_some_and(|one| Some(one) == identity(other))
}
