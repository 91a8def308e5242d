//! The pages of docs/reference that are made from the command line: what the program
//! reads is what they show.
//!
//! `DOCS_WRITE=1 cargo test --test docs reference` writes them.

use std::fmt::Write as _;
use std::fs;

use clap::{Arg, Command, CommandFactory as _};
use pytf::cli::Cli;

use crate::pages::root;

const BEGIN: &str = "<!-- from here to the end: made by tests/docs/reference.rs -->\n";

/// `-n`, `--proc N` and so on, of one option.
fn forms(option: &Arg) -> String {
    let names = option.get_value_names().unwrap_or_default();
    let range = option.get_num_args().unwrap_or_default();
    let value = match names.first() {
        Some(name) if option.get_action().takes_values() && range.min_values() > 0 => {
            format!(" {name}")
        }
        Some(name) if option.get_action().takes_values() && option.is_require_equals_set() => {
            format!("[={name}]")
        }
        Some(name) if option.get_action().takes_values() => format!(" [{name}]"),
        _ => String::new(),
    };
    let short = option.get_short_and_visible_aliases().unwrap_or_default();
    let short = short.iter().map(|name| format!("`-{name}{value}`"));
    let long = option.get_long_and_visible_aliases().unwrap_or_default();
    let long = long.iter().map(|name| format!("`--{name}{value}`"));
    short.chain(long).collect::<Vec<_>>().join(", ")
}

/// Text of the help as Markdown.
fn prose(text: &str) -> String {
    text.replace('<', "\\<").replace("[D-]", "\\[D-\\]")
}

fn describe(option: &Arg, out: &mut String) {
    let name = match option.get_long() {
        Some(long) => format!("--{long}"),
        None => option.get_value_names().map_or_else(
            || option.get_id().to_string().to_uppercase(),
            |names| names[0].to_string(),
        ),
    };
    let _ = write!(out, "\n#### {name}\n\n");
    let forms = forms(option);
    if !forms.is_empty() {
        let _ = writeln!(out, "{forms}\n");
    }
    let short = option
        .get_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let long = option
        .get_long_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let text = if long.is_empty() { short } else { long };
    let (first, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
    let _ = writeln!(out, "{}.", prose(first.trim_end_matches('.')));
    if !rest.is_empty() {
        let _ = writeln!(out, "\n{}", prose(rest));
    }
    let values = option.get_possible_values();
    let values = values.iter().filter(|value| !value.is_hide_set());
    let values: Vec<String> = values
        .filter_map(|value| Some(format!("- `{}`: {}", value.get_name(), value.get_help()?)))
        .collect();
    if !values.is_empty() {
        let _ = writeln!(out, "\n{}", values.join("\n"));
    }
    if let Some(variable) = option.get_env() {
        let _ = writeln!(out, "\nVariable: `{}`", variable.display());
    }
}

/// One command: its text, its arguments, its options by group.
fn command(command: &Command, name: &str, out: &mut String) {
    let _ = write!(out, "\n## {name}\n");
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().bin_name(name).render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let usage: Vec<&str> = usage.lines().map(str::trim).collect();
    let _ = write!(
        out,
        "\n```text\n{}\n```\n\n{}.\n",
        usage.join("\n"),
        prose(about.trim_end_matches('.'))
    );
    let shown: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set())
        .collect();
    let mut groups: Vec<&str> = Vec::new();
    for arg in &shown {
        let group = arg.get_help_heading().unwrap_or_default();
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    for group in groups {
        if !group.is_empty() {
            let _ = write!(out, "\n### {group}\n");
        }
        for arg in &shown {
            if arg.get_help_heading().unwrap_or_default() == group {
                describe(arg, out);
            }
        }
    }
}

fn compare(page: &str, made: &str) {
    let path = root().join("docs/reference").join(page);
    let text = fs::read_to_string(&path).unwrap();
    let (written, old) = text.split_once(BEGIN).expect("the page has a made part");
    if std::env::var_os("DOCS_WRITE").is_some() {
        fs::write(&path, format!("{written}{BEGIN}{made}")).unwrap();
    } else {
        assert!(
            old == made,
            "{page} is not what the program reads: DOCS_WRITE=1 cargo test --test docs reference"
        );
    }
}

#[test]
fn the_command_line_is_that_of_the_program() {
    let farm = Cli::command();
    let mut out = String::new();
    command(&farm, "pytf", &mut out);
    for of in farm.get_subcommands() {
        command(of, &format!("pytf {}", of.get_name()), &mut out);
    }
    compare("command-line.md", &out);
}

#[test]
fn the_variables_are_those_of_the_program() {
    let farm = Cli::command();
    let mut rows: Vec<String> = farm
        .get_arguments()
        .filter_map(|option| {
            let variable = option.get_env()?.to_str()?;
            let long = option.get_long()?;
            let what = option.get_help()?.to_string();
            let link = if option.is_hide_set() {
                "../options.md#durations".to_owned()
            } else {
                format!("command-line.md#--{long}")
            };
            Some(format!(
                "| `{variable}` | [`--{long}`]({link}) | {} |",
                prose(&what)
            ))
        })
        .collect();
    rows.sort();
    let table = format!(
        "\n| variable | option | |\n|---|---|---|\n{}\n",
        rows.join("\n")
    );
    compare("environment.md", &table);
}
