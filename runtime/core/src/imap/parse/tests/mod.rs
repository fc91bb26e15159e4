//! Tests of the grammar: each verb, each refusal, and properties over generated commands.

mod differential;
mod framing;
mod generate;
mod properties;
mod refusals;
mod verbs;
mod write;
