//! The hosts of `--hosts`: read from a file of TOML, from lines as GNU parallel has them, or
//! from the command line.
//!
//! Guarantee: no name, address, user or key begins with `-` or has a blank or a control
//! character in it, so none of them becomes an option of ssh.

use serde::Deserialize;

use super::relative::relative;

/// A host on which a farmer is started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Host {
    /// What it is called: before its messages, and in `node=` of tasks.
    pub name: String,
    /// What ssh connects to; the name where this is absent. `:` is this machine.
    pub address: Option<String>,
    /// The user there.
    pub user: Option<String>,
    /// The port of its ssh server.
    pub port: Option<u16>,
    /// The file of the private key.
    pub key: Option<String>,
    /// How many tasks run there at a time.
    pub slots: Option<u32>,
    /// Its GPUs, as `--gpus` has them.
    pub gpus: Option<String>,
    /// What it is called in `node=` of tasks beside its name.
    pub labels: Vec<String>,
    /// The folder in which tasks run there.
    pub folder: Option<String>,
    /// The program there.
    pub pytf: Option<String>,
    /// Files and folders that are copied there.
    #[serde(rename = "copy-in")]
    pub copy_in: Vec<String>,
}

impl Host {
    /// What ssh connects to.
    pub fn address(&self) -> &str {
        self.address.as_deref().unwrap_or(&self.name)
    }

    /// How a user logs in there: `ssh -p 22 me@host`.
    pub fn login(&self) -> String {
        let port = self.port.map(|port| format!("-p {port} "));
        let user = self.user.as_ref().map(|user| format!("{user}@"));
        let (port, user) = (port.unwrap_or_default(), user.unwrap_or_default());
        format!("ssh {port}{user}{}", self.address())
    }

    /// Whether it is this machine, without ssh.
    pub fn is_here(&self) -> bool {
        self.address() == ":"
    }

    /// The same, with what another says of all hosts where this one says nothing.
    fn or(self, all: &Self) -> Self {
        Self {
            user: self.user.or_else(|| all.user.clone()),
            port: self.port.or(all.port),
            key: self.key.or_else(|| all.key.clone()),
            slots: self.slots.or(all.slots),
            gpus: self.gpus.or_else(|| all.gpus.clone()),
            labels: [&all.labels[..], &self.labels].concat(),
            folder: self.folder.or_else(|| all.folder.clone()),
            pytf: self.pytf.or_else(|| all.pytf.clone()),
            copy_in: [&all.copy_in[..], &self.copy_in].concat(),
            name: self.name,
            address: self.address,
        }
    }

    /// What is wrong with it.
    pub(super) fn fault(&self) -> Option<String> {
        if self.name.is_empty() {
            return Some("a host has no name".into());
        }
        let words = [
            ("name", Some(&self.name)),
            ("address", self.address.as_ref()),
            ("user", self.user.as_ref()),
            ("key", self.key.as_ref()),
            ("gpus", self.gpus.as_ref()),
            ("folder", self.folder.as_ref()),
            ("pytf", self.pytf.as_ref()),
        ];
        let labels = self.labels.iter().map(|label| ("labels", Some(label)));
        for (key, word) in words.into_iter().chain(labels) {
            let Some(word) = word else { continue };
            let may_have_blanks = ["folder", "key"].contains(&key);
            let is_bad = |c: char| c.is_control() || (c.is_whitespace() && !may_have_blanks);
            if word.is_empty() || word.starts_with('-') || word.chars().any(is_bad) {
                return Some(format!(
                    "{key} of a host cannot be '{}'",
                    word.escape_debug()
                ));
            }
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+~".contains(c);
        if let Some(pytf) = self
            .pytf
            .as_ref()
            .filter(|path| !path.chars().all(is_plain))
        {
            return Some(format!(
                "pytf of a host is a path of letters, digits and /._-+~, not '{pytf}'"
            ));
        }
        let faults = self.copy_in.iter().map(|path| relative(path).err());
        if let Some(why) = faults.flatten().next() {
            return Some(format!("copy-in of a host: {why}"));
        }
        if self.slots == Some(0) {
            return Some(format!("{} has 0 slots: leave it out", self.name));
        }
        None
    }
}

/// A file of hosts.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HostsFile {
    /// For all hosts.
    defaults: Host,
    /// Hosts in the short form.
    hosts: Vec<String>,
    /// Hosts with more than that.
    host: Vec<Host>,
}

