//! The contract of the WIT, over maps.

postroom_guest::store_contract!(keyed2::Keyed);
