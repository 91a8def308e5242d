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
/// `id after any command` of the tasks that wait for others; absent while there was none.
pub const BLOCKED: &str = "blocked";
/// The ids of those that wait no longer.
pub const RELEASED: &str = "released";
/// The shared files that are always there.
pub const ALWAYS: [&str; 5] = [FINISHED, FAILED, REQUEUED, TASKS, TOPROCESS];
/// The folder of the journals of farmers that live.
pub const NODES: &str = "nodes";
/// The folder of the journals of farmers that are over.
pub const DONE: &str = "nodes/done";
/// The folder of what the tasks printed.
pub const LOGS: &str = "logs";
/// The folder of what tasks have made, as far as it is brought back.
pub const RESULTS: &str = "results";
/// The folder of the task lines that are too long for an argument.
pub const SCRIPTS: &str = "scripts";

/// The folders of what there was of a run before a reset begin with this, a number follows.
pub const RESET: &str = "reset-";

/// The file of the queue of a class of tasks; that of class 0 is [`TOPROCESS`].
pub fn queue(class: usize) -> String {
    match class {
        0 => TOPROCESS.to_owned(),
        class => format!("{TOPROCESS}.{class}"),
    }
}

/// The class whose queue has this name.
pub fn class_of(name: &str) -> Option<usize> {
    match name.strip_prefix(TOPROCESS)? {
        "" => Some(0),
        rest => rest
            .strip_prefix('.')?
            .parse()
            .ok()
            .filter(|&class| class > 0),
    }
}

/// Whether it is the name of a file whose known part is in the state.
pub fn is_shared(name: &str) -> bool {
    ALWAYS.contains(&name)
        || [ORDERS, BLOCKED, RELEASED].contains(&name)
        || class_of(name).is_some()
}

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
