//! A node: all farmers that were on it, one after the other or side by side.

use std::collections::BTreeMap;

use super::faults::Faults;
use super::gpus::Gpus;
use super::liveness::FarmerState;
use super::{Farmer, Run, Running};
use crate::history::farmer_rows::natural;
use crate::model::record::NodeHealth;

/// What is known of a node.
#[derive(Debug)]
pub struct Node<'a> {
    /// Its name.
    pub host: &'a str,
    /// Its farmers.
    pub farmers: Vec<&'a Farmer>,
    /// How the one is that is most alive.
    pub state: FarmerState,
    /// Its health as its living farmers judge it; else the last one.
    pub health: NodeHealth,
    /// Whether its living farmers start no more tasks.
    pub is_draining: bool,
    /// The farmers that live, else the last one and those that were there with it.
    pub there: Vec<&'a Farmer>,
    /// Their slots.
    pub slots: u64,
    /// What runs there, the longest first.
    pub running: Vec<Running<'a>>,
    /// Attempts that finished, failed, were taken away.
    pub ended: (u64, u64, u64),
    /// The part of the slots' time that tasks ran in them.
    pub busy: Option<f64>,
    /// Failures of tasks that finished on another node in a later attempt: its own
    /// fault.
    pub forgiven: u64,
}

impl Node<'_> {
    /// Its GPUs, what runs on them now included.
    pub fn gpus(&self, run: &Run) -> Gpus {
        let mut all = Gpus::default();
        for farmer in self.farmers.iter().filter(|farmer| !farmer.gpus.is_empty()) {
            let (now, running) = (run.now_of(farmer), farmer.slots.running.values());
            all.merge(&farmer.gpus.at(now, farmer.header(), running));
        }
        all
    }

    /// How it is, in one word: of one that lives, whether it claims tasks.
    pub fn word(&self) -> &'static str {
        word(self.state, self.health)
    }
}

/// How a node is, in one word.
pub fn word(state: FarmerState, health: NodeHealth) -> &'static str {
    match health {
        NodeHealth::Suspect if state.is_live() => "unsure",
        NodeHealth::Unhealthy if state.is_live() => "sick",
        _ => state.word(),
    }
}

/// Which of the states of its farmers is the node's: the one with the highest rank.
fn rank(state: FarmerState) -> u8 {
    match state {
        FarmerState::Alive => 4,
        FarmerState::Silent(_) => 3,
        FarmerState::Dead => 2,
        FarmerState::Lost => 1,
        FarmerState::Left => 0,
    }
}

/// The nodes of a run, in the order of their names.
pub fn nodes(run: &Run) -> Vec<Node<'_>> {
    let mut hosts: BTreeMap<&str, Vec<&Farmer>> = BTreeMap::new();
    for farmer in &run.farmers {
        hosts.entry(&farmer.header().host).or_default().push(farmer);
    }
    let faults = run.faults();
    let mut nodes: Vec<Node> = hosts
        .into_iter()
        .map(|(host, farmers)| node(run, host, farmers, &faults))
        .collect();
    nodes.sort_by(|a, b| natural(a.host, b.host));
    nodes
}

fn node<'a>(run: &Run, host: &'a str, farmers: Vec<&'a Farmer>, faults: &Faults<'_>) -> Node<'a> {
    let lives = farmers.iter().map(|farmer| run.state_of(farmer));
    let newest = farmers.last().map(|farmer| run.state_of(farmer));
    let best = lives.max_by_key(|state| rank(*state));
    // Only a farmer that is there counts more than the one that came last.
    let state = best
        .filter(|state| state.is_live())
        .or(newest)
        .unwrap_or(FarmerState::Left);
    let there: Vec<&Farmer> = farmers
        .iter()
        .copied()
        .filter(|farmer| run.state_of(farmer).is_live())
        .collect();
    let health = match &there[..] {
        [] => farmers.last().map(|farmer| farmer.health),
        there => there.iter().map(|farmer| farmer.health).max(),
    };
    let is_draining = !there.is_empty() && there.iter().all(|farmer| farmer.is_draining);
    let running = run.running_on(there.iter().copied());
    let sum = |of: fn(&Farmer) -> u64| farmers.iter().map(|farmer| of(farmer)).sum::<u64>();
    let failures = farmers.iter().flat_map(|farmer| &farmer.failures);
    let there = if there.is_empty() {
        last_ones(&farmers)
    } else {
        there
    };
    Node {
        host,
        state,
        health: health.unwrap_or_default(),
        is_draining,
        slots: there
            .iter()
            .map(|farmer| u64::from(farmer.header().slots))
            .sum(),
        there,
        running,
        ended: (
            sum(|f| f.finished),
            sum(Farmer::failed),
            sum(|f| f.interrupted),
        ),
        busy: run.busy(farmers.iter().copied()),
        forgiven: failures
            .filter(|failure| faults.is_nodes(failure.id, host))
            .count() as u64,
        farmers,
    }
}

/// The last farmer of a node, and those that were there when it began.
fn last_ones<'a>(farmers: &[&'a Farmer]) -> Vec<&'a Farmer> {
    let Some(last) = farmers.last() else {
        return Vec::new();
    };
    let is_with = |farmer: &&&Farmer| {
        std::ptr::eq(**farmer, *last) || farmer.last > last.first && last.first != u64::MAX
    };
    farmers.iter().filter(is_with).copied().collect()
}
