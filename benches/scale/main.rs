//! Large farms in simulated time.
//!
//! `scale --fs nfs --nodes 1000 --slots 64 --task 60 --run 3600` lets so many
//! farmers run tasks of that many seconds for that long, on a modelled file
//! system, and prints one line of JSON. What runs is the real protocol: each
//! farmer has a `Session`, each transaction is written into files in memory, and
//! `model::pace`, `model::turn` and `model::watch` decide when and how much, as in
//! the ledger.
//! Modelled are the time and the tasks. See docs/scale.md.
//!
//! `--mix yes`: tasks of 1, 8 and all CPUs of a node, a third of the work each, in one list in
//! random order; the real allocator deals. `--limit 120`: each says `time=120s`.

#![expect(clippy::print_stdout, reason = "its one result")]

mod common;
mod farmer;
mod files;
mod slots;
mod waiting;
mod world;

use anyhow::{Context, Result, bail};

use common::Plan;
use files::PROFILES;
use world::World;

fn main() -> Result<()> {
    let mut plan = Plan {
        profile: PROFILES[0],
        nodes: 10,
        slots: 64,
        task: 60.0,
        spread: 0.5,
        run: 600.0,
        launch: 2.0,
        seed: 1,
        knows: true,
        mix: false,
        limit: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args
            .next()
            .with_context(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--fs" => {
                let found = PROFILES.iter().find(|profile| profile.name == value);
                plan.profile = *found.with_context(|| format!("no file system '{value}'"))?;
            }
            "--nodes" => plan.nodes = value.parse()?,
            "--slots" => plan.slots = value.parse()?,
            "--task" => plan.task = value.parse()?,
            "--spread" => plan.spread = value.parse()?,
            "--run" => plan.run = value.parse()?,
            "--launch" => plan.launch = value.parse()?,
            "--seed" => plan.seed = value.parse()?,
            "--mix" => plan.mix = value == "yes",
            "--limit" => plan.limit = Some(value.parse()?),
            "--launcher" => plan.knows = value == "tells",
            _ => bail!("no option {name}"),
        }
    }
    println!("{}", World::new(plan)?.run()?);
    Ok(())
}
