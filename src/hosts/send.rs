//! The starter's end: lists what there is, and sends what a host lacks.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::copies::{
    DATA, END, Entry, FAILED, Frame, Frames, Need, PIECE, Reply, SAME, Time, What, time_of,
};
use super::hash::hash_of;
use crate::model::figures::{counted, show_kib};
use crate::model::relative::relative;
use crate::ui::progress::warn;
use crate::workdir::folder::is_same_folder;

/// So many entries are in a frame of the list: it fits with the longest names.
const ENTRIES: usize = 200;
/// A file that was written so recently may be written again and have the same time: a copy of it
/// gets another.
const RECENT: Duration = Duration::from_secs(2);

/// What is copied to a host.
pub struct Files {
    paths: Vec<String>,
    /// The workdir, which is not.
    workdir: PathBuf,
    is_quiet: bool,
}

/// What was sent to a host.
#[derive(Default)]
pub(super) struct Sent {
    files: u64,
    bytes: u64,
    is_quiet: bool,
}

impl Sent {
    /// Tells the user.
    pub(super) fn report(&self, host: &str) {
        if self.files > 0 && !self.is_quiet {
            let files = counted(self.files, "file", "files");
            let size = show_kib(self.bytes.div_ceil(1024));
            warn(&format!("{host}: copied {files} there, {size}"));
        }
    }
}

impl Files {
    /// These, relative to the current folder.
    pub fn new(paths: Vec<String>, workdir: &Path, is_quiet: bool) -> Self {
        Self {
            paths,
            workdir: workdir.to_owned(),
            is_quiet,
        }
    }

    /// What is wrong with them, as a sentence.
    pub fn fault(&self) -> Option<String> {
        self.list().err()
    }

    /// All that is in them.
    fn list(&self) -> Result<Vec<Entry>, String> {
        let mut entries = Vec::new();
        for path in &self.paths {
            let path = relative(path)?;
            // What the user has named is meant, even if it is a link.
            let stat = fs::metadata(&path).map_err(|error| format!("{path}: {error}"))?;
            self.walk(&path, &stat, &mut entries)?;
        }
        Ok(entries)
    }

    fn walk(
        &self,
        path: &str,
        stat: &fs::Metadata,
        entries: &mut Vec<Entry>,
    ) -> Result<(), String> {
        let cannot = |error: io::Error| format!("{path}: {error}");
        let mode = stat.permissions().mode() & 0o777;
        let what = if stat.is_dir() {
            What::Folder { mode }
        } else if stat.is_symlink() {
            let to = fs::read_link(path).map_err(cannot)?;
            let to = to
                .to_str()
                .ok_or_else(|| format!("{path} leads to a name that is not UTF-8"))?;
            What::Link { to: to.to_owned() }
        } else if stat.is_file() {
            let time = time_of(stat).unwrap_or((0, 0));
            let size = stat.len();
            What::File { size, time, mode }
        } else {
            return Err(format!(
                "{path} is neither a file nor a folder: it cannot be copied"
            ));
        };
        let is_folder = matches!(what, What::Folder { .. });
        if is_folder && is_same_folder(path, &self.workdir) {
            return Ok(());
        }
        entries.push(Entry {
            path: path.to_owned(),
            what,
        });
        if !is_folder {
            return Ok(());
        }
        let names = fs::read_dir(path).map_err(cannot)?;
        let names = names.map(|entry| entry.map(|entry| entry.file_name()));
        let mut names = names.collect::<Result<Vec<_>, _>>().map_err(cannot)?;
        names.sort_unstable();
        for name in names {
            let name = name.to_str().ok_or_else(|| {
                format!("{path} has a name that is not UTF-8: {}", name.display())
            })?;
            let path = match path {
                "." => name.to_owned(),
                folder => format!("{folder}/{name}"),
            };
            relative(&path)?;
            match fs::symlink_metadata(&path) {
                Ok(stat) => self.walk(&path, &stat, entries)?,
                // It was removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(format!("{path}: {error}")),
            }
        }
        Ok(())
    }
}

