//! A real S3-speaking server on loopback, over a folder.

use std::net::SocketAddr;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use store::Config;
use tempfile::TempDir;
use tokio::net::TcpListener;

const ACCESS_KEY: &str = "test-access-key";
const SECRET_KEY: &str = "test-secret-key";
const BUCKET: &str = "pharos-test";

/// Lives as long as the test's runtime.
pub(crate) struct S3Server {
    address: SocketAddr,
    folder: TempDir,
}

impl S3Server {
    pub(crate) async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(folder.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let connections = Builder::new(TokioExecutor::new());
                    // A client that goes away is no failure of the server.
                    let _ = connections
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        });
        S3Server { address, folder }
    }

    /// Settings under which a client reaches it.
    pub(crate) fn config(&self, prefix: &str) -> Config {
        Config {
            url: format!("s3://{BUCKET}/{prefix}"),
            endpoint: Some(format!("http://{}", self.address)),
            region: Some("us-east-1".to_owned()),
            access_key: Some(ACCESS_KEY.to_owned()),
            secret_key: Some(SECRET_KEY.to_owned()),
            allow_http: true,
            path_style: true,
            ..Config::default()
        }
    }

    /// Whether the bucket has this object.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.folder.path().join(BUCKET).join(key).is_file()
    }
}
