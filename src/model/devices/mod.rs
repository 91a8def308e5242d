//! Devices: how their names are read, how they are assigned to slots, which CPUs go
//! with them, and when one is free.
//!
//! Guarantee: a token that we were given is passed on unchanged and never renumbered, and no
//! token is assigned to more slots than may share it, over all processes of a node together.

pub mod assign;
pub mod availability;
pub mod cores;
pub mod pool;

/// Which GPUs may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gpus {
    /// All that this process may use.
    All,
    /// None: what tasks see of GPUs is left as it is.
    Untouched,
    /// These: indices, UUIDs or beginnings of UUIDs.
    List(Vec<String>),
}

/// The vendor of the devices. For each vendor there is a variable that says which devices a
/// program may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Vendor {
    /// CUDA.
    #[default]
    Nvidia,
    /// `ROCm`.
    Amd,
    /// oneAPI Level Zero.
    Intel,
}

impl Vendor {
    /// All of them, in the order in which we look for them.
    pub const ALL: [Self; 3] = [Self::Nvidia, Self::Amd, Self::Intel];

    /// The variable that says which devices a program may use.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Nvidia => "CUDA_VISIBLE_DEVICES",
            Self::Amd => "ROCR_VISIBLE_DEVICES",
            Self::Intel => "ZE_AFFINITY_MASK",
        }
    }

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nvidia => "NVIDIA",
            Self::Amd => "AMD",
            Self::Intel => "Intel",
        }
    }
}

/// Every variable that restricts what a program sees of devices. Of these a task
/// with devices gets one: two of them act on top of each other.
pub const VARIABLES: [&str; 5] = [
    "CUDA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
    "ZE_AFFINITY_MASK",
];

/// The kind of a token, as far as its form shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number, with the number of a tile after a dot where there is one.
    Index(u32, Option<u32>),
    /// `GPU-…`, or a part of it from its beginning.
    Uuid,
    /// `MIG-…`: a part of a GPU.
    Mig,
}

/// The kind of a token; `None` when it is not one.
pub fn kind(token: &str) -> Option<Kind> {
    if token.starts_with("MIG-") {
        return (token.len() > 4).then_some(Kind::Mig);
    }
    if token.starts_with("GPU-") {
        return (token.len() > 4).then_some(Kind::Uuid);
    }
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| text.parse().ok()).flatten()
    };
    match token.split_once('.') {
        Some((device, tile)) => Some(Kind::Index(number(device)?, Some(number(tile)?))),
        None => Some(Kind::Index(number(token)?, None)),
    }
}

/// A list of tokens, as in an environment variable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visible {
    /// The tokens that count, each once, in their order.
    pub tokens: Vec<String>,
    /// What was left out and why, for people.
    pub remark: Option<String>,
}

/// Reads the value of a variable such as `CUDA_VISIBLE_DEVICES`. As the vendor's
/// own library has it, the list ends before the first thing that is not a device:
/// `-1` and an empty value mean none. A device that is named twice counts once.
pub fn visible(value: &str) -> Visible {
    let mut found = Visible::default();
    if value.trim().is_empty() {
        return found;
    }
    for token in value.split(',').map(str::trim) {
        if kind(token).is_none() {
            if !matches!(token, "-1" | "NoDevFiles" | "none" | "void") {
                found.remark = Some(format!(
                    "'{token}' is not a device: the list '{value}' ends there"
                ));
            }
            break;
        }
        if found.tokens.iter().any(|known| known == token) {
            found.remark = Some(format!("'{value}' names {token} twice; it counts once"));
        } else {
            found.tokens.push(token.to_owned());
        }
    }
    found
}

/// AMD has two variables, and the second (`HIP_VISIBLE_DEVICES`) counts in the
/// list of the first: `2,3` and `1` are the device 3.
pub fn rocr_and_hip(rocr: Option<Visible>, hip: Option<Visible>) -> Option<Visible> {
    let (outer, inner) = match (rocr, hip) {
        (Some(outer), Some(inner)) => (outer, inner),
        (one, other) => return one.or(other),
    };
    let mut tokens = Vec::new();
    for token in inner.tokens {
        match kind(&token) {
            Some(Kind::Index(index, None)) => match outer.tokens.get(index as usize) {
                Some(device) => tokens.push(device.clone()),
                None => break,
            },
            _ if outer.tokens.contains(&token) => tokens.push(token),
            _ => break,
        }
    }
    let remark = outer.remark.or(inner.remark);
    Some(Visible { tokens, remark })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> (Vec<String>, bool) {
        let found = visible(value);
        (found.tokens, found.remark.is_some())
    }

    #[test]
    fn lists_are_read_as_the_libraries_read_them() {
        for (value, tokens, is_reported) in [
            ("", &[][..], false),
            ("  ", &[], false),
            ("-1", &[], false),
            ("NoDevFiles", &[], false),
            ("0", &["0"], false),
            ("0,1,2", &["0", "1", "2"], false),
            ("3, 1", &["3", "1"], false),
            ("0,-1,1", &["0"], false),
            ("0,x,1", &["0"], true),
            ("0,,1", &["0"], true),
            ("0,1,0", &["0", "1"], true),
            ("GPU-3fa1", &["GPU-3fa1"], false),
            ("GPU-", &[], true),
            ("MIG-a,MIG-GPU-b/1/0", &["MIG-a", "MIG-GPU-b/1/0"], false),
            ("0.0,0.1,1.0", &["0.0", "0.1", "1.0"], false),
            ("0.", &[], true),
            ("99999999999", &[], true),
        ] {
            let tokens: Vec<String> = tokens.iter().map(|&token| token.to_owned()).collect();
            assert_eq!(read(value), (tokens, is_reported), "'{value}'");
        }
    }

    #[test]
    fn hip_counts_inside_rocr() {
        let one = |value: &str| Some(visible(value));
        for (rocr, hip, tokens) in [
            (None, None, None),
            (one("2,3"), None, Some(&["2", "3"][..])),
            (None, one("1"), Some(&["1"])),
            (one("2,3"), one("1"), Some(&["3"])),
            (one("2,3"), one("1,0"), Some(&["3", "2"])),
            (one("2,3"), one("2"), Some(&[])),
            (one("GPU-a,GPU-b"), one("GPU-b"), Some(&["GPU-b"])),
            (one(""), one("0"), Some(&[])),
        ] {
            let found = rocr_and_hip(rocr, hip).map(|visible| visible.tokens);
            let tokens = tokens.map(|all| all.iter().map(|&t| t.to_owned()).collect());
            assert_eq!(found, tokens);
        }
    }

    #[test]
    fn every_vendor_has_its_variable_among_those_that_are_removed() {
        for vendor in Vendor::ALL {
            assert!(VARIABLES.contains(&vendor.variable()));
        }
    }
}
