//! The farm: the threads of one farmer.
//!
//! ```text
//!            events                    orders
//! signals ─────────► supervisor ─────────────────► ledger ◄──► the workdir
//!                     ▲   │ signals to tasks        │  ▲
//!       failures only │   ▼                   tasks ▼  │ ends
//!                   slot 0 … p ◄──────────────── queue │
//!                     └────────────────────────────────┘
//! ```
//!
//! [`supervisor`] is the main loop: it alone decides. [`slot`] is the life of a
//! slot, straight down. [`ledger`] alone touches the shared files.

mod binding;
pub mod clock;
pub mod devices;
pub mod feeder;
mod finish;
pub mod gates;
pub mod inventory;
mod join;
pub mod ledger;
pub mod lock_wait;
pub mod logs;
pub mod message;
pub mod neighbours;
pub mod quarantine;
pub mod queue;
mod reserved;
pub mod slot;
pub mod start;
mod summary_scope;
pub mod supervisor;
pub mod walltime;
