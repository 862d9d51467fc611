//! Versions and names. None of these functions can fail.

use std::ffi::{CStr, c_char};

use curfew_engine::Cause;

/// The version of the library, such as "0.1.0". `CURFEW_VERSION` is that of the header.
#[unsafe(no_mangle)]
pub extern "C" fn curfew_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };
    VERSION.as_ptr()
}

/// The version of the library as a number: a million for the first part, a thousand for the second.
/// `CURFEW_VERSION_NUMBER` is that of the header.
#[unsafe(no_mangle)]
pub extern "C" fn curfew_version_number() -> u32 {
    const fn number(text: &str) -> u32 {
        let bytes = text.as_bytes();
        let (mut at, mut number) = (0, 0);
        while at < bytes.len() {
            number = number * 10 + (bytes[at] - b'0') as u32;
            at += 1;
        }
        number
    }
    const NUMBER: u32 = number(env!("CARGO_PKG_VERSION_MAJOR")) * 1_000_000
        + number(env!("CARGO_PKG_VERSION_MINOR")) * 1000
        + number(env!("CARGO_PKG_VERSION_PATCH"));
    NUMBER
}

macro_rules! statuses {
    ($($number:literal $name:literal $text:literal,)+) => {
        fn status(number: i32) -> Option<(&'static CStr, &'static CStr)> {
            match number {
                $($number => Some(($name, $text)),)+
                _ => None,
            }
        }
        #[cfg(test)]
        const NUMBERS: &[i32] = &[$($number),+];
    };
}

statuses! {
    0 c"ok" c"done",
    1 c"null_argument" c"a pointer that must not be null is",
    2 c"invalid_argument" c"an argument is out of range, or arrays overlap",
    3 c"struct_size" c"struct_size was not set to the size of the struct",
    4 c"unsupported" c"the program was built for a later version of Curfew and asks for what this library does not know",
    5 c"closed" c"the table was closed, or never was one",
    6 c"forked" c"the table was opened before this process was forked: open it in this process",
    7 c"panic" c"a defect in Curfew; the region stays usable",
    8 c"system" c"the system refused",
    9 c"too_many_tables" c"as many tables are open in this process as there can be",
    10 c"buffer_too_small" c"the buffer is too small for the text and its final zero",
    20 c"exists" c"there is something at this path, or a region in this memory, already",
    21 c"not_found" c"there is nothing at this path",
    22 c"no_space" c"the file system has no room for the region",
    23 c"not_a_region" c"this is not a Curfew region",
    24 c"other_version" c"the region was made by a version of Curfew with another layout",
    25 c"damaged" c"the region is truncated or damaged",
    26 c"unsafe_file" c"the file is a link, another user's, or others can read or write it",
    27 c"other_boot" c"the region is from before this machine's last boot",
    28 c"too_many_processes" c"as many processes have the region open as there can be",
    29 c"unfinished" c"the region was never finished, or the file was replaced just now",
    30 c"out_of_range" c"the configuration is out of range",
    31 c"memory" c"the memory is too small or not aligned to 64 bytes",
    32 c"not_shared" c"the memory is not shared, or with another lock file",
    40 c"no_limit" c"a policy needs an idle timeout or a lifetime",
    41 c"too_long" c"a limit is longer than time can be",
    42 c"bad_name" c"a policy's name has 1 to 31 bytes of UTF-8",
    43 c"too_many_policies" c"the region has as many policies as there can be",
    44 c"policy_busy" c"the policy changed several times just now: advance, then try again",
    45 c"unknown_policy" c"there is no such policy",
    60 c"session_exists" c"a session with this key is live",
    61 c"session_ended" c"the session has ended",
    62 c"full" c"the region is full",
    63 c"limited" c"the subject has as many sessions as the policy allows",
    64 c"token_expired" c"the token has expired already",
    65 c"unknown_session" c"no session has this key",
    66 c"rotated_already" c"the key was rotated a moment ago",
    67 c"key_taken" c"the new key belongs to a session",
    80 c"not_a_snapshot" c"this is not a Curfew snapshot",
    81 c"snapshot_version" c"the snapshot was made by a version of Curfew with another format",
    82 c"snapshot_truncated" c"the snapshot is not as long as it says, or too short to be one",
    83 c"snapshot_damaged" c"the snapshot is damaged",
    84 c"clocks" c"the clocks cannot tell how long ago the snapshot was taken: set them, or state it",
    85 c"overrun" c"sessions ended faster than a snapshot could follow: try again when it is quieter",
}

