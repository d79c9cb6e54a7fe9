use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tonic::codec::CompressionEncoding;
use tonic::transport::{ClientTlsConfig, Endpoint};

use super::TlsFiles;
use super::client::Node;
use crate::{Error, IngestApi, MetaPeerApi, Network, OwnerApi, QueryApi, SearchApi};

/// How processes talk to each other; the same everywhere in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteConfig {
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long a call may take, all in all; the other side stops working on it then. Streams that
    /// never end (tails, changes of the catalog) are not bound by it.
    pub call_timeout: Duration,
    /// Silence on a connection after which a ping is sent, and after which a ping without an answer
    /// ends the connection.
    pub keep_alive: Duration,
    /// Largest message taken, bytes, once decompressed.
    pub message_bytes_max: usize,
    /// Whether messages are compressed with zstd.
    pub compress: bool,
    /// Mutual TLS; `None` for none at all.
    pub tls: Option<TlsFiles>,
}

impl Default for RemoteConfig {
    fn default() -> Self {
        RemoteConfig {
            connect_timeout: Duration::from_secs(2),
            call_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(5),
            message_bytes_max: 256 << 20,
            compress: false,
            tls: None,
        }
    }
}

impl RemoteConfig {
    pub(super) fn compression(&self) -> Option<CompressionEncoding> {
        self.compress.then_some(CompressionEncoding::Zstd)
    }
}

/// The ports of other processes over gRPC: one connection for each address, made when it is first
/// used, and again when it was lost.
#[derive(Debug)]
pub struct Remote {
    config: RemoteConfig,
    tls: Option<ClientTlsConfig>,
    nodes: Mutex<HashMap<Arc<str>, Arc<Node>>>,
}

/// Addresses that are remembered; above it those that nobody uses any more are forgotten.
const NODES_MAX: usize = 1024;

impl Remote {
    /// Reads the TLS files; connects to nobody yet. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `Invalid` when a TLS file cannot be read.
    pub fn new(config: RemoteConfig) -> Result<Self, Error> {
        let tls = config.tls.as_ref().map(TlsFiles::client).transpose()?;
        Ok(Remote {
            config,
            tls,
            nodes: Mutex::new(HashMap::new()),
        })
    }

    fn node(&self, address: &str) -> Arc<Node> {
        let mut nodes = self.nodes.lock();
        if let Some(node) = nodes.get(address) {
            return Arc::clone(node);
        }
        if nodes.len() >= NODES_MAX {
            nodes.retain(|_, node| Arc::strong_count(node) > 1);
        }
        let address: Arc<str> = address.into();
        let endpoint = self.endpoint(&address);
        let node = Arc::new(Node::new(Arc::clone(&address), endpoint, &self.config));
        nodes.insert(address, Arc::clone(&node));
        node
    }

    /// An address that is no URL authority, or TLS files that make no sense, are told by every call.
    fn endpoint(&self, address: &str) -> Result<Endpoint, Error> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let wrong = |error: tonic::transport::Error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let cause = cause.unwrap_or_else(|| error.to_string());
            Error::Invalid(format!("node at {address}: {cause}"))
        };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).map_err(wrong)?;
        let endpoint = endpoint
            .connect_timeout(self.config.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(self.config.keep_alive)
            .keep_alive_timeout(self.config.keep_alive)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20);
        match &self.tls {
            Some(tls) => endpoint.tls_config(tls.clone()).map_err(wrong),
            None => Ok(endpoint),
        }
    }
}

impl Network for Remote {
    fn ingest(&self, address: &str) -> Arc<dyn IngestApi> {
        self.node(address)
    }

    fn search(&self, address: &str) -> Arc<dyn SearchApi> {
        self.node(address)
    }

    fn owner(&self, address: &str) -> Arc<dyn OwnerApi> {
        self.node(address)
    }

    fn query(&self, address: &str) -> Arc<dyn QueryApi> {
        self.node(address)
    }

    fn meta(&self, address: &str) -> Arc<dyn MetaPeerApi> {
        self.node(address)
    }
}
