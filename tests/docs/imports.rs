//! Which file uses which: compared with the picture in docs/architecture.md, and free of
//! circles.
//!
//! The source is read as text: `use` lines with all that is in their braces, and paths in
//! the code that begin with `crate`, `pytf`, `super`, `self` or a child module. Comments,
//! strings and what is compiled for tests alone do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const ARCHITECTURE: &str = include_str!("../../docs/architecture.md");
const WORKDIR: &str = include_str!("../../src/workdir/mod.rs");

/// The sizes of the circles of files that there may be, the largest first: there are none.
const CIRCLES: [usize; 0] = [];

/// The path of a module: `["workdir", "state", "log"]`.
type Module = Vec<String>;
/// Each file, and the files that it uses, with the names by which it does.
type Graph = BTreeMap<Module, BTreeMap<Module, BTreeSet<String>>>;

/// The files below a folder, without those that are tests.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// The module that a file is: that of the library or of the program is empty.
fn module(path: &Path) -> Module {
    let path = path.with_extension("");
    let parts = path.iter().map(|part| part.to_str().unwrap().to_owned());
    let mut parts: Module = parts.collect();
    parts.retain(|part| part != "mod" && part != "lib");
    parts
}

fn is_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'_'
}

/// The length of the literal or comment that a text begins with; 0 when it begins with
/// code.
fn skipped(text: &[u8], after_word: bool) -> usize {
    let until = |end: &[u8], from: usize| {
        let at = text[from..].windows(end.len()).position(|part| part == end);
        at.map_or(text.len(), |at| from + at + end.len())
    };
    match text {
        [b'/', b'/', ..] => until(b"\n", 0) - 1,
        [b'/', b'*', ..] => until(b"*/", 2),
        [b'r', b'"' | b'#', ..] if !after_word => {
            let marks = text[1..].iter().take_while(|&&c| c == b'#').count();
            let end = [&b"\""[..], &b"#".repeat(marks)].concat();
            let is_string = text.get(1 + marks) == Some(&b'"');
            if is_string { until(&end, marks + 2) } else { 0 }
        }
        [b'"', ..] => {
            let mut at = 1;
            while text[at] != b'"' {
                at += if text[at] == b'\\' { 2 } else { 1 };
            }
            at + 1
        }
        [b'\'', b'\\', _, rest @ ..] => 3 + rest.iter().position(|&c| c == b'\'').unwrap_or(0) + 1,
        [b'\'', rest @ ..] => {
            // A character may have four bytes; a lifetime has no end.
            let end = rest.iter().take(5).position(|&c| c == b'\'');
            let is_char = end.is_some_and(|end| {
                std::str::from_utf8(&rest[..end]).is_ok_and(|text| text.chars().count() == 1)
            });
            if is_char { end.unwrap_or(0) + 2 } else { 0 }
        }
        _ => 0,
    }
}

/// The code alone.
fn code(text: &str) -> String {
    let text = text.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let after_word = out.last().copied().is_some_and(is_word);
        match skipped(&text[at..], after_word) {
            0 => {
                out.push(text[at]);
                at += 1;
            }
            length => {
                out.push(b' ');
                at += length;
            }
        }
    }
    String::from_utf8(out).unwrap()
}

/// Takes out what is compiled for tests alone; returns the names of modules that are files
/// of their own.
fn without_tests(code: &mut String) -> Vec<String> {
    const MARK: &str = "#[cfg(test)]";
    let mut modules = Vec::new();
    while let Some(begin) = code.find(MARK) {
        let rest = &code[begin + MARK.len()..];
        let (mut depth, mut end) = (0_i32, rest.len());
        for (at, c) in rest.char_indices() {
            depth += match c {
                '{' | '(' | '[' => 1,
                '}' | ')' | ']' => -1,
                _ => 0,
            };
            if depth == 0 && (c == ';' || c == '}') {
                end = at + 1;
                break;
            }
        }
        let item = rest[..end].trim();
        let name = item
            .split("mod ")
            .nth(1)
            .and_then(|name| name.strip_suffix(';'));
        modules.extend(name.map(str::to_owned));
        code.replace_range(begin..begin + MARK.len() + end, "");
    }
    modules
}

