//! Who a farmer is, and on which node it runs.
//!
//! Names of nodes repeat: images are cloned, containers share a machine, and a great many hosts
//! are called `localhost`. Guarantee: two processes share a [`NodeId`] only if a process id
//! means the same process to both, and each sees the locks of the other.

use super::record::{Header, NodeId};

/// A farmer is known by the header of its journal. The name of the journal is for people
/// and proves nothing.
impl Header {
    /// Whether it runs on this very node.
    pub fn is_on(&self, node: Option<&NodeId>) -> bool {
        node.is_some() && self.node.as_ref() == node
    }

    /// Whether it runs under another kernel, as far as both are known.
    pub fn is_under_another_kernel(&self, node: Option<&NodeId>) -> bool {
        let boot = |node: &NodeId| node.boot.clone();
        self.node.as_ref().map(boot) != node.map(boot)
    }
}

/// What became of a process on our own node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// It is there.
    Runs,
    /// It has ended: no process has its number, or one that began at another time.
    Gone,
    /// Not known here.
    Unknown,
}

/// What `/proc/PID/stat` says of a process that began at `began`, if that is known.
/// The name of the program in it may hold anything, parentheses too.
pub fn process_of(stat: &str, began: Option<u64>) -> Process {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let Some(state) = after_name.split_ascii_whitespace().next() else {
        return Process::Unknown;
    };
    match (state, began_of(stat), began) {
        // A zombie has closed its files and waits for its parent only.
        ("Z" | "X", ..) => Process::Gone,
        (_, Some(now), Some(then)) if now != then => Process::Gone,
        (_, Some(_), _) => Process::Runs,
        (_, None, _) => Process::Unknown,
    }
}

/// When the process of `/proc/PID/stat` began, in clock ticks since the boot.
pub fn began_of(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "77 (a) b) S 1 77 77 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1";

    #[test]
    fn a_process_is_known_by_its_number_and_its_beginning() {
        assert_eq!(began_of(STAT), Some(4711));
        assert_eq!(process_of(STAT, Some(4711)), Process::Runs);
        assert_eq!(process_of(STAT, None), Process::Runs);
        assert_eq!(process_of(STAT, Some(4712)), Process::Gone);
        let zombie = STAT.replace(" S ", " Z ");
        assert_eq!(process_of(&zombie, Some(4711)), Process::Gone);
        for torn in ["", "77", "77 (a)", "77 (a) S 1 2"] {
            assert_eq!(process_of(torn, Some(4711)), Process::Unknown, "{torn}");
            assert_eq!(began_of(torn), None);
        }
    }

    #[test]
    fn one_name_is_not_one_node() {
        let node = |boot: &str, pids| NodeId {
            boot: boot.into(),
            pids,
        };
        let farmer = Header {
            farmer: "localhost.0.1.1".into(),
            node: Some(node("a", 1)),
            ..Header::default()
        };
        assert!(farmer.is_on(Some(&node("a", 1))));
        for other in [node("a", 2), node("b", 1)] {
            assert!(!farmer.is_on(Some(&other)), "{other:?}");
        }
        assert!(farmer.is_under_another_kernel(Some(&node("b", 1))));
        assert!(!farmer.is_under_another_kernel(Some(&node("a", 2))));
        let unknown = Header {
            node: None,
            ..farmer
        };
        assert!(!unknown.is_on(None) && !unknown.is_on(Some(&node("a", 1))));
    }
}
