use std::path::{Path, PathBuf};

use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

use crate::Error;

/// Mutual TLS between processes: both sides show a certificate of the same authority. PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authority that signed those of all processes.
    pub authority: PathBuf,
    /// This process's certificate, with the intermediate ones after it.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// The name that the others' certificates must have; `None` for the host of their address.
    pub name: Option<String>,
}

impl TlsFiles {
    /// For the side that is called.
    pub(super) fn server(&self) -> Result<ServerTlsConfig, Error> {
        Ok(ServerTlsConfig::new()
            .identity(self.identity()?)
            .client_ca_root(Certificate::from_pem(read(&self.authority)?)))
    }

    /// For the side that calls.
    pub(super) fn client(&self) -> Result<ClientTlsConfig, Error> {
        let config = ClientTlsConfig::new()
            .identity(self.identity()?)
            .ca_certificate(Certificate::from_pem(read(&self.authority)?));
        Ok(match &self.name {
            Some(name) => config.domain_name(name),
            None => config,
        })
    }

    fn identity(&self) -> Result<Identity, Error> {
        Ok(Identity::from_pem(
            read(&self.certificate)?,
            read(&self.key)?,
        ))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| {
        Error::Invalid(format!(
            "cannot read the TLS file {}: {error}",
            path.display()
        ))
    })
}
