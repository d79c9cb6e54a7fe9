//! The routes that Loki has for operators, answered from the parts of this process. Those of
//! `/admin/api/v1` are in `admin.rs`, but for its flush.
//!
//! ```text
//! ops.rs  /config /services /log_level: as soon as the port is open
//! ops/    ring.rs  /ring …   stop.rs  /flush, /ingester/…: when the roles have started
//!         flush.rs  one flush at a time
//! ```

mod flush;
mod ring;
mod stop;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ingester::Ingester;
use meta::Node;
use parking_lot::Mutex;
use runtime::LogLevel;
use serde::{Deserialize, Serialize};

use crate::options::{Shown, reference};
use flush::Flushes;
pub(crate) use stop::StopRequest;

/// What the process does, for `/services`.
#[derive(Clone, Debug)]
pub(crate) struct Services {
    names: Arc<[&'static str]>,
    state: Arc<Mutex<&'static str>>,
}

#[derive(Clone)]
struct Ops {
    shown: Arc<Shown>,
    level: LogLevel,
    services: Services,
}

impl Services {
    /// Those of a process with these roles, which are starting.
    pub(crate) fn new(roles: crate::options::Roles) -> Self {
        let names = [
            (true, "server"),
            (true, "coordinator"),
            (roles.distributor, "distributor"),
            (roles.ingester, "ingester"),
            (roles.querier, "querier"),
        ];
        let names = names.into_iter().filter(|(played, _)| *played);
        Services {
            names: names.map(|(_, name)| name).collect(),
            state: Arc::new(Mutex::new("Starting")),
        }
    }

    /// From when the roles serve.
    pub(crate) fn running(&self) {
        *self.state.lock() = "Running";
    }

    /// From when the process is about to end.
    pub(crate) fn stopping(&self) {
        *self.state.lock() = "Stopping";
    }

