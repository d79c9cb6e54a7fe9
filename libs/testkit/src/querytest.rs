//! Query test scripts (`.logqltest`): load this data, ask this, expect that.
//!
//! What it is: the scripts' grammar, the comparison of answers, and a [`Target`] that runs the
//! engine over records in memory. What it is *not*: it reads no files and no sockets; a target
//! that asks a server is the caller's.
//!
//! ```text
//! clear
//! load
//!   {app="web"} "GET /{{.i}}" @ 10s [repeat every 1s for 60] [metadata trace="x"]
//!
//! eval instant at 1m count_over_time({app="web"}[1m])
//!   {app="web", trace="x"} 51
//!
//! eval range from 0 to 2m step 1m sum(rate({app="web"}[1m]))
//!   {} _ 0.85 0.15
//! ```

mod compare;
mod library;
mod points;
mod script;

use std::fmt;

pub use library::Library;
pub use script::script;

/// Name and value pairs, sorted by name. An empty value is not an absent one.
pub type Pairs = Vec<(String, String)>;

/// One record to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Labels of its stream.
    pub labels: Pairs,
    /// Nanoseconds from the script's time zero.
    pub at: i64,
    /// As it stands in the script.
    pub line: String,
    /// Structured metadata.
    pub metadata: Pairs,
}

/// When a query is evaluated; nanoseconds from the script's time zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At one time.
    Instant(i64),
    /// At `from`, `from + step`, ... up to `to`, included.
    Range {
        /// First time.
        from: i64,
        /// Last possible time.
        to: i64,
        /// Positive.
        step: i64,
    },
}

/// One question.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Where it stands in the script, from 1.
    pub line: usize,
    /// The query.
    pub query: String,
    /// When it is evaluated.
    pub when: When,
    /// What must come out.
    pub expected: Expected,
}

/// What a case expects.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// An error whose text passes.
    Failure(ErrorTest),
    /// A number.
    Scalar(f64),
    /// Series, possibly none.
    Series {
        /// Whether they must come in this order.
        ordered: bool,
        /// Labels and one point per step; `None` is no value.
        rows: Vec<(Pairs, Vec<Option<f64>>)>,
    },
}

/// What is said of an error's text.
#[derive(Clone, Debug)]
pub enum ErrorTest {
    /// Nothing.
    Any,
    /// It contains this.
    Contains(String),
    /// This is found in it.
    Matches(regex::Regex),
}

impl PartialEq for ErrorTest {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

/// One step of a script.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Forget all data.
    Clear,
    /// Add data.
    Load(Vec<Record>),
    /// Ask.
    Eval(Case),
    /// The script itself is wrong here. It counts as a failed case.
    Invalid {
        /// Where, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

/// The points of one series: nanoseconds from the script's time zero, and values.
pub type Points = Vec<(i64, f64)>;

/// What a target answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A number.
    Scalar(f64),
    /// One value per series.
    Vector(Vec<(Pairs, f64)>),
    /// Values over time per series.
    Matrix(Vec<(Pairs, Points)>),
}

/// Whatever can be loaded and asked.
pub trait Target {
    /// Forgets all data.
    ///
    /// # Errors
    /// A text, when that did not work.
    fn clear(&mut self) -> Result<(), String>;

    /// Adds records.
    ///
    /// # Errors
    /// A text, when they are not taken.
    fn load(&mut self, records: &[Record]) -> Result<(), String>;

    /// Asks.
    ///
    /// # Errors
    /// The text of the answer that says why there is none.
    fn ask(&mut self, query: &str, when: When) -> Result<Outcome, String>;
}

/// One failed case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where it stands in the script, from 1.
    pub line: usize,
    /// The query; empty when the script itself is wrong.
    pub query: String,
    /// What came out.
    pub got: String,
    /// What should have.
    pub expected: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.query.is_empty() {
            return write!(f, "{}: {}", self.line, self.got);
        }
        let (got, expected) = (&self.got, &self.expected);
        write!(
            f,
            "{}: {}: got {got} / expected {expected}",
            self.line, self.query
        )
    }
}

/// How a script went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Cases that gave what they should.
    pub passed: usize,
    /// The others.
    pub failures: Vec<Failure>,
}

/// Runs a script from its start.
pub fn run(text: &str, target: &mut dyn Target) -> Report {
    let mut report = Report::default();
    // A script starts with nothing; what cannot be cleared cannot be asked.
    let mut broken = target.clear().err();
    for step in script(text) {
        let failure = match step {
            Step::Clear => {
                broken = target.clear().err();
                continue;
            }
            Step::Load(records) => {
                if let Err(message) = target.load(&records) {
                    broken = Some(format!("load: {message}"));
                }
                continue;
            }
            Step::Invalid { line, message } => Some(Failure {
                line,
                query: String::new(),
                got: message,
                expected: String::new(),
            }),
            Step::Eval(case) => ask(&case, target, broken.as_deref()),
        };
        match failure {
            None => report.passed += 1,
            Some(failure) => report.failures.push(failure),
        }
    }
    report
}

fn ask(case: &Case, target: &mut dyn Target, broken: Option<&str>) -> Option<Failure> {
    let result = match broken {
        Some(message) => Err(message.to_owned()),
        None => target.ask(&case.query, case.when),
    };
    let (got, expected) = compare::compare(&result, case).err()?;
    Some(Failure {
        line: case.line,
        query: case.query.clone(),
        got,
        expected,
    })
}

#[cfg(test)]
mod tests;
