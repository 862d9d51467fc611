//! The names under which logs usually keep the time, the client's address, the user and the user agent.
//! The first of a list that a log has is taken.

pub(crate) const TIME: &[&str] = &[
    "StartUTC",
    "ts",
    "time",
    "@timestamp",
    "timestamp",
    "datetime",
    "date_time",
    "msec",
    "time_iso8601",
    "time_local",
    "ts_ms",
    "time_ms",
    "timestamp_ms",
    "epoch",
    "epoch_ms",
    "unixtime",
    "unix_time",
    "event_time",
    "eventtime",
    "_time",
    "start_time",
    "StartLocal",
    "created_at",
    "date",
];

pub(crate) const IP: &[&str] = &[
    "ip",
    "remote_addr",
    "remote_ip",
    "client_ip",
    "clientip",
    "client_addr",
    "remoteip",
    "remoteaddr",
    "ip_address",
    "ipaddress",
    "source_ip",
    "src_ip",
    "c-ip",
    "c_ip",
    "client",
    "request.client_ip",
    "request.remote_ip",
    "ClientHost",
    "downstream_remote_address",
    "remote_host",
];

pub(crate) const USER: &[&str] = &[
    "user",
    "username",
    "user_name",
    "remote_user",
    "user_id",
    "userid",
    "uid",
    "login",
    "account",
    "ClientUsername",
    "cs-username",
    "auth_user",
    "subject",
    "sub",
];

pub(crate) const AGENT: &[&str] = &[
    "http_user_agent",
    "user_agent",
    "useragent",
    "user-agent",
    "ua",
    "agent",
    "request.headers.User-Agent",
    "request_User-Agent",
    "cs(User-Agent)",
];

/// Whether a field of this name holds an address, which may have a port behind it.
pub(crate) fn is_address(field: &str) -> bool {
    let presets = PRESETS.iter().flat_map(|preset| preset.ip);
    IP.iter().chain(presets).any(|name| name.eq_ignore_ascii_case(field.trim()))
}

/// What a program's JSON log is known by, and where it keeps what.
pub(crate) struct Preset {
    pub(crate) name: &'static str,
    /// One of the first and one of the second.
    pub(crate) known_by: (&'static [&'static str], &'static [&'static str]),
    pub(crate) time: &'static [&'static str],
    pub(crate) ip: &'static [&'static str],
    pub(crate) user: &'static [&'static str],
    pub(crate) agent: &'static [&'static str],
}

pub(crate) const PRESETS: &[Preset] = &[
    Preset {
        name: "caddy",
        known_by: (&["request.remote_ip", "request.remote_addr", "request.client_ip"], &["ts"]),
        time: &["ts"],
        ip: &["request.client_ip", "request.remote_ip", "request.remote_addr"],
        user: &["user_id"],
        agent: &["request.headers.User-Agent"],
    },
    Preset {
        name: "traefik",
        known_by: (&["ClientHost", "ClientAddr"], &["StartUTC", "StartLocal", "time"]),
        time: &["StartUTC", "StartLocal", "time"],
        ip: &["ClientHost", "ClientAddr"],
        user: &["ClientUsername"],
        agent: &["request_User-Agent"],
    },
    Preset {
        name: "nginx",
        known_by: (&["remote_addr"], &["msec", "time_iso8601", "time_local"]),
        time: &["msec", "time_iso8601", "time_local"],
        ip: &["remote_addr"],
        user: &["remote_user"],
        agent: &["http_user_agent"],
    },
];
