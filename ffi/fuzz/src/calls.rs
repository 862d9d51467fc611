//! Calls of the C ABI in any order, with any arguments: ffi/tests/driver says what must hold.

#![no_main]

#[path = "../../tests/driver/mod.rs"]
mod driver;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(directory) = tempfile::tempdir() else { return };
    driver::drive(data, directory.path());
});
