//! Who this node is: a random id, made once, and a generation that rises with every start. Both are
//! durable before the node claims anything, so that no two runs can be taken for one.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// File with the identity, in the data folder.
pub const FILE: &str = "node.json";

/// A node's id and the number of this start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Strictly rising with each start.
    pub generation: u64,
}

impl Identity {
    /// The identity of the next start from this data folder, which the caller has locked.
    pub fn next(data: &Path) -> Result<Self> {
        let path = data.join(FILE);
        let identity = match std::fs::read_to_string(&path) {
            Ok(text) => {
                let last: Self = serde_json::from_str(&text).with_context(|| {
                    format!("{} is damaged; put back the one of your backup", path.display())
                })?;
                Self { generation: last.generation + 1, ..last }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut id = [0; 16];
                getrandom::fill(&mut id).map_err(|e| anyhow::anyhow!("no randomness: {e}"))?;
                Self { id: hex::encode(id), generation: 1 }
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        identity.save(data).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(identity)
    }

    fn save(&self, data: &Path) -> std::io::Result<()> {
        write_durably(data, FILE, serde_json::to_string(self)?.as_bytes())
    }
}

/// Replaces a file in one step that survives a crash: whoever reads it sees the old or the new one.
pub fn write_durably(folder: &Path, name: &str, octets: &[u8]) -> std::io::Result<()> {
    let fresh = folder.join(format!("{name}.new"));
    // There may be a password in it.
    let mut file = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(octets)?;
    file.sync_all()?;
    std::fs::rename(&fresh, folder.join(name))?;
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_stays_and_the_generation_rises() {
        let folder = tempfile::tempdir().unwrap();
        let first = Identity::next(folder.path()).unwrap();
        let second = Identity::next(folder.path()).unwrap();
        assert_eq!(second, Identity { id: first.id, generation: 2 });
    }

    #[test]
    fn a_damaged_file_is_not_taken_for_a_new_node() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "{}").unwrap();
        let error = format!("{:#}", Identity::next(folder.path()).unwrap_err());
        assert!(error.contains("damaged"), "{error}");
    }
}
