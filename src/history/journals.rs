//! The journals of a workdir, read as a stream.
//!
//! A view never holds a journal in memory: a run of a million tasks has
//! hundreds of megabytes of them. A last line without its line end is a write
//! that a farmer has not completed and is not a record; any other line that does
//! not parse is damage: counted, named by its number, and skipped, so that one
//! bad block costs the records in it and not the view.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use memchr::memmem::Finder;

use super::open;
use crate::model::record::{End, Header, Record};
use crate::model::task::TaskId;
use crate::workdir::layout::{DONE, NODES, departed_of, farmer_of, journal};

/// The longest line that can be a record; a longer one is damage and is not
/// held in memory.
const LONGEST: usize = 1 << 20;

/// What journals are read with: they are big, and each read is a round trip on
/// a network file system.
const BUFFER: usize = 1 << 18;

/// The journal of one farmer.
#[derive(Clone, Debug, PartialEq)]
pub struct Journal {
    /// The farmer, by the name of the file.
    pub name: String,
    /// Where it was when it was looked at; it moves when its farmer is over.
    pub path: PathBuf,
    /// Its first record; made from the file's name when that is damaged, with
    /// `at` and `slots` 0.
    pub header: Header,
    /// Whether the farmer is over: it left, or another took over from it.
    pub is_sealed: bool,
    /// When it had been read last, by the file system's clock, before we did.
    pub accessed: Option<SystemTime>,
}

/// The journals in a workdir, by the time their farmers started. A workdir
/// without any, as PyTaskFarmer leaves it, has an empty list. A journal that
/// has no whole line yet is left out: its farmer is just arriving.
pub fn journals(workdir: &Path) -> io::Result<Vec<Journal>> {
    journals_again(workdir, |_| None)
}

/// The same, without reading again the first lines of those that are known by their
/// names.
pub fn journals_again(
    workdir: &Path,
    mut known: impl FnMut(&str) -> Option<Journal>,
) -> io::Result<Vec<Journal>> {
    let mut journals = Vec::new();
    for Place {
        name,
        path,
        is_sealed,
    } in places(workdir)?
    {
        match known(&name) {
            Some(journal) => journals.push(Journal {
                path,
                is_sealed,
                ..journal
            }),
            None => journals.extend(Journal::open(name, path, is_sealed)?),
        }
    }
    journals.sort_by(|a, b| (a.header.at, &a.name).cmp(&(b.header.at, &b.name)));
    Ok(journals)
}

/// Where a farmer's journal is.
struct Place {
    name: String,
    path: PathBuf,
    is_sealed: bool,
}

/// The journals of all farmers, each once.
fn places(workdir: &Path) -> io::Result<Vec<Place>> {
    // In this order one that is moved meanwhile is seen twice, and not missed.
    let living = names(&workdir.join(NODES))?;
    let over = names(&workdir.join(DONE))?;
    let over = over.iter().filter_map(|file| {
        let (name, _) = departed_of(file)?;
        Some((name.to_owned(), (workdir.join(DONE).join(file), true)))
    });
    let over: HashMap<String, (PathBuf, bool)> = over.collect();
    let mut all: HashMap<String, (PathBuf, bool)> = HashMap::new();
    for file in &living {
        if let Some(name) = farmer_of(file) {
            // The mark of format 1.
            let is_sealed = living.contains(&format!("{name}.sealed"));
            all.insert(name.to_owned(), (workdir.join(NODES).join(file), is_sealed));
        }
    }
    all.extend(over);
    let places = all.into_iter().map(|(name, (path, is_sealed))| Place {
        name,
        path,
        is_sealed,
    });
    Ok(places.collect())
}

/// The names in a folder; empty where there is no folder.
fn names(folder: &Path) -> io::Result<HashSet<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
        Err(error) => return Err(error),
    };
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
    Ok(names
        .collect::<io::Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect())
}

/// Where the journal of a farmer is now that was in `nodes/`.
fn moved(path: &Path, farmer: &str) -> io::Result<PathBuf> {
    let done = path.parent().unwrap_or(path).join("done");
    let is_its = |file: &String| departed_of(file).is_some_and(|(name, _)| name == farmer);
    let file = names(&done)?.into_iter().find(is_its);
    file.map_or(Err(io::ErrorKind::NotFound.into()), |file| {
        Ok(done.join(file))
    })
}

impl Journal {
    /// The journal of one farmer; `None` when it has no line yet.
    pub fn of(workdir: &Path, farmer: &str) -> io::Result<Option<Self>> {
        let path = workdir.join(journal(farmer));
        let is_sealed = !path.exists();
        Self::open(farmer.to_owned(), path, is_sealed)
    }

    /// Reads the first line; `None` when it is not there yet.
    fn open(name: String, path: PathBuf, is_sealed: bool) -> io::Result<Option<Self>> {
        let mut first = Vec::new();
        let file = open_at(&path, &name)?;
        let accessed = file.metadata()?.accessed().ok();
        let mut reader = BufReader::new(file).take(LONGEST as u64);
        reader.read_until(b'\n', &mut first)?;
        if first.pop() != Some(b'\n') {
            return Ok(None);
        }
        let header = match Record::parse(&first) {
            Some(Record::Header(header)) => header,
            _ => header_from_name(&name),
        };
        Ok(Some(Self {
            name,
            path,
            header,
            is_sealed,
            accessed,
        }))
    }

