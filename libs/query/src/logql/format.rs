//! Expressions over several lines, for people: what `/loki/api/v1/format_query` answers.
//!
//! What fits into [`WIDTH_MAX`] characters stays on one line. What does not is opened: calls put
//! each argument on a line of its own, pipelines each stage, binary operations the operator
//! between the sides; each level is indented by two spaces.

use super::ast::{
    Binary, Expr, LogExpr, MetricExpr, RangeAggregation, RangeInput, VectorAggregation,
};
use super::parse::quote;
use super::print::{
    Number, Operator, VectorParam, Window, parentheses, range_op_name, subquery_parentheses,
    vector_op_name,
};

/// Longest expression that is left on one line, characters.
pub const WIDTH_MAX: usize = 100;
const INDENT: &str = "  ";

/// The expression over as many lines as it needs. It parses to the same expression.
pub fn pretty(expr: &Expr) -> String {
    let mut page = Page {
        text: String::new(),
    };
    match expr {
        Expr::Log(log) => page.log(log, 0),
        Expr::Metric(metric) => page.metric(metric, 0),
    }
    page.text
}

struct Page {
    text: String,
}

impl Page {
    /// Starts a line.
    fn line(&mut self, level: usize, text: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        for _ in 0..level {
            self.text.push_str(INDENT);
        }
        self.text.push_str(text);
    }

    fn log(&mut self, log: &LogExpr, level: usize) {
        let whole = log.to_string();
        if fits(&whole) {
            self.line(level, &whole);
            return;
        }
        self.selector(log, level);
        self.stages(log, level);
    }

    fn selector(&mut self, log: &LogExpr, level: usize) {
        let selector = LogExpr {
            selector: log.selector.clone(),
            stages: Vec::new(),
        };
        self.line(level, &selector.to_string());
    }

    fn stages(&mut self, log: &LogExpr, level: usize) {
        for stage in &log.stages {
            self.line(level + 1, &stage.to_string());
        }
    }

    fn metric(&mut self, metric: &MetricExpr, level: usize) {
        let whole = metric.to_string();
        if fits(&whole) {
            self.line(level, &whole);
            return;
        }
        match metric {
            MetricExpr::Range(range) => self.range(range, level),
            MetricExpr::Vector(vector) => self.vector(vector, level),
            MetricExpr::Binary(binary) => self.binary(binary, level),
            MetricExpr::LabelReplace {
                expr,
                dst,
                replacement,
                src,
                regex,
            } => {
                self.line(level, "label_replace(");
                self.metric(expr, level + 1);
                for text in [dst, replacement, src, regex] {
                    self.text.push(',');
                    self.line(level + 1, &quote(text));
                }
                self.line(level, ")");
            }
            // Too long for a line, but there is nothing to open.
            MetricExpr::ToVector(_) | MetricExpr::Number(_) => self.line(level, &whole),
        }
    }

    fn range(&mut self, range: &RangeAggregation, level: usize) {
        self.line(level, &format!("{}(", range_op_name(range.op)));
        if let Some(param) = range.param {
            self.line(level + 1, &format!("{},", Number(param)));
        }
        match &range.over {
            RangeInput::Logs(logs) => {
                self.selector(&logs.log, level + 1);
                self.stages(&logs.log, level + 1);
                if let Some(unwrap) = &logs.unwrap {
                    self.line(level + 2, &unwrap.to_string());
                }
                self.text.push(' ');
            }
            RangeInput::Subquery { expr, .. } => {
                let wrapped = subquery_parentheses(expr);
                self.side(expr, wrapped, level + 1);
            }
        }
        self.text.push_str(&Window(&range.over).to_string());
        self.line(level, ")");
        if let Some(grouping) = &range.grouping {
            self.text.push_str(&format!(" {grouping}"));
        }
    }

    fn vector(&mut self, vector: &VectorAggregation, level: usize) {
        let name = vector_op_name(&vector.op);
        match &vector.grouping {
            Some(grouping) => self.line(level, &format!("{name} {grouping} (")),
            None => self.line(level, &format!("{name}(")),
        }
        let param = VectorParam(&vector.op).to_string();
        if !param.is_empty() {
            self.line(level + 1, param.trim_end());
        }
        self.metric(&vector.expr, level + 1);
        self.line(level, ")");
    }

    fn binary(&mut self, binary: &Binary, level: usize) {
        let (left, right) = parentheses(binary);
        self.side(&binary.lhs, left, level + 1);
        self.line(level, &Operator(binary).to_string());
        self.side(&binary.rhs, right, level + 1);
    }

    fn side(&mut self, metric: &MetricExpr, wrapped: bool, level: usize) {
        if !wrapped {
            self.metric(metric, level);
            return;
        }
        let whole = format!("({metric})");
        if fits(&whole) {
            self.line(level, &whole);
            return;
        }
        self.line(level, "(");
        self.metric(metric, level + 1);
        self.line(level, ")");
    }
}

fn fits(text: &str) -> bool {
    text.chars().count() <= WIDTH_MAX
}
