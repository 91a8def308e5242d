//! Where slots wait until their GPUs may be used.
//!
//! A separate thread measures the GPUs; slots ask before each task. Guarantee: a slot that asks
//! never waits for the thread that measures, which may hang.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::inventory::key;
use super::lease_plan::GpuTasks;
use super::message::LedgerRequest;
use super::options::DeviceOptions;
use super::shared::Shared;
use super::slot_plan::Plan;
use crate::model::devices::availability::{
    Admission, BusyLimits, GpuState, Sample, Watched, out_of_service,
};
use crate::model::record::{GpuLoad, Record};

/// How often GPUs are measured while a slot waits for one of them.
const OFTEN: Duration = Duration::from_millis(500);
/// How often GPUs are measured otherwise.
const SELDOM: Duration = Duration::from_secs(5);
/// After this time without a measurement, slots do not wait for one.
const SILENCE: Duration = Duration::from_secs(5);
/// How often measurements are recorded, if they have changed.
const WRITE_EVERY: Duration = Duration::from_secs(10);
/// The least change that is recorded, in percent.
const CHANGE: u8 = 2;

/// The gates of all slots.
pub(super) struct Gates {
    limits: BusyLimits,
    names: Vec<String>,
    slots: Vec<Vec<usize>>,
    inner: Mutex<Inner>,
    wake: Sender<()>,
    shared: Arc<Shared>,
}

struct Inner {
    devices: Vec<Watched>,
    /// When the last answer came.
    answered: Instant,
    /// The slots that wait.
    waiting: BTreeSet<usize>,
    /// The waiting slots that have reported it.
    reported: BTreeSet<usize>,
    out: Vec<bool>,
    reported_lost: Vec<bool>,
    reported_blind: bool,
    reported_silent: bool,
    /// Whether a task waits for a device that others use, where tasks get leases.
    is_wanted: bool,
    /// The devices of which it was reported that tasks wait for them.
    reported_busy: BTreeSet<usize>,
}

impl Inner {
    /// How long until the next measurement.
    fn pause(&self) -> Duration {
        let mut waiting = self.waiting.iter();
        if self.is_wanted || waiting.any(|&slot| !self.out[slot]) {
            OFTEN
        } else {
            SELDOM
        }
    }
}

/// Writes measurements into the journal.
struct LoadRecorder {
    shared: Arc<Shared>,
    wrote: Option<(Instant, Vec<GpuLoad>)>,
}

