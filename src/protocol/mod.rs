//! What the specifications say. Pure: no tokio, no files, no clock, no randomness; `now` and ids
//! are arguments.
// Tests are spared: a panic is what tells there that a number is wrong.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::wildcard_enum_match_arm))]

pub mod checksum;
pub mod dialect;
pub mod digest;
pub mod digest_fields;
pub mod disposition;
pub mod fields;
pub mod head;
pub mod id;
pub mod ietf;
pub mod limits;
pub mod metadata;
pub mod metalink;
pub mod operation;
pub mod pieces;
pub mod possession;
pub mod precondition;
pub mod problem;
pub mod range;
pub mod refusal;
pub mod repr_digests;
pub mod tree;
pub mod tus;
pub mod units;
pub mod upload;
