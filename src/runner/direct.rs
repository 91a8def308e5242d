//! Which lines need no shell.
//!
//! If a line has no character and no first word that a shell treats specially, the shell
//! would only split it at blanks. In doubt a line goes to the shell: an unnecessary shell
//! costs a millisecond, a missing one could lose a result. `tests/direct.rs` compares the
//! rules with real shells.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::shell::Kind;

/// What decides in an environment which lines need no shell.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Every line needs the shell: it reads a file at its start, or its settings could
    /// change the meaning of any line.
    nothing: bool,
    /// Names without a slash are looked up in `PATH` as execvp(3) does.
    names: bool,
    /// The functions that the shell would take from the environment.
    functions: HashSet<Vec<u8>>,
}

impl Rules {
    /// The rules for a kind of shell and the environment that it would get.
    pub fn new(kind: Kind, env: &[(OsString, OsString)]) -> Self {
        let is_set = |wanted: &str| env.iter().any(|(name, _)| name == wanted);
        let functions: HashSet<Vec<u8>> = env.iter().filter_map(function).collect();
        let start_up = match kind {
            Kind::Bash => {
                // The last: bash takes itself for started by sshd and reads
                // ~/.bashrc (a build option that Debian sets).
                ["BASH_ENV", "SHELLOPTS", "BASHOPTS", "EXECIGNORE"]
                    .into_iter()
                    .any(is_set)
                    || (["SSH_CLIENT", "SSH2_CLIENT"].into_iter().any(is_set) && !is_nested(env))
            }
            // Older ones read $ENV also for a command.
            Kind::Dash => is_set("ENV"),
            Kind::Other => true,
        };
        Self {
            nothing: start_up || functions.contains(&b"command_not_found_handle"[..]),
            names: env
                .iter()
                .any(|(name, path)| name == "PATH" && is_plain_path(path)),
            functions,
        }
    }

    /// Whether `name`, with these arguments, is executed by any shell just as
    /// execvp(3) would.
    fn is_plain_program(&self, name: &[u8], arguments: &[&[u8]]) -> bool {
        let odd = matches!(name[0], b'-' | b'+')
            || name.iter().any(|b| matches!(b, b'=' | b'%'))
            || name.iter().all(|&b| b == b'.');
        if odd || self.functions.contains(name) {
            return false;
        }
        if name.contains(&b'/') {
            return true;
        }
        self.names
            && if is_same(name) {
                // The program knows options that the builtin does not.
                arguments.iter().all(|word| word[0] != b'-')
            } else {
                !is_taken(name)
            }
    }
}

/// The words of a line that needs no shell; `None` when it needs one.
pub fn direct_words<'a>(line: &'a [u8], rules: &Rules) -> Option<Vec<&'a [u8]>> {
    if rules.nothing || !line.iter().all(|&b| is_plain(b) || is_blank(b)) {
        return None;
    }
    let words: Vec<&[u8]> = line
        .split(|&b| is_blank(b))
        .filter(|word| !word.is_empty())
        .collect();
    let (name, arguments) = words.split_first()?;
    rules.is_plain_program(name, arguments).then_some(words)
}

/// A byte that no shell treats specially inside a word that is not the first.
/// An allow-list: bytes that are not known to be harmless need the shell.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'_' | b'-' | b'.' | b'/' | b',' | b':' | b'+' | b'@' | b'%' | b'='
        )
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The name of the function that bash would take from this variable. Its form
/// is `BASH_FUNC_name%%`; earlier ones were `BASH_FUNC_name()` and `name`.
fn function((name, value): &(OsString, OsString)) -> Option<Vec<u8>> {
    if !value.as_bytes().starts_with(b"()") {
        return None;
    }
    let name = name.as_bytes();
    let inner = name.strip_prefix(b"BASH_FUNC_").and_then(|name| {
        name.strip_suffix(b"%%")
            .or_else(|| name.strip_suffix(b"()"))
    });
    Some(inner.unwrap_or(name).to_owned())
}