impl Gates {
    /// The gates of a plan whose GPUs can be measured.
    pub(super) fn open(
        plan: &Plan,
        options: &DeviceOptions,
        shared: &Arc<Shared>,
    ) -> Option<Arc<Self>> {
        let limits = BusyLimits {
            load: options.gpu_max_load,
            memory: options.gpu_max_memory,
        };
        let pool = plan.pool.as_ref()?;
        let probe = plan.probe.as_ref().filter(|probe| !probe.gpus.is_empty());
        let Some(probe) = probe else {
            if limits.any() {
                shared
                    .say("no GPU can be measured here: tasks do not wait for free GPUs".to_owned());
            }
            return None;
        };
        let count = pool.devices.len();
        let (wake, is_woken) = bounded(1);
        let gates = Arc::new(Self {
            limits,
            names: pool
                .devices
                .iter()
                .map(|device| device.token.clone())
                .collect(),
            slots: plan.slots.iter().map(|slot| slot.devices.clone()).collect(),
            inner: Mutex::new(Inner {
                devices: vec![Watched::default(); count],
                answered: Instant::now(),
                waiting: BTreeSet::new(),
                reported: BTreeSet::new(),
                out: vec![false; plan.slots.len()],
                reported_lost: vec![false; count],
                reported_blind: false,
                reported_silent: false,
                is_wanted: false,
                reported_busy: BTreeSet::new(),
            }),
            wake,
            shared: shared.clone(),
        });
        let keys = pool.devices.iter().map(|device| {
            let gpu = &probe.gpus[device.gpu?];
            let is_part = device.token.starts_with("MIG-");
            if is_part {
                Some(device.token.clone())
            } else {
                key(gpu)
            }
        });
        let weak = Arc::downgrade(&gates);
        let mut recorder = LoadRecorder {
            shared: shared.clone(),
            wrote: None,
        };
        probe.watch(keys.collect(), move |samples| {
            let Some(gates) = weak.upgrade() else {
                return false;
            };
            let pause = gates.take(samples, &mut recorder);
            drop(gates);
            pause_for(&is_woken, pause)
        });
        Some(gates)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes measurements; returns how long until the next.
    fn take(&self, samples: Vec<Sample>, recorder: &mut LoadRecorder) -> Duration {
        recorder.write(&self.names, &samples);
        let mut inner = self.lock();
        inner.answered = Instant::now();
        inner.reported_silent = false;
        for (device, sample) in inner.devices.iter_mut().zip(samples) {
            device.sample(sample, self.limits);
        }
        self.retire(&mut inner);
        inner.pause()
    }

    /// Takes the slots of lost devices out of service.
    fn retire(&self, inner: &mut Inner) {
        let lost: Vec<Option<String>> = inner
            .devices
            .iter()
            .map(|device| device.lost().map(str::to_owned))
            .collect();
        let out = out_of_service(&self.slots, |device| lost[device].is_some());
        for (device, why) in lost.iter().enumerate() {
            let Some(why) = why else { continue };
            if std::mem::replace(&mut inner.reported_lost[device], true) {
                continue;
            }
            let slots = (0..)
                .zip(&self.slots)
                .filter(|(_, has)| has.contains(&device));
            let slots: Vec<String> = slots
                .map(|(slot, _): (usize, _)| slot.to_string())
                .collect();
            let (name, slots) = (&self.names[device], slots.join(", "));
            let what = if out.contains(&true) {
                format!("out of service: slot {slots}")
            } else {
                format!("slot {slots} stays in service, since it is the last one")
            };
            self.shared
                .say(format!("GPU {name} is lost: {why}; {what}"));
        }
        inner.out = out;
    }

    /// Whether the slot may start a task now. If it may not, its devices are
    /// measured more often from now on.
    pub(super) fn are_open(&self, slot: usize) -> bool {
        let mut inner = self.lock();
        let may = self.may(&mut inner, slot);
        if may {
            inner.waiting.remove(&slot);
            inner.reported.remove(&slot);
        } else if inner.waiting.insert(slot) && !inner.out[slot] {
            // When the channel is full, the thread is about to wake anyway.
            let _ = self.wake.try_send(());
        }
        may
    }

    /// Whether the slot may start a task now. If so, it uses its devices until it leaves.
    pub(super) fn enter(&self, slot: usize) -> bool {
        let mut inner = self.lock();
        let may = self.may(&mut inner, slot);
        if may {
            for &device in &self.slots[slot] {
                inner.devices[device].enter();
            }
        }
        may
    }

    /// The slot's task is over.
    pub(super) fn leave(&self, slot: usize) {
        let mut inner = self.lock();
        for &device in &self.slots[slot] {
            inner.devices[device].leave();
        }
    }

    fn state(&self, inner: &mut Inner, device: usize) -> GpuState {
        let name = &self.names[device];
        match inner.devices[device].may(self.limits) {
            Admission::Start => {}
            Admission::StartBlindly => self.report_blind(inner, device),
            Admission::Lost(_) => return GpuState::Lost,
            Admission::NotYet => return GpuState::Busy,
            Admission::Busy(why) => {
                if inner.reported_busy.insert(device) {
                    let text = format!("tasks wait for GPU {name}: {why}");
                    self.shared.say(text);
                }
                return GpuState::Busy;
            }
        }
        inner.reported_busy.remove(&device);
        GpuState::Usable
    }

    fn report_blind(&self, inner: &mut Inner, device: usize) {
        if !std::mem::replace(&mut inner.reported_blind, true) && !inner.reported_silent {
            let name = &self.names[device];
            self.shared.say(format!(
                "the load of GPU {name} cannot be measured: tasks do not wait for it"
            ));
        }
    }

    /// Where the devices have not answered for long, their state counts as unknown.
    fn check_silence(&self, inner: &mut Inner) {
        let age = inner.answered.elapsed();
        if age > SELDOM + SILENCE {
            inner.devices.iter_mut().for_each(Watched::silent);
            if !std::mem::replace(&mut inner.reported_silent, true) {
                let secs = age.as_secs();
                self.shared.say(format!(
                    "the GPUs have not answered for {secs}s; tasks start without a measurement"
                ));
            }
        }
    }

    fn may(&self, inner: &mut Inner, slot: usize) -> bool {
        if inner.out[slot] {
            return false;
        }
        self.check_silence(inner);
        let mut may = true;
        for &device in &self.slots[slot] {
            match inner.devices[device].may(self.limits) {
                // A slot with a lost device is in service only when it is the last one.
                Admission::Start | Admission::Lost(_) => {}
                Admission::StartBlindly => self.report_blind(inner, device),
                Admission::NotYet => may = false,
                Admission::Busy(why) => {
                    may = false;
                    if inner.reported.insert(slot) {
                        let name = &self.names[device];
                        self.shared
                            .say(format!("slot {slot} waits for GPU {name}: {why}"));
                    }
                }
            }
        }
        may
    }
}

impl GpuTasks for Gates {
    fn states(&self) -> Vec<GpuState> {
        let mut inner = self.lock();
        self.check_silence(&mut inner);
        let devices = 0..inner.devices.len();
        let states: Vec<GpuState> = devices
            .map(|device| self.state(&mut inner, device))
            .collect();
        let is_wanted = states.contains(&GpuState::Busy);
        if is_wanted && !std::mem::replace(&mut inner.is_wanted, is_wanted) {
            // When the channel is full, the thread is about to wake anyway.
            let _ = self.wake.try_send(());
        }
        inner.is_wanted = is_wanted;
        states
    }

