//! The records of a journal: one line of JSON each.
//!
//! A journal belongs to one farmer (one `pytf` process); only that farmer writes it. Guarantee:
//! a record that ends in a line end is whole, the order of records is the order of events, and
//! an `end` is in the journal before the task is in `finished` or `failed`. Times are
//! microseconds since 1970 by the farmer's clock, taken once at its start and carried on by the
//! monotonic clock, so that they never run backwards.

use serde::{Deserialize, Serialize};

use super::allocator::Withheld;
use super::outcome::{Destination, Outcome};
use super::task::TaskId;

/// No clock and no counter of a run reaches this: the year 2255, in microseconds. A greater
/// number is damage, and would make sums and averages meaningless.
pub const LATEST: u64 = 1 << 53;

/// One line of a journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Record {
    /// The first line: who writes this journal.
    Header(Header),
    /// A task was started and ran on when the journal was next written. Tasks
    /// that end sooner have an `end` only.
    Start(Start),
    /// An attempt has ended.
    End(End),
    /// Nothing happened for a while, and the farmer lives.
    Beat {
        /// When.
        at: u64,
    },
    /// Something worth a mark on the timeline: a signal, the end of the time.
    Note {
        /// When.
        at: u64,
        /// What happened, for people.
        text: String,
        /// What it means to programs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mark: Option<Mark>,
    },
    /// The farmer judges the health of its node in another way.
    Health {
        /// When.
        at: u64,
        /// Its health now.
        #[serde(rename = "opinion")]
        health: NodeHealth,
        /// Why, for people.
        text: String,
    },
    /// What the farmer deals to tasks with needs of their own. It is there when the farmer begins
    /// to do so, and again when this has changed, at most once per heartbeat.
    Deals {
        /// When.
        at: u64,
        /// What it deals.
        #[serde(flatten)]
        deals: Deals,
    },
    /// How busy the farmer's GPUs are.
    Gpus {
        /// When.
        at: u64,
        /// Those that could be measured.
        gpus: Vec<GpuLoad>,
    },
    /// The farmer leaves cleanly; nothing follows.
    Leave {
        /// When.
        at: u64,
        /// Why, for people.
        why: String,
        /// The longest wait for the lock, in microseconds.
        #[serde(default)]
        longest_wait_us: u64,
    },
}

/// What a farmer deals to its tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deals {
    /// Number of CPUs.
    pub cpus: u32,
    /// Number of GPUs; nobody looks for them before a task needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
    /// Memory in KiB, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mem: Option<u64>,
    /// What of this is withheld, since programs of others use it.
    #[serde(default, skip_serializing_if = "Withheld::is_nothing")]
    pub withheld: Withheld,
    /// The task for which what it needs is collected, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<Reserved>,
}

/// The task that waits until all that it needs is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    /// The task.
    pub id: TaskId,
    /// Since when.
    pub since: u64,
}

/// What a note means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// The farmer starts nothing any more; what runs goes on.
    Drained,
    /// It starts tasks again.
    Resumed,
    /// A task ended and left processes behind, which were ended with it.
    LeftBehind,
    /// The kernel killed for lack of memory, and no task ended by it.
    MemoryKill,
}

/// What a farmer concludes about its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NodeHealth {
    /// Nothing speaks against it.
    #[default]
    #[serde(rename = "well")]
    Healthy,
    /// Too much fails here: other nodes try the tasks.
    #[serde(rename = "doubtful")]
    Suspect,
    /// Other nodes can do what fails here.
    #[serde(rename = "sick")]
    Unhealthy,
}

impl NodeHealth {
    /// In one word, as journals have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Healthy => "well",
            Self::Suspect => "doubtful",
            Self::Unhealthy => "sick",
        }
    }
}

/// A running kernel, and the namespace of process numbers in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeId {
    /// `/proc/sys/kernel/random/boot_id`: new at each boot.
    pub boot: String,
    /// The inode of `/proc/self/ns/pid`.
    pub pids: u64,
}

