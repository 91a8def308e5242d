//! The GPUs of this node: which there are, and how busy they are.
//!
//! A vendor's library may hang on a sick GPU. So all of it is asked in a thread
//! of its own, which alone talks to it and which nobody waits for longer than a
//! limit. Others rely on this: no library, no driver and no GPU are the same as
//! no GPU, without a word.

mod nvml;
mod smi;
mod sysfs;

pub(crate) use self::sysfs::vendors;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::model::devices::pool::Gpu;
use crate::model::devices::watch::Sample;

/// How long the first look may take: a driver that was not in use needs a
/// second or two for each GPU.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a device is asked by: its UUID, or its PCI address.
pub type Key = Option<String>;

/// Takes the samples of all devices; whether there shall be more.
pub type Tick<'a> = &'a mut dyn FnMut(Vec<Sample>) -> bool;

/// Something that knows GPUs.
trait Source {
    /// The GPUs.
    fn gpus(&self) -> Vec<Gpu>;
    /// Measures the devices, again and again until `tick` has enough.
    fn watch(&self, keys: &[Key], tick: Tick);
}

/// What this machine's GPUs are asked through.
#[derive(Clone, Debug)]
pub struct Ways {
    /// NVML: where it is; by its name, otherwise.
    pub nvml: Option<OsString>,
    /// sysfs: where it is.
    pub sysfs: PathBuf,
    /// Where programs are.
    pub path: OsString,
}

impl Ways {
    /// The ordinary ones, or those that a test has put up.
    pub fn from(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        Self {
            nvml: lookup("PYTF_TEST_NVML"),
            sysfs: lookup("PYTF_TEST_SYSFS").map_or_else(|| "/sys".into(), PathBuf::from),
            path: lookup("PATH").unwrap_or_default(),
        }
    }

    fn open(&self) -> (Box<dyn Source>, &'static str) {
        match nvml::Source::open(self) {
            nvml::Opened::Yes(source) if !source.gpus().is_empty() => {
                return (source, "NVML");
            }
            nvml::Opened::NoLibrary => {
                if let Some(source) = smi::Source::open(self) {
                    return (Box::new(source), "nvidia-smi");
                }
            }
            _ => {}
        }
        (Box::new(sysfs::Source::open(&self.sysfs)), "sysfs")
    }
}

/// The thread that asks.
pub struct Probe {
    /// What it found.
    pub gpus: Vec<Gpu>,
    /// Through what.
    pub by: &'static str,
    watch: Sender<Watch>,
}

struct Watch {
    keys: Vec<Key>,
    tick: Box<dyn FnMut(Vec<Sample>) -> bool + Send>,
}

impl Probe {
    /// Looks for GPUs. The error is for people: something is there and does not
    /// answer.
    pub fn start(ways: &Ways) -> Result<Self, String> {
        let (found, answer) = bounded(1);
        let (watch, wishes) = bounded::<Watch>(1);
        let ways = ways.clone();
        let thread = std::thread::Builder::new().name("gpus".into());
        let run = move || {
            let (source, by) = ways.open();
            if found.send((source.gpus(), by)).is_err() {
                return;
            }
            while let Ok(mut watch) = wishes.recv() {
                source.watch(&watch.keys, &mut *watch.tick);
            }
        };
        thread
            .spawn(run)
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        match answer.recv_timeout(PATIENCE) {
            Ok((gpus, by)) => Ok(Self { gpus, by, watch }),
            Err(RecvTimeoutError::Timeout) => Err(format!(
                "the GPUs of this node have not answered for {}s",
                PATIENCE.as_secs()
            )),
            Err(RecvTimeoutError::Disconnected) => {
                Err("the GPUs of this node cannot be asked".to_owned())
            }
        }
    }

    /// Measures these devices, again and again until `tick` has enough. It is
    /// called in the thread that asks.
    pub fn watch(&self, keys: Vec<Key>, tick: impl FnMut(Vec<Sample>) -> bool + Send + 'static) {
        let tick = Box::new(tick);
        let _ = self.watch.send(Watch { keys, tick });
    }
}
