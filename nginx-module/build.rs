//! Tells the compiler how the nginx was configured that the module is built for.

use std::env::var;

fn main() {
    println!("cargo::rerun-if-env-changed=DEP_NGINX_FEATURES_CHECK");
    println!("cargo::rerun-if-env-changed=DEP_NGINX_FEATURES");
    let known = var("DEP_NGINX_FEATURES_CHECK").unwrap_or("any()".into());
    println!("cargo::rustc-check-cfg=cfg(ngx_feature, values({known}))");
    for feature in var("DEP_NGINX_FEATURES").unwrap_or_default().split(',').map(str::trim) {
        println!("cargo::rustc-cfg=ngx_feature=\"{feature}\"");
    }
}
