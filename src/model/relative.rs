//! Paths below the folder in which a run is started: what is copied to hosts, and back.

/// The same path without what says nothing (`./a//b/` → `a/b`); `.` is the folder itself. The
/// error is a sentence.
pub fn relative(text: &str) -> Result<String, String> {
    let bad = |why: &str| {
        let text = text.escape_debug();
        Err(format!(
            "'{text}' {why}: name a path below the folder in which pytf is started"
        ))
    };
    if text.is_empty() {
        return Err("a path is empty".to_owned());
    }
    if text.starts_with('/') || text == "~" || text.starts_with("~/") {
        return bad("is an absolute path");
    }
    if text.contains(char::is_control) {
        return bad("has a control character");
    }
    let parts = text.split('/').filter(|part| !["", "."].contains(part));
    let parts: Vec<_> = parts.collect();
    if parts.contains(&"..") {
        return bad("leads out of it by '..'");
    }
    if parts.is_empty() {
        return Ok(".".to_owned());
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_folder() {
        for (text, path) in [
            ("a", "a"),
            ("./a//b/", "a/b"),
            (".", "."),
            ("..a/b..", "..a/b.."),
        ] {
            assert_eq!(relative(text).as_deref(), Ok(path));
        }
        for (text, part) in [
            ("", "empty"),
            ("/etc/passwd", "absolute"),
            ("~/x", "absolute"),
            ("../a", "'..'"),
            ("a/../../b", "'..'"),
            ("a\nb", "control"),
        ] {
            let why = relative(text).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}
