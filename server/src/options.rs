//! The options of `pharos serve`: one section per role, each declared by its owner.

mod cluster;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use runtime::{
    DurationText, OptionDoc, OptionShown, OptionValue, SecretText, TelemetryConfig,
    TelemetryOptions,
};
use serde::Deserialize;

pub(crate) use cluster::{ClusterConfig, ClusterOptions};

runtime::options! {
    /// The process itself.
    pub struct ServerConfig / ServerOptions {
        /// Roles that this process plays: `all`, or some of `distributor`, `ingester` and `querier`, with commas
        /// between. Without the role `ingester` it needs `rpc_addr` and `join`.
        roles: Roles = "all",
        /// Folder of the write-ahead log, of the catalog and, unless `storage_url` says otherwise, of the segments.
        data_dir: PathBuf = "./data",
        /// Address of the HTTP port: Loki's API, the simple endpoints, administration, `/metrics`.
        http_addr: SocketAddr = "127.0.0.1:3100",
        /// Address of OTLP over gRPC.
        otlp_grpc_addr: SocketAddr = "127.0.0.1:4317",
        /// Address of OTLP over HTTP.
        otlp_http_addr: SocketAddr = "127.0.0.1:4318",
        /// Equal ranges of the stream-hash space; each is owned and flushed on its own. 0: 1 for a process alone, 64 in a cluster.
        /// Holds when the cluster is formed; `pharos ring shards` raises it later. Where a process alone becomes one of many and this
        /// is 0, its one shard becomes 64.
        shards: u32 = "0",
        /// How long a slot is: records that arrive in the same slot and shard are flushed together. Fixed when the cluster is
        /// formed.
        slot_duration: i64 as DurationText = "2m",
        /// Records older than this are not shown and are removed, unless their tenant has a setting of its own; 0 keeps
        /// them for ever.
        retention: std::time::Duration as DurationText = "0",
        /// How long open connections may take to finish after SIGTERM.
        shutdown_patience: std::time::Duration as DurationText = "10s",
    }
}

runtime::options! {
    /// Where segments are kept.
    pub struct StorageConfig / StorageOptions {
        /// A folder, `file:///folder` or `s3://bucket/prefix`; empty: `segments` under `data_dir`.
        storage_url: String = "",
        /// Address of the S3 service, such as `http://127.0.0.1:9000`; empty: Amazon's, by region.
        storage_s3_endpoint: String = "",
        /// Region of the bucket.
        storage_s3_region: String = "us-east-1",
        /// Access key; empty: what the `AWS_` variables or the machine's identity give.
        storage_s3_access_key: String = "",
        /// The secret that belongs to the access key.
        storage_s3_secret_key: String as SecretText = "",
        /// Whether the S3 service may be spoken to without TLS.
        storage_s3_allow_http: bool = "false",
        /// Whether the bucket is named in the path rather than in the host name; most services but Amazon's need it.
        storage_s3_path_style: bool = "false",
    }
}

/// Flags of `pharos serve`; each can also be given as `PHAROS_NAME` or in the file.
#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// A YAML file with the sections `server`, `cluster`, `storage`, `telemetry`, `distributor`, `ingester` and
    /// `querier`; flags and variables win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    cluster: ClusterOptions,
    #[command(flatten)]
    storage: StorageOptions,
    #[command(flatten)]
    telemetry: TelemetryOptions,
    #[command(flatten)]
    distributor: distributor::Options,
    #[command(flatten)]
    ingester: ingester::Options,
    #[command(flatten)]
    querier: querier::Options,
}

/// The file's sections.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    server: ServerOptions,
    cluster: ClusterOptions,
    storage: StorageOptions,
    telemetry: TelemetryOptions,
    distributor: distributor::Options,
    ingester: ingester::Options,
    querier: querier::Options,
}

