//! A farm of its own for every test, and the facts about it.
//!
//! Tests wait for facts, never for a while: a task that must be "running now"
//! stands at a [`Gate`] until it is let through, and only the watchdog knows
//! how late it is. When a test fails, [`Farm`]'s drop prints everything that
//! the runs left behind, and nothing that a test started outlives it: each
//! process of a test carries the test's mark in its environment.

// The paths are for the other test programs that stand on this harness.
#[path = "harness/facts.rs"]
pub(crate) mod facts;
#[path = "harness/gate.rs"]
mod gate;
#[path = "harness/run.rs"]
mod run;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use facts::program;
pub(crate) use facts::{
    cut_at_each, each_nth, guards, has, is_alive, is_long, is_root, marked, pause, side_by_side,
    skip, state, until,
};
pub(crate) use gate::Gate;
pub(crate) use run::{Done, Pytf, Running};

/// A directory with a task list `tasks.txt` and a workdir `w`.
pub(crate) struct Farm {
    root: tempfile::TempDir,
    mark: String,
    runs: RefCell<Vec<String>>,
}

/// Takes away what lets others write.
fn keep_others_out(path: &Path) {
    let mode = fs::metadata(path).unwrap().permissions().mode();
    if mode & 0o022 != 0 {
        fs::set_permissions(path, PermissionsExt::from_mode(mode & 0o7755)).unwrap();
    }
}

impl Farm {
    pub(crate) fn new() -> Self {
        let root = facts::folder();
        let mark = format!("FARM_TEST_MARK={}", root.path().display());
        Self {
            root,
            mark,
            runs: RefCell::default(),
        }
    }

    /// A farm whose task list holds these lines.
    pub(crate) fn of(list: impl AsRef<[u8]>) -> Self {
        let farm = Self::new();
        farm.write("tasks.txt", list);
        farm
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes a file that only its owner may write, whatever the umask.
    pub(crate) fn write(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        self.make_dir(path.parent().unwrap());
        fs::write(&path, bytes).unwrap();
        keep_others_out(&path);
    }

    /// Makes a folder and those above it, as they would be with an umask of 022.
    pub(crate) fn make_dir(&self, name: impl AsRef<Path>) {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        let root = self.root.path();
        let ours = |path: &&Path| path.starts_with(root) && *path != root;
        path.ancestors().take_while(ours).for_each(keep_others_out);
    }

    /// The content of a file; nothing when there is none.
    pub(crate) fn bytes(&self, name: impl AsRef<Path>) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn text(&self, name: impl AsRef<Path>) -> String {
        String::from_utf8_lossy(&self.bytes(name)).into_owned()
    }

    /// Whether its owner may run a file.
    pub(crate) fn is_program(&self, name: &str) -> bool {
        let mode = fs::metadata(self.path(name)).unwrap().permissions().mode();
        mode & 0o100 != 0
    }

    /// `pytf ARGS`, to be run in the farm's directory.
    pub(crate) fn pytf<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Pytf<'_> {
        Pytf::new(self, args)
    }

