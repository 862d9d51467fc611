//! `ngx_http_curfew_module`: sessions that end, in nginx.
//!
//! The engine decides; this crate asks it at the right moments of a request and answers as nginx does.
//! `docs/nginx.md` says what each directive means.
//!
//! | file | |
//! |---|---|
//! | `module` | what nginx sees when it loads the library |
//! | `conf` | directives, and how levels inherit |
//! | `zone` | the region that all workers share, over reloads |
//! | `access` | may this request pass |
//! | `filter` | what a response says about sessions |
//! | `starts` | whose session begins |
//! | `record` | what is known about one request |
//! | `streams` | requests that go on, and end with their session |
//! | `activity`, `frames` | what counts while they do |
//! | `timer` | expiry |
//! | `page`, `variables`, `status` | what is told |
//! | `admin` | figures and control for the operator |
//! | `ambiguity`, `values`, `cookies` | ids that are there twice, or that nobody else is to see |
//! | `nginx`, `clock`, `navigation` | the ground |
//!
//! Nothing unwinds into nginx: every callback runs behind `nginx::fence`. Nothing blocks: requests
//! are decided without a lock, and the timer works in small pieces.

#![deny(missing_docs)]
#![expect(non_upper_case_globals, reason = "nginx's names")]

mod access;
mod activity;
mod admin;
mod ambiguity;
mod clock;
mod conf;
mod cookies;
mod filter;
mod frames;
mod module;
mod navigation;
mod nginx;
mod page;
mod record;
mod spellings;
mod starts;
mod status;
mod streams;
mod timer;
mod values;
mod variables;
mod zone;
