mod loki;
mod otlp;
mod otlp_json;
mod plain;
mod recorder;
mod response;
