//! What a slot does with the lease of an attempt: the CPUs that the task is bound to, and the
//! environment by which it finds what it has.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::{Arc, PoisonError, RwLock};

use super::options::{Bind, DeviceOptions};
use super::slot_plan::{Pinning, Plan};
use crate::model::allocator::ResourceLease;
use crate::model::devices::Vendor;
use crate::model::devices::availability::GpuState;
use crate::model::devices::cores::{Cpu, show_list};
use crate::model::record::Leased;

/// What knows the load of the GPUs.
pub(super) trait GpuTasks: Send + Sync {
    /// The state of each device. If one is busy, they are measured more often from now on.
    fn states(&self) -> Vec<GpuState>;
    /// A task uses these devices from now on.
    fn enter_devices(&self, devices: &[usize]);
    /// It does so no longer.
    fn leave_devices(&self, devices: &[usize]);
}

/// How leases of this node become CPUs and variables. It changes when the first task needs GPUs,
/// since nobody looks for them before.
#[derive(Clone)]
pub(super) struct LeasePlan {
    /// The environment of all tasks.
    env: Vec<(OsString, OsString)>,
    /// Whether and how tasks are bound.
    bind: Bind,
    layout: Vec<Cpu>,
    /// The GPUs as tasks see them.
    tokens: Vec<String>,
    near: Vec<BTreeSet<usize>>,
    vendor: Option<Vendor>,
    /// How the variables are changed while no GPU is known.
    pinning: Pinning,
    /// Where tasks on GPUs are counted.
    pub(super) gates: Option<Arc<dyn GpuTasks>>,
}

/// What all slots of a farmer share of it; none while all tasks have the needs that the options
/// say.
#[derive(Default)]
pub(super) struct Leases(RwLock<Option<Arc<LeasePlan>>>);

impl Leases {
    /// The plan of this moment.
    pub(super) fn plan(&self) -> Option<Arc<LeasePlan>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// From now on this holds.
    pub(super) fn set(&self, plan: LeasePlan) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(plan));
    }
}

impl LeasePlan {
    /// Of a node that was planned in this way.
    pub(super) fn new(
        plan: &Plan,
        options: &DeviceOptions,
        env: &[(OsString, OsString)],
        gates: Option<Arc<dyn GpuTasks>>,
    ) -> Self {
        let is_bound = plan.slots.iter().any(|slot| slot.cpus.is_some());
        let by_default = if is_bound { Bind::Core } else { Bind::None };
        let mut new = Self {
            env: env.to_vec(),
            bind: options.bind.unwrap_or(by_default),
            layout: Vec::new(),
            tokens: Vec::new(),
            near: Vec::new(),
            vendor: None,
            pinning: plan.pinning.clone(),
            gates: None,
        };
        new.add_gpus(plan, gates);
        new
    }

    /// Where the CPUs are.
    pub(super) fn set_layout(&mut self, layout: Vec<Cpu>) {
        self.layout = layout;
    }

    /// The GPUs of this plan are dealt from now on.
    pub(super) fn add_gpus(&mut self, plan: &Plan, gates: Option<Arc<dyn GpuTasks>>) {
        self.gates = gates;
        let Some(pool) = &plan.pool else { return };
        self.tokens = pool
            .devices
            .iter()
            .map(|device| device.token.clone())
            .collect();
        self.near = plan.places().into_iter().map(|place| place.near).collect();
        self.vendor = Some(pool.vendor);
    }

    /// Tasks are bound to CPUs of their own from now on, unless an option says how.
    pub(super) fn bind_by_default(&mut self, options: &DeviceOptions) {
        self.bind = options.bind.unwrap_or(Bind::Core);
    }

    /// The CPUs that the task of this lease is bound to; empty: it is not bound.
    pub(super) fn cpus(&self, lease: &ResourceLease) -> Vec<usize> {
        match self.bind {
            Bind::None => Vec::new(),
            Bind::Core => lease.cpus.clone(),
            Bind::Numa => {
                let of = |cpu: &&Cpu| lease.cpus.contains(&cpu.id);
                let nodes: BTreeSet<u32> =
                    self.layout.iter().filter(of).map(|cpu| cpu.numa).collect();
                let all = self.layout.iter().filter(|cpu| nodes.contains(&cpu.numa));
                all.map(|cpu| cpu.id).collect()
            }
            Bind::Gpu => {
                let near = lease.gpus.iter().flat_map(|&gpu| &self.near[gpu]);
                let near: BTreeSet<usize> = near.copied().collect();
                let all = self.layout.iter().map(|cpu| cpu.id);
                all.filter(|id| near.contains(id)).collect()
            }
        }
    }

    /// All CPUs of this process.
    pub(super) fn all_cpus(&self) -> Vec<usize> {
        self.layout.iter().map(|cpu| cpu.id).collect()
    }

    /// The GPUs of a lease as its task sees them.
    fn gpus(&self, lease: &ResourceLease) -> Vec<String> {
        lease
            .gpus
            .iter()
            .map(|&gpu| self.tokens[gpu].clone())
            .collect()
    }

    /// The environment of the task of a lease.
    pub(super) fn environment(&self, lease: &ResourceLease) -> Vec<(OsString, OsString)> {
        let pinning = match self.vendor {
            None => self.pinning.clone(),
            Some(_) if lease.gpus.is_empty() => Pinning::Hidden(Vendor::ALL.to_vec()),
            Some(vendor) => Pinning::Own(vendor),
        };
        let threads = usize::try_from(lease.needs.cpus).ok();
        let mut env = pinning.environment(&self.gpus(lease), threads, &self.env);
        env.retain(|(name, _)| name != "PYTF_CPUS" && name != "PYTF_MEM");
        env.push(("PYTF_CPUS".into(), lease.needs.cpus.to_string().into()));
        if lease.needs.mem_kib > 0 {
            env.push((
                "PYTF_MEM".into(),
                format!("{}K", lease.needs.mem_kib).into(),
            ));
        }
        env
    }

    /// The lease, for the journal.
    pub(super) fn record(&self, lease: &ResourceLease) -> Leased {
        let cpus = self.cpus(lease);
        Leased {
            cpus: lease.needs.cpus,
            bound: (!cpus.is_empty()).then(|| show_list(&cpus)),
            gpus: self.gpus(lease),
            mem: lease.needs.mem_kib,
            time: lease.needs.time.map_or(0, |time| time.as_secs()),
        }
    }
}
