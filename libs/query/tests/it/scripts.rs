//! The query test scripts of `tests/cases/logqltest`, run by the engine over records in memory.

use std::path::PathBuf;

use testkit::querytest::{Library, run};

/// What the project asks of itself: cases over all areas.
const CASES_MIN: usize = 900;

#[test]
fn every_script_gives_what_it_expects() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases/logqltest");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut passed = 0;
    let mut failures = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let report = run(&text, &mut Library::new());
        passed += report.passed;
        let name = file.file_name().unwrap().to_string_lossy();
        failures.extend(report.failures.iter().map(|f| format!("{name}:{f}")));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(
        passed >= CASES_MIN && files.len() == 9,
        "{passed} in {files:?}"
    );
}
