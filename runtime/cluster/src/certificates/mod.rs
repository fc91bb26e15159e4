//! The cluster's own certificates: who may join, and under which name.
//!
//! `postroom cluster init` makes an *authority* of the cluster's own and the first node's
//! certificate ([`init`]). Another node joins by one file that an operator makes for its name
//! ([`Authority::join_file`]) and that it installs ([`JoinFile::install`]). A node's name and its
//! cluster stand in its certificate and nowhere else: whoever calls is who its certificate says.
//!
//! A directory holds `authority.pem`, `node.pem` (certificate and key in one file, so that both
//! change in one step), `revoked`, and, where certificates are made, `authority.key`. Files with
//! keys are readable by their owner only. [`Credentials`] follows the files without a restart.
//!
//! A certificate is revoked ([`revoke`]) where the authority's key is: that signs the entry, the node there
//! takes it up, links spread it to all others, and each cuts what stands and refuses what comes, within a
//! few seconds. One that was signed is never taken back: a node that is to return gets another name, one of
//! whose certificates was lost has that one revoked by its serial number.

mod authority;
mod credentials;
mod files;
mod join;
mod material;
mod revoked;
mod trust;

pub use self::authority::{Authority, Issued, NODE_VALIDITY, RENEW_BEFORE, init, renew, revoke};
pub(crate) use self::credentials::NotTaken;
pub use self::credentials::{Credentials, LOOK_EVERY};
pub use self::join::{JoinFile, MAX_JOIN_OCTETS};
pub use self::material::Material;
pub(crate) use self::revoked::MAX_LIST_OCTETS;
pub use self::revoked::{MAX_OWN_REVOKED, MAX_REVOKED, Reach, Revocations, Revoked};
pub use self::trust::Holder;
pub(crate) use self::trust::holder_of;

use std::path::PathBuf;

use crate::names::{ClusterId, NameError, NodeId};

/// Why certificates cannot be made or used: each case says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read or written: correct its path or its rights.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// Somebody else is changing the directory: try again in a moment.
    #[error("{0} is being changed by another command")]
    Busy(PathBuf),
    /// A file with a key can be read by others: `chmod 600`, and think who may have read it.
    #[error("{0} holds a key and others may read it: chmod 600 {0}")]
    Exposed(PathBuf),
    /// A file holds something else than it should: put back a good one.
    #[error("{0} cannot be used: {1}")]
    Unusable(PathBuf, String),
    /// The directory is another cluster's, or another node's: nothing was changed.
    #[error("{0} belongs to node {1} of cluster {2}: choose another directory")]
    Taken(PathBuf, NodeId, ClusterId),
    /// A name is wrong.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The list of what is revoked is full: make a new cluster authority.
    #[error("more than {MAX_REVOKED} certificates are revoked: make a new authority")]
    TooManyRevoked,
    /// The same for what the authority has not signed: take out of the list what is not needed any more.
    #[error(
        "more than {MAX_OWN_REVOKED} are revoked by this node alone: take some out of the list"
    )]
    TooManyOwn,
    /// What is to be revoked names no certificate: correct it.
    #[error("a serial number has 1 to 20 octets, as hexadecimal digits")]
    NoSerial,
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Making(#[from] rcgen::Error),
    /// TLS cannot be set up with what the files hold.
    #[error("certificates do not go together: {0}")]
    Tls(String),
}

#[cfg(test)]
mod tests;
