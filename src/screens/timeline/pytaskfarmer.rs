//! The timeline of a workdir that `PyTaskFarmer` has worked on.
//!
//! Its `timeline.json` is a bare array of complete events, of which each has
//! the process ids of a farmer and of a worker as `pid` and `tid`. It is kept
//! under another name, and drawn into each new timeline. Ours is an array, too, to which
//! `PyTaskFarmer` can append: it reads the whole array and writes it on one line. Its events
//! follow the last of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::Deserializer as _;
use serde::de::{SeqAccess, Visitor};
use serde_json::Value;

use super::super::output::replace;
use super::trace::{COMMAND, FACTS, NAME, Trace, push_text};
use crate::history::{open, open_if_any};
use crate::model::escape::{clip, escape};

/// The member of an event with its name.
const WHAT: &str = "name";

/// The name that the file is kept under.
pub(super) const KEPT: &str = "timeline.pytaskfarmer.json";

/// A larger file is left out, since a file is read as a whole.
const LARGEST: u64 = 256 << 20;

/// Later than any time in microseconds in use: year 30,000.
const LATEST: f64 = 1e18;

/// Renames the `timeline.json` of `PyTaskFarmer`. Until ours takes its place the file has
/// both names, so it is never lost.
pub(super) fn keep(workdir: &Path) -> io::Result<()> {
    let (path, kept) = (workdir.join("timeline.json"), workdir.join(KEPT));
    match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_file() => {}
        // A link is not a timeline, and will be replaced.
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let file = open(&path)?;
    if !is_theirs(&file)? {
        return Ok(());
    }
    if let Some(new) = appended(&open(&path)?)? {
        return add(new, &kept);
    }
    let error = match fs::hard_link(&path, &kept) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    match fs::symlink_metadata(&kept) {
        Ok(other) if same(&other, &file.metadata()?) => Ok(()),
        Ok(_) => Err(io::Error::other(format!(
            "timeline.json and {KEPT} are both files of PyTaskFarmer: move one of them away"
        ))),
        // Not every file system has links.
        Err(_) if error.kind() != io::ErrorKind::AlreadyExists => fs::rename(&path, &kept),
        Err(_) => Err(error),
    }
}

/// The events that `PyTaskFarmer` has appended to a timeline of ours; none: it is not ours.
fn appended(file: &File) -> io::Result<Option<Vec<Value>>> {
    if file.metadata()?.len() > LARGEST {
        return Ok(None);
    }
    let reader = BufReader::with_capacity(1 << 18, file.try_clone()?.take(LARGEST));
    // What is damaged is kept as it is.
    let Ok(mut events) = serde_json::from_reader::<_, Vec<Value>>(reader) else {
        return Ok(None);
    };
    let last = events.iter().rposition(|event| event[WHAT] == FACTS);
    Ok(last.map(|last| events.split_off(last + 1)))
}

/// Adds events to those that are kept. Some may be there: an earlier start was interrupted.
fn add(new: Vec<Value>, kept: &Path) -> io::Result<()> {
    let mut events: Vec<Value> = match open_if_any(kept)? {
        Some(file) => serde_json::from_reader(BufReader::new(file.take(LARGEST)))?,
        None => Vec::new(),
    };
    for event in new {
        if !events.contains(&event) {
            events.push(event);
        }
    }
    replace(kept, |out| {
        serde_json::to_writer(out, &events).map_err(io::Error::from)
    })
}

fn same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Whether `PyTaskFarmer` wrote a file: an array, whose first event is on the first line. In
/// ours a line end follows the bracket.
fn is_theirs(file: &File) -> io::Result<bool> {
    let mut begin = Vec::new();
    file.take(1024).read_to_end(&mut begin)?;
    Ok(begin.trim_ascii_start().first() == Some(&b'[') && !begin.starts_with(b"[\n"))
}

/// One task, as `PyTaskFarmer` wrote it down.
struct Event {
    from: u64,
    to: u64,
    /// The process ids of its farmer and of its worker.
    farmer: u64,
    worker: u64,
    command: String,
}

impl Event {
    /// `None` for anything but a whole event of a task.
    fn from(value: &Value) -> Option<Self> {
        let time = |key: &str| {
            let time = value[key].as_f64()?;
            (0.0..LATEST).contains(&time).then_some(time)
        };
        let (ts, dur) = (time("ts")?, time("dur")?);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole microseconds, and in range"
        )]
        let (from, to) = (ts as u64, (ts + dur) as u64);
        (value["ph"] == "X").then_some(Self {
            from,
            to,
            farmer: value["pid"].as_u64()?,
            worker: value["tid"].as_u64()?,
            command: value["name"].as_str()?.to_owned(),
        })
    }
}

