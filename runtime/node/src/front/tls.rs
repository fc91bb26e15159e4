//! The server's certificate: read from PEM files, and read again when they change, without a
//! restart. A new one that makes no sense (or whose key is not there yet) leaves the old one in use
//! and is reported once.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

/// How often, at most, the files are looked at: each handshake may, and a look costs two system
/// calls on a blocking thread.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a certificate cannot be used: each case says what to correct.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or has no PEM block of its kind.
    #[error("{0} cannot be read as PEM: {1}")]
    Unreadable(PathBuf, String),
    /// The file has no certificate.
    #[error("{0} has no certificate")]
    NoCertificate(PathBuf),
    /// Certificate and key do not go together, or are of a kind that is not known.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// What tells one content of a file from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    octets: u64,
    inode: u64,
}

#[derive(Debug)]
struct Looked {
    at: Instant,
    /// Of certificate and key, when they were last read, well or not.
    stamps: [Option<Stamp>; 2],
}

/// A certificate that follows its files.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    every: Duration,
    current: RwLock<Arc<ServerConfig>>,
    looked: Mutex<Looked>,
}

impl Tls {
    /// Reads both files. `every`: see [`LOOK_EVERY`].
    pub fn open(certificate: &Path, key: &Path, every: Duration) -> Result<Self, TlsError> {
        // The stamps first: a change while we read is then seen at the next look.
        let stamps = [stamp(certificate), stamp(key)];
        let config = Arc::new(read(certificate, key)?);
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            every,
            current: RwLock::new(config),
            looked: Mutex::new(Looked { at: Instant::now(), stamps }),
        })
    }

    /// For the next handshake; looks at the files when that is due.
    pub async fn acceptor(self: &Arc<Self>) -> TlsAcceptor {
        if self.is_due() {
            let tls = self.clone();
            // Cannot fail but by a panic in it, and then the old certificate serves on.
            let _ = tokio::task::spawn_blocking(move || tls.look()).await;
        }
        TlsAcceptor::from(self.config())
    }

    fn config(&self) -> Arc<ServerConfig> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it is this caller's turn to look.
    fn is_due(&self) -> bool {
        let mut looked = self.looked();
        let due = looked.at.elapsed() >= self.every;
        if due {
            looked.at = Instant::now();
        }
        due
    }

    /// Reads the files again if they have changed since they were last read.
    fn look(&self) {
        let stamps = [stamp(&self.certificate), stamp(&self.key)];
        {
            let mut looked = self.looked();
            if looked.stamps == stamps {
                return;
            }
            looked.stamps = stamps;
        }
        match read(&self.certificate, &self.key) {
            Ok(config) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                info!(certificate = %self.certificate.display(), "new certificate in use");
            }
            Err(error) => warn!(%error, "the new certificate is no good; the old one stays in use"),
        }
    }

    fn looked(&self) -> MutexGuard<'_, Looked> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path).ok()?;
    Some(Stamp { modified: meta.modified().ok(), octets: meta.len(), inode: meta.ino() })
}

fn read(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let unreadable = |path: &Path, error: rustls::pki_types::pem::Error| {
        TlsError::Unreadable(path.to_owned(), error.to_string())
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(certificate, error))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(certificate.to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(config)
}
