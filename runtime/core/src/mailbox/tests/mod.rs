//! The real thing against the model: every sequence of a small alphabet of calls, and long random
//! ones.

mod exhaustive;

mod harness;

mod random;

mod rules;