/// The paths in a `use` tree.
fn expand(tree: &str, before: &str, out: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((front, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or(tree);
        out.push(format!("{before}{}", path.trim()));
        return;
    };
    let inner = &rest[..rest.rfind('}').unwrap()];
    let before = format!("{before}{}", front.trim());
    let (mut depth, mut from) = (0_i32, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        depth += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if c == ',' && depth == 0 {
            if !inner[from..at].trim().is_empty() {
                expand(&inner[from..at], &before, out);
            }
            from = at + 1;
        }
    }
}

/// All paths of a file's code.
fn paths(code: &str) -> Vec<String> {
    let (mut out, mut rest) = (Vec::new(), String::new());
    let mut pieces = code.split(';').peekable();
    while let Some(piece) = pieces.next() {
        let at = piece.rfind("use ").filter(|&at| {
            let before = piece[..at].trim_end();
            before.is_empty() || before.ends_with(['}', '{', ']', ')']) || before.ends_with("pub")
        });
        match at {
            Some(at) if pieces.peek().is_some() => {
                rest.push_str(&piece[..at]);
                expand(&piece[at + 4..], "", &mut out);
            }
            _ => rest.push_str(piece),
        }
        rest.push(' ');
    }
    // What may be seen from where uses nothing.
    let rest = rest.replace("pub(in ", "pub(in-").replace("pub(super)", "");
    let bytes = rest.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let from = at;
        while at < bytes.len() && (is_word(bytes[at]) || rest[at..].starts_with("::")) {
            at += if is_word(bytes[at]) { 1 } else { 2 };
        }
        let path = &rest[from..at];
        let is_first = from == 0 || !matches!(bytes[from - 1], b'-' | b'.' | b'$');
        if path.contains("::") && !path.starts_with("::") && is_first {
            out.push(path.to_owned());
        }
        at += usize::from(at == from);
    }
    out
}

/// Where a path leads, seen from a module; `None` when it leads out of the crate.
fn resolve(path: &str, from: &Module, modules: &BTreeSet<Module>) -> Option<(Module, String)> {
    let is_program = matches!(
        from.first().map(String::as_str),
        Some("main" | "steer" | "views")
    );
    let here = if is_program {
        Module::new()
    } else {
        from.clone()
    };
    let first = path.split("::").next()?.trim();
    let mut at = match first {
        "crate" | "pytf" => Module::new(),
        "super" | "self" => from.clone(),
        child if modules.contains(&[here.clone(), vec![child.to_owned()]].concat()) => here,
        _ => return None,
    };
    for part in path.split("::").map(str::trim) {
        match part {
            "crate" | "pytf" | "self" => {}
            "super" => drop(at.pop()),
            part => at.push(part.to_owned()),
        }
    }
    let whole = at.join("::");
    while !modules.contains(&at) && !at.is_empty() {
        at.pop();
    }
    Some((at, whole))
}

fn graph() -> Graph {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&root, &mut found);
    let (mut sources, mut for_tests) = (BTreeMap::new(), BTreeSet::new());
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        let module = module(path.strip_prefix(&root).unwrap());
        let mut code = code(&text);
        for name in without_tests(&mut code) {
            for_tests.insert([module.clone(), vec![name]].concat());
        }
        sources.insert(module, code);
    }
    sources.retain(|module, _| !for_tests.contains(module));
    let modules: BTreeSet<Module> = sources.keys().cloned().collect();
    let mut graph = Graph::new();
    for (from, code) in &sources {
        let uses = graph.entry(from.clone()).or_default();
        for path in paths(code) {
            if let Some((to, whole)) = resolve(&path, from, &modules)
                && to != *from
                && !to.is_empty()
            {
                uses.entry(to).or_default().insert(whole);
            }
        }
    }
    graph
}

