//! The specification of `pytf`, sentence by sentence, on the real program.
//!
//! Each topic is a module; `harness` is what they stand on. Slower on demand:
//! `PYTF_TEST_KILLS` is the number of kills in the storm (100 shows it all),
//! `PYTF_TEST_SEED` repeats a storm, `PYTF_TEST_TASKS` sizes it, and
//! `PYTF_TEST_LONG` plays all cases of tests with many, `PYTF_TEST_ALL` harms every system call instead
//! of a selection.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod harness;

mod add;
mod allocation;
mod bad_days;
mod cancel;
mod check;
mod clocks;
mod command_line;
mod completions;
mod creates;
mod damage;
mod devices;
mod dialects;
mod directives;
mod doubles;
mod edit;
mod ending;
mod exit_status;
mod farm;
mod follow;
mod formats;
mod hosts;
mod input;
mod kill_storm;
mod logs;
mod max_fail;
mod needs;
mod node_commands;
mod on_end;
mod only_free;
mod oracle;
mod order;
mod pbs;
mod python;
mod refused;
mod reset;
mod results;
mod resume;
mod retries;
mod retry;
mod runners;
mod seeing;
mod start_rate;
mod status;
mod steer;
mod task_dir;
mod template;
mod terminal;
mod timeline;
mod tmux;
mod watch;
mod workdir;
