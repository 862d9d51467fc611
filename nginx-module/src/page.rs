//! `curfew_status_json`: how long the session still has, for the page's own warning. Never extends.

use curfew_engine::Span;
use nginx_sys::{NGX_HTTP_GET, NGX_HTTP_HEAD, ngx_http_request_t, ngx_int_t};

use crate::access::{Shown, judge};
use crate::conf;
use crate::nginx::{Request, fence};
use crate::record;
use crate::status::Status;
use crate::variables::write_seconds;

pub(crate) unsafe extern "C" fn handle(raw: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx calls this with a live request.
    let (request, conf) = unsafe { (Request::new(raw), conf::of_request(raw)) };
    fence(request.log(), 500, || {
        if !matches!(request.method(), NGX_HTTP_GET | NGX_HTTP_HEAD) {
            return 405;
        }
        let Some(record) = record::of(request) else { return 500 };
        if !record.ended {
            let status = match Shown::read(request, conf, conf.id) {
                Ok(shown) => {
                    record.key = Some(shown.key);
                    record.zone = conf.zone().map_or(std::ptr::null(), std::ptr::from_ref);
                    judge(&shown.table, shown.peek(), record)
                }
                Err(status) => status,
            };
            record.status = Some(status);
        }
        let status = record.status.unwrap_or(Status::Unknown);
        let mut body = String::with_capacity(160);
        body.push_str("{\"status\":\"");
        body.push_str(status.name());
        body.push_str("\",\"alive\":");
        body.push_str(if status.is_alive() { "true" } else { "false" });
        for (name, of) in [
            ("left", record.left.map(|left| left.end())),
            ("idle_left", record.left.map(|left| left.idle())),
            ("lifetime_left", record.left.map(|left| left.lifetime())),
            ("token_left", record.left.map(|left| left.token())),
            ("age", record.left.map(|left| left.age())),
        ] {
            body.push_str(",\"");
            body.push_str(name);
            body.push_str("\":");
            match of {
                Some(span) if span != Span::NEVER => write_seconds(span, &mut body).unwrap_or_default(),
                _ => body.push_str("null"),
            }
        }
        body.push_str("}\n");
        if request.add_header("Cache-Control", b"no-store").is_none() {
            return 500;
        }
        request.respond(if status == Status::Error { 503 } else { 200 }, "application/json", body.as_bytes())
    })
}
