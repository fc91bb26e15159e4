//! The configuration file of `postroom serve`: TOML, a default for every key, unknown keys refused
//! by name. `DEFAULT_FILE` is the documented default; a test holds it against the types.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::compose::CERTIFICATES;
use crate::guest::{self, Grants, Keys};
use crate::storage::ObjectsConfig;
use crate::storage::postgres::{PostgresOptions, TlsConfig};

/// What `postroom config` prints: every key with its default and its meaning.
pub const DEFAULT_FILE: &str = include_str!("default.toml");

/// The name of the store component that is built in.
pub const BUILT_IN: &str = "keyed";

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where everything is kept.
    pub data: PathBuf,
    /// Name in greetings and trace headers.
    pub name: String,
    /// IMAP doors.
    pub imap: Imap,
    /// LMTP doors.
    pub lmtp: Lmtp,
    /// The door for operators.
    pub admin: Admin,
    /// Certificate for STARTTLS and implicit TLS.
    pub tls: Tls,
    /// Limits.
    pub limits: Limits,
    /// Which component keeps which kind of record.
    pub stores: StoreChoice,
    /// Components beside the built-in one, by name.
    pub components: BTreeMap<String, Component>,
    /// Where everything is committed.
    pub storage: Storage,
    /// Other nodes.
    pub cluster: Cluster,
    /// Logging.
    pub log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "postroom-data".into(),
            name: "localhost".into(),
            imap: Imap::default(),
            lmtp: Lmtp::default(),
            admin: Admin::default(),
            tls: Tls::default(),
            limits: Limits::default(),
            stores: StoreChoice::default(),
            components: BTreeMap::new(),
            storage: Storage::default(),
            cluster: Cluster::default(),
            log: Log::default(),
        }
    }
}

/// IMAP doors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Imap {
    /// Addresses that begin in plain text (STARTTLS where there is a certificate).
    pub listen: Vec<SocketAddr>,
    /// Addresses that begin with TLS.
    pub listen_tls: Vec<SocketAddr>,
    /// Whether passwords are taken without TLS.
    pub plaintext_login: bool,
}

impl Default for Imap {
    fn default() -> Self {
        let listen = vec![SocketAddr::from(([127, 0, 0, 1], 143))];
        Self { listen, listen_tls: Vec::new(), plaintext_login: false }
    }
}

/// LMTP doors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lmtp {
    /// Addresses; LMTP knows no passwords, so let only your MTA reach them.
    pub listen: Vec<SocketAddr>,
}

impl Default for Lmtp {
    fn default() -> Self {
        Self { listen: vec![SocketAddr::from(([127, 0, 0, 1], 24))] }
    }
}

/// The door for operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Its address.
    pub listen: SocketAddr,
    /// File with the token that requests must bear; made at the first start when it is missing.
    /// Empty: `admin-token` in the data folder.
    pub token_file: PathBuf,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 1080)), token_file: PathBuf::new() }
    }
}

/// Certificate for STARTTLS and implicit TLS, re-read when it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// PEM file with the certificate chain; empty: no TLS.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// Limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest message, in octets.
    pub message_octets: u64,
    /// Most connections at once, of each protocol.
    pub connections: usize,
    /// Most connections at once from one address, of each protocol.
    pub connections_per_address: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_octets: 50 << 20, connections: 10_000, connections_per_address: 1_000 }
    }
}

/// Most hooks: each is asked before every delivery, one after the other.
const MAX_HOOKS: usize = 16;

/// Which component keeps which kind of record (E16), and which are asked about deliveries (E18).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreChoice {
    /// Domains.
    pub domain: String,
    /// Users.
    pub user: String,
    /// Mailboxes.
    pub mailbox: String,
    /// Messages.
    pub message: String,
    /// Asked before and told after each delivery, in this order.
    pub hooks: Vec<String>,
    /// What replaces the built-in component must be signed with one of these keys.
    #[serde(skip_serializing_if = "Keys::is_empty")]
    pub keys: Keys,
}