    /// One line each. The port is open as long as anybody reads this.
    fn lines(&self) -> String {
        let state = *self.state.lock();
        let line = |name: &&str| match *name {
            "server" => "server => Running\n".to_owned(),
            name => format!("{name} => {state}\n"),
        };
        self.names.iter().map(line).collect()
    }
}

/// What can be asked from the first moment on.
pub(crate) fn early(shown: Shown, level: LogLevel, services: Services) -> Router {
    let shown = Arc::new(shown);
    Router::new()
        .route("/config", get(config))
        .route("/services", get(services_page))
        .route("/log_level", get(log_level).post(set_log_level))
        .with_state(Ops {
            shown,
            level,
            services,
        })
}

/// What the roles of this process can be asked.
pub(crate) fn late(ingester: Option<Ingester>, node: Node, stop: StopRequest) -> Router {
    ring::router(node).merge(stop::router(Flushes::new(ingester), stop))
}

#[derive(Deserialize)]
struct ConfigQuery {
    #[serde(default)]
    mode: String,
}

/// `GET /config`: the options that hold, as a file for `--config`; `?mode=diff`: those that are not
/// at their defaults; `?mode=defaults`: the defaults.
async fn config(State(ops): State<Ops>, Query(asked): Query<ConfigQuery>) -> Response {
    let yaml = match asked.mode.as_str() {
        "" => yaml(&ops.shown, |_| true),
        "diff" => yaml(&ops.shown, |option| !option.is_default),
        "defaults" => yaml(&crate::options::defaults(), |_| true),
        mode => {
            let text = format!("mode {mode:?} is not known; it is diff or defaults\n");
            return (StatusCode::BAD_REQUEST, text).into_response();
        }
    };
    text(yaml)
}

fn yaml(shown: &Shown, wanted: impl Fn(&runtime::OptionShown) -> bool) -> String {
    let mut yaml = String::new();
    for (section, options) in shown {
        let mut options = options.iter().filter(|option| wanted(option)).peekable();
        if options.peek().is_some() {
            yaml += &format!("{section}:\n");
        }
        for option in options {
            yaml += &format!("  {}: {}\n", option.name, option.value);
        }
    }
    match yaml.is_empty() {
        true => "{}\n".to_owned(),
        false => yaml,
    }
}

async fn services_page(State(ops): State<Ops>) -> Response {
    text(ops.services.lines())
}

fn text(body: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}

#[derive(Serialize)]
struct LogLevelAnswer {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    message: String,
}

async fn log_level(State(ops): State<Ops>) -> Response {
    json(&LogLevelAnswer {
        status: None,
        message: format!("Current log level is {}", ops.level.level()),
    })
}

/// `POST /log_level`, with `log_level` as a parameter or in a form.
async fn set_log_level(State(ops): State<Ops>, form: stop::Form) -> Response {
    let wanted = form.get("log_level").unwrap_or_default();
    if !ops.level.set(wanted) {
        let refused = LogLevelAnswer {
            status: Some("failed"),
            message: format!(
                "unrecognized log level {wanted:?}; it is trace, debug, info, warn or error"
            ),
        };
        return (StatusCode::BAD_REQUEST, json(&refused)).into_response();
    }
    tracing::info!(filter = ops.level.filter(), "log level changed");
    let done = LogLevelAnswer {
        status: Some("success"),
        message: format!("Log level set to {wanted}"),
    };
    json(&done)
}

/// As Loki writes it.
fn json(answer: &LogLevelAnswer) -> Response {
    match serde_json::to_string(answer) {
        Ok(text) => {
            let kind = "application/json; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text + "\n").into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Tells of variables that look like options of `pharos serve` and are none.
pub(crate) fn warn_of_unknown_variables() {
    let options = reference().into_iter().flat_map(|(_, options)| options);
    let mut known: Vec<String> = options
        .map(|option| format!("PHAROS_{}", option.name.to_uppercase()))
        .collect();
    // The address is for `pharos ring`; the last one tells tests which binary to run.
    known.extend(["PHAROS_CONFIG", "PHAROS_ADDRESS", "PHAROS_BIN"].map(str::to_owned));
    let given = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for (variable, meant) in runtime::config::unknown_variables(given, &known) {
        match meant {
            Some(meant) => tracing::warn!(
                variable,
                meant,
                "no option is called so; is another one meant?"
            ),
            None => tracing::warn!(
                variable,
                "no option is called so; `pharos serve --help` lists them"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_shown_can_be_read_back() {
        let yaml = yaml(&crate::options::defaults(), |_| true);
        let folder = std::env::temp_dir().join(format!("pharos-shown-{}", std::process::id()));
        std::fs::write(&folder, &yaml).unwrap();
        let path = folder.to_str().unwrap();
        let settings = crate::tests::serve(&["--config", path]).unwrap();
        assert!(
            settings
                .shown
                .iter()
                .flat_map(|(_, options)| options)
                .all(|o| o.is_default)
        );
        std::fs::remove_file(&folder).unwrap();
    }

    #[test]
    fn what_differs_is_shown_with_secrets_masked() {
        let flags = [
            "--storage-s3-secret-key",
            "hush",
            "--shards",
            "4",
            "--head-bytes-max",
            "33554432",
        ];
        let settings = crate::tests::serve(&flags).unwrap();
        let shown = yaml(&settings.shown, |option| !option.is_default);
        assert_eq!(
            shown,
            "server:\n  shards: 4\nstorage:\n  storage_s3_secret_key: \"********\"\n"
        );
        assert_eq!(
            yaml(&crate::options::defaults(), |option| !option.is_default),
            "{}\n"
        );
    }

    #[test]
    fn services_follow_the_life_of_the_process() {
        let services = Services::new(crate::options::Roles {
            distributor: false,
            ingester: true,
            querier: false,
        });
        assert_eq!(
            services.lines(),
            "server => Running\ncoordinator => Starting\ningester => Starting\n"
        );
        services.running();
        assert!(services.lines().ends_with("ingester => Running\n"));
        services.stopping();
        assert!(services.lines().ends_with("ingester => Stopping\n"));
    }
}