/// Who writes a journal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the journal's format.
    pub version: u32,
    /// The farmer's name: the journal's file name without its ending.
    pub farmer: String,
    /// The node's name, from the kernel.
    pub host: String,
    /// The farmer's process id on that node.
    pub pid: u32,
    /// When that process began, in clock ticks since the boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<u64>,
    /// The node itself: its name may be that of others, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// The job as people know it, when there is one: `17`, `17_3`, `9[3].pbs0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Its rank in the step, when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// The step of the job, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// How often the job had been started before, when it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<u32>,
    /// How many tasks it runs at a time.
    pub slots: u32,
    /// Whether it stays for tasks that are added when the run is complete.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follows: bool,
    /// The GPUs and CPUs of each slot, in their order; none when tasks use whatever
    /// there is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<SlotDevices>,
    /// The runner of its tasks (`--runner`), unless it is the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<String>,
    /// When it started.
    pub at: u64,
    /// The version of the program.
    pub pytf: String,
    /// What `--label` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// The CPUs that it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// The memory that its tasks may use together, in KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
}

impl Header {
    /// The GPUs of a slot.
    pub fn gpus(&self, slot: u32) -> &[String] {
        let devices = self.devices.get(slot as usize);
        devices.map_or(&[], |devices| &devices.gpus)
    }
}

/// The devices that only the tasks of one slot use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotDevices {
    /// The GPUs, as its tasks see them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
    /// The CPUs that they are bound to: `0-3,8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
}

/// How busy a GPU is, in percent; what could not be measured is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuLoad {
    /// The GPU, as tasks see it.
    pub gpu: String,
    /// How much of the time it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<u8>,
    /// How much of its memory is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u8>,
}

/// The start of an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The task.
    pub id: TaskId,
    /// Which attempt of it.
    pub attempt: u32,
    /// The slot it runs in.
    pub slot: u32,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub at: u64,
    /// What it has of its node, where tasks have needs of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Box<Leased>>,
}

/// What one attempt has of its node until its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leased {
    /// How many CPUs.
    pub cpus: u32,
    /// Which, when it is bound to them: `0-3,8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<String>,
    /// The GPUs, as it sees them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
    /// The limit of its memory in KiB; 0 is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mem: u64,
    /// Its time limit in seconds; 0 is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub time: u64,
}

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// The task.
    pub id: TaskId,
    /// Which attempt of it.
    pub attempt: u32,
    /// The slot it ran in.
    pub slot: u32,
    /// When it started.
    pub at: u64,
    /// For how long it ran, in microseconds.
    pub us: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// When the task is tried again after it: for how long its farmer keeps the task back, in
    /// microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<u64>,
    /// What it used, when it ran at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
    /// Where its output is, when it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogAt>,
    /// The file by which it was found to be done: it was not started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// The folder that was made for it, on its node, when that was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// What it had of its node, where tasks have needs of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Box<Leased>>,
}

/// What an attempt used, from wait4(2): its own process and those it waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// CPU time in user mode, microseconds.
    pub user: u64,
    /// CPU time in the kernel, microseconds.
    pub sys: u64,
    /// Peak resident memory in KiB.
    pub peak: u64,
    /// Read from storage, in KiB; what was in memory already does not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub read: u64,
    /// Written to storage, in KiB.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub written: u64,
}

/// For serde: whether a number can be left out.
pub fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Where the output of an attempt is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogAt {
    /// The file, relative to the workdir.
    pub file: String,
    /// The file of standard error, where it is not the same; then `file` has standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    /// In a packed log: where the attempt's part of it begins, and its length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<(u64, u64)>,
}

impl LogAt {
    /// The log of an attempt in a file of its own.
    pub fn whole(file: String) -> Self {
        Self {
            file,
            ..Self::default()
        }
    }

    /// Its files, as words of a command line; none where other attempts are in the same file.
    pub fn names(&self) -> Option<String> {
        let name = |stderr: &String| format!("{} {stderr}", self.file);
        let names = self.stderr.as_ref().map_or_else(|| self.file.clone(), name);
        self.part.is_none().then_some(names)
    }
}

impl Record {
    /// Appends the record and its line end to `out`.
    pub fn push_to(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(&mut *out, self).expect("a record is always valid JSON");
        out.push(b'\n');
    }

