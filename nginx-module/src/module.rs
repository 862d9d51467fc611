//! What nginx sees: two modules. One has the directives, the variables and the access phase, and
//! stands before nginx's access modules, which run after those that come later. The other is a header
//! filter, and must stand behind the filters.

use std::ffi::c_char;
use std::ptr::{addr_of, addr_of_mut, null};

use nginx_sys::{
    NGX_HTTP_MODULE, ngx_conf_t, ngx_cycle_t, ngx_http_core_main_conf_t, ngx_http_core_module, ngx_http_module_t,
    ngx_http_phases_NGX_HTTP_ACCESS_PHASE, ngx_http_phases_NGX_HTTP_PRECONTENT_PHASE, ngx_int_t, ngx_module_t,
    ngx_test_config,
};

use crate::nginx::{ERROR, OK, fence};
use crate::{access, activity, conf, filter, timer, variables};

static CONTEXT: Context = Context(ngx_http_module_t {
    preconfiguration: Some(preconfiguration),
    postconfiguration: Some(postconfiguration),
    create_main_conf: Some(conf::create_main),
    init_main_conf: None,
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: Some(conf::create_loc),
    merge_loc_conf: Some(conf::merge_loc),
});

static FILTER_CONTEXT: Context = Context(ngx_http_module_t {
    preconfiguration: None,
    postconfiguration: Some(put_filters),
    create_main_conf: None,
    init_main_conf: None,
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: None,
    merge_loc_conf: None,
});

/// Functions only: nothing that a thread could spoil.
#[repr(transparent)]
#[allow(dead_code, reason = "nginx reads it")]
struct Context(ngx_http_module_t);

// SAFETY: nginx only reads it.
unsafe impl Sync for Context {}

pub(crate) static mut ngx_http_curfew_module: ngx_module_t = ngx_module_t {
    ctx: addr_of!(CONTEXT).cast_mut().cast(),
    commands: addr_of_mut!(conf::DIRECTIVES).cast(),
    type_: NGX_HTTP_MODULE as usize,
    init_module: Some(init_module),
    init_process: Some(timer::init_process),
    ..ngx_module_t::default()
};

static mut ngx_http_curfew_filter_module: ngx_module_t = ngx_module_t {
    ctx: addr_of!(FILTER_CONTEXT).cast_mut().cast(),
    type_: NGX_HTTP_MODULE as usize,
    ..ngx_module_t::default()
};

/// Pointers that nginx reads when it loads the module.
#[repr(transparent)]
struct Exported<T>(T);

// SAFETY: nginx reads them, on one thread, before there are others.
unsafe impl<T> Sync for Exported<T> {}

#[unsafe(no_mangle)]
static ngx_modules: Exported<[*const ngx_module_t; 3]> =
    Exported([addr_of!(ngx_http_curfew_module), addr_of!(ngx_http_curfew_filter_module), null()]);

#[unsafe(no_mangle)]
static ngx_module_names: Exported<[*const c_char; 3]> = Exported([NAME.as_ptr(), FILTER_NAME.as_ptr(), null()]);

/// Before these: handlers of the access phase run in the opposite order, so ours is the last.
#[unsafe(no_mangle)]
static ngx_module_order: Exported<[*const c_char; 5]> = Exported([
    NAME.as_ptr(),
    c"ngx_http_auth_request_module".as_ptr(),
    c"ngx_http_auth_basic_module".as_ptr(),
    c"ngx_http_access_module".as_ptr(),
    null(),
]);

const NAME: &std::ffi::CStr = c"ngx_http_curfew_module";
const FILTER_NAME: &std::ffi::CStr = c"ngx_http_curfew_filter_module";

unsafe extern "C" fn preconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: nginx calls this with the configuration that it reads.
    unsafe { fence((*cf).log, ERROR, || variables::add(cf)) }
}

unsafe extern "C" fn postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: nginx calls this with the http context; the core module's main configuration has an
    // array of handlers for each phase.
    unsafe {
        fence((*cf).log, ERROR, || {
            let http = (*cf).ctx.cast::<nginx_sys::ngx_http_conf_ctx_t>();
            let core = *(*http).main_conf.add((*addr_of!(ngx_http_core_module)).ctx_index);
            let core = &mut *core.cast::<ngx_http_core_main_conf_t>();
            type Handler = unsafe extern "C" fn(*mut nginx_sys::ngx_http_request_t) -> ngx_int_t;
            let handlers: [(u32, Handler); 2] = [
                (ngx_http_phases_NGX_HTTP_ACCESS_PHASE, access::access),
                (ngx_http_phases_NGX_HTTP_PRECONTENT_PHASE, access::precontent),
            ];
            for (phase, handler) in handlers {
                let place = nginx_sys::ngx_array_push(&mut core.phases[phase as usize].handlers);
                if place.is_null() {
                    return ERROR;
                }
                *place.cast::<nginx_sys::ngx_http_handler_pt>() = Some(handler);
            }
            conf::look_at_all(cf, conf::main_of(cf));
            OK
        })
    }
}

unsafe extern "C" fn put_filters(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: nginx reads configurations on one thread, while no request is served by this process.
    unsafe {
        filter::NEXT = nginx_sys::ngx_http_top_header_filter;
        nginx_sys::ngx_http_top_header_filter = Some(filter::header_filter);
        activity::NEXT_IN = nginx_sys::ngx_http_top_request_body_filter;
        nginx_sys::ngx_http_top_request_body_filter = Some(activity::body_comes);
        if conf::main_of(cf).counts_sent {
            activity::NEXT_OUT = nginx_sys::ngx_http_top_body_filter;
            nginx_sys::ngx_http_top_body_filter = Some(activity::body_goes);
        }
    }
    OK
}

/// The configuration is in use from here on: nothing of it can be refused any more.
unsafe extern "C" fn init_module(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    // SAFETY: nginx calls this with the new configuration.
    unsafe {
        let log = (*cycle).log;
        if ngx_test_config != 0 {
            return OK;
        }
        fence(log, OK, || {
            let Some(main) = conf::of_cycle(cycle) else { return OK };
            for zone in &main.zones {
                zone.resize(log);
                zone.set_policies(&main.policies, log);
            }
            OK
        })
    }
}
