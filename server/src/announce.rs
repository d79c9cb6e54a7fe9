//! What a person at the terminal sees.

use crate::options::ServerConfig;

/// Where to send and where to ask.
#[expect(clippy::print_stdout, reason = "the greeting is the command's output")]
pub(crate) fn ready(server: &ServerConfig) {
    let http = server.http_addr;
    if server.roles.distributor {
        println!("send  OTLP gRPC      {}", server.otlp_grpc_addr);
        println!(
            "      OTLP HTTP      http://{}/v1/logs",
            server.otlp_http_addr
        );
        println!("      Loki push      http://{http}/loki/api/v1/push");
    }
    if server.roles.querier {
        println!("ask   Grafana, Loki  http://{http}");
        println!(
            "      curl           curl -sG http://{http}/query --data-urlencode 'query={{service_name=~\".+\"}}'"
        );
    }
    println!("see   metrics        http://{http}/metrics");
    println!("      storage        http://{http}/admin/api/v1/storage");
}

/// Why the process ends.
#[expect(clippy::print_stderr, reason = "logging may not have started yet")]
pub(crate) fn failure(reason: &anyhow::Error) {
    eprintln!("pharos: {reason:#}");
}
