//! argv → command → exit status.
fn main() {}
