//! The manifest: what a component says about itself, readable without running it.
//!
//! JSON in the custom section `postroom:manifest`, of the component or of a module in it (which is
//! where compilers put it). A component without one asks for nothing. An unknown key refuses the
//! load: it could be a condition that this node would not keep.

use serde::{Deserialize, Serialize};

use super::error::LoadError;

/// The custom section.
pub const MANIFEST_SECTION: &str = "postroom:manifest";
/// Largest manifest in octets: it is parsed before anything is trusted.
const MAX_MANIFEST_OCTETS: usize = 64 << 10;
/// Longest name or version in octets: they become labels of metrics.
const MAX_NAME_OCTETS: usize = 64;
/// Most directories or HTTP hosts that a component may ask for.
const MAX_ASKED: usize = 64;

/// A kind of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Mail domains.
    Domains,
    /// Users and aliases.
    Users,
    /// Mailboxes.
    Mailboxes,
    /// Messages.
    Messages,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Domains, Self::Users, Self::Mailboxes, Self::Messages];

    /// The name of its interface in `postroom:store`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Domains => "domains",
            Self::Users => "users",
            Self::Mailboxes => "mailboxes",
            Self::Messages => "messages",
        }
    }

    /// Why a component that does not keep these records is refused, in one line.
    pub(crate) fn lacked(self) -> String {
        format!("it keeps no {}, which this store is used for", self.name())
    }
}

/// What a component says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Manifest {
    /// Its name.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The kinds of record that it keeps; must be what it exports.
    pub kinds: Vec<Kind>,
    /// The schemas of its rows that it reads and the one that it writes.
    #[serde(default)]
    pub schema: Schema,
    /// Whether its records live in the host's storage or elsewhere.
    #[serde(default)]
    pub medium: Medium,
    /// What it asks for.
    #[serde(default)]
    pub asks: Asks,
}

/// Schemas of a component's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Schema {
    /// Reads rows of the first to the last of these.
    pub reads: [u32; 2],
    /// Writes rows of these.
    pub writes: Writes,
}

/// Schemas in which a component writes rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Writes {
    /// In this one, whatever it is told.
    One(u32),
    /// In whichever of the first to the last of these it is told, as the WIT says; in the last one
    /// unless it is told. It brings rows from one to another.
    Told([u32; 2]),
}

impl Writes {
    /// The first and the last one.
    pub fn range(self) -> [u32; 2] {
        match self {
            Self::One(only) => [only, only],
            Self::Told(range) => range,
        }
    }
}

impl Default for Schema {
    fn default() -> Self {
        Self { reads: [1, 1], writes: Writes::One(1) }
    }
}

/// Where a component's records live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Medium {
    /// In the host's storage: committed by the host.
    #[default]
    Host,
    /// Elsewhere (files, another server): settled after the commit.
    Outside,
}

/// What a component asks for; it gets what is granted as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Asks {
    /// Directories, found as `/name`.
    pub directories: Vec<AskedDirectory>,
    /// HTTP hosts: `name` or `name:port`; `*`: whichever the operator names.
    pub http: Vec<String>,
    /// Linear memory that it needs, in MiB; a node that does not grant so much refuses the load.
    pub memory_mib: Option<u32>,
}

/// A directory that a component asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AskedDirectory {
    /// Its name, a single path component.
    pub name: String,
    /// Whether it wants to write there.
    #[serde(default)]
    pub write: bool,
}

impl Manifest {
    /// Parses and checks a manifest section.
    pub fn parse(octets: &[u8]) -> Result<Self, LoadError> {
        let refuse = |why: String| LoadError::Manifest(why);
        if octets.len() > MAX_MANIFEST_OCTETS {
            return Err(refuse(format!("it has more than {MAX_MANIFEST_OCTETS} octets")));
        }
        let manifest: Self = serde_json::from_slice(octets).map_err(|e| refuse(e.to_string()))?;
        match manifest.problem() {
            Some(problem) => Err(refuse(problem)),
            None => Ok(manifest),
        }
    }

