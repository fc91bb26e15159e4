//! SEARCH as a pure question: the query and its evaluation over index facts and message text.

/// A search program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {}
