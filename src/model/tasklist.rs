//! The task list: text → tasks.
