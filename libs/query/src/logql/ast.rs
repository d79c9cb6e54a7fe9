//! What a LogQL text means, with nothing left of how it was written.
//!
//! Values are unescaped; durations are nanoseconds; regular expressions and templates are known to
//! compile, because the parser refuses those that do not.

mod tree;

use model::MatchOp;

/// A whole query.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// Lines out.
    Log(LogExpr),
    /// Numbers out.
    Metric(MetricExpr),
}

/// `{selector} | stage | stage`
#[derive(Clone, Debug, PartialEq)]
pub struct LogExpr {
    /// At least one matcher that does not match the empty value.
    pub selector: Vec<Matcher>,
    /// In the order in which they are applied.
    pub stages: Vec<Stage>,
}

/// `name op "value"`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    /// The label.
    pub name: String,
    /// The comparison.
    pub op: MatchOp,
    /// Unescaped, for regular expressions without anchors.
    pub value: String,
}

/// One step of a log pipeline.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// `|= "a" or "b"`
    LineFilter(LineFilter),
    /// `| json` or `| json a="x.y", b`
    Json(Vec<Extraction>),
    /// `| logfmt --strict --keep-empty a="b"`
    Logfmt {
        /// `--strict`
        strict: bool,
        /// `--keep-empty`
        keep_empty: bool,
        /// Empty: every field.
        fields: Vec<Extraction>,
    },
    /// `| regexp "(?P<name>re)"`
    Regexp(String),
    /// `| pattern "<name> text <_>"`
    Pattern(String),
    /// `| unpack`
    Unpack,
    /// `| status >= 500 and method="GET"`
    LabelFilter(LabelFilter),
    /// `| line_format "{{.a}}"`
    LineFormat(String),
    /// `| label_format a=b, c="{{.d}}"`
    LabelFormat(Vec<LabelFormat>),
    /// `| decolorize`
    Decolorize,
    /// `| drop a, b="x"`
    Drop(Vec<LabelChoice>),
    /// `| keep a, b=~"x"`
    Keep(Vec<LabelChoice>),
    /// Extension: `| distinct a, b`: of entries with equal values, the first in the direction asked for.
    Distinct(Vec<String>),
    /// Extension: `| sort by (a, b) desc`: numbers by size, then durations by length, then other
    /// texts.
    Sort {
        /// Labels, the first one counts most.
        by: Vec<String>,
        /// Largest first.
        descending: bool,
    },
}

/// How a line filter compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineFilterOp {
    /// `|=`
    Contains,
    /// `!=`
    NotContains,
    /// `|~`
    Matches,
    /// `!~`
    NotMatches,
    /// `|>`
    Pattern,
    /// `!>`
    NotPattern,
}

impl LineFilterOp {
    /// Whether it passes the lines that do not match.
    pub fn is_negative(self) -> bool {
        matches!(
            self,
            LineFilterOp::NotContains | LineFilterOp::NotMatches | LineFilterOp::NotPattern
        )
    }
}

/// `op value or value ...`
#[derive(Clone, Debug, PartialEq)]
pub struct LineFilter {
    /// The comparison, the same for all values.
    pub op: LineFilterOp,
    /// At least one; positive operators pass when any does, negative ones when none does. The
    /// parser gives negative ones one value each.
    pub any: Vec<LineFilterValue>,
}

/// The right side of a line filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineFilterValue {
    /// A text, regular expression or pattern.
    Text(String),
    /// `ip("10.0.0.0/8")`; only with `|=` and `!=`.
    Ip(String),
}

/// `label="path"` of `json` and `logfmt`; written without a path it equals the label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extraction {
    /// The label to set.
    pub label: String,
    /// Where the value stands: a JSON path, or a logfmt key.
    pub path: String,
}

/// A condition on labels (stream labels, structured metadata, parsed labels).
#[derive(Debug)]
pub enum LabelFilter {
    /// `name op "text"`
    Text(Matcher),
    /// `name op 1.5`
    Number {
        /// The label.
        name: String,
        /// The comparison.
        op: CompareOp,
        /// Right side.
        value: f64,
    },
    /// `name op 1m30s`
    Duration {
        /// The label.
        name: String,
        /// The comparison.
        op: CompareOp,
        /// Right side, nanoseconds.
        nanos: i64,
    },
    /// `name op 10KB`
    Bytes {
        /// The label.
        name: String,
        /// The comparison.
        op: CompareOp,
        /// Right side, bytes.
        bytes: u64,
    },
    /// `name = ip("...")` or `name != ip("...")`
    Ip {
        /// The label.
        name: String,
        /// Whether `!=`.
        negated: bool,
        /// Address, range or CIDR block.
        pattern: String,
    },
    /// Both.
    And(Box<LabelFilter>, Box<LabelFilter>),
    /// Either.
    Or(Box<LabelFilter>, Box<LabelFilter>),
}

/// Comparison of ordered values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompareOp {
    /// `==` (or `=`)
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
}

/// One assignment of `label_format`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelFormat {
    /// `to=from`
    Rename {
        /// New name.
        to: String,
        /// Old name.
        from: String,
    },
    /// `to="template"`
    Template {
        /// Label to set.
        to: String,
        /// Go template.
        template: String,
    },
}

/// What `drop` and `keep` name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelChoice {
    /// The label, whatever its value.
    Name(String),
    /// The label if its value matches.
    Matcher(Matcher),
}

/// A numeric query.
#[derive(Debug)]
pub enum MetricExpr {
    /// `rate({...}[5m])`
    Range(RangeAggregation),
    /// `sum by (a) (...)`
    Vector(VectorAggregation),
    /// `a / on (x) b`
    Binary(Box<Binary>),
    /// `label_replace(v, "dst", "$1", "src", "re")`
    LabelReplace {
        /// The vector.
        expr: Box<MetricExpr>,
        /// Label to set.
        dst: String,
        /// With `$1` for groups.
        replacement: String,
        /// Label to read.
        src: String,
        /// Anchored.
        regex: String,
    },
    /// `vector(1)`
    ToVector(f64),
    /// `1.5`
    Number(f64),
}

