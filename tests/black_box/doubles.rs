//! Doubles of libraries, from their sources in C beside the tests.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds a double; none where there is no compiler.
pub(crate) fn build(name: &str) -> Option<PathBuf> {
    let source = format!("{}/tests/black_box/{name}.c", env!("CARGO_MANIFEST_DIR"));
    let library = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let library = library.join(format!("lib{name}.{}.so", std::process::id()));
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"]).arg(&library);
    let done = cc.arg(&source).output().ok()?;
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    Some(library)
}