    /// `pytf tasks.txt --workdir w --proc 2 ARGS`, `args` split at blanks.
    pub(crate) fn farm(&self, args: &str) -> Pytf<'_> {
        let proc = if args.contains("--proc") {
            ""
        } else {
            "--proc 2 "
        };
        let line = format!("tasks.txt --workdir w {proc}{args}");
        self.pytf(line.split_whitespace())
    }

    /// The `id command` lines of a file of the workdir, in their order.
    pub(crate) fn lines(&self, file: &str) -> Vec<(u64, Vec<u8>)> {
        let bytes = self.bytes(Path::new("w").join(file));
        let lines = bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| {
                let blank = line
                    .iter()
                    .position(|&b| b == b' ')
                    .expect("an `id command` line");
                let id = std::str::from_utf8(&line[..blank])
                    .unwrap()
                    .parse()
                    .unwrap();
                (id, line[blank + 1..].to_vec())
            })
            .collect()
    }

    /// The ids in a file of the workdir, sorted; duplicates show.
    pub(crate) fn ids(&self, file: &str) -> Vec<u64> {
        let mut ids: Vec<u64> = self.lines(file).into_iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    /// Every id below `n` is in exactly one file: these in `finished`, these in
    /// `failed`, all others in `toprocess`.
    pub(crate) fn assert_exact(&self, n: u64, finished: &[u64], failed: &[u64]) {
        assert_eq!(self.ids("finished"), finished, "the ids in `finished`");
        assert_eq!(self.ids("failed"), failed, "the ids in `failed`");
        let rest: Vec<u64> = (0..n)
            .filter(|id| !finished.contains(id) && !failed.contains(id))
            .collect();
        assert_eq!(self.ids("toprocess"), rest, "the ids in `toprocess`");
    }

    /// The same, where those that are `dropped` are in no file.
    pub(crate) fn assert_dropped(&self, n: u64, finished: &[u64], dropped: &[u64]) {
        assert_eq!(self.ids("finished"), finished, "the ids in `finished`");
        let places = ["finished", "failed", "toprocess"]
            .map(|file| self.ids(file))
            .concat();
        let nowhere: Vec<u64> = (0..n).filter(|id| !places.contains(id)).collect();
        assert_eq!(nowhere, dropped, "the ids in no file");
    }

    /// The names of the farmers that kept a journal, oldest first.
    pub(crate) fn farmers(&self) -> Vec<String> {
        let mut farmers: Vec<String> = self
            .records("header")
            .iter()
            .map(|r| r["farmer"].as_str().unwrap().into())
            .collect();
        farmers.dedup();
        farmers
    }

    /// All `end` records of all journals, oldest first.
    pub(crate) fn ends(&self) -> Vec<Value> {
        self.records("end")
    }

    /// All headers of journals, oldest first.
    pub(crate) fn headers(&self) -> Vec<Value> {
        // A process that was taken for dead on a slow machine joins again.
        let mut processes = HashSet::new();
        let mut headers = self.records("header");
        headers.retain(|it| {
            processes.insert(["host", "pid", "began"].map(|field| it[field].to_string()))
        });
        headers
    }

    pub(crate) fn journals(&self) -> Vec<PathBuf> {
        // A journal that moves meanwhile is there once.
        let list = |folder: &str| {
            let entries = fs::read_dir(self.path(folder)).into_iter().flatten();
            let paths = entries.flatten().map(|entry| entry.path());
            paths.filter(|path| path.extension() == Some(OsStr::new("jsonl")))
        };
        let living: Vec<PathBuf> = list("w/nodes").collect();
        let over: Vec<PathBuf> = list("w/nodes/done").collect();
        let living = living.into_iter().filter(|path| path.exists());
        living.chain(over).collect()
    }

    /// Where the journal of a farmer is.
    pub(crate) fn journal(&self, farmer: &str) -> PathBuf {
        let prefix = format!("{farmer}.");
        let is_its = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(&prefix)
        };
        let mut journals = self.journals().into_iter().filter(is_its);
        journals.next().expect("a journal")
    }

    /// Whether the journal of a farmer is among those that are over.
    pub(crate) fn is_over(&self, farmer: &str) -> bool {
        self.journal(farmer).parent() == Some(&self.path("w/nodes/done"))
    }

    /// All records of one kind of all journals, oldest first.
    pub(crate) fn records(&self, event: &str) -> Vec<Value> {
        let mut found = Vec::new();
        for journal in self.journals() {
            // Moved meanwhile: it is among those that are over the next time.
            let Ok(text) = fs::read_to_string(&journal) else {
                continue;
            };
            // The end of a killed farmer's journal may be torn.
            let records = text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            found.extend(records.filter(|record: &Value| record["event"] == event));
        }
        found.sort_by_key(|record| record["at"].as_u64());
        found
    }

    /// The last outcome of every task: `exit 0`, `signal 9`, `time-limit`, ….
    pub(crate) fn outcomes(&self) -> BTreeMap<u64, String> {
        let ends = self.ends();
        ends.iter()
            .map(|end| (end["id"].as_u64().unwrap(), outcome(end)))
            .collect()
    }

    pub(crate) fn gate(&self, name: &str) -> Gate {
        Gate::new(&self.path(name))
    }

    /// The processes that carry the test's mark and run something else than
    /// `pytf`: tasks and all that descends from them, wherever it fled to.
    pub(crate) fn survivors(&self) -> Vec<String> {
        let pytf = Path::new(env!("CARGO_BIN_EXE_pytf"));
        let processes = marked(&self.mark)
            .into_iter()
            .map(|pid| (pid, program(pid)));
        let others = processes.filter(|(_, (program, _))| program.as_deref() != Some(pytf));
        others
            .map(|(pid, (_, line))| format!("{pid}: {line}"))
            .collect()
    }

    /// Everything that may tell why a test failed.
    fn report(&self) -> String {
        let mut find = Command::new("find");
        find.arg(self.root.path()).args(["-printf", "%M %s\t%P\n"]);
        let mut parts = vec![("tree".into(), find.output().unwrap().stdout)];
        parts.extend(
            self.runs
                .borrow()
                .iter()
                .map(|run| ("run".into(), run.clone().into())),
        );
        let files = ["w/toprocess", "w/finished", "w/failed"].map(|name| self.path(name));
        for path in files.into_iter().chain(self.journals()) {
            parts.push((
                path.display().to_string(),
                fs::read(path).unwrap_or_default(),
            ));
        }
        parts.push(("alive".into(), self.survivors().join("\n").into()));
        parts.iter().fold(String::new(), |report, (name, bytes)| {
            report + "--- " + name + "\n" + &clip(bytes)
        })
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "{}", self.report());
            for pid in marked(&self.mark) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        } else {
            until(
                "nothing that the test started is alive, no guard either",
                || marked(&self.mark).is_empty() && guards(&self.farmers()).is_empty(),
            );
        }
    }
}

/// The outcome of an `end` record in one text.
pub(crate) fn outcome(end: &Value) -> String {
    match &end["outcome"] {
        Value::Object(map) => {
            let (word, n) = map.iter().next().unwrap();
            format!("{word} {n}")
        }
        word => word.as_str().unwrap().to_owned(),
    }
}

/// A list of `n` tasks.
pub(crate) fn tasks(n: u64, line: impl Fn(u64) -> String) -> String {
    (0..n).map(|id| line(id) + "\n").collect()
}

fn clip(bytes: &[u8]) -> String {
    let part = &bytes[..bytes.len().min(4000)];
    let more = if part.len() < bytes.len() {
        "…\n"
    } else {
        ""
    };
    String::from_utf8_lossy(part).into_owned() + more
}

/// A path as an argument, whatever its bytes.
pub(crate) fn os(bytes: &[u8]) -> OsString {
    OsStr::from_bytes(bytes).to_owned()
}