    fn enter_devices(&self, devices: &[usize]) {
        let mut inner = self.lock();
        for &device in devices {
            inner.devices[device].enter();
        }
    }

    fn leave_devices(&self, devices: &[usize]) {
        let mut inner = self.lock();
        for &device in devices {
            inner.devices[device].leave();
        }
    }
}

/// Waits; returns whether to measure again.
fn pause_for(is_woken: &Receiver<()>, pause: Duration) -> bool {
    !matches!(
        is_woken.recv_timeout(pause),
        Err(RecvTimeoutError::Disconnected)
    )
}

impl LoadRecorder {
    /// Records measurements that have changed, from time to time.
    fn write(&mut self, names: &[String], samples: &[Sample]) {
        let now = Instant::now();
        let loads: Vec<GpuLoad> = names
            .iter()
            .zip(samples)
            .map(|(gpu, sample)| GpuLoad {
                gpu: gpu.clone(),
                load: sample.load.map(percent),
                memory: sample.memory.map(percent),
            })
            .filter(|load| load.load.is_some() || load.memory.is_some())
            .collect();
        let is_due = match &self.wrote {
            None => !loads.is_empty(),
            Some((at, old)) => now - *at >= WRITE_EVERY && differ(old, &loads),
        };
        if is_due {
            let at = self.shared.clock.micros(now);
            let record = Record::Gpus {
                at,
                gpus: loads.clone(),
            };
            self.shared.request(LedgerRequest::Write(Box::new(record)));
            self.wrote = Some((now, loads));
        }
    }
}

fn differ(old: &[GpuLoad], new: &[GpuLoad]) -> bool {
    let far = |old: Option<u8>, new: Option<u8>| match (old, new) {
        (Some(old), Some(new)) => old.abs_diff(new) >= CHANGE,
        (old, new) => old != new,
    };
    old.len() != new.len()
        || old
            .iter()
            .zip(new)
            .any(|(old, new)| far(old.load, new.load) || far(old.memory, new.memory))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is between 0 and 100"
)]
fn percent(part: f64) -> u8 {
    (part * 100.0).round().clamp(0.0, 100.0) as u8
}