pub(crate) fn status_text(number: i32) -> &'static CStr {
    status(number).map_or(c"a status of a later version", |(_, text)| text)
}

/// The name of a `curfew_status` in lower case, such as "session_ended"; "unknown" for a number that
/// this version does not have. Never null; lives as long as the program.
#[unsafe(no_mangle)]
pub extern "C" fn curfew_status_name(status_number: i32) -> *const c_char {
    status(status_number).map_or(c"unknown", |(name, _)| name).as_ptr()
}

/// What a `curfew_status` means, in a few words for a person. Never null; lives as long as the
/// program.
#[unsafe(no_mangle)]
pub extern "C" fn curfew_status_text(status_number: i32) -> *const c_char {
    status_text(status_number).as_ptr()
}

/// The name of a `curfew_state` in lower case, such as "active"; "invalid" for a number that is none.
/// Never null; lives as long as the program.
#[unsafe(no_mangle)]
pub extern "C" fn curfew_state_name(state: u32) -> *const c_char {
    let name = match state {
        1 => c"active",
        2 => c"grace",
        3 => c"ended",
        4 => c"mismatch",
        5 => c"unknown",
        _ => c"invalid",
    };
    name.as_ptr()
}

/// The name of a `curfew_cause` in lower case, such as "idle"; "none" for `CURFEW_CAUSE_NONE`, "invalid" for
/// a number that is no cause. Never null; lives as long as the program.
#[unsafe(no_mangle)]
pub extern "C" fn curfew_cause_name(cause: u32) -> *const c_char {
    let name = match u8::try_from(cause).ok().map(|cause| (cause, Cause::from_number(cause))) {
        Some((0, _)) => c"none",
        Some((_, Some(Cause::Idle))) => c"idle",
        Some((_, Some(Cause::Lifetime))) => c"lifetime",
        Some((_, Some(Cause::Token))) => c"token",
        Some((_, Some(Cause::Logout))) => c"logout",
        Some((_, Some(Cause::Revoked))) => c"revoked",
        Some((_, Some(Cause::Binding))) => c"binding",
        Some((_, Some(Cause::Displaced))) => c"displaced",
        Some((_, Some(Cause::Evicted))) => c"evicted",
        Some((_, Some(Cause::Rotated))) => c"rotated",
        _ => c"invalid",
    };
    name.as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: *const c_char) -> &'static str {
        // SAFETY: the functions above give static texts.
        unsafe { CStr::from_ptr(text) }.to_str().unwrap()
    }

    #[test]
    fn every_status_of_the_enum_has_the_name_it_has_there() {
        let source = include_str!("status.rs");
        let mut seen = 0;
        for line in source.lines().filter(|line| line.starts_with("    CURFEW_") && line.contains(" = ")) {
            let (name, number) = line.trim().trim_end_matches(',').split_once(" = ").unwrap();
            let number: i32 = number.parse().unwrap();
            assert_eq!(format!("CURFEW_{}", text(curfew_status_name(number)).to_uppercase()), name);
            assert_ne!(text(curfew_status_text(number)), "a status of a later version");
            seen += 1;
        }
        assert_eq!(seen, NUMBERS.len());
        assert_eq!(text(curfew_status_name(-1)), "unknown");
    }

    #[test]
    fn causes_have_the_names_they_have_in_the_engine() {
        for cause in Cause::ALL {
            assert_eq!(text(curfew_cause_name(cause as u32)), cause.name());
        }
        assert_eq!(text(curfew_cause_name(0)), "none");
        assert_eq!(text(curfew_cause_name(265)), "invalid");
    }

    #[test]
    fn the_version_is_the_packages() {
        assert_eq!(text(curfew_version()), env!("CARGO_PKG_VERSION"));
        assert!(curfew_version_number() >= 1000);
    }
}
