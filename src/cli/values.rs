//! How the values of options are read, and what is wrong with those that cannot be.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::attributes::values::whole;
use crate::model::attributes::{self, RetryCause};
use crate::model::devices::{Gpus, kind};
use crate::model::durations;

/// More slots than any node has threads for; a larger number is a slip.
const MOST_SLOTS: u32 = 65_536;

pub(super) fn slots(text: &str) -> Result<u32, String> {
    match text.trim().parse() {
        Ok(n @ 1..=MOST_SLOTS) => Ok(n),
        _ => Err(format!(
            "the number of tasks at a time is a whole number from 1 to {MOST_SLOTS}"
        )),
    }
}

/// In which order waiting tasks start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// That of the list.
    List,
    /// The longest first, by the records of this workdir; none: of the run's own.
    LongestFirst(Option<PathBuf>),
}

pub(super) fn order(text: &str) -> Result<Order, String> {
    match text.split_once('=') {
        None if text == "list" => Ok(Order::List),
        None if text == "longest-first" => Ok(Order::LongestFirst(None)),
        Some(("longest-first", workdir)) if !workdir.is_empty() => {
            Ok(Order::LongestFirst(Some(workdir.into())))
        }
        _ => Err("an order is list, longest-first or longest-first=WORKDIR".to_owned()),
    }
}

/// Outcomes after which a task is tried again: one value of the command line.
#[derive(Clone, Debug)]
pub struct Causes(pub Vec<RetryCause>);

pub(super) fn causes(text: &str) -> Result<Causes, String> {
    attributes::values::causes(text).map(Causes)
}

/// A duration, or `always`.
pub(super) fn follow(text: &str) -> Result<Duration, String> {
    match text.trim() {
        "always" => Ok(Duration::MAX),
        text => durations::parse(text).map_err(|error| format!("{error}, or always")),
    }
}

/// A number of starts per second, or per another unit: the time between two.
pub(super) fn start_rate(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let (number, unit) = match text.split_once('/') {
        None => (text, 1.0),
        Some((number, "s")) => (number, 1.0),
        Some((number, "m")) => (number, 60.0),
        Some((number, "h")) => (number, 3600.0),
        Some(_) => ("", 1.0),
    };
    let rate = number.trim().parse::<f64>().ok();
    rate.filter(|rate| *rate > 0.0)
        .and_then(|rate| Duration::try_from_secs_f64(unit / rate).ok())
        .ok_or_else(|| "a number of starts, such as 10/s, 30/m or 0.5 (per second)".to_owned())
}

pub(super) fn gpus(text: &str) -> Result<Gpus, String> {
    match text.trim() {
        "all" => return Ok(Gpus::All),
        "none" => return Ok(Gpus::Untouched),
        _ => {}
    }
    let mut list: Vec<String> = Vec::new();
    for token in text.split(',').map(str::trim) {
        if kind(token).is_none() {
            return Err(format!(
                "'{token}' is not a GPU: use an index, GPU-… or MIG-… (see 'pytf devices'), all, or none"
            ));
        }
        if list.iter().any(|known| known == token) {
            return Err(format!(
                "{token} is named twice: use --tasks-per-gpu to share it"
            ));
        }
        list.push(token.to_owned());
    }
    Ok(Gpus::List(list))
}

pub(super) fn tasks_per_gpu(text: &str) -> Result<u32, String> {
    whole(text, 1, "the number of tasks on a GPU", |part| {
        let gpus = (1.0 / part).ceil();
        format!("for several GPUs in one task, use --gpus-per-task {gpus:.0}")
    })
}

pub(super) fn fraction(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let (number, divisor) = match text.strip_suffix('%') {
        Some(percent) => (percent.trim(), 100.0),
        None => (text, 1.0),
    };
    match number.parse::<f64>().map(|number| number / divisor) {
        Ok(part) if (0.0..=1.0).contains(&part) => Ok(part),
        _ => Err("a part of the whole: from 0 to 1, or from 0% to 100%".to_owned()),
    }
}

/// `KEY=VALUE`.
pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let pair = pair.map(|(key, value)| (key.to_owned(), value.to_owned()));
    pair.ok_or_else(|| "it is written KEY=VALUE, as in image=model.sif".to_owned())
}