impl Default for StoreChoice {
    fn default() -> Self {
        let built_in = || BUILT_IN.to_owned();
        Self {
            domain: built_in(),
            user: built_in(),
            mailbox: built_in(),
            message: built_in(),
            hooks: Vec::new(),
            keys: Keys::default(),
        }
    }
}

/// A store component in a file, what it is granted and how far it may go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// The `.wasm` file.
    pub file: PathBuf,
    /// It, and what is deployed in its place, must be signed with one of these keys; none: with nothing.
    #[serde(default, skip_serializing_if = "Keys::is_empty")]
    pub keys: Keys,
    /// What it may use of what it asks for; nothing by default.
    #[serde(default)]
    pub grants: Grants,
    /// Its limits.
    #[serde(default)]
    pub limits: guest::Limits,
}

/// Where everything is committed (P6).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// Which engine.
    pub engine: EngineChoice,
    /// Where the shared engine's database is.
    pub connection: String,
    /// Where the shared engine keeps large bodies; without: in the database's rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bodies: Option<ObjectsConfig>,
    /// How connections to the database are secured.
    pub tls: TlsConfig,
}

impl Storage {
    /// How the shared engine's database is opened.
    pub fn without_bodies(&self) -> PostgresOptions {
        PostgresOptions { tls: self.tls.clone(), ..PostgresOptions::new(&self.connection) }
    }

    /// How the shared engine is opened; the store of its bodies is asked whether it can be used.
    pub async fn options(&self) -> anyhow::Result<PostgresOptions> {
        let mut options = self.without_bodies();
        if let Some(bodies) = &self.bodies {
            let objects = bodies.open().context("storage.bodies")?;
            objects.check().await.context("storage.bodies")?;
            options.objects = Some(objects);
        }
        Ok(options)
    }
}

/// A storage engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// In the data folder, for one node.
    #[default]
    Embedded,
    /// In PostgreSQL, for one node or several.
    Postgres,
}

/// Other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// Where links of other nodes come in; empty: this node is on its own.
    pub listen: String,
    /// Where they reach that; empty: the same.
    pub advertise: String,
    /// Folder with the certificates; empty: `cluster` in the data folder.
    pub certificates: PathBuf,
    /// Nodes to speak with at first, `NODE=HOST:PORT`.
    pub seeds: Vec<String>,
}

impl Cluster {
    /// Where links come in, if the node is one of several.
    pub fn address(&self) -> anyhow::Result<Option<SocketAddr>> {
        if self.listen.is_empty() {
            return Ok(None);
        }
        let listen = &self.listen;
        let address = listen.parse().with_context(|| {
            format!("cluster.listen is {listen:?}, and no address such as 10.0.0.1:1090")
        })?;
        Ok(Some(address))
    }

    /// Whom to speak with at first, and where they are.
    pub fn seeds(&self) -> anyhow::Result<Vec<(String, String)>> {
        let seed = |text: &String| match text.split_once('=') {
            Some((node, address)) if !node.is_empty() && address.contains(':') => {
                Ok((node.to_owned(), address.to_owned()))
            }
            Some(_) | None => bail!("cluster.seeds has {text:?}; write NODE=HOST:PORT"),
        };
        self.seeds.iter().map(seed).collect()
    }
}

/// Logging.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or directives by module.
    pub filter: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".into(), format: LogFormat::Text }
    }
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

