//! Tables: aligned for people, with commas or tabs for programs.

use std::io::{self, Write};

use console::measure_text_width;
use serde_json::Value;

use super::style::{OutputStyle, Paint};

/// How many blanks are between two columns.
const GAP: usize = 2;

/// Writes rows with aligned columns, each line cut to the width. The first row
/// is the header. The last column takes what is left.
pub fn text(out: &mut dyn Write, style: &OutputStyle, rows: &[Vec<String>]) -> io::Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| measure_text_width(cell))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for (number, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let pad = width.saturating_sub(measure_text_width(cell)) + GAP;
            // Numbers are aligned to the right.
            let is_number = cell.starts_with(|c: char| c.is_ascii_digit());
            let is_head = number == 0
                && rows.get(1).is_some_and(|below| {
                    let place = row.iter().position(|other| std::ptr::eq(other, cell));
                    let below = place.and_then(|place| below.get(place));
                    below.is_some_and(|cell| cell.starts_with(|c: char| c.is_ascii_digit()))
                });
            if is_number || is_head {
                line += &" ".repeat(pad - GAP);
                line += cell;
                line += &" ".repeat(GAP);
            } else {
                line += cell;
                line += &" ".repeat(pad);
            }
        }
        let line = style.clip(line.trim_end(), style.width);
        if number == 0 {
            writeln!(out, "{}", style.paint(Paint::Faint, &line))?;
        } else {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

/// The members of an object as the cells of a row, in the order of `columns`.
pub fn cells(object: &Value, columns: &[&str]) -> Vec<String> {
    let cell = |column: &&str| match &object[*column] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            format!("{:.6}", number.as_f64().unwrap_or_default())
        }
        other => other.to_string(),
    };
    columns.iter().map(cell).collect()
}

/// Writes one row of values with commas between (RFC 4180, with a line feed). What a
/// spreadsheet would take for a formula begins with an apostrophe. The crate csv writes the same
/// bytes, apart from that apostrophe: six lines fewer here for two more crates and 15 KiB.
pub fn csv<S: AsRef<str>>(out: &mut dyn Write, row: &[S]) -> io::Result<()> {
    for (number, cell) in row.iter().map(AsRef::as_ref).enumerate() {
        if number > 0 {
            out.write_all(b",")?;
        }
        let is_formula = cell.starts_with(['=', '+', '-', '@']) && cell.parse::<f64>().is_err();
        let mark = if is_formula { "'" } else { "" };
        if cell.contains(['"', ',', '\n', '\r']) {
            write!(out, "\"{mark}{}\"", cell.replace('"', "\"\""))?;
        } else {
            write!(out, "{mark}{cell}")?;
        }
    }
    out.write_all(b"\n")
}

/// Writes one row of values with tabs between. What went through
/// [`escape`](super::escape::escape) has none inside.
pub fn tsv<S: AsRef<str>>(out: &mut dyn Write, row: &[S]) -> io::Result<()> {
    let row: Vec<&str> = row.iter().map(AsRef::as_ref).collect();
    writeln!(out, "{}", row.join("\t"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter()
            .map(|row| row.iter().map(|cell| (*cell).to_owned()).collect())
            .collect()
    }

    #[test]
    fn columns_are_aligned_and_lines_are_cut() {
        let rows = rows(&[
            &["task", "outcome", "command"],
            &["7", "exit status 3", "a"],
            &["1200", "time limit", "b"],
        ]);
        let mut out = Vec::new();
        text(&mut out, &OutputStyle::PLAIN, &rows).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "task  outcome        command\n   7  exit status 3  a\n1200  time limit     b\n"
        );
        let narrow = OutputStyle {
            width: 40,
            ..OutputStyle::PLAIN
        };
        let long = vec![vec!["x".repeat(100)], vec!["ü".repeat(100)]];
        let mut out = Vec::new();
        text(&mut out, &narrow, &long).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(
            out.lines().all(|line| measure_text_width(line) == 40),
            "{out}"
        );
    }

    #[test]
    fn no_cell_is_a_formula() {
        let row = ["=1+1", "-15", "-x,y", "@a", "+1.5", "a=b"].map(str::to_owned);
        let mut out = Vec::new();
        csv(&mut out, &row).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out, "'=1+1,-15,\"'-x,y\",'@a,+1.5,a=b\n");
    }

    #[test]
    fn commas_and_quotes_are_quoted() {
        let row = ["a,b", "say \"x\"", "plain", ""].map(str::to_owned);
        let mut out = Vec::new();
        csv(&mut out, &row).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\"a,b\",\"say \"\"x\"\"\",plain,\n"
        );
    }
}
