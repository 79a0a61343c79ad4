//! The program `policy`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    policy::command::main()
}