impl Config {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!(
                "cannot read the configuration {}; `postroom config` prints one to start from",
                path.display()
            )
        })?;
        Self::parse(&text).with_context(|| format!("the configuration {}", path.display()))
    }

    /// Parses and checks.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let config: Self = toml::from_str(text).map_err(|error| {
            // The library's text has a picture of the line in several lines; one is enough.
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            anyhow::anyhow!("line {line}: {}", error.message().replace('\n', ", "))
        })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        let has_tls = !self.tls.certificate.as_os_str().is_empty();
        if has_tls == self.tls.key.as_os_str().is_empty() {
            bail!("tls.certificate and tls.key go together: set both or neither");
        }
        if !self.imap.listen_tls.is_empty() && !has_tls {
            bail!("imap.listen_tls needs tls.certificate and tls.key");
        }
        if !has_tls && !self.imap.listen.is_empty() && !self.imap.plaintext_login {
            bail!(
                "nobody could log in: set tls.certificate and tls.key, or imap.plaintext_login = true where the network is trusted"
            );
        }
        for (kind, name) in self.stores.by_kind() {
            if name != BUILT_IN && !self.components.contains_key(name) {
                bail!(
                    "stores.{kind} names {name:?}, which is neither {BUILT_IN:?} nor under [components]"
                );
            }
        }
        self.stores.check_hooks(&self.components)?;
        let built_in = self.stores.by_kind().iter().any(|(_, name)| *name == BUILT_IN);
        if !self.stores.keys.is_empty() && !built_in {
            bail!(
                "stores.keys is for what replaces {BUILT_IN:?}, which no store names: set components.NAME.keys"
            );
        }
        let shared = self.storage.engine == EngineChoice::Postgres;
        if shared == self.storage.connection.is_empty() {
            bail!(
                "storage.connection goes with storage.engine = \"postgres\": set both or neither"
            );
        }
        if self.storage.bodies.is_some() && !shared {
            bail!(
                "storage.bodies goes with storage.engine = \"postgres\": the embedded engine keeps bodies itself"
            );
        }
        if self.cluster.address()?.is_some() && !shared {
            bail!("cluster.listen needs an engine that nodes share: storage.engine = \"postgres\"");
        }
        self.cluster.seeds()?;
        if self.components.contains_key(BUILT_IN) {
            bail!("components.{BUILT_IN}: this name is the built-in component's; choose another");
        }
        if self.limits.message_octets == 0 || self.limits.connections == 0 {
            bail!("limits.message_octets and limits.connections must be more than zero");
        }
        Ok(())
    }

    /// The folder with the certificates of the cluster.
    pub fn certificates(&self) -> PathBuf {
        match self.cluster.certificates.as_os_str().is_empty() {
            true => self.data.join(CERTIFICATES),
            false => self.cluster.certificates.clone(),
        }
    }

    /// The file with the admin token.
    pub fn token_file(&self) -> PathBuf {
        match self.admin.token_file.as_os_str().is_empty() {
            true => self.data.join("admin-token"),
            false => self.admin.token_file.clone(),
        }
    }
}

impl StoreChoice {
    /// One component for every kind.
    pub fn all(name: &str) -> Self {
        let name = || name.to_owned();
        let (domain, user, mailbox, message) = (name(), name(), name(), name());
        Self { domain, user, mailbox, message, ..Self::default() }
    }

    fn check_hooks(&self, components: &BTreeMap<String, Component>) -> anyhow::Result<()> {
        let hooks = &self.hooks;
        if hooks.len() > MAX_HOOKS {
            bail!("stores.hooks names {} components, at most {MAX_HOOKS} can be", hooks.len());
        }
        for (at, name) in hooks.iter().enumerate() {
            if !components.contains_key(name) {
                bail!("stores.hooks names {name:?}, which is not under [components]");
            }
            if hooks[..at].contains(name) {
                bail!("stores.hooks names {name:?} twice");
            }
        }
        Ok(())
    }

