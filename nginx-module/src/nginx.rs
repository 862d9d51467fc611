//! The ground: what nginx hands to callbacks, as types with a lifetime; and the fence around each of
//! them.
//!
//! A [`Request`] is made from the pointer that nginx passes to a callback and lives as long as that
//! call. Its pool, its connection's log and its main request live at least as long as the request,
//! so what is taken from them is given that lifetime. One thread runs all of it: nginx has one event
//! loop in each process, and the module's callbacks run on no other thread.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use nginx_sys::{
    NGX_ERROR, NGX_LOG_ALERT, NGX_OK, ngx_chain_t, ngx_http_complex_value, ngx_http_complex_value_t,
    ngx_http_get_flushed_variable, ngx_http_request_t, ngx_http_script_copy_var_len_code, ngx_http_script_var_code_t,
    ngx_int_t, ngx_list_part_t, ngx_list_push, ngx_log_t, ngx_palloc, ngx_pcalloc, ngx_pool_t, ngx_str_t,
    ngx_table_elt_t, ngx_uint_t,
};
use ngx::ngx_log_error;

pub(crate) const OK: ngx_int_t = NGX_OK as ngx_int_t;
pub(crate) const ERROR: ngx_int_t = NGX_ERROR as ngx_int_t;

/// Callbacks that were begun, those inside of others not counted, and how deep this one is. One thread.
static TURN: AtomicU64 = AtomicU64::new(0);
static DEPTH: AtomicU64 = AtomicU64::new(0);

/// Which callback this is: another number for each that nginx calls, the same for those that it calls
/// from inside of it.
pub(crate) fn turn() -> u64 {
    TURN.load(Ordering::Relaxed)
}

/// Runs a callback; nothing unwinds out of it. A panic is a bug of ours: it is logged, and `failed`
/// is the answer.
pub(crate) fn fence<T>(log: *mut ngx_log_t, failed: T, callback: impl FnOnce() -> T) -> T {
    let depth = DEPTH.load(Ordering::Relaxed);
    if depth == 0 {
        TURN.store(turn() + 1, Ordering::Relaxed);
    }
    DEPTH.store(depth + 1, Ordering::Relaxed);
    let answer = catch_unwind(AssertUnwindSafe(callback));
    DEPTH.store(depth, Ordering::Relaxed);
    match answer {
        Ok(answer) => answer,
        Err(_) => {
            if !log.is_null() {
                ngx_log_error!(NGX_LOG_ALERT, log, "curfew: a callback panicked; this is a bug, please report it");
            }
            failed
        }
    }
}

/// The bytes of a string of nginx's.
///
/// # Safety
/// `text` must point to as many bytes as it says, for `'a`; every string that nginx hands out does.
pub(crate) unsafe fn bytes<'a>(text: ngx_str_t) -> &'a [u8] {
    if text.len == 0 {
        return &[];
    }
    // SAFETY: by this function's contract.
    unsafe { std::slice::from_raw_parts(text.data, text.len) }
}

/// A string of nginx's that stands for a constant.
pub(crate) const fn constant(text: &'static str) -> ngx_str_t {
    ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() }
}

/// Puts a value into a pool. It is never dropped, so it must not need to be.
pub(crate) fn in_pool<T: Copy>(pool: *mut ngx_pool_t, value: T) -> Option<*mut T> {
    // SAFETY: `pool` is a live pool (callers have it from a request or a configuration). Memory of
    // `ngx_pcalloc` is aligned for every type that has no greater alignment than a pointer.
    unsafe {
        const { assert!(align_of::<T>() <= align_of::<*const ()>() * 2) };
        let place = ngx_pcalloc(pool, size_of::<T>()).cast::<T>();
        if place.is_null() {
            return None;
        }
        place.write(value);
        Some(place)
    }
}

/// Copies text into a pool.
pub(crate) fn text_in_pool(pool: *mut ngx_pool_t, text: &[u8]) -> Option<ngx_str_t> {
    // SAFETY: `pool` is a live pool; the memory that it gives is `text.len()` bytes long.
    unsafe {
        let place = nginx_sys::ngx_pnalloc(pool, text.len().max(1)).cast::<u8>();
        if place.is_null() {
            return None;
        }
        place.copy_from_nonoverlapping(text.as_ptr(), text.len());
        Some(ngx_str_t { len: text.len(), data: place })
    }
}

/// The number of the variable that a directive's text consists of, if it is one and nothing else, as
/// most are: what it says need not be copied.
///
/// # Safety
/// `value` must have been compiled by nginx.
unsafe fn only_variable(value: *const ngx_http_complex_value_t) -> Option<ngx_uint_t> {
    // SAFETY: by this function's contract. Text with variables is a row of steps that ends with a null
    // pointer; each begins with its function, and that of a variable is as long as this one.
    unsafe {
        let step = (*value).lengths.cast::<ngx_http_script_var_code_t>();
        let is_variable = step.as_ref()?.code? as usize == ngx_http_script_copy_var_len_code as *const () as usize;
        (is_variable && (*step.add(1).cast::<*const ()>()).is_null()).then_some((*step).index)
    }
}

