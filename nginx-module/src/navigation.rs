//! A browser that goes to a page, or a program that wants an answer?
//!
//! A page can be sent to the login; a program is told 401. Whoever is not clearly a browser on its
//! way to a page counts as a program.

use crate::nginx::Request;

pub(crate) fn is_navigation(request: Request<'_>) -> bool {
    let is_or_missing = |name: &[u8], value: &[u8]| {
        request.header(name).is_none_or(|found| found.trim_ascii().eq_ignore_ascii_case(value))
    };
    request.header(b"x-requested-with").is_none()
        && is_or_missing(b"sec-fetch-mode", b"navigate")
        && is_or_missing(b"sec-fetch-dest", b"document")
        && request.header(b"accept").is_some_and(accepts_pages)
}

fn accepts_pages(accept: &[u8]) -> bool {
    accept.windows(9).any(|part| part.eq_ignore_ascii_case(b"text/html"))
}