    /// Kind and component name.
    pub fn by_kind(&self) -> [(&'static str, &str); 4] {
        [
            ("domain", &self.domain),
            ("user", &self.user),
            ("mailbox", &self.mailbox),
            ("message", &self.message),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str, expected: &str) {
        let error = format!("{:#}", Config::parse(text).expect_err(text));
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
        assert!(!error.contains('\n'), "more than one line: {error:?}");
    }

    #[test]
    fn the_documented_default_is_the_default() {
        let file: Config = toml::from_str(DEFAULT_FILE).unwrap();
        assert_eq!(file, Config::default());
    }

    #[test]
    fn every_key_is_documented() {
        let is_documented = |text: &str, of: &str| {
            for key in text.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key) {
                let line = format!("{of}{key} = ");
                assert!(DEFAULT_FILE.contains(&line), "{of}{key} is not in default.toml");
            }
        };
        is_documented(&toml::to_string(&Config::default()).unwrap(), "");
        is_documented(&toml::to_string(&guest::Limits::default()).unwrap(), "# limits.");
        for key in ["http", "directories", "settings"] {
            is_documented(&format!("{key} = "), "# grants.");
        }
    }

    #[test]
    fn unknown_keys_are_refused_by_name_and_line() {
        refused("data = \"x\"\nfrobnicate = 1\n", "line 2: unknown field `frobnicate`");
        refused("[imap]\nlisten_tsl = []\n", "unknown field `listen_tsl`");
    }

    #[test]
    fn contradictions_are_refused() {
        refused("", "nobody could log in");
        refused("[tls]\nkey = \"k\"\n", "go together");
        refused("[imap]\nplaintext_login = true\nlisten_tls = [\"127.0.0.1:993\"]\n", "needs tls");
        refused("[imap]\nplaintext_login = true\n[stores]\nuser = \"ldap\"\n", "stores.user names");
        refused("[imap]\nplaintext_login = true\nlisten = [\"nowhere\"]\n", "line 3");
        let plain = |text: &str| format!("[imap]\nplaintext_login = true\n{text}");
        refused(&plain("[storage]\nengine = \"postgres\"\n"), "storage.connection goes with");
        let bodies = "[storage]\nbodies = { directory = \"/x\" }\n";
        refused(&plain(bodies), "storage.bodies goes with");
        refused(&plain("[storage.bodies.s3]\nbuckets = \"x\"\n"), "unknown field `buckets`");
        refused(
            &plain("[cluster]\nlisten = \"127.0.0.1:1090\"\n"),
            "needs an engine that nodes share",
        );
        refused(&plain("[cluster]\nlisten = \"nowhere\"\n"), "no address such as");
        refused(&plain("[cluster]\nseeds = [\"b\"]\n"), "write NODE=HOST:PORT");
        let hooks = |names: &str| {
            format!(
                "[imap]\nplaintext_login = true\n[stores]\nhooks = [{names}]\n[components.a]\nfile = \"a.wasm\"\n"
            )
        };
        refused(&hooks("\"a\", \"b\""), "stores.hooks names \"b\", which is not");
        refused(&hooks("\"keyed\""), "stores.hooks names \"keyed\", which is not");
        refused(&hooks("\"a\", \"a\""), "stores.hooks names \"a\" twice");
        refused(&hooks(&"\"a\",".repeat(MAX_HOOKS + 1)), "at most 16");
        assert_eq!(Config::parse(&hooks("\"a\"")).unwrap().stores.hooks, ["a"]);
    }

    #[test]
    fn what_is_no_key_is_refused_with_its_line() {
        let of = |keys: &str| {
            format!(
                "[imap]\nplaintext_login = true\n[components.a]\nfile = \"a.wasm\"\nkeys = [{keys}]\n"
            )
        };
        let key = "\"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\"";
        assert!(!Config::parse(&of(key)).unwrap().components["a"].keys.is_empty());
        assert!(Config::parse(&of("")).unwrap().components["a"].keys.is_empty());
        refused(&of("\"rubbish\""), "line 5: \"rubbish\" is no public key of minisign");
        refused(&of(&format!("{key}, \"\"")), "line 5: \"\" is no public key of minisign");
        refused(&of(&format!("{key},").repeat(17)), "line 5: 17 keys are named, at most 16");
        let stores = "[imap]\nplaintext_login = true\n[stores]\nkeys = [\"x\"]\n";
        refused(stores, "line 4: \"x\" is no public key");
        let stores = |more: &str| {
            format!(
                "[imap]\nplaintext_login = true\n[stores]\nkeys = [{key}]\n{more}[components.a]\nfile = \"a.wasm\"\n"
            )
        };
        assert!(!Config::parse(&stores("user = \"a\"\n")).unwrap().stores.keys.is_empty());
        let all = "domain = \"a\"\nuser = \"a\"\nmailbox = \"a\"\nmessage = \"a\"\n";
        refused(&stores(all), "stores.keys is for what replaces");
    }
}
