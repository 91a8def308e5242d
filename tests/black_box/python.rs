//! The Python client: its own tests, by the Python that is here.

use std::process::Command;

use crate::harness::skip;

#[test]
fn the_python_client_uses_a_run() {
    let root = env!("CARGO_MANIFEST_DIR");
    let python = |words: &[&str]| {
        let mut python = Command::new("python3");
        python.args(["-B"]).args(words);
        python.env("PYTHONPATH", format!("{root}/packaging/python"));
        python.env("PYTF", env!("CARGO_BIN_EXE_pytf"));
        python.output()
    };
    // Dataclasses are in Python 3.7 and later.
    if !python(&["-c", "import dataclasses"]).is_ok_and(|done| done.status.success()) {
        return skip("the Python client: there is no python3, or one before 3.7");
    }
    let done = python(&[&format!("{root}/tests/python/client.py")]).unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(said.contains("\nOK\n"), "{said}");
}
