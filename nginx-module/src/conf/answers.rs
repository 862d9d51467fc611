//! Locations that the module answers by itself.

use std::ptr::addr_of;

use nginx_sys::{
    ngx_conf_t, ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t, ngx_http_core_module, ngx_http_request_t, ngx_int_t,
    ngx_uint_t,
};

use super::{LocConf, UNSET_CHOICE, choice};
use crate::{admin, page};

/// What nginx's core says at the level that is being read or merged.
pub(super) unsafe fn core_of<'a>(cf: *mut ngx_conf_t) -> &'a mut ngx_http_core_loc_conf_t {
    // SAFETY: directives and merges of http modules run with the context of the level, which has a core
    // configuration.
    unsafe {
        let http = (*cf).ctx.cast::<ngx_http_conf_ctx_t>();
        &mut *(*(*http).loc_conf.add((*addr_of!(ngx_http_core_module)).ctx_index)).cast()
    }
}

type Handler = unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t;

/// The name of what answers, and what does.
pub(super) fn answering(answers: ngx_uint_t) -> Option<(&'static str, Handler)> {
    match answers {
        choice::STATUS_JSON => Some(("curfew_status_json", page::handle)),
        choice::ADMIN => Some(("curfew_admin", admin::handle)),
        _ => None,
    }
}

/// Sees to it that what is to answer at a level does. An `if` and a `limit_except` are levels of their own, in
/// which a location's answer is not repeated; and where something else answered in its place, requests would be
/// neither checked nor told anything.
pub(super) unsafe fn answer(cf: *mut ngx_conf_t, mine: &mut LocConf, above: &LocConf) -> Result<(), String> {
    // SAFETY: as above.
    let core = unsafe { core_of(cf) };
    let is_part = core.noname() != 0 || core.lmt_excpt() != 0;
    if is_part && core.handler.is_none() && mine.answers == UNSET_CHOICE {
        mine.answers = above.answers;
        core.handler = answering(above.answers).map(|(_, handler)| handler);
    }
    match answering(mine.answers) {
        Some((name, handler)) if core.handler.map(|other| other as usize) != Some(handler as usize) => {
            Err(format!("\"{name}\": something else answers in this location, too"))
        }
        _ => Ok(()),
    }
}
