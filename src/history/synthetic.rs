//! Synthetic workdirs, for the tests of the views.

use std::fs;
use std::path::{Path, PathBuf};

use crate::model::outcome::Outcome;
use crate::model::record::{End, GpuLoad, Header, Record, SlotDevices, Start};
use crate::model::task::{TaskId, push_line};

/// A workdir that vanishes with the test.
pub(crate) struct Workdir(tempfile::TempDir);

/// A workdir whose tasks are `commands`.
pub(crate) fn workdir(commands: &[&str]) -> Workdir {
    let dir = Workdir(tempfile::tempdir().unwrap());
    let mut tasks = Vec::new();
    for (id, command) in (0..).zip(commands) {
        push_line(&mut tasks, TaskId(id), command.as_bytes());
    }
    fs::create_dir(dir.path().join("nodes")).unwrap();
    fs::create_dir(dir.path().join("logs")).unwrap();
    dir.file("tasks", &tasks);
    dir
}

impl Workdir {
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn journal(&self, farmer: &str, records: &[Record]) {
        let mut bytes = Vec::new();
        for record in records {
            record.push_to(&mut bytes);
        }
        self.file(&format!("nodes/{farmer}.jsonl"), &bytes);
    }

    pub(crate) fn seal(&self, farmer: &str) {
        let done = self.path().join("nodes/done");
        fs::create_dir_all(&done).unwrap();
        let journal = self.path().join(format!("nodes/{farmer}.jsonl"));
        fs::rename(journal, done.join(format!("{farmer}.9.jsonl"))).unwrap();
    }
}

pub(crate) fn header(host: &str, at: u64, slots: u32) -> Record {
    Record::Header(Header {
        version: 1,
        farmer: format!("{host}.0.1.{at}"),
        host: host.to_owned(),
        pid: 1,
        began: None,
        node: None,
        job: None,
        rank: None,
        step: None,
        restart: None,
        slots,
        follows: false,
        devices: Vec::new(),
        runner: None,
        at,
        pytf: "0.1.0".to_owned(),
        labels: Vec::new(),
        cpus: None,
        memory: None,
    })
}

/// The header of a farmer whose slots have these GPUs.
pub(crate) fn header_with(host: &str, at: u64, gpus: &[&str]) -> Record {
    let slots = u32::try_from(gpus.len()).unwrap();
    let Record::Header(mut header) = header(host, at, slots) else {
        unreachable!("it is a header");
    };
    let devices = gpus.iter().map(|gpu| SlotDevices {
        gpus: gpu.split(',').map(str::to_owned).collect(),
        cpus: None,
    });
    header.devices = devices.collect();
    Record::Header(header)
}

/// How busy GPUs were, in percent, and how much of their memory was in use.
pub(crate) fn gpus(at: u64, found: &[(&str, u8, u8)]) -> Record {
    let one = |(gpu, load, memory): &(&str, u8, u8)| GpuLoad {
        gpu: (*gpu).to_owned(),
        load: Some(*load),
        memory: Some(*memory),
    };
    Record::Gpus {
        at,
        gpus: found.iter().map(one).collect(),
    }
}

pub(crate) fn start(id: u64, attempt: u32, slot: u32, at: u64) -> Record {
    Record::Start(Start {
        id: TaskId(id),
        attempt,
        slot,
        pid: 100,
        at,
        lease: None,
    })
}

pub(crate) fn end(id: u64, attempt: u32, slot: u32, at: u64, us: u64, outcome: Outcome) -> Record {
    Record::End(End {
        id: TaskId(id),
        attempt,
        slot,
        at,
        us,
        outcome,
        again: None,
        used: None,
        log: None,
        dir: None,
        skipped: None,
        lease: None,
    })
}
