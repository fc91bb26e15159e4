//! Who a certificate says its holder is, and the checks that both ends of a link
//! make: signed by our authority, in its time, of our cluster, not revoked.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError as Bad, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::authority::{MAX_FILE_OCTETS, SUBJECT};
use super::revoked::Revocations;
use super::{CertificateError, files};
use crate::names::{ClusterId, NodeId};

/// Who holds a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its name.
    pub node: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// The certificate's serial number, as hexadecimal digits.
    pub serial: String,
    /// Until when it is good.
    pub not_after: SystemTime,
}

impl Holder {
    /// Whether operators should renew it now (see [`RENEW_BEFORE`](super::RENEW_BEFORE)).
    pub fn is_due(&self, now: SystemTime) -> bool {
        self.not_after < now + super::RENEW_BEFORE
    }
}

/// What a certificate says; the error says what is wrong with it.
pub(crate) fn holder_of(certificate: &[u8]) -> Result<Holder, String> {
    let (_, x509) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let names = x509.subject_alternative_name().map_err(|error| error.to_string())?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or(&[]);
    // Exactly one: else a certificate could be two nodes' at once.
    let [GeneralName::DNSName(name)] = names else {
        return Err("it is not for exactly one DNS name".to_owned());
    };
    let (node, cluster) =
        NodeId::from_dns_name(name).ok_or_else(|| format!("{name:.80} is no node's name"))?;
    let seconds = u64::try_from(x509.validity().not_after.timestamp()).unwrap_or(0);
    Ok(Holder {
        node,
        cluster,
        serial: hex::encode(x509.raw_serial()),
        not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
    })
}

/// As [`holder_of`], for the first certificate of a PEM text.
pub(super) fn holder_of_pem(pem: &str) -> Result<Holder, String> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| error.to_string())?;
    holder_of(&der)
}

/// As [`holder_of`], for a file.
pub(super) fn read_holder(path: &Path) -> Result<Holder, CertificateError> {
    holder_of_pem(&files::read_secret(path, MAX_FILE_OCTETS)?)
        .map_err(|why| CertificateError::Unusable(path.to_owned(), why))
}

/// Which cluster's authorities these are, as PEM: all of the same one.
pub(super) fn cluster_of(pem: &str) -> Result<ClusterId, String> {
    let mut clusters = BTreeSet::new();
    for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let der = der.map_err(|error| error.to_string())?;
        let (_, x509) = X509Certificate::from_der(&der).map_err(|error| error.to_string())?;
        let name = x509.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let cluster = name.and_then(|name| name.strip_prefix(SUBJECT)?.parse().ok());
        clusters.insert(cluster.ok_or("its subject names no cluster")?);
    }
    match clusters.len() {
        1 => Ok(clusters.pop_first().expect("there is one")),
        0 => Err("it has no certificate".to_owned()),
        _ => Err("it has authorities of several clusters".to_owned()),
    }
}

/// What both ends of a link check of the other's certificate.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) cluster: ClusterId,
    pub(super) revoked: Arc<Revocations>,
    pub(super) clients: Arc<dyn ClientCertVerifier>,
    pub(super) servers: Arc<WebPkiServerVerifier>,
}

impl Verifier {
    /// Beyond what every TLS library checks.
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        // Signed by our authority, but for no node.
        let holder = holder_of(certificate).map_err(|_| Bad::NotValidForName)?;
        if holder.cluster != self.cluster {
            return Err(Bad::NotValidForName.into());
        }
        if self.revoked.has(&holder) {
            return Err(Bad::Revoked.into());
        }
        Ok(())
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // None: whoever asks without a certificate learns nothing about us.
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.clients.verify_client_cert(certificate, intermediates, now)?;
        self.check(certificate).map(|()| verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.clients.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.clients.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.clients.supported_verify_schemes()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.servers.verify_server_cert(certificate, intermediates, name, ocsp, now)?;
        self.check(certificate).map(|()| verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.servers.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.servers.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.servers.supported_verify_schemes()
    }
}
