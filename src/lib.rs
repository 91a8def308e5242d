//! `pytf`: an MPI-style task farmer. One process on every node of an
//! allocation, a shared workdir, no server.
//!
//! Start reading at `farm::supervisor`; `docs/architecture.md` has the map.

pub mod cli;
pub mod definitions;
pub mod exit;
pub mod farm;
pub mod history;
pub mod host;
pub mod hosts;
pub mod model;
pub mod runner;
pub mod screens;
pub mod ui;
pub mod workdir;

/// Version and commit of this build.
pub const VERSION: &str = env!("BUILD_VERSION");