/// All that is to be drawn, in the order of time.
#[derive(Default)]
pub(super) struct OldTimeline {
    events: Vec<Event>,
    /// What is not drawn, when something is not.
    pub(super) left_out: Option<String>,
}

impl OldTimeline {
    /// Reads the file that was kept; empty where there is none.
    pub(super) fn read(workdir: &Path) -> io::Result<Self> {
        let Some(file) = open_if_any(&workdir.join(KEPT))? else {
            return Ok(Self::default());
        };
        if file.metadata()?.len() > LARGEST {
            return Ok(Self {
                events: Vec::new(),
                left_out: Some(format!(
                    "{KEPT} is not in it: it is larger than {} MiB",
                    LARGEST >> 20
                )),
            });
        }
        let (mut events, mut others) = (Vec::new(), 0);
        let reader = BufReader::with_capacity(1 << 18, file.take(LARGEST));
        let whole = serde_json::Deserializer::from_reader(reader).deserialize_seq(Taker {
            events: &mut events,
            others: &mut others,
        });
        // A stable order: those of one time stay as they are in the file.
        events.sort_by_key(|event| event.from);
        let left_out = match (whole, others) {
            (Ok(()), 0) => None,
            (Ok(()), others) => Some(format!(
                "{others} entries of {KEPT} are not in it: they are not events of tasks"
            )),
            (Err(error), _) => Some(format!(
                "{KEPT} is not in it as a whole, only {} tasks: {error}",
                events.len()
            )),
        };
        Ok(Self { events, left_out })
    }

    /// When the first task began.
    pub(super) fn first(&self) -> Option<u64> {
        self.events.first().map(|event| event.from)
    }
}

/// Takes the events out of the array one by one, so that those before damage are kept.
struct Taker<'a> {
    events: &'a mut Vec<Event>,
    others: &'a mut u64,
}

impl<'de> Visitor<'de> for Taker<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut events: A) -> Result<(), A::Error> {
        while let Some(value) = events.next_element::<Value>()? {
            match Event::from(&value) {
                Some(event) => self.events.push(event),
                None => *self.others += 1,
            }
        }
        Ok(())
    }
}

impl Trace<'_> {
    /// Draws the tasks of `PyTaskFarmer`: each farmer as a process with a number above
    /// `last`, each worker as a row.
    pub(super) fn old(&mut self, old: &OldTimeline, last: u64) -> io::Result<()> {
        let (mut farmers, mut rows) = (BTreeMap::new(), BTreeMap::new());
        let mut workers: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for event in &old.events {
            let next = last + 1 + farmers.len() as u64;
            let pid = *farmers.entry(event.farmer).or_insert(next);
            let of = workers.entry(pid).or_default();
            of.insert(event.worker);
            let next = of.len() as u64;
            rows.entry((event.farmer, event.worker))
                .or_insert((pid, next));
        }
        for (farmer, pid) in &farmers {
            self.metadata("process", *pid, 0, &name(*farmer), *pid)?;
        }
        for ((_, worker), (pid, tid)) in &rows {
            let name = format!("worker (pid {worker})");
            self.metadata("thread", *pid, *tid, &name, *tid)?;
        }
        for event in &old.events {
            self.old_slice(event, rows[&(event.farmer, event.worker)])?;
        }
        Ok(())
    }

    fn old_slice(&mut self, event: &Event, (pid, tid): (u64, u64)) -> io::Result<()> {
        let (from, dur) = self.place((pid, tid), event.from, event.to);
        let command = clip(&escape(event.command.as_bytes()), COMMAND);
        let mut line = b"{\"name\":".to_vec();
        push_text(&mut line, &clip(&command, NAME))?;
        let numbers = format!(
            ",\"cat\":\"task\",\"ph\":\"X\",\"ts\":{from},\"dur\":{dur},\"pid\":{pid},\
             \"tid\":{tid},\"args\":{{\"command\":"
        );
        line.extend_from_slice(numbers.as_bytes());
        push_text(&mut line, &command)?;
        line.extend_from_slice(b",\"farmer\":");
        push_text(&mut line, &name(event.farmer))?;
        line.extend_from_slice(b"}}");
        self.event(&line)
    }
}

fn name(farmer: u64) -> String {
    format!("PyTaskFarmer (pid {farmer})")
}
