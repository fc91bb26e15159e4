//! Names of clusters and nodes. Both stand in certificates as parts of a DNS name, so a node's name
//! is what a DNS label may be (RFC 1035 §2.3.1, digits may come first as RFC 1123 §2.1 allows).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name of a node, in octets: a DNS label.
pub const MAX_NODE_OCTETS: usize = 63;

/// What ends every name in a certificate of ours. ICANN keeps `.internal` for private use.
const DOMAIN: &str = "postroom.internal";

/// A text that names no node or no cluster: correct it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a node's name.
    #[error("{0:?} names no node: 1 to 63 of a-z, 0-9 and '-', with no '-' at either end")]
    Node(String),
    /// Not a cluster's id.
    #[error("{0:?} is no cluster id: 32 digits of 0-9 and a-f")]
    Cluster(String),
}

/// A node's name, unique in its cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(std::sync::Arc<str>);

impl NodeId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name that the node's certificate is for: other clusters have other ones.
    pub fn dns_name(&self, cluster: &ClusterId) -> String {
        format!("{self}.{cluster}.{DOMAIN}")
    }

    /// Reads what [`NodeId::dns_name`] has made; `None` for any other name.
    pub fn from_dns_name(name: &str) -> Option<(NodeId, ClusterId)> {
        let rest = name.strip_suffix(DOMAIN)?.strip_suffix('.')?;
        let (node, cluster) = rest.split_once('.')?;
        Some((node.parse().ok()?, cluster.parse().ok()?))
    }
}

impl FromStr for NodeId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let good = (1..=MAX_NODE_OCTETS).contains(&text.len())
            && text.bytes().all(|octet| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !text.starts_with('-')
            && !text.ends_with('-');
        if good { Ok(Self(text.into())) } else { Err(NameError::Node(clip(text))) }
    }
}

impl TryFrom<String> for NodeId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<NodeId> for String {
    fn from(node: NodeId) -> String {
        node.as_str().to_owned()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which cluster: 16 random octets, drawn when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterId([u8; 16]);

impl ClusterId {
    /// A new cluster's id.
    ///
    /// # Panics
    /// When the system gives no random octets: nothing that is to be secret can be made then.
    pub fn random() -> Self {
        let mut octets = [0; 16];
        getrandom::fill(&mut octets).expect("the system gives random octets");
        Self(octets)
    }
}

impl FromStr for ClusterId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut octets = [0; 16];
        let lower = !text.bytes().any(|octet| octet.is_ascii_uppercase());
        match hex::decode_to_slice(text, &mut octets) {
            Ok(()) if lower => Ok(Self(octets)),
            _ => Err(NameError::Cluster(clip(text))),
        }
    }
}

impl TryFrom<String> for ClusterId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ClusterId> for String {
    fn from(cluster: ClusterId) -> String {
        cluster.to_string()
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// What of a wrong name goes into an error: it may be of any length.
fn clip(text: &str) -> String {
    text.chars().take(MAX_NODE_OCTETS + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_named_as_a_dns_label() {
        for good in ["a", "mail-1", "0", &"x".repeat(63)] {
            assert!(good.parse::<NodeId>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a b", "ä", "a\0", &"x".repeat(64)] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_in_certificates_are_read_back_and_no_others() {
        let (node, cluster) = ("mail-1".parse::<NodeId>().unwrap(), ClusterId::random());
        let name = node.dns_name(&cluster);
        assert_eq!(NodeId::from_dns_name(&name), Some((node, cluster)));
        for other in ["", ".", "postroom.internal", "a.postroom.internal", &name[1..9]] {
            assert_eq!(NodeId::from_dns_name(other), None, "{other}");
        }
        assert_eq!(NodeId::from_dns_name(&format!("x.{name}")), None);
        assert_eq!(NodeId::from_dns_name(&name.to_uppercase()), None);
    }
}
