//! A workdir on another host, as the user names it: `ssh://[USER@]HOST[:PORT]/PATH`.

use std::path::Path;

use super::hosts::Host;

/// What it begins with.
const SCHEME: &str = "ssh://";

/// A workdir on another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FarWorkdir {
    /// The host.
    pub host: Host,
    /// The workdir there: absolute, or `~/` and a path in the home folder.
    pub path: String,
}

impl FarWorkdir {
    /// Reads a workdir; none: it is a path here.
    pub fn of(workdir: &Path) -> Option<Result<Self, String>> {
        let text = workdir.to_str()?;
        let rest = text.strip_prefix(SCHEME)?;
        Some(read(rest).map_err(|why| format!("{}: {why}", text.escape_debug())))
    }
}

fn read(rest: &str) -> Result<FarWorkdir, String> {
    let form = "a workdir on another host is ssh://[USER@]HOST[:PORT]/PATH";
    let at = rest.find('/').filter(|at| *at > 0).ok_or(form)?;
    let (address, path) = rest.split_at(at);
    let (user, address) = match address.rsplit_once('@') {
        Some((user, address)) => (Some(user.to_owned()), address),
        None => (None, address),
    };
    // An address of IPv6 is in brackets.
    let (name, port) = match address
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((name, "")) => (name, None),
        Some((name, rest)) => (name, Some(rest.strip_prefix(':').ok_or(form)?)),
        None => address
            .split_once(':')
            .map_or((address, None), |(name, port)| (name, Some(port))),
    };
    let port = port.map(|port| match port.parse() {
        Ok(0) | Err(_) => Err(format!("'{port}' is not a port")),
        Ok(port) => Ok(port),
    });
    let host = Host {
        name: name.to_owned(),
        user,
        port: port.transpose()?,
        ..Host::default()
    };
    if let Some(fault) = host.fault() {
        return Err(fault);
    }
    let path = path
        .strip_prefix("/~/")
        .map_or_else(|| path.to_owned(), |in_home| format!("~/{in_home}"));
    if path.trim_start_matches("~/").trim_matches('/').is_empty() {
        return Err(form.to_owned());
    }
    Ok(FarWorkdir { host, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Result<FarWorkdir, String>> {
        FarWorkdir::of(Path::new(text))
    }

    #[test]
    fn the_forms_of_a_workdir() {
        for path in ["w", "/w", "a:b", "ssh:w", "./ssh://a/b"] {
            assert_eq!(of(path), None, "{path}");
        }
        let read = |text: &str| {
            let FarWorkdir { host, path } = of(text).unwrap().unwrap();
            (host.user, host.name, host.port, path)
        };
        let (host, me) = (|| "host".to_owned(), || Some("me".to_owned()));
        assert_eq!(read("ssh://host/a/b"), (None, host(), None, "/a/b".into()));
        let full = (me(), host(), Some(22), "~/a b".into());
        assert_eq!(read("ssh://me@host:22/~/a b"), full);
        let six = (None, "fe80::1".into(), Some(7), "/w".into());
        assert_eq!(read("ssh://[fe80::1]:7/w"), six);
        for (bad, part) in [
            ("ssh://host", "[USER@]HOST"),
            ("ssh://host/", "[USER@]HOST"),
            ("ssh://host/~/", "[USER@]HOST"),
            ("ssh:///w", "[USER@]HOST"),
            ("ssh://host:x/w", "'x' is not a port"),
            ("ssh://-oProxyCommand=x/w", "cannot be"),
            ("ssh://-l@host/w", "user of a host cannot be"),
        ] {
            let why = of(bad).unwrap().unwrap_err();
            assert!(why.contains(part), "{bad}: {why}");
        }
    }
}
