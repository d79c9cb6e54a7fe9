//! Rules of STYLE.md that a program can check. Each check is a pure function from the tree's text to
//! a list of complaints; the tests below run them all, so `cargo test` is enough.

mod architecture;
mod deps;
mod sizes;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

/// A file of the tree: path relative to the root, and text.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Runs every check and prints what is wrong.
#[expect(clippy::print_stdout, reason = "a command's output")]
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let complaints = complaints()?;
    for complaint in &complaints {
        println!("{complaint}");
    }
    Ok(match complaints.len() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn complaints() -> anyhow::Result<Vec<String>> {
    let root = root();
    let sources = rust_sources(&root)?;
    let architecture = std::fs::read_to_string(root.join("ARCHITECTURE.md"))?;
    let mut complaints = deps::check(&deps::edges(&root)?);
    complaints.extend(sizes::check(&sources));
    complaints.extend(architecture::check(&architecture, &root, &sources));
    Ok(complaints)
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

fn rust_sources(root: &Path) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for folder in [
        "libs",
        "distributor",
        "ingester",
        "querier",
        "server",
        "xtask",
    ] {
        collect(root, &root.join(folder), &mut sources)?;
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

fn collect(root: &Path, folder: &Path, sources: &mut Vec<Source>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path)?;
            let path = path.strip_prefix(root)?.display().to_string();
            sources.push(Source { path, text });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_tidy() {
        let complaints = super::complaints().unwrap();
        assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    }
}
