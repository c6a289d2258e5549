//! dw-gc.

use std::process::ExitCode;

fn main() -> ExitCode {
    deepwater_tools::cli::exit::main_with("dw-gc", deepwater_tools::gc::run::run)
}
