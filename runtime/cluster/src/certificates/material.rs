//! What links are made with: this node's certificate and key, whom it trusts, and what it refuses. Never
//! changes: a change of any of it makes a new one.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::authority::MAX_FILE_OCTETS;
use super::revoked::{Revocations, Signers};
use super::trust::{self, Holder, Verifier};
use super::{CertificateError, files};

/// The one protocol that is spoken over links (RFC 9113 §3.2).
const ALPN: &[u8] = b"h2";

/// What is in use at one time.
pub struct Material {
    /// Who we are.
    pub holder: Holder,
    /// What is refused.
    pub revoked: Arc<Revocations>,
    /// What of it the authority has signed: other nodes are told.
    pub(crate) spread: Revocations,
    pub(super) identity: Arc<Identity>,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
}

/// What the certificates' files say: all but what is revoked, which can change without them.
pub(super) struct Identity {
    holder: Holder,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// The authorities.
    roots: Arc<RootCertStore>,
    pub(super) signers: Signers,
}

impl Identity {
    /// Reads the files of a node's directory.
    pub(super) fn read(directory: &Path) -> Result<Self, CertificateError> {
        let node = directory.join(files::NODE);
        let pem = files::read_secret(&node, MAX_FILE_OCTETS)?;
        let unusable = |why: String| CertificateError::Unusable(node.clone(), why);
        let holder = trust::holder_of_pem(&pem).map_err(unusable)?;
        let chain = certificates(&pem).map_err(unusable)?;
        let key =
            PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| unusable(e.to_string()))?;

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
        let signers = Signers::new(holder.cluster, &authority);
        Ok(Self { holder, chain, key, roots: Arc::new(roots), signers })
    }
}

impl Material {
    /// What this identity and this list come to. Fails when certificate, key and authority do not go
    /// together; the list does not matter for that.
    pub(super) fn new(
        identity: Arc<Identity>,
        revoked: Revocations,
    ) -> Result<Self, CertificateError> {
        let Identity { holder, chain, key, roots, signers } = &*identity;
        let (provider, revoked) = (Arc::new(ring::default_provider()), Arc::new(revoked));
        let verifier = Arc::new(Verifier {
            cluster: holder.cluster,
            revoked: revoked.clone(),
            clients: WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
                .build()
                .map_err(|error| tls(&error))?,
            servers: WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
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
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(|error| tls(&error))?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        let (holder, spread) = (holder.clone(), revoked.signed(signers));
        let (server, client) = (Arc::new(server), Arc::new(client));
        Ok(Self { holder, revoked, spread, identity, server, client })
    }

    /// Whether a link to this holder may go on.
    pub fn admits(&self, peer: &Holder, now: SystemTime) -> bool {
        peer.cluster == self.holder.cluster && peer.not_after > now && !self.revoked.has(peer)
    }
}

fn tls(error: &dyn std::fmt::Display) -> CertificateError {
    CertificateError::Tls(error.to_string())
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())
}
