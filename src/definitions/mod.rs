//! Definitions of runners and of handlers of task lists in INI files, and where they are.
//!
//! They are where PyTaskFarmer has them, in `~/.pytaskfarmer/runners.d/*.ini` and
//! `~/.pytaskfarmer/tasklists.d/*.ini`, in `~/.config/pytf/*.ini`, and in the files of
//! `--config`. Of two definitions of one name the one in the later of these places counts, and
//! in one folder that of the file whose name comes later.
//!
//! A definition decides which programs run. Guarantee: a file that others than its reader and
//! root may write, or that lies in such a folder, is refused, and so is one that cannot be
//! understood: nothing of a file is passed over in silence.

pub mod ini;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ini::{Entry, Section};
use nix::unistd::Uid;

use crate::model::attributes::nearest;

/// The key of a section that makes it a runner.
pub const RUNNER: &str = "Runner";
/// The key of a section that makes it a handler of task lists.
pub const TASK_LIST: &str = "TaskList";

/// The section with keys that PyTaskFarmer does not know.
const OURS: &str = "pytf";

/// What a definition defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A runner.
    Runner,
    /// A handler of task lists.
    TaskList,
}

impl What {
    /// The key of a section that says so.
    pub fn key(self) -> &'static str {
        match self {
            Self::Runner => RUNNER,
            Self::TaskList => TASK_LIST,
        }
    }

    /// The folder in which PyTaskFarmer looks.
    fn folder(self) -> &'static str {
        match self {
            Self::Runner => "runners.d",
            Self::TaskList => "tasklists.d",
        }
    }

    /// For people.
    fn word(self) -> &'static str {
        match self {
            Self::Runner => "runner",
            Self::TaskList => "handler of task lists",
        }
    }
}

/// A section that defines something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// Which of the ready ones it is, or the class that does it.
    pub class: String,
    /// Its other keys, in order.
    pub entries: Vec<Entry>,
    /// The keys of the section `[pytf]` of its file, which PyTaskFarmer passes over.
    pub ours: Vec<Entry>,
    /// Its file; none: it is ready, and its keys are from the command line.
    pub file: Option<PathBuf>,
    /// The line of its name.
    pub line: u64,
}

/// Why definitions cannot be used. The text names the file, the section and the key, and says
/// what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DefinitionError(pub String);

/// What a definition says.
pub type Result<T> = std::result::Result<T, DefinitionError>;

impl Definition {
    /// A ready one, without a file.
    pub fn ready(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            class: name.to_owned(),
            entries: Vec::new(),
            ours: Vec::new(),
            file: None,
            line: 0,
        }
    }

    /// Sets a key, as a file could.
    pub fn set(&mut self, key: &str, value: &str) {
        let entry = self.entries.iter_mut().find(|entry| entry.key == key);
        match entry {
            Some(entry) => value.clone_into(&mut entry.value),
            None => self.entries.push(Entry {
                key: key.to_owned(),
                value: value.to_owned(),
                line: self.line,
            }),
        }
    }

    /// An error in it.
    pub fn wrong(&self, what: &str) -> DefinitionError {
        DefinitionError(match &self.file {
            Some(file) => format!("{}: [{}]: {what}", file.display(), self.name),
            None => format!("{}: {what}", self.name),
        })
    }

    /// An error in the value of a key.
    pub fn wrong_value(&self, key: &str, what: &str) -> DefinitionError {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        let line = entry.map_or(self.line, |entry| entry.line);
        let name = &self.name;
        DefinitionError(match &self.file {
            Some(file) => format!("{}, line {line}: [{name}] {key}: {what}", file.display()),
            None => format!("{name}: {key}: {what}"),
        })
    }

    /// The value of a key that may be absent.
    pub fn value(&self, key: &str) -> Option<&str> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(&entry.value)
    }

    /// The value of a key of the section `[pytf]` of its file.
    pub fn ours(&self, key: &str) -> Option<&str> {
        let entry = self.ours.iter().find(|entry| entry.key == key)?;
        Some(&entry.value)
    }

    /// The value of a key that must be there.
    pub fn needed(&self, key: &str) -> Result<&str> {
        self.value(key).ok_or_else(|| match self.file {
            Some(_) => self.wrong(&format!("the key '{key}' is missing: add {key} = …")),
            None => self.wrong(&format!("'{key}' is missing: add --runner-key {key}=…")),
        })
    }

    /// Refuses other keys than these.
    pub fn refuse_others(&self, known: &[&str]) -> Result<()> {
        let is_other = |entry: &&Entry| !known.contains(&&*entry.key);
        let Some(entry) = self.entries.iter().find(is_other) else {
            return Ok(());
        };
        let hint = match nearest(&entry.key, known.iter().copied()) {
            Some(near) => format!("did you mean '{near}'?"),
            None if known.is_empty() => format!("{} has no keys", self.class),
            None => format!("the keys of {} are {}", self.class, known.join(", ")),
        };
        Err(self.wrong_value(&entry.key, &format!("this key is not known; {hint}")))
    }

    /// Whether its file is in this folder.
    pub fn is_in(&self, folder: &Path) -> bool {
        self.file.as_ref().and_then(|file| file.parent()) == Some(folder)
    }

    /// Where it is, for people: `FILE:LINE`.
    pub fn place(&self) -> String {
        let file = self.file.as_ref();
        file.map_or_else(String::new, |file| {
            format!("{}:{}", file.display(), self.line)
        })
    }
}

