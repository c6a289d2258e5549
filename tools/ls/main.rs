//! dw-ls.

use std::process::ExitCode;

fn main() -> ExitCode {
    deepwater_tools::cli::exit::main_with("dw-ls", deepwater_tools::ls::run::run)
}
