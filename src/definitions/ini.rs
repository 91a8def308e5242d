//! INI files as Python's `configparser` reads them, with PyTaskFarmer's settings: the case of keys
//! counts, `DEFAULT` holds for all sections, a line that is indented more continues a value, and
//! `%(name)s` is another value of the section.
//!
//! Own code, since crates for INI read other languages: configparser has no interpolation, and
//! takes `#` in a value for a comment; rust-ini takes out quotes and backslashes, and forgets in
//! which line a key was. `tests/black_box/runners.rs` compares with Python itself.

/// What is wrong with a file. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct IniError {
    /// The line.
    pub line: u64,
    /// What is wrong, and what to do.
    pub what: String,
}

/// A value as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Raw {
    key: String,
    line: u64,
    lines: Vec<String>,
}

impl Raw {
    fn text(&self) -> String {
        self.lines.join("\n").trim_end().to_owned()
    }
}

/// A section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// The line of its name.
    pub line: u64,
    /// Its keys, and then those of `DEFAULT` that it has not.
    values: Vec<Raw>,
}

/// A key of a section with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its value, with what `%` stands for put in.
    pub value: String,
    /// Its line.
    pub line: u64,
}

/// The section whose keys all others have.
const DEFAULT: &str = "DEFAULT";
/// How deep values may refer to each other.
const DEEPEST: usize = 10;

/// The sections of a file, without `DEFAULT`.
pub fn parse(text: &str) -> Result<Vec<Section>, IniError> {
    let mut reader = Reader::default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    for (text, line) in text.split('\n').zip(1..) {
        let taken = reader.take(text, line);
        taken.map_err(|what| IniError { line, what })?;
    }
    let Reader {
        mut sections,
        defaults,
        ..
    } = reader;
    for section in &mut sections {
        for default in &defaults.values {
            if !section.has(&default.key) {
                section.values.push(default.clone());
            }
        }
    }
    Ok(sections)
}

/// Where the next line belongs.
#[derive(Clone, Copy, Default)]
enum Current {
    /// No section has begun.
    #[default]
    None,
    /// `DEFAULT`.
    Defaults,
    /// A section, by its number.
    Section(usize),
}

#[derive(Default)]
struct Reader {
    sections: Vec<Section>,
    defaults: Section,
    current: Current,
    /// How far the last key or section is indented.
    indent: usize,
    /// Whether a value may go on in the next line.
    in_value: bool,
}

impl Reader {
    fn section(&mut self) -> Option<&mut Section> {
        match self.current {
            Current::None => None,
            Current::Defaults => Some(&mut self.defaults),
            Current::Section(at) => self.sections.get_mut(at),
        }
    }

    /// The value that may go on.
    fn open_value(&mut self) -> Option<&mut Raw> {
        let is_open = self.in_value;
        let section = self.section().filter(|_| is_open);
        section.and_then(|section| section.values.last_mut())
    }

    fn take(&mut self, text: &str, line: u64) -> Result<(), String> {
        let value = text.trim();
        if value.starts_with(['#', ';']) {
            return Ok(());
        }
        let here = text.chars().take_while(|c| c.is_whitespace()).count();
        let goes_on = value.is_empty() || here > self.indent;
        if let Some(raw) = self.open_value().filter(|_| goes_on) {
            raw.lines.push(value.to_owned());
            return Ok(());
        }
        if value.is_empty() {
            return Ok(());
        }
        (self.indent, self.in_value) = (here, false);
        match header(value) {
            Some(name) => self.begin(name, line),
            None => self.key(value, line),
        }
    }

    fn begin(&mut self, name: &str, line: u64) -> Result<(), String> {
        if name == DEFAULT {
            self.current = Current::Defaults;
            return Ok(());
        }
        if let Some(Section { line, .. }) = self.sections.iter().find(|other| other.name == name) {
            return Err(format!(
                "the section [{name}] is there twice, also in line {line}"
            ));
        }
        self.current = Current::Section(self.sections.len());
        self.sections.push(Section {
            name: name.to_owned(),
            line,
            values: Vec::new(),
        });
        Ok(())
    }

    fn key(&mut self, text: &str, line: u64) -> Result<(), String> {
        let neither = "this is neither [SECTION] nor KEY = VALUE";
        let (key, value) = text.split_once(['=', ':']).ok_or(neither)?;
        let (key, value) = (key.trim_end(), value.trim());
        let section = self.section().ok_or("no [SECTION] is above this line")?;
        if key.is_empty() {
            return Err("no key is before '='".to_owned());
        }
        if let Some(Raw { line, .. }) = section.values.iter().find(|other| other.key == key) {
            return Err(format!("'{key}' is there twice, also in line {line}"));
        }
        section.values.push(Raw {
            key: key.to_owned(),
            line,
            lines: vec![value.to_owned()],
        });
        self.in_value = true;
        Ok(())
    }
}

fn header(line: &str) -> Option<&str> {
    let rest = line.strip_prefix('[')?;
    let name = &rest[..rest.rfind(']')?];
    (!name.is_empty()).then_some(name)
}

impl Section {
    /// Whether it has this key.
    pub fn has(&self, key: &str) -> bool {
        self.values.iter().any(|raw| raw.key == key)
    }

    /// Its keys in the order of `configparser`.
    pub fn entries(&self) -> Result<Vec<Entry>, IniError> {
        let entry = |raw: &Raw| {
            Ok(Entry {
                key: raw.key.clone(),
                value: self.put_in(raw, &raw.text(), 1)?,
                line: raw.line,
            })
        };
        self.values.iter().map(entry).collect()
    }

