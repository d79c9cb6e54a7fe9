//! Structured logs to standard error and, when an endpoint is configured, the process' own traces
//! over OTLP.

mod level;

use std::io::IsTerminal;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, reload};

pub use level::LogLevel;

// The macro names this crate from outside, as its users do.
use crate as runtime;

crate::options! {
    /// What the process says about itself.
    pub struct TelemetryConfig / TelemetryOptions {
        /// Which log records are written: a level, or targets with levels such as `info,ingester=debug`.
        log_filter: String = "info,object_store=warn,openraft=off",
        /// How log records are written: `text` or `json`.
        log_format: LogFormat = "text",
        /// Where the process sends its own traces, as OTLP over gRPC, for example
        /// http://127.0.0.1:4317; empty: nowhere.
        otlp_traces_endpoint: String = "",
    }
}

/// How log records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log_filter` is not a filter.
    #[error("log_filter \"{filter}\" is not valid: {reason}")]
    Filter {
        /// As configured.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `otlp_traces_endpoint` cannot be used.
    #[error("otlp_traces_endpoint \"{endpoint}\" cannot be used: {reason}")]
    Endpoint {
        /// As configured.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something else in this process has set a subscriber.
    #[error("logging is already set up: {0}")]
    Twice(String),
}

/// Keeps telemetry alive; [`shutdown`](Self::shutdown) sends what is still buffered.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    level: LogLevel,
}

impl crate::OptionValue for LogFormat {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!(
                "\"{text}\" is not a log format; write text or json"
            )),
        }
    }

    fn show(&self) -> String {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
        .to_owned()
    }
}

impl Telemetry {
    /// Sets the process' subscriber. Call once, inside the tokio runtime.
    ///
    /// # Errors
    /// [`TelemetryError`] names the option that cannot be used.
    pub fn start(config: &TelemetryConfig) -> Result<Self, TelemetryError> {
        let filter =
            EnvFilter::try_new(&config.log_filter).map_err(|reason| TelemetryError::Filter {
                filter: config.log_filter.clone(),
                reason: reason.to_string(),
            })?;
        let (filter, handle) = reload::Layer::new(filter);
        let level = LogLevel::new(&config.log_filter, move |filter| {
            // It fails only when the subscriber is gone, and then there is nothing to filter.
            let _ = handle.reload(filter);
        });
        let lines = fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        let lines = match config.log_format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        let traces = match config.otlp_traces_endpoint.as_str() {
            "" => None,
            endpoint => Some(exporter(endpoint)?),
        };
        let spans = traces
            .as_ref()
            .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("pharos")));
        tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .with(spans)
            .try_init()
            .map_err(|reason| TelemetryError::Twice(reason.to_string()))?;
        Ok(Telemetry { traces, level })
    }

    /// Tells and changes what is logged.
    pub fn level(&self) -> LogLevel {
        self.level.clone()
    }

    /// Sends the traces that are still buffered. Blocks for at most the exporter's own timeout.
    pub fn shutdown(self) {
        if let Some(provider) = self.traces
            && let Err(reason) = provider.shutdown()
        {
            tracing::warn!(%reason, "the last traces were not sent");
        }
    }
}

fn exporter(endpoint: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let host = endpoint.strip_prefix("http://").unwrap_or_default();
    if host.is_empty() {
        return Err(TelemetryError::Endpoint {
            endpoint: endpoint.to_owned(),
            reason: "write http://host:4317; TLS is not supported".to_owned(),
        });
    }
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|reason| TelemetryError::Endpoint {
            endpoint: endpoint.to_owned(),
            reason: reason.to_string(),
        })?;
    let resource = Resource::builder().with_service_name("pharos").build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_is_no_url_is_refused_with_what_would_be_right() {
        for endpoint in ["foo", "https://a:4317", "http://"] {
            let refused = exporter(endpoint).unwrap_err().to_string();
            assert!(refused.contains("http://host:4317"), "{refused}");
        }
    }
}