/// Where definitions are looked for.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// `~`
    pub home: Option<PathBuf>,
    /// `~/.config`
    pub config: Option<PathBuf>,
    /// The files of `--config`.
    pub files: Vec<PathBuf>,
}

impl Places {
    /// Those of this user.
    pub fn of(variable: impl Fn(&str) -> Option<OsString>, files: &[PathBuf]) -> Self {
        let folder = |name| {
            let folder = PathBuf::from(variable(name)?);
            folder.is_absolute().then_some(folder)
        };
        let home = folder("HOME");
        let config = folder("XDG_CONFIG_HOME");
        Self {
            config: config.or_else(|| Some(home.as_ref()?.join(".config"))),
            home,
            files: files.to_vec(),
        }
    }

    /// The folders that are looked into, whether they exist or not.
    pub fn folders(&self, what: What) -> Vec<PathBuf> {
        let theirs = (self.home.iter()).map(|home| home.join(".pytaskfarmer").join(what.folder()));
        let ours = self.config.iter().map(|config| config.join("pytf"));
        theirs.chain(ours).collect()
    }

    /// All definitions, the ones that count last.
    pub fn read(&self, what: What) -> Result<Vec<Definition>> {
        let mut found = Vec::new();
        for folder in self.folders(what) {
            for file in ini_files(&folder)? {
                found.extend(definitions(&file, what)?);
            }
        }
        for file in &self.files {
            found.extend(definitions(file, what)?);
        }
        Ok(found)
    }

    /// The definition of this name that counts.
    pub fn find(&self, what: What, name: &str) -> Result<Option<Definition>> {
        let mut all = self.read(what)?;
        let at = all.iter().rposition(|there| there.name == name);
        Ok(at.map(|at| all.swap_remove(at)))
    }

    /// The error for a name that is not defined, where these are ready.
    pub fn unknown<'a>(
        &self,
        what: What,
        name: &str,
        ready: impl Iterator<Item = &'a str>,
    ) -> DefinitionError {
        let defined = self.read(what).unwrap_or_default();
        let mut names: Vec<&str> = ready.collect();
        for definition in &defined {
            if !names.contains(&&*definition.name) {
                names.push(&definition.name);
            }
        }
        let meant = match nearest(name, names.iter().copied()) {
            Some(near) => format!("; did you mean '{near}'?"),
            None => ".".to_owned(),
        };
        let folders = self.folders(what);
        let folders: Vec<_> = folders
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        DefinitionError(format!(
            "there is no {} '{}'{meant} Known are {}; others are defined in INI files in {}, or \
             in one that --config names",
            what.word(),
            name.escape_debug(),
            names.join(", "),
            folders.join(" and "),
        ))
    }
}

