//! What several tests share.

#![allow(dead_code, unreachable_pub)]

pub mod rules;
#[cfg(feature = "crash-points")]
pub mod scenes;
#[cfg(feature = "crash-points")]
pub mod truth;
