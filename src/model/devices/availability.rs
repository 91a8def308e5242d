//! Whether a device may be used now: it is free, it is ours already, or it is
//! lost.
//!
//! Guarantee: what cannot be measured never keeps a task waiting, and the last slot is never
//! taken out of service.

/// Below this a device is free.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BusyLimits {
    /// `--gpu-max-load`, 0 to 1.
    pub load: Option<f64>,
    /// `--gpu-max-memory`, 0 to 1.
    pub memory: Option<f64>,
}

impl BusyLimits {
    /// Whether there is anything to wait for.
    pub fn any(self) -> bool {
        self.load.is_some() || self.memory.is_some()
    }
}

/// What was measured of a device; what is not there could not be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// How busy it is, 0 to 1.
    pub load: Option<f64>,
    /// How much of its memory is in use, 0 to 1.
    pub memory: Option<f64>,
    /// Why it is lost, when it is.
    pub lost: Option<String>,
}

/// A device is free when this number of samples in a row say so: a single sample may fall
/// between two steps of another user's program.
pub const SAMPLES: u32 = 3;

/// What is known of a device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Watched {
    /// How many of our tasks are on it.
    own: u32,
    /// How many samples in a row have said that it is free.
    good: u32,
    /// What the last one said.
    last: Option<Sample>,
    lost: Option<String>,
}

/// Whether a task may start on a device.
#[derive(Clone, Debug, PartialEq)]
pub enum Admission {
    /// A task may start.
    Start,
    /// It may, but whether the device is free is unknown.
    StartBlindly,
    /// Not yet: too few samples.
    NotYet,
    /// Another process uses it; how.
    Busy(String),
    /// Never, since the device is lost; why.
    Lost(String),
}

/// Whether tasks with leases may start on a device now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuState {
    /// They may.
    Usable,
    /// Other processes use it.
    Busy,
    /// It is lost.
    Lost,
}

impl Watched {
    /// Takes a measurement.
    pub fn sample(&mut self, sample: Sample, limits: BusyLimits) {
        if let Some(why) = &sample.lost {
            self.lost.get_or_insert_with(|| why.clone());
        }
        // With a task of ours on it, what is measured is ours.
        if self.own == 0 && over(&sample, limits).is_none() {
            self.good = self.good.saturating_add(1);
        } else {
            self.good = 0;
        }
        self.last = Some(sample);
    }

    /// It does not answer: earlier samples do not count any more.
    pub fn silent(&mut self) {
        (self.last, self.good) = (None, SAMPLES);
    }

    /// Whether a task may start on it.
    pub fn may(&self, limits: BusyLimits) -> Admission {
        if let Some(why) = &self.lost {
            return Admission::Lost(why.clone());
        }
        if self.own > 0 || !limits.any() {
            return Admission::Start;
        }
        let last = self.last.as_ref();
        let is_known = last.is_some_and(|last| {
            (limits.load.is_some() && last.load.is_some())
                || (limits.memory.is_some() && last.memory.is_some())
        });
        match last.and_then(|last| over(last, limits)) {
            Some(why) => Admission::Busy(why),
            None if self.good < SAMPLES => Admission::NotYet,
            None if is_known => Admission::Start,
            None => Admission::StartBlindly,
        }
    }

    /// A task of ours is on it from now on.
    pub fn enter(&mut self) {
        self.own += 1;
    }

    /// It has ended. Earlier samples do not show what other processes do.
    pub fn leave(&mut self) {
        self.own = self.own.saturating_sub(1);
        self.good = 0;
    }

    /// Why it is lost.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }
}

/// Why it is not free; what is unknown is not a reason.
fn over(sample: &Sample, limits: BusyLimits) -> Option<String> {
    let above = |value: Option<f64>, limit: Option<f64>| {
        let (value, limit) = (value?, limit?);
        (value > limit).then_some((value * 100.0, limit * 100.0))
    };
    if let Some((value, limit)) = above(sample.load, limits.load) {
        return Some(format!("its load is {value:.0}%, above {limit:.0}%"));
    }
    above(sample.memory, limits.memory)
        .map(|(value, limit)| format!("{value:.0}% of its memory is in use, above {limit:.0}%"))
}

