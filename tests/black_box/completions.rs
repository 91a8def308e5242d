//! Completions, in the shells that people have: the tests press Tab on a terminal.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use crate::harness::{Farm, has, skip, tasks};
use crate::tmux::Tmux;

/// What the shell, with this start file, offers for words when Tab is pressed.
fn completes(shell: &str, start: &str, file: &str, lines: &str) {
    let program = shell.split(' ').next().unwrap_or_default();
    if !has(program) {
        skip(&format!("there is no {program}"));
        return;
    }
    let farm = Farm::new();
    farm.write(
        "tasks.txt",
        tasks(20, |id| format!("exit {}", u64::from(id == 17 || id == 18))),
    );
    farm.farm("").run().leaves(1);
    farm.write("other/file", "");
    farm.write("pytf/mine.ini", "[ap-mine]\nRunner = apptainer\n");
    farm.write(file, lines);
    // Otherwise fish leaves a folder in /tmp.
    DirBuilder::new()
        .mode(0o700)
        .create(farm.path("run"))
        .unwrap();
    let pytf = Path::new(env!("CARGO_BIN_EXE_pytf")).parent().unwrap();
    let start = format!(
        "env HOME={0} XDG_CONFIG_HOME={0} XDG_RUNTIME_DIR={0}/run ZDOTDIR={0} LC_ALL=C.UTF-8 PATH={1}:$PATH {start}",
        farm.path("").display(),
        pytf.display()
    );
    let offers = |words: &str, offered: &[&str]| {
        let terminal = Tmux::start(&farm, &start)?;
        terminal.shows("ready>");
        terminal.keys(&["-l", words]);
        terminal.shows(words.trim());
        terminal.keys(&["Tab"]);
        terminal.keys(&["Tab"]);
        for text in offered {
            terminal.shows(text);
        }
        Some(terminal.screen())
    };
    offers("pytf re", &["repair", "report", "retry"]);
    offers("pytf status --", &["--failed", "--running"]);
    offers("pytf tasks.txt --bind ", &["numa", "core"]);
    offers("pytf tasks.txt --runner ap", &["apptainer", "ap-mine"]);
    offers("pytf retry w", &["pytf retry w/"]);
    let ids = offers("pytf retry w ", &["17", "18"]).unwrap_or_default();
    assert!(!ids.contains("16") && !ids.contains("19"), "{ids}");
    farm.pytf(["retry", "w"]).run().leaves(0);
    let ids = offers("pytf cancel w 1", &["17", "18"]).unwrap_or_default();
    assert!(!ids.contains("16") && !ids.contains("19"), "{ids}");
}

#[test]
fn bash_completes_commands_options_workdirs_and_failed_ids() {
    let lines = "PS1='ready> '\nsource <(pytf completions bash)\n";
    completes("bash", "bash --rcfile rc -i", "rc", lines);
}

#[test]
fn zsh_completes_commands_options_workdirs_and_failed_ids() {
    let lines = "PS1='ready> '\nautoload -U compinit\ncompinit -u -D\n\
                 source <(pytf completions zsh)\n";
    completes("zsh", "zsh -d", ".zshrc", lines);
}

#[test]
fn zsh_completes_from_a_file_in_its_folders() {
    let lines = "PS1='ready> '\nfpath=($HOME/site $fpath)\nmkdir -p $HOME/site\n\
                 pytf completions zsh >$HOME/site/_pytf\nautoload -U compinit\ncompinit -u -D\n";
    completes("zsh", "zsh -d", ".zshrc", lines);
}

#[test]
fn fish_completes_commands_options_workdirs_and_failed_ids() {
    let lines = "function fish_prompt; echo 'ready> '; end\nset -g fish_greeting\n\
                 pytf completions fish | source\n";
    completes("fish", "fish", "fish/config.fish", lines);
}
