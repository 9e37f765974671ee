#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| steadfs_fuzz::stored::run(bytes));
