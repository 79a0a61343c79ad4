//! See `tests::fuzz::freshness`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tests::fuzz::freshness(bytes);
});
