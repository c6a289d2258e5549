//! dw-health.

use std::process::ExitCode;

fn main() -> ExitCode {
    deepwater_tools::cli::exit::main_with("dw-health", deepwater_tools::health::run::run)
}
