//! What is logged, changed while the process runs.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::EnvFilter;

const LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];

type Apply = Arc<dyn Fn(EnvFilter) + Send + Sync>;

/// The log filter of this process. Clones share it.
#[derive(Clone)]
pub struct LogLevel {
    filter: Arc<Mutex<String>>,
    apply: Apply,
}

impl fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogLevel").field(&self.filter()).finish()
    }
}

impl LogLevel {
    pub(super) fn new(filter: &str, apply: impl Fn(EnvFilter) + Send + Sync + 'static) -> Self {
        LogLevel {
            filter: Arc::new(Mutex::new(filter.to_owned())),
            apply: Arc::new(apply),
        }
    }

    /// The whole filter, as in `log_filter`.
    pub fn filter(&self) -> String {
        self.filter.lock().clone()
    }

    /// The level of targets that the filter does not name.
    pub fn level(&self) -> String {
        let filter = self.filter.lock();
        let level = directives(&filter).filter(|directive| is_level(directive));
        // What a filter without one logs.
        level.last().unwrap_or("error").to_ascii_lowercase()
    }

    /// Sets the level of targets that the filter does not name: `trace`, `debug`, `info`, `warn` or
    /// `error`, in letters of any case. Says whether the text is one of them. Whole filters are not
    /// taken: who may ask for a level could switch off what tells of it, or fill the log.
    pub fn set(&self, text: &str) -> bool {
        if !is_level(text) {
            return false;
        }
        let mut filter = self.filter.lock();
        let wanted = with_level(&filter, &text.to_ascii_lowercase());
        let Ok(parsed) = EnvFilter::try_new(&wanted) else {
            return false;
        };
        (self.apply)(parsed);
        *filter = wanted;
        true
    }
}

fn directives(filter: &str) -> impl Iterator<Item = &str> {
    filter.split(',').map(str::trim)
}

fn is_level(text: &str) -> bool {
    LEVELS.iter().any(|level| text.eq_ignore_ascii_case(level))
}

/// The filter with another level for the targets that it does not name.
fn with_level(filter: &str, level: &str) -> String {
    let named =
        directives(filter).filter(|directive| !directive.is_empty() && !is_level(directive));
    std::iter::once(level)
        .chain(named)
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_leaves_named_targets_as_they_are() {
        let applied = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&applied);
        let level = LogLevel::new("info,openraft=error", move |filter| {
            seen.lock().push(filter.to_string());
        });
        assert_eq!(level.level(), "info");
        assert!(level.set("DEBUG"));
        assert_eq!(
            (level.level(), level.filter()),
            ("debug".into(), "debug,openraft=error".into())
        );
        assert_eq!(applied.lock().len(), 1);
    }

    #[test]
    fn what_is_no_level_changes_nothing() {
        let level = LogLevel::new("info", |_| panic!("nothing is applied"));
        for text in [
            "",
            "loud",
            "info,loud",
            "ingester=debug",
            "off",
            "warn,ingester=trace",
        ] {
            assert!(!level.set(text), "{text}");
        }
        assert_eq!(level.filter(), "info");
    }
}
