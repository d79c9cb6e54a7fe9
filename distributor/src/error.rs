use model::{Kind, TenantError, TenantId};

/// Why a request was refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The body is larger than what is taken.
    #[error("request body too large: send at most {limit} bytes at once")]
    BodyTooLarge {
        /// The limit, bytes.
        limit: usize,
    },
    /// The records are more than the body's size lets expect.
    #[error(
        "the records of the request need more than {limit} bytes with the attributes that they \
         share: send fewer at once"
    )]
    ContentTooLarge {
        /// The limit, bytes.
        limit: usize,
    },
    /// The connection broke before the body was complete.
    #[error("the request body ended early: {0}")]
    BodyIncomplete(String),
    /// The body is malformed.
    #[error(transparent)]
    Decode(#[from] proto::Error),
    /// The content type is none of the endpoint's.
    #[error("unsupported content type '{found}': this endpoint takes {wanted}")]
    ContentType {
        /// What the request says.
        found: String,
        /// What it may say.
        wanted: &'static str,
    },
    /// The content encoding is unknown.
    #[error(
        "unsupported content encoding '{found}': this endpoint takes {}",
        proto::Encoding::NAMES
    )]
    ContentEncoding {
        /// What the request says.
        found: String,
    },
    /// The tenant's name is not one.
    #[error("invalid X-Scope-OrgID: {0}")]
    Tenant(#[from] TenantError),
    /// The tenant's name holds bytes that are not even text.
    #[error("invalid X-Scope-OrgID: tenant ID is not visible ASCII")]
    TenantBytes,
    /// The tenant sends faster than it may.
    #[error(
        "ingestion rate limit exceeded for tenant {tenant} (limit: {limit} bytes/sec) while adding \
         {records} lines of {bytes} bytes: send less, or raise the limit"
    )]
    RateLimited {
        /// Who.
        tenant: TenantId,
        /// What is allowed, bytes per second.
        limit: u64,
        /// Records of the request.
        records: u64,
        /// Bytes of the request.
        bytes: u64,
        /// When the same request may pass.
        retry_after_seconds: u32,
    },
    /// The request is larger than what the tenant may ever send at once.
    #[error(
        "request of {bytes} bytes is larger than rate_burst_bytes ({burst}) and can never be \
         taken; send less at once"
    )]
    LargerThanBurst {
        /// Bytes of the request: lines and metadata.
        bytes: u64,
        /// What the largest may have, bytes: `rate_burst_bytes`, or what a second allows, if that
        /// is more.
        burst: u64,
    },
    /// Too many bodies wait to be decoded.
    #[error("too many requests at once: bodies of more than {limit} bytes wait to be decoded")]
    Overloaded {
        /// How many bytes may wait.
        limit: usize,
    },
    /// The owners of the shards could not store it.
    #[error(transparent)]
    Ingest(#[from] rpc::Error),
}

impl Error {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            Error::RateLimited { .. } | Error::Overloaded { .. } => Kind::Exhausted,
            Error::Ingest(error) => error.kind(),
            _ => Kind::Invalid,
        }
    }

    /// After how many seconds the same request may succeed; `None` when waiting does not help.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        match self {
            Error::RateLimited {
                retry_after_seconds,
                ..
            }
            | Error::Ingest(rpc::Error::Exhausted {
                retry_after_seconds,
                ..
            }) => Some(*retry_after_seconds),
            Error::Overloaded { .. } => Some(1),
            // Somebody has to make room; until then, asking often helps nobody.
            Error::Ingest(rpc::Error::OutOfSpace(_)) => Some(30),
            Error::Ingest(rpc::Error::Unavailable(_)) => Some(5),
            _ => None,
        }
    }
}
