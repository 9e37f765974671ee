//! The `steadfs` program as the tests run it: always built with them, never a stale one from elsewhere.

use std::process::ExitCode;

fn main() -> ExitCode {
    steadfs::main()
}
