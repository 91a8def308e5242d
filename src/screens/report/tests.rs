//! The page shows what the workdir contains, and none of it can run as a script.

use std::fs;

use super::*;
use crate::history::synthetic::{end, header, start, workdir};
use crate::model::outcome::Outcome;
use crate::model::record::{LogAt, Record};

/// A time as a farmer records it.
const T: u64 = 1_800_000_000_000_000;

#[test]
fn nothing_that_a_task_says_is_markup() {
    let evil =
        "</script><script>alert(1)</script>{{data}}<img src=x onerror=alert(2)>&amp;\u{1b}[2J";
    let dir = workdir(&[evil, "true"]);
    let mut records = vec![header("<b>node", T, 1), start(1, 1, 0, T + 9_000_000)];
    let Record::End(mut ended) = end(0, 1, 0, T, 5_000_000, Outcome::Exit(3)) else {
        unreachable!("it is an end");
    };
    ended.log = Some(LogAt::whole("logs/log_0".into()));
    records.push(Record::End(ended));
    dir.journal("x.0.1.1", &records);
    dir.file("logs/log_0", format!("{evil}\n").as_bytes());
    dir.file("failed", format!("0 {evil}\n").as_bytes());
    let page = page(&Run::open(dir.path()).unwrap()).unwrap();
    assert!(
        page.contains("from 2027-01-15 08:00:00 UTC to "),
        "no date of the run"
    );
    assert!(
        !page.contains("alert(1)</script>") && !page.contains("<img") && !page.contains("<b>node")
    );
    assert!(!page.contains('\u{1b}'));
    // In the list of failures, its log, and its name among the longest.
    assert_eq!(
        page.matches("&lt;/script&gt;&lt;script&gt;alert(1)")
            .count(),
        3
    );
    assert_eq!(page.matches("</script>").count(), 2);
    let elements = page.matches("{{data}}").count();
    assert_eq!(elements, 3, "what is put in is not a template");
}

/// The data of a page.
fn data_in(page: &str) -> serde_json::Value {
    let (_, data) = page.split_once("id=\"data\">").unwrap();
    serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn an_empty_run_has_a_page() {
    let dir = workdir(&[]);
    let page = page(&Run::open(dir.path()).unwrap()).unwrap();
    assert!(page.contains("No task has failed."));
    assert_eq!(data_in(&page)["status"]["tasks"]["total"], 0);
}

/// A report and `pytf status` never differ about a run: they have one document.
#[test]
fn the_document_of_status_is_in_the_page_as_it_is() {
    let dir = workdir(&["true", "false"]);
    let failed = end(1, 1, 0, T + 1_000_000, 5_000_000, Outcome::Exit(1));
    dir.journal("x.0.1.1", &[header("n<1", T, 1), failed]);
    dir.file("failed", b"1 false\n");
    let run = Run::open(dir.path()).unwrap();
    let data = data_in(&page(&run).unwrap());
    // Written and read once, as in the page: a number may differ in its last bit afterwards.
    let status = crate::screens::status::json::status(&run).to_string();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(data["status"], status);
    assert_eq!(data.as_object().unwrap().len(), 2, "beside the charts");
}

#[test]
fn a_page_is_whole_or_not_there() {
    let dir = workdir(&["true"]);
    let path = dir.path().join("report.html");
    write_file(dir.path(), &path).unwrap();
    assert!(fs::read_to_string(&path).unwrap().ends_with("</html>\n"));
    let nowhere = dir.path().join("no/such/folder.html");
    assert!(write_file(dir.path(), &nowhere).is_err());
    let names = fs::read_dir(dir.path()).unwrap();
    let hidden = |name: &std::ffi::OsString| name.to_string_lossy().starts_with('.');
    assert!(!names.map(|e| e.unwrap().file_name()).any(|n| hidden(&n)));
}
