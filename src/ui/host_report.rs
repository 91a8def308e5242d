//! `pytf hosts`: what hosts are and what of them is free, for people and for programs.

use std::io::{self, Write};

use super::style::OutputStyle;
use super::table;
use crate::model::escape::escape;
use crate::model::host_facts::{Asked, GpuFacts, HostFacts};

/// A clock that differs by less is not worth a word.
const SAME_CLOCK: f64 = 0.1;

/// For programs.
pub fn json(hosts: &[Asked]) -> String {
    serde_json::to_string_pretty(hosts).unwrap_or_default()
}

/// For people: a row for each host, then one for each GPU.
pub fn text(out: &mut dyn Write, style: &OutputStyle, hosts: &[Asked]) -> io::Result<()> {
    let heads = [
        "host",
        "cpus",
        "load",
        "free memory",
        "gpus",
        "clock",
        "round trip",
        "this folder",
        "pytf",
    ];
    let good = hosts
        .iter()
        .filter_map(|host| Some((host, host.facts.as_ref()?)));
    let rows: Vec<_> = good.clone().map(|(host, facts)| row(host, facts)).collect();
    if !rows.is_empty() {
        let rows = [vec![heads.map(str::to_owned).to_vec()], rows].concat();
        table::text(out, style, &rows)?;
    }
    let gpus: Vec<_> = good
        .flat_map(|(host, facts)| facts.gpus.iter().map(|gpu| gpu_row(&host.host, gpu)))
        .collect();
    if !gpus.is_empty() {
        let heads = ["host", "gpu", "name", "load", "memory used", "users"];
        writeln!(out)?;
        let rows = [vec![heads.map(str::to_owned).to_vec()], gpus].concat();
        table::text(out, style, &rows)?;
    }
    for host in hosts {
        let remarks = host.facts.iter().flat_map(|facts| &facts.remarks);
        for text in host.problem.iter().chain(remarks) {
            writeln!(out, "{}: {text}", host.host)?;
        }
    }
    Ok(())
}

fn row(host: &Asked, facts: &HostFacts) -> Vec<String> {
    let gib = |kib: u64| {
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let gib = kib as f64 / f64::from(1 << 20);
        format!("{gib:.1}")
    };
    let memory = match (facts.free_kib, facts.memory_kib) {
        (Some(free), Some(all)) => format!("{} of {} GiB", gib(free), gib(all)),
        (None, Some(all)) => format!("? of {} GiB", gib(all)),
        _ => "?".to_owned(),
    };
    let clock = host.clock.map_or("?".to_owned(), |clock| {
        let is_same = clock.ahead.abs() < SAME_CLOCK.max(clock.round_trip / 2.0);
        if is_same {
            "same".to_owned()
        } else {
            format!("{:+.1} s", clock.ahead)
        }
    });
    let shares = match host.shares_folder {
        Some(true) => "shared",
        Some(false) => "not shared",
        None => "?",
    };
    vec![
        host.host.clone(),
        facts.cpus.map_or("?".to_owned(), |cpus| cpus.to_string()),
        facts
            .load
            .map_or("?".to_owned(), |load| format!("{load:.2}")),
        memory,
        facts.gpus.len().to_string(),
        clock,
        host.clock.map_or("?".to_owned(), |clock| {
            format!("{:.1} ms", clock.round_trip * 1000.0)
        }),
        shares.to_owned(),
        escape(facts.program.as_bytes()),
    ]
}

fn gpu_row(host: &str, gpu: &GpuFacts) -> Vec<String> {
    let percent =
        |part: Option<f64>| part.map_or("?".to_owned(), |part| format!("{:.0} %", part * 100.0));
    let memory = match gpu.memory {
        Some(bytes) => format!("{} of {} GiB", percent(gpu.memory_used), bytes >> 30),
        None => percent(gpu.memory_used),
    };
    vec![
        host.to_owned(),
        gpu.index.to_string(),
        gpu.name
            .as_ref()
            .map_or_else(String::new, |name| escape(name.as_bytes())),
        percent(gpu.load),
        memory,
        escape(gpu.users.join(", ").as_bytes()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::host_facts::Clock;

    #[test]
    fn hosts_are_a_table_or_json() {
        let gpu = GpuFacts {
            name: Some("A100".into()),
            memory: Some(40 << 30),
            load: Some(0.5),
            users: vec!["bob".into()],
            ..GpuFacts::default()
        };
        let facts = HostFacts {
            node: "n1".into(),
            cpus: Some(8),
            load: Some(1.25),
            memory_kib: Some(8 << 20),
            free_kib: Some(6 << 20),
            gpus: vec![gpu],
            program: "/usr/bin/pytf".into(),
            ..HostFacts::default()
        };
        let clock = Clock {
            ahead: -3.0,
            round_trip: 0.002,
        };
        let good = Asked {
            host: "n1".into(),
            problem: None,
            facts: Some(facts),
            shares_folder: Some(false),
            clock: Some(clock),
        };
        let bad = Asked {
            host: "n2".into(),
            problem: Some("cannot be reached".into()),
            facts: None,
            shares_folder: None,
            clock: None,
        };
        let hosts = [good, bad];
        let mut out = Vec::new();
        text(&mut out, &OutputStyle::PLAIN, &hosts).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "host  cpus  load     free memory  gpus  clock   round trip  this folder  pytf\n\
             n1       8  1.25  6.0 of 8.0 GiB     1  -3.0 s      2.0 ms  not shared   /usr/bin/pytf\n\
             \n\
             host  gpu  name  load  memory used  users\n\
             n1      0  A100  50 %  ? of 40 GiB  bob\n\
             n2: cannot be reached\n"
        );
        let json: serde_json::Value = serde_json::from_str(&json(&hosts)).unwrap();
        assert_eq!(json[0]["gpus"][0]["users"][0], "bob");
        assert_eq!(json[0]["clock"]["ahead"], -3.0);
        assert_eq!(
            (&json[1]["host"], &json[1]["problem"]),
            (&"n2".into(), &"cannot be reached".into())
        );
    }
}
