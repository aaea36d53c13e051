//! What `get` does: a file from a server to a local path or to standard output, whatever happens on
//! the way.
//!
//! [`plan`] decides who fetches what, and is pure; `transfer` moves the bytes; [`journal`]
//! remembers them; [`source`] knows what to believe of a server; [`verify`] knows what the bytes
//! have to be.

mod fetch;
pub mod flags;
mod here;
mod in_order;
pub mod journal;
mod know;
mod list;
pub mod names;
mod open;
pub mod part;
pub mod plan;
pub mod source;
mod stream;
mod transfer;
pub mod verify;

pub use fetch::{Destination, Download, Getter};
pub use list::parse_list;
