//! The cluster's authority: makes certificates for nodes and knows its own cluster.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use time::OffsetDateTime;

use super::revoked::{Reach, Revocations, Revoked, Signers};
use super::trust::{self, Holder};
use super::{CertificateError, JoinFile, files};
use crate::names::{ClusterId, NodeId};

/// How long a node's certificate is good.
pub const NODE_VALIDITY: Duration = Duration::from_secs(365 * DAY);

/// How long before it expires a certificate is to be renewed; operators are warned from then on.
pub const RENEW_BEFORE: Duration = Duration::from_secs(30 * DAY);

/// How long an authority is good. Its successor stands beside it in `authority.pem` for a time.
const AUTHORITY_VALIDITY: Duration = Duration::from_secs(3_650 * DAY);

/// How far the clocks of two nodes may be apart when a certificate is new.
const CLOCK_SKEW: Duration = Duration::from_secs(3_600);

/// Longest file of certificates or keys, in octets: a certificate of ours has about 700.
pub(super) const MAX_FILE_OCTETS: u64 = 256 << 10;

const DAY: u64 = 86_400;

/// How an authority's subject begins; the cluster's id follows.
pub(super) const SUBJECT: &str = "Postroom cluster ";

/// Makes certificates for nodes of one cluster.
pub struct Authority {
    directory: PathBuf,
    cluster: ClusterId,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A node's new certificate.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Certificate and key, as they stand in `node.pem`.
    pub pem: String,
    /// What it says.
    pub holder: Holder,
}

/// Makes a cluster: its authority, and the first node's certificate, in `directory`, which is made
/// if need be. A directory that already belongs to a node is left as it is.
pub fn init(
    directory: &Path,
    node: &NodeId,
    now: SystemTime,
) -> Result<Authority, CertificateError> {
    std::fs::create_dir_all(directory)
        .map_err(|error| CertificateError::File(directory.to_owned(), error))?;
    refuse_taken(directory)?;
    let cluster = ClusterId::random();
    let key = KeyPair::generate()?;
    let params = authority_params(&cluster, now)?;
    let pem = params.self_signed(&key)?.pem();
    files::write_secret(&directory.join(files::AUTHORITY_KEY), &key.serialize_pem())?;
    files::write_public(&directory.join(files::AUTHORITY), &pem)?;
    let issuer = Issuer::new(params, key);
    let authority = Authority { directory: directory.to_owned(), cluster, pem, issuer };
    let issued = authority.issue(node, now, NODE_VALIDITY)?;
    files::write_secret(&directory.join(files::NODE), &issued.pem)?;
    Ok(authority)
}

/// Makes a new certificate for the node whose directory this is, which has to have the authority's
/// key. Running nodes take it up by themselves. The old one stays good until it expires.
pub fn renew(directory: &Path, now: SystemTime) -> Result<Issued, CertificateError> {
    let holder = trust::read_holder(&directory.join(files::NODE))?;
    let issued = Authority::open(directory)?.issue(&holder.node, now, NODE_VALIDITY)?;
    files::write_secret(&directory.join(files::NODE), &issued.pem)?;
    Ok(issued)
}

/// Adds to the list of what is refused. Where the authority's key is, the entry is signed and reaches the
/// whole cluster: running nodes take it up by themselves, tell each other, and cut the links of those
/// concerned. Elsewhere it is this node's own. Says which.
pub fn revoke(directory: &Path, what: Revoked) -> Result<Reach, CertificateError> {
    let _alone = files::alone(directory)?;
    let path = directory.join(files::REVOKED);
    let mut list = Revocations::read(&path)?;
    let reach = match directory.join(files::AUTHORITY_KEY).exists() {
        true => {
            let authority = Authority::open(directory)?;
            let signers = Signers::new(authority.cluster, &authority.pem);
            list.add_signed(what, authority.issuer.key(), &signers)?;
            Reach::Cluster
        }
        false => {
            list.add_own(what)?;
            Reach::ThisNode
        }
    };
    files::write_public(&path, &list.to_text())?;
    Ok(reach)
}

impl Authority {
    /// The authority whose key stands in `directory`.
    pub fn open(directory: &Path) -> Result<Self, CertificateError> {
        let path = directory.join(files::AUTHORITY);
        let pem = files::read(&path, MAX_FILE_OCTETS)?;
        let key_path = directory.join(files::AUTHORITY_KEY);
        let key = KeyPair::from_pem(&files::read_secret(&key_path, MAX_FILE_OCTETS)?)
            .map_err(|error| CertificateError::Unusable(key_path, error.to_string()))?;
        let cluster =
            trust::cluster_of(&pem).map_err(|why| CertificateError::Unusable(path.clone(), why))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key)
            .map_err(|error| CertificateError::Unusable(path, error.to_string()))?;
        Ok(Self { directory: directory.to_owned(), cluster, pem, issuer })
    }

    /// Its cluster.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Makes a certificate, good from `now` for `validity`. Nothing is written: see
    /// [`Authority::join_file`].
    pub fn issue(
        &self,
        node: &NodeId,
        now: SystemTime,
        validity: Duration,
    ) -> Result<Issued, CertificateError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = period(now, validity);
        params.serial_number = Some(random_serial());
        params.distinguished_name = named(node.as_str());
        let name = node.dns_name(&self.cluster);
        params.subject_alt_names = vec![SanType::DnsName(name.try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Either end of a link: each node calls and is called.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let holder = trust::holder_of(certificate.der()).map_err(CertificateError::Tls)?;
        Ok(Issued { pem: certificate.pem() + &key.serialize_pem(), holder })
    }

    /// All that `node` needs to join. `addresses`: where to reach whom, by name; `seeds`: whom to
    /// gossip with at first.
    pub fn join_file(
        &self,
        node: &NodeId,
        addresses: Vec<(NodeId, String)>,
        seeds: Vec<NodeId>,
        now: SystemTime,
    ) -> Result<JoinFile, CertificateError> {
        let issued = self.issue(node, now, NODE_VALIDITY)?;
        let revoked = Revocations::read(&self.directory.join(files::REVOKED))?;
        Ok(JoinFile {
            cluster: self.cluster,
            node: node.clone(),
            authority: self.pem.clone(),
            certificate: issued.pem,
            revoked: revoked.to_text(),
            addresses,
            seeds,
        })
    }
}

/// A directory that has a node's or an authority's file is not overwritten.
pub(super) fn refuse_taken(directory: &Path) -> Result<(), CertificateError> {
    let node = directory.join(files::NODE);
    if node.exists() {
        let holder = trust::read_holder(&node)?;
        return Err(CertificateError::Taken(directory.to_owned(), holder.node, holder.cluster));
    }
    let key = directory.join(files::AUTHORITY_KEY);
    if key.exists() {
        let why = "an authority's key without its node: move it away".to_owned();
        return Err(CertificateError::Unusable(key, why));
    }
    Ok(())
}

fn authority_params(
    cluster: &ClusterId,
    now: SystemTime,
) -> Result<CertificateParams, CertificateError> {
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = period(now, AUTHORITY_VALIDITY);
    params.serial_number = Some(random_serial());
    params.distinguished_name = named(&format!("{SUBJECT}{cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn named(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

fn period(now: SystemTime, validity: Duration) -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::from(now);
    (now - CLOCK_SKEW, now + validity)
}

/// 16 random octets, positive and not zero in front (RFC 5280 §4.1.2.2).
fn random_serial() -> SerialNumber {
    let mut octets = [0; 16];
    getrandom::fill(&mut octets).expect("the system gives random octets");
    octets[0] = octets[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&octets)
}
