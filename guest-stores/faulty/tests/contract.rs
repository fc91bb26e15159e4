//! Without settings it is a right store: the contract of the WIT, over maps.

postroom_guest::store_contract!(faulty::Faulty);
