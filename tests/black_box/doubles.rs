//! Doubles of libraries, from their sources in C beside the tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The double of a node's clocks, built once; none where there is no compiler.
pub(crate) fn clock() -> Option<&'static PathBuf> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| build("fake_clock")).as_ref()
}

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
