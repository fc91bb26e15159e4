//! mailbox

pub mod view;
