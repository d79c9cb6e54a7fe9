//! ARCHITECTURE.md names things; each of them must exist. Back-ticked words are read so: with a
//! slash or a file ending, a path; `a::b::c`, a path of Rust names whose last parts must be defined
//! in the crate `a`; anything else is prose.

use std::path::Path;

use regex::Regex;

use super::Source;

/// Back-ticked names that do not exist, and workspace members that are not mentioned.
pub(super) fn check(text: &str, root: &Path, sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for word in backticked(line) {
            let known = if is_path(word) {
                root.join(word).exists()
            } else if word.contains("::") {
                is_defined(word, sources)
            } else {
                true
            };
            if !known {
                let line = at + 1;
                complaints.push(format!("ARCHITECTURE.md:{line}: `{word}` does not exist"));
            }
        }
    }
    for member in members(sources) {
        if !text.contains(&format!("`{member}/`")) {
            complaints.push(format!("ARCHITECTURE.md: does not mention `{member}/`"));
        }
    }
    complaints
}

fn backticked(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn is_path(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let ending = [".rs", ".md", ".toml", ".py"]
        .iter()
        .any(|ending| word.ends_with(ending));
    let folder = word.contains('/') && !word.starts_with('/');
    word.chars().all(plain) && (ending || folder)
}

/// Whether every part after the crate is defined somewhere in the crate.
fn is_defined(word: &str, sources: &[Source]) -> bool {
    let mut parts = word.trim_end_matches("()").split("::");
    let Some(crate_name) = parts.next() else {
        return false;
    };
    let folder = |path: &str| {
        let path = path.strip_prefix("libs/").unwrap_or(path);
        path.split('/').next() == Some(crate_name)
    };
    let own: Vec<&Source> = sources
        .iter()
        .filter(|source| folder(&source.path))
        .collect();
    parts.all(|part| own.iter().any(|source| defines(source, part)))
}

fn defines(source: &Source, name: &str) -> bool {
    let name = regex::escape(name);
    let definition = format!(
        r"(?m)\b(fn|struct|enum|trait|type|const|mod|macro_rules!)\s+{name}\b|^\s+{name}[,({{ ]|^\s+(pub )?{name}: "
    );
    Regex::new(&definition).is_ok_and(|regex| regex.is_match(&source.text))
}

/// Folders with a Rust crate in them.
fn members(sources: &[Source]) -> Vec<String> {
    let mut members: Vec<String> = sources
        .iter()
        .filter_map(|source| source.path.split_once("/src/"))
        .map(|(member, _)| member.to_owned())
        .collect();
    members.dedup();
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(text: &str) -> Vec<String> {
        let sources = [Source {
            path: "libs/model/src/lib.rs".to_owned(),
            text: "pub struct Labels;\nimpl Labels {\n    pub fn get() {}\n}\n".to_owned(),
        }];
        check(text, &crate::tidy::root(), &sources)
    }

    #[test]
    fn names_that_exist_are_no_matter() {
        let text =
            "`libs/model/` has `model::Labels::get`; see `xtask/src/main.rs`, `other words`.";
        assert!(complaints(text).is_empty());
    }

    #[test]
    fn a_member_that_is_not_mentioned_is_named() {
        assert_eq!(
            complaints(""),
            ["ARCHITECTURE.md: does not mention `libs/model/`"]
        );
    }

    #[test]
    fn names_that_do_not_exist_are_given_with_their_line() {
        let found = complaints("x\n`model::Labels::gone` `src/gone.rs`");
        assert_eq!(
            found[0],
            "ARCHITECTURE.md:2: `model::Labels::gone` does not exist"
        );
        assert_eq!(found[1], "ARCHITECTURE.md:2: `src/gone.rs` does not exist");
    }
}
