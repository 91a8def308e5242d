//! A node: all farmers that were on it, one after the other or side by side.

use std::collections::BTreeMap;

use super::faults::Faults;
use super::gpus::Gpus;
use super::liveness::FarmerState;
use super::{Farmer, Run, Running};
use crate::history::farmer_rows::natural;
use crate::model::record::{NodeHealth, Reserved};

/// What is known of a node.
#[derive(Debug)]
pub struct Node<'a> {
    /// Its name.
    pub host: &'a str,
    /// Its farmers.
    pub farmers: Vec<&'a Farmer>,
    /// The state of the farmer that is most alive.
    pub state: FarmerState,
    /// Its health as its living farmers judge it; without any, as the last one did.
    pub health: NodeHealth,
    /// Whether its living farmers start no more tasks.
    pub is_draining: bool,
    /// The slots of the farmers that are alive; without any, of the last one and those that ran
    /// beside it.
    pub slots: u64,
    /// What runs live, the longest first.
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

    /// The task for which what it needs is collected there, if there is one.
    pub fn reserved(&self) -> Option<Reserved> {
        let live = self.farmers.iter().filter(|_| self.state.is_live());
        live.rev()
            .find_map(|farmer| farmer.deals.as_ref()?.reserved)
    }

    /// How it is, in one word: of one that is alive, whether it claims tasks.
    pub fn word(&self) -> &'static str {
        match (self.state, self.health) {
            (FarmerState::Alive, NodeHealth::Suspect) => "unsure",
            (FarmerState::Alive, NodeHealth::Unhealthy) => "sick",
            (FarmerState::Alive, _) if self.is_draining => "draining",
            _ => self.state.word(),
        }
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
    let newest = farmers
        .last()
        .map_or(FarmerState::Left, |last| run.state_of(last));
    let best = farmers.iter().map(|farmer| run.state_of(farmer)).min();
    // Only a farmer that is alive counts more than the last one.
    let state = best.filter(|best| best.is_live()).unwrap_or(newest);
    let live = farmers.iter().copied();
    let live: Vec<&Farmer> = live
        .filter(|farmer| run.state_of(farmer).is_live())
        .collect();
    let health = match &live[..] {
        [] => farmers.last().map(|farmer| farmer.health),
        live => live.iter().map(|farmer| farmer.health).max(),
    };
    let is_draining = !live.is_empty() && live.iter().all(|farmer| farmer.is_draining);
    let running = run.running_on(live.iter().copied());
    let sum = |of: fn(&Farmer) -> u64| farmers.iter().map(|farmer| of(farmer)).sum::<u64>();
    let failures = farmers.iter().flat_map(|farmer| &farmer.failures);
    let with_slots = if live.is_empty() {
        last_ones(&farmers)
    } else {
        live
    };
    Node {
        host,
        state,
        health: health.unwrap_or_default(),
        is_draining,
        slots: with_slots
            .iter()
            .map(|farmer| u64::from(farmer.header().slots))
            .sum(),
        running,
        ended: (
            sum(|f| f.finished),
            sum(Farmer::failed),
            sum(|f| f.interrupted),
        ),
        busy: run.busy(farmers.iter().copied()),
        forgiven: failures
            .filter(|failure| failure.outcome.is_failure() && faults.is_nodes(failure.id, host))
            .count() as u64,
        farmers,
    }
}

/// The last farmer of a node, and those that still ran when it began.
fn last_ones<'a>(farmers: &[&'a Farmer]) -> Vec<&'a Farmer> {
    let Some(last) = farmers.last() else {
        return Vec::new();
    };
    let is_with = |farmer: &&&Farmer| {
        std::ptr::eq(**farmer, *last) || farmer.last > last.first && last.first != u64::MAX
    };
    farmers.iter().filter(is_with).copied().collect()
}