/// Sends what a host lacks, and waits until it has all; returns what was sent. `ask` writes
/// frames, and has the reply to them.
pub(super) fn send<E>(
    files: &Files,
    mut ask: impl FnMut(Frames<'_>) -> Result<Reply, E>,
) -> Result<Result<Sent, String>, E> {
    let entries = match files.list() {
        Ok(entries) => entries,
        Err(why) => return Ok(Err(why)),
    };
    let mut reply = ask(&mut |frame| {
        for some in entries.chunks(ENTRIES) {
            frame(&serde_json::to_vec(some)?)?;
        }
        frame(&[])
    })?;
    let mut all: Vec<Need> = Vec::new();
    while let Reply::Needs(needs) = &mut reply
        && !needs.is_empty()
    {
        all.append(needs);
        reply = ask(&mut |_| Ok(()))?;
    }
    let mut sent = Sent {
        is_quiet: files.is_quiet,
        ..Sent::default()
    };
    if matches!(reply, Reply::Needs(_)) {
        reply = ask(&mut |frame| {
            for need in &all {
                let entry = entries.get(need.at).ok_or(io::ErrorKind::InvalidData)?;
                match send_file(entry, need, &mut sent, frame) {
                    Ok(()) => {}
                    Err(Unsent::Lost(error)) => return Err(error),
                    Err(Unsent::Cannot(why)) => {
                        return frame(&[&[FAILED][..], why.as_bytes()].concat());
                    }
                }
            }
            Ok(())
        })?;
    }
    Ok(match reply {
        Reply::Done => Ok(sent),
        Reply::Problem(why) => Err(why),
        Reply::Needs(_) => Err("it answers what was not asked".to_owned()),
    })
}

/// Why a file was not sent.
enum Unsent {
    Lost(io::Error),
    Cannot(String),
}

fn send_file(entry: &Entry, need: &Need, sent: &mut Sent, frame: Frame<'_>) -> Result<(), Unsent> {
    let cannot = |error: io::Error| Unsent::Cannot(format!("{}: {error}", entry.path));
    let mut file = File::open(&entry.path).map_err(cannot)?;
    let before = file.metadata().map_err(cannot)?;
    let time = settled_time(&before);
    let end = |kind: u8| -> io::Result<Vec<u8>> {
        let time = serde_json::to_vec(&time)?;
        Ok([&[kind][..], &time].concat())
    };
    if let Some(there) = &need.hash {
        let is_same = hash_of(&mut file).map_err(cannot)? == *there;
        if is_same && is_unchanged(&file, &before).map_err(cannot)? {
            return frame(&end(SAME).map_err(cannot)?).map_err(Unsent::Lost);
        }
        file = File::open(&entry.path).map_err(cannot)?;
    }
    let mut piece = vec![DATA; PIECE + 1];
    loop {
        let read = file.read(&mut piece[1..]).map_err(cannot)?;
        if read == 0 {
            break;
        }
        frame(&piece[..=read]).map_err(Unsent::Lost)?;
        sent.bytes += read as u64;
    }
    if !is_unchanged(&file, &before).map_err(cannot)? {
        let why = format!("{} was changed while it was copied", entry.path);
        return Err(Unsent::Cannot(why));
    }
    sent.files += 1;
    frame(&end(END).map_err(cannot)?).map_err(Unsent::Lost)
}

/// The time that a copy gets; none where it does not show whether the file is changed later.
fn settled_time(stat: &fs::Metadata) -> Option<Time> {
    let age = SystemTime::now()
        .duration_since(stat.modified().ok()?)
        .ok()?;
    if age < RECENT { None } else { time_of(stat) }
}

fn is_unchanged(file: &File, before: &fs::Metadata) -> io::Result<bool> {
    let now = file.metadata()?;
    Ok((now.len(), time_of(&now)) == (before.len(), time_of(before)))
}