/// Whether bash would find that it is not the outermost shell.
fn is_nested(env: &[(OsString, OsString)]) -> bool {
    env.iter()
        .find(|(name, _)| name == "SHLVL")
        .and_then(|(_, level)| level.to_str()?.parse::<u32>().ok())
        .is_some_and(|level| level > 0)
}

/// Whether shells read this `PATH` as execvp(3) does. Without one each has its
/// own, bash expands `~` in it, and dash knows marks like `%func`.
fn is_plain_path(path: &OsStr) -> bool {
    let path = path.as_bytes();
    !path.is_empty()
        && !path.contains(&b'%')
        && path
            .split(|&b| b == b':')
            .all(|dir| dir.first() != Some(&b'~'))
}

/// Whether the builtin of this name does the same as the program in `/bin`, as
/// long as no argument begins with `-`.
pub fn is_same(name: &[u8]) -> bool {
    matches!(name, b"echo" | b"true" | b"false")
}

/// Whether the word is a reserved word, a builtin or a predefined alias of one of the
/// shells.
pub fn is_taken(name: &[u8]) -> bool {
    TAKEN.split(' ').any(|taken| taken.as_bytes() == name)
}

/// Those of bash 5.2, dash 0.5.12, ksh and zsh 5.9. Names with a character that is not
/// plain are not listed, nor are the ordinary programs that some builds of ksh contain:
/// no line is executed directly in place of ksh.
const TAKEN: &str = "\
    : alarm alias autoload bg bind bindkey bool break builtin bye caller case cd \
    chdir command compadd comparguments compcall compctl compdescribe compfiles \
    compgen compgroups complete compopt compound compquote compset comptags \
    comptry compvalues continue coproc declare dirs disable disown do done echo \
    echotc echoti elif else emulate enable end enum esac eval exec exit export \
    false fc fg fi float for foreach function functions getcap getln getopts \
    global hash help hist histcmd history if in integer jobid jobs kill let \
    limit local logout mapfile mkdev nameref namespace nocorrect noglob poll \
    popd print printf pushd pushln pwd r read readarray readonly redirect rehash \
    repeat return run-help sched select set setcap setopt setvar shift shopt \
    source stop strftime suspend syserror sysopen sysread sysseek syswrite tcp \
    test then time times trap true ttyctl type typeset ulimit umask unalias \
    unfunction unhash unlimit unset unsetopt until vared vmstate wait whence \
    where which-command while wordexp zcompile zcurses zdelattr zformat zftp \
    zgetattr zle zlistattr zmodload zparseopts zprof zpty zregexparse zselect \
    zsetattr zsocket zstat zstyle zsystem ztcp";

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn rules(kind: Kind, env: &[(&str, &str)]) -> Rules {
        let env: Vec<(OsString, OsString)> =
            env.iter().map(|(n, v)| (n.into(), v.into())).collect();
        Rules::new(kind, &env)
    }

    const PATH: (&str, &str) = ("PATH", "/usr/bin:/bin");

    #[test]
    fn a_simple_command_needs_no_shell() {
        for (line, words) in [
            ("sleep 5", &["sleep", "5"][..]),
            (
                "  python3\t sim.py  --seed=7 ",
                &["python3", "sim.py", "--seed=7"],
            ),
            (
                "./run -n 3 a,b:c+d@e%f",
                &["./run", "-n", "3", "a,b:c+d@e%f"],
            ),
            ("/bin/echo -e x", &["/bin/echo", "-e", "x"]),
            ("echo a b", &["echo", "a", "b"]),
            ("true", &["true"]),
            ("x if then cd A=b", &["x", "if", "then", "cd", "A=b"]),
        ] {
            let rules = rules(Kind::Bash, &[PATH]);
            let expected: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            assert_eq!(
                direct_words(line.as_bytes(), &rules),
                Some(expected),
                "'{line}'"
            );
        }
    }

    #[test]
    fn anything_else_is_the_shells() {
        for line in [
            "",
            " ",
            "echo 'a'",
            "echo \"a\"",
            "a\\ b",
            "a;b",
            "a|b",
            "a&",
            "a && b",
            "a > b",
            "a < b",
            "(a)",
            "{ a",
            "a {b,c}",
            "ls *",
            "ls ?",
            "ls [ab]",
            "a $b",
            "a `b`",
            "a #b",
            "ls ~",
            "a=b",
            "a=b c",
            "/a=b c",
            "a+=b c",
            "%1",
            "a%b c",
            "-x",
            "+x",
            ".",
            "..",
            ". file",
            ": a",
            "! a",
            "cd d",
            "time a",
            "if",
            "exec a",
            "test a",
            "printf a",
            "echo -n a",
            "echo a -e",
            "true --help",
            "a ^b",
            "a b\r",
            "a \u{e9}",
            "a\u{b}b",
            "history",
        ] {
            let rules = rules(Kind::Bash, &[PATH]);
            assert_eq!(direct_words(line.as_bytes(), &rules), None, "'{line}'");
        }
        let rules = rules(Kind::Bash, &[PATH]);
        for byte in (0..=255).filter(|&b| !is_plain(b) && !is_blank(b)) {
            assert_eq!(direct_words(&[b'a', b' ', byte], &rules), None, "{byte}");
        }
    }

    #[test]
    fn an_environment_can_forbid_it() {
        for (kind, env, name, path) in [
            (Kind::Bash, &[PATH][..], true, true),
            (Kind::Dash, &[PATH], true, true),
            (Kind::Other, &[PATH], false, false),
            (Kind::Bash, &[PATH, ("BASH_ENV", "/init")], false, false),
            (Kind::Dash, &[PATH, ("BASH_ENV", "/init")], true, true),
            (Kind::Dash, &[PATH, ("ENV", "/init")], false, false),
            (Kind::Bash, &[PATH, ("ENV", "/init")], true, true),
            (Kind::Bash, &[PATH, ("SHELLOPTS", "xtrace")], false, false),
            (Kind::Bash, &[PATH, ("SSH_CLIENT", "x")], false, false),
            (
                Kind::Bash,
                &[PATH, ("SSH_CLIENT", "x"), ("SHLVL", "1")],
                true,
                true,
            ),
            (Kind::Bash, &[], false, true),
            (Kind::Bash, &[("PATH", "")], false, true),
            (Kind::Bash, &[("PATH", "/bin:~/bin")], false, true),
            (Kind::Dash, &[("PATH", "/bin:/x%func")], false, true),
            (
                Kind::Bash,
                &[PATH, ("BASH_FUNC_run%%", "() {  :; }")],
                false,
                true,
            ),
            (
                Kind::Bash,
                &[PATH, ("BASH_FUNC_run()", "() {  :; }")],
                false,
                true,
            ),
            (Kind::Bash, &[PATH, ("run", "() {  :; }")], false, true),
            (
                Kind::Bash,
                &[PATH, ("BASH_FUNC_d/run%%", "() { :; }")],
                true,
                false,
            ),
            (
                Kind::Bash,
                &[PATH, ("BASH_FUNC_command_not_found_handle%%", "() { :; }")],
                false,
                false,
            ),
        ] {
            let rules = rules(kind, env);
            assert_eq!(
                direct_words(b"run x", &rules).is_some(),
                name,
                "{kind:?} {env:?}"
            );
            assert_eq!(
                direct_words(b"d/run x", &rules).is_some(),
                path,
                "{kind:?} {env:?}"
            );
        }
    }

    #[test]
    fn no_word_of_this_bash_is_missing() {
        let list = Command::new("bash")
            .args(["-c", "compgen -b; compgen -k"])
            .output();
        let Ok(list) = list else { return };
        for word in list.stdout.split(|&b| b == b'\n') {
            let plain = !word.is_empty() && word.iter().all(|&b| is_plain(b));
            let shown = word.escape_ascii();
            assert!(!plain || word == b"." || is_taken(word), "{shown}");
        }
    }
}
