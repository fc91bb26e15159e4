//! Which object store keeps the large bodies, as the configuration file says it: `[storage] bodies`.
//!
//! ```toml
//! bodies = { directory = "/srv/postroom/bodies" }
//! # or
//! [storage.bodies.s3]
//! endpoint = "https://s3.example.org"
//! bucket = "mail"
//! ```

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Objects, ObjectsError};

/// Longest file of credentials that is read, in octets: it has three short lines.
const MAX_CREDENTIALS_OCTETS: u64 = 64 << 10;

/// Where objects are. All nodes of a cluster must mean the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectsConfig {
    /// In a directory that all nodes have mounted, or of the only node. It must be there.
    Directory(PathBuf),
    /// In a bucket of anything that speaks S3.
    S3(S3Config),
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Config {
    /// Address of the server, `https://…`. Without one: Amazon's, of the region.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The bucket. It must be there.
    pub bucket: String,
    /// What all keys start with, a `/` apart; for a bucket that others use too.
    #[serde(default)]
    pub prefix: String,
    /// The region that requests are signed for; most servers other than Amazon's take any.
    #[serde(default = "default_region")]
    pub region: String,
    /// Whether the bucket is part of the path (`endpoint/bucket/key`); otherwise of the host's name.
    #[serde(default = "yes")]
    pub path_style: bool,
    /// Whether an endpoint without TLS is taken: whoever is on the way can read mail then.
    #[serde(default)]
    pub allow_http: bool,
    /// A file of certificates (PEM) that are trusted besides the system's, for an authority of one's own.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// A file with the lines `aws_access_key_id = …`, `aws_secret_access_key = …` and, where there is
    /// one, `aws_session_token = …`. Without it: the environment's `AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.
    #[serde(default)]
    pub credentials_file: Option<PathBuf>,
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

fn yes() -> bool {
    true
}

impl ObjectsConfig {
    /// Opens the store. Nothing is asked of it yet: see [`Objects::check`].
    pub fn open(&self) -> Result<Objects, ObjectsError> {
        match self {
            Self::Directory(directory) => Objects::in_directory(directory),
            Self::S3(config) => Objects::in_s3(config),
        }
    }
}

/// What requests are signed with. Deliberately without `Debug`.
pub struct Credentials {
    /// Whose.
    pub key_id: String,
    /// The secret.
    pub secret: String,
    /// Of a session, where there is one.
    pub token: Option<String>,
}

impl S3Config {
    /// Reads the credentials, where the configuration says they are.
    pub fn credentials(&self) -> Result<Credentials, ObjectsError> {
        match &self.credentials_file {
            Some(file) => from_file(file),
            None => Credentials::found(|name| std::env::var(name.to_uppercase()).ok()).ok_or_else(
                || {
                    ObjectsError::Wrong(
                        "no S3 credentials: set `credentials_file`, or AWS_ACCESS_KEY_ID and \
                     AWS_SECRET_ACCESS_KEY in the environment"
                            .to_owned(),
                    )
                },
            ),
        }
    }
}

impl Credentials {
    fn found(value: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let value = |name| value(name).filter(|value| !value.is_empty());
        Some(Self {
            key_id: value("aws_access_key_id")?,
            secret: value("aws_secret_access_key")?,
            token: value("aws_session_token"),
        })
    }
}

/// Lines as in the files of Amazon's own tools, of which other lines and sections are passed over.
fn from_file(file: &Path) -> Result<Credentials, ObjectsError> {
    let wrong =
        |why: &str| ObjectsError::Wrong(format!("S3 credentials {}: {why}", file.display()));
    let size = std::fs::metadata(file).map_err(|error| wrong(&error.to_string()))?.len();
    if size > MAX_CREDENTIALS_OCTETS {
        return Err(wrong("the file is too long"));
    }
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error.to_string()))?;
    let value = |name: &str| {
        let mut pairs = text.lines().filter_map(|line| line.split_once('='));
        let (_, value) = pairs.find(|(key, _)| key.trim().eq_ignore_ascii_case(name))?;
        Some(value.trim().to_owned())
    };
    let found = Credentials::found(value);
    found.ok_or_else(|| wrong("`aws_access_key_id = …` and `aws_secret_access_key = …` are needed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<ObjectsConfig, String> {
        #[derive(Deserialize)]
        struct Section {
            bodies: ObjectsConfig,
        }
        let section: Result<Section, _> = toml::from_str(text);
        section.map(|section| section.bodies).map_err(|error| error.to_string())
    }

    #[test]
    fn a_bucket_needs_little_more_than_its_name() {
        let config = parsed("bodies.s3 = { bucket = 'mail', endpoint = 'https://s3.test' }");
        let Ok(ObjectsConfig::S3(config)) = config else { panic!("{config:?}") };
        assert!(config.path_style && !config.allow_http);
        assert_eq!((&config.region[..], &config.prefix[..]), ("us-east-1", ""));
        let directory = parsed("bodies = { directory = '/srv/bodies' }");
        assert_eq!(directory, Ok(ObjectsConfig::Directory("/srv/bodies".into())));
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let refused = parsed("bodies.s3 = { bucket = 'mail', bukket = 'x' }").unwrap_err();
        assert!(refused.contains("bukket"), "{refused}");
        let refused = parsed("bodies.ftp = { bucket = 'mail' }").unwrap_err();
        assert!(refused.contains("ftp"), "{refused}");
    }

    #[test]
    fn credentials_are_read_from_lines_as_the_usual_tools_write_them() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "[default]\nregion=x\naws_access_key_id = KEY\nAWS_SECRET_ACCESS_KEY=a=b/c==\n";
        std::fs::write(file.path(), text).unwrap();
        let read = from_file(file.path()).ok().unwrap();
        assert_eq!((&read.key_id[..], &read.secret[..]), ("KEY", "a=b/c=="));
        assert_eq!(read.token, None);
    }

    #[test]
    fn a_useless_file_of_credentials_is_named_and_its_secret_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in [
            "",
            "aws_secret_access_key = hidden",
            "aws_access_key_id=\naws_secret_access_key=hidden",
        ] {
            std::fs::write(file.path(), text).unwrap();
            let refused = from_file(file.path()).err().unwrap().to_string();
            assert!(refused.contains(&*file.path().to_string_lossy()), "{refused}");
            assert!(!refused.contains("hidden") && !refused.contains('\n'), "{refused}");
        }
        std::fs::write(file.path(), vec![b'x'; MAX_CREDENTIALS_OCTETS as usize + 1]).unwrap();
        assert!(from_file(file.path()).is_err());
        assert!(from_file(Path::new("/absent")).is_err());
    }
}
