//! Random expressions, bounded in size, in the form that the parser gives: numbers of literals
//! are folded, names are no reserved words, operators have what they need.

use model::MatchOp;
use proptest::prelude::*;
use query::logql::ast::*;

fn name() -> impl Strategy<Value = String> {
    // Function names are names too where no parenthesis follows.
    let names = [
        "a",
        "app",
        "_x9",
        "__error__",
        "rate",
        "sum",
        "sort",
        "distinct",
        "bytes",
        "ip",
        "vector",
        "desc",
        "Level",
    ];
    prop::sample::select(names.to_vec()).prop_map(str::to_owned)
}

fn names(from: usize) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(name(), from..3)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9 ]{0,6}",
        "[\"\\\\`#{}\n\t\r\u{0}\u{1b}é€😀 ]{0,6}",
        any::<String>().prop_map(|s| s.chars().take(8).collect()),
    ]
}

fn regex() -> impl Strategy<Value = String> {
    let texts = [
        "a.*",
        "x|y",
        r"\d+\.",
        "(?i)e",
        "[a-z]{2,3}",
        "",
        "\"",
        "b\\\\",
    ];
    prop::sample::select(texts.to_vec()).prop_map(str::to_owned)
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let plain = (name(), any::<bool>(), text()).prop_map(|(name, not, value)| Matcher {
        name,
        op: if not {
            MatchOp::NotEqual
        } else {
            MatchOp::Equal
        },
        value,
    });
    let regex = (name(), any::<bool>(), regex()).prop_map(|(name, not, value)| Matcher {
        name,
        op: if not {
            MatchOp::NotRegex
        } else {
            MatchOp::Regex
        },
        value,
    });
    prop_oneof![plain, regex]
}

fn selector() -> impl Strategy<Value = Vec<Matcher>> {
    prop::collection::vec(matcher(), 0..3).prop_map(|mut matchers| {
        matchers.push(Matcher {
            name: "job".into(),
            op: MatchOp::Equal,
            value: "x".into(),
        });
        matchers
    })
}

fn compare_op() -> impl Strategy<Value = CompareOp> {
    prop::sample::select(vec![
        CompareOp::Equal,
        CompareOp::NotEqual,
        CompareOp::Greater,
        CompareOp::GreaterOrEqual,
        CompareOp::Less,
        CompareOp::LessOrEqual,
    ])
}

fn finite() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-1000_i32..1000).prop_map(f64::from),
        any::<f64>().prop_filter("finite", |v| v.is_finite()),
    ]
}

fn nanos() -> impl Strategy<Value = i64> {
    prop_oneof![
        1_i64..100,
        (1_i64..100_000).prop_map(|s| s * 1_000_000_000),
        1_i64..i64::MAX,
    ]
}

fn label_filter() -> impl Strategy<Value = LabelFilter> {
    let leaf = prop_oneof![
        matcher().prop_map(LabelFilter::Text),
        (name(), compare_op(), finite()).prop_map(|(name, op, value)| LabelFilter::Number {
            name,
            op,
            value
        }),
        (name(), compare_op(), nanos(), any::<bool>()).prop_map(|(name, op, nanos, negative)| {
            let nanos = if negative { -nanos } else { nanos };
            LabelFilter::Duration { name, op, nanos }
        }),
        (name(), compare_op(), any::<u64>()).prop_map(|(name, op, bytes)| LabelFilter::Bytes {
            name,
            op,
            bytes
        }),
        (name(), any::<bool>()).prop_map(|(name, negated)| LabelFilter::Ip {
            name,
            negated,
            pattern: "10.0.0.0/8".into(),
        }),
    ];
    leaf.prop_recursive(4, 8, 2, |inner| {
        (any::<bool>(), inner.clone(), inner).prop_map(|(and, a, b)| {
            let (a, b) = (Box::new(a), Box::new(b));
            if and {
                LabelFilter::And(a, b)
            } else {
                LabelFilter::Or(a, b)
            }
        })
    })
}