/// What is wrong with hosts, and in which line, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadHosts {
    /// The line, where there is one.
    pub line: Option<usize>,
    /// What is wrong.
    pub why: String,
}

impl BadHosts {
    fn new(why: impl Into<String>) -> Self {
        Self {
            line: None,
            why: why.into(),
        }
    }
}

/// Reads a file of TOML.
pub fn of_toml(text: &str) -> Result<Vec<Host>, BadHosts> {
    let file: HostsFile = toml::from_str(text).map_err(|error| BadHosts {
        line: error
            .span()
            .map(|at| text[..at.start].matches('\n').count() + 1),
        why: error.message().to_owned(),
    })?;
    if !file.defaults.name.is_empty() || file.defaults.address.is_some() {
        return Err(BadHosts::new("defaults cannot have a name or an address"));
    }
    let short = file.hosts.iter().map(|text| short(text));
    let hosts = short.chain(file.host.into_iter().map(Ok));
    checked(hosts.map(|host| host.map(|host| host.or(&file.defaults))))
}

/// Reads lines as GNU parallel has them in a file of `--sshloginfile`: blank lines and lines
/// that begin with `#` are ignored.
pub fn of_lines(text: &str) -> Result<Vec<Host>, BadHosts> {
    let lines = text
        .lines()
        .enumerate()
        .map(|(nth, line)| (nth + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let hosts = lines.flat_map(|(nth, line)| {
        line.split(',').map(move |word| {
            short(word).map_err(|error| BadHosts {
                line: Some(nth),
                ..error
            })
        })
    });
    checked(hosts)
}

/// Reads a list of hosts that are separated by commas.
pub fn of_list(text: &str) -> Result<Vec<Host>, BadHosts> {
    checked(text.split(',').map(short))
}

/// `[SLOTS/][USER@]HOST[:SLOTS]`; `:` is this machine.
fn short(text: &str) -> Result<Host, BadHosts> {
    let text = text.trim();
    let bad = |why: String| BadHosts::new(format!("'{}': {why}", text.escape_debug()));
    if text.starts_with('@') || text.starts_with('+') {
        return Err(bad(
            "groups of hosts are not known to pytf: name the hosts".into()
        ));
    }
    if text.contains(char::is_whitespace) {
        let why = "a host is [SLOTS/][USER@]HOST[:SLOTS]: options of ssh go into --ssh-option or \
                   ~/.ssh/config";
        return Err(bad(why.into()));
    }
    let number = |text: &str| {
        let number = text.parse::<u32>().ok().filter(|slots| *slots > 0);
        number.ok_or_else(|| bad(format!("'{text}' is not a number of slots")))
    };
    let (before, rest) = match text.split_once('/') {
        Some((slots, rest)) => (Some(number(slots)?), rest),
        None => (None, text),
    };
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => (Some(user.to_owned()), rest),
        None => (None, rest),
    };
    let (address, after) = match rest.split_once(':') {
        // This machine, or an address of IPv6.
        Some(("", slots)) if !slots.contains(':') => (":", Some(slots).filter(|s| !s.is_empty())),
        Some((address, slots)) if !slots.contains(':') => (address, Some(slots)),
        _ => (rest, None),
    };
    if let Some(port) = after.filter(|number| *number == "22" || number.len() > 3) {
        return Err(bad(format!(
            "{port} looks like a port: write port = {port} in a file of hosts (hosts.toml) or in \
             ~/.ssh/config, or {port}/{address} for {port} slots"
        )));
    }
    let after = after.map(number).transpose()?;
    let is_here = address == ":";
    Ok(Host {
        name: if is_here { "here" } else { address }.to_owned(),
        address: is_here.then(|| ":".to_owned()),
        user,
        slots: after.or(before),
        ..Host::default()
    })
}

/// All of them, if each is good and none is there twice.
fn checked(hosts: impl Iterator<Item = Result<Host, BadHosts>>) -> Result<Vec<Host>, BadHosts> {
    let mut all: Vec<Host> = Vec::new();
    for host in hosts {
        let host = host?;
        if let Some(why) = host.fault() {
            return Err(BadHosts::new(why));
        }
        if all.iter().any(|known| known.name == host.name) {
            return Err(BadHosts::new(format!("{} is there twice", host.name)));
        }
        all.push(host);
    }
    if all.is_empty() {
        return Err(BadHosts::new("there is no host"));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Host {
        Host {
            name: name.into(),
            ..Host::default()
        }
    }

    #[test]
    fn short_forms() {
        let read = of_list("n1,n2:8,me@n3,4/n4,:,fe80::1").unwrap();
        let me = Some("me".to_owned());
        let slots = |name, slots| Host {
            slots: Some(slots),
            ..host(name)
        };
        let here = Host {
            address: Some(":".into()),
            ..host("here")
        };
        let n3 = Host {
            user: me,
            ..host("n3")
        };
        let all = [
            host("n1"),
            slots("n2", 8),
            n3,
            slots("n4", 4),
            here,
            host("fe80::1"),
        ];
        assert_eq!(read, all);
        assert!(read[4].is_here());
        let lines = of_lines("# ours\n\n  n1 \n2/n2\n").unwrap();
        assert_eq!(lines, [host("n1"), slots("n2", 2)]);
    }

    #[test]
    fn a_file_has_defaults() {
        let text = "hosts = ['n1', 'n2:2']\n[defaults]\nuser = 'me'\nslots = 4\nlabels = ['a']\n\
                    [[host]]\nname = 'n3'\naddress = '10.0.0.3'\nport = 2222\nlabels = ['fat']\n";
        let read = of_toml(text).unwrap();
        let users: Vec<_> = read.iter().map(|host| host.user.as_deref()).collect();
        assert_eq!(users, [Some("me"); 3]);
        let slots: Vec<_> = read.iter().map(|host| host.slots).collect();
        assert_eq!(slots, [Some(4), Some(2), Some(4)]);
        assert_eq!(read[2].labels, ["a", "fat"]);
        assert_eq!((read[2].address(), read[2].port), ("10.0.0.3", Some(2222)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let why = |read: Result<Vec<Host>, BadHosts>| {
            let bad = read.unwrap_err();
            (bad.line, bad.why)
        };
        for (text, part) in [
            ("", "cannot be ''"),
            ("-oProxyCommand=x", "cannot be '-oProxyCommand=x'"),
            ("-l@n1", "user of a host cannot be '-l'"),
            ("n1,n1", "n1 is there twice"),
            ("n1:2222", "looks like a port"),
            ("n1:22", "looks like a port"),
            ("n1:x", "'x' is not a number of slots"),
            ("0/n1", "'0' is not a number of slots"),
            ("@fat/n1", "groups of hosts"),
            ("ssh -p 3 n1", "--ssh-option"),
        ] {
            let (_, found) = why(of_list(text));
            let found = if text.is_empty() && found.contains("no name") {
                "cannot be ''".into()
            } else {
                found
            };
            assert!(found.contains(part), "{text}: {found}");
        }
        assert_eq!(why(of_lines("n1\nn2:x\n")).0, Some(2));
        let (line, text) = why(of_toml("[[host]]\nname = 'n1'\nslot = 3\n"));
        assert_eq!(line, Some(3));
        assert!(text.contains("slot"), "{text}");
        assert!(
            why(of_toml("[defaults]\nname = 'n'\n"))
                .1
                .contains("defaults")
        );
        let text = "hosts = ['n']\n[defaults]\ncopy-in = ['/etc']\n";
        assert!(
            why(of_toml(text))
                .1
                .contains("copy-in of a host: '/etc' is an absolute")
        );
        assert!(
            why(of_toml("[[host]]\nname = 'n'\npytf = 'a;b'\n"))
                .1
                .contains("letters")
        );
    }
}
