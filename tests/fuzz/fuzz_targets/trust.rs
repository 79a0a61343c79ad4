//! See `tests::fuzz::trust`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tests::fuzz::trust(bytes);
});
