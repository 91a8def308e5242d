//! The farm: the threads of one farmer.
//!
//! ```text
//!            events                    requests
//! signals ─────────► supervisor ─────────────────► ledger ◄──► the workdir
//!                     ▲   │ signals to tasks        │  ▲
//!       failures only │   ▼                   tasks ▼  │ ends
//!                   slot 0 … p ◄──────────────── queue │
//!                     └────────────────────────────────┘
//! ```
//!
//! A start goes through `options`, `start`, `source`, `node_setup`, `prepare`, `join` and
//! `rejoin`; `threads` starts the threads. `supervisor` is the main loop: it alone decides.
//! `slot` is the life of a slot, as sequential code. `ledger` alone changes the shared files.
//! `finish` writes the timeline and prints the summary.

mod anomalies;
mod backoff;
pub mod check;
mod clock;
mod command;
mod cpu_binding;
mod dealer;
mod feeder;
mod finish;
mod gates;
mod generated_list;
mod handler;
pub mod inventory;
mod join;
mod lease_plan;
mod ledger;
pub mod lock_wait;
mod logs;
mod memory_watch;
mod message;
mod neighbours;
mod node_commands;
mod node_setup;
mod node_share;
mod offer;
mod on_end;
mod only_free;
pub mod options;
mod placement;
mod prepare;
mod quarantine;
mod queue;
mod rejoin;
mod reserved_threads;
mod results;
mod shared;
mod slot;
mod slot_plan;
mod source;
mod staging;
pub mod start;
pub mod start_error;
mod summary_scope;
mod supervisor;
mod suspension;
mod takeover;
mod task_dir;
mod task_env;
mod task_files;
mod task_times;
mod threads;
mod translated_list;
mod walltime;
mod wrapping;
