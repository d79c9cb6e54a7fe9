use std::sync::Arc;

use model::ValuePattern;
use query::logql::regex::ValueRegex;

/// Compiles the regular expression of a label matcher as readers mean it; `None` when it is none.
pub fn label_pattern(text: &str) -> Option<Arc<dyn ValuePattern>> {
    let pattern = ValueRegex::new(text).ok()?;
    Some(Arc::new(pattern))
}