/// Which slots go out of service for the devices that are lost: those that have
/// one of them, unless no slot would be left. `devices` are those of each slot.
pub fn out_of_service(devices: &[Vec<usize>], is_lost: impl Fn(usize) -> bool) -> Vec<bool> {
    let out: Vec<bool> = devices
        .iter()
        .map(|slot| slot.iter().any(|&device| is_lost(device)))
        .collect();
    if out.iter().all(|&is_out| is_out) {
        return vec![false; out.len()];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BusyLimits = BusyLimits {
        load: Some(0.1),
        memory: Some(0.2),
    };

    fn of(load: Option<f64>, memory: Option<f64>) -> Sample {
        Sample {
            load,
            memory,
            lost: None,
        }
    }

    fn after(samples: &[Sample], limits: BusyLimits) -> Admission {
        let mut watched = Watched::default();
        for sample in samples {
            watched.sample(sample.clone(), limits);
        }
        watched.may(limits)
    }

    #[test]
    fn several_samples_say_that_it_is_free() {
        let free = of(Some(0.1), Some(0.0));
        let busy = of(Some(0.5), Some(0.0));
        let full = of(Some(0.0), Some(0.21));
        let is_busy = |may: &Admission| matches!(may, Admission::Busy(_));
        assert_eq!(after(&[], LIMITS), Admission::NotYet);
        assert_eq!(
            after(&[free.clone(), free.clone()], LIMITS),
            Admission::NotYet
        );
        assert_eq!(after(&vec![free.clone(); 3], LIMITS), Admission::Start);
        assert!(is_busy(&after(&[free.clone(), busy.clone()], LIMITS)));
        assert!(is_busy(&after(&[full], LIMITS)));
        let gap = [free.clone(), free.clone(), busy.clone(), free.clone()];
        assert_eq!(after(&gap, LIMITS), Admission::NotYet);
        assert_eq!(after(&[busy], BusyLimits::default()), Admission::Start);
    }

    #[test]
    fn what_is_unknown_keeps_nobody_waiting() {
        let nothing = vec![of(None, None); 3];
        assert_eq!(after(&nothing, LIMITS), Admission::StartBlindly);
        assert_eq!(
            after(&vec![of(None, Some(0.1)); 3], LIMITS),
            Admission::Start
        );
        let mut silent = Watched::default();
        silent.sample(of(Some(0.9), None), LIMITS);
        silent.silent();
        assert_eq!(silent.may(LIMITS), Admission::StartBlindly);
    }

    #[test]
    fn our_own_load_is_no_reason_and_is_forgotten() {
        let mut watched = Watched::default();
        for _ in 0..3 {
            watched.sample(of(Some(0.0), Some(0.0)), LIMITS);
        }
        watched.enter();
        watched.sample(of(Some(1.0), Some(0.9)), LIMITS);
        assert_eq!(watched.may(LIMITS), Admission::Start);
        watched.leave();
        assert!(matches!(watched.may(LIMITS), Admission::Busy(_)));
        for _ in 0..3 {
            assert_ne!(watched.may(LIMITS), Admission::Start);
            watched.sample(of(Some(0.0), Some(0.0)), LIMITS);
        }
        assert_eq!(watched.may(LIMITS), Admission::Start);
    }

    #[test]
    fn a_lost_device_stays_lost_and_the_last_slot_stays() {
        let mut watched = Watched::default();
        watched.sample(
            Sample {
                lost: Some("fell off".into()),
                ..Sample::default()
            },
            BusyLimits::default(),
        );
        watched.sample(of(Some(0.0), None), BusyLimits::default());
        assert_eq!(
            watched.may(BusyLimits::default()),
            Admission::Lost("fell off".into())
        );
        let slots = [vec![0], vec![1], vec![0, 1], vec![2]];
        let lost = |lost: &[usize]| out_of_service(&slots, |device| lost.contains(&device));
        assert_eq!(lost(&[]), [false; 4]);
        assert_eq!(lost(&[1]), [false, true, true, false]);
        assert_eq!(lost(&[0, 1]), [true, true, true, false]);
        assert_eq!(lost(&[0, 1, 2]), [false; 4]);
    }
}
