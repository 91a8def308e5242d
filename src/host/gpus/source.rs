//! The interface of the sources of GPU data: NVML, nvidia-smi, sysfs.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::model::devices::availability::Sample;
use crate::model::devices::pool::Gpu;

/// How a device is identified: by its UUID or its PCI address.
pub type Key = Option<String>;

/// Takes the samples of all devices; returns whether to measure again.
pub(super) type Tick<'a> = &'a mut dyn FnMut(Vec<Sample>) -> bool;

/// A library, a program or a file system that knows GPUs.
pub(super) trait Source {
    /// The GPUs.
    fn gpus(&self) -> Vec<Gpu>;
    /// Measures the devices repeatedly until `tick` returns false.
    fn watch(&self, keys: &[Key], tick: Tick);
}

/// How the GPUs of this node are accessed.
#[derive(Clone, Debug)]
pub struct Access {
    /// The path of NVML; none: it is found by its name.
    pub nvml: Option<OsString>,
    /// The folder of sysfs.
    pub sysfs: PathBuf,
    /// The value of `PATH`.
    pub path: OsString,
}

impl Access {
    /// The usual ones, or those of a test.
    pub fn from(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        Self {
            nvml: lookup("PYTF_TEST_NVML"),
            sysfs: lookup("PYTF_TEST_SYSFS").map_or_else(|| "/sys".into(), PathBuf::from),
            path: lookup("PATH").unwrap_or_default(),
        }
    }
}