impl File {
    /// Every option with the value that holds, by section.
    fn shown(&self) -> Shown {
        vec![
            ("server", self.server.shown()),
            ("cluster", self.cluster.shown()),
            ("storage", self.storage.shown()),
            ("telemetry", self.telemetry.shown()),
            ("distributor", self.distributor.shown()),
            ("ingester", self.ingester.shown()),
            ("querier", self.querier.shown()),
        ]
    }
}

/// Everything decided.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) server: ServerConfig,
    pub(crate) cluster: ClusterConfig,
    pub(crate) storage: StorageConfig,
    pub(crate) telemetry: TelemetryConfig,
    pub(crate) distributor: distributor::Settings,
    pub(crate) ingester: ingester::Settings,
    pub(crate) querier: querier::Config,
    pub(crate) shown: Shown,
}

/// Every option with the value that holds, by section of the file.
pub(crate) type Shown = Vec<(&'static str, Vec<OptionShown>)>;

/// Which roles a process plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Roles {
    pub(crate) distributor: bool,
    pub(crate) ingester: bool,
    pub(crate) querier: bool,
}

impl ServeArguments {
    /// Flags over variables over file over defaults.
    pub(crate) fn settings(self) -> anyhow::Result<Settings> {
        let file: File = match &self.config {
            Some(path) => runtime::config::read_file(path)?,
            None => File::default(),
        };
        let file = File {
            server: self.server.or(file.server),
            cluster: self.cluster.or(file.cluster),
            storage: self.storage.or(file.storage),
            telemetry: self.telemetry.or(file.telemetry),
            distributor: self.distributor.or(file.distributor),
            ingester: self.ingester.or(file.ingester),
            querier: self.querier.or(file.querier),
        };
        let settings = Settings {
            shown: file.shown(),
            server: file.server.resolve(),
            cluster: file.cluster.resolve(),
            storage: file.storage.resolve(),
            telemetry: file.telemetry.resolve(),
            distributor: file.distributor.resolve(),
            ingester: file.ingester.resolve(),
            querier: file.querier.resolve(),
        };
        settings.check()?;
        Ok(settings)
    }
}

impl Settings {
    /// Refuses zero where it has no meaning; the roles check what depends on more than one option.
    fn check(&self) -> anyhow::Result<()> {
        let positive = [
            ("slot_duration", self.server.slot_duration > 0),
            ("body_bytes_max", self.distributor.body_bytes_max > 0),
            (
                "decompressed_bytes_max",
                self.distributor.decompressed_bytes_max > 0,
            ),
            ("decoders_max", self.distributor.decoders_max > 0),
            ("waiting_bytes_max", self.distributor.waiting_bytes_max > 0),
            (
                "unstored_bytes_max",
                self.distributor.unstored_bytes_max > 0,
            ),
            ("queries_max", self.querier.queries_max > 0),
            ("query_timeout", !self.querier.query_timeout.is_zero()),
            ("query_reads_max", self.querier.query_reads_max > 0),
            ("entries_max", self.querier.entries_max > 0),
            ("rules_interval", !self.querier.rules_interval.is_zero()),
            ("rules_lease", !self.querier.rules_lease.is_zero()),
        ];
        match positive.iter().find(|(_, positive)| !positive) {
            Some((name, _)) => {
                anyhow::bail!("{name} is 0, which has no meaning; set it to at least 1")
            }
            None => {
                self.check_records()?;
                self.check_cluster()
            }
        }
    }
}