fn line_filter() -> impl Strategy<Value = LineFilter> {
    let plain = prop_oneof![
        text().prop_map(LineFilterValue::Text),
        Just(LineFilterValue::Ip("192.168.0.1-192.168.0.9".into())),
    ];
    let contains = prop::collection::vec(plain, 1..4);
    let contains = (any::<bool>(), contains).prop_map(|(not, any)| LineFilter {
        op: if not {
            LineFilterOp::NotContains
        } else {
            LineFilterOp::Contains
        },
        any,
    });
    let matches = prop::collection::vec(regex().prop_map(LineFilterValue::Text), 1..3);
    let matches = (any::<bool>(), matches).prop_map(|(not, any)| LineFilter {
        op: if not {
            LineFilterOp::NotMatches
        } else {
            LineFilterOp::Matches
        },
        any,
    });
    let pattern = any::<bool>().prop_map(|not| LineFilter {
        op: if not {
            LineFilterOp::NotPattern
        } else {
            LineFilterOp::Pattern
        },
        any: vec![LineFilterValue::Text("<_> took <_>ms".into())],
    });
    prop_oneof![contains, matches, pattern].prop_map(|mut filter| {
        if filter.op.is_negative() {
            filter.any.truncate(1);
        }
        filter
    })
}

fn json_fields() -> impl Strategy<Value = Vec<Extraction>> {
    let field = (name(), prop::sample::select(vec!["a.b", "x[0]", "z"]));
    let field = field.prop_map(|(label, path)| Extraction {
        label,
        path: path.to_owned(),
    });
    prop::collection::vec(field, 0..3)
}

fn logfmt_fields() -> impl Strategy<Value = Vec<Extraction>> {
    let field = name().prop_map(|label| Extraction {
        label,
        path: "level".into(),
    });
    prop::collection::vec(field, 0..3)
}

fn choices() -> impl Strategy<Value = Vec<LabelChoice>> {
    let choice = prop_oneof![
        name().prop_map(LabelChoice::Name),
        matcher().prop_map(LabelChoice::Matcher),
    ];
    prop::collection::vec(choice, 1..3)
}

fn stage() -> impl Strategy<Value = Stage> {
    let label_format = (name(), any::<bool>()).prop_map(|(from, rename)| {
        let template = LabelFormat::Template {
            to: "t".into(),
            template: "{{.a}} \"q\"".into(),
        };
        let to = "r".to_owned();
        Stage::LabelFormat(if rename {
            vec![LabelFormat::Rename { to, from }, template]
        } else {
            vec![template]
        })
    });
    prop_oneof![
        4 => line_filter().prop_map(Stage::LineFilter),
        4 => label_filter().prop_map(Stage::LabelFilter),
        1 => json_fields().prop_map(Stage::Json),
        1 => (any::<bool>(), any::<bool>(), logfmt_fields())
            .prop_map(|(strict, keep_empty, fields)| Stage::Logfmt { strict, keep_empty, fields }),
        1 => Just(Stage::Regexp("(?P<n>\\d+)".into())),
        1 => Just(Stage::Pattern("<a> - <_>".into())),
        1 => Just(Stage::Unpack),
        1 => Just(Stage::LineFormat("{{.a | ToUpper}}\n".into())),
        1 => label_format,
        1 => Just(Stage::Decolorize),
        1 => choices().prop_map(Stage::Drop),
        1 => choices().prop_map(Stage::Keep),
        1 => names(1).prop_map(Stage::Distinct),
        1 => (names(1), any::<bool>())
            .prop_map(|(by, descending)| Stage::Sort { by, descending }),
    ]
}

pub(crate) fn log_expr() -> impl Strategy<Value = LogExpr> {
    (selector(), prop::collection::vec(stage(), 0..4)).prop_map(|(selector, stages)| LogExpr {
        selector,
        stages: without_what_no_text_says(ordered_once(stages)),
    })
}

/// As [`log_expr`], for numbers: nothing orders the entries.
fn counted_log_expr() -> impl Strategy<Value = LogExpr> {
    (selector(), prop::collection::vec(stage(), 0..4)).prop_map(|(selector, mut stages)| {
        stages.retain(|stage| !matches!(stage, Stage::Distinct(_) | Stage::Sort { .. }));
        LogExpr {
            selector,
            stages: without_what_no_text_says(stages),
        }
    })
}

