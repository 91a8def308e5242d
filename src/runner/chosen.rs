//! Which runner a task has: its own (`runner=`), else that of the farm (`--runner`).
//!
//! Definitions are read when one is asked for that is not the default, so that a farm that uses
//! none looks at no file. Guarantee: a name means the same for all tasks of a farm, whatever
//! becomes of the files meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::ready::{self, READY};
use super::wrapper::Wrapper;
use crate::definitions::{Definition, DefinitionError, Places, What};
use crate::model::attributes::Attributes;

/// The name of the default runner.
pub const DEFAULT: &str = "default";

/// The runner that is asked for.
#[derive(Clone, Debug)]
pub struct RunnerChoice {
    /// Its name.
    pub name: String,
    /// Keys of it, which replace those of its definition.
    pub options: Vec<(String, String)>,
    /// Where definitions are looked for.
    pub places: Places,
}

impl RunnerChoice {
    /// The runner, as the state of a run and journals have it; none for the default one.
    pub fn label(&self) -> Option<&str> {
        (self.name != DEFAULT).then_some(&*self.name)
    }
}

/// The runners of a farm. A runner that is none is the default one.
#[derive(Debug)]
pub struct Runners {
    of_farm: Option<Arc<Wrapper>>,
    places: Places,
    of_tasks: Mutex<HashMap<String, Found>>,
}

/// The runner of a name, or why there is none.
type Found = Result<Option<Arc<Wrapper>>, String>;

impl Runners {
    /// Finds the runner that is asked for.
    pub fn choose(choice: &RunnerChoice) -> Result<Arc<Self>, DefinitionError> {
        Ok(Arc::new(Self {
            of_farm: find(&choice.name, &choice.options, &choice.places)?.map(Arc::new),
            places: choice.places.clone(),
            of_tasks: Mutex::default(),
        }))
    }

    /// That of the farm.
    pub fn of_farm(&self) -> Option<&Arc<Wrapper>> {
        self.of_farm.as_ref()
    }

    /// That of a task. The error is a sentence.
    pub fn of_task(&self, attributes: &Attributes) -> Found {
        let runner = match &attributes.runner {
            None => self.of_farm.clone(),
            Some(name) => self.named(name)?,
        };
        let has_steps = runner.as_ref().is_some_and(|runner| runner.has_steps);
        if !has_steps && (attributes.nodes.is_some() || attributes.ntasks.is_some()) {
            let name = runner.as_ref().map_or(DEFAULT, |runner| &runner.name);
            return Err(format!(
                "'nodes' and 'ntasks' mean nothing to the runner '{name}': add runner=srun, or run \
                 with --runner srun"
            ));
        }
        Ok(runner)
    }

    fn named(&self, name: &str) -> Found {
        let mut known = self.of_tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(name) {
            return found.clone();
        }
        let found = find(name, &[], &self.places).map_err(|error| error.0);
        let found = found.map(|runner| runner.map(Arc::new));
        known.insert(name.to_owned(), found.clone());
        found
    }
}

/// Says why a task names a runner that there is not, where the runner of the farm is unknown.
pub fn names_known(places: Places) -> impl Fn(&Attributes) -> Result<(), String> {
    let runners = Runners {
        of_farm: None,
        places,
        of_tasks: Mutex::default(),
    };
    move |attributes| match &attributes.runner {
        Some(name) => runners.named(name).map(drop),
        None => Ok(()),
    }
}

/// The runner of this name; none is the default one.
fn find(
    name: &str,
    options: &[(String, String)],
    places: &Places,
) -> Result<Option<Wrapper>, DefinitionError> {
    let defined = match name {
        DEFAULT => None,
        _ => places.find(What::Runner, name)?,
    };
    let is_ready = || READY.iter().any(|ready| ready.name == name);
    let mut definition = match defined {
        Some(definition) => definition,
        None if is_ready() => Definition::ready(name),
        None => {
            let ready = READY.iter().map(|ready| ready.name);
            return Err(places.unknown(What::Runner, name, ready));
        }
    };
    for (key, value) in options {
        definition.set(key, value);
    }
    ready::of(&definition)
}
