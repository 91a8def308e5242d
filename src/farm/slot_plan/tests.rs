//! Plans from options and environment variables.

use super::*;
use crate::host::gpus::Access;
use crate::model::allocation::Allocation;

/// A plan on a node without GPUs that could be found.
fn plan(options: &DeviceOptions, proc: Option<u32>, vars: &[(&str, &str)]) -> Result<Plan, NoPlan> {
    let lookup = |name: &str| {
        let var = vars.iter().find(|(known, _)| *known == name);
        var.map(|(_, value)| (*value).to_owned())
    };
    let allocation = Allocation::from(lookup);
    let root = tempfile::tempdir().unwrap();
    let share = NodeShare {
        lookup: &lookup,
        access: Access {
            nvml: Some("/nonexistent".into()),
            sysfs: root.path().into(),
            path: OsString::new(),
        },
        allocation: &allocation,
        usable: 2,
    };
    Plan::make(options, proc, &share)
}

fn per_task(gpus: u32) -> DeviceOptions {
    DeviceOptions {
        wants_gpus: gpus > 0,
        gpus_per_task: Some(gpus),
        ..DeviceOptions::default()
    }
}

const GIVEN: (&str, &str) = ("CUDA_VISIBLE_DEVICES", "0,1");

#[test]
fn one_variable_is_set_and_the_others_are_gone() {
    let plan = plan(&per_task(1), None, &[GIVEN]).unwrap();
    assert_eq!(plan.slots.len(), 2);
    let ours: Vec<(OsString, OsString)> = VARIABLES
        .iter()
        .chain(&["HOME", "NVIDIA_VISIBLE_DEVICES", "PYTF_GPUS"])
        .map(|name| (name.into(), "0,1".into()))
        .collect();
    let mut env = plan.environment(1, &ours);
    env.sort();
    let pairs: Vec<(&str, &str)> = env
        .iter()
        .map(|(name, value)| (name.to_str().unwrap(), value.to_str().unwrap()))
        .collect();
    assert_eq!(
        pairs,
        [
            ("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
            ("CUDA_VISIBLE_DEVICES", "1"),
            ("HOME", "0,1"),
            ("NVIDIA_VISIBLE_DEVICES", "0,1"),
            ("PYTF_GPUS", "1"),
        ]
    );
}

#[test]
fn without_options_nothing_changes_but_zero_hides() {
    let ours = vec![("CUDA_VISIBLE_DEVICES".into(), "0,1".into())];
    let job = ("SLURM_JOB_ID", "7");
    for (vars, remarks) in [(&[GIVEN][..], 0), (&[GIVEN, job], 1), (&[job], 0), (&[], 0)] {
        let plan = plan(&DeviceOptions::default(), Some(2), vars).unwrap();
        assert_eq!(plan.environment(0, &ours), ours);
        assert_eq!(plan.remarks.len(), remarks, "{:?}", plan.remarks);
        assert!(plan.table().is_empty());
    }
    let env = plan(&per_task(0), Some(1), &[GIVEN])
        .unwrap()
        .environment(0, &ours);
    for name in [
        "CUDA_VISIBLE_DEVICES",
        "ROCR_VISIBLE_DEVICES",
        "ZE_AFFINITY_MASK",
    ] {
        assert!(env.contains(&(name.into(), OsString::new())), "{env:?}");
    }
}

#[test]
fn processes_of_a_node_share_what_was_not_bound() {
    let step = |rank: &'static str| {
        vec![
            GIVEN,
            ("SLURM_STEP_ID", "0"),
            ("SLURM_LOCALID", rank),
            ("SLURM_STEP_TASKS_PER_NODE", "2"),
            ("SLURM_GPUS_ON_NODE", "2"),
            ("SLURM_NODEID", "0"),
        ]
    };
    let gpus = |plan: Plan| {
        plan.slots
            .into_iter()
            .flat_map(|slot| slot.gpus)
            .collect::<Vec<_>>()
    };
    assert_eq!(gpus(plan(&per_task(1), None, &step("0")).unwrap()), ["0"]);
    assert_eq!(gpus(plan(&per_task(1), None, &step("1")).unwrap()), ["1"]);
    // As Slurm 22.05 informs a process that it has bound.
    for said in [
        ("SLURMD_TRES_BIND", "gpu:per_task:1"),
        ("SLURMD_TRES_BIND", "gpu:single:1"),
        ("SLURM_GPUS_PER_TASK", "1"),
        ("SLURM_GPUS_ON_NODE", "2"),
    ] {
        let mut bound = step("1");
        bound[0] = ("CUDA_VISIBLE_DEVICES", "1");
        bound[4] = said;
        assert_eq!(gpus(plan(&per_task(1), None, &bound).unwrap()), ["1"]);
    }
    let mut unbound = step("1");
    unbound[4] = ("SLURMD_TRES_BIND", "gpu:none");
    assert_eq!(gpus(plan(&per_task(1), None, &unbound).unwrap()), ["1"]);
    let mut one = step("1");
    (one[0], one[4]) = (("CUDA_VISIBLE_DEVICES", "0"), ("SLURM_GPUS_ON_NODE", "1"));
    assert!(matches!(
        plan(&per_task(1), None, &one),
        Err(NoPlan::NoShare { rank: 1, of: 2 })
    ));
    let none = plan(&per_task(1), None, &[]).map(|_| ());
    assert!(none.unwrap_err().to_string().contains("no GPU"));
}