/// Range aggregation operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RangeOp {
    /// `rate`
    Rate,
    /// `rate_counter`
    RateCounter,
    /// `count_over_time`
    Count,
    /// `bytes_rate`
    BytesRate,
    /// `bytes_over_time`
    Bytes,
    /// `avg_over_time`
    Avg,
    /// `sum_over_time`
    Sum,
    /// `min_over_time`
    Min,
    /// `max_over_time`
    Max,
    /// `stdvar_over_time`
    Stdvar,
    /// `stddev_over_time`
    Stddev,
    /// `quantile_over_time`
    Quantile,
    /// `first_over_time`
    First,
    /// `last_over_time`
    Last,
    /// `absent_over_time`
    Absent,
}

/// `op(param, range) by (labels)`
#[derive(Clone, Debug, PartialEq)]
pub struct RangeAggregation {
    /// What is computed in each window.
    pub op: RangeOp,
    /// The quantile of `quantile_over_time`; `None` for all others.
    pub param: Option<f64>,
    /// What the windows hold.
    pub over: RangeInput,
    /// Labels of the result; `None` keeps all.
    pub grouping: Option<Grouping>,
}

/// What stands before `[range]`.
#[derive(Clone, Debug, PartialEq)]
pub enum RangeInput {
    /// Log entries.
    Logs(LogRange),
    /// Extension: `expr[range:step]`.
    Subquery {
        /// Evaluated at multiples of `step`.
        expr: Box<MetricExpr>,
        /// Window, nanoseconds.
        range: i64,
        /// Resolution, nanoseconds; `None`: the query's step.
        step: Option<i64>,
        /// Shift into the past, nanoseconds.
        offset: i64,
    },
}

/// `variants(a, b) of ({selector}[5m])`: several numbers of the same lines. In Loki that is a trial which is off by
/// default; here it is read and laid out, and not run.
#[derive(Clone, Debug, PartialEq)]
pub struct Variants {
    /// The numbers, at least one.
    pub variants: Vec<MetricExpr>,
    /// The lines.
    pub of: LogRange,
}

/// `{...} | stages | unwrap x [5m] offset 1h`. The window of time t is `(t - offset - range, t - offset]`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRange {
    /// Which entries.
    pub log: LogExpr,
    /// The number taken from each entry.
    pub unwrap: Option<Unwrap>,
    /// Window, nanoseconds, positive.
    pub range: i64,
    /// Shift into the past, nanoseconds; negative: into the future.
    pub offset: i64,
}

/// `| unwrap duration(label) | post filter`
#[derive(Clone, Debug, PartialEq)]
pub struct Unwrap {
    /// Where the number stands.
    pub label: String,
    /// How it is read.
    pub conversion: Conversion,
    /// Label filters after `unwrap`, usually on `__error__`.
    pub filters: Vec<LabelFilter>,
}

/// How `unwrap` reads a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Conversion {
    /// A plain number.
    Number,
    /// `bytes(x)`
    Bytes,
    /// `duration(x)`: seconds.
    Duration,
    /// `duration_seconds(x)`: the same.
    DurationSeconds,
}

/// `by (a, b)` or `without (a, b)`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grouping {
    /// `without` rather than `by`.
    pub without: bool,
    /// The labels, as written.
    pub labels: Vec<String>,
}

/// Vector aggregation operators.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum VectorOp {
    /// `sum`
    Sum,
    /// `avg`
    Avg,
    /// `count`
    Count,
    /// `max`
    Max,
    /// `min`
    Min,
    /// `stddev`
    Stddev,
    /// `stdvar`
    Stdvar,
    /// `topk(k, ...)`
    TopK(i64),
    /// `bottomk(k, ...)`
    BottomK(i64),
    /// `approx_topk(k, ...)`; exact here.
    ApproxTopK(i64),
    /// `sort`
    Sort,
    /// `sort_desc`
    SortDesc,
    /// Extension: `count_values("label", ...)`.
    CountValues(String),
}

/// `op by (labels) (expr)`
#[derive(Clone, Debug, PartialEq)]
pub struct VectorAggregation {
    /// What is computed of each group.
    pub op: VectorOp,
    /// The vector.
    pub expr: Box<MetricExpr>,
    /// `None` is `by ()`.
    pub grouping: Option<Grouping>,
}

/// Binary operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
    /// `==` and the other comparisons.
    Compare(CompareOp),
    /// `and`
    And,
    /// `or`
    Or,
    /// `unless`
    Unless,
}

/// `lhs op bool on (labels) group_left (include) rhs`
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    /// Left side.
    pub lhs: MetricExpr,
    /// The operator.
    pub op: BinaryOp,
    /// `bool`: comparisons give 0 or 1 rather than filter.
    pub returns_bool: bool,
    /// Which series meet; `None`: all labels must be equal.
    pub matching: Option<VectorMatching>,
    /// Right side.
    pub rhs: MetricExpr,
}

/// `on (labels)` or `ignoring (labels)`, with an optional `group_left`/`group_right`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorMatching {
    /// `on` rather than `ignoring`.
    pub on: bool,
    /// The labels, as written.
    pub labels: Vec<String>,
    /// Which side may have many, with the labels it takes from the other.
    pub group: Option<GroupSide>,
}

/// Which side of a binary operation may have several series per match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupSide {
    /// `group_left (include)`: many on the left.
    Left(Vec<String>),
    /// `group_right (include)`: many on the right.
    Right(Vec<String>),
}
