//! Every link of a page to a file of the project, and to a heading, leads somewhere. Links
//! to other sites are not followed: tests use no network.

use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

use crate::pages::{blocks, pages, root};

/// The anchors of a page, as GitHub and mdBook make them of its headings.
fn anchors(text: &str) -> HashSet<String> {
    let mut seen: HashMap<String, u32> = HashMap::new();
    let mut out = HashSet::new();
    for (_, line) in blocks(text).1 {
        let title = line.trim_start_matches('#');
        let Some(title) = title.strip_prefix(' ').filter(|_| title.len() < line.len()) else {
            continue;
        };
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let anchor: String = title.trim().chars().filter(kept).collect();
        let anchor = anchor.to_lowercase().replace(' ', "-");
        let count = seen.entry(anchor.clone()).or_default();
        out.insert(match *count {
            0 => anchor,
            n => format!("{anchor}-{n}"),
        });
        *count += 1;
    }
    out
}

/// The targets of the links in a line: `[text](target)`.
fn targets(line: &str) -> Vec<&str> {
    line.match_indices("](")
        .filter_map(|(at, _)| line[at + 2..].split([')', ' ']).next())
        .collect()
}

/// The path without `.` and `..`.
fn tidy(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    let of: HashMap<&str, HashSet<String>> = pages
        .iter()
        .map(|page| (&*page.name, anchors(&page.text)))
        .collect();
    let (mut wrong, mut seen) = (String::new(), 0);
    for page in &pages {
        for (at, line) in blocks(&page.text).1 {
            for target in targets(line) {
                if target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                seen += 1;
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                let folder = Path::new(&page.name).parent().unwrap();
                let path = match file {
                    "" => PathBuf::from(&page.name),
                    file => tidy(&folder.join(file)),
                };
                let has_anchor = |of: &HashSet<String>| of.contains(anchor);
                let there = root().join(&path).exists()
                    && (anchor.is_empty()
                        || of.get(path.to_str().unwrap()).is_some_and(has_anchor));
                if !there {
                    wrong += &format!("{}:{}: {target}\n", page.name, at + 1);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere:\n{wrong}");
    assert!(seen > 50, "{seen} links were found");
}

/// The site has what its contents name, and a page that is not in them is not built.
#[test]
fn every_page_is_in_the_contents() {
    let pages = pages();
    let summary = pages.iter().find(|page| page.name == "docs/SUMMARY.md");
    let lines = summary.unwrap().text.lines();
    let named: Vec<&str> = lines.flat_map(targets).collect();
    for page in &pages {
        if let Some(name) = page.name.strip_prefix("docs/")
            && name != "SUMMARY.md"
        {
            let count = named.iter().filter(|named| **named == name).count();
            assert_eq!(count, 1, "docs/SUMMARY.md names {name} {count} times");
        }
    }
}

#[test]
fn anchors_are_those_of_github() {
    let page = "# A b\n```\n# no\n```\n## `pytf status`: c, d\n## A b\n### --proc\n#no\n";
    let expected = ["a-b", "pytf-status-c-d", "a-b-1", "--proc"];
    assert_eq!(anchors(page), expected.map(str::to_owned).into());
    assert_eq!(targets("[a](b.md#c), [d](e)"), ["b.md#c", "e"]);
}
