//! `resumed` makes uploads of large files always finish, and downloads of them too.
//!
//! The modules are layers; each uses only those above it in this list:
//!
//! - [`protocol`]: what the specifications say, pure
//! - [`clock`]: the only caller of the system clock
//! - [`storage`]: where records and bytes lie
//! - [`engine`]: what the server does
//! - [`check`]: whether records and bytes are as they should be, and what repairs them
//! - [`import`]: takes over the uploads of another server
//! - [`settings`]: what the person who runs the server decides
//! - [`client`]: HTTP as those need it who fetch and send files
//! - [`download`]: what `get` does
//! - [`send`]: what `put` does
//! - [`server`]: how HTTP reaches the engine

pub mod protocol;

pub mod clock;

pub mod storage;

pub mod engine;

pub mod check;

pub mod import;

pub mod settings;

pub mod client;

pub mod download;

pub mod send;

pub mod server;
