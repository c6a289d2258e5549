//! dw-repair.

use std::process::ExitCode;

fn main() -> ExitCode {
    deepwater_tools::cli::exit::main_with("dw-repair", deepwater_tools::repair::run::run)
}
