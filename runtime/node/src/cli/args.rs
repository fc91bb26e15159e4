//! The command line as clap sees it; its help texts are meant to teach.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::guest::PublicKey;

/// A mail store whose back ends are WebAssembly components.
#[derive(Debug, Parser)]
#[command(
    name = "postroom",
    version,
    after_help = "Start here:\n  postroom dev            a node to try things on, with lines to paste\n  postroom config         the configuration of a real node, every key explained\n\nExit codes: 0 done; 1 it failed, and standard error says why in one line; 2 wrong usage;\n3 a check found damage."
)]
pub struct Cli {
    /// Print results as JSON, one object a line
    #[arg(long, global = true)]
    pub json: bool,
    /// What is done
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node to try things on: any user logs in with one password, any recipient is accepted
    Dev(Dev),
    /// Run a node for real use
    Serve {
        /// Its configuration file; `postroom config` prints one to start from
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Print the default configuration, every key explained
    Config,
    /// Bring mail in from an mbox file or a Maildir
    Import {
        /// An mbox file, or a folder with `cur` and `new` in it
        source: PathBuf,
        #[command(flatten)]
        mail: MailPlace,
        #[command(flatten)]
        door: Door,
    },
    /// Write a mailbox to an mbox file or a Maildir
    Export {
        /// What is written; it must not exist yet
        out: PathBuf,
        /// Form of what is written
        #[arg(long, value_enum, default_value_t = ArchiveForm::Mbox)]
        format: ArchiveForm,
        #[command(flatten)]
        mail: MailPlace,
        #[command(flatten)]
        door: Door,
    },
    /// Add, list and remove users and their aliases
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Add, list and remove domains
    Domain {
        #[command(subcommand)]
        command: DomainCommand,
    },
    /// Look at mailboxes
    Mailbox {
        #[command(subcommand)]
        command: MailboxCommand,
    },
    /// Check every record of every account; exit code 3 when something is damaged
    Check {
        /// Mend what can be mended
        #[arg(long)]
        repair: bool,
        #[command(flatten)]
        door: Door,
    },
    /// Read everything that is stored and hold it against its checksums; exit code 3 when something is
    /// damaged. What is there twice is made whole again; `check` says which message a damaged body is of
    Scrub {
        #[command(flatten)]
        door: Door,
    },
    /// Copy everything that is stored to a folder, while the node goes on
    Backup {
        /// What is made; it must not exist yet
        out: PathBuf,
        #[command(flatten)]
        door: Door,
    },
    /// Make a data folder from a backup
    ///
    /// What was announced after the backup was made is not in it: so each mailbox gets a new UIDVALIDITY
    /// when it is used for the first time, and mail clients fetch it anew. No UID ever means two messages.
    Restore {
        /// What `postroom backup` made
        backup: PathBuf,
        /// The folder to make; empty, or not there yet
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Nothing was changed or announced after the backup was made (the node was stopped before and has
        /// not run since): mailboxes keep their UIDVALIDITY
        #[arg(long)]
        nothing_since: bool,
    },
    /// Make a cluster of several nodes, add nodes to it, and look at it
    Cluster {
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Look at store components, and prove them
    Store {
        #[command(subcommand)]
        command: StoreCommand,
    },
}

/// `postroom dev`
#[derive(Clone, Debug, Args)]
pub struct Dev {
    /// Folder that holds everything; made when missing
    #[arg(long, value_name = "DIR", default_value = "./postroom-data")]
    pub data: PathBuf,
    /// Address for mail clients; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1143")]
    pub imap: SocketAddr,
    /// Address for MTAs
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1024")]
    pub lmtp: SocketAddr,
    /// Address of the admin API and /metrics
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1080")]
    pub admin: SocketAddr,
    /// With which any user logs in; a random one when not given
    #[arg(long, value_name = "PW")]
    pub password: Option<String>,
    /// A store component to use instead of the built-in one
    #[arg(long, value_name = "FILE")]
    pub store: Option<PathBuf>,
    /// A component that is asked before and told after each delivery; may be given several times
    #[arg(long = "hook", value_name = "FILE")]
    pub hooks: Vec<PathBuf>,
    /// What is logged: error, warn, info, debug, trace, or directives by module
    #[arg(long, default_value = "warn")]
    pub log: String,
}

/// How a command reaches the mail: through a running node, or straight from its folder.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct DoorChoice {
    /// Admin address of a running node
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// Data folder of a node that is not running
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// How a command reaches the mail, with the token where one is needed.
#[derive(Clone, Debug, Args)]
pub struct Door {
    #[command(flatten)]
    pub choice: DoorChoice,
    /// File with the admin token, where the node wants one
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub token_file: Option<PathBuf>,
}

/// Which running node a command asks: what it is about is of no use without one.
#[derive(Clone, Debug, Args)]
pub struct NodeDoor {
    /// Admin address of a running node
    #[arg(long, value_name = "ADDR")]
    pub admin: SocketAddr,
    /// File with the admin token, where the node wants one
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// Whose mail.
#[derive(Clone, Debug, Args)]
pub struct MailPlace {
    /// User name, such as anna@example.org
    #[arg(long, value_name = "NAME")]
    pub user: String,
    /// Mailbox, such as INBOX or Archive/2026
    #[arg(long, value_name = "BOX", default_value = "INBOX")]
    pub mailbox: String,
}

/// Form of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ArchiveForm {
    /// One file
    Mbox,
    /// A folder with one file a message
    Maildir,
}

/// `postroom user …`
#[derive(Clone, Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user; the password is read from standard input
    Add {
        /// Such as anna@example.org
        name: String,
        /// Most octets of mail; without: no limit
        #[arg(long, value_name = "OCTETS")]
        quota: Option<u64>,
        /// Make the name an alias of this user instead
        #[arg(long, value_name = "NAME", conflicts_with = "quota")]
        alias_of: Option<String>,
        #[command(flatten)]
        door: Door,
    },
    /// Set a user's password, read from standard input
    Password {
        /// The user
        name: String,
        #[command(flatten)]
        door: Door,
    },
    /// List users
    List {
        #[command(flatten)]
        door: Door,
    },
    /// Remove a user's name; the mail stays in storage
    Remove {
        /// The user
        name: String,
        #[command(flatten)]
        door: Door,
    },
}

/// `postroom domain …`
#[derive(Clone, Debug, Subcommand)]
pub enum DomainCommand {
    /// Add a domain
    Add {
        /// Such as example.org
        name: String,
        /// Another domain whose users this one's addresses mean
        #[arg(long, value_name = "NAME")]
        alias_of: Option<String>,
        #[command(flatten)]
        door: Door,
    },
    /// List domains
    List {
        #[command(flatten)]
        door: Door,
    },
    /// Remove a domain
    Remove {
        /// The domain
        name: String,
        #[command(flatten)]
        door: Door,
    },
}

/// `postroom mailbox …`
#[derive(Clone, Debug, Subcommand)]
pub enum MailboxCommand {
    /// List a user's mailboxes with their counts
    List {
        /// The user
        #[arg(long, value_name = "NAME")]
        user: String,
        #[command(flatten)]
        door: Door,
    },
    /// Say which node of a cluster has a user's mailboxes open
    Where {
        /// The user
        #[arg(long, value_name = "NAME")]
        user: String,
        #[command(flatten)]
        door: NodeDoor,
    },
    /// Show one mailbox
    Show {
        /// The mailbox
        mailbox: String,
        /// The user
        #[arg(long, value_name = "NAME")]
        user: String,
        #[command(flatten)]
        door: Door,
    },
}

/// `postroom cluster …`
#[derive(Clone, Debug, Subcommand)]
pub enum ClusterCommand {
    /// Make a cluster: its certificate authority, and the certificate of its first node
    Init {
        /// The first node's name: a-z, 0-9 and -
        node: String,
        /// Folder for the certificates (`cluster.certificates` in the configuration)
        #[arg(long, value_name = "DIR")]
        folder: PathBuf,
    },
    /// Make the file with which another node joins
    Invite {
        /// The other node's name: a-z, 0-9 and -
        node: String,
        /// The folder that `cluster init` has made, with the authority's key
        #[arg(long, value_name = "DIR")]
        folder: PathBuf,
        /// A node that it can reach at first; may be given several times
        #[arg(long = "seed", value_name = "NODE=HOST:PORT", required = true, value_parser = setting)]
        seeds: Vec<(String, String)>,
        /// The file to write; only its owner may read it
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Make this node the one that an invitation is for
    Join {
        /// What `cluster invite` wrote
        file: PathBuf,
        /// Folder for the certificates (`cluster.certificates` in the configuration)
        #[arg(long, value_name = "DIR")]
        folder: PathBuf,
    },
    /// Refuse a node from now on, whatever certificate it has: all nodes cut it off within seconds
    ///
    /// Cannot be taken back. A node that is to return joins under another name. Where the authority's key is not,
    /// only the node whose folder it is refuses the other one.
    Revoke {
        /// The node's name; with --serial: its certificate's serial number, as hexadecimal digits
        node: String,
        /// The folder that `cluster init` has made, with the authority's key
        #[arg(long, value_name = "DIR")]
        folder: PathBuf,
        /// Refuse one certificate, and not the node: the node has a newer one
        #[arg(long)]
        serial: bool,
    },
    /// Show the nodes that a running one hears of
    Status {
        /// Show it again each second
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        door: NodeDoor,
    },
    /// Let other nodes take over everything that a running one has open
    Drain {
        #[command(flatten)]
        door: NodeDoor,
    },
    /// Say that the database was restored from a backup, or lost something in a fail-over
    ///
    /// Stop all nodes first. Everything that counts up (UIDs, mod-sequences, UIDVALIDITYs to come) is raised above
    /// all that can have been announced, so that nothing a client remembers means another message. May be cut off,
    /// and done again.
    Restored {
        /// The configuration of any node
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

/// `postroom store …`
#[derive(Clone, Debug, Subcommand)]
pub enum StoreCommand {
    /// Say what a component file is, keeps and asks for, without running it
    Inspect {
        /// The `.wasm` file; without: the built-in one
        file: Option<PathBuf>,
        /// Public key of minisign that must have signed it, in FILE.minisig; may be given several times: one of them
        #[arg(long = "key", value_name = "KEY", requires = "file")]
        keys: Vec<PublicKey>,
    },
    /// Prove a component file: run a case for every promise of the interface over it
    Check(StoreCheck),
    /// Let a new version of a store's component take over while mail clients stay connected
    ///
    /// Every live node fetches it, verifies it and compiles it; then it serves, on the canary node first where
    /// one is named. While it is on probation the version before is kept at hand: a trap, more failures or much
    /// longer calls than before bring that one back by themselves. When the probation is over it is permanent.
    ///
    /// A signature that lies beside the file, FILE.minisig as `minisign -S -H -m FILE` makes it, is sent along. Where the
    /// configuration names keys, each node takes only what one of them has signed.
    Deploy(Deploy),
    /// How the stores are: what serves, what is under way, how far each node is
    Status {
        /// Its name in the configuration: `keyed`, or NAME of [components.NAME]; without: all
        store: Option<String>,
        /// Look again and again
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        door: NodeDoor,
    },
    /// Make what is on probation permanent now
    Commit {
        /// Its name in the configuration: `keyed`, or NAME of [components.NAME]
        store: String,
        #[command(flatten)]
        door: NodeDoor,
    },
    /// Give up what is under way: the version before serves again
    Rollback {
        /// Its name in the configuration: `keyed`, or NAME of [components.NAME]
        store: String,
        #[command(flatten)]
        door: NodeDoor,
    },
    /// Go back to the component that the configuration names: no deployment stands over it any more
    ///
    /// It goes the way of any deployment: all nodes make it ready, it serves on probation, and then it is
    /// permanent. A living node whose configuration names another component refuses it for all. All nodes
    /// must be of a version that knows this command.
    Forget(Forget),
    /// What the store's components print on a node, and what happens to them there: the last lines,
    /// without what they print while they are verified
    Logs {
        /// Its name in the configuration: `keyed`, or NAME of [components.NAME]
        store: String,
        /// Go on with what comes
        #[arg(long)]
        follow: bool,
        /// Refuse unless the node at --admin is this one: each node remembers its own lines
        #[arg(long, value_name = "NODE")]
        node: Option<String>,
        #[command(flatten)]
        door: NodeDoor,
    },
    /// The last 64 deployments that have ended: how, why, and step by step
    History {
        /// Its name in the configuration: `keyed`, or NAME of [components.NAME]; without: all
        store: Option<String>,
        #[command(flatten)]
        door: NodeDoor,
    },
}

/// `postroom store deploy`
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Exit codes: 0 it has begun (with --watch: it is permanent; with --plan: it would be taken);\n1 it was refused or rolled back, with the reason in one line."
)]
pub struct Deploy {
    /// The `.wasm` file
    pub file: PathBuf,
    /// Its name in the configuration: `keyed`, or NAME of [components.NAME]; `postroom store status` names them
    #[arg(long, value_name = "STORE")]
    pub to: String,
    #[command(flatten)]
    pub how: Rollout,
}

/// `postroom store forget`
#[derive(Clone, Debug, Args)]
pub struct Forget {
    /// Its name in the configuration: `keyed`, or NAME of [components.NAME]; `postroom store status` names them
    pub store: String,
    #[command(flatten)]
    pub how: Rollout,
}

/// How a version takes over.
#[derive(Clone, Debug, Args)]
pub struct Rollout {
    /// Say what would change, and do nothing
    #[arg(long)]
    pub plan: bool,
    /// Node on which it serves first, for as long as the probation lasts
    #[arg(long, value_name = "NODE")]
    pub canary: Option<String>,
    /// How long it is watched before it is permanent: 90s, 10m, 2h
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = super::deploy::duration)]
    pub probation: std::time::Duration,
    /// Permanent as soon as it serves: nothing is watched (no canary either), and nothing brings the version before back
    #[arg(long)]
    pub no_rollback: bool,
    /// Take what it asks for more than the version before as agreed
    #[arg(long)]
    pub yes: bool,
    /// Follow it to its end
    #[arg(long)]
    pub watch: bool,
    #[command(flatten)]
    pub door: NodeDoor,
}

/// `postroom store check`
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Levels: 1 reads and empty lists are answered; 2 records are kept as the interface says; 3 they are kept also\nwhen calls fail, are given up or lose their instance, and when several instances run.\n\nExit codes: 0 the level is reached (with --case: one of them passed and none failed);\n1 it is not; 2 wrong usage, or a file that cannot be loaded.\n\nWith --json each line is an object whose `type` says what it is: `case`, one for each as it ends, with its\n`outcome` (passed, failed, not-applicable, not-run) and, where it failed, the `failure`; `summary`, the last;\n`explanation`, with --explain."
)]
pub struct StoreCheck {
    /// The `.wasm` file; not needed with --explain
    #[arg(required_unless_present = "explain")]
    pub file: Option<PathBuf>,
    /// Level that the store has to reach
    #[arg(long, value_name = "L", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub level: u8,
    /// Seed of the random cases
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Do not run the remaining cases once failed ones have taken so many seconds together
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub patience: u64,
    /// Run this case only; may be given several times
    #[arg(long = "case", value_name = "NAME")]
    pub cases: Vec<String>,
    /// Say what a case does, and quote the sentences to which it holds a store
    #[arg(long, value_name = "CASE")]
    pub explain: Option<String>,
    /// Public key of minisign that must have signed it, in FILE.minisig; may be given several times: one of them
    #[arg(long = "key", value_name = "KEY")]
    pub keys: Vec<PublicKey>,
    /// HTTP host that the component may ask, where its manifest wants to; may be given several times
    #[arg(long, value_name = "HOST")]
    pub http: Vec<String>,
    /// What the component is told (`postroom:host/settings`); may be given several times
    #[arg(long = "setting", value_name = "NAME=VALUE", value_parser = setting)]
    pub settings: Vec<(String, String)>,
}

/// `NAME=VALUE`.
fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("write it as NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_command_reaches_mail_through_exactly_one_door() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["postroom"], args].concat()).is_ok();
        assert!(parse(&["import", "x.mbox", "--user", "a", "--data", "d"]));
        assert!(parse(&["user", "list", "--admin", "127.0.0.1:1080"]));
        assert!(!parse(&["user", "list"]));
        assert!(!parse(&["user", "list", "--admin", "127.0.0.1:1080", "--data", "d"]));
        assert!(parse(&["store", "status", "--admin", "127.0.0.1:1080"]));
        assert!(!parse(&["store", "status"]));
        assert!(!parse(&["store", "status", "--data", "d"]));
    }
}