/// Of `distinct` and of `sort` one at most.
fn ordered_once(mut stages: Vec<Stage>) -> Vec<Stage> {
    let (mut distinct, mut sort) = (false, false);
    stages.retain(|stage| match stage {
        Stage::Distinct(_) => !std::mem::replace(&mut distinct, true),
        Stage::Sort { .. } => !std::mem::replace(&mut sort, true),
        _ => true,
    });
    stages
}

/// `| drop a` with `!= "x"` behind it always reads as `| drop a != "x"`.
fn without_what_no_text_says(stages: Vec<Stage>) -> Vec<Stage> {
    use LineFilterOp::{NotContains, NotMatches};
    let ends_in_name = |stage: &Stage| match stage {
        Stage::Drop(labels) | Stage::Keep(labels) => {
            matches!(labels.last(), Some(LabelChoice::Name(_)))
        }
        _ => false,
    };
    let mut kept: Vec<Stage> = Vec::with_capacity(stages.len());
    for stage in stages {
        let joins =
            matches!(&stage, Stage::LineFilter(f) if matches!(f.op, NotContains | NotMatches));
        if !(joins && kept.last().is_some_and(ends_in_name)) {
            kept.push(stage);
        }
    }
    kept
}

fn unwrap() -> impl Strategy<Value = Unwrap> {
    let conversion = prop::sample::select(vec![
        Conversion::Number,
        Conversion::Bytes,
        Conversion::Duration,
        Conversion::DurationSeconds,
    ]);
    let filters = prop::collection::vec(label_filter(), 0..2);
    (name(), conversion, filters).prop_map(|(label, conversion, filters)| Unwrap {
        label,
        conversion,
        filters,
    })
}

fn grouping() -> impl Strategy<Value = Grouping> {
    (any::<bool>(), names(0)).prop_map(|(without, labels)| Grouping { without, labels })
}

/// What may stand between brackets: whole milliseconds.
fn range() -> impl Strategy<Value = i64> {
    nanos().prop_map(|nanos| (nanos / 1_000_000).max(1) * 1_000_000)
}

fn offset() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), nanos(), nanos().prop_map(|n| -n)]
}

const OF_LINES: [RangeOp; 5] = [
    RangeOp::Rate,
    RangeOp::Count,
    RangeOp::BytesRate,
    RangeOp::Bytes,
    RangeOp::Absent,
];
const OF_NUMBERS: [RangeOp; 12] = [
    RangeOp::Rate,
    RangeOp::RateCounter,
    RangeOp::Avg,
    RangeOp::Sum,
    RangeOp::Min,
    RangeOp::Max,
    RangeOp::Stdvar,
    RangeOp::Stddev,
    RangeOp::Quantile,
    RangeOp::First,
    RangeOp::Last,
    RangeOp::Absent,
];

fn aggregate(op: RangeOp, over: RangeInput, grouping: Option<Grouping>) -> MetricExpr {
    use RangeOp::*;
    let may_group = matches!(
        op,
        Avg | Stddev | Stdvar | Quantile | Max | Min | First | Last
    );
    MetricExpr::Range(RangeAggregation {
        op,
        param: (op == Quantile).then_some(0.95),
        over,
        grouping: grouping.filter(|_| may_group),
    })
}

fn range_aggregation() -> impl Strategy<Value = MetricExpr> {
    let of_lines = (
        prop::sample::select(OF_LINES.to_vec()),
        counted_log_expr(),
        range(),
        offset(),
    );
    let of_lines = of_lines.prop_map(|(op, log, range, offset)| {
        let unwrap = None;
        aggregate(
            op,
            RangeInput::Logs(LogRange {
                log,
                unwrap,
                range,
                offset,
            }),
            None,
        )
    });
    let of_numbers = (
        prop::sample::select(OF_NUMBERS.to_vec()),
        (counted_log_expr(), unwrap(), range(), offset()),
        prop::option::of(grouping()),
    );
    let of_numbers = of_numbers.prop_map(|(op, (log, unwrap, range, offset), grouping)| {
        let unwrap = Some(unwrap);
        aggregate(
            op,
            RangeInput::Logs(LogRange {
                log,
                unwrap,
                range,
                offset,
            }),
            grouping,
        )
    });
    prop_oneof![of_lines, of_numbers]
}

