//! The words of the documents, the help and the messages: the field's terms, in sentences
//! that are understood at the first reading.
//!
//! What may not come back is listed here. Documents are read without their code, sources
//! for the text of their string literals, the command line also for the comments that clap
//! shows as help.

use std::fs;
use std::path::{Path, PathBuf};

/// Pictures and turns of phrase, each with the words to use. `*` stands for any word.
const AVOID: &[(&str, &str)] = &[
    ("desk", "the name of the part"),
    ("patience", "how long is waited"),
    ("shrug", "ignore"),
    ("hungry", "starved"),
    ("roll", "membership"),
    ("opinion", "health"),
    ("at home", "made for"),
    ("cried", "reported"),
    ("eat", "accept"),
    ("spokesman", "the process that reports"),
    ("sight", "observation"),
    ("remains", "what is left, by name"),
    ("trouble", "error, problem"),
    ("troubles", "errors, problems"),
    ("told", "was given, was asked, is shown"),
    ("tells", "reports, says, shows"),
    ("whoever", "the process, the user, the farmer that"),
    ("somebody", "another process, another user"),
    ("nobody", "no process, no farmer, no user"),
    ("how manieth", "n-th"),
    ("comes true", "is committed"),
    ("come true", "be committed"),
    ("came true", "was committed"),
    ("never happened", "is uncommitted"),
    ("in the hands of", "claimed by"),
    ("gone home", "shut down"),
    ("is none", "is not one, or: is ignored"),
    ("are none", "are not, or: are ignored"),
    ("one a line", "one per line"),
    ("one a node", "one per node"),
    ("one a slot", "one per slot"),
    ("process a node", "process per node"),
    ("processes a node", "processes per node"),
    ("line a task", "line per task"),
    ("task a line", "task per line"),
    ("event a line", "event per line"),
    ("journal a farmer", "journal per farmer"),
    ("threads a task", "threads per task"),
    ("tasks a second", "tasks per second"),
    ("leave --* away", "omit"),
    ("leave one away", "omit one"),
];

/// `X is no Y` is `X is not a Y`, but for these, and behind `there`.
const IS_NO: &[&str] = &["longer", "more", "less", "other", "later", "such", "use"];

/// Where a word is the name of a field or of a variable.
const NAMES: &[(&str, &str)] = &[("docs/pbs.md", "told")];

/// A text, and where it is.
struct Text {
    file: String,
    line: usize,
    words: String,
}

fn files(folder: &Path, end: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, end, found);
        } else if path.extension().is_some_and(|there| there == end) {
            found.push(path);
        }
    }
}

/// The paragraphs of a document, without its code.
fn paragraphs(document: &str) -> Vec<(usize, String)> {
    let (mut out, mut is_code, mut text, mut from) = (Vec::new(), false, String::new(), 1);
    for (n, line) in (1..).zip(document.lines().chain([""])) {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        if line.trim().is_empty() || is_code || line.starts_with("    ") {
            out.push((from, std::mem::take(&mut text)));
            from = n + 1;
            continue;
        }
        text += line;
        text.push(' ');
    }
    out
}

/// The string literals of a source file, without those of its tests, and the comments that
/// are help.
fn literals(source: &str, has_help: bool) -> Vec<(usize, String)> {
    let source = source.split("#[cfg(test)]\nmod ").next().unwrap();
    let mut out: Vec<(usize, String)> = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (n, line) in (1..).zip(source.lines()) {
        if open.is_none() {
            let code = line.trim_start();
            if let Some(help) = code.strip_prefix("///").filter(|_| has_help) {
                match out.last_mut().filter(|(at, _)| at + 1 == n) {
                    Some((at, text)) => (*at, *text) = (n, format!("{text}{help}")),
                    None => out.push((n, help.to_owned())),
                }
                continue;
            }
            if code.starts_with("//") {
                continue;
            }
        }
        let mut chars = line.trim_start().chars().peekable();
        while let Some(c) = chars.next() {
            match (&mut open, c) {
                (None, '\'') if chars.peek() == Some(&'"') => drop(chars.next()),
                (None, '/') if chars.peek() == Some(&'/') => break,
                (None, '"') => open = Some((n, String::new())),
                (None, _) => {}
                (Some(_), '"') => out.extend(open.take()),
                (Some((_, text)), '\\') => text.extend(chars.next().filter(|&c| c != 'n')),
                (Some((_, text)), c) => text.push(c),
            }
        }
    }
    out
}

