//! Runners that are Python classes of users: a small program in Python makes the object and
//! calls its `run`.

use serde_json::{Map, Value as Json};

use super::wrapper::{Piece, Value, Wrapper};
use crate::definitions::Definition;

/// The program; it is passed to `python3 -c`.
pub const BRIDGE: &str = include_str!("bridge.py");

/// The runner of a class; it is one with a module in front.
pub(super) fn runner(definition: &Definition) -> Wrapper {
    let wrapper = Wrapper {
        name: definition.name.clone(),
        ..Wrapper::default()
    };
    wrapper
        .words(["python3", "-c", BRIDGE, "run"])
        .words([&*definition.class, &*keys(definition), &definition.place()])
        .pieces(vec![Piece::Value(Value::Id)])
        .pieces(vec![Piece::Value(Value::Command)])
}

/// The keys of a definition as an object of JSON.
pub fn keys(definition: &Definition) -> String {
    let entries = definition.entries.iter();
    let entries = entries.map(|entry| (entry.key.clone(), Json::from(&*entry.value)));
    Json::Object(entries.collect::<Map<_, _>>()).to_string()
}