fn vector_op() -> impl Strategy<Value = VectorOp> {
    prop::sample::select(vec![
        VectorOp::Sum,
        VectorOp::Avg,
        VectorOp::Count,
        VectorOp::Max,
        VectorOp::Min,
        VectorOp::Stddev,
        VectorOp::Stdvar,
        VectorOp::TopK(3),
        VectorOp::BottomK(1),
        VectorOp::CountValues("v".into()),
    ])
}

fn binary_op() -> impl Strategy<Value = BinaryOp> {
    prop_oneof![
        prop::sample::select(vec![
            BinaryOp::Add,
            BinaryOp::Sub,
            BinaryOp::Mul,
            BinaryOp::Div,
            BinaryOp::Mod,
            BinaryOp::Pow,
            BinaryOp::And,
            BinaryOp::Or,
            BinaryOp::Unless,
        ]),
        compare_op().prop_map(BinaryOp::Compare),
    ]
}

fn matching() -> impl Strategy<Value = VectorMatching> {
    let group = prop_oneof![
        Just(None),
        names(0).prop_map(|n| Some(GroupSide::Left(n))),
        names(0).prop_map(|n| Some(GroupSide::Right(n))),
    ];
    (any::<bool>(), names(0), group).prop_map(|(on, labels, group)| VectorMatching {
        // Ignoring nothing is no matching.
        on: on || (labels.is_empty() && group.is_none()),
        labels,
        group,
    })
}

/// A binary operation as the parser would give it: no two numbers, no number in a set operation.
fn binary(
    lhs: MetricExpr,
    op: BinaryOp,
    (returns_bool, matching): (bool, Option<VectorMatching>),
    rhs: MetricExpr,
) -> MetricExpr {
    let number = |e: &MetricExpr| matches!(e, MetricExpr::Number(_));
    let set = matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless);
    if (number(&lhs) && number(&rhs)) || (set && (number(&lhs) || number(&rhs))) {
        return lhs;
    }
    MetricExpr::Binary(Box::new(Binary {
        lhs,
        op,
        returns_bool,
        matching,
        rhs,
    }))
}

pub(crate) fn metric_expr() -> impl Strategy<Value = MetricExpr> {
    let leaf = prop_oneof![
        4 => range_aggregation(),
        1 => finite().prop_map(|value| MetricExpr::ToVector(value.abs())),
        1 => finite().prop_map(MetricExpr::Number),
        1 => prop::sample::select(vec![f64::INFINITY, f64::NEG_INFINITY])
            .prop_map(MetricExpr::Number),
    ];
    leaf.prop_recursive(4, 12, 2, |inner| {
        let vector = (vector_op(), inner.clone(), prop::option::of(grouping()));
        let vector = vector.prop_map(|(op, expr, grouping)| {
            let expr = Box::new(expr);
            // `by ()` is no grouping.
            let grouping = grouping.filter(|g: &Grouping| g.without || !g.labels.is_empty());
            MetricExpr::Vector(VectorAggregation { op, expr, grouping })
        });
        let modifiers = (any::<bool>(), prop::option::of(matching()));
        let pair = (inner.clone(), binary_op(), modifiers, inner.clone())
            .prop_map(|(lhs, op, modifiers, rhs)| binary(lhs, op, modifiers, rhs));
        let replace = (inner.clone(), text(), regex()).prop_map(|(expr, replacement, regex)| {
            MetricExpr::LabelReplace {
                expr: Box::new(expr),
                dst: "dst".into(),
                replacement,
                src: "src".into(),
                regex,
            }
        });
        let step = prop::option::of(range());
        let subquery = (
            prop::sample::select(OF_NUMBERS.to_vec()),
            (inner, range(), step, offset()),
            prop::option::of(grouping()),
        );
        let subquery = subquery.prop_map(|(op, (expr, range, step, offset), grouping)| {
            let expr = Box::new(expr);
            let over = RangeInput::Subquery {
                expr,
                range,
                step,
                offset,
            };
            aggregate(op, over, grouping)
        });
        prop_oneof![3 => pair, 2 => vector, 1 => replace, 1 => subquery]
    })
}

pub(crate) fn expr() -> impl Strategy<Value = Expr> {
    prop_oneof![
        log_expr().prop_map(Expr::Log),
        metric_expr().prop_map(Expr::Metric),
    ]
}
