//! `pytf convert`: the list of another tool as a list of pytf.
//!
//! Guarantee: what is written has the same tasks as the list when it is run with `--tasklist`.

use std::io::Read;
use std::path::Path;

use pytf::cli::Convert;
use pytf::exit::RunExit;
use pytf::farm::start_error::StartError;
use pytf::model::tasklist::handlers::{found, made, recognized};
use pytf::model::tasklist::{Dialect, ListError, Parser};
use pytf::model::tool::{NodeCommands, Tool, Translation};
use pytf::ui::progress::warn;
use pytf::workdir::resume::ListFailure;

use crate::write;

/// Writes it to standard output.
pub(crate) fn convert(args: &Convert) -> Result<RunExit, StartError> {
    let is_stdin = args.list == Path::new("-");
    let name = if is_stdin {
        "standard input".to_owned()
    } else {
        args.list.display().to_string()
    };
    let text = if is_stdin {
        let mut text = Vec::new();
        std::io::stdin().read_to_end(&mut text).map(|_| text)
    } else {
        std::fs::read(&args.list)
    };
    let text = text.map_err(|source| {
        let list = name.clone();
        StartError::List(ListFailure::Unreadable { list, source })
    })?;
    let wrong = |source| {
        let list = name.clone();
        StartError::List(ListFailure::Wrong { list, source })
    };
    // What a node has to run first is an option, and said.
    let given = NodeCommands {
        setup: true,
        teardown: true,
    };
    let names = std::env::vars_os().map(|(name, _)| name);
    let dialect = Dialect::of(false, names).with_node(given);
    let tool = args.from.as_deref().and_then(Tool::of);
    let tool = match tool.map(|tool| (tool, None)) {
        Some(tool) => Some(tool),
        None => found(&text, &dialect).map(|(tool, line, mark)| {
            let note = recognized(tool, line, &mark);
            (tool, Some(note))
        }),
    };
    let Some((tool, note)) = tool else {
        let whole = Translation {
            lines: Vec::new(),
            notes: Vec::new(),
            text,
        };
        tasks(&whole, &dialect).map_err(wrong)?;
        warn("the list has no mark of another tool: it is written as it is");
        return Ok(write(&whole.text));
    };
    let list = made(tool, &dialect.list(&text, &name)).map_err(wrong)?;
    let mut parser = Parser::of(dialect.clone());
    let mut own = Vec::new();
    let fed = parser.feed_made(&list.text, &list.lines, &mut |task| own.push(task.to_vec()));
    fed.map_err(wrong)?;
    if tasks(&list, &dialect).map_err(wrong)? != own {
        let what = format!("{name} cannot be written as a list of pytf");
        return Err(StartError::List(ListFailure::Refused(what)));
    }
    for note in note.iter().chain(&list.notes) {
        warn(note);
    }
    Ok(write(&list.text))
}

/// The tasks of the text alone.
fn tasks(list: &Translation, dialect: &Dialect) -> Result<Vec<Vec<u8>>, ListError> {
    let (mut parser, mut tasks) = (Parser::of(dialect.clone()), Vec::new());
    let mut emit = |task: &[u8]| tasks.push(task.to_vec());
    parser.feed(&list.text, &mut emit)?;
    parser.finish(&mut emit)?;
    Ok(tasks)
}
