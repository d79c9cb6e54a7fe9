use std::fmt;
use std::path::PathBuf;

use crate::Error;

/// Where objects are kept. The S3 fields mean nothing for a local folder.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// `/path`, `./path` or `file:///path`: a local folder, made when missing.
    /// `s3://bucket/prefix`: a bucket; the prefix may be left out.
    pub url: String,
    /// Address of the S3 service, such as `http://127.0.0.1:9000`; `None`: Amazon's, by region.
    pub endpoint: Option<String>,
    /// Region of the bucket; `None`: `us-east-1`.
    pub region: Option<String>,
    /// Access key; `None`: the machine's own identity (instance metadata).
    pub access_key: Option<String>,
    /// The secret that belongs to the access key.
    pub secret_key: Option<String>,
    /// Token of temporary credentials.
    pub session_token: Option<String>,
    /// Whether `endpoint` may be plain `http`.
    pub allow_http: bool,
    /// Whether the bucket is named in the path (`endpoint/bucket`) and not in the host
    /// (`bucket.endpoint`). Most services other than Amazon's need `true`.
    pub path_style: bool,
    /// Further settings by their `AWS_…` name, such as those of web identities
    /// (`AWS_ROLE_ARN`, `AWS_WEB_IDENTITY_TOKEN_FILE`). Names that mean nothing here are ignored,
    /// so that a whole environment may be handed over; the fields above win.
    pub aws: Vec<(String, String)>,
}

/// What a [`Config::url`] names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Folder(PathBuf),
    Bucket { bucket: String, prefix: String },
}

impl Config {
    /// A local folder.
    pub fn folder(path: impl AsRef<std::path::Path>) -> Self {
        Config {
            url: path.as_ref().to_string_lossy().into_owned(),
            ..Config::default()
        }
    }

    pub(crate) fn place(&self) -> Result<Place, Error> {
        let url = self.url.as_str();
        let invalid = |what: &str| {
            Err(Error::Invalid(format!(
                "object storage url {url:?} {what}: use a path, file:///path or s3://bucket/prefix"
            )))
        };
        if let Some(path) = url.strip_prefix("file://") {
            if !path.starts_with('/') {
                return invalid("has no absolute path");
            }
            return Ok(Place::Folder(PathBuf::from(path)));
        }
        if let Some(rest) = url.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return invalid("names no bucket");
            }
            return Ok(Place::Bucket {
                bucket: bucket.to_owned(),
                prefix: prefix.trim_matches('/').to_owned(),
            });
        }
        if url.is_empty() {
            return invalid("is empty");
        }
        if url.contains("://") {
            return invalid("has an unknown scheme");
        }
        Ok(Place::Folder(PathBuf::from(url)))
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &Option<String>| secret.as_ref().map(|_| "…");
        f.debug_struct("Config")
            .field("url", &self.url)
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("access_key", &self.access_key)
            .field("secret_key", &hidden(&self.secret_key))
            .field("session_token", &hidden(&self.session_token))
            .field("allow_http", &self.allow_http)
            .field("path_style", &self.path_style)
            .field(
                "aws",
                &self.aws.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            )
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> Result<Place, Error> {
        let url = url.to_owned();
        Config {
            url,
            ..Config::default()
        }
        .place()
    }

    #[test]
    fn urls_name_folders_and_buckets() {
        let folder = |path: &str| Ok(Place::Folder(PathBuf::from(path)));
        let bucket = |bucket: &str, prefix: &str| {
            let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
            Ok(Place::Bucket { bucket, prefix })
        };
        assert_eq!(place("/var/x"), folder("/var/x"));
        assert_eq!(place("./data"), folder("./data"));
        assert_eq!(place("file:///var/x"), folder("/var/x"));
        assert_eq!(place("s3://logs"), bucket("logs", ""));
        assert_eq!(place("s3://logs/a/b/"), bucket("logs", "a/b"));
    }

    #[test]
    fn a_bad_url_is_quoted_with_what_would_be_right() {
        for (url, what) in [
            ("", "is empty"),
            ("s3://", "names no bucket"),
            ("file://x", "has no absolute path"),
            ("gs://x", "has an unknown scheme"),
        ] {
            let text = place(url).unwrap_err().to_string();
            assert!(
                text.contains(what) && text.contains("s3://bucket/prefix"),
                "{text}"
            );
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let config = Config {
            secret_key: Some("hush".to_owned()),
            aws: vec![("AWS_SESSION_TOKEN".to_owned(), "hush".to_owned())],
            ..Config::default()
        };
        assert!(!format!("{config:?}").contains("hush"));
    }
}
