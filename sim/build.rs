//! The program's own `getrandom` must be found by name too: that is how the `getrandom` crate looks for it.

fn main() {
    println!("cargo:rustc-link-arg-bins=-Wl,--export-dynamic-symbol=getrandom");
    println!("cargo:rerun-if-changed=build.rs");
}