/// The INI files of a folder, in the order of their names.
fn ini_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |error| cannot_read(folder, &error);
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.map_err(unreadable)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        if path.extension().is_some_and(|extension| extension == "ini") && !is_hidden {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// The definitions in one file.
fn definitions(file: &Path, what: What) -> Result<Vec<Definition>> {
    let text = read_trusted(file)?;
    let wrong = |error| DefinitionError(format!("{}, {error}", file.display()));
    let (mut found, sections) = (Vec::new(), ini::parse(&text).map_err(wrong)?);
    let ours = sections.iter().find(|section| section.name == OURS);
    let ours = ours
        .map_or(Ok(Vec::new()), Section::entries)
        .map_err(wrong)?;
    for section in &sections {
        if !section.has(what.key()) {
            continue;
        }
        let mut entries = section.entries().map_err(wrong)?;
        let at = entries.iter().position(|entry| entry.key == what.key());
        let class = at.map(|at| entries.remove(at).value);
        found.push(Definition {
            name: section.name.clone(),
            class: class.unwrap_or_default(),
            entries,
            ours: ours.clone(),
            file: Some(file.to_owned()),
            line: section.line,
        });
    }
    Ok(found)
}

fn cannot_read(path: &Path, error: &io::Error) -> DefinitionError {
    DefinitionError(format!("cannot read {}: {error}", path.display()))
}

/// The text of a file that no other user may change.
fn read_trusted(path: &Path) -> Result<String> {
    let unreadable = |error| cannot_read(path, &error);
    let mut file = File::open(path).map_err(unreadable)?;
    let of_file = file.metadata().map_err(unreadable)?;
    if !of_file.is_file() {
        let what = format!("{} is not a regular file", path.display());
        return Err(DefinitionError(what));
    }
    // Whoever may write to the folder may put another file in its place.
    let real = path.canonicalize().map_err(unreadable)?;
    let folder = real.parent().unwrap_or(&real);
    let of_folder = fs::metadata(folder).map_err(unreadable)?;
    refuse_others(path, &of_file)?;
    refuse_others(folder, &of_folder)?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// Refuses what others than we and root may write.
fn refuse_others(path: &Path, of: &fs::Metadata) -> Result<()> {
    let (us, owner) = (Uid::effective().as_raw(), of.uid());
    let shown = path.display();
    let decides = "definitions of runners and handlers decide which programs run as you";
    if owner != us && owner != 0 {
        return Err(DefinitionError(format!(
            "{shown} belongs to the user {owner}, not to you ({us}), and {decides}: copy it, and \
             use the copy"
        )));
    }
    // In a folder such as /tmp nobody can put another file in its place.
    let is_sticky = of.is_dir() && of.mode() & 0o1000 != 0;
    if of.mode() & 0o022 != 0 && !is_sticky {
        return Err(DefinitionError(format!(
            "others may write to {shown} (mode {:o}), and {decides}: chmod go-w {shown}",
            of.mode() & 0o7777
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn home() -> (tempfile::TempDir, Places) {
        let home = tempfile::tempdir().unwrap();
        for folder in [".pytaskfarmer/runners.d", ".config/pytf"] {
            fs::create_dir_all(home.path().join(folder)).unwrap();
        }
        let path = home.path().to_owned();
        let variable = |name: &str| (name == "HOME").then(|| path.clone().into());
        let places = Places::of(variable, &[]);
        (home, places)
    }

    fn write(home: &Path, name: &str, text: &str) -> PathBuf {
        let path = home.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    #[test]
    fn the_later_definition_of_a_name_counts() {
        let (home, mut places) = home();
        let at = home.path();
        let of =
            |image: &str| format!("[a]\nRunner = apptainer\nimage = {image}\n[other]\nx = 1\n");
        write(at, ".pytaskfarmer/runners.d/b.ini", &of("one"));
        let image = |places: &Places| {
            let found = places.find(What::Runner, "a").unwrap().unwrap();
            found.value("image").unwrap().to_owned()
        };
        assert_eq!(image(&places), "one");
        write(at, ".pytaskfarmer/runners.d/c.ini", &of("two"));
        write(at, ".pytaskfarmer/runners.d/d.txt", "no INI file");
        assert_eq!(image(&places), "two");
        write(at, ".config/pytf/a.ini", &of("three"));
        assert_eq!(image(&places), "three");
        places.files = vec![write(at, "mine.ini", &of("four"))];
        assert_eq!(image(&places), "four");
        assert_eq!(places.find(What::Runner, "other"), Ok(None));
        assert_eq!(places.find(What::TaskList, "a"), Ok(None));
        let unknown = places.unknown(What::Runner, "shel", ["shell"].into_iter());
        assert!(
            unknown
                .0
                .contains("no runner 'shel'; did you mean 'shell'? Known are shell, a;"),
            "{unknown}"
        );
    }

    #[test]
    fn what_others_may_write_is_refused() {
        let (home, places) = home();
        let file = write(home.path(), ".config/pytf/a.ini", "[a]\nRunner = shell\n");
        assert_eq!(places.read(What::Runner).unwrap().len(), 1);
        for path in [file.as_path(), file.parent().unwrap()] {
            let before = fs::metadata(path).unwrap().permissions();
            let mode = before.mode() | 0o020;
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            let error = places.read(What::Runner).unwrap_err().0;
            assert!(error.contains("others may write to"), "{error}");
            fs::set_permissions(path, before).unwrap();
        }
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        let error = places.read(What::Runner).unwrap_err().0;
        assert!(error.contains("is not a regular file"), "{error}");
    }

    #[test]
    fn an_error_names_file_section_and_key() {
        let (home, places) = home();
        let text = "[a]\nRunner = apptainer\nimagee = x\n";
        let file = write(home.path(), ".config/pytf/a.ini", text);
        let found = places.find(What::Runner, "a").unwrap().unwrap();
        let file = file.display();
        assert_eq!(
            found.refuse_others(&["image"]).unwrap_err().0,
            format!("{file}, line 3: [a] imagee: this key is not known; did you mean 'image'?")
        );
        assert_eq!(
            found.needed("image").unwrap_err().0,
            format!("{file}: [a]: the key 'image' is missing: add image = …")
        );
        write(home.path(), ".config/pytf/a.ini", "[a\nRunner = x");
        let error = places.read(What::Runner).unwrap_err().0;
        assert_eq!(
            error,
            format!("{file}, line 1: this is neither [SECTION] nor KEY = VALUE")
        );
    }
}
