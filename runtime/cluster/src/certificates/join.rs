//! The file by which a node joins: all that it needs, in one file with a key in it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::revoked::{Revocations, Signers};
use super::trust;
use super::{CertificateError, files};
use crate::names::{ClusterId, NodeId};

/// Longest join file, in octets: the certificates, and the addresses of a cluster of any size.
pub const MAX_JOIN_OCTETS: u64 = 1 << 20;

/// What an operator of a running cluster makes for one node (see
/// [`Authority::join_file`](super::Authority::join_file)). Whoever has it *is* that node: carry it
/// over a safe way, remove it afterwards, revoke the certificate if it was lost.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinFile {
    /// Which cluster.
    pub cluster: ClusterId,
    /// For which node.
    pub node: NodeId,
    /// The authority's certificates, as PEM.
    pub authority: String,
    /// The node's certificate and key, as PEM.
    pub certificate: String,
    /// What is revoked, as [`Revocations::to_text`] writes it.
    pub revoked: String,
    /// Where to reach which node: `host:port`.
    pub addresses: Vec<(NodeId, String)>,
    /// Whom to gossip with at first.
    pub seeds: Vec<NodeId>,
}

impl std::fmt::Debug for JoinFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinFile({} of {}, …)", self.node, self.cluster)
    }
}

impl JoinFile {
    /// Writes it where nothing else may read it.
    pub fn write(&self, path: &Path) -> Result<(), CertificateError> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| CertificateError::Unusable(path.to_owned(), error.to_string()))?;
        files::write_secret(path, &text)
    }

    /// Reads one and looks whether its parts go together. A file that others may read is refused.
    pub fn read(path: &Path) -> Result<Self, CertificateError> {
        let unusable = |why: String| CertificateError::Unusable(path.to_owned(), why);
        let text = files::read_secret(path, MAX_JOIN_OCTETS)?;
        let file: Self = serde_json::from_str(&text).map_err(|e| unusable(e.to_string()))?;
        let holder = trust::holder_of_pem(&file.certificate).map_err(unusable)?;
        let cluster = trust::cluster_of(&file.authority).map_err(unusable)?;
        if (&holder.node, holder.cluster, cluster) != (&file.node, file.cluster, file.cluster) {
            return Err(unusable("its parts are of different nodes or clusters".to_owned()));
        }
        Revocations::parse(&file.revoked).map_err(unusable)?;
        Ok(file)
    }

    /// Puts its certificates into `directory`, which is made if need be. A directory of the same
    /// node and cluster gets the new certificate (a renewal) and keeps what it knows as revoked;
    /// one of another node or cluster is left as it is.
    pub fn install(&self, directory: &Path) -> Result<(), CertificateError> {
        std::fs::create_dir_all(directory)
            .map_err(|error| CertificateError::File(directory.to_owned(), error))?;
        let node = directory.join(files::NODE);
        if node.exists() {
            let holder = trust::read_holder(&node)?;
            if (&holder.node, holder.cluster) != (&self.node, self.cluster) {
                let directory = directory.to_owned();
                return Err(CertificateError::Taken(directory, holder.node, holder.cluster));
            }
        }
        let _alone = files::alone(directory)?;
        let path = directory.join(files::REVOKED);
        let mut revoked = Revocations::read(&path)?;
        let brought = Revocations::parse(&self.revoked)
            .map_err(|why| CertificateError::Unusable(path.clone(), why))?;
        let merged = revoked.merge(brought, &Signers::new(self.cluster, &self.authority));
        if let Some(error) = merged.left_out {
            return Err(error);
        }
        files::write_public(&path, &revoked.to_text())?;
        files::write_public(&directory.join(files::AUTHORITY), &self.authority)?;
        // Last: without it the directory is nobody's.
        files::write_secret(&node, &self.certificate)
    }
}
