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

/// The scripts that were asked for.
#[derive(Debug, Default, PartialEq)]
struct Scripts {
    /// `.logqltest`
    run: Vec<PathBuf>,
    /// `.test`: there is no PromQL engine to run them.
    left_out: Vec<PathBuf>,
    /// Some of those left out were named themselves, not found in a folder.
    named: bool,
}

/// Runs the scripts, prints what failed and what was not run, a table by file, and the counts. The
/// exit code says whether all passed; what cannot be run has not, when it was named itself or when
/// there was nothing else.
#[expect(clippy::print_stdout, reason = "a command's output")]
pub(crate) fn run(args: &[String]) -> anyhow::Result<ExitCode> {
    let options = options(args)?;
    let scripts = scripts(&options.paths)?;
    let files = &scripts.run;
    for file in &scripts.left_out {
        println!("{}: not run: there is no PromQL engine yet", file.display());
    }
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
    if !scripts.left_out.is_empty() {
        println!("{} files not run", scripts.left_out.len());
    }
    println!("{passed} passed, {failed} failed");
    Ok(match failed == 0 && !scripts.named && !files.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
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
fn scripts(paths: &[PathBuf]) -> anyhow::Result<Scripts> {
    let mut scripts = Scripts::default();
    for path in paths {
        if path.is_dir() {
            let mut found = Vec::new();
            collect(path, &mut found)?;
            found.sort();
            for file in found {
                match kind(&file) {
                    Some(Kind::LogQl) => scripts.run.push(file),
                    Some(Kind::PromQl) => scripts.left_out.push(file),
                    None => {}
                }
            }
            continue;
        }
        match kind(path) {
            Some(Kind::LogQl) => scripts.run.push(path.clone()),
            Some(Kind::PromQl) => {
                scripts.left_out.push(path.clone());
                scripts.named = true;
            }
            None => bail!("{}: want a .logqltest or .test script", path.display()),
        }
    }
    if scripts.run.is_empty() && scripts.left_out.is_empty() {
        bail!("no .logqltest or .test scripts in {paths:?}");
    }
    Ok(scripts)
}

enum Kind {
    LogQl,
    PromQl,
}

fn kind(file: &Path) -> Option<Kind> {
    match file.extension()?.to_str()? {
        "logqltest" => Some(Kind::LogQl),
        "test" => Some(Kind::PromQl),
        _ => None,
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promql_scripts_are_named_rather_than_passed_over() {
        let folder = std::env::temp_dir().join(format!("pharos-querytest-{}", std::process::id()));
        let inner = folder.join("promql");
        std::fs::create_dir_all(&inner).unwrap();
        let script = |path: &str| {
            let path = folder.join(path);
            std::fs::write(&path, "").unwrap();
            path
        };
        let logql = script("a.logqltest");
        let promql = script("promql/b.test");
        script("promql/LICENSE");
        let found = scripts(std::slice::from_ref(&folder)).unwrap();
        let want = Scripts {
            run: vec![logql],
            left_out: vec![promql.clone()],
            named: false,
        };
        assert_eq!(found, want);
        assert!(scripts(&[promql]).unwrap().named);
        assert!(scripts(&[inner.join("LICENSE")]).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
