//! The program `agent`; everything is in the library, so that tests can stop it anywhere.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent::command::main()
}