    /// The file, also where it was moved since.
    pub fn file(&self) -> io::Result<File> {
        open_at(&self.path, &self.name)
    }

    /// All its records, as they come.
    pub fn records(&self) -> io::Result<Records> {
        self.records_to(u64::MAX)
    }

    /// Its records up to an offset in bytes, as they come.
    pub fn records_to(&self, offset: u64) -> io::Result<Records> {
        Ok(Records {
            reader: BufReader::with_capacity(BUFFER, self.file()?.take(offset)),
            line: Vec::new(),
            only: None,
            damage: Damage::default(),
            lines: 0,
        })
    }

    /// The records of one task, found without parsing the others.
    pub fn records_of(&self, id: TaskId) -> io::Result<Records> {
        let mut records = self.records()?;
        records.only = Some((Finder::new(&format!("\"id\":{id},")).into_owned(), id));
        Ok(records)
    }
}

/// Opens the journal of a farmer that was at `path`.
fn open_at(path: &Path, farmer: &str) -> io::Result<File> {
    match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // The error names the place that is known.
            moved(path, farmer)
                .map_err(|_| error)
                .and_then(|path| open(&path))
        }
        opened => opened,
    }
}

/// What a farmer's name, `<host>.<job>.<pid>.<start>`, tells. A host's name may have
/// dots in it.
fn header_from_name(name: &str) -> Header {
    let mut parts = name.rsplitn(4, '.');
    let (_start, pid, _job) = (parts.next(), parts.next(), parts.next());
    Header {
        version: 0,
        farmer: name.to_owned(),
        host: parts.next().unwrap_or(name).to_owned(),
        pid: pid.and_then(|pid| pid.parse().ok()).unwrap_or(0),
        began: None,
        node: None,
        job: None,
        rank: None,
        step: None,
        restart: None,
        slots: 0,
        devices: Vec::new(),
        at: 0,
        pytf: String::new(),
        cpus: None,
        memory: None,
    }
}

/// Lines of a journal that are not records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// How many lines.
    pub lines: u64,
    /// The number of the first one, counted from 1.
    pub first: Option<u64>,
}

/// The records of a journal, one after the other.
#[derive(Debug)]
pub struct Records {
    reader: BufReader<io::Take<fs::File>>,
    line: Vec<u8>,
    /// Only records of this task, and what their lines contain.
    only: Option<(Finder<'static>, TaskId)>,
    damage: Damage,
    lines: u64,
}

impl Records {
    /// What was damaged so far.
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Reads the next whole line; false at the end. A line that is too long is
    /// left empty, which is not a record.
    fn read_line(&mut self) -> io::Result<bool> {
        self.line.clear();
        let mut limited = (&mut self.reader).take(LONGEST as u64);
        limited.read_until(b'\n', &mut self.line)?;
        self.lines += 1;
        if self.line.pop_if(|last| *last == b'\n').is_some() {
            return Ok(true);
        }
        let is_long = self.line.len() >= LONGEST;
        self.line.clear();
        if !is_long {
            return Ok(false);
        }
        self.skip_rest()
    }

    /// Skips what is left of a line; false when the line has no end: such a
    /// line is torn, however long it is.
    fn skip_rest(&mut self) -> io::Result<bool> {
        loop {
            let held = self.reader.fill_buf()?;
            if held.is_empty() {
                return Ok(false);
            }
            let found = memchr::memchr(b'\n', held);
            let length = found.map_or(held.len(), |at| at + 1);
            self.reader.consume(length);
            if found.is_some() {
                return Ok(true);
            }
        }
    }

    /// The record in the line; `None` when it is damaged.
    fn parse(&self) -> Option<Record> {
        // Nearly all records are ends, and the tag is the costly part of
        // parsing them.
        if self.line.starts_with(b"{\"event\":\"end\",") {
            let end: Result<End, _> = serde_json::from_slice(&self.line);
            return end.ok().filter(End::is_possible).map(Record::End);
        }
        Record::parse(&self.line)
    }

