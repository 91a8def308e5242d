//! `pytf runners` and `pytf handlers`: what is ready to use, and what INI files define.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use pytf::definitions::{Definition, Places, What};
use pytf::exit::RunExit;
use pytf::model::attributes::Attributes;
use pytf::model::escape::escape;
use pytf::model::tasklist::handlers::HANDLERS;
use pytf::model::tasklist::{Dialect, TaskCheck};
use pytf::runner::chosen::names_known;
use pytf::runner::ready::{self, READY};
use pytf::ui::progress::warn;

use crate::say;

/// Why a task names a runner of which nothing is known here.
#[derive(Clone, Default)]
pub(crate) struct UnknownRunner(Arc<Mutex<Option<String>>>);

impl UnknownRunner {
    /// The dialect that looks for the runners of tasks. It refuses none: farmers may be given
    /// other files.
    pub(crate) fn looked_for(&self, dialect: Dialect) -> Dialect {
        let known = names_known(places());
        let found = self.0.clone();
        let check = move |attributes: &Attributes| {
            if let Err(why) = known(attributes) {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.get_or_insert(why);
            }
            Ok(())
        };
        Dialect {
            tasks: Some(TaskCheck::new(check)),
            ..dialect
        }
    }

    /// Warns of it.
    pub(crate) fn warn(&self) {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &*found {
            warn(&format!(
                "a task cannot run if its farmers know no more than this: {why}"
            ));
        }
    }
}

/// Where a command without `--config` looks for definitions.
pub(crate) fn places() -> Places {
    let files: Vec<PathBuf> = std::env::var_os("PYTF_CONFIG")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    Places::of(|name| std::env::var_os(name), &files)
}

/// Lists them.
pub(crate) fn list(what: What, files: &[PathBuf]) -> RunExit {
    let places = Places::of(|name| std::env::var_os(name), files);
    let defined = match places.read(what) {
        Ok(defined) => defined,
        Err(error) => {
            warn(&error.to_string());
            return RunExit::Usage;
        }
    };
    let ready: Vec<[String; 3]> = match what {
        What::Runner => READY.iter().map(of_runner).collect(),
        What::TaskList => {
            let program = [
                "program",
                "what the program in the key 'command' prints",
                "command",
            ];
            let handlers = HANDLERS
                .iter()
                .map(|handler| [handler.name, handler.about, ""]);
            let all = handlers.chain([program]);
            all.map(|row| row.map(str::to_owned)).collect()
        }
    };
    let width = |rows: &[[String; 3]]| rows.iter().map(|row| row[0].len()).max().unwrap_or(0);
    let mut text = String::new();
    let names = width(&ready);
    for [name, about, keys] in &ready {
        text += &format!("{name:names$}  {about}\n");
        if !keys.is_empty() {
            text += &format!("{:names$}    keys: {keys}\n", "");
        }
    }
    for folder in places.folders(what) {
        text += &format!("\nin {}:\n", folder.display());
        text += &of_files(&defined, |there| there.is_in(&folder));
    }
    for file in files {
        text += &format!("\nin {}:\n", file.display());
        text += &of_files(&defined, |there| there.file.as_ref() == Some(file));
    }
    let exit = say(&text);
    let faults: Vec<_> = match what {
        What::Runner => defined
            .iter()
            .filter_map(|it| ready::of(it).err())
            .collect(),
        What::TaskList => Vec::new(),
    };
    for fault in &faults {
        warn(&fault.to_string());
    }
    if faults.is_empty() {
        exit
    } else {
        RunExit::Usage
    }
}

fn of_runner(ready: &ready::Ready) -> [String; 3] {
    [
        ready.name.to_owned(),
        ready.about.to_owned(),
        ready.keys.join(", "),
    ]
}

/// The definitions of a place.
fn of_files(defined: &[Definition], is_there: impl Fn(&Definition) -> bool) -> String {
    let mut text = String::new();
    for (nth, definition) in defined.iter().enumerate() {
        if !is_there(definition) {
            continue;
        }
        let later = defined[nth + 1..]
            .iter()
            .find(|later| later.name == definition.name);
        let name = escape(definition.name.as_bytes());
        let class = escape(definition.class.as_bytes());
        text += &format!("  {name}  {class}  {}", definition.place());
        text += &match later {
            Some(later) => format!("  (not used: {} comes later)\n", later.place()),
            None if definition.name == "default" => {
                "  (not used: 'default' is always that of pytf)\n".to_owned()
            }
            None => "\n".to_owned(),
        };
    }
    if text.is_empty() {
        "  none\n".to_owned()
    } else {
        text
    }
}
