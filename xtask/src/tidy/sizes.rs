//! Sizes and names of Rust files and functions. Counts rely on rustfmt's layout: a function's
//! closing brace stands under the start of its first line.

use super::Source;

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// What breaks the limits.
pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        let path = &source.path;
        if path.ends_with("/mod.rs") {
            complaints.push(format!("{path}: name it after its folder, not mod.rs"));
        }
        if source.text.contains(concat!("#[", "ignore")) {
            complaints.push(format!("{path}: an ignored test proves nothing"));
        }
        if source.text.contains(concat!("fn ", "test_")) {
            complaints.push(format!(
                "{path}: a test's name is a sentence, without test_"
            ));
        }
        if is_test_file(path) {
            continue;
        }
        let lines = product_lines(&source.text);
        if lines.len() > FILE_LINES_MAX {
            let count = lines.len();
            complaints.push(format!(
                "{path}: {count} lines without tests, at most {FILE_LINES_MAX}"
            ));
        }
        complaints.extend(long_functions(path, &lines));
    }
    complaints
}

fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/examples/")
}

/// The lines before the in-file tests.
fn product_lines(text: &str) -> Vec<&str> {
    text.lines()
        .take_while(|line| *line != "mod tests {")
        .collect()
}

fn long_functions(path: &str, lines: &[&str]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        if !starts_function(line.trim_start()) {
            continue;
        }
        let end = format!("{}}}", " ".repeat(indent));
        let length = lines[at..]
            .iter()
            .position(|later| *later == end)
            .map_or(1, |n| n + 1);
        let body = &lines[at..at + length];
        let excused = body
            .iter()
            .any(|line| line.contains("// tidy: long because"));
        // A signature without a body meets the brace of the block around it.
        let is_declaration = body
            .iter()
            .take_while(|l| !l.ends_with('{'))
            .any(|l| l.ends_with(';'));
        if length > FUNCTION_LINES_MAX && !excused && !is_declaration {
            let line = at + 1;
            complaints.push(format!(
                "{path}:{line}: a function of {length} lines, at most {FUNCTION_LINES_MAX}"
            ));
        }
    }
    complaints
}

fn starts_function(line: &str) -> bool {
    let mut rest = line;
    for prefix in ["pub(crate) ", "pub(super) ", "pub ", "const ", "async "] {
        rest = rest.strip_prefix(prefix).unwrap_or(rest);
    }
    rest.starts_with("fn ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: String) -> Vec<Source> {
        let path = "libs/x/src/x.rs".to_owned();
        vec![Source { path, text }]
    }

    #[test]
    fn long_files_and_functions_are_named_with_their_length() {
        let function = format!("fn f() {{\n{}}}\n", "    x();\n".repeat(70));
        assert_eq!(
            check(&source(function.clone())),
            ["libs/x/src/x.rs:1: a function of 72 lines, at most 70"]
        );
        let excused = function.replacen("x();", "// tidy: long because flat", 1);
        assert!(check(&source(excused)).is_empty());
        let file = "// line\n".repeat(601);
        assert_eq!(check(&source(file)).len(), 1);
    }

    #[test]
    fn tests_do_not_count_as_lines_of_a_file() {
        let file = format!("// a\nmod tests {{\n{}}}\n", "    // b\n".repeat(900));
        assert!(check(&source(file)).is_empty());
    }
}
