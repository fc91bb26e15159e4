//! A node's certificates as they are used: read from their directory, and again when they change,
//! without a restart. New ones that make no sense leave the old ones in use, and are reported once.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::authority::MAX_FILE_OCTETS;
use super::revoked::{Revocations, Signers};
use super::trust::{self, Holder, Verifier};
use super::{CertificateError, files};

/// How often the files are looked at: a look costs three system calls.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The one protocol that is spoken over links (RFC 9113 §3.2).
const ALPN: &[u8] = b"h2";

/// What one look at the files has found; never changes.
pub struct Material {
    /// Who we are.
    pub holder: Holder,
    /// What is refused.
    pub revoked: Arc<Revocations>,
    /// What of it the authority has signed: other nodes are told.
    pub(crate) spread: Revocations,
    /// The authority's certificates, as PEM.
    authority: String,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
}

impl Material {
    /// Whether a link to this holder may go on.
    pub fn admits(&self, peer: &Holder, now: SystemTime) -> bool {
        peer.cluster == self.holder.cluster && peer.not_after > now && !self.revoked.has(peer)
    }
}

/// What tells one content of a file from another without reading it.
type Stamp = Option<(Option<SystemTime>, u64, u64)>;

/// Certificates that follow their directory.
pub struct Credentials {
    directory: PathBuf,
    stamps: Mutex<[Stamp; 3]>,
    current: watch::Sender<Arc<Material>>,
}

impl Credentials {
    /// Reads a node's directory.
    pub fn open(directory: &Path) -> Result<Self, CertificateError> {
        // The stamps first: a change while we read is then seen at the next look.
        let stamps = Mutex::new(stamps(directory));
        let current = watch::Sender::new(Arc::new(read(directory)?));
        Ok(Self { directory: directory.to_owned(), stamps, current })
    }

    /// What is in use now.
    pub fn current(&self) -> Arc<Material> {
        self.current.borrow().clone()
    }

    /// Tells of each change.
    pub fn watch(&self) -> watch::Receiver<Arc<Material>> {
        self.current.subscribe()
    }

    /// Looks at the files until `stop`, each [`LOOK_EVERY`].
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let this = self.clone();
            // Cannot fail but by a panic in it, and then the old certificates serve on.
            let _ = tokio::task::spawn_blocking(move || this.look()).await;
        }
    }

    /// Reads the files again if they have changed since they were last read.
    pub fn look(&self) {
        let mut known = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        let found = stamps(&self.directory);
        if *known == found {
            return;
        }
        *known = found;
        match read(&self.directory) {
            Ok(material) => {
                info!(serial = material.holder.serial, "new cluster certificates in use");
                self.current.send_replace(Arc::new(material));
            }
            Err(error) => {
                warn!(%error, "new cluster certificates are no good; the old ones stay in use");
            }
        }
    }
}

impl Credentials {
    /// Takes a peer's list up: what the authority has signed is kept in the directory and counts from now
    /// on. The error says why the list, or a part of it, was not taken; what is good of it counts all the
    /// same.
    pub(crate) fn take_revocations(&self, text: &str) -> Result<(), String> {
        let material = self.current();
        let brought = Revocations::parse(text)?;
        let signers = Signers::new(material.holder.cluster, &material.authority);
        let good = brought.signed(&signers);
        let strange = brought.len() - good.len();
        self.keep(good, &signers).map_err(|error| error.to_string())?;
        match strange {
            0 => Ok(()),
            _ => Err(format!("{strange} revocations are not signed by our authority")),
        }
    }

    fn keep(&self, good: Revocations, signers: &Signers) -> Result<(), CertificateError> {
        let alone = files::alone(&self.directory)?;
        let path = self.directory.join(files::REVOKED);
        // Read anew: an operator may have written since.
        let mut list = Revocations::read(&path)?;
        let merged = list.merge(good, signers);
        if merged.new {
            files::write_public(&path, &list.to_text())?;
            drop(alone);
            self.look();
        }
        merged.left_out.map_or(Ok(()), Err)
    }
}

fn stamps(directory: &Path) -> [Stamp; 3] {
    use std::os::unix::fs::MetadataExt;
    [files::NODE, files::AUTHORITY, files::REVOKED].map(|name| {
        let meta = std::fs::metadata(directory.join(name)).ok()?;
        Some((meta.modified().ok(), meta.len(), meta.ino()))
    })
}

fn read(directory: &Path) -> Result<Material, CertificateError> {
    let tls = |error: &dyn std::fmt::Display| CertificateError::Tls(error.to_string());
    let node = directory.join(files::NODE);
    let pem = files::read_secret(&node, MAX_FILE_OCTETS)?;
    let unusable = |why: String| CertificateError::Unusable(node.clone(), why);
    let holder = trust::holder_of_pem(&pem).map_err(unusable)?;
    let chain = certificates(&pem).map_err(unusable)?;
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| unusable(e.to_string()))?;

    let path = directory.join(files::AUTHORITY);
    let authority = files::read(&path, MAX_FILE_OCTETS)?;
    let unusable = |why: String| CertificateError::Unusable(path.clone(), why);
    if trust::cluster_of(&authority).map_err(unusable)? != holder.cluster {
        return Err(unusable("it is another cluster's than the node's certificate".to_owned()));
    }
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&authority).map_err(unusable)? {
        roots.add(certificate).map_err(|error| tls(&error))?;
    }
    let (roots, provider) = (Arc::new(roots), Arc::new(ring::default_provider()));
    let revoked = Arc::new(Revocations::read(&directory.join(files::REVOKED))?);
    let verifier = Arc::new(Verifier {
        cluster: holder.cluster,
        revoked: revoked.clone(),
        clients: WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| tls(&error))?,
        servers: WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| tls(&error))?,
    });

    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| tls(&error))?
        .with_client_cert_verifier(verifier.clone())
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(|error| tls(&error))?;
    server.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would skip the look at what is revoked.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| tls(&error))?
        .dangerous() // Ours checks all that the usual one does, and more.
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, key)
        .map_err(|error| tls(&error))?;
    client.alpn_protocols = vec![ALPN.to_vec()];
    client.resumption = Resumption::disabled();
    let spread = revoked.signed(&Signers::new(holder.cluster, &authority));
    let (server, client) = (Arc::new(server), Arc::new(client));
    Ok(Material { holder, revoked, spread, authority, server, client })
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())
}
