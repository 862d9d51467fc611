//! The figures of docs/performance.md: what criterion cannot measure (many threads, tails, memory),
//! and what its benches share with that.

pub mod clock;
pub mod expire;
pub mod fill;
pub mod instructions;
pub mod limit;
pub mod report;
pub mod sessions;
pub mod touch;
pub mod turns;

/// What can go wrong here is reported and nothing else is done about it.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
