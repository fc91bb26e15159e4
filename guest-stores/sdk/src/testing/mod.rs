//! A host of maps, for tests of a store's logic.