fn texts() -> Vec<Text> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = vec![root.join("README.md")];
    files(&root.join("docs"), "md", &mut documents);
    let mut sources = Vec::new();
    files(&root.join("src"), "rs", &mut sources);
    sources.retain(|path| !path.ends_with("tests.rs") && !path.ends_with("synthetic.rs"));
    let name = |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
    let mut texts = Vec::new();
    for path in documents {
        for (line, text) in paragraphs(&fs::read_to_string(&path).unwrap()) {
            let file = name(&path);
            texts.push(Text {
                file,
                line,
                words: text,
            });
        }
    }
    for path in sources {
        let file = name(&path);
        let has_help = file.starts_with("src/cli/");
        for (line, text) in literals(&fs::read_to_string(&path).unwrap(), has_help) {
            // One word is a name.
            if text.contains(' ') {
                let file = file.clone();
                texts.push(Text {
                    file,
                    line,
                    words: text,
                });
            }
        }
    }
    texts
}

/// The words of a text, in lower case, with `|` where a sentence ends; `code` and what is put
/// in place of `{this}` are not among them.
fn words(text: &str) -> Vec<String> {
    let (mut prose, mut is_code, mut depth) = (String::new(), false, 0_u32);
    for c in text.replace("how-manieth", "how manieth").chars() {
        match c {
            '`' => is_code = !is_code,
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ if is_code || depth > 0 => {}
            '.' | ';' | ':' | '?' | '|' => prose += " | ",
            '/' | '…' | '=' => prose.push(' '),
            c => prose.extend(c.to_lowercase()),
        }
    }
    let is_edge = |c: char| !c.is_alphanumeric() && c != '-' && c != '|';
    let words = prose
        .split_whitespace()
        .map(|word| word.trim_matches(is_edge));
    words
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Where the phrase begins, among the words.
fn find(words: &[String], phrase: &str) -> Option<usize> {
    let wanted: Vec<&str> = phrase.split(' ').collect();
    let fits = |(word, wanted): (&String, &&str)| match wanted.strip_suffix('*') {
        Some(begin) => word.starts_with(begin),
        None => word == wanted,
    };
    let at = |part: &[String]| part.iter().zip(&wanted).all(fits);
    words.windows(wanted.len()).position(at)
}

/// What is wrong with a text.
fn fault(words: &[String]) -> Option<String> {
    for (phrase, better) in AVOID {
        if find(words, phrase).is_some() {
            return Some(format!("'{phrase}': write {better}"));
        }
    }
    let is_no = |at: &usize| {
        let (before, part) = (at.checked_sub(1).map(|at| &*words[at]), &words[*at..]);
        part[0] == "is" && part[1] == "no" && before != Some("there") && !IS_NO.contains(&&*part[2])
    };
    let at = (0..words.len().saturating_sub(2)).find(is_no)?;
    let word = &words[at + 2];
    Some(format!("'is no {word}': write is not a {word}"))
}

#[test]
fn texts_use_the_terms_of_the_field_and_plain_sentences() {
    let texts = texts();
    assert!(texts.len() > 1000, "{} texts were read", texts.len());
    let mut wrong = String::new();
    for Text {
        file,
        line,
        words: text,
    } in &texts
    {
        let mut words = words(text);
        words.retain(|word| !NAMES.contains(&(&**file, &**word)));
        if let Some(fault) = fault(&words) {
            wrong += &format!("{file}:{line}: {fault}\n    {}\n", text.trim());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_phrase_that_must_not_come_back_is_found() {
    let fault = |text: &str| fault(&words(text));
    for text in [
        "the roll, told to whoever asks",
        "blank lines are none.",
        "this is no workdir",
        "one process a node",
        "there is one; leave --lock away",
    ] {
        assert!(fault(text).is_some(), "{text}");
    }
    for text in [
        "there is no workdir",
        "it is no longer there",
        "the variable `told`",
        "a node",
    ] {
        assert_eq!(fault(text), None, "{text}");
    }
    let source = "/// help of it\nfn a() { let b = \"a \\\"b\\\" \\\n   c\"; } // \"no\"\n";
    let found = literals(source, true);
    assert_eq!(
        found,
        [(1, " help of it".to_owned()), (2, "a \"b\" c".to_owned())]
    );
}
