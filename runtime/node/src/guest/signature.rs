//! Who signed a component: detached signatures of minisign, in `FILE.minisig` beside the file, held against the
//! public keys that the configuration names. A store without keys takes whatever it is given.
//!
//! The scheme and its files are those of `minisign` and `rsign2`: Ed25519 over the file's BLAKE2b, and over
//! that signature with a comment. Only such signatures over a hash are taken, and none over the file itself.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::LoadError;
use super::load::{ComponentFrom, ComponentSource, off_thread};

/// Most keys of one store, any of which may have signed: people and machines that build for it.
pub const MAX_KEYS: usize = 16;
/// Largest signature in octets: four lines, two of which are comments.
pub const MAX_SIGNATURE_OCTETS: usize = 4 << 10;
/// What is put behind a file's name for that of its signature.
const SUFFIX: &str = ".minisig";
/// Longest comment that is shown, in characters.
const MAX_SHOWN: usize = 200;

/// A public key, as the second line of minisign's `.pub` file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey {
    text: String,
    key: minisign_verify::PublicKey,
}

/// The keys of a store: what it loads must be signed with one of them. None: it loads whatever it is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<PublicKey>", into = "Vec<PublicKey>")]
pub struct Keys(Vec<PublicKey>);

/// A signature, in its form only: whether it fits is [`Keys::check`]'s answer.
#[derive(Clone)]
struct Signature {
    key: String,
    signature: minisign_verify::Signature,
}

/// Who signed a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SignedBy {
    /// The key's number, as minisign shows it.
    pub key: String,
    /// What was said while signing; signed too.
    pub comment: String,
    /// Whether that was held against a key. If not, anybody may have written it.
    pub verified: bool,
}

impl TryFrom<String> for PublicKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match minisign_verify::PublicKey::from_base64(&text) {
            Ok(key) => Ok(Self { text, key }),
            Err(_) => Err(format!(
                "{:?} is no public key of minisign: give the second line of its .pub file",
                shown(&text)
            )),
        }
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.text
    }
}

impl std::str::FromStr for PublicKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.to_owned().try_into()
    }
}

impl TryFrom<Vec<PublicKey>> for Keys {
    type Error = String;

    fn try_from(keys: Vec<PublicKey>) -> Result<Self, String> {
        match keys.len() > MAX_KEYS {
            true => Err(format!("{} keys are named, at most {MAX_KEYS} can be", keys.len())),
            false => Ok(Self(keys)),
        }
    }
}

impl From<Keys> for Vec<PublicKey> {
    fn from(keys: Keys) -> Self {
        keys.0
    }
}

impl SignedBy {
    /// In words.
    pub fn shown(&self) -> String {
        let Self { key, comment, verified } = self;
        match verified {
            true => format!("signed with key {key} ({comment})"),
            false => format!(
                "says that it is signed with key {key} ({comment}), which nobody has verified"
            ),
        }
    }
}

impl PublicKey {
    /// Its number, as minisign shows it.
    pub fn number(&self) -> String {
        number(&self.text)
    }
}

impl Keys {
    /// Whether nothing has to be signed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Holds a file against its signature, the text of a `.minisig` file, on a thread of its own. Fails where
    /// there are keys and none of them has signed the file, and where what is given is no signature.
    pub async fn check(
        &self,
        octets: &Bytes,
        signature: Option<&str>,
    ) -> Result<Option<SignedBy>, LoadError> {
        let (keys, octets) = (self.clone(), octets.clone());
        let signature = signature.map(str::to_owned);
        off_thread(move || keys.signer(&octets, signature.as_deref())).await
    }

    /// Holds a file that was read from here against the signature beside it. What is part of the program
    /// needs none, and where there are no keys none is looked for.
    pub async fn check_source(
        &self,
        source: &ComponentSource,
        octets: &Bytes,
    ) -> Result<(), LoadError> {
        let ComponentFrom::File(file) = &source.from else { return Ok(()) };
        if self.is_empty() {
            return Ok(());
        }
        self.check_file(file, octets).await.map(drop)
    }