/// A request, during a callback.
#[derive(Clone, Copy)]
pub(crate) struct Request<'r> {
    raw: *mut ngx_http_request_t,
    life: PhantomData<&'r ngx_http_request_t>,
}

impl<'r> Request<'r> {
    /// # Safety
    /// `raw` must be a live request for `'r`, on the thread of the event loop.
    pub(crate) unsafe fn new(raw: *mut ngx_http_request_t) -> Request<'r> {
        Request { raw, life: PhantomData }
    }

    pub(crate) fn raw(self) -> *mut ngx_http_request_t {
        self.raw
    }

    pub(crate) fn log(self) -> *mut ngx_log_t {
        // SAFETY: a live request has a connection.
        unsafe { (*(*self.raw).connection).log }
    }

    pub(crate) fn pool(self) -> *mut ngx_pool_t {
        // SAFETY: a live request has a pool.
        unsafe { (*self.raw).pool }
    }

    pub(crate) fn is_main(self) -> bool {
        // SAFETY: the request is live.
        unsafe { (*self.raw).main == self.raw }
    }

    /// Whether another access module has refused it already: with `satisfy any`, nginx goes on to ask the
    /// others whether they let it in, which this one never does.
    pub(crate) fn is_refused(self) -> bool {
        // SAFETY: the request is live.
        unsafe { (*self.raw).access_code != 0 }
    }

    /// The path, decoded and put in order.
    pub(crate) fn path(self) -> ngx_str_t {
        // SAFETY: the request is live.
        unsafe { (*self.raw).uri }
    }

    /// Whether its location has a handler of its own, such as an upstream, and not just files.
    pub(crate) fn has_handler(self) -> bool {
        // SAFETY: the request is live.
        unsafe { (*self.raw).content_handler.is_some() }
    }

    pub(crate) fn method(self) -> u32 {
        // SAFETY: the request is live.
        unsafe { (*self.raw).method as u32 }
    }

    /// What stands behind the question mark.
    pub(crate) fn args(self) -> &'r [u8] {
        // SAFETY: the request is live, and its strings with it.
        unsafe { bytes((*self.raw).args) }
    }

    /// The path and what follows, as the client has sent it.
    pub(crate) fn unparsed_uri(self) -> &'r [u8] {
        // SAFETY: the request is live, and its strings with it.
        unsafe { bytes((*self.raw).unparsed_uri) }
    }

    /// The status of the response, once there is one.
    pub(crate) fn status(self) -> ngx_uint_t {
        // SAFETY: the request is live.
        unsafe { (*self.raw).headers_out.status }
    }

    /// Whether a header filter has replaced the response by an error page.
    pub(crate) fn is_replaced(self) -> bool {
        // SAFETY: the request is live.
        unsafe { (*self.raw).filter_finalize() != 0 }
    }

    /// What a directive's text with variables stands for; `None` when nginx is out of memory.
    pub(crate) fn evaluate(self, value: *mut ngx_http_complex_value_t) -> Option<&'r [u8]> {
        let mut text = ngx_str_t { len: 0, data: std::ptr::null_mut() };
        // SAFETY: the request is live, `value` was compiled with the configuration that serves it. What
        // a variable says lies in the request's memory.
        unsafe {
            if let Some(variable) = only_variable(value) {
                let found = ngx_http_get_flushed_variable(self.raw, variable).as_ref();
                return Some(
                    found
                        .filter(|found| found.not_found() == 0)
                        .map_or(&[], |found| bytes(ngx_str_t { len: found.len() as usize, data: found.data })),
                );
            }
            if ngx_http_complex_value(self.raw, value, &mut text) != OK {
                return None;
            }
            Some(bytes(text))
        }
    }

    /// The value of a request header; the first one if there are several.
    pub(crate) fn header(self, name: &[u8]) -> Option<&'r [u8]> {
        self.headers(name).next()
    }

    /// The values of all request headers of this name, which is compared without regard to case.
    pub(crate) fn headers(self, name: &[u8]) -> impl Iterator<Item = &'r [u8]> {
        self.all_headers().filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Names and values of all request headers.
    pub(crate) fn all_headers(self) -> impl Iterator<Item = (&'r [u8], &'r [u8])> {
        // SAFETY: the request is live.
        let mut part: *const ngx_list_part_t = unsafe { &raw const (*self.raw).headers_in.headers.part };
        let mut at = 0;
        std::iter::from_fn(move || {
            loop {
                // SAFETY: a list's parts hold `nelts` elements each, of its one type, and live as long as
                // the request.
                unsafe {
                    if at == part.as_ref()?.nelts {
                        (part, at) = ((*part).next, 0);
                        continue;
                    }
                    let header = (*part).elts.cast::<ngx_table_elt_t>().add(at);
                    at += 1;
                    return Some((bytes((*header).key), bytes((*header).value)));
                }
            }
        })
    }

    /// Adds a header to the response. What would end the line, a client may have smuggled into a variable:
    /// it becomes a space.
    pub(crate) fn add_header(self, name: &'static str, value: &[u8]) -> Option<*mut ngx_table_elt_t> {
        let value = text_in_pool(self.pool(), value)?;
        // SAFETY: the text was made just now, and is nobody else's.
        let text = unsafe { std::slice::from_raw_parts_mut(value.data, value.len) };
        text.iter_mut().filter(|byte| byte.is_ascii_control()).for_each(|byte| *byte = b' ');
        // SAFETY: the request is live; `ngx_list_push` gives room for one element, which is all set here.
        unsafe {
            let header = ngx_list_push(&raw mut (*self.raw).headers_out.headers).cast::<ngx_table_elt_t>();
            if header.is_null() {
                return None;
            }
            header.write(std::mem::zeroed());
            (*header).hash = 1;
            (*header).key = constant(name);
            (*header).value = value;
            Some(header)
        }
    }

    /// Takes a header of this name out of the response, wherever it came from.
    pub(crate) fn drop_header(self, name: &[u8]) {
        // SAFETY: as in `header`. An element with a hash of zero is one that nginx does not send.
        unsafe {
            let mut part: *mut ngx_list_part_t = &raw mut (*self.raw).headers_out.headers.part;
            while !part.is_null() {
                for at in 0..(*part).nelts {
                    let header = (*part).elts.cast::<ngx_table_elt_t>().add(at);
                    if bytes((*header).key).eq_ignore_ascii_case(name) {
                        (*header).hash = 0;
                    }
                }
                part = (*part).next;
            }
        }
    }

    /// Sends a whole response that the module made itself.
    pub(crate) fn respond(self, status: ngx_uint_t, media_type: &'static str, body: &[u8]) -> ngx_int_t {
        use nginx_sys::{
            NGX_HTTP_HEAD, ngx_buf_t, ngx_http_discard_request_body, ngx_http_output_filter, ngx_http_send_header,
        };
        // SAFETY: the request is live; the buffer and the text lie in its pool; the chain is copied or
        // sent before `ngx_http_output_filter` returns, as nginx's own handlers have it.
        unsafe {
            let rc = ngx_http_discard_request_body(self.raw);
            if rc != OK {
                return rc;
            }
            let Some(text) = text_in_pool(self.pool(), body) else { return 500 };
            let head = &mut (*self.raw).headers_out;
            head.status = status;
            head.content_length_n = body.len() as _;
            head.content_type = constant(media_type);
            head.content_type_len = media_type.len();
            head.content_type_lowcase = std::ptr::null_mut();
            let rc = ngx_http_send_header(self.raw);
            if rc == ERROR || rc > OK || (*self.raw).header_only() != 0 || self.method() == NGX_HTTP_HEAD {
                return rc;
            }
            let buf = ngx_palloc(self.pool(), size_of::<ngx_buf_t>()).cast::<ngx_buf_t>();
            if buf.is_null() {
                return ERROR;
            }
            buf.write(std::mem::zeroed());
            (*buf).pos = text.data;
            (*buf).last = text.data.add(text.len);
            (*buf).set_memory(u32::from(text.len > 0));
            (*buf).set_last_buf(1);
            (*buf).set_last_in_chain(1);
            let mut chain = ngx_chain_t { buf, next: std::ptr::null_mut() };
            ngx_http_output_filter(self.raw, &mut chain)
        }
    }
}

/// A slot of nginx's that a pool runs when it goes; `data` is room for a `T`, zeroed.
///
/// # Safety
/// `pool` must be a live pool, and a zeroed `T` a valid one.
pub(crate) unsafe fn add_cleanup<T>(
    pool: *mut ngx_pool_t,
    handler: unsafe extern "C" fn(*mut c_void),
) -> Option<*mut T> {
    // SAFETY: the pool is live by this function's contract.
    unsafe {
        let cleanup = nginx_sys::ngx_pool_cleanup_add(pool, 0);
        if cleanup.is_null() {
            return None;
        }
        let data = ngx_pcalloc(pool, size_of::<T>());
        if data.is_null() {
            return None;
        }
        (*cleanup).data = data;
        (*cleanup).handler = Some(handler);
        Some(data.cast())
    }
}
