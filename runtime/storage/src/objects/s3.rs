//! S3: how a bucket is opened, and what its errors mean. TLS is rustls over ring, as everywhere.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};

use super::config::S3Config;
use super::{ObjectsError, one_line};

/// How long making a connection may take: a server that is there answers in milliseconds.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How often a request is sent again that was refused for the moment (5xx, 429) or cut off.
const MAX_RETRIES: usize = 3;
/// Before the first of these; each later one waits up to twice as long.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two of them.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(1);
/// After so long nothing is sent again: whoever waits has more use for an answer.
const RETRY_TIME: Duration = Duration::from_secs(10);
/// How long a connection that nobody uses is kept: less than servers and what stands before them do.
const IDLE_TIME: Duration = Duration::from_secs(20);

/// Opens a bucket. Nothing is sent.
pub fn open(config: &S3Config) -> Result<Arc<dyn ObjectStore>, ObjectsError> {
    // Refused where there is one already: then it is this one, as no other is built in.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if config.bucket.is_empty() {
        return Err(ObjectsError::Wrong("the S3 bucket has no name".to_owned()));
    }
    let store = build(config)?;
    Ok(match config.prefix.trim_matches('/') {
        "" => Arc::new(store),
        prefix => Arc::new(PrefixStore::new(store, prefix)),
    })
}

fn build(config: &S3Config) -> Result<AmazonS3, ObjectsError> {
    // It shows the secret when it is formatted: it must not leave this function.
    let credentials = config.credentials()?;
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&config.bucket)
        .with_region(&config.region)
        .with_virtual_hosted_style_request(!config.path_style)
        .with_access_key_id(credentials.key_id)
        .with_secret_access_key(credentials.secret)
        .with_client_options(client(config)?)
        // Not every server has the request that removes many.
        .with_disable_bulk_delete(true)
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: RETRY_PAUSE,
                max_backoff: MAX_RETRY_PAUSE,
                base: 2.0,
            },
            max_retries: MAX_RETRIES,
            retry_timeout: RETRY_TIME,
        });
    if let Some(token) = credentials.token {
        builder = builder.with_token(token);
    }
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(checked(endpoint, config.allow_http)?);
    }
    builder.build().map_err(|error| ObjectsError::Wrong(one_line(&error)))
}

fn checked(endpoint: &str, allow_http: bool) -> Result<&str, ObjectsError> {
    let wrong = |why: &str| Err(ObjectsError::Wrong(format!("the S3 endpoint {endpoint:?} {why}")));
    match endpoint.split_once("://") {
        Some(("https", rest)) if !rest.is_empty() => Ok(endpoint),
        Some(("http", rest)) if !rest.is_empty() && allow_http => Ok(endpoint),
        Some(("http", _)) => wrong("has no TLS; say `allow_http = true` if that is meant"),
        Some(_) | None => wrong("is no address: https://host[:port]"),
    }
}

fn client(config: &S3Config) -> Result<ClientOptions, ObjectsError> {
    // How long a request may take depends on the size of the body: it is bounded where that is known.
    let mut options = ClientOptions::new()
        .with_allow_http(config.allow_http)
        .with_connect_timeout(CONNECT_TIME)
        .with_timeout_disabled()
        .with_pool_idle_timeout(IDLE_TIME);
    let Some(file) = &config.ca_file else { return Ok(options) };
    let wrong =
        |why: String| ObjectsError::Wrong(format!("S3 certificates {}: {why}", file.display()));
    let octets = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let certificates =
        Certificate::from_pem_bundle(&octets).map_err(|error| wrong(one_line(&error)))?;
    if certificates.is_empty() {
        return Err(wrong("there is none in it".to_owned()));
    }
    for certificate in certificates {
        options = options.with_root_certificate(certificate);
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_without_tls_must_be_meant() {
        assert!(checked("https://s3.test", false).is_ok());
        assert!(checked("http://s3.test", true).is_ok());
        let refused = checked("http://s3.test", false).unwrap_err().to_string();
        assert!(refused.contains("allow_http"), "{refused}");
        for rubbish in ["s3.test", "https://", "ftp://x", ""] {
            assert!(checked(rubbish, true).is_err(), "{rubbish}");
        }
    }
}
