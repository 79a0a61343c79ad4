//! See `tests::fuzz::approval`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tests::fuzz::approval(bytes);
});
