//! The module in a real nginx: each directive and each verdict, over real sockets, with three workers.

mod admin;
mod answers;
mod directives;
mod evasion;
mod example;
mod fastcgi;
mod harness;
mod http2;
mod http3;
mod life;
mod limits;
mod named_cookies;
mod open;
mod sessions;
mod soak;
mod starts;
mod tool;
mod ways;