    /// Reads one line (without its line end); `None` when it is not a record, or one
    /// with a number that cannot be.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let record: Option<Self> = serde_json::from_slice(line).ok();
        record.filter(Self::is_possible)
    }

    /// Whether no number in it is beyond what clocks, counters and ids reach: sums of
    /// those that are possible do not overflow.
    fn is_possible(&self) -> bool {
        match self {
            Self::Start(Start {
                id, attempt, at, ..
            }) => is_attempt(*id, *attempt) && *at < LATEST,
            Self::End(end) => end.is_possible(),
            Self::Header(Header { at, .. })
            | Self::Beat { at }
            | Self::Note { at, .. }
            | Self::Health { at, .. }
            | Self::Gpus { at, .. } => *at < LATEST,
            Self::Deals { at, deals } => {
                let numbers = [
                    deals.mem.unwrap_or(0),
                    deals.reserved.map_or(0, |one| one.since),
                ];
                *at < LATEST && numbers.iter().all(|&number| number < LATEST)
            }
            Self::Leave {
                at,
                longest_wait_us,
                ..
            } => *at < LATEST && *longest_wait_us < LATEST,
        }
    }
}

impl End {
    /// Where the task goes after it.
    pub fn destination(&self) -> Destination {
        match self.again {
            Some(_) => Destination::ToProcess,
            None => self.outcome.destination(),
        }
    }

    /// As for [`Record::parse`], for callers that know already that it is an end.
    pub fn is_possible(&self) -> bool {
        let Used {
            user,
            sys,
            peak,
            read,
            written,
        } = self.used.unwrap_or_default();
        let again = self.again.unwrap_or(0);
        let numbers = [self.at, self.us, again, user, sys, peak, read, written];
        is_attempt(self.id, self.attempt) && numbers.iter().all(|&number| number < LATEST)
    }
}

/// No list has so many tasks, and none is tried so often.
fn is_attempt(id: TaskId, attempt: u32) -> bool {
    id.0 < LATEST && attempt < u32::MAX / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A journal may be damaged where a number is: none makes a sum overflow.
    #[test]
    fn a_number_that_cannot_be_is_no_record() {
        let good = "{\"event\":\"end\",\"id\":1,\"attempt\":2,\"slot\":3,\"at\":4,\"us\":5,\
             \"outcome\":{\"exit\":0},\"used\":{\"user\":6,\"sys\":7,\"peak\":8}}";
        assert!(Record::parse(good.as_bytes()).is_some());
        for place in [
            "id\":1",
            "attempt\":2",
            "at\":4",
            "us\":5",
            "user\":6",
            "sys\":7",
            "peak\":8",
        ] {
            let huge = if place.starts_with("attempt") {
                u32::MAX.into()
            } else {
                u64::MAX
            };
            let bad = good.replace(place, &format!("{}{huge}", &place[..place.len() - 1]));
            assert_ne!(bad, good);
            assert_eq!(Record::parse(bad.as_bytes()), None, "{bad}");
        }
        for bad in [
            "\"beat\"",
            "\"leave\",\"why\":\"\"",
            "\"note\",\"text\":\"\"",
        ] {
            let bad = format!("{{\"event\":{bad},\"at\":18446744073709551615}}");
            assert_eq!(Record::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_record_is_one_line_and_reads_back() {
        let end = Record::End(End {
            id: TaskId(7),
            attempt: 2,
            slot: 3,
            at: 1_800_000_000_000_000,
            us: 1500,
            outcome: Outcome::Signal(9),
            again: None,
            used: Some(Used {
                user: 1,
                sys: 2,
                peak: 3,
                ..Used::default()
            }),
            log: Some(LogAt::whole("logs/log_7.2".into())),
            dir: None,
            skipped: None,
            lease: None,
        });
        let mut out = Vec::new();
        end.push_to(&mut out);
        assert_eq!(memchr::memchr_iter(b'\n', &out).count(), 1);
        assert_eq!(Record::parse(out.trim_ascii_end()), Some(end));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"event\":\"end\",\"id\":7,\"attempt\":2,\"slot\":3,\"at\":1800000000000000,\
             \"us\":1500,\"outcome\":{\"signal\":9},\"used\":{\"user\":1,\"sys\":2,\"peak\":3},\
             \"log\":{\"file\":\"logs/log_7.2\"}}\n"
        );
    }
}
