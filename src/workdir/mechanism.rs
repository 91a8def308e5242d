//! The three ways to exclude other processes, on any node.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A way to exclude other processes, on whatever node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// flock(2).
    #[default]
    Flock,
    /// fcntl(2) open-file-description locks, `F_OFD_SETLK` (Linux 3.15).
    Fcntl,
    /// A name that is created exclusively; atomic on every file system. See `name`.
    Link,
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flock => "flock",
            Self::Fcntl => "fcntl",
            Self::Link => "link",
        })
    }
}

impl FromStr for Mechanism {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        match text {
            "flock" => Ok(Self::Flock),
            "fcntl" => Ok(Self::Fcntl),
            "link" => Ok(Self::Link),
            _ => Err(()),
        }
    }
}