    /// What is wrong with it, beyond its form.
    fn problem(&self) -> Option<String> {
        let word = |text: &str| {
            let fits = (1..=MAX_NAME_OCTETS).contains(&text.len());
            let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_.+".contains(&c);
            fits && text.bytes().all(plain) && !text.starts_with('.')
        };
        if !word(&self.name) {
            return Some("name must be 1 to 64 letters, digits, - _ . +".to_owned());
        }
        if !word(&self.version) {
            return Some("version must be 1 to 64 letters, digits, - _ . +".to_owned());
        }
        let kinds: std::collections::BTreeSet<_> = self.kinds.iter().collect();
        if kinds.len() != self.kinds.len() {
            return Some("kinds names a kind twice".to_owned());
        }
        let [first, last] = self.schema.reads;
        let [oldest, newest] = self.schema.writes.range();
        if oldest > newest || oldest < first || newest > last {
            return Some("schema.reads must be a range that has schema.writes in it".to_owned());
        }
        if self.asks.directories.len() > MAX_ASKED || self.asks.http.len() > MAX_ASKED {
            return Some(format!("asks has more than {MAX_ASKED} entries"));
        }
        let bad = self.asks.directories.iter().find(|asked| !word(&asked.name));
        bad.map(|asked| format!("asks for directory {:?}, which is no plain name", asked.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: Result<(), &str>) {
        match (Manifest::parse(json.as_bytes()), expected) {
            (Ok(_), Ok(())) => {}
            (Err(LoadError::Manifest(why)), Err(part)) => {
                assert!(why.contains(part), "{json}: {why}");
            }
            (got, expected) => panic!("{json}: {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn what_is_left_out_asks_for_nothing() {
        let json = br#"{"name":"keyed","version":"0.1.0","kinds":["messages"]}"#;
        let manifest = Manifest::parse(json).unwrap();
        assert_eq!(manifest.asks, Asks::default());
        assert_eq!(manifest.medium, Medium::Host);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        check(r#"{"name":"a","version":"1","kinds":[],"asks":{"gpu":1}}"#, Err("`gpu`"));
        check(r#"{"name":"a","version":"1","kinds":[],"colour":1}"#, Err("`colour`"));
    }

    #[test]
    fn rubbish_is_refused_with_a_reason() {
        check("", Err("EOF"));
        check("{", Err("EOF"));
        check("[]", Err("invalid"));
        check(r#"{"name":"a","version":"1","kinds":["calendars"]}"#, Err("calendars"));
        check(r#"{"name":"","version":"1","kinds":[]}"#, Err("name must"));
        check(r#"{"name":"a b","version":"1","kinds":[]}"#, Err("name must"));
        check(r#"{"name":"a","version":"1","kinds":["users","users"]}"#, Err("twice"));
        let schema = r#"{"name":"a","version":"1","kinds":[],"schema":{"reads":[2,1],"writes":1}}"#;
        check(schema, Err("range"));
        for (writes, expected) in [
            ("2", Ok(())),
            ("[1,2]", Ok(())),
            ("[2,2]", Ok(())),
            ("[2,1]", Err("range")),
            ("[0,2]", Err("range")),
            ("[1,3]", Err("range")),
            ("[1]", Err("Writes")),
            (r#""2""#, Err("Writes")),
        ] {
            let schema = format!(r#""schema":{{"reads":[1,2],"writes":{writes}}}"#);
            check(&format!(r#"{{"name":"a","version":"1","kinds":[],{schema}}}"#), expected);
        }
        let asks =
            r#"{"name":"a","version":"1","kinds":[],"asks":{"directories":[{"name":"../x"}]}}"#;
        check(asks, Err("no plain name"));
        check(&format!("{}{}", " ".repeat(70_000), "{}"), Err("octets"));
    }
}
