//! The journals of a workdir, read as a stream.
//!
//! A view never keeps a whole journal in memory: a run of a million tasks has hundreds of
//! megabytes of them. A last line without its line end is a write that a farmer has not
//! completed and is not a record; any other line that does not parse is damage: counted, named
//! by its number, and skipped, so that one bad block costs the records in it and not the view.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use memchr::memmem::Finder;

use super::lines::{self, LONGEST};
use super::open;
use crate::model::record::{End, Header, Record};
use crate::model::task::TaskId;
use crate::workdir::layout::{DONE, NODES, departed_of, farmer_of, journal};

/// The journal of one farmer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Journal {
    /// The farmer, by the name of the file.
    pub name: String,
    /// Where it was when it was found; it moves when its farmer is over.
    pub path: PathBuf,
    /// Its first record; made from the file's name when that is damaged, with
    /// `at` and `slots` 0.
    pub header: Header,
    /// Whether the farmer is over: it left, or another took over from it.
    pub is_sealed: bool,
    /// When it was last read before us, by the file system's clock.
    pub accessed: Option<SystemTime>,
}

/// The journals in a workdir, by the time their farmers started. A workdir
/// without any, as PyTaskFarmer leaves it, has an empty list. A journal that
/// has no whole line yet is left out: its farmer is joining.
pub fn journals(workdir: &Path) -> io::Result<Vec<Journal>> {
    journals_again(workdir, |_| None)
}

/// The same, without reading again the first lines of the journals that `known` has.
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
    // In this order a journal that is moved meanwhile is seen twice, never missed.
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

    /// Calls `each` with its records, one after the other, until that fails; returns
    /// what is damaged.
    pub fn each_record(&self, each: impl FnMut(Record) -> io::Result<()>) -> io::Result<Damage> {
        self.each_record_to(u64::MAX, each)
    }

    /// The same for the records that begin before an offset in bytes.
    pub fn each_record_to(
        &self,
        offset: u64,
        mut each: impl FnMut(Record) -> io::Result<()>,
    ) -> io::Result<Damage> {
        let (mut damage, mut number) = (Damage::default(), 0);
        lines::each(&self.file()?, 0, |line, at| {
            number += 1;
            match parse(line) {
                _ if at >= offset => Ok(()),
                Some(record) => each(record),
                None => {
                    damage.add(number);
                    Ok(())
                }
            }
        })?;
        Ok(damage)
    }

    /// Calls `each` with the records of one task, found without parsing the others.
    pub fn each_record_of(
        &self,
        id: TaskId,
        mut each: impl FnMut(Record) -> io::Result<()>,
    ) -> io::Result<()> {
        let text = format!("\"id\":{id},");
        let finder = Finder::new(&text);
        let is_its = |record: &Record| match record {
            Record::Start(start) => start.id == id,
            Record::End(end) => end.id == id,
            _ => false,
        };
        lines::each(&self.file()?, 0, |line, _| {
            let found = finder.find(line).and_then(|_| parse(line));
            found.filter(is_its).map_or(Ok(()), &mut each)
        })?;
        Ok(())
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

/// The host and the process in a farmer's name, `<host>.<job>.<pid>.<start>`. A host's
/// name may have dots in it.
fn header_from_name(name: &str) -> Header {
    let mut parts = name.rsplitn(4, '.');
    let (_start, pid, _job) = (parts.next(), parts.next(), parts.next());
    Header {
        farmer: name.to_owned(),
        host: parts.next().unwrap_or(name).to_owned(),
        pid: pid.and_then(|pid| pid.parse().ok()).unwrap_or(0),
        ..Header::default()
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

impl Damage {
    /// Counts one more line, by its number.
    pub(super) fn add(&mut self, line: u64) {
        self.lines += 1;
        self.first.get_or_insert(line);
    }
}

/// The record in a line; `None` when it is damaged.
fn parse(line: &[u8]) -> Option<Record> {
    // Nearly all records are ends, and the tag is the costly part of
    // parsing them.
    if line.starts_with(b"{\"event\":\"end\",") {
        let end: Result<End, _> = serde_json::from_slice(line);
        return end.ok().filter(End::is_possible).map(Record::End);
    }
    Record::parse(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::synthetic::{end, header, start, workdir};
    use crate::model::outcome::Outcome;

    /// The ids of all task records and the damage.
    fn read(journal: &Journal) -> (Vec<u64>, Damage) {
        let mut ids = Vec::new();
        let damage = journal.each_record(|record| {
            ids.extend(match record {
                Record::Start(start) => Some(start.id.0),
                Record::End(end) => Some(end.id.0),
                _ => None,
            });
            Ok(())
        });
        (ids, damage.unwrap())
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
        let mut found = 0;
        let count = |_| {
            found += 1;
            Ok(())
        };
        journal.each_record_of(TaskId(17), count).unwrap();
        assert_eq!(found, 2);
    }

    /// Its farmer leaves while a view reads.
    #[test]
    fn a_journal_that_moves_is_found_and_seen_once() {
        let dir = workdir(&[]);
        let records = [header("n1", 10, 2), start(17, 1, 0, 11)];
        dir.journal("n1.0.1.1", &records);
        let known = journals(dir.path()).unwrap();
        dir.seal("n1.0.1.1");
        assert_eq!(read(&known[0]).0, [17]);
        let again = journals_again(dir.path(), |name| {
            known.iter().find(|journal| journal.name == name).cloned()
        });
        let again = again.unwrap();
        assert!(again.len() == 1 && again[0].is_sealed);
        assert_eq!(again[0].header, known[0].header);
        // As a reader finds it between the two listings.
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
