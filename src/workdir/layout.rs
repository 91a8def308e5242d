//! The names of the files in a workdir.

use crate::model::record::LATEST;

/// The file that is locked, and holds the state and the log of transactions.
pub const LOCK: &str = "lock";
/// `id command` of every task that the workdir has ever known.
pub const TASKS: &str = "tasks";
/// `id command` of the unclaimed tasks.
pub const TOPROCESS: &str = "toprocess";
/// `id command` of the tasks that ended with exit status 0.
pub const FINISHED: &str = "finished";
/// `id command` of the tasks that ended otherwise.
pub const FAILED: &str = "failed";
/// `id attempt why`: every time a task was put back into `toprocess`.
pub const REQUEUED: &str = "requeued";
/// One line of JSON for each order to the farmers; absent while there was none.
pub const ORDERS: &str = "orders";
/// The files whose known parts are in the state.
pub const SHARED: [&str; 6] = [FINISHED, FAILED, REQUEUED, TASKS, TOPROCESS, ORDERS];
/// The folder of the journals of farmers that live.
pub const NODES: &str = "nodes";
/// The folder of the journals of farmers that are over.
pub const DONE: &str = "nodes/done";
/// The folder of what the tasks printed.
pub const LOGS: &str = "logs";
/// The folder of the task lines that are too long for an argument.
pub const SCRIPTS: &str = "scripts";

/// The folders of what there was of a run before a reset begin with this, a number follows.
pub const RESET: &str = "reset-";

/// The journal of a farmer.
pub fn journal(farmer: &str) -> String {
    format!("{NODES}/{farmer}.jsonl")
}

/// The journal of a farmer that was over after the transaction `seq`.
pub fn departed(farmer: &str, seq: u64) -> String {
    format!("{DONE}/{farmer}.{seq}.jsonl")
}

/// The farmer whose journal has this name in [`NODES`].
pub fn farmer_of(name: &str) -> Option<&str> {
    name.strip_suffix(".jsonl")
}

/// The farmer whose journal has this name in [`DONE`], and after which transaction it
/// was over.
pub fn departed_of(name: &str) -> Option<(&str, u64)> {
    let (farmer, seq) = farmer_of(name)?.rsplit_once('.')?;
    // No run has so many transactions.
    let seq = seq.parse().ok().filter(|&seq| seq < LATEST)?;
    Some((farmer, seq))
}
