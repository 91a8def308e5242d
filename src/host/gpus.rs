//! The GPUs of this node, and their load.
//!
//! A vendor's library may hang on a defective GPU. So one thread alone calls it, and no other
//! waits for that thread longer than a limit. Guarantee: without a library, a driver or a GPU
//! there are simply no GPUs, and no message.

mod nvml;
mod smi;
mod source;
mod sysfs;
mod users;

use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use self::source::Source;
pub use self::source::{Access, Key};
pub(crate) use self::sysfs::vendors;
pub use self::users::users;
use crate::model::devices::availability::Sample;
use crate::model::devices::pool::Gpu;

/// How long the first answer may take: a driver that was not in use needs a second or
/// two per GPU.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// The best source on this node, and its name.
fn open(access: &Access) -> (Box<dyn Source>, &'static str) {
    match nvml::Source::open(access) {
        nvml::Opened::Yes(source) if !source.gpus().is_empty() => {
            return (source, "NVML");
        }
        nvml::Opened::NoLibrary => {
            if let Some(source) = smi::Source::open(access) {
                return (Box::new(source), "nvidia-smi");
            }
        }
        _ => {}
    }
    (Box::new(sysfs::Source::open(&access.sysfs)), "sysfs")
}

/// The thread that calls the source.
pub struct Probe {
    /// The GPUs that it found.
    pub gpus: Vec<Gpu>,
    /// The name of the source.
    pub by: &'static str,
    watch: Sender<Watch>,
}

struct Watch {
    keys: Vec<Key>,
    tick: Box<dyn FnMut(Vec<Sample>) -> bool + Send>,
}

impl Probe {
    /// Finds the GPUs. The error is a message: something is there and does not answer.
    pub fn start(access: &Access) -> Result<Self, String> {
        let (found, answer) = bounded(1);
        let (watch, requests) = bounded::<Watch>(1);
        let access = access.clone();
        let thread = std::thread::Builder::new().name("gpus".into());
        let run = move || {
            let (source, by) = open(&access);
            if found.send((source.gpus(), by)).is_err() {
                return;
            }
            while let Ok(mut watch) = requests.recv() {
                source.watch(&watch.keys, &mut *watch.tick);
            }
        };
        thread
            .spawn(run)
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        match answer.recv_timeout(TIME_LIMIT) {
            Ok((gpus, by)) => Ok(Self { gpus, by, watch }),
            Err(RecvTimeoutError::Timeout) => Err(format!(
                "the GPUs of this node have not answered for {}s",
                TIME_LIMIT.as_secs()
            )),
            Err(RecvTimeoutError::Disconnected) => {
                Err("the GPUs of this node cannot be asked".to_owned())
            }
        }
    }

    /// Measures these devices repeatedly until `tick` returns false. That thread calls
    /// `tick`.
    pub fn watch(&self, keys: Vec<Key>, tick: impl FnMut(Vec<Sample>) -> bool + Send + 'static) {
        let tick = Box::new(tick);
        let _ = self.watch.send(Watch { keys, tick });
    }
}
