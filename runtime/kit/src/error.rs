//! Errors of a store: the WIT's `store-error`.

use std::fmt;

/// What every function of a store answers.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Why a call did nothing, named by what the host should do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoreError {
    /// A record that the operation needs is not there. Permanent.
    NotFound(String),
    /// A record of that name is there already. Permanent.
    AlreadyExists(String),
    /// The host asked for something that makes no sense. Permanent.
    Invalid(String),
    /// The medium refuses this. Permanent.
    Denied(String),
    /// A maximum of the store would be passed. Permanent.
    Limit(String),
    /// Too much at once. Temporary.
    Busy(String),
    /// Something that the store needs is away. Temporary.
    Unavailable(String),
    /// A stored record cannot be read. Temporary.
    Damaged(String),
    /// This store never does this. Permanent.
    Unsupported(String),
    /// Anything else: a fault of the component. Temporary.
    Other(String),
}

impl StoreError {
    /// A stored record cannot be read.
    pub fn damaged(what: impl fmt::Display) -> Self {
        Self::Damaged(what.to_string())
    }

    /// Its name in the WIT.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not-found",
            Self::AlreadyExists(_) => "already-exists",
            Self::Invalid(_) => "invalid",
            Self::Denied(_) => "denied",
            Self::Limit(_) => "limit",
            Self::Busy(_) => "busy",
            Self::Unavailable(_) => "unavailable",
            Self::Damaged(_) => "damaged",
            Self::Unsupported(_) => "unsupported",
            Self::Other(_) => "other",
        }
    }

    /// What is said to the operator.
    pub fn text(&self) -> &str {
        match self {
            Self::NotFound(text)
            | Self::AlreadyExists(text)
            | Self::Invalid(text)
            | Self::Denied(text)
            | Self::Limit(text)
            | Self::Busy(text)
            | Self::Unavailable(text)
            | Self::Damaged(text)
            | Self::Unsupported(text)
            | Self::Other(text) => text,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.text())
    }
}

impl std::error::Error for StoreError {}
