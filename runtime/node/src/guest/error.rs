//! Why a component is not loaded: one line each, in this project's own words, saying what to do.

/// Why a component is not loaded. Each text follows the component's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// Nothing in it.
    #[error("is empty")]
    Empty,
    /// Larger than this node takes.
    #[error("has {octets} octets, this node takes at most {most} (max_component_mib)")]
    TooLarge {
        /// Its size.
        octets: u64,
        /// The limit.
        most: u64,
    },
    /// Something else altogether.
    #[error("is no WebAssembly component: it begins like {0}")]
    NotWasm(&'static str),
    /// A module without an interface.
    #[error(
        "is a core WebAssembly module, not a component: build it for wasm32-wasip2, or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// Machine code: only what this node compiled itself may run.
    #[error("is precompiled code, which a node takes from nobody: give it the .wasm file")]
    Precompiled,
    /// Cut off or altered.
    #[error("is damaged at octet {at}: {reason}")]
    Damaged {
        /// Where reading failed.
        at: u64,
        /// What is wrong there.
        reason: String,
    },
    /// Its manifest cannot be used.
    #[error("has a manifest that cannot be used: {0}")]
    Manifest(String),
    /// Somebody has to have signed it, and nobody has; with the keys that are asked for.
    #[error(
        "is not signed, and what is asked for is a signature with key {0}: make one with `minisign -S -H -m FILE`, and keep FILE.minisig beside the file"
    )]
    Unsigned(String),
    /// Its signature does not fit.
    #[error("has a signature that does not fit: {0}")]
    Signature(String),
    /// Made for another version of our interfaces.
    #[error("was built for {package} {found}, this node serves {served}: rebuild it for that")]
    Version {
        /// The package.
        package: String,
        /// The version it names.
        found: String,
        /// Ours.
        served: String,
    },
    /// It needs something that a store component does not get.
    #[error("needs {import}, {why}")]
    Import {
        /// The import.
        import: String,
        /// Why it does not get it.
        why: &'static str,
    },
    /// It keeps nothing and is no hook.
    #[error(
        "keeps no kind of record and has no hooks: it exports none of domains, users, mailboxes, messages, hooks of {0}"
    )]
    NoKind(String),
    /// The same version in name, but not in substance.
    #[error(
        "has another {interface} than {served}: rebuild it with the wit/ of this node ({reason})"
    )]
    Interface {
        /// Which interface differs.
        interface: String,
        /// Ours.
        served: String,
        /// How.
        reason: String,
    },
    /// A limit that this node cannot keep.
    #[error("cannot have these limits: {0}")]
    Limits(String),
    /// A granted directory cannot be opened.
    #[error("is granted directory {name:?}, which cannot be opened: {reason}")]
    Directory {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// It uses something that the engine does not compile.
    #[error("cannot be compiled: {0}")]
    Compile(String),
    /// Its first instance could not be made.
    #[error("cannot be started: {0}")]
    Start(String),
    /// The engine itself cannot be set up on this machine.
    #[error("the WebAssembly engine cannot be set up on this machine: {0}")]
    Engine(String),
}
