//! `bake::fuzz::yaml`, as a target of libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bake::fuzz::yaml(data));
