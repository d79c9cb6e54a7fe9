//! `cargo xtask querytest`: runs query test scripts against the library or a server.

mod http;
mod server;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use testkit::querytest::{self, Library, Target};

use self::server::Server;

const USAGE: &str = "cargo xtask querytest [--target lib|http://HOST:PORT] PATH...";

/// What is run against what.
struct Options {
    /// `None` is the library.
    url: Option<String>,
    paths: Vec<PathBuf>,
}

/// Runs the scripts, prints what failed, a table by file, and the counts. The exit code says
/// whether all passed.
#[expect(clippy::print_stdout, reason = "a command's output")]
pub(crate) fn run(args: &[String]) -> anyhow::Result<ExitCode> {
    let options = options(args)?;
    let files = files(&options.paths)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    let now = i64::try_from(now)?;
    let width = files.iter().map(|f| f.display().to_string().len()).max();
    let width = width.unwrap_or(0).max(4);
    let mut table = format!("{:width$}  {:>6}  {:>6}\n", "file", "passed", "failed");
    let (mut passed, mut failed) = (0, 0);
    for (at, file) in files.iter().enumerate() {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let mut target: Box<dyn Target> = match &options.url {
            None => Box::new(Library::new()),
            Some(url) => Box::new(Server::new(url, &format!("{now}-{at}"), now, &text)?),
        };
        let report = querytest::run(&text, target.as_mut());
        for failure in &report.failures {
            println!("{}:{failure}", file.display());
        }
        let name = file.display().to_string();
        let failures = report.failures.len();
        table.push_str(&format!(
            "{name:width$}  {:>6}  {failures:>6}\n",
            report.passed
        ));
        passed += report.passed;
        failed += failures;
    }
    print!("{table}");
    println!("{passed} passed, {failed} failed");
    Ok(match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn options(args: &[String]) -> anyhow::Result<Options> {
    let mut options = Options {
        url: None,
        paths: Vec::new(),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let target = match arg.strip_prefix("--target") {
            Some("") => Some(args.next().context(USAGE)?.as_str()),
            Some(value) => Some(value.strip_prefix('=').context(USAGE)?),
            None => None,
        };
        match target {
            Some("lib") => options.url = None,
            Some(url) if url.starts_with("http://") => options.url = Some(url.to_owned()),
            Some(other) => bail!("unknown target {other:?}: want lib or http://HOST:PORT"),
            None if arg.starts_with('-') => bail!("unknown option {arg}; {USAGE}"),
            None => options.paths.push(PathBuf::from(arg)),
        }
    }
    if options.paths.is_empty() {
        bail!("{USAGE}");
    }
    Ok(options)
}

/// The scripts under the paths, in order of name. A file that is named must be one.
fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = files.len();
            collect(path, &mut files)?;
            files[before..].sort();
            continue;
        }
        match path.extension().and_then(|e| e.to_str()) {
            Some("logqltest") => files.push(path.clone()),
            Some("test") => bail!("{}: PromQL is not part of this build", path.display()),
            _ => bail!("{}: want a .logqltest script", path.display()),
        }
    }
    if files.is_empty() {
        bail!("no .logqltest scripts in {paths:?}");
    }
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "logqltest") {
            files.push(path);
        }
    }
    Ok(())
}