/// The circles of a graph: sets of nodes each of which leads to each other.
fn circles<N: Ord + Clone>(graph: &BTreeMap<N, BTreeSet<N>>) -> Vec<BTreeSet<N>> {
    let reach = |from: &N| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(node) = next.pop() {
            for to in graph.get(&node).into_iter().flatten() {
                if seen.insert(to.clone()) {
                    next.push(to.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&N, BTreeSet<N>> = graph.keys().map(|node| (node, reach(node))).collect();
    let mut circles = BTreeSet::new();
    for (node, from_here) in &reached {
        let is_back = |to: &&N| reached.get(*to).is_some_and(|from| from.contains(*node));
        let circle: BTreeSet<N> = from_here.iter().filter(is_back).cloned().collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

/// What the folders at one level use of each other; `at` is the folder above them.
fn rooms(graph: &Graph, at: &[String]) -> BTreeMap<String, BTreeSet<String>> {
    let room = |module: &Module| module.strip_prefix(at)?.first().cloned();
    let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, uses) in graph {
        let Some(from) = room(from) else { continue };
        let all = rooms.entry(from.clone()).or_default();
        let used = uses.keys().filter_map(room);
        all.extend(used.filter(|to| *to != from));
    }
    rooms
}

/// The arrows in docs/architecture.md.
fn drawn() -> BTreeMap<String, BTreeSet<String>> {
    let (_, picture) = ARCHITECTURE
        .split_once("Dependencies point one way")
        .unwrap();
    let picture = picture.split("```").nth(1).unwrap();
    let mut arrows = BTreeMap::new();
    for part in picture.lines().flat_map(|line| line.split("   ")) {
        if part.trim().is_empty() {
            continue;
        }
        let (from, to) = part.split_once('→').unwrap_or((part, ""));
        let to = to.split(',').map(|name| name.trim().to_owned());
        let to = to.filter(|name| !name.is_empty()).collect();
        assert!(
            arrows.insert(from.trim().to_owned(), to).is_none(),
            "{from} is drawn twice"
        );
    }
    arrows
}

#[test]
fn the_picture_of_the_dependencies_is_what_the_source_uses() {
    let mut used = rooms(&graph(), &[]);
    // They are the program together.
    let parts = [
        "add",
        "ask_hosts",
        "combine",
        "completions",
        "convert",
        "defined",
        "edit",
        "far_workdir",
        "on_hosts",
        "options",
        "spool",
        "steer",
        "views",
    ];
    let beside: Vec<_> = parts.iter().filter_map(|part| used.remove(*part)).collect();
    let main = used.get_mut("main").unwrap();
    main.extend(beside.into_iter().flatten());
    main.retain(|to| to != "main" && !parts.contains(&to.as_str()));
    assert!(used.len() >= 8, "the source was read: {used:?}");
    let drawn = drawn();
    for (from, to) in &used {
        let picture = drawn
            .get(from)
            .unwrap_or_else(|| panic!("{from} is not drawn"));
        for to in to {
            assert!(
                picture.contains(to),
                "docs/architecture.md does not draw {from} → {to}"
            );
        }
        for to in picture {
            assert!(
                used[from].contains(to),
                "docs/architecture.md draws {from} → {to}, which is not used"
            );
        }
    }
    for from in drawn.keys() {
        assert!(
            used.contains_key(from),
            "docs/architecture.md draws {from}, which is not there"
        );
    }
}

#[test]
fn no_folders_use_each_other_in_a_circle() {
    let graph = graph();
    let mut folders: BTreeSet<Module> = [Module::new()].into();
    for module in graph.keys() {
        folders.extend((1..module.len()).map(|n| module[..n].to_vec()));
    }
    for at in folders {
        let has_files = |name: &String| {
            let inside = [at.clone(), vec![name.clone()]].concat();
            graph
                .keys()
                .any(|module| module.len() > inside.len() && module.starts_with(&inside))
        };
        for circle in circles(&rooms(&graph, &at)) {
            // A circle of files alone is counted below.
            let n = circle.iter().filter(|name| has_files(name)).count();
            assert!(n == 0, "in {at:?} these use each other: {circle:?}");
        }
    }
}

#[test]
fn few_files_use_each_other_in_a_circle() {
    let graph = graph();
    let edges = graph
        .iter()
        .map(|(from, to)| (from.clone(), to.keys().cloned().collect()));
    let mut found = circles(&edges.collect());
    found.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
    let is_allowed = |(nth, circle): (usize, &BTreeSet<Module>)| {
        CIRCLES.get(nth).is_some_and(|&most| circle.len() <= most)
    };
    if found.iter().enumerate().all(is_allowed) {
        return;
    }
    let mut text = format!("the circles may have {CIRCLES:?} files, but there are:\n");
    for circle in &found {
        text += &format!("{} files:\n", circle.len());
        for from in circle {
            for (to, names) in graph[from].iter().filter(|(to, _)| circle.contains(*to)) {
                text += &format!(
                    "    {} uses {}: {names:?}\n",
                    from.join("::"),
                    to.join("::")
                );
            }
        }
    }
    panic!("{text}");
}

/// The order in which `src/workdir/mod.rs` says that it is to be read.
#[test]
fn the_workdir_reads_from_the_ground_up() {
    let block = WORKDIR.split("//! ```").nth(3).unwrap();
    let names = block.lines().filter_map(|line| line.strip_prefix("//! "));
    let names = names.flat_map(|line| line.split("   ").next().unwrap().split(", "));
    let order: Vec<&str> = names.filter(|name| !name.trim().is_empty()).collect();
    let used = rooms(&graph(), &["workdir".to_owned()]);
    let in_order: BTreeSet<&str> = order.iter().copied().collect();
    let there: BTreeSet<&str> = used.keys().map(String::as_str).collect();
    assert_eq!(
        in_order, there,
        "src/workdir/mod.rs names other modules than there are"
    );
    for (from, to) in &used {
        let at = |name: &str| order.iter().position(|there| *there == name);
        for to in to {
            assert!(
                at(to) < at(from),
                "workdir::{from} uses workdir::{to}, which is named after it"
            );
        }
    }
}

#[test]
fn paths_are_found_in_use_trees_and_in_code_and_nowhere_else() {
    let text = r##"
        //! crate::comment
        pub(crate) use crate::a::{self, b::{C, D as E}, f};
        use super::g;
        #[cfg(test)]
        use crate::tests;
        pub(in crate::seen) fn h<'a>() -> char { let _ = "use crate::string;"; crate::i::j(); x.super::k; '"' }
        #[cfg(test)]
        mod tests { use crate::l; }
        const R: &str = r#"crate::raw"#; fn m() -> crate::n::O { 'x' }
        "##;
    let mut code = code(text);
    assert!(without_tests(&mut code).is_empty());
    let found = paths(&code);
    let found: Vec<&str> = found
        .iter()
        .map(String::as_str)
        .filter(|path| path.starts_with("crate") || path.starts_with("super"))
        .collect();
    let expected = [
        "crate::a::self",
        "crate::a::b::C",
        "crate::a::b::D",
        "crate::a::f",
        "super::g",
        "crate::i::j",
        "crate::n::O",
    ];
    assert_eq!(found, expected);
}
