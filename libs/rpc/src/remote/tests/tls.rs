//! Goal: with TLS files only processes of the same authority are let in. Method: certificates made here.

use super::*;

/// An authority and one certificate of it, as files.
struct Issued {
    _folder: tempfile::TempDir,
    files: TlsFiles,
}

fn issue(host: &str) -> Issued {
    let folder = tempfile::TempDir::new().unwrap();
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::from_params(&params, &authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let files = TlsFiles {
        authority: write("ca.pem", authority.pem()),
        certificate: write("node.pem", certificate.pem()),
        key: write("node.key", key.serialize_pem()),
        name: None,
    };
    Issued {
        _folder: folder,
        files,
    }
}

fn with_tls(files: &TlsFiles) -> RemoteConfig {
    RemoteConfig {
        tls: Some(files.clone()),
        ..RemoteConfig::default()
    }
}

#[tokio::test]
async fn tls_lets_in_those_of_the_same_authority_alone() {
    let ours = issue("127.0.0.1");
    let (fake, remote, address) = connected(with_tls(&ours.files)).await;
    remote
        .ingest(&address)
        .ingest(vec![request(1)])
        .await
        .unwrap();
    assert_eq!(fake.ingested.lock().len(), 1);
    let theirs = issue("127.0.0.1");
    for stranger in [with_tls(&theirs.files), RemoteConfig::default()] {
        let remote = Remote::new(stranger).unwrap();
        let refused = remote.ingest(&address).ingest(vec![request(2)]).await;
        assert_eq!(refused.unwrap_err().kind(), model::Kind::Unavailable);
    }
    assert_eq!(fake.ingested.lock().len(), 1);
}

#[tokio::test]
async fn a_certificate_with_another_name_is_taken_when_that_name_is_configured() {
    let mut issued = issue("pharos.internal");
    let fake = Fake::new();
    let address = serve_fake(&fake, &with_tls(&issued.files)).await;
    let by_host = Remote::new(with_tls(&issued.files)).unwrap();
    let refused = by_host.ingest(&address).ingest(vec![request(1)]).await;
    assert!(refused.is_err());
    issued.files.name = Some("pharos.internal".to_owned());
    let by_name = Remote::new(with_tls(&issued.files)).unwrap();
    by_name
        .ingest(&address)
        .ingest(vec![request(1)])
        .await
        .unwrap();
}

#[test]
fn a_missing_tls_file_is_named() {
    let mut issued = issue("127.0.0.1");
    issued.files.key = "/nowhere/node.key".into();
    let error = Remote::new(with_tls(&issued.files)).unwrap_err();
    assert!(error.to_string().contains("/nowhere/node.key"), "{error}");
}