    /// Whether the line may be one that was asked for.
    fn is_wanted(&self) -> bool {
        self.only
            .as_ref()
            .is_none_or(|(finder, _)| finder.find(&self.line).is_some())
    }
}

/// The task that a record is about.
fn task_of(record: &Record) -> Option<TaskId> {
    match record {
        Record::Start(start) => Some(start.id),
        Record::End(end) => Some(end.id),
        Record::Header(_)
        | Record::Beat { .. }
        | Record::Note { .. }
        | Record::Health { .. }
        | Record::Gpus { .. }
        | Record::Leave { .. } => None,
    }
}

impl Iterator for Records {
    type Item = io::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.read_line() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
            if !self.is_wanted() {
                continue;
            }
            let Some(record) = self.parse() else {
                self.damage.lines += 1;
                self.damage.first.get_or_insert(self.lines);
                continue;
            };
            match &self.only {
                Some((_, id)) if task_of(&record) != Some(*id) => {}
                _ => return Some(Ok(record)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::synthetic::{end, header, start, workdir};
    use crate::model::outcome::Outcome;

    /// The ids of all task records and the damage.
    fn read(journal: &Journal) -> (Vec<u64>, Damage) {
        let mut records = journal.records().unwrap();
        let ids = (&mut records)
            .filter_map(|record| task_of(&record.unwrap()))
            .map(|id| id.0)
            .collect();
        (ids, records.damage().clone())
    }

    #[test]
    fn journals_come_in_the_order_of_their_farmers() {
        let dir = workdir(&[]);
        assert_eq!(journals(&dir.path().join("nowhere")).unwrap(), []);
        dir.journal("z.0.1.1", &[header("z", 10, 2)]);
        dir.journal("a.0.1.1", &[header("a", 20, 2)]);
        dir.seal("a.0.1.1");
        dir.file("nodes/new.0.1.1.jsonl", b"{\"event\":\"hea");
        dir.file("nodes/other.txt", b"");
        let found: Vec<_> = journals(dir.path())
            .unwrap()
            .into_iter()
            .map(|journal| (journal.header.host, journal.is_sealed))
            .collect();
        assert_eq!(found, [("z".into(), false), ("a".into(), true)]);
    }

    #[test]
    fn a_torn_end_is_no_record_and_damage_is_named() {
        let mut whole = Vec::new();
        header("n1", 10, 2).push_to(&mut whole);
        start(0, 1, 0, 11).push_to(&mut whole);
        end(1, 1, 1, 11, 5, Outcome::Exit(0)).push_to(&mut whole);
        let long = ["x".repeat(2 * LONGEST).as_bytes(), b"\n"].concat();
        for (added, ids, lines, first) in [
            (&b""[..], vec![0, 1], 0, None),
            (&b"{\"event\":\"start\""[..], vec![0, 1], 0, None),
            (&[0; 100], vec![0, 1], 0, None),
            (b"garbage\n", vec![0, 1], 1, Some(4)),
            (&long, vec![0, 1], 1, Some(4)),
            (&long[..2 * LONGEST], vec![0, 1], 0, None),
        ] {
            let dir = workdir(&[]);
            dir.file("nodes/n1.0.1.1.jsonl", &[&whole, added].concat());
            let journal = &journals(dir.path()).unwrap()[0];
            assert_eq!(read(journal), (ids.clone(), Damage { lines, first }));
            if !added.ends_with(b"\n") {
                continue;
            }
            // What follows the damage is read.
            let mut more = [&whole, added].concat();
            start(2, 1, 0, 20).push_to(&mut more);
            dir.file("nodes/n1.0.1.1.jsonl", &more);
            assert_eq!(read(journal).0, [0, 1, 2]);
        }
    }

    #[test]
    fn a_damaged_header_is_made_from_the_name() {
        let dir = workdir(&[]);
        dir.file("nodes/n1.site.org.77.42.1.jsonl", b"garbage\n");
        let journal = &journals(dir.path()).unwrap()[0];
        assert_eq!(journal.header.host, "n1.site.org");
        assert_eq!(journal.header.farmer, "n1.site.org.77.42.1");
        assert_eq!(journal.header.pid, 42);
    }

    #[test]
    fn only_the_records_of_a_task() {
        let dir = workdir(&[]);
        dir.journal(
            "n1.0.1.1",
            &[
                header("n1", 10, 2),
                start(17, 1, 0, 11),
                start(1, 1, 1, 11),
                end(17, 1, 0, 11, 5, Outcome::Exit(1)),
                start(170, 1, 0, 20),
            ],
        );
        let journal = &journals(dir.path()).unwrap()[0];
        let found: Vec<_> = journal.records_of(TaskId(17)).unwrap().collect();
        assert_eq!(found.len(), 2);
    }

    /// Its farmer leaves while a view reads.
    #[test]
    fn a_journal_that_moves_is_found_and_seen_once() {
        let dir = workdir(&[]);
        let records = [header("n1", 10, 2), start(17, 1, 0, 11)];
        dir.journal("n1.0.1.1", &records);
        let known = journals(dir.path()).unwrap();
        dir.seal("n1.0.1.1");
        assert_eq!(known[0].records().unwrap().count(), 2);
        let again = journals_again(dir.path(), |name| {
            known.iter().find(|journal| journal.name == name).cloned()
        });
        let again = again.unwrap();
        assert!(again.len() == 1 && again[0].is_sealed);
        assert_eq!(again[0].header, known[0].header);
        // As a look between the two lists sees it.
        dir.journal("n1.0.1.1", &records);
        assert_eq!(journals(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn a_journal_that_is_a_link_is_not_followed() {
        let dir = workdir(&[]);
        dir.journal("n1.0.1.1", &[header("n1", 10, 2)]);
        let nodes = dir.path().join("nodes");
        std::os::unix::fs::symlink(nodes.join("n1.0.1.1.jsonl"), nodes.join("x.jsonl")).unwrap();
        assert!(journals(dir.path()).is_err());
    }
}
