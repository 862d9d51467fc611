//! `curfew replay` as people use it: what goes in, what comes out, what is said when it cannot be.

mod errors;
mod harness;
mod results;
mod warnings;
