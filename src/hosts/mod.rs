//! Farmers on the hosts of `--hosts`: started by ssh from one process, watched and ended by it.
//!
//! `run` starts a `session` for each host. A session runs the user's own `ssh` (`ssh`, `process`),
//! which starts `host_side` there; `contact` copies pytf there where it is missing. They exchange
//! three lines (`greeting`), then the farmer takes the place of `host_side`, and its standard input becomes a `control` channel: signals, and signs
//! of life. Where files are copied to a host (`copies`, `send`, `receive`), that is done between.
//!
//! Guarantee: a farmer whose control channel ends or falls silent stops in good order, whatever
//! has become of the process that started it, of ssh and of the network between them.

mod contact;
pub mod control;
mod copies;
mod far;
mod greeting;
mod hash;
pub mod host_side;
mod inputs;
mod look;
mod on;
mod process;
mod proof;
mod receive;
mod run;
mod send;
mod session;
mod ssh;

pub use far::{Far, NoFar, Reach};
pub use greeting::Wanted;
pub use look::look;
pub use on::{Ended, on};
pub use run::{Run, run};
pub use send::Files;