    /// A text of the value of `of`, with what `%` stands for put in.
    fn put_in(&self, of: &Raw, text: &str, depth: usize) -> Result<String, IniError> {
        let (key, line) = (&of.key, of.line);
        let wrong = |what| Err(IniError { line, what });
        if depth > DEEPEST {
            return wrong(format!("the value of '{key}' refers to itself"));
        }
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once('%') {
            out += before;
            if let Some(after) = after.strip_prefix('%') {
                out.push('%');
                rest = after;
                continue;
            }
            let name = after
                .strip_prefix('(')
                .and_then(|after| after.split_once(')'));
            let Some((name, after)) = name
                .filter(|(name, _)| !name.is_empty())
                .and_then(|(name, after)| Some((name, after.strip_prefix('s')?)))
            else {
                return wrong(format!(
                    "in the value of '{key}' a '%' is neither '%%', which means '%', nor '%(KEY)s'"
                ));
            };
            let Some(raw) = self.values.iter().find(|raw| raw.key == name) else {
                return wrong(format!("'{key}' refers to '{name}', which is not there"));
            };
            let inner = raw.text();
            out += &if inner.contains('%') {
                self.put_in(of, &inner, depth + 1)?
            } else {
                inner
            };
            rest = after;
        }
        out += rest;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Sections = Vec<(String, Vec<(String, String)>)>;

    fn read(text: &str) -> Result<Sections, IniError> {
        parse(text)?
            .iter()
            .map(|section| {
                let entries = section.entries()?.into_iter();
                let entries = entries.map(|entry| (entry.key, entry.value));
                Ok((section.name.clone(), entries.collect()))
            })
            .collect()
    }

    #[test]
    fn sections_are_read_as_python_reads_them() {
        let text = "\u{feff}# of all\n[DEFAULT]\nimage = base\nroot: /data\n\n[a]\r\nImage= A # no comment\n\
                    image=a:b = c\nsetup = one\n   two\n\n   # left out\n   three\n; left out\n\
                    in = %(root)s/%%x\n[b ]\nlist =\n  x\n  y\n";
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            read(text).unwrap(),
            [
                (
                    "a".to_owned(),
                    vec![
                        pair("Image", "A # no comment"),
                        pair("image", "a:b = c"),
                        pair("setup", "one\ntwo\n\nthree"),
                        pair("in", "/data/%x"),
                        pair("root", "/data"),
                    ]
                ),
                (
                    "b ".to_owned(),
                    vec![
                        pair("list", "\nx\ny"),
                        pair("image", "base"),
                        pair("root", "/data"),
                    ]
                ),
            ]
        );
    }

    #[test]
    fn what_python_refuses_is_refused_with_its_line() {
        for (text, line, part) in [
            ("a = b", 1, "no [SECTION] is above"),
            ("[a]\nb = 1\n[a]", 3, "twice, also in line 1"),
            ("[a]\nb = 1\nb : 2", 3, "'b' is there twice, also in line 2"),
            ("[a]\nword", 2, "neither [SECTION] nor KEY = VALUE"),
            ("[a]\n= x", 2, "no key"),
            ("[a]\nb = 50%", 2, "a '%' is neither"),
            ("[a]\nb = %(c)d", 2, "a '%' is neither"),
            ("[a]\nb = %(c)s", 2, "refers to 'c', which is not there"),
            ("[a]\nb = %(b)s", 2, "refers to itself"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.line, line, "{text}");
            assert!(error.what.contains(part), "{text}: {}", error.what);
        }
    }

    /// What Python says of each text: the sections, or nothing where it refuses the text.
    fn by_python(texts: &[String]) -> Option<Vec<Option<Sections>>> {
        let script = "import configparser, json, sys
def read(text):
    cfg = configparser.ConfigParser()
    cfg.optionxform = str
    try:
        cfg.read_string(text)
        return [[name, [[key, cfg[name][key]] for key in cfg[name]]] for name in cfg.sections()]
    except configparser.Error:
        return None
print(json.dumps([read(text) for text in json.load(open(sys.argv[1]))]))";
        let file = tempfile::NamedTempFile::new().unwrap();
        serde_json::to_writer(&file, texts).unwrap();
        let mut python = std::process::Command::new("python3");
        let done = python.args(["-c", script]).arg(file.path()).output().ok()?;
        serde_json::from_slice(&done.stdout).ok()
    }

    #[test]
    fn generated_files_mean_what_they_mean_to_python() {
        let parts = [
            "[a]",
            "[b]",
            "[DEFAULT]",
            "[a]x",
            "[",
            "]",
            "k",
            "key",
            "K",
            "=",
            ":",
            " = ",
            "v",
            "%(k)s",
            "%%",
            "%",
            "# c",
            "; c",
            " ",
            "  ",
            "\t",
            "\n",
            "\n",
            "\n ",
            "\n\n",
            "\r\n",
            "k = v\n",
            "key: %(k)s\n",
            "[a]\nk=1\n",
            "=x",
        ];
        let mut random = fastrand::Rng::with_seed(7);
        let text = |_| {
            (0..random.usize(..12))
                .map(|_| parts[random.usize(..parts.len())])
                .collect()
        };
        let texts: Vec<String> = (0..3000).map(text).collect();
        let Some(theirs) = by_python(&texts) else {
            return;
        };
        assert!(
            theirs
                .iter()
                .flatten()
                .filter(|sections| !sections.is_empty())
                .count()
                > 100
        );
        for (text, theirs) in texts.iter().zip(theirs) {
            assert_eq!(read(text).ok(), theirs, "{text:?}");
        }
    }
}
