//! The order in which stages run.

use crate::logql::ast::Stage;

/// From where on the line that a `line_format` makes is read by no parser and no line filter.
pub(crate) fn idle_formats(stages: &[Stage]) -> usize {
    let reads_line = |stage: &Stage| {
        matches!(
            stage,
            Stage::LineFilter(_)
                | Stage::Json(_)
                | Stage::Logfmt { .. }
                | Stage::Regexp(_)
                | Stage::Pattern(_)
                | Stage::Unpack
        )
    };
    stages.iter().rposition(reads_line).unwrap_or(0)
}

/// Stages with line filters moved forward, as Loki runs them: a line filter goes before all stages
/// back to the last label filter, `line_format` or `unpack`. It so sees the line before
/// `decolorize`.
pub(super) fn filters_first(stages: &[Stage]) -> Vec<&Stage> {
    let mut ordered = Vec::with_capacity(stages.len());
    let mut filters = Vec::new();
    let mut others = Vec::new();
    for stage in stages {
        match stage {
            Stage::LineFilter(_) => filters.push(stage),
            Stage::LabelFilter(_) => {
                ordered.append(&mut filters);
                ordered.append(&mut others);
                ordered.push(stage);
            }
            Stage::LineFormat(_) | Stage::Unpack => {
                others.push(stage);
                ordered.append(&mut filters);
                ordered.append(&mut others);
            }
            _ => others.push(stage),
        }
    }
    ordered.append(&mut filters);
    ordered.append(&mut others);
    ordered
}
