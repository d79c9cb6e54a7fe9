//! Execution of LogQL over a [`Source`]: from the syntax tree to streams or numbers.
//!
//! ```text
//! log query     scan -> pipeline -> best `limit` entries of each sink -> merged, ordered
//! metric query  scan -> pipeline -> lanes (series x bucket) of each sink -> merged -> windows
//!               -> vector aggregations and binary operations, a whole series at a time
//! ```
//!
//! A `sum`, `min` or `max` that stands right over the range aggregation that it can be merged with
//! is done by the sinks: they file rows straight under the labels of the outer grouping, and the
//! source is asked for no column that this does not need.
//!
//! Invariants:
//! - Answers do not depend on how a source splits rows over blocks and sinks (see `range_ops` for
//!   what that means for sums of floats).
//! - Everything kept per row, series or step is charged to the [`Budget`].

mod answer;
mod binary;
mod labels;
mod lanes;
mod leaf;
mod log;
mod log_sink;
mod matching;
mod metric;
mod range;
mod range_ops;
mod range_sink;
mod reach;
mod record_filter;
mod series;
mod share;
mod steps;
mod vector;

use model::{Kind, Timestamp};

use crate::{Budget, BudgetError, Source, SourceError};

use super::ast::Expr;

pub use answer::{
    Answer, LogEntry, MergedStream, Sample, Series, StreamResult, Value, in_place, merged,
};
pub use labels::LabelSet;
pub use reach::reach;
pub use record_filter::{RecordFilter, RecordFilterError, RecordTest};
pub use share::run_share;

/// Which end of the time range comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    Forward,
    /// Latest first.
    Backward,
}

/// When and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// First evaluation of a metric query; first nanosecond of a log query.
    pub start: Timestamp,
    /// Last possible evaluation of a metric query (included); end of a log query (excluded).
    pub end: Timestamp,
    /// Nanoseconds between evaluations; 0 is an instant query, evaluated at `end`.
    pub step: i64,
    /// Log queries: least distance between two entries shown, nanoseconds; 0 shows all.
    pub interval: i64,
    /// Log queries: most entries shown.
    pub limit: u32,
    /// Log queries: which entries count as first.
    pub direction: Direction,
    /// What `now` gives in templates; `None`: each record's own time.
    pub now: Option<Timestamp>,
}

/// What a tenant may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most series that a metric query may return; 0 means no limit.
    pub series_max: usize,
    /// Whether an answer with more series is cut and carries a warning, rather than refused: what
    /// Logs Drilldown expects.
    pub series_partial: bool,
    /// Whether records show a `detected_level` although none was stored with them.
    pub detect_level: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            series_max: 500,
            series_partial: false,
            detect_level: false,
        }
    }
}

/// Why a query has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The query cannot be evaluated as it is, on this data.
    #[error("{0}")]
    Invalid(String),
    /// A row of a metric query carries an error that no stage filtered out.
    #[error(
        "pipeline error: '{error}' for series: '{series}'.\nUse a label filter to intentionally skip this error. (e.g | __error__!=\"{error}\").\nTo skip all potential errors you can match empty errors.(e.g __error__=\"\")\nThe label filter can also be specified after unwrap. (e.g | unwrap latency | __error__=\"\" )\n"
    )]
    Pipeline {
        /// The value of `__error__`.
        error: String,
        /// Labels of the row.
        series: String,
    },
    /// The answer has too many series.
    #[error(
        "maximum number of series ({limit}) reached for a single query; consider reducing query cardinality by adding more specific stream selectors, reducing the time range, or aggregating results with functions like sum(), count() or topk()"
    )]
    Series {
        /// The limit.
        limit: usize,
    },
    /// The query is too large, too slow or no longer wanted.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// Records cannot be read.
    #[error(transparent)]
    Source(SourceError),
}

impl EngineError {
    /// What the caller is expected to do.
    pub fn kind(&self) -> Kind {
        match self {
            EngineError::Invalid(_) | EngineError::Pipeline { .. } | EngineError::Series { .. } => {
                Kind::Invalid
            }
            EngineError::Budget(error) => budget_kind(error),
            EngineError::Source(SourceError::Budget(error)) => budget_kind(error),
            EngineError::Source(SourceError::Unavailable(_)) => Kind::Unavailable,
            EngineError::Source(SourceError::Corrupt(_)) => Kind::Corrupt,
        }
    }
}

fn budget_kind(error: &BudgetError) -> Kind {
    match error {
        BudgetError::Memory { .. } | BudgetError::Rows { .. } => Kind::Invalid,
        BudgetError::Timeout | BudgetError::Cancelled => Kind::Cancelled,
    }
}

impl From<SourceError> for EngineError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Budget(error) => EngineError::Budget(error),
            error => EngineError::Source(error),
        }
    }
}

/// Evaluates a query.
///
/// # Errors
/// [`EngineError`]; an answer is never cut short silently.
pub fn execute<S: Source>(
    expr: &Expr,
    params: &Params,
    limits: &Limits,
    source: &S,
    budget: &Budget,
) -> Result<Answer, EngineError> {
    // What is wrong with a selector is told below, in its turn.
    if let Ok(reach) = reach(expr, params) {
        source.foresee(&reach);
    }
    let answer = match expr {
        Expr::Log(expr) => log::execute(expr, params, limits, source, budget),
        Expr::Metric(expr) => metric::execute(expr, params, limits, source, budget),
    }?;
    // Rows that were at work when it was to end may have errors that they would not have.
    budget.check()?;
    Ok(answer)
}
