//! Accepted and rejected queries as data: `tests/cases/logql_syntax.txt`, and their forms over
//! several lines: `tests/cases/logql_format.txt`. `UPDATE_EXPECT=1` writes what is.
//!
//! ```text
//! > query, possibly over
//! > several lines
//! = how it is printed          or
//! ! why it is refused          or, in the other file,
//! | each line of its long form
//! ```

use std::fmt::Write as _;

use query::logql::format::format_query;
use query::logql::parse;

/// Reads the file, answers each query anew, and compares with what stands there.
#[track_caller]
fn check(file: &str, answer: fn(&str) -> String) {
    let path = format!("{}/tests/cases/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let mut fresh = String::new();
    let mut query: Vec<&str> = Vec::new();
    let finish = |query: &mut Vec<&str>, fresh: &mut String| {
        if !query.is_empty() {
            let _ = writeln!(fresh, "{}", answer(&query.join("\n")));
            query.clear();
        }
    };
    for line in text.lines() {
        if let Some(part) = line.strip_prefix('>') {
            query.push(part.strip_prefix(' ').unwrap_or(part));
            let _ = writeln!(fresh, "{line}");
            continue;
        }
        let answered = line.starts_with(['=', '!', '|']);
        if !query.is_empty() {
            finish(&mut query, &mut fresh);
        }
        if !answered {
            let _ = writeln!(fresh, "{line}");
        }
    }
    finish(&mut query, &mut fresh);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, fresh).unwrap_or_else(|e| panic!("{path}: {e}"));
        return;
    }
    for (at, (old, new)) in text.lines().zip(fresh.lines()).enumerate() {
        assert_eq!(old, new, "{file}:{}", at + 1);
    }
    assert_eq!(text, fresh, "{file}");
}

#[test]
fn accepted_and_rejected_queries_are_as_recorded() {
    check("logql_syntax.txt", |query| match parse(query) {
        Ok(expr) => format!("= {expr}"),
        Err(error) => format!("! {error}"),
    });
}

#[test]
fn long_forms_are_as_recorded() {
    check("logql_format.txt", |query| match format_query(query) {
        Ok(pretty) => {
            let lines = pretty.lines().map(|line| format!("| {line}"));
            lines.collect::<Vec<_>>().join("\n")
        }
        Err(error) => format!("! {error}"),
    });
}

#[test]
fn there_are_at_least_250_recorded_queries() {
    let path = format!(
        "{}/tests/cases/logql_syntax.txt",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(path).unwrap();
    let count = text.lines().filter(|l| l.starts_with(['=', '!'])).count();
    assert!(count >= 250, "{count}");
}
