//! The pages of the documents as the tests read them: files, fenced blocks, headings.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the project.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A page, by its path from the root.
pub(crate) struct Page {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// README and everything below docs/, by name.
pub(crate) fn pages() -> Vec<Page> {
    let mut files = vec![root().join("README.md")];
    collect(&root().join("docs"), &mut files);
    files.sort();
    let page = |path: PathBuf| Page {
        name: path.strip_prefix(root()).unwrap().display().to_string(),
        text: fs::read_to_string(&path).unwrap(),
    };
    files.into_iter().map(page).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|end| end == "md") {
            files.push(path);
        }
    }
}

/// A fenced block.
pub(crate) struct Block<'a> {
    /// The number of the line of its fence, from 0.
    pub(crate) at: usize,
    /// What is behind the fence: `console`, `console slurm`, nothing.
    pub(crate) info: &'a str,
    /// Its lines.
    pub(crate) lines: Vec<&'a str>,
    /// Whether it is a comment, which readers do not see: `<!-- console`.
    pub(crate) hidden: bool,
}

/// The fenced blocks of a page, and the other lines with their numbers from 0.
pub(crate) fn blocks(text: &str) -> (Vec<Block<'_>>, Vec<(usize, &str)>) {
    let (mut blocks, mut prose) = (Vec::new(), Vec::new());
    let mut open: Option<Block<'_>> = None;
    for (at, line) in text.lines().enumerate() {
        let ends = match &open {
            None => None,
            Some(block) if block.hidden => Some(line == "-->"),
            Some(_) => Some(line.starts_with("```")),
        };
        let comment = line.strip_prefix("<!-- ");
        let comment = comment.filter(|info| info.starts_with("console"));
        match (&mut open, ends) {
            (Some(_), Some(true)) => blocks.extend(open.take()),
            (Some(block), _) => block.lines.push(line),
            (None, _) => match comment.or(line.strip_prefix("```")) {
                Some(info) => {
                    open = Some(Block {
                        at,
                        info: info.trim(),
                        lines: Vec::new(),
                        hidden: comment.is_some(),
                    });
                }
                None => prose.push((at, line)),
            },
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    (blocks, prose)
}