    /// Holds a file against the signature beside it, if there is one; without keys only its form is looked at.
    pub async fn check_file(
        &self,
        file: &Path,
        octets: &Bytes,
    ) -> Result<Option<SignedBy>, LoadError> {
        let file = file.to_owned();
        let signature = off_thread(move || signature_beside(&file)).await?;
        self.check(octets, signature.as_deref()).await
    }

    fn signer(&self, octets: &[u8], text: Option<&str>) -> Result<Option<SignedBy>, LoadError> {
        let signature = text.map(Signature::parse).transpose()?;
        let Some(Signature { key: number, signature }) = signature else {
            return match self.is_empty() {
                true => Ok(None),
                false => Err(LoadError::Unsigned(self.numbers())),
            };
        };
        let said = |verified| SignedBy {
            key: number.clone(),
            comment: shown(signature.trusted_comment()),
            verified,
        };
        if self.is_empty() {
            return Ok(Some(said(false)));
        }
        let outcomes = self.0.iter().map(|key| key.key.verify(octets, &signature, false));
        let mut worst = None;
        for outcome in outcomes {
            match outcome {
                Ok(()) => return Ok(Some(said(true))),
                // Another key of the list may be the one.
                Err(minisign_verify::Error::UnexpectedKeyId) => {}
                Err(error) => worst = Some(error),
            }
        }
        Err(LoadError::Signature(match worst {
            None => format!("it was made with key {number}, and {} is asked for", self.numbers()),
            Some(minisign_verify::Error::UnexpectedAlgorithm) => {
                "it is of minisign's old kind: sign again with `minisign -S -H`".to_owned()
            }
            Some(_) => format!(
                "it names key {number}, which has not made it for this file: one of them was changed, or it is another file's"
            ),
        }))
    }

    fn numbers(&self) -> String {
        self.0.iter().map(PublicKey::number).collect::<Vec<_>>().join(" or ")
    }
}

impl Signature {
    fn parse(text: &str) -> Result<Self, LoadError> {
        let refuse = || {
            LoadError::Signature(
                "it is none of minisign, or was cut: give the whole .minisig file".to_owned(),
            )
        };
        if text.len() > MAX_SIGNATURE_OCTETS {
            return Err(refuse());
        }
        let signature = minisign_verify::Signature::decode(text).map_err(|_| refuse())?;
        let key = text.lines().nth(1).map(number).ok_or_else(refuse)?;
        Ok(Self { key, signature })
    }
}

/// Where the signature of a file lies.
pub fn signature_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(SUFFIX);
    name.into()
}

/// The text of the signature beside what is read from here; none: there is none.
pub async fn signature_of(source: &ComponentSource) -> Result<Option<String>, LoadError> {
    let ComponentFrom::File(file) = &source.from else { return Ok(None) };
    let file = file.clone();
    off_thread(move || signature_beside(&file)).await
}

/// The text of the signature beside a file; none: there is none.
pub fn signature_beside(file: &Path) -> Result<Option<String>, LoadError> {
    let path = signature_path(file);
    let refuse = |why: String| LoadError::Signature(format!("{}: {why}", path.display()));
    let unread = |error: io::Error| match error.kind() {
        // It is no text, or no file that this node may read.
        io::ErrorKind::InvalidData
        | io::ErrorKind::PermissionDenied
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::NotADirectory => refuse(error.to_string()),
        _ => LoadError::Unreadable(format!("{}: {error}", path.display())),
    };
    let opened = match std::fs::File::open(&path) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unread(error)),
    };
    let mut text = String::new();
    let most = MAX_SIGNATURE_OCTETS as u64 + 1;
    opened.take(most).read_to_string(&mut text).map_err(unread)?;
    match text.len() > MAX_SIGNATURE_OCTETS {
        true => Err(refuse(format!("it has more than {MAX_SIGNATURE_OCTETS} octets"))),
        false => Ok(Some(text)),
    }
}

/// The number of the key in a line of minisign: eight octets behind the two that name the algorithm.
fn number(line: &str) -> String {
    let octets = STANDARD.decode(line.trim()).unwrap_or_default();
    let number = octets.get(2..10).and_then(|octets| octets.try_into().ok()).unwrap_or_default();
    format!("{:016X}", u64::from_le_bytes(number))
}

/// A text from outside in one line of bounded length.
fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(MAX_SHOWN).map(plain).collect()
}
