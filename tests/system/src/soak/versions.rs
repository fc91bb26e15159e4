//! Versions of the store component that a soak deploys: two good ones, and one for each way of being broken.
//! All of them are the same two components, with some octets changed: what a node sees is another file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::fault::Fault;
use crate::components::component;
use crate::store_cluster::tables;

/// How many good versions there are: two that take turns, and one for a second operator.
const GOOD: u8 = 3;
/// Where `faulty` reads what it is to do wrong, and how much room there is.
const MARK: &[u8] = b"postroom-faulty-does:";
const ROOM: usize = 128;
/// What a manifest of ours says from here to its end can be left out.
const REST: &[u8] = b"\"schema\"";
/// The version of the interface, and another one of the same length.
const WORLD: (&[u8], &[u8]) = (b"0.1.0-draft.1", b"0.1.0-draft.9");

/// The components, and where their versions go.
pub struct Versions {
    folder: PathBuf,
    good: PathBuf,
    keyed: Vec<u8>,
    faulty: Vec<u8>,
    /// Which of the good ones is next.
    next: u8,
}

impl Versions {
    /// Builds the components, where that has not been done.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn build(folder: &Path) -> Result<Self> {
        let folder = folder.join("versions");
        std::fs::create_dir_all(&folder)?;
        let good = component("keyed");
        let keyed = std::fs::read(&good).with_context(|| format!("{}", good.display()))?;
        let faulty = std::fs::read(component("faulty"))?;
        Ok(Self { folder, good, keyed, faulty, next: 0 })
    }

    /// Tables of a node's configuration, in which the first good version keeps everything.
    pub fn tables(&self) -> String {
        tables(&self.good)
    }

    /// A good version that is not the one that serves, by digest. They take turns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn good(&mut self, serves: &str) -> Result<PathBuf> {
        loop {
            self.next = self.next % GOOD + 1;
            let file = self.tagged(self.next)?;
            if blake3::hash(&std::fs::read(&file)?).to_hex().as_str() != serves {
                return Ok(file);
            }
        }
    }

    /// The component as it was built, with a custom section that means nothing: another digest.
    fn tagged(&self, tag: u8) -> Result<PathBuf> {
        let section = [&[0, 9, 7][..], b"version", &[tag]].concat();
        self.written(&format!("good-{tag}"), &[&self.keyed[..], &section].concat())
    }

    /// The version of a kind of fault.
    ///
    /// # Errors
    /// When it cannot be made; a kind without one is a mistake of the soak.
    pub fn broken(&self, fault: Fault) -> Result<PathBuf> {
        let sin = match fault {
            Fault::SwapStart => "sin=start",
            Fault::SwapTrap => "sin=trap verb=message.insert",
            Fault::SwapHundredth => "sin=trap verb=message.insert every=100",
            Fault::SwapReads => "sin=trap verb=message.fetch every=20",
            Fault::SwapSpin => "sin=spin verb=message.insert every=50",
            Fault::SwapLeak => "sin=leak verb=message.insert",
            Fault::SwapWrong => "sin=wrong",
            Fault::SwapSly => "sin=wrong verb=message.list every=7",
            Fault::SwapLossy => "sin=lost-flag verb=message.update every=50",
            Fault::SwapSlow => "sin=slow verb=message.insert",
            Fault::SwapAsks => return self.asking(),
            Fault::SwapWorld => {
                let octets = replaced(&self.keyed, WORLD.0, WORLD.1)?;
                return self.written("other-world", &octets);
            }
            Fault::SwapCut => return self.written("cut", &self.keyed[..self.keyed.len() / 2]),
            other => anyhow::bail!("{} has no version of its own", other.name()),
        };
        let mut told = MARK.to_vec();
        told.extend(sin.as_bytes());
        told.resize(MARK.len() + ROOM, b' ');
        let empty = [MARK, &[b' '; ROOM]].concat();
        self.written(&fault.name(), &replaced(&self.faulty, &empty, &told)?)
    }

    /// The good version, which asks for a directory.
    fn asking(&self) -> Result<PathBuf> {
        let mut octets = self.keyed.clone();
        let asks = br#""asks":{"directories":[{"name":"etc","write":true}]}}"#;
        let mut found = 0;
        while let Some(at) = position(&octets[found..], REST).map(|at| at + found) {
            let closing = |window: &[u8]| window == b"{}}";
            let end = octets[at..].windows(3).position(closing).context("its manifest's end")?;
            let room = &mut octets[at..at + end + 3];
            ensure!(room.len() >= asks.len(), "its manifest has too little room");
            room.fill(b' ');
            room[..asks.len()].copy_from_slice(asks);
            found = at + end;
        }
        ensure!(found > 0, "it has no manifest");
        self.written("asking", &octets)
    }

    fn written(&self, name: &str, octets: &[u8]) -> Result<PathBuf> {
        let path = self.folder.join(format!("{name}.wasm"));
        std::fs::write(&path, octets)?;
        Ok(path)
    }
}

/// With each `from` replaced by a `to` of the same length.
fn replaced(octets: &[u8], from: &[u8], to: &[u8]) -> Result<Vec<u8>> {
    ensure!(from.len() == to.len(), "lengths are a part of the file");
    let (mut changed, mut from_here) = (octets.to_vec(), 0);
    while let Some(at) = position(&changed[from_here..], from).map(|at| at + from_here) {
        changed[at..at + from.len()].copy_from_slice(to);
        from_here = at + from.len();
    }
    ensure!(from_here > 0, "the component has no {:?}", String::from_utf8_lossy(from));
    Ok(changed)
}

fn position(octets: &[u8], part: &[u8]) -> Option<usize> {
    octets.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_replaced_wherever_they_are_and_nothing_else() {
        assert_eq!(replaced(b"a-b-a", b"a", b"x").unwrap(), b"x-b-x");
        assert!(
            replaced(b"a-b-a", b"c", b"x").is_err(),
            "a version that is like another proves nothing"
        );
        assert!(replaced(b"a", b"a", b"xx").is_err());
    }
}
