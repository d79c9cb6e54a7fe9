//! This process among others.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use rpc::remote::{RemoteConfig, TlsFiles};
use runtime::{ByteText, DurationText};

runtime::options! {
    /// This process among others.
    pub struct ClusterConfig / ClusterOptions {
        /// Address of the port for other processes. Empty: this process is a cluster of its own.
        rpc_addr: String = "",
        /// `host:port` by which other processes reach that port; empty: as in `rpc_addr`. When it changes, the cluster is told
        /// at the next start.
        rpc_advertise: String = "",
        /// `host:port` of processes of the cluster, with commas between, at best three ingesters; this process may be among
        /// them. The ingesters of the list that find no cluster form one, when all of them are up.
        join: String = "",
        /// Where this process runs: copies of a shard go to distinct zones as long as there are enough.
        zone: String = "default",
        /// How many ingesters keep each record until it is in a segment; all of them when there are fewer. Fixed when the
        /// cluster is formed.
        replicas: u32 = "3",
        /// How many ingesters agree on the catalog, at most: 1, 3 or 5.
        meta_voters: u32 = "3",
        /// How long a call between processes may take.
        rpc_call_timeout: std::time::Duration as DurationText = "30s",
        /// Largest message between processes.
        rpc_message_bytes_max: usize as ByteText = "256MiB",
        /// Whether messages between processes are compressed.
        rpc_compress: bool = "false",
        /// PEM file with the authority that signs the certificates of all processes; set, TLS is used and asked for both ways.
        rpc_tls_authority: String = "",
        /// PEM file with this process's certificate.
        rpc_tls_certificate: String = "",
        /// PEM file with its key.
        rpc_tls_key: String = "",
        /// The name in the others' certificates; empty: the host of their address.
        rpc_tls_name: String = "",
    }
}

impl ClusterConfig {
    /// Where to listen for other processes; `None` when there are none.
    pub(crate) fn listen(&self) -> anyhow::Result<Option<SocketAddr>> {
        if self.rpc_addr.is_empty() {
            return Ok(None);
        }
        let address = self.rpc_addr.parse();
        let example = "it is an address and a port, such as 10.0.0.1:3101";
        Ok(Some(address.with_context(|| {
            format!("rpc_addr {:?}: {example}", self.rpc_addr)
        })?))
    }

    /// How other processes reach this one.
    pub(crate) fn advertised(&self) -> &str {
        match self.rpc_advertise.as_str() {
            "" => &self.rpc_addr,
            address => address,
        }
    }

    /// Whom to ask for the cluster.
    pub(crate) fn join(&self) -> Vec<String> {
        let addresses = self.join.split(',').map(str::trim);
        let given = addresses.filter(|address| !address.is_empty());
        given.map(str::to_owned).collect()
    }

    /// How calls to other processes are made and taken.
    pub(crate) fn remote(&self) -> RemoteConfig {
        let path = PathBuf::from;
        let tls = (!self.rpc_tls_authority.is_empty()).then(|| TlsFiles {
            authority: path(&self.rpc_tls_authority),
            certificate: path(&self.rpc_tls_certificate),
            key: path(&self.rpc_tls_key),
            name: (!self.rpc_tls_name.is_empty()).then(|| self.rpc_tls_name.clone()),
        });
        RemoteConfig {
            call_timeout: self.rpc_call_timeout,
            message_bytes_max: self.rpc_message_bytes_max,
            compress: self.rpc_compress,
            tls,
            ..RemoteConfig::default()
        }
    }

    /// Refuses what contradicts itself.
    pub(crate) fn check(&self, has_ingester: bool) -> anyhow::Result<()> {
        let alone = self.rpc_addr.is_empty();
        ensure!(self.replicas > 0, "replicas is 0; set it to at least 1");
        ensure!(
            matches!(self.meta_voters, 1 | 3 | 5),
            "meta_voters is {}; it is 1, 3 or 5",
            self.meta_voters
        );
        ensure!(
            !alone || self.join.is_empty(),
            "join is set and rpc_addr is not: other processes must be able to reach this one"
        );
        ensure!(
            has_ingester || !self.join.is_empty(),
            "a process without the role ingester needs join (and rpc_addr): it keeps nothing itself"
        );
        let unspecified = self.listen()?.is_some_and(|at| at.ip().is_unspecified());
        ensure!(
            !unspecified || !self.rpc_advertise.is_empty(),
            "rpc_addr {} is no address that others can reach; set rpc_advertise too",
            self.rpc_addr
        );
        let tls = [
            &self.rpc_tls_authority,
            &self.rpc_tls_certificate,
            &self.rpc_tls_key,
        ];
        let given = tls.iter().filter(|file| !file.is_empty()).count();
        ensure!(
            given == 0 || given == tls.len(),
            "TLS between processes needs all three of rpc_tls_authority, rpc_tls_certificate and rpc_tls_key"
        );
        Ok(())
    }
}
