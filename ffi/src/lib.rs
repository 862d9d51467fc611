//! The C library. `include/curfew.h` is made from this crate by cbindgen, comments included, so
//! they are written for the reader of that header; `docs/c-api.md` is the way in.
//!
//! What holds here, file by file:
//!
//! - `boundary.rs`: nothing unwinds into C; what C passes is looked at before it is used, and no
//!   reference to the caller's memory is ever made, so that arguments may overlap.
//! - `handles.rs`: a handle is a number that is looked up, so that a stale one is told; and what a
//!   fork does to handles.
//! - `status.rs`, `names.rs`: the numbers, which never change meaning, and their names.
//! - `types.rs`: the structs; they only ever grow at their ends.
//! - the others: one group of functions each.

#![deny(missing_docs)]
// C's names, as the header has them.
#![allow(non_camel_case_types)]

mod boundary;
mod handles;
mod status;
mod types;

// In the order of the header.
mod names;

mod region;

mod policies;

mod touch;

mod sessions;

mod list;

mod events;

mod watch;

mod snapshots;

pub use events::*;
pub use handles::curfew_table;
pub use list::*;
pub use names::*;
pub use policies::*;
pub use region::*;
pub use sessions::*;
pub use snapshots::*;
pub use status::curfew_status;
pub use touch::*;
pub use types::*;
pub use watch::*;