impl Settings {
    /// Refuses limits of records and requests beyond what can be stored or sent.
    fn check_records(&self) -> anyhow::Result<()> {
        let taken = &self.distributor;
        let record = taken
            .line_bytes_max
            .saturating_add(taken.metadata_bytes_max) as u64;
        anyhow::ensure!(
            record <= ingester::RECORD_BYTES_MAX,
            "line_bytes_max and metadata_bytes_max together are {record} bytes; a record that is stored has at most {}",
            ingester::RECORD_BYTES_MAX
        );
        let pairs = taken.metadata_pairs_max.max(taken.label_names_max);
        anyhow::ensure!(
            pairs <= distributor::PAIRS_MAX,
            "metadata_pairs_max and label_names_max are at most {}; one of them is {pairs}",
            distributor::PAIRS_MAX
        );
        let request = taken.record_bytes_max();
        let message = self.cluster.rpc_message_bytes_max;
        anyhow::ensure!(
            self.cluster.rpc_addr.is_empty() || request <= message,
            "decompressed_bytes_max is {} bytes, of which the records of one request can become {request}; an ingester takes rpc_message_bytes_max, {message}, at once: lower the one or raise the other",
            taken.decompressed_bytes_max
        );
        let (last, waited) = (taken.last_copy_after(), ingester::Config::LATE_COPIES);
        anyhow::ensure!(
            self.cluster.rpc_addr.is_empty() || last <= waited,
            "with this ingest_patience copies of a request arrive up to {} s after it; delete requests wait {} s for them: make it shorter",
            last.as_secs(),
            waited.as_secs()
        );
        Ok(())
    }

    fn check_cluster(&self) -> anyhow::Result<()> {
        self.cluster.check(self.server.roles.ingester)?;
        self.querier.check()?;
        let alone = self.cluster.rpc_addr.is_empty();
        anyhow::ensure!(
            alone || !self.storage.storage_url.is_empty(),
            "the processes of a cluster store in one place: set storage_url to a bucket, or to a folder that all of them see"
        );
        Ok(())
    }
}

/// Every option at its default, by section.
pub(crate) fn defaults() -> Shown {
    File::default().shown()
}

/// Every option, by section.
pub(crate) fn reference() -> Vec<(&'static str, Vec<OptionDoc>)> {
    vec![
        ("server", ServerOptions::reference()),
        ("cluster", ClusterOptions::reference()),
        ("storage", StorageOptions::reference()),
        ("telemetry", TelemetryOptions::reference()),
        ("distributor", distributor::Options::reference()),
        ("ingester", ingester::Options::reference()),
        ("querier", querier::Options::reference()),
    ]
}

impl StorageConfig {
    /// As the store takes it; segments go under the data folder unless a place is named.
    pub(crate) fn store(&self, data_dir: &std::path::Path) -> store::Config {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let url = given(&self.storage_url);
        store::Config {
            url: url.unwrap_or_else(|| data_dir.join("segments").display().to_string()),
            endpoint: given(&self.storage_s3_endpoint),
            region: given(&self.storage_s3_region),
            access_key: given(&self.storage_s3_access_key),
            secret_key: given(&self.storage_s3_secret_key),
            session_token: None,
            allow_http: self.storage_s3_allow_http,
            path_style: self.storage_s3_path_style,
            aws: std::env::vars()
                .filter(|(name, _)| name.starts_with("AWS_"))
                .collect(),
        }
    }
}

impl OptionValue for Roles {
    fn read(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Roles {
                distributor: true,
                ingester: true,
                querier: true,
            });
        }
        let names: Vec<&str> = text.split(',').map(str::trim).collect();
        let known = ["distributor", "ingester", "querier"];
        if let Some(name) = names.iter().find(|name| !known.contains(name)) {
            return Err(format!(
                "\"{name}\" is not a role; write all, or some of {}",
                known.join(", ")
            ));
        }
        Ok(Roles {
            distributor: names.contains(&"distributor"),
            ingester: names.contains(&"ingester"),
            querier: names.contains(&"querier"),
        })
    }

    fn show(&self) -> String {
        let Roles {
            distributor,
            ingester,
            querier,
        } = *self;
        if distributor && ingester && querier {
            return "all".to_owned();
        }
        let roles = [
            (distributor, "distributor"),
            (ingester, "ingester"),
            (querier, "querier"),
        ];
        let names: Vec<&str> = roles
            .into_iter()
            .filter_map(|(played, name)| played.then_some(name))
            .collect();
        names.join(",")
    }
}
