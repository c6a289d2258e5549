//! dw-cat.

use std::process::ExitCode;

fn main() -> ExitCode {
    deepwater_tools::cli::exit::main_with("dw-cat", deepwater_tools::cat::run::run)
}
